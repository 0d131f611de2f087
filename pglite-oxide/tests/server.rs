//! The local server, through real clients and through bytes that no client sends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pglite_oxide::{ErrorKind, Listen, Pglite, PgliteServer};
use postgres::error::SqlState;
use postgres::{Client, NoTls, SimpleQueryMessage};

type Test = Result<(), Box<dyn std::error::Error>>;

/// What has not happened after this time never happens. Less than the minute that a client has for
/// its start-up packet.
const FOREVER: Duration = Duration::from_secs(45);

fn connect(server: &PgliteServer) -> Client {
    Client::connect(&server.connection_uri(), NoTls).unwrap()
}

/// A client whose notices arrive at a receiver.
fn connect_with_notices(server: &PgliteServer) -> (Client, mpsc::Receiver<String>) {
    let (sender, notices) = mpsc::channel();
    let mut config: postgres::Config = server.connection_uri().parse().unwrap();
    config.notice_callback(move |notice| drop(sender.send(notice.message().to_string())));
    (config.connect(NoTls).unwrap(), notices)
}

/// A statement that says "begun" in a notice and then does this.
fn announced(work: &str) -> String {
    format!("DO $$ BEGIN RAISE NOTICE 'begun'; PERFORM {work}; END $$")
}

/// A start-up packet as user and database `postgres`.
fn startup() -> Vec<u8> {
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    packet.extend(b"user\0postgres\0database\0postgres\0\0");
    let len = packet.len() as u32;
    packet[..4].copy_from_slice(&len.to_be_bytes());
    packet
}

fn raw(server: &PgliteServer) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(FOREVER)).unwrap();
    stream
}

/// Everything the server sends until it closes the connection.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        // The server may have closed it while bytes of the client were unread.
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
            panic!("the server does not close the connection: {error}")
        }
        _ => rest,
    }
}

/// Reads up to the first message with this tag and returns it.
fn read_to(stream: &mut TcpStream, wanted: u8) -> Vec<u8> {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
        stream.read_exact(&mut body).unwrap();
        if head[0] == wanted {
            return body;
        }
        assert_ne!(head[0], b'E', "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_client_finds_what_others_committed_and_nothing_of_their_sessions() -> Test {
    let server = PgliteServer::temporary()?;
    assert!(server.connection_uri().starts_with("postgresql://postgres@127.0.0.1:"));
    let mut client = connect(&server);
    client.batch_execute("CREATE TABLE t (id int, name text); SET work_mem = '1MB'; CREATE TEMP TABLE mine ()")?;
    client.execute("INSERT INTO t VALUES ($1, $2)", &[&1i32, &"one"])?;
    client.batch_execute("BEGIN; INSERT INTO t VALUES (2, 'never')")?;
    client.close()?;
    for _ in 0..3 {
        let mut client = connect(&server);
        let rows = client.query("SELECT id, name FROM t", &[])?;
        assert_eq!((rows.len(), rows[0].get::<_, i32>(0), rows[0].get::<_, &str>(1)), (1, 1, "one"));
        assert_eq!(client.query_one("SHOW work_mem", &[])?.get::<_, &str>(0), "4MB");
        assert!(client.query_one("SELECT to_regclass('mine') IS NULL", &[])?.get::<_, bool>(0));
    }
    server.shutdown()?;
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn postgresql_judges_role_database_and_options_of_a_client() -> Test {
    let server = PgliteServer::temporary()?;
    let refusal = |parameters: &str| {
        let uri = server.connection_uri();
        let uri = format!("{}{parameters}", &uri[..uri.rfind('/').unwrap()]);
        Client::connect(&uri, NoTls).err().and_then(|error| error.code().cloned())
    };
    assert_eq!(refusal("/nowhere"), Some(SqlState::UNDEFINED_DATABASE));
    assert_eq!(refusal("/postgres?user=nobody"), Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
    assert_eq!(refusal("/postgres?options=-c%20work_mem%3Dmuch"), Some(SqlState::INVALID_PARAMETER_VALUE));
    assert_eq!(refusal("/template0"), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
    let mut client = connect(&server);
    client.batch_execute("CREATE ROLE ada LOGIN")?;
    client.batch_execute("CREATE DATABASE other OWNER ada")?;
    client.close()?;
    let uri = server.connection_uri().replace("postgres@", "ada@").replace("/postgres", "/other");
    let mut ada = Client::connect(&format!("{uri}?application_name=test&options=-c%20work_mem%3D1MB"), NoTls)?;
    let row = ada.query_one(
        "SELECT current_user::text, current_database()::text, current_setting('work_mem'), current_setting('application_name')",
        &[],
    )?;
    let values = [0, 1, 2, 3].map(|column| row.get::<_, String>(column));
    assert_eq!(values, ["ada", "other", "1MB", "test"]);
    assert_eq!(ada.batch_execute("CREATE ROLE x").unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_second_client_waits_for_its_turn_and_is_told_if_there_is_none() -> Test {
    let server = Pglite::builder().serve(&Listen::tcp().wait_for_session(Duration::from_millis(300)))?;
    let mut first = connect(&server);
    first.batch_execute("CREATE TABLE t ()")?;
    let refused = Client::connect(&server.connection_uri(), NoTls).err().unwrap();
    let error = refused.as_db_error().unwrap();
    assert_eq!((error.code(), error.severity()), (&SqlState::TOO_MANY_CONNECTIONS, "FATAL"));
    assert!(error.hint().unwrap().contains("one session"), "{error:?}");
    assert!(!first.is_closed());
    first.batch_execute("SELECT 1")?;
    // It is served when the first client leaves, which comes after its start-up packet.
    let patient = Pglite::builder().serve(&Listen::tcp().wait_for_session(Duration::from_secs(60)))?;
    let first = connect(&patient);
    let mut second = raw(&patient);
    second.write_all(&startup())?;
    first.close()?;
    read_to(&mut second, b'Z');
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_client_may_take_over_an_idle_session_but_no_transaction() -> Test {
    let listen = Listen::tcp().take_over_idle(true).wait_for_session(Duration::from_millis(500));
    let server = Pglite::builder().serve(&listen)?;
    let mut first = connect(&server);
    let mut second = connect(&server);
    assert_eq!(first.batch_execute("SELECT 1").unwrap_err().code(), Some(&SqlState::ADMIN_SHUTDOWN));
    second.batch_execute("BEGIN")?;
    let refused = Client::connect(&server.connection_uri(), NoTls).err().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
    second.batch_execute("COMMIT")?;
    connect(&server).batch_execute("SELECT 1")?;
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_client_that_vanishes_is_not_waited_for() -> Test {
    let server = PgliteServer::temporary()?;
    let mut gone = raw(&server);
    gone.write_all(&startup())?;
    read_to(&mut gone, b'Z');
    gone.write_all(b"Q\0\0\0\x19SELECT pg_sleep(1000)\0")?;
    drop(gone);
    assert_eq!(connect(&server).query_one("SELECT 1", &[])?.get::<_, i32>(0), 1);
    // The same in the middle of a large result.
    let mut gone = raw(&server);
    gone.write_all(&startup())?;
    read_to(&mut gone, b'Z');
    let query = "SELECT repeat('x', 1000) FROM generate_series(1, 200000)\0";
    gone.write_all(&[&b"Q"[..], &(query.len() as u32 + 4).to_be_bytes(), query.as_bytes()].concat())?;
    read_to(&mut gone, b'D');
    drop(gone);
    assert_eq!(connect(&server).query_one("SELECT 1", &[])?.get::<_, i32>(0), 1);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn cancel_requests_and_timeouts_end_a_statement_and_nothing_else() -> Test {
    let server = PgliteServer::temporary()?;
    let (mut client, notices) = connect_with_notices(&server);
    let cancel = client.cancel_token();
    for work in ["pg_sleep(1000)", "count(*) FROM generate_series(1, 1000000000000)"] {
        let cancelled = std::thread::scope(|scope| {
            let statement = scope.spawn(|| client.batch_execute(&announced(work)));
            notices.recv_timeout(FOREVER).unwrap();
            cancel.cancel_query(NoTls).unwrap();
            statement.join().unwrap().unwrap_err()
        });
        assert_eq!(cancelled.code(), Some(&SqlState::QUERY_CANCELED), "{work}");
        client.batch_execute("SET statement_timeout = 50")?;
        let timed_out = client.batch_execute(&format!("SELECT {work}")).unwrap_err();
        assert_eq!(timed_out.code(), Some(&SqlState::QUERY_CANCELED), "{work}");
        client.batch_execute("RESET statement_timeout")?;
    }
    // With a wrong key, nothing happens to the statement that runs.
    std::thread::scope(|scope| {
        let statement = scope.spawn(|| client.batch_execute(&announced("pg_sleep(0.3)")));
        notices.recv_timeout(FOREVER).unwrap();
        let mut stranger = raw(&server);
        stranger.write_all(&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 1, 2, 3, 4]).unwrap();
        assert!(rest(stranger).is_empty());
        statement.join().unwrap().unwrap();
    });
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_password_is_asked_of_every_role_and_needed_for_other_addresses_than_the_loopback() -> Test {
    let listen = Listen::tcp().password("se:cret/%");
    let server = Pglite::builder().serve(&listen)?;
    assert!(server.connection_uri().contains(":se%3Acret%2F%25@"));
    let mut client = connect(&server);
    client.batch_execute("CREATE ROLE ada LOGIN PASSWORD 'hers'; CREATE ROLE bob LOGIN")?;
    client.close()?;
    let as_user = |credentials: &str| {
        let uri = server.connection_uri().replace("postgres:se%3Acret%2F%25", credentials);
        Client::connect(&uri, NoTls)
    };
    for credentials in ["postgres:wrong", "ada:se%3Acret%2F%25", "bob:x", "nobody:x"] {
        let refused = as_user(credentials).err().unwrap();
        assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{credentials}: {refused}");
    }
    assert!(as_user("postgres").is_err());
    assert_eq!(as_user("ada:hers")?.query_one("SELECT current_user::text", &[])?.get::<_, &str>(0), "ada");
    assert_eq!(
        Pglite::builder().serve(&Listen::tcp().address([0, 0, 0, 0].into())).unwrap_err().kind(),
        ErrorKind::Config
    );
    let open = Pglite::builder().serve(&listen.address([0, 0, 0, 0].into()))?;
    connect(&open).batch_execute("SELECT 1")?;
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_shutdown_ends_what_is_there_and_keeps_what_was_committed() -> Test {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("shop");
    let server = Pglite::builder().path(&path).serve(&Listen::tcp().grace(Duration::from_millis(100)))?;
    assert_eq!(Pglite::open(&path).unwrap_err().kind(), ErrorKind::InUse);
    let mut client = connect(&server);
    client.batch_execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")?;
    client.batch_execute("BEGIN; INSERT INTO t VALUES (2)")?;
    server.shutdown()?;
    assert!(client.batch_execute("COMMIT").is_err());

    let server = PgliteServer::open(&path)?;
    let mut client = connect(&server);
    assert_eq!(client.query_one("SELECT count(*) FROM t", &[])?.get::<_, i64>(0), 1);
    drop(client);
    drop(server);

    // A statement that runs longer than the grace period is ended.
    let server = Pglite::builder().path(&path).serve(&Listen::tcp().grace(Duration::from_millis(100)))?;
    let (mut client, notices) = connect_with_notices(&server);
    let port = server.port();
    std::thread::scope(|scope| {
        let statement = scope.spawn(move || {
            client.batch_execute("INSERT INTO t VALUES (3)").unwrap();
            client.batch_execute(&announced("pg_sleep(1000)"))
        });
        notices.recv_timeout(FOREVER).unwrap();
        server.shutdown().unwrap();
        assert_eq!(statement.join().unwrap().unwrap_err().code(), Some(&SqlState::ADMIN_SHUTDOWN));
    });
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let mut db = Pglite::open(&path)?;
    assert_eq!(db.query_one("SELECT count(*) FROM t", &[])?.get::<_, i64>(0), 2);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_shutdown_does_not_wait_for_clients_that_say_nothing() -> Test {
    // The grace period is for statements, and there are none.
    let server = Pglite::builder().serve(&Listen::tcp().grace(Duration::from_secs(100_000)))?;
    let silent = raw(&server);
    let mut half = raw(&server);
    half.write_all(&startup()[..20])?;
    let idle = connect(&server);
    let (sender, result) = mpsc::channel();
    std::thread::spawn(move || sender.send(server.shutdown()));
    result.recv_timeout(FOREVER).expect("the shutdown waits for none of them")?;
    drop((silent, half, idle));
    Ok(())
}

#[cfg(unix)]
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_unix_socket_is_named_as_postgresql_does_and_goes_with_the_server() -> Test {
    let directory = tempfile::Builder::new().prefix("a b%").tempdir()?;
    let server = Pglite::builder().serve(&Listen::unix(directory.path()))?;
    assert!(server.connection_uri().contains("a%20b%25"));
    assert_eq!(connect(&server).query_one("SELECT 1", &[])?.get::<_, i32>(0), 1);
    assert!(directory.path().join(".s.PGSQL.5432").exists());
    server.shutdown()?;
    assert_eq!(std::fs::read_dir(directory.path())?.count(), 0);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn copy_goes_both_ways_may_fail_and_is_followed_by_statements() -> Test {
    let server = PgliteServer::temporary()?;
    let mut client = connect(&server);
    client.batch_execute("CREATE TABLE t (id int, name text)")?;
    let mut writer = client.copy_in("COPY t FROM STDIN")?;
    for id in 0..100_000 {
        writeln!(writer, "{id}\tname {id}")?;
    }
    assert_eq!(writer.finish()?, 100_000);
    let mut text = String::new();
    client.copy_out("COPY t TO STDOUT")?.read_to_string(&mut text)?;
    assert_eq!(text.lines().count(), 100_000);
    assert!(text.ends_with("99999\tname 99999\n"));
    // Broken off by the client, and by an error in the data.
    let mut writer = client.copy_in("COPY t FROM STDIN")?;
    writer.write_all(b"1\tone\n")?;
    drop(writer);
    let mut writer = client.copy_in("COPY t FROM STDIN")?;
    writer.write_all(b"one\t1\n")?;
    assert_eq!(writer.finish().unwrap_err().code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));
    let statement = client.prepare("SELECT count(*) FROM t WHERE id < $1")?;
    assert_eq!(client.query_one(&statement, &[&10i32])?.get::<_, i64>(0), 10);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn notifications_notices_and_several_results_arrive() -> Test {
    use fallible_iterator::FallibleIterator;

    let server = PgliteServer::temporary()?;
    let mut client = connect(&server);
    client.batch_execute("LISTEN news; NOTIFY news, 'first'")?;
    let notification = client.notifications().timeout_iter(Duration::from_secs(10)).next()?.unwrap();
    assert_eq!((notification.channel(), notification.payload()), ("news", "first"));
    let rows = client.simple_query("SELECT 1 AS a; SELECT 2, 3; SELECT")?;
    let values = rows.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) if !row.is_empty() => row.get(0).map(str::to_string),
        _ => None,
    });
    assert_eq!(values.collect::<Vec<_>>(), ["1", "2"]);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_server_serves_after_a_thousand_connections_that_were_broken_off() -> Test {
    let server = PgliteServer::temporary()?;
    for number in 0..1000u32 {
        let mut stream = raw(&server);
        match number % 4 {
            0 => (),
            1 => stream.write_all(&startup())?,
            2 => stream.write_all(&startup()[..9])?,
            _ => stream.write_all(&number.to_be_bytes().repeat(20))?,
        }
    }
    // Sessions for those that have sent a whole packet come first; until then there may be no room.
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut client = loop {
        match Client::connect(&server.connection_uri(), NoTls) {
            Ok(client) => break client,
            Err(error) => {
                let code = error.code().map(|code| code.code().to_string());
                assert_eq!(code.as_deref(), Some("53300"), "{error}");
                assert!(Instant::now() < deadline, "{error}");
            }
        }
    };
    assert_eq!(client.query_one("SELECT 1", &[])?.get::<_, i32>(0), 1);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn hostile_beginnings_are_answered_or_closed() -> Test {
    let server = PgliteServer::temporary()?;
    for len in [0u32, 3, 7, 10_001, 1 << 31, u32::MAX] {
        let mut stream = raw(&server);
        stream.write_all(&[&len.to_be_bytes()[..], &[0; 100]].concat())?;
        let answer = rest(stream);
        assert!(answer.is_empty(), "{len}: {answer:?}");
    }
    let mut old = raw(&server);
    old.write_all(&[0, 0, 0, 8, 0, 2, 0, 0])?;
    let answer = String::from_utf8_lossy(&rest(old)).into_owned();
    assert_eq!(answer, "EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.0\n\0");
    // Before the client is let in, a message may not be long.
    let secret = Pglite::builder().serve(&Listen::tcp().password("x"))?;
    let mut stream = raw(&secret);
    stream.write_all(&startup())?;
    assert_eq!(read_to(&mut stream, b'R')[..4], [0, 0, 0, 10]);
    stream.write_all(b"p\x3f\xff\xff\xff")?;
    stream.write_all(&[0; 1000])?;
    rest(stream);
    for server in [&server, &secret] {
        assert_eq!(connect(server).query_one("SELECT 1", &[])?.get::<_, i32>(0), 1);
    }
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_request_for_encryption_is_declined_and_the_client_goes_on() -> Test {
    let server = PgliteServer::temporary()?;
    // SSLRequest and GSSENCRequest.
    for request in [[0, 0, 0, 8, 4, 210, 22, 47], [0, 0, 0, 8, 4, 210, 22, 48]] {
        let mut stream = raw(&server);
        let mut answer = [0];
        stream.write_all(&request)?;
        stream.read_exact(&mut answer)?;
        assert_eq!(answer, *b"N");
        stream.write_all(&startup())?;
        read_to(&mut stream, b'Z');
    }
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn vectors_are_created_inserted_queried_and_compared_by_clients() -> Test {
    let server = Pglite::builder().extension("vector").serve(&Listen::tcp())?;
    let mut client = connect(&server);
    client.batch_execute(
        "CREATE TABLE item (id int, at vector(3));
         INSERT INTO item SELECT i, ARRAY[i, i % 7, i % 3]::vector FROM generate_series(1, 500) i;
         CREATE INDEX ON item USING hnsw (at vector_l2_ops); SET enable_seqscan = off",
    )?;
    let nearest = "SELECT id, at <-> $1::text::vector FROM item ORDER BY at <-> $1::text::vector LIMIT 1";
    let row = client.query_one(nearest, &[&"[250,5,0.5]"])?;
    assert_eq!((row.get::<_, i32>(0), row.get::<_, f64>(1)), (250, 0.5));
    let distances = client.query_one("SELECT '[1,2,3]'::vector <=> '[1,2,3]', '[1,2]'::vector <#> '[3,4]'", &[])?;
    assert_eq!((distances.get::<_, f64>(0), distances.get::<_, f64>(1)), (0.0, -11.0));
    let error = client.query("SELECT '[1,2]'::vector <-> '[1,2,3]'::vector", &[]).unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::DATA_EXCEPTION));
    client.batch_execute("SELECT 1")?;
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_client_that_never_reads_is_not_in_the_way_of_a_shutdown() -> Test {
    let server = Pglite::builder().serve(&Listen::tcp().grace(Duration::from_millis(50)))?;
    let mut stream = raw(&server);
    stream.write_all(&startup())?;
    read_to(&mut stream, b'Z');
    let query = "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)\0";
    stream.write_all(&[&b"Q"[..], &(query.len() as u32 + 4).to_be_bytes(), query.as_bytes()].concat())?;
    read_to(&mut stream, b'D');
    server.shutdown()?;
    drop(stream);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_dump_of_a_server_waits_for_a_session_of_its_own() -> Test {
    use pglite_oxide::{DumpFormat, PgDumpOptions};

    let directory = tempfile::tempdir()?;
    for listen in [Listen::tcp().password("secret"), Listen::unix(directory.path())] {
        let server = Pglite::builder().serve(&listen.wait_for_session(Duration::from_millis(300)))?;
        let mut client = connect(&server);
        client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'ä\tb')")?;
        let busy = server.dump_sql(&PgDumpOptions::new()).unwrap_err();
        assert!(busy.to_string().contains("no session is free"), "{busy}");
        client.close()?;
        let dump = server.dump_sql(&PgDumpOptions::new())?;
        assert!(dump.contains("COPY public.t (id, name) FROM stdin;\n1\tä\\tb\n"), "{dump}");
        let archive = server.dump_bytes(&PgDumpOptions::new().format(DumpFormat::Custom))?;
        assert!(archive.starts_with(b"PGDMP"));
        let refused = server.dump_sql(&PgDumpOptions::new().arg("--host=elsewhere")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        connect(&server).batch_execute("SELECT 1")?;
    }
    Ok(())
}
