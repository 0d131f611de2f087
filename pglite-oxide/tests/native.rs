//! Data directories without a root around them: opening one in place, copying and exporting one,
//! and what is refused. `cargo xtask native-directory` does the same with a PostgreSQL server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use pglite_oxide::{Error, ErrorKind, Pglite};

/// A data directory with a table.
fn directory() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let mut db = Pglite::open(place.path().join("db")).unwrap();
    db.batch_execute("CREATE TABLE t (a int8 PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)").unwrap();
    db.close().unwrap();
    let data = place.path().join("data");
    fs::rename(place.path().join("db/pgdata"), &data).unwrap();
    fs::remove_dir_all(place.path().join("db")).unwrap();
    (place, data)
}

fn sum(db: &mut Pglite) -> String {
    db.query_one("SELECT sum(a)::text FROM t", &[]).unwrap().get(0)
}

fn refused(result: Result<Pglite, Error>, kind: ErrorKind, part: &str) {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

fn open(data: &Path) -> Result<Pglite, Error> {
    Pglite::builder().data_directory(data).open()
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_data_directory_is_opened_in_place_if_it_is_named_as_one() {
    let (_place, data) = directory();
    refused(Pglite::open(&data), ErrorKind::Incompatible, "Builder::data_directory");
    // Where a server keeps its configuration elsewhere, there is none here.
    for file in ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::remove_file(data.join(file)).unwrap();
    }
    let mut db = open(&data).unwrap();
    assert_eq!(sum(&mut db), "500500");
    db.batch_execute("INSERT INTO t VALUES (5000000000)").unwrap();
    refused(open(&data), ErrorKind::InUse, "this process");
    db.close().unwrap();
    assert_eq!(sum(&mut open(&data).unwrap()), "5000500500");
    assert!(data.join("pg_hba.conf").exists() && !data.join("postmaster.pid").exists());
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_root_and_its_data_directory_are_one_database() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("db");
    let db = Pglite::open(&root).unwrap();
    refused(open(&root.join("pgdata")), ErrorKind::InUse, "is in use by this process");
    db.close().unwrap();
    let db = open(&root.join("pgdata")).unwrap();
    refused(Pglite::open(&root), ErrorKind::InUse, "is in use by this process");
    drop(db);
    Pglite::open(&root).unwrap().close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_copy_leaves_the_original_as_it_is() {
    let (place, data) = directory();
    // What a server that was killed leaves.
    fs::write(data.join("postmaster.pid"), "1999999999\n/data\n1\n5432\n\n\n\nready\n").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(data.join(".s.PGSQL.5432")).unwrap();
    let root = place.path().join("copy");
    let builder = Pglite::builder().copy_of(&data);
    let mut db = builder.clone().path(&root).open().unwrap();
    db.batch_execute("DELETE FROM t").unwrap();
    // The copy is a database of its own, and not overwritten.
    refused(builder.clone().path(&root).open(), ErrorKind::Config, "there is a database already");
    let mut memory = builder.clone().temporary().open().unwrap();
    assert_eq!(sum(&mut memory), "500500");
    memory.batch_execute("DELETE FROM t").unwrap();
    assert_eq!(sum(&mut Pglite::builder().copy_of(&data).open().unwrap()), "500500");
    refused(Pglite::builder().copy_of(&root).open(), ErrorKind::InUse, "this process");
    db.batch_execute("INSERT INTO t VALUES (7)").unwrap();
    db.close().unwrap();
    assert_eq!(sum(&mut Pglite::builder().copy_of(&root).open().unwrap()), "7");
    refused(builder.data_directory(&data).open(), ErrorKind::Config, "`copy_of`");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_export_is_a_data_directory() {
    let place = tempfile::tempdir().unwrap();
    let (root, target) = (place.path().join("db"), place.path().join("server"));
    let mut db = Pglite::open(&root).unwrap();
    db.batch_execute("CREATE TABLE t (a int8); INSERT INTO t VALUES (42)").unwrap();
    let export = |target: &Path| Pglite::builder().path(&root).export(target).map_err(|error| error.to_string());
    assert!(export(&target).unwrap_err().contains("in use"));
    db.close().unwrap();
    export(&target).unwrap();
    assert!(export(&target).unwrap_err().contains("there is something already"));
    assert_eq!(sum(&mut open(&target).unwrap()), "42");
    let temporary = Pglite::builder().export(place.path().join("other")).unwrap_err();
    assert_eq!(temporary.kind(), ErrorKind::Config);
    let mut names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["db", "server"]);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn what_cannot_be_opened_is_refused_with_the_way() {
    let (place, data) = directory();
    let refuse = |part: &str| {
        refused(open(&data), ErrorKind::Incompatible, part);
        refused(Pglite::builder().copy_of(&data).open(), ErrorKind::Incompatible, part);
        assert!(!data.join("postmaster.pid").exists());
    };
    refused(open(place.path()), ErrorKind::Incompatible, "it has no file PG_VERSION");
    fs::write(data.join("PG_VERSION"), "16\n").unwrap();
    refuse("made by PostgreSQL 16, but this is PostgreSQL 17");
    fs::write(data.join("PG_VERSION"), "17\n").unwrap();
    fs::write(data.join("standby.signal"), "").unwrap();
    refuse("pg_ctl promote");
    fs::remove_file(data.join("standby.signal")).unwrap();
    std::os::unix::fs::symlink("/tmp", data.join("pg_tblspc/16400")).unwrap();
    refuse("it has tablespaces");
    fs::remove_file(data.join("pg_tblspc/16400")).unwrap();
    fs::rename(data.join("pg_wal"), place.path().join("wal")).unwrap();
    std::os::unix::fs::symlink(place.path().join("wal"), data.join("pg_wal")).unwrap();
    refuse("its pg_wal is a symbolic link");
    fs::remove_file(data.join("pg_wal")).unwrap();
    fs::rename(place.path().join("wal"), data.join("pg_wal")).unwrap();

    // That of a 32-bit server, and so of older versions of this crate.
    let control = data.join("global/pg_control");
    let right = fs::read(&control).unwrap();
    let mut other = right.clone();
    other[248] = 0;
    let crc = crc32c::crc32c(&other[..288]);
    other[288..292].copy_from_slice(&crc.to_le_bytes());
    fs::write(&control, &other).unwrap();
    refuse("32 bit, blocks of 8192 bytes), but this is PostgreSQL 17");
    other[100] ^= 1;
    fs::write(&control, &other).unwrap();
    refuse("its checksum is wrong");
    fs::write(&control, &right).unwrap();
    open(&data).unwrap().close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_database_with_another_locale_is_refused_with_the_way() {
    let (_place, data) = directory();
    let mut db = Pglite::builder().data_directory(&data).setting("allow_system_table_mods", "on").open().unwrap();
    db.batch_execute("CREATE DATABASE other").unwrap();
    db.batch_execute(
        "UPDATE pg_database SET datcollate = 'en_US.UTF-8', datctype = 'en_US.UTF-8', datlocprovider = 'c', \
         datlocale = NULL WHERE datname = 'other'",
    )
    .unwrap();
    db.close().unwrap();
    let error = Pglite::builder().data_directory(&data).database("other").open().map(drop).unwrap_err().to_string();
    assert!(error.contains("en_US.UTF-8") && error.contains("pg_dump"), "{error}");
    assert_eq!(sum(&mut open(&data).unwrap()), "500500");
}

fn append(data: &Path, settings: &str) {
    let file = data.join("postgresql.conf");
    fs::write(&file, fs::read_to_string(&file).unwrap() + settings).unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn the_configuration_of_a_server_counts() {
    let (_place, data) = directory();
    append(&data, "work_mem = 7MB\nmaintenance_work_mem = 8GB\nmax_wal_size = 3GB\n");
    let mut db = open(&data).unwrap();
    let mut show = |name: &str| db.query_one(&format!("SHOW {name}"), &[]).unwrap().get::<_, String>(0);
    // 8 GiB are more than 32 bits can address.
    assert_eq!([show("work_mem"), show("maintenance_work_mem"), show("max_wal_size")], ["7MB", "2097151kB", "3GB"]);
    db.close().unwrap();

    // What the program does not contain is not loaded, and does not keep the database from opening.
    append(&data, "shared_preload_libraries = 'pg_stat_statements'\n");
    assert_eq!(sum(&mut open(&data).unwrap()), "500500");

    append(&data, "ssl = on\n");
    let error = open(&data).map(drop).unwrap_err().to_string();
    assert!(error.contains("postgresql.conf") && error.contains("ignore_stored_settings"), "{error}");
    let mut db = Pglite::builder().data_directory(&data).ignore_stored_settings().open().unwrap();
    assert_eq!(sum(&mut db), "500500");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_module_that_is_not_there_is_an_error_where_it_is_used() {
    let (_place, data) = directory();
    let mut db = Pglite::builder().data_directory(&data).setting("allow_system_table_mods", "on").open().unwrap();
    db.batch_execute(
        "CREATE EXTENSION pg_trgm; UPDATE pg_proc SET probin = '$libdir/pg_cron' WHERE proname = 'show_trgm'",
    )
    .unwrap();
    db.close().unwrap();
    let mut db = open(&data).unwrap();
    let error = db.batch_execute("SELECT show_trgm('a')").unwrap_err();
    assert!(error.kind() == ErrorKind::Database && error.to_string().contains("$libdir/pg_cron"), "{error}");
    assert_eq!(sum(&mut db), "500500");
}
