-- The contents of all relations, for databases of which nothing else is known. A relation that cannot
-- be read is an error on both sides. Views of extensions are left out: they show the state of the
-- server, such as what is in its buffers.
SELECT format($$
    SELECT %L AS relation, count(*), md5(string_agg(row, '' ORDER BY row COLLATE "C"))
    FROM (SELECT md5(t::text) AS row FROM %s t) rows$$, oid::regclass, oid::regclass)
FROM pg_class c
WHERE relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND relpersistence <> 't'
    AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    AND NOT (relkind = 'v' AND EXISTS (
        SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e'))
ORDER BY oid::regclass::text COLLATE "C"
\gexec
