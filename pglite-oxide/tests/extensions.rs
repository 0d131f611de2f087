//! Extensions: what this build contains, and what a program is told about what it does not.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use pglite_oxide::{Durability, ErrorKind, Pglite, extensions};

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_extension_is_created_with_those_that_it_requires() {
    let mut db = Pglite::builder().extension(extensions::EARTHDISTANCE).open().unwrap();
    let rows = db.query("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1", &[]).unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["cube", "earthdistance"]);
    assert_eq!(extensions::EARTHDISTANCE.requires(), ["cube"]);
    db.close().unwrap();
}

/// From the second one on, temporary databases start with the extensions.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn temporary_databases_with_the_same_extensions_are_independent() {
    let mut identifiers = std::collections::BTreeSet::new();
    for (i, builder) in [Pglite::builder(), Pglite::builder(), Pglite::builder().temporary_on_disk()]
        .into_iter()
        .cycle()
        .take(6)
        .enumerate()
    {
        let mut db = builder.extension(extensions::CITEXT).extension(extensions::HSTORE).open().unwrap();
        assert_eq!(db.take_notices().len(), 0, "database {i}");
        db.batch_execute("CREATE TABLE t (c citext, h hstore); INSERT INTO t VALUES ('A', 'a => 1')").unwrap();
        let row = db.query_one("SELECT h -> 'a' FROM t WHERE c = 'a'", &[]).unwrap();
        assert_eq!(row.get::<_, String>(0), "1");
        let row = db.query_one("SELECT system_identifier FROM pg_control_system()", &[]).unwrap();
        identifiers.insert(row.get::<_, i64>(0));
        db.close().unwrap();
    }
    assert_eq!(identifiers.len(), 6);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn the_parts_of_one_source_are_created_one_by_one() {
    let mut db = Pglite::builder().extension(extensions::MODDATETIME).open().unwrap();
    let row = db.query_one("SELECT count(*), max(extname) FROM pg_extension WHERE extname <> 'plpgsql'", &[]).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, String>(1)), (1, "moddatetime".to_owned()));
    db.close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn what_must_be_loaded_early_is_loaded_when_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let builder = Pglite::builder().path(&root).durability(Durability::None);
    let mut db = builder.clone().extension(extensions::PG_STAT_STATEMENTS).open().unwrap();
    db.batch_execute("SELECT 40 + 2").unwrap();
    let sql = "SELECT calls FROM pg_stat_statements WHERE query = 'SELECT $1 + $2'";
    assert_eq!(db.query_one(sql, &[]).unwrap().get::<_, i64>(0), 1);
    db.close().unwrap();
    // The database has it still, and says what is missing.
    let mut db = builder.open().unwrap();
    let error = db.query(sql, &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55000");
    assert!(error.to_string().contains("shared_preload_libraries"), "{error}");
    db.close().unwrap();
    // Naming it again is all it needs.
    let mut db = builder.extension("pg_stat_statements").open().unwrap();
    db.query(sql, &[]).unwrap();
    db.close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn what_is_only_loaded_has_no_objects() {
    assert_eq!(extensions::AUTO_EXPLAIN.version(), "");
    let mut db = Pglite::builder().extension(extensions::AUTO_EXPLAIN).open().unwrap();
    let sql = "SELECT current_setting('auto_explain.log_min_duration'), count(*) FROM pg_extension";
    let row = db.query_one(sql, &[]).unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, i64>(1)), ("-1".to_owned(), 1));
    db.close().unwrap();
}

/// Libraries that are no extensions: a session loads them when it needs them.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn icu_and_xml_are_there_without_being_named_and_missing_ones_name_their_feature() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Pglite::builder().path(directory.path().join("root")).durability(Durability::None);
    let xml = "SELECT (xpath('/a/text()', '<a>1</a>'))[1]::text";
    let mut db = builder.open().unwrap();
    assert_eq!(db.query_one(xml, &[]).unwrap().get::<_, String>(0), "1");
    db.batch_execute(
        "CREATE COLLATION german (provider = icu, locale = 'de');
         CREATE TABLE words (word text COLLATE german);
         INSERT INTO words VALUES ('Zebra'), ('Äpfel'), ('apfel'), ('Ende')",
    )
    .unwrap();
    let sorted = "SELECT string_agg(word, ' ' ORDER BY word) FROM words";
    assert_eq!(db.query_one(sorted, &[]).unwrap().get::<_, String>(0), "apfel Äpfel Ende Zebra");
    db.batch_execute("CREATE DATABASE german TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'").unwrap();
    db.close().unwrap();
    let mut db = builder.clone().database("german").open().unwrap();
    let sql = "SELECT string_agg(word, ' ' ORDER BY word), upper('ß') FROM unnest('{b,ä,A}'::text[]) word";
    let row = db.query_one(sql, &[]).unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, String>(1)), ("A ä b".to_owned(), "SS".to_owned()));
    db.close().unwrap();

    for (name, feature, sql) in [("pgl_icu", "extensions-icu", sorted), ("pgl_xml", "extensions-xml", xml)] {
        let mut db = pglite_oxide::dev::without_feature(builder.clone(), feature).unwrap().open().unwrap();
        let text = db.query(sql, &[]).unwrap_err().to_string();
        assert!(text.contains(name) && text.contains(&format!("add the feature `{feature}`")), "{text}");
        assert_eq!(db.query_one("SELECT count(*) FROM words", &[]).unwrap().get::<_, i64>(0), 4);
        db.close().unwrap();
    }
    let without = pglite_oxide::dev::without_feature(builder.database("german"), "extensions-icu").unwrap();
    let text = without.open().unwrap_err().to_string();
    assert!(text.contains("add the feature `extensions-icu`"), "{text}");
}

/// A program without an extension that a database has.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_database_whose_extension_is_missing_opens_and_says_which_feature_adds_it() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Pglite::builder().path(directory.path().join("root")).durability(Durability::None);
    let mut db = builder.clone().extension(extensions::HSTORE).open().unwrap();
    db.batch_execute("CREATE TABLE t (h hstore); INSERT INTO t VALUES ('a => 1')").unwrap();
    db.close().unwrap();

    let without = pglite_oxide::dev::without_feature(builder.clone(), extensions::HSTORE.feature()).unwrap();
    let error = without.clone().extension(extensions::HSTORE).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let repair = "add the feature `extensions-contrib` of pglite-oxide";
    assert!(error.to_string().ends_with(&format!("does not contain the extension hstore: {repair}")), "{error}");
    let mut db = without.open().unwrap();
    assert_eq!(db.query_one("SELECT count(*) FROM t", &[]).unwrap().get::<_, i64>(0), 1);
    let error = db.query("SELECT h -> 'a' FROM t", &[]).unwrap_err();
    assert!(error.to_string().contains(repair), "{error}");
    let error = db.batch_execute("CREATE EXTENSION citext").unwrap_err();
    assert!(error.to_string().contains("extension \"citext\" is not available"), "{error}");
    // What it contains is not affected.
    assert_eq!(db.query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0), 1);
    db.close().unwrap();

    let mut db = builder.open().unwrap();
    assert_eq!(db.query_one("SELECT h -> 'a' FROM t", &[]).unwrap().get::<_, String>(0), "1");
    db.close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_name_that_this_build_does_not_have_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let error = Pglite::builder().path(&root).extension("citextt").open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.starts_with("there is no extension \"citextt\"; there are ") && text.contains("citext,"), "{text}");
    assert!(!root.exists());
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn every_constant_names_something_that_opens() {
    for extension in extensions::ALL {
        let db = Pglite::builder().extension(*extension).open();
        db.unwrap_or_else(|error| panic!("{}: {error}", extension.name())).close().unwrap();
    }
    assert!(extensions::ALL.len() >= 45);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_file_that_is_no_bundle_is_refused_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.bundle");
    let refused = || {
        let error = Pglite::builder().extension_bundle(&file).open().unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        (error.kind(), error.to_string())
    };
    assert_eq!(refused().0, ErrorKind::Io);
    std::fs::write(&file, "no bundle").unwrap();
    let (kind, message) = refused();
    assert_eq!(kind, ErrorKind::Payload);
    assert!(message.contains("it is no bundle"), "{message}");
}
