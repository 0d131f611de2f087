//! What a database's own settings can and cannot do to the promises of the API: settings that this
//! crate makes are not changed by ALTER SYSTEM, and a stored setting that PostgreSQL cannot start
//! with does not make the database inaccessible.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use pglite_oxide::dev::{self, ImageFs, LogFs, Operation};
use pglite_oxide::{Durability, Error, ErrorKind, GenericClient, Listen, Pglite, Result};

const COMMITS: usize = 20;

/// Syncs while transactions are committed, one after the other.
fn syncs(disk: &ImageFs, durability: Durability) -> usize {
    let log = LogFs::new(Arc::new(disk.clone())).unwrap();
    let mut db = dev::open(Arc::new(log.clone()), durability, &[]).unwrap();
    db.batch_execute("CREATE TABLE IF NOT EXISTS t (a int)").unwrap();
    let before = log.len();
    for _ in 0..COMMITS {
        db.batch_execute("INSERT INTO t VALUES (1)").unwrap();
    }
    let operations = &log.recording().operations[before..];
    let count = operations.iter().filter(|operation| matches!(operation, Operation::Sync(Some(_)))).count();
    db.close().unwrap();
    count
}

/// Stores settings as a user would, each by a session of its own; those that PostgreSQL refuses are
/// left out.
fn store(disk: &ImageFs, settings: &[&str]) {
    for setting in settings {
        let mut db = dev::open(Arc::new(disk.clone()), Durability::None, &[]).unwrap();
        let _ = db.batch_execute(&format!("ALTER SYSTEM SET {setting}"));
        db.close().unwrap();
    }
}

/// Writes the file of ALTER SYSTEM, as another program could.
fn write_auto_conf(disk: &ImageFs, text: &str) {
    use pglite_oxide::dev::{FileSystem, OpenOptions};
    let options = OpenOptions { write: true, create: true, truncate: true, ..OpenOptions::default() };
    let file = disk.open("postgresql.auto.conf", options, 0).unwrap();
    assert_eq!(file.write_at(0, text.as_bytes(), 0), Ok(text.len()));
}

fn show(db: &mut impl GenericClient, name: &str) -> String {
    db.query_one(&format!("SHOW {name}"), &[]).unwrap().get(0)
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn no_stored_setting_takes_durability_away() {
    let disk = dev::template().unwrap();
    store(
        &disk,
        &[
            "fsync = off",
            "synchronous_commit = off",
            "full_page_writes = off",
            "wal_sync_method = 'open_datasync'",
            "data_sync_retry = on",
        ],
    );
    assert!(syncs(&disk, Durability::Full) >= COMMITS);
    let mut db = dev::open(Arc::new(disk), Durability::Full, &[]).unwrap();
    let settings = ["fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "data_sync_retry"];
    assert_eq!(settings.map(|name| show(&mut db, name)), ["on", "on", "on", "fdatasync", "off"]);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn each_stored_setting_alone_takes_no_durability_away() {
    for setting in ["fsync = off", "synchronous_commit = off", "wal_sync_method = 'open_datasync'"] {
        let disk = dev::template().unwrap();
        store(&disk, &[setting]);
        let count = syncs(&disk, Durability::Full);
        assert!(count >= COMMITS, "{setting}: {count} syncs for {COMMITS} commits");
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn stored_settings_that_this_crate_makes_do_not_count() {
    let disk = dev::template().unwrap();
    // Two of them keep a PostgreSQL that obeys them from starting, and one keeps every commit
    // waiting.
    let stored = "shared_preload_libraries = 'nosuch'\ndata_directory = '/nowhere'\n\
                  synchronous_standby_names = 'nobody'\nexternal_pid_file = '/pgdata/pid'\narchive_mode = on\n\
                  zero_damaged_pages = on\nignore_system_indexes = on\nallow_system_table_mods = on\n";
    write_auto_conf(&disk, stored);
    let mut db = dev::open(Arc::new(disk.clone()), Durability::Full, &[]).unwrap();
    db.batch_execute("CREATE TABLE t AS SELECT 1 AS a").unwrap();
    for (name, value) in [
        ("shared_preload_libraries", ""),
        ("data_directory", "/pgdata"),
        ("synchronous_standby_names", ""),
        ("external_pid_file", ""),
        ("archive_mode", "off"),
        ("zero_damaged_pages", "off"),
        ("ignore_system_indexes", "off"),
        ("allow_system_table_mods", "off"),
    ] {
        assert_eq!(show(&mut db, name), value, "{name}");
    }
    db.close().unwrap();
    // What is for a repair can be asked for at an open.
    let mut db = dev::open(Arc::new(disk), Durability::Full, &[("zero_damaged_pages", "on")]).unwrap();
    assert_eq!(show(&mut db, "zero_damaged_pages"), "on");
}

/// A database in a directory that stores a setting.
fn locked_out(setting: &str) -> (tempfile::TempDir, Error) {
    let directory = tempfile::tempdir().unwrap();
    let mut db = Pglite::open(directory.path()).unwrap();
    db.batch_execute("CREATE TABLE t AS SELECT 7 AS a").unwrap();
    db.batch_execute("ALTER SYSTEM SET work_mem = '9MB'").unwrap();
    db.batch_execute(&format!("ALTER SYSTEM SET {setting}")).unwrap();
    db.close().unwrap();
    let error = Pglite::open(directory.path()).unwrap_err();
    (directory, error)
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn no_stored_setting_makes_a_database_inaccessible() {
    for setting in ["shared_buffers = '4GB'", "session_preload_libraries = 'nosuch'"] {
        let name = setting.split_once(' ').unwrap().0;
        let (directory, error) = locked_out(setting);
        let message = error.to_string();
        assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Crashed), "{message}");
        assert!(message.contains("ignore_stored_settings") && message.contains(name), "{message}");
        // A server's first session waits for its client before it loads libraries.
        if name == "shared_buffers" {
            let served = Pglite::builder().path(directory.path()).serve(&Listen::tcp());
            let message = served.err().unwrap().to_string();
            assert!(message.contains("ignore_stored_settings") && message.contains(name), "{message}");
        }

        let rescue = || Pglite::builder().path(directory.path()).ignore_stored_settings().open();
        let mut db = rescue().unwrap();
        assert_eq!(show(&mut db, "work_mem"), "4MB");
        assert_eq!(db.query_one("SELECT a FROM t", &[]).unwrap().get::<_, i32>(0), 7);
        db.batch_execute(&format!("ALTER SYSTEM RESET {name}")).unwrap();
        db.close().unwrap();
        // The other setting is still there.
        let mut db = Pglite::open(directory.path()).unwrap();
        assert_eq!(show(&mut db, "work_mem"), "9MB");
        assert_eq!(db.query_one("SELECT a FROM t", &[]).unwrap().get::<_, i32>(0), 7);
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn other_failures_do_not_blame_stored_settings() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = Pglite::open(directory.path()).unwrap();
    db.batch_execute("ALTER SYSTEM SET work_mem = '9MB'").unwrap();
    db.close().unwrap();
    let error = Pglite::builder().path(directory.path()).database("nosuch").open().unwrap_err();
    assert_eq!(error.code().unwrap().code(), "3D000");
    assert!(!error.to_string().contains("ignore_stored_settings"), "{error}");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_memory_limit_that_is_too_small_says_what_suffices() -> Result<()> {
    let error = Pglite::builder().memory_limit(100 << 20).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let message = error.to_string();
    let least = message.split("at least ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let least: u64 = least.parse().unwrap_or_else(|_| panic!("{message}"));
    let mut db = Pglite::builder().memory_limit(least << 20).open()?;
    assert_eq!(db.query_one("SELECT count(*) FROM pg_class, pg_type", &[])?.len(), 1);
    db.batch_execute("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)")
}
