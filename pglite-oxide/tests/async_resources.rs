//! What sessions of tokio-postgres clients hold: memory while nobody reads, threads and files when the client is gone. In a process of its own, one test at a
//! time: what they measure is the process.

// A helper of a test fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::pin::pin;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pglite_oxide::Pglite;
use pglite_oxide::tokio_postgres::Client;
use pglite_oxide::{Connection, ErrorKind, Result};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes on the slowest machine: what is not done by then hangs.
const FOREVER: Duration = Duration::from_secs(60);
/// What may come and go in a process that does nothing else, in bytes.
const SLACK: usize = 8 << 20;

async fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

async fn connect() -> (Client, Connection) {
    Pglite::builder().connect_tokio().await.expect("a temporary database opens")
}

async fn open() -> (Client, JoinHandle<Result<()>>) {
    let (client, connection) = connect().await;
    (client, tokio::spawn(connection))
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Number of this process's threads that belong to sessions.
fn sessions() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // A thread may end while they are counted. The system cuts names off after 15 characters.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| "pglite-oxide-session".starts_with(name.trim_end()) && name.len() > 12).count()
}

/// Waits until no session has a thread any more.
async fn all_gone() {
    let gone = async {
        while sessions() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(FOREVER, gone).await.expect("sessions go with their clients");
}

#[tokio::test]
async fn a_large_result_waits_for_its_reader_without_memory() {
    let _alone = alone().await;
    let (client, connection) = open().await;
    let sql = "SELECT g, repeat('x', 1000) FROM (SELECT generate_series(1, $1::bigint) g) s";
    let mut rows = pin!(client.query_raw(sql, [1_000_000i64]).await.unwrap());
    assert_eq!(sessions(), 1);
    let mut warm = 0;
    let mut largest = 0;
    for number in 1..=1_000_000i64 {
        assert_eq!(rows.next().await.unwrap().unwrap().get::<_, i64>(0), number);
        match number {
            10_000 => warm = resident(),
            // Slower than PostgreSQL, which could be far ahead by now.
            _ if number % 20_000 == 0 => {
                sleep(Duration::from_millis(20)).await;
                largest = largest.max(resident());
            }
            _ => (),
        }
    }
    assert!(rows.next().await.is_none());
    assert!(largest < warm + SLACK, "{warm} bytes after 10,000 rows, {largest} at most");
    drop(client);
    connection.await.unwrap().unwrap();
    all_gone().await;
}

#[tokio::test]
async fn sessions_go_with_their_clients_whatever_they_do() {
    let _alone = alone().await;
    // In the middle of a large result that nobody reads, and in statements without a result for a long time.
    for sql in [
        "SELECT generate_series(1, 1000000000)",
        "SELECT pg_sleep(1000)",
        "SELECT count(*) FROM generate_series(1, 1e12)",
    ] {
        let (client, connection) = open().await;
        let result = async {
            let mut rows = pin!(client.query_raw(sql, [0i32; 0]).await.unwrap());
            rows.next().await.unwrap().unwrap();
            std::future::pending::<()>().await;
        };
        assert!(timeout(Duration::from_millis(100), result).await.is_err());
        drop(client);
        assert_eq!(sessions(), 1);
        connection.abort();
        assert!(connection.await.unwrap_err().is_cancelled());
        all_gone().await;
    }

    // In a COPY from the client, in a transaction, at rest.
    for sql in ["BEGIN; CREATE TABLE t (a int)", "CREATE TABLE t (a int)"] {
        let (client, connection) = open().await;
        client.batch_execute(sql).await.unwrap();
        let mut sink = Box::pin(client.copy_in::<_, bytes::Bytes>("COPY t FROM STDIN").await.unwrap());
        sink.send("1\n".into()).await.unwrap();
        connection.abort();
        assert!(connection.await.unwrap_err().is_cancelled());
        all_gone().await;
    }
    let (client, connection) = open().await;
    connection.abort();
    assert!(connection.await.unwrap_err().is_cancelled());
    all_gone().await;
    assert!(client.is_closed());

    // The future of an open that nobody waits for.
    let builder = Pglite::builder();
    let mut connecting = Box::pin(builder.connect_tokio());
    assert!(timeout(Duration::from_millis(1), &mut connecting).await.is_err());
    drop(connecting);
    // And a connection that was never polled.
    drop(connect().await);
    all_gone().await;
}

#[tokio::test]
async fn a_dropped_client_whose_result_ends_is_a_goodbye() {
    let _alone = alone().await;
    let (client, connection) = open().await;
    let rows = client.query_raw("SELECT generate_series(1, 300000)", [0i32; 0]).await.unwrap();
    drop(rows);
    drop(client);
    timeout(FOREVER, connection).await.unwrap().unwrap().unwrap();
    all_gone().await;
}

#[tokio::test]
async fn a_session_that_was_dropped_rolls_back_and_lets_go_of_its_root() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let builder = Pglite::builder().path(dir.path().join("db"));
    let (client, connection) = builder.connect_tokio().await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(builder.open_async().await.unwrap_err().kind(), ErrorKind::InUse);
    connection.abort();
    assert!(connection.await.unwrap_err().is_cancelled());
    all_gone().await;
    let mut db = builder.open_async().await.unwrap();
    assert_eq!(db.query_one("SELECT count(*) FROM t", &[]).unwrap().get::<_, i64>(0), 1);
}
