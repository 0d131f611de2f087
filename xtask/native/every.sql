-- The contents of all relations, for databases of which nothing else is known. A relation that cannot
-- be read is an error on both sides.
SELECT format($$
    SELECT %L AS relation, count(*), md5(string_agg(row, '' ORDER BY row COLLATE "C"))
    FROM (SELECT md5(t::text) AS row FROM %s t) rows$$, oid::regclass, oid::regclass)
FROM pg_class
WHERE relkind IN ('r', 'p', 'm', 'v', 'f', 'S') AND relpersistence <> 't'
    AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
ORDER BY oid::regclass::text COLLATE "C"
\gexec
