//! What a user's program does first: a row, an extension, an error and a statement after it. It is built outside the workspace against the
//! crates of a release; the pipeline compares what it prints.

use std::error::Error;

use pglite_oxide::Pglite;

fn main() -> Result<(), Box<dyn Error>> {
    let mut db = Pglite::temporary()?;
    println!("one: {}", value(&mut db, "SELECT 1")?);

    db.exec("CREATE EXTENSION vector")?;
    println!("distance: {}", value(&mut db, "SELECT '[1,2,3]'::vector <-> '[4,5,6]'::vector")?);

    let error = db.query("SELECT 1/0").err().ok_or("1/0 was not an error")?;
    println!("error: {}", error.code().ok_or("the error has no SQLSTATE")?);
    println!("after it: {}", value(&mut db, "SELECT 2")?);

    db.close()?;
    Ok(())
}

fn value(db: &mut Pglite, sql: &str) -> Result<String, Box<dyn Error>> {
    let result = db.query(sql)?;
    let row = result.rows.first().ok_or("there is no row")?;
    let value = row.first().ok_or("there is no column")?;
    Ok(value.clone().ok_or("the value is NULL")?)
}
