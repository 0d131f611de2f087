//! Values of types that Cargo features add, to PostgreSQL and back. `--all-features` has all tests.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Debug;

use pglite_oxide::types::FromSqlOwned;
use pglite_oxide::{Pglite, ToSql};

/// Sends a value as this type, and compares what PostgreSQL prints and what comes back.
#[allow(dead_code, reason = "without features there is nothing to check")]
fn check<T: ToSql + Sync + FromSqlOwned + PartialEq + Debug>(type_: &str, value: T, text: &str) {
    let mut db = Pglite::temporary().expect("a temporary database opens");
    let sql = format!("SELECT $1::{type_}, $1::{type_}::text");
    let row = db.query_one(&sql, &[&value]).unwrap_or_else(|error| panic!("{type_} {value:?}: {error}"));
    assert_eq!((row.get::<_, T>(0), row.get::<_, &str>(1)), (value, text), "{type_}");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "with-chrono-0_4")]
fn chrono() {
    use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
    let at: DateTime<Utc> = "2024-02-29T12:34:56.789012Z".parse().unwrap();
    check("timestamptz", at, "2024-02-29 12:34:56.789012+00");
    check("timestamp", at.naive_utc(), "2024-02-29 12:34:56.789012");
    check("date", NaiveDate::from_ymd_opt(1969, 12, 31).unwrap(), "1969-12-31");
    check("time", NaiveTime::from_hms_opt(23, 59, 59).unwrap(), "23:59:59");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "with-time-0_3")]
fn time() {
    use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};
    let at = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
    check("timestamptz", at, "2023-11-14 22:13:20+00");
    check("timestamp", PrimitiveDateTime::new(at.date(), at.time()), "2023-11-14 22:13:20");
    check("date", Date::from_calendar_date(2024, Month::February, 29).unwrap(), "2024-02-29");
    check("time", Time::from_hms(1, 2, 3).unwrap(), "01:02:03");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "with-jiff-0_2")]
fn jiff() {
    let at: jiff::Timestamp = "2024-02-29T12:34:56.789012Z".parse().unwrap();
    check("timestamptz", at, "2024-02-29 12:34:56.789012+00");
    check("date", jiff::civil::date(2024, 2, 29), "2024-02-29");
    check("time", jiff::civil::time(1, 2, 3, 0), "01:02:03");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "with-uuid-1")]
fn uuid() {
    let text = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    check("uuid", text.parse::<uuid::Uuid>().unwrap(), text);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "with-serde_json-1")]
fn serde_json() {
    let value = serde_json::json!({"a": [1, null, "x"]});
    check("jsonb", value.clone(), "{\"a\": [1, null, \"x\"]}");
    check("json", value, "{\"a\":[1,null,\"x\"]}");
    check("jsonb", pglite_oxide::types::Json(vec![1, 2]), "[1, 2]");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "with-bit-vec-0_9")]
fn bit_vec() {
    check("varbit", [true, false, true].into_iter().collect::<bit_vec::BitVec>(), "101");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "with-eui48-1")]
fn eui48() {
    check("macaddr", eui48::MacAddress::new([8, 0, 0x2b, 1, 2, 3]), "08:00:2b:01:02:03");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "with-geo-types-0_7")]
fn geo_types() {
    use geo_types::{LineString, Point, Rect};
    check("point", Point::new(1.5, -2.0), "(1.5,-2)");
    check("box", Rect::new((0.0, 1.0), (2.0, 3.0)), "(2,3),(0,1)");
    check("path", LineString::from(vec![(0.0, 0.0), (1.0, 1.0)]), "[(0,0),(1,1)]");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "array-impls")]
fn arrays_of_fixed_length() {
    check("int4[]", [1i32, 2, 3], "{1,2,3}");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
#[cfg(feature = "derive")]
fn derived() {
    #[derive(Debug, PartialEq, ToSql, pglite_oxide::FromSql)]
    #[postgres(name = "mood", rename_all = "snake_case")]
    enum Mood {
        Sad,
        VeryHappy,
    }

    let mut db = Pglite::temporary().expect("a temporary database opens");
    db.batch_execute("CREATE TYPE mood AS ENUM ('sad', 'very_happy')").unwrap();
    for (mood, text) in [(Mood::Sad, "sad"), (Mood::VeryHappy, "very_happy")] {
        let row = db.query_one("SELECT $1::mood, $1::mood::text", &[&mood]).unwrap();
        assert_eq!((row.get::<_, Mood>(0), row.get::<_, &str>(1)), (mood, text));
    }
}
