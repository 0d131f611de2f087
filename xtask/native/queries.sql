-- Read with every kind of index, so that an index that is wrong gives another result.
SET extra_float_digits = 1;
SET enable_seqscan = off;
SELECT count(*), sum(id::numeric), sum(f8) FILTER (WHERE f8 > 0 AND f8 < 'Infinity'), max(at), min(day), max(span), sum(cash), sum(amount) FROM kinds;
SELECT id, at FROM later ORDER BY at DESC LIMIT 5;
SELECT id, f8 FROM kinds ORDER BY f8 DESC LIMIT 4;
SELECT id FROM kinds WHERE word = md5('1234');
SELECT word FROM kinds WHERE id = 9223372036854775807 OR id = 77 ORDER BY id;
SELECT id FROM kinds WHERE doc @> '{"n": 500}';
SELECT count(*) FROM kinds WHERE words @@ to_tsquery('english', 'fox & jump');
SELECT id FROM kinds WHERE list @> ARRAY[600::int8];
SELECT count(*) FROM kinds WHERE word LIKE '%abc%';
SELECT array_agg(id ORDER BY id) FROM kinds WHERE r @> 300::int8;
SELECT count(*) FROM kinds WHERE rs @> '2026-02-01+00'::timestamptz;
SELECT id FROM kinds ORDER BY place <-> point(500.2, -500.2) LIMIT 3;
SELECT id FROM kinds WHERE word ^@ 'abc' ORDER BY id;
SELECT count(*) FROM kinds WHERE place <@ box '(100,-100),(200,-200)';
SELECT count(*) FROM kinds WHERE address << '10.0.7.0/24';
SELECT count(*) FROM kinds WHERE at BETWEEN '2026-11-28+00' AND '2026-11-28 01:00+00';
SELECT id FROM kinds WHERE u = md5('55')::uuid;
SELECT count(*) FROM kinds WHERE id % 97 = 5 AND lower(word) > 'c';
SELECT id, twice, p, doc, list, stamps, rs, mac, flags, lsn FROM kinds WHERE id IN (1, 2999) ORDER BY id;
SELECT tail, f, at FROM sums ORDER BY tail;
SELECT id, length(body), md5(body), md5(raw), extra, later FROM wide ORDER BY id;
SELECT id, pg_column_compression(l), pg_column_compression(p), md5(l), md5(p) FROM compressed ORDER BY id;
SELECT tableoid::regclass, n, at FROM parts ORDER BY n;
SELECT plus(1), plus(1, 2);
SELECT n, what, id, x FROM log ORDER BY n;
SELECT md5(lo_get(700000));
SELECT last_value >= (SELECT max(n) FROM log), is_called FROM numbers;
SELECT pg_get_viewdef('later'), pg_get_functiondef('plus'::regproc);
SELECT stxname, stxdndistinct, stxddependencies, pg_mcv_list_items(stxdmcv) IS NOT NULL
FROM pg_statistic_ext JOIN pg_statistic_ext_data ON oid = stxoid ORDER BY 1, 4;
SELECT datname, datlocprovider, datlocale, datcollate, pg_encoding_to_char(encoding) FROM pg_database ORDER BY 1;
SELECT id, v <-> '[1,2,3,4,1,2,3,4]' FROM vectors ORDER BY v <-> '[1,2,3,4,1,2,3,4]', id LIMIT 5;
SELECT v <#> '[1,2,3,4,1,2,3,4]' FROM vectors ORDER BY v <#> '[1,2,3,4,1,2,3,4]' LIMIT 5;
SELECT h <+> '[1,2,3,4,1,2,3,4]' FROM vectors ORDER BY h <+> '[1,2,3,4,1,2,3,4]' LIMIT 5;
SELECT s <-> '{7:3,70:1}/100' FROM vectors ORDER BY s <-> '{7:3,70:1}/100' LIMIT 5;
SELECT b <~> repeat('01', 32)::bit(64) FROM vectors ORDER BY b <~> repeat('01', 32)::bit(64) LIMIT 5;
SELECT sum(v), avg(h), count(*), md5(string_agg(vectors::text, '' ORDER BY id)) FROM vectors;
SELECT format('SELECT %L, t, (t).* FROM %s t', oid::regclass, oid::regclass) FROM pg_class
WHERE relnamespace = 'evolving'::regnamespace AND relkind IN ('r', 'v') ORDER BY relname \gexec
SELECT evolving.text_of(t1), row_to_json(t1) FROM evolving.t1;
SELECT (r).*, list, (list[1]).b FROM evolving.holds;
