//! A client of a running server that sends any bytes. The server answers or closes the connection,
//! and goes on serving others.
//!
//! The first byte says how the others go: after a start-up packet or not, in one piece or in two,
//! and whether the client waits for an answer.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a target reports a finding")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libfuzzer_sys::{Corpus, fuzz_target};
use pglite_oxide::{Listen, Pglite, PgliteServer};
use postgres::{Client, NoTls};

/// After so many inputs another client has to be served.
const CHECK_INTERVAL: u32 = 16;
/// A server that neither answers nor closes the connection for so long hangs. What a statement
/// takes is bounded by `statement_timeout`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

const STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";

static SERVER: LazyLock<PgliteServer> = LazyLock::new(|| {
    let listen = Listen::tcp().wait_for_session(ANSWER_TIMEOUT).on_error(|error| {
        // A session that crashed, or a listener that cannot listen: no client's bytes may do that.
        eprintln!("the server reports: {error}");
        std::process::abort();
    });
    let builder = Pglite::builder().temporary().setting("statement_timeout", "1s");
    builder.serve(&listen).unwrap_or_else(|error| panic!("no server: {error}"))
});
static INPUTS: AtomicU32 = AtomicU32::new(0);

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((how, bytes)) = input.split_first() else { return Corpus::Reject };
    send(bytes, how & 1 != 0, how & 2 != 0, how & 4 != 0);
    if INPUTS.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHECK_INTERVAL) {
        let mut client = Client::connect(&SERVER.connection_uri(), NoTls).expect("a client is not let in");
        let two: i32 = client.query_one("SELECT 1 + 1", &[]).expect("a client is not served").get(0);
        assert_eq!(two, 2);
    }
    Corpus::Keep
});

fn send(bytes: &[u8], startup: bool, in_two: bool, leave: bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", SERVER.port())).expect("the server does not listen");
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("no time-out");
    let (first, second) = bytes.split_at(if in_two { bytes.len() / 2 } else { bytes.len() });
    let start: &[u8] = if startup { STARTUP } else { b"" };
    for piece in [start, first, second] {
        // The server may have closed the connection already.
        if stream.write_all(piece).is_err() {
            return;
        }
    }
    if leave {
        return;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = [0; 8192];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("neither an answer nor an end in {} s", ANSWER_TIMEOUT.as_secs())
            }
            Err(_) => return,
        }
    }
}
