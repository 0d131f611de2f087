-- A little of everything, with the name of who does it in :who: first rolled back, then committed.
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
COMMIT;
REFRESH MATERIALIZED VIEW sums;
SELECT pg_logical_emit_message(true, 'who', :'who') IS NOT NULL AS message;
