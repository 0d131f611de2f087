-- Removes what needs modules that only tests load, and that no server has.
SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', oid::regprocedure)
FROM pg_proc WHERE probin ~ 'regress|autoinc|refint'
\gexec
