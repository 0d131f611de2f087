//! What a large result, and clients that are no good, cost the server's process. One test, in a process of its own: others would be in its numbers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpStream;

use pglite_oxide::{Listen, Pglite, PgliteServer};
use postgres::{Client, NoTls};

/// Bytes that the process has at this moment.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

fn message(tag: &[u8], body: &[u8]) -> Vec<u8> {
    [tag, &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn connect(server: &PgliteServer) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(&message(b"", b"\0\x03\0\0user\0postgres\0database\0postgres\0\0")).unwrap();
    stream
}

#[test]
fn memory_is_bounded_whatever_passes_through_or_does_not() {
    const MIB: u64 = 1 << 20;
    let listen = Listen::tcp().take_over_idle(true);
    let server = Pglite::builder().serve(&listen).unwrap();
    Client::connect(&server.connection_uri(), NoTls).unwrap().batch_execute("SELECT 1").unwrap();
    let before = resident();

    // A result of a gigabyte, read as fast as it comes.
    let mut stream = connect(&server);
    stream.write_all(&message(b"Q", b"SELECT repeat('x', 10000) FROM generate_series(1, 110000)\0")).unwrap();
    let (mut read, mut most, mut buffer) = (0u64, 0, vec![0; 1 << 20]);
    while read < 1 << 30 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the result ended after {read} bytes");
        read += count as u64;
        most = most.max(resident());
    }
    assert!(most - before < 64 * MIB, "{} MiB more", (most - before) / MIB);
    drop(stream);

    // One that nobody reads, and a message that is announced and never comes.
    let mut unread = connect(&server);
    unread.write_all(&message(b"Q", b"SELECT repeat('x', 10000) FROM generate_series(1, 110000)\0")).unwrap();
    let mut announced = connect(&server);
    announced.write_all(b"Q\x3f\xff\xff\xff").unwrap();
    let crowd: Vec<_> = (0..300).map(|_| TcpStream::connect(("127.0.0.1", server.port())).unwrap()).collect();
    assert!(resident().saturating_sub(before) < 96 * MIB, "{} MiB more", (resident() - before) / MIB);
    drop((unread, announced, crowd));
    let mut client = Client::connect(&server.connection_uri(), NoTls).unwrap();
    assert_eq!(client.query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0), 1);
}
