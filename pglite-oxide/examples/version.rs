//! Opens a temporary database and prints what the server says of itself.

fn main() -> Result<(), pglite_oxide::Error> {
    let mut db = pglite_oxide::Pglite::temporary()?;
    let result = db.query("SELECT version()")?;
    for row in result.rows {
        println!("{}", row.into_iter().flatten().collect::<Vec<_>>().join(" "));
    }
    db.close()
}
