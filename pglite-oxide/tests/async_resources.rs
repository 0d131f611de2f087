//! What sessions of tokio-postgres clients hold: memory while their client does not read, threads
//! and files when it is gone. The tests run one after the other in a process of their own, because
//! they measure the whole process.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, SinkExt, StreamExt};
use pglite_oxide::Pglite;
use pglite_oxide::tokio_postgres::{AsyncMessage, Client};
use pglite_oxide::{Connection, ErrorKind, Result};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes: what has not ended by then hangs.
const FOREVER: Duration = Duration::from_secs(60);
/// Bytes of physical memory that may come and go in a process that does nothing else.
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

/// The threads of this process that belong to sessions, as directories of `/proc`.
fn threads() -> Vec<PathBuf> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // The system cuts names off after 15 characters, and a thread may end while they are read.
    let is_session = |task: &PathBuf| {
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        "pglite-oxide-session".starts_with(name.trim_end()) && name.len() > 12
    };
    tasks.map(|task| task.unwrap().path()).filter(is_session).collect()
}

fn sessions() -> usize {
    threads().len()
}

/// Blocks this thread, and with it every client, until the session's thread sleeps.
fn session_sleeps() {
    let deadline = Instant::now() + FOREVER;
    let thread = threads().pop().expect("there is a session");
    loop {
        // The state follows the name, which stands in parentheses.
        let status = std::fs::read_to_string(thread.join("stat")).unwrap();
        if status.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('S')) {
            return;
        }
        assert!(Instant::now() < deadline, "the session does not wait for its reader");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client whose notices arrive at a receiver.
async fn open_with_notices() -> (Client, JoinHandle<Result<()>>, mpsc::UnboundedReceiver<String>) {
    let (client, mut connection) = connect().await;
    let (sender, notices) = mpsc::unbounded_channel();
    let connection = tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message? {
                let _ = sender.send(notice.message().to_string());
            }
        }
        Ok(())
    });
    (client, connection, notices)
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
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn a_large_result_waits_for_its_reader_in_bounded_memory() {
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
            // PostgreSQL has sent as much as fits into the connection.
            _ if number % 20_000 == 0 => {
                session_sleeps();
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
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn sessions_end_with_their_connections_at_every_moment() {
    let _alone = alone().await;
    // In the middle of a large result, and in statements that wait or compute for a long time.
    for sql in [
        "SELECT generate_series(1, 1000000000)",
        "DO $$ BEGIN RAISE NOTICE 'begun'; PERFORM pg_sleep(1000); END $$",
        "DO $$ BEGIN RAISE NOTICE 'begun'; PERFORM count(*) FROM generate_series(1, 1e12); END $$",
    ] {
        let (client, connection, mut notices) = open_with_notices().await;
        let begun = async {
            let mut rows = pin!(client.query_raw(sql, [0i32; 0]).await.unwrap());
            if sql.starts_with("DO") {
                tokio::select! {
                    notice = notices.recv() => assert_eq!(notice.as_deref(), Some("begun")),
                    row = rows.next() => panic!("{sql} has ended: {row:?}"),
                }
            } else {
                rows.next().await.unwrap().unwrap();
            }
        };
        timeout(FOREVER, begun).await.expect("the statement begins");
        drop(client);
        assert_eq!(sessions(), 1);
        connection.abort();
        assert!(connection.await.unwrap_err().is_cancelled());
        all_gone().await;
    }

    // In a COPY from the client, with and without a transaction, and while it is idle.
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

    // While it is opened.
    let builder = Pglite::builder();
    let mut connecting = Box::pin(builder.connect_tokio());
    assert!((&mut connecting).now_or_never().is_none());
    drop(connecting);
    // Before its connection was polled.
    drop(connect().await);
    all_gone().await;
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn a_client_that_is_dropped_before_its_result_was_read_ends_its_session_without_an_error() {
    let _alone = alone().await;
    let (client, connection) = open().await;
    let rows = client.query_raw("SELECT generate_series(1, 300000)", [0i32; 0]).await.unwrap();
    drop(rows);
    drop(client);
    timeout(FOREVER, connection).await.unwrap().unwrap().unwrap();
    all_gone().await;
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn a_connection_that_is_aborted_rolls_back_and_unlocks_its_root() {
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
