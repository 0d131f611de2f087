//! tokio-postgres: `cargo run -p examples --bin tokio-postgres` with DATABASE_URL set.

use std::future::poll_fn;
use std::pin::pin;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, NoTls};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL")?;
    let (mut client, mut connection) = tokio_postgres::connect(&url, NoTls).await?;
    // The connection must be polled. Without notifications, `tokio::spawn(connection)` is enough.
    let (notify, mut notifications) = mpsc::unbounded_channel();
    let connection = tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message? {
                // The receiver may be gone already.
                let _ = notify.send(notification);
            }
        }
        Ok::<_, tokio_postgres::Error>(())
    });
    let version: String = client.query_one("SELECT version()", &[]).await?.get(0);
    ensure!(version.starts_with("PostgreSQL 17"), "{version}");

    client
        .batch_execute(
            "DROP TABLE IF EXISTS item;
             CREATE TABLE item (id int PRIMARY KEY, name text UNIQUE, price numeric(10, 2), made timestamptz, photo bytea, detail jsonb, tag text[], weight float8, note text)",
        )
        .await?;

    // Values as parameters and results. The client has no type for numeric; as text it is exact.
    let name = "Käse 'n' \"Öl\"\t100 %\\ 🧀";
    let made = datetime!(2024-02-29 12:34:56.789012 UTC);
    let photo: &[u8] = &[0, 1, 127, 128, 255];
    let detail = json!({"colour": "blau", "sizes": [1, 2.5, null]});
    let tags = [Some("a,b"), None, Some("\"c\"")];
    let insert = "INSERT INTO item VALUES ($1, $2, $3::text::numeric, $4, $5, $6, $7, $8, $9)";
    let note: Option<&str> = None;
    let values = client
        .execute(insert, &[&1, &name, &"12345678.90", &made, &photo, &detail, &&tags[..], &(0.1 + 0.2), &note])
        .await?;
    ensure!(values == 1);
    let row = client.query_one("SELECT *, price::text AS exact FROM item WHERE name = $1", &[&name]).await?;
    ensure!(row.try_get::<_, i32>("id")? == 1);
    ensure!(row.try_get::<_, &str>("name")? == name);
    ensure!(row.try_get::<_, &str>("exact")? == "12345678.90");
    ensure!(row.try_get::<_, OffsetDateTime>("made")? == made);
    ensure!(row.try_get::<_, &[u8]>("photo")? == photo);
    ensure!(row.try_get::<_, Value>("detail")? == detail);
    ensure!(row.try_get::<_, Vec<Option<&str>>>("tag")? == tags);
    ensure!(row.try_get::<_, f64>("weight")? == 0.1 + 0.2);
    ensure!(row.try_get::<_, Option<&str>>("note")?.is_none());

    // An error has an SQLSTATE, and the connection remains usable.
    let twice = client.execute("INSERT INTO item (id, name) VALUES (2, $1)", &[&name]).await;
    let error = twice.err().context("the second item of a unique name was taken")?;
    ensure!(error.code() == Some(&SqlState::UNIQUE_VIOLATION), "{error}");

    // A transaction that is dropped is rolled back.
    let count = "SELECT count(*) FROM item";
    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO item (id) VALUES (2)", &[]).await?;
    drop(transaction);
    ensure!(client.query_one(count, &[]).await?.get::<_, i64>(0) == 1);
    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO item (id) VALUES (2)", &[]).await?;
    transaction.commit().await?;
    ensure!(client.query_one(count, &[]).await?.get::<_, i64>(0) == 2);

    // A prepared statement, executed three times in a pipeline.
    let statement = client.prepare("SELECT name FROM item WHERE id = $1").await?;
    let ids = [1, 2, 3];
    let find = ids.map(|id| {
        let (client, statement) = (&client, &statement);
        async move { client.query(statement, &[&id]).await }
    });
    let found: Vec<usize> = futures_util::future::try_join_all(find).await?.iter().map(Vec::len).collect();
    ensure!(found == [1, 1, 0], "{found:?}");

    // COPY in both directions.
    let mut copy = pin!(client.copy_in("COPY item (id, name) FROM STDIN").await?);
    for id in 1000..2000 {
        copy.send(Bytes::from(format!("{id}\tname {id}\n"))).await?;
    }
    ensure!(copy.finish().await? == 1000);
    let copied = client.copy_out("COPY (SELECT name FROM item WHERE id >= 1000 ORDER BY id) TO STDOUT").await?;
    let text: BytesMut = copied.try_collect::<Vec<Bytes>>().await?.concat().as_slice().into();
    ensure!(std::str::from_utf8(&text)?.lines().last() == Some("name 1999"));

    client.batch_execute("LISTEN news; SELECT pg_notify('news', 'it''s new')").await?;
    let notification = notifications.recv().await.context("the connection ended")?;
    ensure!((notification.channel(), notification.payload()) == ("news", "it's new"));

    drop(client);
    connection.await??;
    println!("tokio-postgres: all as expected");
    Ok(())
}
