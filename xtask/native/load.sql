-- A database with the kinds of contents whose bytes differ between builds of PostgreSQL of different
-- word sizes, and with every kind of index.
CREATE EXTENSION amcheck;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION vector;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN price AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE TYPE pair AS (a int8, b text);
CREATE SEQUENCE numbers START 9000000000 INCREMENT 3;

CREATE TABLE kinds (
    id int8 PRIMARY KEY, i2 int2, f8 float8, f4 float4, at timestamptz, day date, span interval, t time, cash money,
    amount price, b bool, word text, mood mood, flags bit varying, place point, address inet, mac macaddr8, u uuid,
    doc jsonb, list int8[], stamps timestamptz[], r int8range, rs tstzmultirange, p pair, lsn pg_lsn, words tsvector,
    twice int8 GENERATED ALWAYS AS (id % 1000000 * 2) STORED
);
INSERT INTO kinds SELECT g, g % 30000 - 15000, g / 7.0::float8, g / 3.0, '2026-11-27 12:00:00.123456+00'::timestamptz + g * '1 min'::interval,
    '2000-01-01'::date + g, g * '1.5 hours'::interval, '00:00'::time + g * '1 s'::interval, g::int8::money,
    g * 1.01, g % 2 = 0, md5(g::text), (ARRAY['sad', 'ok', 'happy'])[g % 3 + 1]::mood, (g % 256)::bit(8),
    point(g, -g), ('10.0.' || g % 256 || '.1')::inet, '08:00:2b:01:02:03:04:05', md5(g::text)::uuid,
    jsonb_build_object('n', g, 's', md5(g::text), 'l', jsonb_build_array(g, null, 1.5)), ARRAY[g, NULL, -g],
    ARRAY['2026-01-01'::timestamptz + g * '1 day'::interval], int8range(g, g + 10),
    tstzmultirange(tstzrange('2026-01-01', '2026-01-01'::timestamptz + g * '1 h'::interval)), (g, 'x' || g)::pair,
    ('0/' || to_hex(g))::pg_lsn, to_tsvector('english', 'the quick brown foxes jumped ' || g)
FROM generate_series(1, 3000) g;
INSERT INTO kinds (id, f8) VALUES (9223372036854775807, 'NaN'), (-9223372036854775808, '-Infinity'), (0, -0.0);

CREATE INDEX ON kinds (at DESC, id);
CREATE INDEX ON kinds (f8);
CREATE INDEX ON kinds (address);
CREATE UNIQUE INDEX ON kinds (u) WHERE u IS NOT NULL;
CREATE INDEX ON kinds ((id % 97), lower(word));
CREATE INDEX ON kinds USING hash (word);
CREATE INDEX ON kinds USING hash (id);
CREATE INDEX ON kinds USING gin (doc);
CREATE INDEX ON kinds USING gin (words);
CREATE INDEX ON kinds USING gin (list);
CREATE INDEX ON kinds USING gin (word gin_trgm_ops);
CREATE INDEX ON kinds USING gist (r);
CREATE INDEX ON kinds USING gist (rs);
CREATE INDEX ON kinds USING gist (place);
CREATE INDEX ON kinds USING spgist (word);
CREATE INDEX ON kinds USING spgist (place);
CREATE INDEX ON kinds USING spgist (r);
CREATE INDEX ON kinds USING spgist (address);
CREATE INDEX ON kinds USING brin (at, id);
CREATE INDEX ON kinds USING brin (id int8_minmax_multi_ops, f8 float8_bloom_ops);

CREATE TABLE wide (id int PRIMARY KEY, body text, raw bytea);
INSERT INTO wide SELECT g, repeat(md5(g::text), 2000), decode(repeat(md5(g::text), 300), 'hex') FROM generate_series(1, 20) g;
ALTER TABLE wide ADD extra int8 NOT NULL DEFAULT 1234567890123, ADD later timestamptz NOT NULL DEFAULT '2026-01-02 03:04:05+00';
INSERT INTO wide SELECT g, 'x', '\x00' FROM generate_series(21, 30) g;

CREATE TABLE compressed (id int PRIMARY KEY, l text COMPRESSION lz4, p text COMPRESSION pglz);
INSERT INTO compressed SELECT g, repeat(md5(g::text), 200), repeat(md5(g::text), 200) FROM generate_series(1, 20) g;

CREATE TABLE parts (n int8, at timestamptz NOT NULL DEFAULT '2026-02-03+00') PARTITION BY RANGE (n);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (5000000000);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (5000000000) TO (MAXVALUE);
INSERT INTO parts SELECT g * 1000000000::int8 FROM generate_series(1, 10) g;

CREATE VIEW later AS SELECT id, at FROM kinds WHERE at > '2026-11-28 00:00:00+00' AND id < 9000000000000 AND f8 > 1.5;
CREATE MATERIALIZED VIEW sums AS SELECT id % 10 AS tail, sum(f8) AS f, max(at) AS at FROM kinds WHERE id BETWEEN 1 AND 3000 GROUP BY 1;
CREATE STATISTICS kinds_both (ndistinct, dependencies, mcv) ON i2, b, mood FROM kinds;
CREATE STATISTICS kinds_expressions ON (id % 10), (lower(word)) FROM kinds;

-- Whole numbers: sums of them do not depend on their order.
CREATE TABLE vectors (id int PRIMARY KEY, v vector(8), h halfvec(8), s sparsevec(100), b bit(64));
INSERT INTO vectors SELECT g, v, v::halfvec, format('{%s:%s,%s:1}/100', g % 50 + 1, g % 9 + 1, g % 40 + 60)::sparsevec,
    (('x' || substr(md5(g::text), 1, 16))::bit(64))
FROM (SELECT g, ARRAY[g % 7, g % 11, g % 13, g % 5, g % 3, g % 17, g % 19, g % 23]::vector AS v FROM generate_series(1, 1000) g) g;
CREATE INDEX ON vectors USING hnsw (v vector_l2_ops);
CREATE INDEX ON vectors USING ivfflat (v vector_ip_ops) WITH (lists = 10);
CREATE INDEX ON vectors USING hnsw (h halfvec_l1_ops);
CREATE INDEX ON vectors USING hnsw (s sparsevec_l2_ops);
CREATE INDEX ON vectors USING hnsw (b bit_hamming_ops);
CREATE INDEX ON vectors (v);

-- Tables whose columns both sides change.
CREATE SCHEMA evolving;
CREATE TABLE evolving.t1 (a int4, b text, c int8);
INSERT INTO evolving.t1 VALUES (1, 'first', 1);
CREATE TYPE evolving.row AS (a int4, b text);
CREATE TYPE evolving.apart AS (first int4, kept int8);
CREATE TABLE evolving.holds (r evolving.row, list evolving.row[]);
INSERT INTO evolving.holds VALUES ((1, 'x'), ARRAY[(2, 'y')::evolving.row]);
CREATE FUNCTION evolving.text_of(r evolving.t1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    copy evolving.t1;
BEGIN
    copy := r;
    RETURN copy::text;
END $$;

CREATE FUNCTION plus(n int8, by int8 DEFAULT 5000000000, at timestamptz DEFAULT '2026-11-27+00') RETURNS int8 LANGUAGE sql
    RETURN n + by;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log VALUES (nextval('numbers'), TG_OP, coalesce(NEW.id, OLD.id), 42::float8);
    RETURN NULL;
END $$;
CREATE TABLE log (n int8 PRIMARY KEY, what text, id int8, x float8);
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON wide FOR EACH ROW WHEN (pg_trigger_depth() < 5) EXECUTE FUNCTION note();
CREATE RULE kept AS ON DELETE TO log WHERE OLD.n < 9000000001 DO INSTEAD NOTHING;
CREATE TABLE child (id int PRIMARY KEY REFERENCES wide ON DELETE CASCADE, at timestamptz CHECK (at > '1999-01-01+00'));
INSERT INTO child SELECT g, '2026-01-01+00' FROM generate_series(1, 5) g;
SELECT lo_from_bytea(700000, decode(repeat('00ff', 5000), 'hex'));
COMMENT ON TABLE kinds IS 'one of each';
CREATE DATABASE other;
ANALYZE;
