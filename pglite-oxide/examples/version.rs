//! Opens a temporary database and prints what the server says of itself.

fn main() -> Result<(), pglite_oxide::Error> {
    let mut db = pglite_oxide::Pglite::temporary()?;
    let row = db.query_one("SELECT version()", &[])?;
    println!("{}", row.try_get::<_, &str>(0)?);
    db.close()
}
