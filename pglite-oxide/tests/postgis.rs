//! PostGIS: exceptions of its C++ libraries, and requests to cancel that reach them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/heap.rs"]
mod heap;

use std::sync::{Mutex, MutexGuard, PoisonError};

use pglite_oxide::{Pglite, SqlState};

/// The tests run one after the other: one measures the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn database() -> Pglite {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute("CREATE EXTENSION postgis").unwrap();
    db
}

fn text(db: &mut Pglite, sql: &str) -> String {
    db.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

/// A message of an error that a C++ exception became.
fn error(db: &mut Pglite, sql: &str) -> String {
    let error = db.batch_execute(sql).expect_err(sql);
    assert!(error.code().is_some(), "{sql}: {error}");
    assert_eq!(text(db, "SELECT ST_AsText(ST_Point(1, 2))"), "POINT(1 2)");
    error.to_string()
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn exceptions_are_caught_and_become_errors() {
    let _alone = alone();
    let mut db = database();
    // Caught inside of GEOS, which tries another method.
    let bow_tie = "'POLYGON((0 0, 2 2, 2 0, 0 2, 0 0))'::geometry";
    assert_eq!(text(&mut db, &format!("SELECT ST_IsValidReason({bow_tie})")), "Self-intersection[1 1]");
    let valid = text(&mut db, &format!("SELECT ST_AsText(ST_Normalize(ST_MakeValid({bow_tie})))"));
    assert_eq!(valid, "MULTIPOLYGON(((1 1,2 2,2 0,1 1)),((0 0,0 2,1 1,0 0)))");
    // Caught at the border between GEOS and PostGIS, and between PROJ and PostGIS.
    let message = error(&mut db, "SELECT ST_RelateMatch('101', '202')");
    assert!(message.contains("IllegalArgumentException"), "{message}");
    let message = error(&mut db, "SELECT ST_Transform('SRID=4326;POINT(1 2)'::geometry, '+proj=nothing')");
    assert!(message.contains("could not parse proj string"), "{message}");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_timeout_ends_work_inside_of_geos() {
    let _alone = alone();
    let mut db = database();
    db.batch_execute(
        "CREATE TABLE lines AS SELECT ST_Collect(ST_MakeLine(
             ST_Point(cos(radians(x)), sin(radians(270 - x))),
             ST_Point(sin(radians(x)), cos(radians(60 - x))))) AS g
         FROM generate_series(1, 1440) x;
         SET statement_timeout = '100ms'",
    )
    .unwrap();
    // It would take minutes.
    let error = db.query("SELECT ST_Buffer(g, 100) FROM lines", &[]).unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error}");
    assert_eq!(text(&mut db, "SELECT ST_AsText(ST_Centroid('LINESTRING(0 0, 2 0)'::geometry))"), "POINT(1 0)");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn thousands_of_exceptions_leave_no_memory_behind() {
    let _alone = alone();
    let mut db = database();
    let mut thrown = |rounds: i32| {
        db.batch_execute(&format!(
            "DO $$ BEGIN FOR i IN 1..{rounds} LOOP BEGIN
                 PERFORM ST_RelateMatch('101', '202');
             EXCEPTION WHEN internal_error THEN NULL; END; END LOOP; END $$"
        ))
        .unwrap();
        heap::in_use()
    };
    thrown(100);
    let before = thrown(1);
    let after = thrown(5000);
    assert!(after < before + (64 << 10), "heap: {before} bytes before, {after} after 5000 exceptions");
}
