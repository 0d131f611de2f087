//! What a user's program does first: a row, an extension, an error and a statement after it. It is
//! built outside the workspace against the crates of a release; the pipeline compares what it
//! prints.

use std::error::Error;

use pglite_oxide::{Pglite, SimpleQueryMessage};

fn main() -> Result<(), Box<dyn Error>> {
    let mut db = Pglite::temporary()?;
    println!("one: {}", value(&mut db, "SELECT 1")?);

    db.batch_execute("CREATE EXTENSION vector")?;
    println!("distance: {}", value(&mut db, "SELECT '[1,2,3]'::vector <-> '[4,5,6]'::vector")?);

    let error = db.query("SELECT 1/0", &[]).err().ok_or("1/0 was not an error")?;
    println!("error: {}", error.code().ok_or("the error has no SQLSTATE")?);
    println!("after it: {}", value(&mut db, "SELECT 2")?);

    db.close()?;
    Ok(())
}

fn value(db: &mut Pglite, sql: &str) -> Result<String, Box<dyn Error>> {
    let answer = db.simple_query(sql)?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let value = row.ok_or("there is no row")?.try_get(0)?;
    Ok(value.ok_or("the value is NULL")?.to_string())
}
