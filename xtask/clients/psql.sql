-- What psql does with a server: the check runs it against ours and against the native one, and compares all it prints.
\set VERBOSITY terse
\pset null '(null)'
CREATE TABLE ware (id int PRIMARY KEY, name text NOT NULL, price numeric(10, 2) DEFAULT 0.5);
\d ware
\copy ware (id, name) FROM STDIN WITH (FORMAT csv)
1,cup
2,"a ""big"", blue plate"
\.
\copy (SELECT * FROM ware ORDER BY id) TO STDOUT
INSERT INTO ware VALUES (1, 'again');
\echo :SQLSTATE :LAST_ERROR_SQLSTATE
\echo :LAST_ERROR_MESSAGE
SELECT 1;
\echo :SQLSTATE :ROW_COUNT
BEGIN;
DELETE FROM ware;
SAVEPOINT s;
SELECT 1 / 0;
SELECT 1;
ROLLBACK TO s;
SELECT count(*) FROM ware;
ROLLBACK;
BEGIN;
UPDATE ware SET price = price + 1;
COMMIT;
PREPARE find (int) AS SELECT name, price, NULL AS nothing FROM ware WHERE id = $1;
EXECUTE find(2);
EXECUTE find(3);
SELECT name FROM ware WHERE id = $1 \bind 1 \g
SELECT format('SELECT %s AS n', n) FROM generate_series(1, 2) AS n \gexec
\gdesc
SELECT id, name FROM ware \gdesc
\x
SELECT * FROM ware WHERE id = 1;
\x
LISTEN news;
SELECT pg_notify('news', 'it''s new') IS NULL AS told;
\set FETCH_COUNT 3
SELECT n FROM generate_series(1, 7) AS n;
\unset FETCH_COUNT
DO $$ BEGIN RAISE NOTICE 'noticed'; END $$;
\df pg_backend_pid
\dn+ public
DROP TABLE ware;
\d ware
