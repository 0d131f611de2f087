//! SQLx, with a pool: `cargo run -p examples --bin sqlx` with DATABASE_URL set. One session runs at
//! a time, so the pool has one connection.

use anyhow::{Result, ensure};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::types::BigDecimal;
use sqlx::{Connection, Executor, Row};
use time::OffsetDateTime;
use time::macros::datetime;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // README: begin
    let url = std::env::var("DATABASE_URL")?;
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await?;
    let version: String = sqlx::query_scalar("SELECT version()").fetch_one(&pool).await?;
    // README: end
    ensure!(version.starts_with("PostgreSQL 17"), "{version}");

    pool.execute(
        "DROP TABLE IF EXISTS item;
         CREATE TABLE item (id int PRIMARY KEY, name text UNIQUE, price numeric(10, 2), made timestamptz, photo bytea, detail jsonb, tag text[], weight float8, note text)",
    )
    .await?;

    // Values as parameters and results.
    let name = "Käse 'n' \"Öl\"\t100 %\\ 🧀";
    let price: BigDecimal = "12345678.90".parse()?;
    let made = datetime!(2024-02-29 12:34:56.789012 UTC);
    let photo = vec![0, 1, 127, 128, 255];
    let detail = json!({"colour": "blau", "sizes": [1, 2.5, null]});
    let tags = vec![Some("a,b".to_string()), None, Some("\"c\"".to_string())];
    let insert = "INSERT INTO item VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let inserted = sqlx::query(insert)
        .bind(1)
        .bind(name)
        .bind(&price)
        .bind(made)
        .bind(&photo)
        .bind(&detail)
        .bind(&tags)
        .bind(0.1 + 0.2)
        .bind(None::<String>)
        .execute(&pool)
        .await?;
    ensure!(inserted.rows_affected() == 1);
    let row = sqlx::query("SELECT * FROM item WHERE name = $1").bind(name).fetch_one(&pool).await?;
    ensure!(row.try_get::<i32, _>("id")? == 1);
    ensure!(row.try_get::<&str, _>("name")? == name);
    ensure!(row.try_get::<BigDecimal, _>("price")? == price);
    ensure!(row.try_get::<OffsetDateTime, _>("made")? == made);
    ensure!(row.try_get::<Vec<u8>, _>("photo")? == photo);
    ensure!(row.try_get::<Value, _>("detail")? == detail);
    ensure!(row.try_get::<Vec<Option<String>>, _>("tag")? == tags);
    ensure!(row.try_get::<f64, _>("weight")? == 0.1 + 0.2);
    ensure!(row.try_get::<Option<String>, _>("note")?.is_none());

    // An error has an SQLSTATE, and the connection remains usable.
    let twice = sqlx::query("INSERT INTO item (id, name) VALUES (2, $1)").bind(name).execute(&pool).await;
    let code = twice.err().and_then(|error| error.as_database_error()?.code().map(String::from));
    ensure!(code.as_deref() == Some("23505"), "{code:?}");

    // A transaction that is dropped is rolled back.
    let count = "SELECT count(*) FROM item";
    let mut transaction = pool.begin().await?;
    sqlx::query("INSERT INTO item (id) VALUES (2)").execute(&mut *transaction).await?;
    drop(transaction);
    ensure!(sqlx::query_scalar::<_, i64>(count).fetch_one(&pool).await? == 1);
    let mut transaction = pool.begin().await?;
    sqlx::query("INSERT INTO item (id) VALUES (2)").execute(&mut *transaction).await?;
    transaction.commit().await?;
    ensure!(sqlx::query_scalar::<_, i64>(count).fetch_one(&pool).await? == 2);

    // Every query is a prepared statement that the connection caches.
    let mut connection = pool.acquire().await?;
    connection.clear_cached_statements().await?;
    for id in 1..=3 {
        let found =
            sqlx::query("SELECT name FROM item WHERE id = $1").bind(id).fetch_optional(&mut *connection).await?;
        ensure!(found.is_some() == (id < 3));
    }
    ensure!(connection.cached_statements_size() == 1);

    // COPY in both directions.
    let mut copy = connection.copy_in_raw("COPY item (id, name) FROM STDIN").await?;
    for id in 1000..2000 {
        copy.send(format!("{id}\tname {id}\n").into_bytes()).await?;
    }
    ensure!(copy.finish().await? == 1000);
    let copied = connection.copy_out_raw("COPY (SELECT name FROM item WHERE id >= 1000 ORDER BY id) TO STDOUT").await?;
    let text = copied.try_fold(Vec::new(), |text, piece| async move { Ok([&text[..], &piece].concat()) }).await?;
    ensure!(String::from_utf8(text)?.lines().last() == Some("name 1999"));
    drop(connection);

    // The listener uses the pool's connection.
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("news").await?;
    listener.execute("SELECT pg_notify('news', 'it''s new')").await?;
    let notification = listener.recv().await?;
    ensure!((notification.channel(), notification.payload()) == ("news", "it's new"));
    drop(listener);

    pool.close().await;
    println!("sqlx: all as expected");
    Ok(())
}
