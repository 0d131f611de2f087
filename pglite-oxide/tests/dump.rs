//! `pg_dump` and `psql`, run in this process.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pglite_oxide::dev::{self, PsqlRun};
use pglite_oxide::{DumpFormat, Error, ErrorKind, PgDumpOptions, Pglite, SqlState, TransactionStatus};

/// With a key of its own each dump would differ.
fn options() -> PgDumpOptions {
    PgDumpOptions::new().arg("--restrict-key=pglite")
}

fn psql(db: &mut Pglite, args: &[&str], input: &str) -> PsqlRun {
    let directory = tempfile::tempdir().unwrap();
    dev::psql(db, args, input.to_string(), directory.path()).unwrap()
}

/// What a dump must bring back: something of everything.
const EVERYTHING: &str = r#"
    CREATE EXTENSION vector;
    CREATE EXTENSION pg_trgm;
    CREATE ROLE reader;
    CREATE SCHEMA "Odd Schema";
    CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
    CREATE DOMAIN percent AS numeric(5, 2) DEFAULT 50 CHECK (VALUE BETWEEN 0 AND 100);
    CREATE TYPE pair AS (a int, b text);
    CREATE TABLE item (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text COLLATE "C" NOT NULL,
        bytes bytea,
        feeling mood DEFAULT 'happy',
        share percent,
        parts pair[],
        at timestamptz,
        embedding vector(3),
        price double precision,
        doubled double precision GENERATED ALWAYS AS (price * 2) STORED
    );
    COMMENT ON TABLE item IS E'a table\nwith "everything"';
    COMMENT ON COLUMN item.name IS 'what it''s called';
    CREATE INDEX item_name ON item USING gin (name gin_trgm_ops);
    CREATE INDEX item_near ON item USING hnsw (embedding vector_l2_ops);
    CREATE UNIQUE INDEX item_lower ON item (lower(name), id) WHERE feeling <> 'sad';
    CREATE TABLE "Odd Schema"."Odd ""Table""" ("select" int REFERENCES item ON DELETE CASCADE, UNIQUE ("select"));
    CREATE TABLE measured (at date NOT NULL, value int) PARTITION BY RANGE (at);
    CREATE TABLE measured_2025 PARTITION OF measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE SEQUENCE counter START 7 INCREMENT 3;
    SELECT nextval('counter');
    CREATE VIEW happy AS SELECT id, name FROM item WHERE feeling = 'happy';
    CREATE MATERIALIZED VIEW names AS SELECT count(*) AS n FROM item;
    CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $f$
        BEGIN
            NEW.name := upper(NEW.name); -- $$ inside
            RETURN NEW;
        END
    $f$;
    INSERT INTO item (name, bytes, feeling, share, parts, at, embedding, price) VALUES
        (E'tab\tnewline\nreturn\rbackslash\\ \\. end', decode(string_agg_hex(), 'hex'), 'it''s ok', 12.5, ARRAY[ROW(1, 'x,"y"')::pair, NULL], '2025-06-01 12:00:00.123456+02', '[1,2,3]', 0.1),
        ('äöü€😀', '\x00ff', DEFAULT, NULL, '{}', 'infinity', NULL, 'NaN'),
        ('', NULL, NULL, 100, NULL, '0044-03-15 BC', '[-1.5,0,1e10]', 1e-300);
    INSERT INTO "Odd Schema"."Odd ""Table""" VALUES (1), (NULL);
    INSERT INTO measured VALUES ('2025-05-05', 5);
    CREATE TRIGGER shouting BEFORE INSERT ON item FOR EACH ROW WHEN (NEW.name <> '') EXECUTE FUNCTION shout();
    REFRESH MATERIALIZED VIEW names;
    ALTER TABLE item ENABLE ROW LEVEL SECURITY;
    CREATE POLICY few ON item TO reader USING (id < 3);
    GRANT SELECT (id, name) ON item TO reader;
    GRANT ALL ON SCHEMA "Odd Schema" TO reader WITH GRANT OPTION;
    SELECT lo_from_bytea(4711, '\x00010203ff5c0a');
    COMMENT ON LARGE OBJECT 4711 IS 'large';
    CREATE STATISTICS related (dependencies) ON feeling, share FROM item;
    CREATE RULE nothing AS ON DELETE TO measured DO INSTEAD NOTHING;
    CREATE EVENT TRIGGER watcher ON sql_drop EXECUTE FUNCTION quiet();
"#;

fn everything() -> Pglite {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute(
        "CREATE FUNCTION pg_temp.every_byte() RETURNS text LANGUAGE sql AS \
         $$SELECT string_agg(lpad(to_hex(n), 2, '0'), '' ORDER BY n) FROM generate_series(0, 255) n$$;
         CREATE FUNCTION quiet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';",
    )
    .unwrap();
    db.batch_execute(&EVERYTHING.replace("string_agg_hex", "pg_temp.every_byte")).unwrap();
    db
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_dump_restores_to_the_same_dump() {
    let mut db = everything();
    let dump = db.dump_sql(&options()).unwrap();
    for piece in
        ["CREATE EXTENSION IF NOT EXISTS vector", "COPY public.item", "lo_create('4711')", "CREATE TRIGGER shouting"]
    {
        assert!(dump.contains(piece), "{piece} is missing in:\n{dump}");
    }
    assert!(!dump.contains("pg_temp"), "{dump}");

    let mut copy = Pglite::temporary().unwrap();
    copy.batch_execute("CREATE ROLE reader").unwrap();
    let run = psql(&mut copy, &["-X", "-q", "-v", "ON_ERROR_STOP=1"], &dump);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    assert_eq!(copy.dump_sql(&options()).unwrap(), dump);
    let bytes: Vec<u8> = copy.query_one("SELECT bytes FROM public.item WHERE id = 1", &[]).unwrap().get(0);
    assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());

    // The same through INSERT statements, and in the session that was dumped before.
    let inserts = db.dump_sql(&options().column_inserts().clean().if_exists()).unwrap();
    let run = psql(&mut copy, &["-X", "-q", "-v", "ON_ERROR_STOP=1"], &inserts);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    assert_eq!(copy.dump_sql(&options()).unwrap(), dump);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn options_choose_what_is_dumped_and_how() {
    let mut db = everything();
    let mut dump = |options: PgDumpOptions| db.dump_sql(&options).unwrap();
    let schema = dump(PgDumpOptions::new().schema_only().no_comments());
    assert!(schema.contains("CREATE TABLE public.item") && !schema.contains("COPY") && !schema.contains("COMMENT"));
    let data = dump(PgDumpOptions::new().data_only());
    assert!(data.contains("COPY public.item") && !data.contains("CREATE TABLE"));
    let one = dump(PgDumpOptions::new().table("item").inserts().no_owner().no_privileges());
    assert!(one.contains("INSERT INTO public.item") && !one.contains("OWNER TO") && !one.contains("GRANT"));
    assert!(!one.contains("measured"));
    let odd = dump(PgDumpOptions::new().schema("\"Odd Schema\""));
    assert!(odd.contains("\"Odd \"\"Table\"\"\"") && !odd.contains("public.item ("));
    let less =
        dump(PgDumpOptions::new().exclude_table("measured*").exclude_schema("\"Odd\"*").exclude_table_data("item"));
    assert!(!less.contains("measured") && !less.contains("Odd") && !less.contains("COPY public.item"));
    let created = dump(PgDumpOptions::new().create().clean().if_exists());
    assert!(created.contains("DROP DATABASE IF EXISTS postgres") && created.contains("\\connect postgres"));
    assert!(
        dump(PgDumpOptions::new().arg("--rows-per-insert").arg("2").arg("-tmeasured_2025")).contains("INSERT INTO")
    );
    assert!(
        dump(PgDumpOptions::new().arg("-E").arg("LATIN1").table("measured")).contains("client_encoding = 'LATIN1'")
    );

    db.batch_execute("CREATE TABLE long AS SELECT repeat('text ', 5000) AS words FROM generate_series(1, 20)").unwrap();
    let mut custom = |method: &str| {
        let options = PgDumpOptions::new().format(DumpFormat::Custom);
        let options = if method.is_empty() { options } else { options.compression(method) };
        let dump = db.dump_bytes(&options).unwrap();
        assert!(dump.starts_with(b"PGDMP"), "{method}");
        // The version of the format (1.16), the sizes of its numbers, the format, the method.
        assert_eq!(dump[5..11], [1, 16, 0, 4, 8, 1], "{method}");
        (dump[11], dump.len())
    };
    let (method, plain) = custom("none");
    assert_eq!(method, 0);
    let found = ["", "gzip:1", "lz4", "zstd", "zstd:9"].map(&mut custom);
    assert_eq!(found.map(|(method, _)| method), [1, 1, 2, 3, 3]);
    assert!(found.iter().all(|(_, size)| *size < plain), "{found:?} and {plain}");
    assert!(db.dump_bytes(&PgDumpOptions::new().format(DumpFormat::Tar)).unwrap().starts_with(b"toc.dat\0"));
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn options_that_conflict_with_the_managed_output_are_rejected_by_name() {
    let mut db = Pglite::temporary().unwrap();
    let mut said = |options: PgDumpOptions| {
        let error = db.dump_sql(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error.to_string()
    };
    for (argument, name) in [
        ("-ftext", "-f/--file"),
        ("--fil=text", "--file"),
        ("-sFc", "-F/--format"),
        ("--jobs=2", "--jobs"),
        ("shop", "shop"),
    ] {
        assert!(said(PgDumpOptions::new().arg(argument)).contains(name), "{argument}");
    }
    assert!(said(PgDumpOptions::new().format(DumpFormat::Custom)).contains("dump_bytes"));
    assert!(said(PgDumpOptions::new().compression("zstd")).contains("only the custom format can be compressed"));
    assert!(said(PgDumpOptions::new().table("a\0b")).contains("zero byte"));
    assert_eq!(db.query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0), 1);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn errors_are_typed_and_leave_the_session_as_it_was() {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute("CREATE TABLE t AS SELECT 1 AS n; CREATE ROLE poor").unwrap();
    let fails = |db: &mut Pglite, options: PgDumpOptions| -> Error {
        let error = db.dump_sql(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Program, "{error}");
        assert_eq!(db.transaction_status(), TransactionStatus::Idle);
        assert_eq!(db.query_one("SELECT n FROM t", &[]).unwrap().get::<_, i32>(0), 1);
        error
    };
    let error = fails(&mut db, PgDumpOptions::new().table("missing"));
    assert_eq!(error.to_string(), "pg_dump: error: no matching tables were found");
    assert!(error.as_db_error().is_none());
    let error = fails(&mut db, PgDumpOptions::new().schema_only().data_only());
    assert!(error.to_string().contains("cannot be used together"), "{error}");
    let error = fails(&mut db, PgDumpOptions::new().arg("--role=poor"));
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error}");
    assert!(error.to_string().contains("permission denied for table t"), "{error}");
    let role: String = db.query_one("SELECT current_user::text", &[]).unwrap().get(0);
    assert_eq!(role, "postgres");

    let mut transaction = db.transaction().unwrap();
    transaction.batch_execute("INSERT INTO t VALUES (2)").unwrap();
    drop(transaction);
    db.batch_execute("BEGIN").unwrap();
    let error = db.dump_sql(&PgDumpOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert_eq!(db.transaction_status(), TransactionStatus::InTransaction);
    db.batch_execute("ROLLBACK").unwrap();
    assert!(db.dump_sql(&PgDumpOptions::new()).unwrap().contains("COPY public.t"));
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_dump_can_be_cancelled() {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute(
        "CREATE FUNCTION slow() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(1000)';
         CREATE TABLE t (n int);
         CREATE VIEW v AS SELECT 1 AS n;",
    )
    .unwrap();
    // Row security makes the dump run the function.
    db.batch_execute(
        "CREATE ROLE watched; GRANT ALL ON t TO watched; INSERT INTO t VALUES (1);
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (slow() = n);",
    )
    .unwrap();
    let token = db.cancel_token();
    let ended = AtomicBool::new(false);
    let options = PgDumpOptions::new().arg("--role=watched").arg("--enable-row-security");
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Repeated, since a request that comes between two statements cancels nothing.
            while !ended.load(Ordering::SeqCst) {
                token.cancel();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let result = db.dump_sql(&options);
        ended.store(true, Ordering::SeqCst);
        result
    });
    let error = result.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error}");
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_eq!(db.query_one("SELECT count(*) FROM v", &[]).unwrap().get::<_, i64>(0), 1);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn settings_and_objects_of_the_session_survive_a_dump() {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute(
        "CREATE TABLE t AS SELECT 1 AS n;
         CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
         SET search_path = pg_catalog, public; SET timezone = 'Asia/Tokyo'; SET work_mem = '7MB'; SET statement_timeout = '1h';
         SET my.setting = 'mine'; SET DateStyle = 'German'; SET extra_float_digits = -3; SET row_security = on;
         CREATE TEMP TABLE mine AS SELECT 42 AS n;
         PREPARE p AS SELECT 43 AS n;
         LISTEN news;",
    )
    .unwrap();
    let statement = db.prepare("SELECT $1::int + 1").unwrap();
    const SETTINGS: &str =
        "SELECT name || '=' || setting FROM pg_settings WHERE source NOT IN ('default', 'override') ORDER BY 1";
    let settings =
        |db: &mut Pglite| -> Vec<String> { db.query(SETTINGS, &[]).unwrap().iter().map(|row| row.get(0)).collect() };
    let before = settings(&mut db);
    let dump = db.dump_sql(&options()).unwrap();
    assert!(dump.contains("CREATE FUNCTION public.f()") && !dump.contains("mine"), "{dump}");
    assert!(db.dump_sql(&PgDumpOptions::new().table("missing")).is_err());

    assert_eq!(settings(&mut db), before);
    assert!(before.contains(&"TimeZone=Asia/Tokyo".to_string()), "{before:?}");
    assert_eq!(db.parameter("TimeZone"), Some("Asia/Tokyo"));
    let one = |db: &mut Pglite, sql: &str| db.query_one(sql, &[]).unwrap().get::<_, String>(0);
    assert_eq!(one(&mut db, "SELECT current_setting('my.setting')"), "mine");
    assert_eq!(one(&mut db, "SELECT n::text FROM mine"), "42");
    assert_eq!(one(&mut db, "SELECT string_agg(name, ',') FROM pg_prepared_statements WHERE from_sql"), "p");
    db.batch_execute("EXECUTE p").unwrap();
    assert_eq!(db.query_one(&statement, &[&1]).unwrap().get::<_, i32>(0), 2);
    assert_eq!(one(&mut db, "SELECT pg_listening_channels()"), "news");
    db.batch_execute("NOTIFY news, 'hello'").unwrap();
    db.batch_execute("RESET ALL; SET search_path = public").unwrap();
    // A new session, with nothing set, dumps the same.
    assert_eq!(db.dump_sql(&options()).unwrap(), dump);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn psql_runs_scripts_files_and_meta_commands() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::create_dir(at.join("sub")).unwrap();
    std::fs::write(at.join("sub/inner.sql"), "INSERT INTO t VALUES (3, 'inner');\n").unwrap();
    std::fs::write(at.join("script.sql"), "\\i sub/inner.sql\nSELECT count(*) FROM t;\n").unwrap();
    std::fs::write(at.join("data.csv"), "4,\"a, b\"\n5,ü\n").unwrap();
    let mut db = Pglite::temporary().unwrap();
    let mut run = |args: &[&str], input: &str| dev::psql(&mut db, args, input.to_string(), at).unwrap();

    let version = run(&["--version"], "");
    assert_eq!((version.code, version.stderr.as_str()), (0, ""));
    assert!(version.stdout.starts_with("psql (PostgreSQL) 17."), "{version:?}");

    let made =
        run(&["-X", "-c", "CREATE TABLE t (n int PRIMARY KEY, s text)", "-c", "INSERT INTO t VALUES (1, 'one')"], "");
    assert_eq!((made.code, made.stdout.as_str(), made.stderr.as_str()), (0, "CREATE TABLE\nINSERT 0 1\n", ""));
    let piped = run(&["-X", "-A", "-t"], "COPY t FROM stdin;\n2\ttwo\n\\.\nSELECT * FROM t ORDER BY n;\n");
    assert_eq!((piped.code, piped.stdout.as_str()), (0, "COPY 1\n1|one\n2|two\n"));
    let file = run(&["-X", "-A", "-t", "-f", "script.sql"], "");
    assert_eq!((file.code, file.stdout.as_str()), (0, "INSERT 0 1\n3\n"), "{file:?}");
    let copied = run(&["-X", "-c", "\\copy t from 'data.csv' csv", "-c", "\\copy t to 'sub/out.csv' csv"], "");
    assert_eq!((copied.code, copied.stdout.as_str()), (0, "COPY 2\nCOPY 5\n"), "{copied:?}");
    assert_eq!(std::fs::read_to_string(at.join("sub/out.csv")).unwrap(), "1,one\n2,two\n3,inner\n4,\"a, b\"\n5,ü\n");
    let written =
        run(&["-X", "-A", "-t"], "\\o sub/o.txt\nSELECT s FROM t WHERE n = 5;\n\\o\n\\cd sub\n\\i inner2.sql\n");
    assert!(written.stderr.contains("inner2.sql: No such file or directory"), "{written:?}");
    assert_eq!(std::fs::read_to_string(at.join("sub/o.txt")).unwrap(), "ü\n");
    let described = run(&["-X"], "\\d t\n");
    assert!(described.stdout.contains("\"t_pkey\" PRIMARY KEY, btree (n)"), "{described:?}");
    let aligned = run(&["-X"], "SELECT 'ü' AS \"größe\", 1 AS n;\n");
    assert_eq!(aligned.stdout, " größe | n \n-------+---\n ü     | 1\n(1 row)\n\n");

    let failed = run(&["-X", "-v", "ON_ERROR_STOP=1"], "SELECT 1/0;\nSELECT 2;\n");
    assert_eq!((failed.code, failed.stdout.as_str()), (3, ""));
    assert!(failed.stderr.contains("ERROR:  division by zero"), "{failed:?}");
    let elsewhere = run(&["-X", "-h", "db.example.com", "-c", "SELECT 1"], "");
    assert_eq!((elsewhere.code, elsewhere.stdout.as_str()), (2, ""), "{elsewhere:?}");
    assert!(elsewhere.stderr.contains("could not translate host name"), "{elsewhere:?}");
    // Without `-X` it looks for its settings beside its own program.
    let with_settings = run(&["-A", "-t", "-c", "SELECT 1"], "");
    assert_eq!((with_settings.code, with_settings.stderr.as_str()), (0, ""));
    // There is one session, and the program has it already.
    let again = run(&["-X"], "\\connect -\n");
    assert!(again.stderr.contains("this database has one session"), "{again:?}");
    let shell = run(&["-X"], "\\! ls\n\\o | cat\nSELECT 1;\n");
    assert!(shell.stderr.contains("ls: not available in this program"), "{shell:?}");
    let other = run(&["-X", "-d", "other", "-c", "SELECT 1"], "");
    assert_eq!(other.code, 2, "{other:?}");
    assert!(other.stderr.contains("other"), "{other:?}");
    let open = run(&["-X", "-q"], "BEGIN;\nDELETE FROM t;\n");
    assert_eq!((open.code, open.stderr.as_str()), (0, ""));
    assert_eq!(db.query_one("SELECT count(*) FROM t", &[]).unwrap().get::<_, i64>(0), 5);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_million_rows_are_dumped_each_once_and_in_order() {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute("CREATE TABLE t AS SELECT n, 'row ' || n AS s FROM generate_series(1, 1000000) n").unwrap();
    let dump = db.dump_sql(&PgDumpOptions::new()).unwrap();
    let (_, data) = dump.split_once("COPY public.t (n, s) FROM stdin;\n").unwrap();
    let (data, _) = data.split_once("\n\\.\n").unwrap();
    let mut rows = 0;
    for (line, number) in data.lines().zip(1..) {
        assert_eq!(line, format!("{number}\trow {number}"));
        rows = number;
    }
    assert_eq!(rows, 1_000_000);
}
