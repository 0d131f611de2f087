//! Settings and rights as they are under a postmaster: what a role, a database or a file says takes
//! effect. And limits that are those of a default server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pglite_oxide::{Durability, Listen, Pglite, PgliteServer};
use postgres::error::SqlState;
use postgres::{Client, NoTls};

type Test = Result<(), Box<dyn std::error::Error>>;

fn connect(server: &PgliteServer) -> Client {
    Client::connect(&server.connection_uri(), NoTls).unwrap()
}

fn text(client: &mut Client, sql: &str) -> String {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn settings_of_roles_and_databases_take_effect() -> Test {
    let server = PgliteServer::temporary()?;
    let mut client = connect(&server);
    for statement in [
        "ALTER DATABASE postgres SET work_mem = '5MB'",
        "ALTER DATABASE postgres SET statement_timeout = '77s'",
        "ALTER ROLE postgres SET work_mem = '6MB'",
        "ALTER ROLE postgres SET lock_timeout = '78s'",
        "ALTER ROLE postgres IN DATABASE postgres SET work_mem = '7MB'",
        "ALTER ROLE ALL SET idle_session_timeout = '79s'",
    ] {
        client.batch_execute(statement)?;
    }
    assert_eq!(text(&mut client, "SHOW work_mem"), "4MB");
    client.close()?;
    let mut client = connect(&server);
    let values = ["work_mem", "statement_timeout", "lock_timeout", "idle_session_timeout"]
        .map(|name| text(&mut client, &format!("SHOW {name}")));
    assert_eq!(values, ["7MB", "77s", "78s", "79s"]);
    client.close()?;
    // What a client asks for counts more.
    let mut client = Client::connect(&format!("{}?options=-c%20work_mem%3D8MB", server.connection_uri()), NoTls)?;
    assert_eq!(text(&mut client, "SHOW work_mem"), "8MB");
    client.close()?;
    server.shutdown()?;

    let directory = tempfile::tempdir()?;
    let root = directory.path().join("db");
    let mut db = Pglite::builder().path(&root).durability(Durability::None).open()?;
    db.batch_execute("ALTER ROLE postgres SET extra_float_digits = 0")?;
    db.close()?;
    let mut db = Pglite::builder().path(&root).durability(Durability::None).open()?;
    assert_eq!(db.query_one("SHOW extra_float_digits", &[])?.get::<_, String>(0), "0");
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_reload_takes_effect_with_the_next_statement() -> Test {
    let mut db = Pglite::temporary()?;
    db.batch_execute("ALTER SYSTEM SET work_mem = '9MB'")?;
    // What is fixed when a connection starts stays as it is in this one.
    db.batch_execute("ALTER SYSTEM SET log_disconnections = on")?;
    db.batch_execute("ALTER SYSTEM SET max_connections = 7")?;
    assert!(db.query_one("SELECT pg_reload_conf()", &[])?.get::<_, bool>(0));
    let mut show = |name: &str| db.query_one(&format!("SHOW {name}"), &[]).unwrap().get::<_, String>(0);
    assert_eq!([show("work_mem"), show("log_disconnections"), show("max_connections")], ["9MB", "off", "100"]);
    assert!(
        db.query_one("SELECT pending_restart FROM pg_settings WHERE name = 'max_connections'", &[])?.get::<_, bool>(0)
    );
    assert_eq!(db.take_notices(), []);
    // In a transaction that has begun, too.
    db.batch_execute("ALTER SYSTEM RESET work_mem")?;
    db.batch_execute("BEGIN")?;
    assert!(db.query_one("SELECT pg_reload_conf()", &[])?.get::<_, bool>(0));
    assert_eq!(db.query_one("SHOW work_mem", &[])?.get::<_, String>(0), "4MB");
    db.batch_execute("COMMIT")?;
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn the_bootstrap_role_has_the_rights_that_the_catalog_says() -> Test {
    let server = PgliteServer::temporary()?;
    let mut client = connect(&server);
    client.batch_execute("SET zero_damaged_pages = off")?;
    client.batch_execute("UPDATE pg_authid SET rolsuper = false WHERE oid = 10")?;
    client.close()?;
    let mut client = connect(&server);
    let error = client.batch_execute("SET zero_damaged_pages = off").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!(text(&mut client, "SHOW is_superuser"), "off");
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn only_the_making_of_a_template_pins_objects() -> Test {
    let mut db = Pglite::temporary()?;
    let error = db.batch_execute("SELECT pg_stop_making_pinned_objects()").unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "cannot advance OID counter anymore");
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_statement_ends_when_its_client_is_gone() -> Test {
    // The grace period is longer than anything waits for a test: without the setting, the shutdown
    // would not end.
    let server = Pglite::builder().serve(&Listen::tcp().grace(Duration::from_secs(36_000)))?;
    let mut client = connect(&server);
    client.batch_execute("SET client_connection_check_interval = '20ms'")?;
    // A statement lives through checks while its client is there.
    client.batch_execute("SELECT pg_sleep(0.2)")?;
    client.close()?;
    for statement in ["SELECT pg_sleep(36000)", "SELECT count(*) FROM generate_series(1, 1000000000000)"] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port()))?;
        stream.write_all(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0")?;
        let block = format!(
            "SET client_connection_check_interval = '20ms';
             DO $$ BEGIN RAISE WARNING 'running'; EXECUTE '{statement}'; END $$\0"
        );
        stream.write_all(&[&b"Q"[..], &(block.len() as u32 + 4).to_be_bytes(), block.as_bytes()].concat())?;
        // It runs when its warning comes.
        let mut head = [0; 5];
        while head[0] != b'N' {
            stream.read_exact(&mut head)?;
            let mut body = vec![0; u32::from_be_bytes(head[1..].try_into()?) as usize - 4];
            stream.read_exact(&mut body)?;
            assert_ne!(head[0], b'E', "{}", String::from_utf8_lossy(&body));
        }
    }
    server.shutdown()?;
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_transaction_takes_as_many_locks_as_natively() -> Test {
    let mut db = Pglite::temporary()?;
    let sql = "SELECT count(pg_advisory_xact_lock(g)) FROM generate_series(1, 12700) g";
    assert_eq!(db.query_one(sql, &[])?.get::<_, i64>(0), 12_700);
    // There still is an end, and it is an error.
    let error = db.query_one(&sql.replace("12700", "50000"), &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53200");
    // Six locks for each partition: table, row type, array type, key, its index and the other
    // index.
    db.batch_execute("CREATE TABLE p (id int PRIMARY KEY, b int) PARTITION BY RANGE (id); CREATE INDEX ON p (b)")?;
    for number in 0..2000 {
        db.batch_execute(&format!(
            "CREATE TABLE p{number} PARTITION OF p FOR VALUES FROM ({number}) TO ({})",
            number + 1
        ))?;
    }
    db.batch_execute("DROP TABLE p")?;
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn old_transactions_are_frozen_where_autovacuum_is_off() -> Test {
    let mut db = Pglite::builder()
        .setting("autovacuum", "off")
        .setting("autovacuum_freeze_max_age", "100000")
        .durability(Durability::None)
        .open()?;
    db.batch_execute("CREATE TABLE t (a int)")?;
    let age = "SELECT age(relfrozenxid)::int8 FROM pg_class WHERE relname = 't'";
    let mut highest = 0;
    for _ in 0..6 {
        db.batch_execute(
            "DO $$ BEGIN FOR i IN 1..40000 LOOP
                 BEGIN INSERT INTO t VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END;
             END LOOP; END $$",
        )?;
        highest = highest.max(db.query_one(age, &[])?.get::<_, i64>(0));
    }
    let last: i64 = db.query_one(age, &[])?.get(0);
    // 240,000 transactions later the table would be that old.
    assert!(highest > 60_000 && last < 200_000, "{highest} {last}");
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn wal_that_is_gone_is_named_with_what_helps() -> Test {
    let directory = tempfile::tempdir()?;
    for remove_directory in [false, true] {
        let root = directory.path().join(format!("db{remove_directory}"));
        Pglite::builder().path(&root).durability(Durability::None).open()?.close()?;
        let wal = root.join("pgdata/pg_wal");
        if remove_directory {
            std::fs::remove_dir_all(&wal)?;
        } else {
            for entry in std::fs::read_dir(&wal)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    std::fs::remove_file(entry.path())?;
                }
            }
        }
        let error = Pglite::open(&root).unwrap_err();
        let told = match error.as_db_error() {
            Some(error) => error.hint().unwrap_or_default().to_string(),
            None => error.to_string(),
        };
        assert!(
            told.contains("pg_wal\" are missing or damaged") && told.contains("restore the database"),
            "{error}: {told}"
        );
    }
    Ok(())
}
