//! Clients of tokio-postgres on databases in this process.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, TryStreamExt};
use pglite_oxide::tokio_postgres::error::SqlState;
use pglite_oxide::tokio_postgres::{self, AsyncMessage, Client, SimpleQueryMessage};
use pglite_oxide::{Connection, ErrorKind, Pglite, Result};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes: what has not ended by then hangs.
const FOREVER: Duration = Duration::from_secs(60);

async fn connect() -> (Client, Connection) {
    Pglite::builder().connect_tokio().await.expect("a temporary database opens")
}

async fn open() -> (Client, JoinHandle<Result<()>>) {
    let (client, connection) = connect().await;
    (client, tokio::spawn(connection))
}

/// Waits for the end of the session.
async fn end(connection: JoinHandle<Result<()>>) -> Result<()> {
    timeout(FOREVER, connection).await.expect("the session ends").unwrap()
}

async fn close(client: Client, connection: JoinHandle<Result<()>>) {
    drop(client);
    end(connection).await.unwrap();
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

fn code<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>) -> SqlState {
    result.unwrap_err().code().unwrap().clone()
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn statements_rows_and_parameters() {
    let (client, connection) = connect().await;
    assert!(connection.parameter("server_version").unwrap().starts_with("17."));
    assert_eq!(connection.parameter("client_encoding"), Some("UTF8"));
    let connection = tokio::spawn(connection);
    client.batch_execute("CREATE TABLE person (id serial PRIMARY KEY, name text)").await.unwrap();
    let insert = client.prepare("INSERT INTO person (name) VALUES ($1) RETURNING id").await.unwrap();
    for (number, name) in (1..).zip(["Ada", "Grace", "Barbara"]) {
        assert_eq!(client.query_one(&insert, &[&name]).await.unwrap().get::<_, i32>(0), number);
    }
    let rows = client.query("SELECT name FROM person WHERE id > $1 ORDER BY id", &[&1i32]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), ["Grace", "Barbara"]);
    let answer = client.simple_query("SELECT 1; SELECT 'two'").await.unwrap();
    let values: Vec<_> = answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    assert_eq!(values, ["1", "two"]);
    // More than either direction of the connection holds, at once.
    let large = "x".repeat(5_000_000);
    let echo = client.query_one("SELECT $1::text || '!'", &[&large]).await.unwrap();
    assert_eq!(echo.get::<_, &str>(0).len(), large.len() + 1);
    drop(insert);
    close(client, connection).await;
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn a_hundred_queries_at_once_are_answered_in_order() {
    let (client, connection) = open().await;
    let statement = client.prepare("SELECT $1::int * 2").await.unwrap();
    let queries = (0..100).map(|number| {
        let (client, statement) = (&client, &statement);
        async move { client.query_one(statement, &[&number]).await.unwrap().get::<_, i32>(0) }
    });
    assert_eq!(join_all(queries).await, (0..100).map(|number| number * 2).collect::<Vec<i32>>());
    // Each with its own preparation, and every third an error.
    let queries = (0..30i32).map(|number| {
        let sql = format!("SELECT 12 / {}", number % 3);
        let client = &client;
        async move { client.query_one(&sql, &[]).await.map(|row| row.get::<_, i32>(0)) }
    });
    for (number, result) in join_all(queries).await.into_iter().enumerate() {
        match number % 3 {
            0 => assert_eq!(code(result), SqlState::DIVISION_BY_ZERO),
            divisor => assert_eq!(result.unwrap(), 12 / divisor as i32),
        }
    }
    drop(statement);
    close(client, connection).await;
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn errors_end_statements_not_sessions() {
    let (client, connection) = open().await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY)").await.unwrap();
    for _ in 0..100 {
        assert_eq!(code(client.execute("SELECT 1/0", &[]).await), SqlState::DIVISION_BY_ZERO);
    }
    assert_eq!(code(client.query("SELECT * FROM nowhere", &[]).await), SqlState::UNDEFINED_TABLE);
    client.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap();
    let error = client.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().constraint(), Some("t_pkey"));
    assert_eq!(count(&client, "SELECT count(*) FROM t").await, 1);
    close(client, connection).await;
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn transactions_commit_and_roll_back() {
    let (mut client, connection) = open().await;
    client.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    let mut transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (2)", &[]).await.unwrap();
    let savepoint = transaction.transaction().await.unwrap();
    assert_eq!(code(savepoint.execute("SELECT 1/0", &[]).await), SqlState::DIVISION_BY_ZERO);
    savepoint.rollback().await.unwrap();
    // Rows in portions of a portal, inside the transaction.
    let portal = transaction.bind("SELECT generate_series(1, 10)", &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 7).await.unwrap().len(), 7);
    assert_eq!(transaction.query_portal(&portal, 7).await.unwrap().len(), 3);
    drop(portal);
    drop(transaction);
    assert_eq!(count(&client, "SELECT sum(a) FROM t").await, 1);
    close(client, connection).await;
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn copy_in_and_out() {
    const ROWS: u64 = 100_000;
    let (client, connection) = open().await;
    client.batch_execute("CREATE TABLE t (a int, b text)").await.unwrap();
    let mut sink = pin!(client.copy_in::<_, bytes::Bytes>("COPY t FROM STDIN").await.unwrap());
    for part in 0..100 {
        let lines = (part * 1000..(part + 1) * 1000).map(|number| format!("{number}\trow {number}\n"));
        sink.send(lines.collect::<String>().into()).await.unwrap();
    }
    assert_eq!(sink.as_mut().finish().await.unwrap(), ROWS);
    assert_eq!(count(&client, "SELECT sum(a) FROM t").await, (ROWS * (ROWS - 1) / 2) as i64);
    let stream = client.copy_out("COPY (SELECT * FROM t ORDER BY a) TO STDOUT").await.unwrap();
    let data: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
    let expected: String = (0..ROWS).map(|number| format!("{number}\trow {number}\n")).collect();
    assert!(data.concat() == expected.as_bytes());

    // A writer that is dropped, and wrong data: no row of either is kept.
    client.batch_execute("TRUNCATE t").await.unwrap();
    let mut dropped = Box::pin(client.copy_in::<_, bytes::Bytes>("COPY t FROM STDIN").await.unwrap());
    dropped.send("1\tx\n".into()).await.unwrap();
    drop(dropped);
    let mut wrong = pin!(client.copy_in::<_, bytes::Bytes>("COPY t FROM STDIN").await.unwrap());
    wrong.send("1\tx\nnonsense\n".into()).await.unwrap();
    assert_eq!(code(wrong.as_mut().finish().await), SqlState::INVALID_TEXT_REPRESENTATION);
    assert_eq!(count(&client, "SELECT count(*) FROM t").await, 0);
    close(client, connection).await;
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn notices_and_notifications_arrive() {
    let (client, mut connection) = connect().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let connection = tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            tell.send(message?).unwrap();
        }
        Ok(())
    });
    client.batch_execute("LISTEN news; DO $$ BEGIN RAISE NOTICE 'first'; END $$").await.unwrap();
    client.execute("SELECT pg_notify('news', 'second')", &[]).await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let message = timeout(FOREVER, told.recv()).await.unwrap().unwrap();
    assert!(matches!(&message, AsyncMessage::Notice(notice) if notice.message() == "first"), "{message:?}");
    let message = timeout(FOREVER, told.recv()).await.unwrap().unwrap();
    let AsyncMessage::Notification(notification) = message else { panic!("{message:?}") };
    assert_eq!((notification.channel(), notification.payload()), ("news", "second"));
    assert_eq!(notification.process_id(), pid);
    close(client, connection).await;
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn a_session_is_handed_over_as_it_is() {
    let mut db = Pglite::builder().setting("work_mem", "7MB").open_async().await.unwrap();
    let statement = db.prepare("SELECT 1").unwrap();
    let other = db.prepare("SELECT 2").unwrap();
    db.batch_execute("CREATE TEMP TABLE t AS SELECT 5 AS a; SET search_path = pg_temp").unwrap();
    db.batch_execute("BEGIN; UPDATE t SET a = 6").unwrap();
    drop(other);
    let (client, connection) = db.connect_tokio().await.unwrap();
    assert_eq!(connection.parameter("server_encoding"), Some("UTF8"));
    let connection = tokio::spawn(connection);
    assert_eq!(client.query_one("SHOW work_mem", &[]).await.unwrap().get::<_, &str>(0), "7MB");
    // Statements of both clients have different names.
    let prepared = join_all((0..5).map(|_| client.prepare("SELECT count(*) FROM pg_prepared_statements"))).await;
    assert_eq!(client.query_one(prepared[0].as_ref().unwrap(), &[]).await.unwrap().get::<_, i64>(0), 6);
    assert_eq!(client.query_one("SELECT a FROM t", &[]).await.unwrap().get::<_, i32>(0), 6);
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(client.query_one("SELECT a FROM t", &[]).await.unwrap().get::<_, i32>(0), 5);
    drop((prepared, statement));
    close(client, connection).await;
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn what_cannot_be_opened_says_why() {
    let error = Pglite::builder().setting("fsync", "off").connect_tokio().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let error = Pglite::builder().database("nowhere").connect_tokio().await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "3D000");
    let mut db = Pglite::builder().open_async().await.unwrap();
    db.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").unwrap_err();
    let error = db.connect_tokio().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.code().unwrap().code(), "57P01", "{error}");
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn a_cancel_token_ends_a_statement_that_waits_and_one_that_computes() {
    let (client, connection) = connect().await;
    let cancel = connection.cancel_token();
    let connection = tokio::spawn(connection);
    for sql in ["SELECT pg_sleep(1000)", "SELECT count(*) FROM generate_series(1, 1e12)"] {
        // Repeated, since a request that comes before its statement cancels nothing.
        let cancelling = async {
            loop {
                cancel.cancel();
                sleep(Duration::from_millis(1)).await;
            }
        };
        let result = tokio::select! {
            result = timeout(FOREVER, client.query(sql, &[])) => result.expect("the statement ends"),
            () = cancelling => unreachable!(),
        };
        assert_eq!(code(result), SqlState::QUERY_CANCELED, "{sql}");
    }
    // A request while no statement runs affects none, the next one included.
    cancel.cancel();
    assert_eq!(count(&client, "SELECT 1::bigint").await, 1);
    close(client, connection).await;
    cancel.cancel();
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn timeouts_end_a_statement_that_runs_and_a_transaction_that_rests() {
    let (client, connection) = open().await;
    client.batch_execute("SET statement_timeout = 20").await.unwrap();
    assert_eq!(code(client.query("SELECT pg_sleep(1000)", &[]).await), SqlState::QUERY_CANCELED);
    client.batch_execute("SET idle_in_transaction_session_timeout = 20; BEGIN").await.unwrap();
    // The client sends nothing.
    let error = end(connection).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.code().unwrap().code(), "25P03", "{error}");
    assert!(client.query("SELECT 1", &[]).await.unwrap_err().is_closed());
}

/// Counts how often it is polled.
async fn count_turns(turns: &Cell<u64>) {
    loop {
        turns.set(turns.get() + 1);
        tokio::task::yield_now().await;
    }
}

/// On the one thread of the runtime, another future goes on while PostgreSQL works.
#[tokio::test(flavor = "current_thread")]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn a_runtime_of_one_thread_is_never_blocked() {
    let turns = Cell::new(0);
    // While a database is opened.
    let (client, connection) = tokio::select! {
        biased;
        open = connect() => open,
        () = count_turns(&turns) => unreachable!(),
    };
    assert!(turns.get() > 10, "{} turns", turns.get());
    turns.set(0);
    let cancel = connection.cancel_token();
    let connection = tokio::spawn(connection);
    let sql = "CREATE TABLE t AS SELECT generate_series(1, 100000) AS a; SET statement_timeout = '60s'";
    client.batch_execute(sql).await.unwrap();

    // While a statement computes that ends only because the other future cancels it. If the thread
    // were blocked, the timeout would end it.
    let query = client.query("SELECT count(*) FROM generate_series(1, 1e12)", &[]);
    let other = async {
        for _ in 0..100 {
            sleep(Duration::from_millis(1)).await;
        }
        loop {
            cancel.cancel();
            sleep(Duration::from_millis(1)).await;
        }
    };
    let error = tokio::select! {
        biased;
        result = query => result.unwrap_err(),
        () = other => unreachable!(),
    };
    assert_eq!(error.as_db_error().unwrap().message(), "canceling statement due to user request");

    // While a large result arrives.
    let query = client.query("SELECT a, repeat('x', 100) FROM t", &[]);
    let rows = tokio::select! {
        biased;
        rows = query => rows.unwrap(),
        () = count_turns(&turns) => unreachable!(),
    };
    assert_eq!(rows.len(), 100_000);
    assert!(turns.get() > 10, "{} turns", turns.get());
    close(client, connection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn twenty_sessions_at_once() {
    let opening: Vec<_> = (0..20).map(|_| tokio::spawn(open())).collect();
    let open = try_join_all(opening).await.unwrap();
    let sessions = open.into_iter().zip(0i64..).map(|((client, connection), number)| {
        tokio::spawn(async move {
            client.batch_execute("CREATE TABLE t (a bigint)").await.unwrap();
            let insert = client.prepare("INSERT INTO t SELECT generate_series(1, $1::bigint)").await.unwrap();
            try_join_all((0..10).map(|_| client.execute_raw(&insert, [number]))).await.unwrap();
            assert_eq!(count(&client, "SELECT count(*) FROM t").await, number * 10);
            drop(insert);
            close(client, connection).await;
        })
    });
    for session in join_all(sessions).await {
        session.unwrap();
    }
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn acknowledged_rows_are_there_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    for round in 0..3i64 {
        let (client, connection) = Pglite::builder().path(&path).connect_tokio().await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute("CREATE TABLE IF NOT EXISTS t (a int)").await.unwrap();
        assert_eq!(count(&client, "SELECT count(*) FROM t").await, round * 100);
        try_join_all((0..100i32).map(|number| client.execute_raw("INSERT INTO t VALUES ($1)", [number])))
            .await
            .unwrap();
        let in_use = Pglite::builder().path(&path).open_async().await.unwrap_err();
        assert_eq!(in_use.kind(), ErrorKind::InUse);
        close(client, connection).await;
    }
}
