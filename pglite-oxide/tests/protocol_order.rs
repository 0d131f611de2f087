//! What a server says to a client at which point of the protocol, and what it must not say: bytes
//! over a socket, as no client library would send them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use pglite_oxide::PgliteServer;

type Test = Result<(), Box<dyn std::error::Error>>;

/// How long a server must be silent to count as silent. It is what is tested, and not a margin: a
/// statement's timeout passes in this time.
const PAUSE: Duration = Duration::from_secs(5);

/// A raw connection.
struct Raw(TcpStream);

/// The tag of a message and what counts of it: the SQLSTATE of an error or notice, the status of a
/// ReadyForQuery.
type Heard = (char, String);

impl Raw {
    fn connect(server: &PgliteServer) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        Self(stream)
    }

    /// A session as `postgres` that is ready for a statement.
    fn session(server: &PgliteServer) -> Self {
        let mut raw = Self::connect(server);
        raw.start(&[("user", "postgres")]);
        raw.until_ready();
        raw
    }

    fn start(&mut self, parameters: &[(&str, &str)]) {
        let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
        for (name, value) in parameters {
            packet.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        packet.push(0);
        let len = u32::try_from(packet.len()).unwrap();
        packet[..4].copy_from_slice(&len.to_be_bytes());
        self.0.write_all(&packet).unwrap();
    }

    /// Sends messages, each a tag and a body.
    fn send(&mut self, messages: &[(u8, &[u8])]) {
        let mut bytes = Vec::new();
        for (tag, body) in messages {
            bytes.push(*tag);
            bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            bytes.extend(*body);
        }
        self.0.write_all(&bytes).unwrap();
    }

    fn query(&mut self, sql: &str) -> Vec<Heard> {
        self.send(&[(b'Q', format!("{sql}\0").as_bytes())]);
        self.until_ready()
    }

    /// The next message; `None` at the end.
    fn next(&mut self) -> Option<Heard> {
        let mut head = [0; 5];
        match self.0.read_exact(&mut head) {
            Ok(()) => (),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("{error}"),
        }
        let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
        self.0.read_exact(&mut body).unwrap();
        let text = match head[0] {
            b'E' | b'N' => {
                let mut fields = body.split(|byte| *byte == 0);
                let code = fields.rfind(|field| field.first() == Some(&b'C')).unwrap();
                String::from_utf8(code[1..].to_vec()).unwrap()
            }
            b'Z' => String::from_utf8(body).unwrap(),
            _ => String::new(),
        };
        Some((char::from(head[0]), text))
    }

    /// Messages up to a ReadyForQuery or the end.
    fn until_ready(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Some(message) = self.next() {
            let ready = message.0 == 'Z';
            heard.push(message);
            if ready {
                break;
            }
        }
        heard
    }

    /// As many messages as are named, by their tags.
    fn tags(&mut self, count: usize) -> String {
        (0..count).filter_map(|_| self.next()).map(|(tag, _)| tag).collect()
    }

    /// Everything up to the end, as bytes.
    fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            // The server may have closed it while bytes of the client were unread.
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the connection stays open: {error}"),
            _ => rest,
        }
    }

    /// Nothing comes for a while.
    fn assert_silence(&mut self) {
        self.0.set_read_timeout(Some(PAUSE)).unwrap();
        let mut byte = [0];
        let error = self.0.read_exact(&mut byte).expect_err("the server speaks between two messages of its client");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        self.0.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
    }
}

fn heard(messages: &[(char, &str)]) -> Vec<Heard> {
    messages.iter().map(|(tag, text)| (*tag, (*text).to_string())).collect()
}

const PARSE: (u8, &[u8]) = (b'P', b"\0SELECT generate_series(1, 3)\0\0\0");
const BIND: (u8, &[u8]) = (b'B', b"\0\0\0\0\0\0\0\0");
const DESCRIBE: (u8, &[u8]) = (b'D', b"P\0");
const EXECUTE_ONE: (u8, &[u8]) = (b'E', b"\0\0\0\0\x01");
const CLOSE: (u8, &[u8]) = (b'C', b"P\0");
const FLUSH: (u8, &[u8]) = (b'H', b"");
const SYNC: (u8, &[u8]) = (b'S', b"");

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_timeout_between_messages_is_told_once_and_ignores_the_rest_until_sync() -> Test {
    let server = PgliteServer::temporary()?;
    let mut raw = Raw::session(&server);
    assert_eq!(raw.query("SET statement_timeout = '2s'"), heard(&[('C', ""), ('Z', "I")]));
    raw.send(&[PARSE, BIND, DESCRIBE, FLUSH]);
    assert_eq!(raw.tags(3), "12T");
    raw.assert_silence();
    raw.send(&[CLOSE, SYNC]);
    assert_eq!(raw.until_ready(), heard(&[('E', "57014"), ('Z', "I")]));
    assert_eq!(raw.query("SELECT 1").last(), Some(&('Z', "I".to_string())));

    raw.query("BEGIN");
    raw.send(&[PARSE, BIND, EXECUTE_ONE, FLUSH]);
    assert_eq!(raw.tags(4), "12Ds");
    raw.assert_silence();
    raw.send(&[EXECUTE_ONE, EXECUTE_ONE, SYNC]);
    assert_eq!(raw.until_ready(), heard(&[('E', "57014"), ('Z', "E")]));
    assert_eq!(raw.query("ROLLBACK"), heard(&[('C', ""), ('Z', "I")]));

    // The message that comes next may be the Sync itself: nothing is ignored after it.
    raw.send(&[PARSE, BIND, EXECUTE_ONE, FLUSH]);
    assert_eq!(raw.tags(4), "12Ds");
    raw.assert_silence();
    raw.send(&[SYNC]);
    assert_eq!(raw.until_ready(), heard(&[('E', "57014"), ('Z', "I")]));
    assert_eq!(raw.query("SELECT 1").last(), Some(&('Z', "I".to_string())));
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn replication_is_refused() -> Test {
    let server = PgliteServer::temporary()?;
    for value in ["true", "on", "database"] {
        let mut raw = Raw::connect(&server);
        raw.start(&[("user", "postgres"), ("database", "postgres"), ("replication", value)]);
        assert_eq!(raw.next(), Some(('E', "53300".to_string())), "{value}");
        assert_eq!(raw.next(), None, "{value}");
    }
    let mut raw = Raw::connect(&server);
    raw.start(&[("user", "postgres"), ("replication", "maybe")]);
    assert_eq!(raw.next(), Some(('E', "22023".to_string())));
    let mut raw = Raw::connect(&server);
    raw.start(&[("user", "postgres"), ("replication", "false")]);
    assert_eq!(raw.until_ready().last(), Some(&('Z', "I".to_string())));
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_start_up_packet_cannot_change_what_the_session_is() -> Test {
    let server = PgliteServer::temporary()?;
    let refused = [
        ("-c shared_buffers=1MB", "55P02"),
        ("-c max_connections=7", "55P02"),
        ("-c wal_level=logical", "55P02"),
        ("-c data_directory=/tmp", "55P02"),
        ("-c fsync=off", "55P02"),
        ("-c block_size=4096", "55P02"),
        ("--single", "42601"),
        ("-c", "42601"),
    ];
    for (options, code) in refused {
        let mut raw = Raw::connect(&server);
        raw.start(&[("user", "postgres"), ("options", options)]);
        // As natively, options are judged after the authentication, which this server does not ask
        // for.
        let authenticated = raw.next().unwrap();
        assert_eq!(authenticated.0, 'R', "{options}");
        let heard = raw.next().unwrap();
        assert_eq!((heard.0, heard.1.as_str()), ('E', code), "{options}");
        assert_eq!(raw.next(), None, "{options}");
    }
    // Options of later versions of the protocol are negotiated away.
    let mut raw = Raw::connect(&server);
    raw.start(&[("user", "postgres"), ("_pq_.something", "1")]);
    let heard = raw.until_ready();
    assert_eq!((heard[0].0, heard.last().unwrap().0), ('v', 'Z'));
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_client_that_has_said_goodbye_is_told_nothing() -> Test {
    let server = PgliteServer::temporary()?;
    for round in 0..50 {
        let mut first = Raw::session(&server);
        let mut second = Raw::connect(&server);
        second.start(&[("user", "postgres")]);
        first.send(&[(b'X', b"")]);
        // Some clients close their side at once, and some wait for the server to.
        if round % 2 == 0 {
            first.0.shutdown(Shutdown::Write)?;
        }
        let rest = first.rest();
        assert!(rest.is_empty(), "round {round}: {}", String::from_utf8_lossy(&rest));
        assert_eq!(second.until_ready().last(), Some(&('Z', "I".to_string())), "round {round}");
        second.send(&[(b'X', b"")]);
        assert!(second.rest().is_empty());
    }
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_session_ends_with_its_last_error_and_no_notice() -> Test {
    let server = PgliteServer::temporary()?;
    let ends = [
        ("SELECT pg_terminate_backend(pg_backend_pid())", "57P01"),
        ("SET idle_session_timeout = '10ms'", "57P05"),
        ("SET idle_in_transaction_session_timeout = '10ms'; BEGIN", "25P03"),
        ("BEGIN; SET LOCAL transaction_timeout = '10ms'; SELECT pg_sleep(1000)", "25P04"),
    ];
    for (sql, code) in ends {
        let mut raw = Raw::session(&server);
        raw.query("SET client_min_messages = notice");
        raw.send(&[(b'Q', format!("{sql}\0").as_bytes())]);
        let mut told = Vec::new();
        while let Some(message) = raw.next() {
            told.push(message);
        }
        let complaints: Vec<&Heard> = told.iter().filter(|(tag, _)| matches!(tag, 'E' | 'N')).collect();
        assert_eq!(complaints, [&('E', code.to_string())], "{sql}");
        assert_eq!(told.last().unwrap().0, 'E', "{sql}");
    }
    Ok(())
}
