-- What a new cluster contains, one fact in a line: the rows of all catalogs, and the settings that the
-- files of the directory give. Left out or replaced is what initdb does not decide: object identifiers
-- that are counted from 12000 on, the order of privileges (that of a hash table), versions of columns
-- (positions in WAL), numbers of transactions and pages, statistics (samples).
SELECT format($$
    SELECT %L || '|' || replace(regexp_replace(regexp_replace(
            (to_jsonb(r) - '{relpages,reltuples,relallvisible,relfrozenxid,datfrozenxid}'::text[])::text,
            '\m1[2-6]\d{3}\M', '#', 'g'), 'pg_toast_1[2-6]\d{3}|pg_attver=\d+', '#', 'g'),
        '["=r/postgres", "postgres=arwdDxtm/postgres"]', '["postgres=arwdDxtm/postgres", "=r/postgres"]')
    FROM %s r$$, oid::regclass, oid::regclass)
FROM pg_class
WHERE relkind = 'r' AND relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    AND oid <> 'pg_statistic'::regclass
\gexec
SELECT 'setting|' || name || ' = ' || setting FROM pg_file_settings;
SELECT 'hba|' || concat_ws(' ', type, database, user_name, address, netmask, auth_method) FROM pg_hba_file_rules;
