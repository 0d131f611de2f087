//! The local server through bytes that no driver sends: what is not the protocol, what a start-up
//! packet must not ask for, and the order of answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod raw_client;

use std::net::TcpStream;

use pglite_oxide::{Listen, Pglite, PgliteServer};
use raw_client::{
    FLUSH, GSS_REQUEST, RawClient, SSL_REQUEST, SYNC, TERMINATE, bind, execute, field, parse, query, startup, text,
};

const WHO: [(&str, &str); 2] = [("user", "postgres"), ("database", "postgres")];

/// A start-up packet with more parameters.
fn startup_with(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup(&[&WHO[..], parameters].concat())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn what_is_no_start_up_packet_is_closed_silently() {
    let server = PgliteServer::temporary().unwrap();
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let too_long = [&10_001u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
    let cut_off = startup(&WHO)[..20].to_vec();
    for bytes in [http, too_long, cut_off, vec![0, 0, 0, 7], vec![0, 0], vec![]] {
        let mut client = RawClient::connect(&server);
        client.send(&bytes);
        client.finish();
        assert_eq!(String::from_utf8_lossy(&client.rest()), "", "after {bytes:?}");
    }
    RawClient::ready(&server);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_client_asks_for_encryption_once_of_each_kind() {
    let server = PgliteServer::temporary().unwrap();
    let mut client = RawClient::connect(&server);
    let answer = |client: &mut RawClient, request: &[u8]| {
        client.send(request);
        let mut answer = [0];
        std::io::Read::read_exact(&mut client.stream, &mut answer).unwrap();
        answer[0]
    };
    assert_eq!((answer(&mut client, &SSL_REQUEST), answer(&mut client, &GSS_REQUEST)), (b'N', b'N'));
    // PostgreSQL takes a second request for the version of a protocol.
    client.send(&SSL_REQUEST);
    let error = client.message().unwrap();
    assert_eq!((error.0, field(&error.1, b'C')), (b'E', "0A000".to_string()));
    let message = field(&error.1, b'M');
    assert_eq!(message, "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.0");
    assert_eq!(client.message(), None);

    let mut client = RawClient::connect(&server);
    client.send(&[&SSL_REQUEST[..], &startup(&WHO)].concat());
    let mut refusal = [0];
    std::io::Read::read_exact(&mut client.stream, &mut refusal).unwrap();
    assert_eq!(refusal, *b"N");
    let error = client.message().unwrap();
    assert_eq!(field(&error.1, b'M'), "received unencrypted data after SSL request");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn pg_isready_is_answered_while_a_client_has_the_session() {
    for listen in [Listen::tcp(), Listen::tcp().password("secret")] {
        let has_password = listen.clone();
        let server = Pglite::builder().serve(&has_password).unwrap();
        let mut client = postgres::Client::connect(&server.connection_uri(), postgres::NoTls).unwrap();
        let before = client.query_one("SELECT pg_backend_pid(), now()", &[]).unwrap();
        for _ in 0..3 {
            let mut probe = RawClient::connect(&server);
            // As libpq sends it for `pg_isready`; the role need not exist.
            probe.send(&startup(&[("user", "root"), ("database", "root"), ("application_name", "pg_isready")]));
            let (tag, body) = probe.message().unwrap();
            // libpq: every error with a code means that the server accepts connections, but for
            // 57P03.
            assert_eq!((tag, field(&body, b'S')), (b'E', "FATAL".to_string()));
            let code = field(&body, b'C');
            assert!(code.len() == 5 && code != "57P03", "{code}: {}", field(&body, b'M'));
            assert_eq!(probe.message(), None);
        }
        assert!(!client.is_closed());
        let after = client.query_one("SELECT pg_backend_pid(), now()", &[]).unwrap();
        assert_eq!(before.get::<_, i32>(0), after.get::<_, i32>(0));
        // A probe does not take the place of a client either when the session is free.
        client.close().unwrap();
        let mut probe = RawClient::connect(&server);
        probe.send(&startup(&[("user", "root"), ("application_name", "pg_isready")]));
        assert_eq!(probe.until(b'E').len(), 1);
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_start_up_packet_does_not_make_a_session_something_else() {
    let server = PgliteServer::temporary().unwrap();
    // A WAL sender, physical or of a database.
    for value in ["true", "on", "1", "yes", "database", "t"] {
        let mut client = RawClient::connect(&server);
        client.send(&startup_with(&[("replication", value)]));
        let messages = client.until(b'E');
        let (_, error) = messages.last().unwrap();
        assert_eq!((field(error, b'S'), field(error, b'C')), ("FATAL".to_string(), "53300".to_string()), "{value}");
        let message = field(error, b'M');
        assert!(message.starts_with("number of requested standby connections exceeds"), "{value}: {message}");
        assert_eq!(client.rest(), b"", "{value}");
    }
    let mut client = RawClient::connect(&server);
    client.send(&startup_with(&[("replication", "maybe")]));
    let messages = client.until(b'E');
    assert_eq!(field(&messages.last().unwrap().1, b'M'), "invalid value for parameter \"replication\": \"maybe\"");
    // What only the server's own command line can say.
    for (options, code) in [
        ("-c fsync=off", "55P02"),
        ("-c shared_preload_libraries=x", "55P02"),
        ("-c max_wal_senders=1", "55P02"),
        ("-c data_directory=/tmp", "55P02"),
        ("-c zero_damaged_pages=much", "22023"),
        ("-F", "55P02"),
        ("-B 128", "55P02"),
        ("-h localhost", "55P02"),
        ("--single", "42601"),
        ("--boot", "42601"),
        ("template1", "42601"),
    ] {
        let mut client = RawClient::connect(&server);
        client.send(&startup_with(&[("options", options)]));
        let mut messages = Vec::new();
        while let Some(message) = client.message() {
            let is_last = matches!(message.0, b'E' | b'Z');
            messages.push(message);
            if is_last {
                break;
            }
        }
        let answer = text(&messages);
        assert!(answer.ends_with(&format!("E:{code}")), "{options}: {answer}");
    }
    // What PostgreSQL takes from a client and ignores, and what says that the session is an
    // ordinary one.
    let options = ["-D /tmp", "-b", "-j", "-E", "-r /tmp/x", "-v 131072"].map(|options| ("options", options));
    for parameter in [&options[..], &[("replication", "false")]].concat() {
        let mut client = RawClient::connect(&server);
        client.send(&startup_with(&[parameter]));
        client.until(b'Z');
        client.send(&query("SELECT current_setting('data_directory') || current_setting('fsync')"));
        let messages = client.until(b'Z');
        assert_eq!(text(&messages), "T D C Z", "{parameter:?}");
        assert!(messages[1].1.ends_with(b"/pgdataoff"), "{parameter:?}: {messages:?}");
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_error_in_the_extended_protocol_skips_messages_until_sync() {
    let server = PgliteServer::temporary().unwrap();
    let mut client = RawClient::ready(&server);
    let mut exchange = |messages: &[&[u8]]| {
        client.send(&messages.concat());
        text(&client.until(b'Z'))
    };
    // A function that is not constant keeps the division for Execute: Bind would fold it.
    let (good, zero) = (parse("SELECT 1"), parse("SELECT 1 / (pg_backend_pid() * 0 + $1::int)"));
    let run = |parse: &[u8], parameters: &[&str]| [parse, &bind(parameters), &execute()].concat();
    // Of Parse, of Bind and of Execute.
    assert_eq!(exchange(&[&run(&parse("SELEC 1"), &[]), &run(&good, &[]), SYNC]), "E:42601 Z");
    assert_eq!(exchange(&[&run(&zero, &["x"]), &run(&good, &[]), SYNC]), "1 E:22P02 Z");
    assert_eq!(exchange(&[&run(&zero, &["0"]), &run(&good, &[]), SYNC]), "1 2 E:22012 Z");
    // A simple query is skipped as well, and so is a second Flush.
    assert_eq!(exchange(&[&run(&zero, &["0"]), FLUSH, &query("SELECT 2"), FLUSH, SYNC]), "1 2 E:22012 Z");
    // What came before the error in the same implicit transaction is rolled back.
    let create = run(&parse("CREATE TABLE t ()"), &[]);
    assert_eq!(exchange(&[&create, &run(&zero, &["0"]), SYNC]), "1 2 C 1 2 E:22012 Z");
    assert_eq!(exchange(&[&run(&parse("TABLE t"), &[]), SYNC]), "E:42P01 Z");
    // Another implicit transaction begins after each Sync.
    assert_eq!(exchange(&[&create, SYNC]), "1 2 C Z");
    assert_eq!(exchange(&[&run(&good, &[]), SYNC]), "1 2 D C Z");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn pipelined_messages_are_answered_in_their_order() {
    let server = PgliteServer::temporary().unwrap();
    let mut client = RawClient::ready(&server);
    let run = |sql: &str| [&parse(sql)[..], &bind(&[]), &execute(), SYNC].concat();
    // All at once, and no answer is read before: more than any buffer on the way holds.
    let mut messages = Vec::new();
    let mut expected = Vec::new();
    for number in 0..2000 {
        match number % 4 {
            0 => {
                messages.extend(run(&format!("SELECT {number}")));
                expected.push("1 2 D C Z");
            }
            1 => {
                messages.extend(run(&format!("SELECT {number} / 0")));
                expected.push("1 E:22012 Z");
            }
            2 => {
                messages.extend(query(&format!("SELECT {number}; SELECT 2")));
                expected.push("T D C T D C Z");
            }
            _ => {
                messages.extend(SYNC);
                expected.push("Z");
            }
        }
    }
    let mut writer = RawClient { stream: client.stream.try_clone().unwrap() };
    let writing = std::thread::spawn(move || writer.send(&messages));
    for (number, expected) in expected.iter().enumerate() {
        let messages = client.until(b'Z');
        assert_eq!(text(&messages), **expected, "number {number}");
        if let Some((_, row)) = messages.iter().find(|(tag, _)| *tag == b'D') {
            assert_eq!(row[6..], *number.to_string().as_bytes());
        }
    }
    writing.join().unwrap();
    // Cut at every byte.
    for byte in run("SELECT 'the end'") {
        client.send(&[byte]);
    }
    assert_eq!(text(&client.until(b'Z')), "1 2 D C Z");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_client_that_has_left_is_told_nothing() {
    // With an idle session to take over, the packet must not come before the goodbye.
    for (listen, goodbye_first) in [(Listen::tcp(), false), (Listen::tcp().take_over_idle(true), true)] {
        let server = Pglite::builder().serve(&listen).unwrap();
        let mut client = RawClient::ready(&server);
        for round in 0..100 {
            let mut next = RawClient::connect(&server);
            let goodbye = |client: &mut RawClient| {
                client.send(TERMINATE);
                client.finish();
            };
            if goodbye_first {
                goodbye(&mut client);
                next.send(&startup(&WHO));
            } else {
                next.send(&startup(&WHO));
                goodbye(&mut client);
            }
            assert_eq!(String::from_utf8_lossy(&client.rest()), "", "round {round}");
            next.until(b'Z');
            client = next;
        }
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_client_that_leaves_in_a_statement_is_told_nothing() {
    let server = PgliteServer::temporary().unwrap();
    let mut client = RawClient::ready(&server);
    client.send(&[&query("SELECT pg_sleep(1000)")[..], TERMINATE].concat());
    client.finish();
    let mut next = RawClient::connect(&server);
    next.send(&startup(&WHO));
    assert_eq!(String::from_utf8_lossy(&client.rest()), "");
    next.until(b'Z');
    // What was asked before the goodbye is answered.
    next.send(&[&query("SELECT 1")[..], TERMINATE].concat());
    next.finish();
    assert_eq!(text(&next.until(b'Z')), "T D C Z");
    assert_eq!(next.rest(), b"");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn clients_that_say_nothing_have_an_end_of_their_number() {
    let server = PgliteServer::temporary().unwrap();
    let silent: Vec<TcpStream> = (0..100).map(|_| RawClient::connect(&server).stream).collect();
    let mut late = RawClient::connect(&server);
    let error = late.message().unwrap();
    assert_eq!((error.0, field(&error.1, b'C')), (b'E', "53300".to_string()));
    drop(silent);
    server.shutdown().unwrap();
}
