-- Prepares a database of PostgreSQL's tests for the journey.
-- Removes what needs modules that a native server may not have.
SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', oid::regprocedure)
FROM pg_proc WHERE probin ~ 'regress|autoinc|refint'
\gexec
-- Every other round ends with a crash, which empties unlogged tables, as it must. The referenced
-- tables come first.
SELECT format('ALTER %s %s SET LOGGED', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass)
FROM pg_class c
WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
ORDER BY EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'), c.oid
\gexec
-- A random sample is another one each time.
DROP VIEW test_tablesample_v2;
