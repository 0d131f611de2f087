//! Opens a temporary database, prints what the server says of itself, and runs the statements that
//! it is given.

fn main() -> Result<(), pglite_oxide::Error> {
    let mut db = pglite_oxide::Pglite::temporary()?;
    let row = db.query_one("SELECT version()", &[])?;
    println!("{}", row.try_get::<_, &str>(0)?);
    for sql in std::env::args().skip(1) {
        db.batch_execute(&sql)?;
    }
    db.close()
}
