//! Memory and descriptors that a server's process needs for a large result and for clients that
//! misbehave. One test in a process of its own, because it measures the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pglite_oxide::{Listen, Pglite, PgliteServer};
use postgres::{Client, NoTls};

const MIB: u64 = 1 << 20;
/// What has not happened after this time never happens.
const FOREVER: Duration = Duration::from_secs(45);
const GIGABYTE: &[u8] = b"SELECT repeat('x', 10000) FROM generate_series(1, 110000)\0";

/// Bytes of physical memory that the process has at this moment.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Whether the thread that serves clients sleeps.
fn session_sleeps() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // The system cuts the name off after 15 characters; the state follows it.
    let states = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let mut session = states.filter(|stat| stat.contains("(pglite-oxide-se)"));
    session.next().expect("there is a session").contains("(pglite-oxide-se) S")
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + FOREVER;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn message(tag: &[u8], body: &[u8]) -> Vec<u8> {
    [tag, &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A client that PostgreSQL has let in.
fn connect(server: &PgliteServer) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(FOREVER)).unwrap();
    stream.write_all(&message(b"", b"\0\x03\0\0user\0postgres\0database\0postgres\0\0")).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"Z\0\0\0\x05I") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    stream
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn large_results_and_misbehaving_clients_need_bounded_memory_and_keep_no_descriptor() {
    let server = Pglite::builder().serve(&Listen::tcp()).unwrap();
    Client::connect(&server.connection_uri(), NoTls).unwrap().batch_execute("SELECT 1").unwrap();
    let (before, open) = (resident(), descriptors());
    let more = || resident().saturating_sub(before) / MIB;

    // A result of a gigabyte, read as fast as it comes.
    let mut stream = connect(&server);
    stream.write_all(&message(b"Q", GIGABYTE)).unwrap();
    let (mut read, mut most, mut buffer) = (0u64, 0, vec![0; 1 << 20]);
    while read < 1 << 30 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the result ended after {read} bytes");
        read += count as u64;
        most = most.max(more());
    }
    assert!(most < 64, "{most} MiB more");
    drop(stream);

    // One of which the client reads only the beginning: the session waits for its reader.
    let mut unread = connect(&server);
    unread.write_all(&message(b"Q", GIGABYTE)).unwrap();
    unread.read_exact(&mut buffer[..100_000]).unwrap();
    wait_until("the session does not wait for its reader", session_sleeps);
    assert!(more() < 64, "{} MiB more", more());
    drop(unread);

    // A message of a gigabyte of which only a part comes.
    let mut announced = connect(&server);
    announced.write_all(b"Q\x3f\xff\xff\xf0").unwrap();
    announced.write_all(&vec![b'x'; 16 << 20]).unwrap();
    assert!(more() < 96, "{} MiB more", more());

    // Many clients that send nothing. When the last one is rejected, all have been accepted.
    let mut crowd: Vec<_> = (0..300).map(|_| TcpStream::connect(("127.0.0.1", server.port())).unwrap()).collect();
    let mut refusal = Vec::new();
    let last = crowd.last_mut().unwrap();
    last.set_read_timeout(Some(FOREVER)).unwrap();
    last.read_to_end(&mut refusal).unwrap();
    assert!(String::from_utf8_lossy(&refusal).contains("too many clients"), "{refusal:?}");
    assert!(more() < 96, "{} MiB more", more());
    drop((announced, crowd));

    let mut client = Client::connect(&server.connection_uri(), NoTls).unwrap();
    assert_eq!(client.query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0), 1);
    client.close().unwrap();
    wait_until("descriptors of clients that are gone are still open", || descriptors() <= open);
}
