//! Which locales there are: C, POSIX and C.UTF-8, which the guest's C library has data for, and
//! PostgreSQL's own error for every other name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use pglite_oxide::Pglite;

fn refused(db: &mut Pglite, sql: &str, state: &str, message: &str) {
    let error = db.batch_execute(sql).expect_err(sql);
    assert_eq!(error.code().unwrap_or_else(|| panic!("{sql}: {error}")).code(), state, "{sql}: {error}");
    assert!(error.to_string().contains(message), "{sql}: {error}");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_locale_without_data_is_refused() {
    let mut db = Pglite::temporary().unwrap();
    for name in ["de_DE.utf8", "de_DE.UTF-8", "en_US", "C.ISO-8859-1", "c", "UTF-8", "C;C"] {
        let sql = format!("CREATE COLLATION de (provider = libc, locale = '{name}')");
        refused(&mut db, &sql, "22023", "could not create locale");
        for setting in ["lc_monetary", "lc_numeric", "lc_time", "lc_messages"] {
            refused(&mut db, &format!("SET {setting} = '{name}'"), "22023", "invalid value for parameter");
        }
        let sql = format!("CREATE DATABASE other TEMPLATE template0 LC_COLLATE '{name}'");
        refused(&mut db, &sql, "42809", "invalid LC_COLLATE locale name");
        let sql = format!("CREATE DATABASE other TEMPLATE template0 LC_CTYPE '{name}'");
        refused(&mut db, &sql, "42809", "invalid LC_CTYPE locale name");
    }
    let row = db.query_one("SELECT 12.3::float8::numeric::money::text", &[]).unwrap();
    assert_eq!(row.get::<_, &str>(0), "$12.30");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn the_locales_that_there_are_work() {
    let mut db = Pglite::temporary().unwrap();
    for (index, name) in ["C", "POSIX", "C.UTF-8", "C.utf8"].into_iter().enumerate() {
        db.batch_execute(&format!(
            "CREATE COLLATION c{index} (provider = libc, locale = '{name}');
             SET lc_monetary = '{name}'; SET lc_numeric = '{name}'; SET lc_time = '{name}'; SET lc_messages = '{name}'"
        ))
        .unwrap();
        let sql =
            format!("SELECT string_agg(x, ' ' ORDER BY x COLLATE c{index}) FROM unnest(ARRAY['z', 'ä', 'a', 'B']) x");
        assert_eq!(db.query_one(&sql, &[]).unwrap().get::<_, &str>(0), "B a z ä");
    }
    // The empty name is that of the environment, which has none.
    db.batch_execute("SET lc_monetary = ''").unwrap();
    db.batch_execute("CREATE DATABASE other TEMPLATE template0 LOCALE 'C.UTF-8'").unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn only_methods_that_make_wal_durable_are_offered() {
    let mut db = Pglite::temporary().unwrap();
    let methods = "SELECT enumvals::text FROM pg_settings WHERE name = 'wal_sync_method'";
    assert_eq!(db.query_one(methods, &[]).unwrap().get::<_, &str>(0), "{fsync,fdatasync}");
    for method in ["open_sync", "open_datasync"] {
        refused(&mut db, &format!("ALTER SYSTEM SET wal_sync_method = '{method}'"), "22023", "invalid value");
    }
}
