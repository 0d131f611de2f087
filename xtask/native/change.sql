-- A little of everything, with the name of who does it in :who: first rolled back, then committed.
-- The pages in WAL are compressed in another way by each side.
SELECT set_config('wal_compression', CASE :'who' WHEN 'server' THEN 'lz4' ELSE 'zstd' END, false);
BEGIN;
INSERT INTO wide SELECT max(id) + 1, repeat(:'who', 3000), convert_to(:'who', 'UTF8') FROM wide;
UPDATE kinds SET f8 = f8 + 0.5, at = at + interval '1 s', word = md5(word), list = list || id,
    r = int8range(lower(r) + 1, upper(r) + 2), doc = doc || jsonb_build_object('who', :'who')
WHERE id % 10 = 3 AND id BETWEEN 1 AND 3000;
DELETE FROM kinds WHERE id = (SELECT min(id) FROM kinds WHERE id > 3);
INSERT INTO parts VALUES (123456789012);
SELECT lo_put(700000, 10, convert_to(:'who', 'UTF8'));
ROLLBACK;
BEGIN;
INSERT INTO wide SELECT max(id) + 1, repeat(:'who', 3000), convert_to(:'who', 'UTF8') FROM wide;
UPDATE kinds SET f8 = f8 + 0.5, at = at + interval '1 s', word = md5(word), list = list || id,
    r = int8range(lower(r) + 1, upper(r) + 2), doc = doc || jsonb_build_object('who', :'who')
WHERE id % 10 = 3 AND id BETWEEN 1 AND 3000;
DELETE FROM kinds WHERE id = (SELECT min(id) FROM kinds WHERE id > 3);
INSERT INTO parts VALUES (123456789012);
SELECT lo_put(700000, 10, convert_to(:'who', 'UTF8'));
INSERT INTO compressed SELECT max(id) + 1, repeat(:'who', 3000), repeat(:'who', 3000) FROM compressed;
COMMIT;
REFRESH MATERIALIZED VIEW sums;
SELECT pg_logical_emit_message(true, 'who', :'who') IS NOT NULL AS message;
INSERT INTO vectors SELECT max(id) + 1, '[1,2,3,4,1,2,3,4]', '[1,2,3,4,1,2,3,4]', '{7:3,70:1}/100', repeat('01', 32)::bit(64) FROM vectors;
UPDATE vectors SET v = v + '[1,1,1,1,1,1,1,1]', h = h + '[1,1,1,1,1,1,1,1]' WHERE id % 50 = 7;
DELETE FROM vectors WHERE id = (SELECT min(id) FROM vectors);

-- The columns of tables that either side made: a new one, a dropped one, one of another type; options
-- of a column; attributes of a type; a table of its own, with a view.
SELECT format('ALTER TABLE %s ADD c%s int8 DEFAULT 9000000000; ALTER TABLE %s DROP %I; ALTER TABLE %s ALTER c TYPE %s;
    ALTER TABLE %s ALTER b SET (n_distinct = %s)',
    c.oid::regclass, relnatts + 1, c.oid::regclass, dropped.attname, c.oid::regclass,
    CASE format_type(kept.atttypid, NULL) WHEN 'bigint' THEN 'numeric' ELSE 'bigint' END, c.oid::regclass, relnatts)
FROM pg_class c
JOIN pg_attribute dropped ON dropped.attrelid = c.oid AND dropped.attnum = (
    SELECT min(attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('b', 'c'))
JOIN pg_attribute kept ON kept.attrelid = c.oid AND kept.attname = 'c'
WHERE relnamespace = 'evolving'::regnamespace AND relkind = 'r' AND relname LIKE 't%'
\gexec
SELECT format('CREATE TABLE evolving.t%s (a int4, b text, c int8); INSERT INTO evolving.t%s VALUES (1, %L, 3);
    CREATE VIEW evolving.v%s AS SELECT t, b FROM evolving.t%s t', n, n, :'who', n, n)
FROM (SELECT count(*) + 1 AS n FROM pg_class WHERE relnamespace = 'evolving'::regnamespace AND relname LIKE 't%' AND relkind = 'r') tables
\gexec
SELECT format('ALTER TYPE evolving.apart ADD ATTRIBUTE c%s text; ALTER TYPE evolving.apart DROP ATTRIBUTE %I;
    ALTER TYPE evolving.apart ALTER ATTRIBUTE kept TYPE %s', relnatts + 1, dropped.attname,
    CASE format_type(kept.atttypid, NULL) WHEN 'bigint' THEN 'numeric' ELSE 'bigint' END)
FROM pg_class c
JOIN pg_attribute dropped ON dropped.attrelid = c.oid AND dropped.attnum = (
    SELECT min(attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attname <> 'kept')
JOIN pg_attribute kept ON kept.attrelid = c.oid AND kept.attname = 'kept'
WHERE c.oid = 'evolving.apart'::regclass
\gexec
