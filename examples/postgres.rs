//! postgres, the synchronous client: `cargo run -p examples --bin postgres` with DATABASE_URL set.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fallible_iterator::FallibleIterator;
use postgres::error::SqlState;
use postgres::{Client, NoTls};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL")?;
    let mut client = Client::connect(&url, NoTls)?;
    let version: String = client.query_one("SELECT version()", &[])?.get(0);
    ensure!(version.starts_with("PostgreSQL 17"), "{version}");

    client.batch_execute(
        "DROP TABLE IF EXISTS item;
         CREATE TABLE item (id int PRIMARY KEY, name text UNIQUE, price numeric(10, 2), made timestamptz, photo bytea, detail jsonb, tag text[], weight float8, note text)",
    )?;

    // Values as parameters and results. The client has no type for numeric; as text it is exact.
    let name = "Käse 'n' \"Öl\"\t100 %\\ 🧀";
    let made = datetime!(2024-02-29 12:34:56.789012 UTC);
    let photo: &[u8] = &[0, 1, 127, 128, 255];
    let detail = json!({"colour": "blau", "sizes": [1, 2.5, null]});
    let tags = [Some("a,b"), None, Some("\"c\"")];
    let note: Option<&str> = None;
    let inserted = client.execute(
        "INSERT INTO item VALUES ($1, $2, $3::text::numeric, $4, $5, $6, $7, $8, $9)",
        &[&1, &name, &"12345678.90", &made, &photo, &detail, &&tags[..], &(0.1 + 0.2), &note],
    )?;
    ensure!(inserted == 1);
    let row = client.query_one("SELECT *, price::text AS exact FROM item WHERE name = $1", &[&name])?;
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
    let twice = client.execute("INSERT INTO item (id, name) VALUES (2, $1)", &[&name]);
    let error = twice.err().context("the second item of a unique name was taken")?;
    ensure!(error.code() == Some(&SqlState::UNIQUE_VIOLATION), "{error}");

    // A transaction that is dropped is rolled back.
    let count = "SELECT count(*) FROM item";
    let mut transaction = client.transaction()?;
    transaction.execute("INSERT INTO item (id) VALUES (2)", &[])?;
    drop(transaction);
    ensure!(client.query_one(count, &[])?.get::<_, i64>(0) == 1);
    let mut transaction = client.transaction()?;
    transaction.execute("INSERT INTO item (id) VALUES (2)", &[])?;
    transaction.commit()?;
    ensure!(client.query_one(count, &[])?.get::<_, i64>(0) == 2);

    let statement = client.prepare("SELECT name FROM item WHERE id = $1")?;
    for id in 1..=3 {
        ensure!(client.query_opt(&statement, &[&id])?.is_some() == (id < 3));
    }

    // COPY in both directions.
    let mut copy = client.copy_in("COPY item (id, name) FROM STDIN")?;
    for id in 1000..2000 {
        writeln!(copy, "{id}\tname {id}")?;
    }
    ensure!(copy.finish()? == 1000);
    let mut text = String::new();
    let copied = "COPY (SELECT name FROM item WHERE id >= 1000 ORDER BY id) TO STDOUT";
    client.copy_out(copied)?.read_to_string(&mut text)?;
    ensure!(text.lines().last() == Some("name 1999"));

    client.batch_execute("LISTEN news; SELECT pg_notify('news', 'it''s new')")?;
    let notification = client.notifications().timeout_iter(Duration::from_secs(10)).next()?;
    let notification = notification.context("no notification came")?;
    ensure!((notification.channel(), notification.payload()) == ("news", "it's new"));

    client.close()?;
    println!("postgres: all as expected");
    Ok(())
}
