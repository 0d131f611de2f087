//! Databases and servers that tasks open: nothing of their end is done on a thread of the executor.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::mpsc::{Sender, channel};
use std::thread::ThreadId;

use pglite_oxide::tokio_postgres::NoTls;
use pglite_oxide::{Error, ErrorKind, Listen, Pglite, PgliteServer};

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn a_close_and_a_shutdown_are_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop");
    let mut db = Pglite::builder().path(&path).open_async().await.unwrap();
    db.batch_execute("CREATE TABLE t (id int)").unwrap();
    db.close_async().await.unwrap();
    let server = Pglite::builder().path(&path).serve_async(&Listen::tcp()).await.unwrap();
    let (client, connection) = server.config().connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    server.shutdown_async().await.unwrap();
    let mut db = Pglite::builder().path(&path).open_async().await.unwrap();
    assert_eq!(db.query_one("SELECT count(*) FROM t", &[]).unwrap().get::<_, i64>(0), 1);
    db.close_async().await.unwrap();
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn the_configuration_of_a_server_leads_to_it() {
    #[cfg(unix)]
    let directory = tempfile::tempdir().unwrap();
    for listen in [
        Listen::tcp().password("se:cret/%"),
        #[cfg(unix)]
        Listen::unix(directory.path()),
    ] {
        let server = Pglite::builder().serve_async(&listen).await.unwrap();
        let (client, connection) = server.config().connect(NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let row = client.query_one("SELECT current_user::text, current_database()::text", &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("postgres", "postgres"));
        drop(client);
        connection.await.unwrap().unwrap();
        server.shutdown_async().await.unwrap();
    }
}

#[tokio::test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
async fn a_drop_does_not_close_on_the_executors_thread() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop");
    let here = std::thread::current().id();
    let (tell, told) = channel();
    let mut db = Pglite::builder().path(&path).open_async().await.unwrap();
    db.on_notice({
        let says_where = SaysWhere(tell);
        move |_| {
            let _ = &says_where;
        }
    });
    drop(db);
    // It is closed in a while, by another thread.
    reopen(|| Pglite::open(&path)).close().unwrap();
    assert_ne!(told.recv().unwrap(), here);

    let server = Pglite::builder().path(&path).serve_async(&Listen::tcp()).await.unwrap();
    drop(server);
    reopen(|| PgliteServer::open(&path)).shutdown().unwrap();
}

/// Tells on which thread it is dropped: a session drops its callbacks when it has been closed.
struct SaysWhere(Sender<ThreadId>);

impl Drop for SaysWhere {
    fn drop(&mut self) {
        self.0.send(std::thread::current().id()).unwrap();
    }
}

fn reopen<T>(open: impl Fn() -> Result<T, Error>) -> T {
    loop {
        match open() {
            Err(error) if error.kind() == ErrorKind::InUse => std::thread::yield_now(),
            result => return result.unwrap(),
        }
    }
}
