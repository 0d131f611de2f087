//! The local server, through real clients and through bytes that no client sends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pglite_oxide::{ErrorKind, Listen, Pglite, PgliteServer};
use postgres::error::SqlState;
use postgres::{Client, NoTls, SimpleQueryMessage};

type Test = Result<(), Box<dyn std::error::Error>>;

fn connect(server: &PgliteServer) -> Client {
    Client::connect(&server.connection_uri(), NoTls).unwrap()
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
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Everything the server sends until it closes the connection.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut rest);
    rest
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
fn clients_come_one_after_the_other_and_find_what_was_committed() -> Test {
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
fn postgresql_itself_judges_who_wants_what() -> Test {
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
    // The turn comes.
    let patient = Pglite::builder().serve(&Listen::tcp().wait_for_session(Duration::from_secs(60)))?;
    let first = connect(&patient);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| connect(&patient).query_one("SELECT 2", &[]).unwrap().get::<_, i32>(0));
        first.close().unwrap();
        assert_eq!(second.join().unwrap(), 2);
    });
    Ok(())
}

#[test]
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
fn a_client_that_vanishes_is_not_waited_for() -> Test {
    let server = PgliteServer::temporary()?;
    let mut gone = raw(&server);
    gone.write_all(&startup())?;
    read_to(&mut gone, b'Z');
    gone.write_all(b"Q\0\0\0\x19SELECT pg_sleep(1000)\0")?;
    drop(gone);
    assert_eq!(connect(&server).query_one("SELECT 1", &[])?.get::<_, i32>(0), 1);
    // In the middle of a large result, likewise.
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
fn cancel_requests_and_timeouts_end_a_statement_and_nothing_else() -> Test {
    let server = PgliteServer::temporary()?;
    let mut client = connect(&server);
    for statement in ["SELECT pg_sleep(1000)", "SELECT count(*) FROM generate_series(1, 1000000000000)"] {
        let token = client.cancel_token();
        let (sent, wait) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // Repeated, since a request that comes before its statement cancels nothing.
                while wait.recv_timeout(Duration::from_millis(20)).is_err() {
                    token.cancel_query(NoTls).unwrap();
                }
            });
            let cancelled = client.batch_execute(statement).unwrap_err();
            sent.send(()).unwrap();
            assert_eq!(cancelled.code(), Some(&SqlState::QUERY_CANCELED), "{statement}");
        });
        // A request may still be on its way to a session that rests.
        while client.batch_execute("SELECT 1").is_err() {}
        client.batch_execute("SET statement_timeout = 50")?;
        assert_eq!(client.batch_execute(statement).unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
        client.batch_execute("RESET statement_timeout")?;
    }
    // With a wrong key, nothing happens.
    let mut stranger = raw(&server);
    stranger.write_all(&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 1, 2, 3, 4])?;
    assert!(rest(stranger).is_empty());
    client.batch_execute("SELECT pg_sleep(0.05)")?;
    Ok(())
}

#[test]
fn a_password_keeps_out_who_does_not_know_it() -> Test {
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

    // A statement gets the grace period, and no more.
    let server = Pglite::builder().path(&path).serve(&Listen::tcp().grace(Duration::from_millis(100)))?;
    let mut client = connect(&server);
    let port = server.port();
    std::thread::scope(|scope| {
        let (started, start) = std::sync::mpsc::channel();
        let statement = scope.spawn(move || {
            client.batch_execute("INSERT INTO t VALUES (3)").unwrap();
            started.send(()).unwrap();
            client.batch_execute("SELECT pg_sleep(1000)")
        });
        start.recv().unwrap();
        server.shutdown().unwrap();
        assert_eq!(statement.join().unwrap().unwrap_err().code(), Some(&SqlState::ADMIN_SHUTDOWN));
    });
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let mut db = Pglite::open(&path)?;
    assert_eq!(db.query_one("SELECT count(*) FROM t", &[])?.get::<_, i64>(0), 2);
    Ok(())
}

#[test]
fn a_shutdown_does_not_wait_for_clients_that_say_nothing() -> Test {
    let server = PgliteServer::temporary()?;
    let silent = raw(&server);
    let mut half = raw(&server);
    half.write_all(&startup()[..20])?;
    let idle = connect(&server);
    let start = Instant::now();
    server.shutdown()?;
    // The grace period is for statements: there is none.
    assert!(start.elapsed() < Duration::from_secs(4));
    drop((silent, half, idle));
    Ok(())
}

#[cfg(unix)]
#[test]
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
fn copy_goes_both_ways_and_statements_after_it_are_not_delayed() -> Test {
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
fn a_thousand_connections_that_come_and_go_leave_a_server_that_serves() -> Test {
    let server = PgliteServer::temporary()?;
    let mut sent = 0;
    for number in 0..1000u32 {
        let mut stream = raw(&server);
        match number % 4 {
            0 => (),
            1 => stream.write_all(&startup())?,
            2 => stream.write_all(&startup()[..9])?,
            _ => stream.write_all(&number.to_be_bytes().repeat(20))?,
        }
        sent += 1;
    }
    assert_eq!(sent, 1000);
    assert_eq!(connect(&server).query_one("SELECT 1", &[])?.get::<_, i32>(0), 1);
    Ok(())
}

#[test]
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
fn a_servers_database_is_dumped_in_a_session_of_its_own() -> Test {
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
