-- Writes the first row of every table again, through all of its indexes. Where a constraint, a trigger
-- or a rule forbids it, it is an error, which leaves the table as it is.
SELECT format('UPDATE %s SET %I = %I WHERE ctid = (SELECT min(ctid) FROM %s)',
    c.oid::regclass, attname, attname, c.oid::regclass)
FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum = (
    SELECT min(attnum) FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = '')
WHERE relkind = 'r' AND relpersistence <> 't'
    AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
ORDER BY c.oid::regclass::text COLLATE "C"
\gexec
VACUUM ANALYZE;
