//! Values of PostgreSQL's types through `postgres-types`, compared with the text that PostgreSQL
//! prints.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use pglite_oxide::types::{FromSqlOwned, PgLsn, Type};
use pglite_oxide::{FromSql, Pglite, ToSql};

const ROUNDS: usize = 200;

fn open() -> Pglite {
    Pglite::temporary().expect("a temporary database opens")
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn text(&mut self) -> String {
        let alphabet = ['a', 'Z', ' ', '\'', '"', '\\', 'é', '漢', '😀', '\n', ',', '{', '}'];
        (0..self.next() % 20).map(|_| alphabet[self.next() as usize % alphabet.len()]).collect()
    }
}

/// Sends values, and compares what PostgreSQL prints of each and what comes back.
fn round_trip<T>(db: &mut Pglite, type_: &str, values: impl IntoIterator<Item = T>, text: impl Fn(&T) -> String)
where
    T: ToSql + Sync + FromSqlOwned + PartialEq + Debug,
{
    let statement = db.prepare(&format!("SELECT $1::{type_} AS value, $1::{type_}::text")).unwrap();
    for value in values {
        let row = db.query_one(&statement, &[&value]).unwrap_or_else(|error| panic!("{type_} {value:?}: {error}"));
        assert_eq!(row.get::<_, &str>(1), text(&value), "{type_}");
        assert_eq!(row.get::<_, T>(0), value, "{type_}");
    }
    let row = db.query_one(&statement, &[&None::<T>]).unwrap();
    assert_eq!(row.get::<_, Option<T>>(0), None, "{type_}");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn numbers_and_text() {
    let mut db = open();
    let mut numbers = Numbers(1);
    let mut many = |edges: &[i64]| -> Vec<i64> {
        edges.iter().copied().chain((0..ROUNDS).map(|_| numbers.next() as i64)).collect()
    };
    round_trip(&mut db, "bool", [true, false], bool::to_string);
    let values = many(&[0, 1, -1, i64::MIN, i64::MAX]);
    round_trip(&mut db, "int8", values.clone(), i64::to_string);
    round_trip(&mut db, "int4", values.iter().map(|value| *value as i32), i32::to_string);
    round_trip(&mut db, "int2", values.iter().map(|value| *value as i16), i16::to_string);
    round_trip(&mut db, "oid", values.iter().map(|value| *value as u32), u32::to_string);
    round_trip(&mut db, "\"char\"", 1..=127i8, |value| (*value as u8 as char).to_string());
    let lsn = |value: &PgLsn| {
        let value = u64::from(*value);
        format!("{:X}/{:X}", value >> 32, value & 0xffff_ffff)
    };
    round_trip(&mut db, "pg_lsn", values.iter().map(|value| PgLsn::from(*value as u64)), lsn);

    // Both print the shortest text that reads back; they differ in when they use an exponent.
    let floats: Vec<f64> = values.iter().map(|value| f64::from_bits(*value as u64)).filter(|v| v.is_finite()).collect();
    let statement = db.prepare("SELECT $1::float8, $1::float8::text").unwrap();
    for value in floats.into_iter().chain([0.1, -0.0, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY]) {
        let row = db.query_one(&statement, &[&value]).unwrap();
        assert_eq!(row.get::<_, f64>(0).to_bits(), value.to_bits());
        let text = row.get::<_, &str>(1).replace("Infinity", "inf");
        assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
    }
    let statement = db.prepare("SELECT $1::float4, $1::float4::text").unwrap();
    for value in values.iter().map(|value| f32::from_bits(*value as u32)).filter(|value| value.is_finite()) {
        let row = db.query_one(&statement, &[&value]).unwrap();
        assert_eq!(row.get::<_, f32>(0).to_bits(), value.to_bits());
        assert_eq!(row.get::<_, &str>(1).parse::<f32>().unwrap().to_bits(), value.to_bits());
    }

    let mut numbers = Numbers(2);
    let texts: Vec<String> = (0..ROUNDS).map(|_| numbers.text()).collect();
    round_trip(&mut db, "text", texts.clone(), Clone::clone);
    round_trip(&mut db, "varchar", texts.clone(), Clone::clone);
    round_trip(&mut db, "name", texts.iter().map(|text| text.chars().take(10).collect::<String>()), Clone::clone);
    let bytes = texts.iter().map(|text| text.as_bytes().iter().map(|byte| byte ^ 0x80).collect::<Vec<u8>>());
    let hex = |bytes: &Vec<u8>| bytes.iter().fold("\\x".to_string(), |text, byte| format!("{text}{byte:02x}"));
    round_trip(&mut db, "bytea", bytes, hex);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn arrays_times_and_maps() {
    let mut db = open();
    let mut numbers = Numbers(3);
    let arrays: Vec<Vec<Option<i32>>> = (0..ROUNDS)
        .map(|_| {
            (0..numbers.next() % 9)
                .map(|_| (!numbers.next().is_multiple_of(4)).then(|| numbers.next() as i32))
                .collect()
        })
        .collect();
    let text = |array: &Vec<Option<i32>>| {
        let items: Vec<String> =
            array.iter().map(|item| item.map_or_else(|| "NULL".to_string(), |item| item.to_string())).collect();
        format!("{{{}}}", items.join(","))
    };
    round_trip(&mut db, "int4[]", arrays, text);
    let texts: Vec<Vec<String>> = (0..ROUNDS).map(|_| (0..3).map(|_| numbers.text()).collect()).collect();
    for value in texts {
        let row = db.query_one("SELECT $1::text[], array_to_string($1, '|')", &[&value]).unwrap();
        assert_eq!((row.get::<_, Vec<String>>(0), row.get::<_, String>(1)), (value.clone(), value.join("|")));
    }
    for seconds in (0..ROUNDS).map(|_| numbers.next() % 4_000_000_000) {
        let value = SystemTime::UNIX_EPOCH + Duration::from_micros(seconds * 1_000_000 + 123_456);
        let row = db.query_one("SELECT $1::timestamptz, extract(epoch FROM $1)::text", &[&value]).unwrap();
        assert_eq!((row.get::<_, SystemTime>(0), row.get::<_, String>(1)), (value, format!("{seconds}.123456")));
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn addresses() {
    let mut db = open();
    let mut numbers = Numbers(4);
    let addresses = (0..ROUNDS).map(|round| match round % 2 {
        0 => IpAddr::from((numbers.next() as u32).to_be_bytes()),
        _ => IpAddr::from((u128::from(numbers.next()) << 64 | u128::from(numbers.next())).to_be_bytes()),
    });
    for value in addresses.collect::<Vec<_>>() {
        let row = db.query_one("SELECT $1::inet, host($1)", &[&value]).unwrap();
        assert_eq!((row.get::<_, IpAddr>(0), row.get::<_, String>(1).parse().unwrap()), (value, value));
    }
}

/// A value of any type as the bytes that PostgreSQL sends.
#[derive(Debug, PartialEq)]
struct Raw(Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut pglite_oxide::types::private::BytesMut,
    ) -> Result<pglite_oxide::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(pglite_oxide::types::IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    pglite_oxide::types::to_sql_checked!();
}

/// Every type that has a binary form: PostgreSQL reads a sample from text and sends it; the bytes
/// go back in and print as the same text.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn every_built_in_type_goes_out_and_in_again() {
    let mut db = open();
    let samples: HashMap<&str, &str> = HashMap::from([
        ("bool", "true"),
        ("bytea", "\\x0001ff"),
        ("char", "x"),
        ("name", "a name"),
        ("int8", "-9223372036854775808"),
        ("int2", "-32768"),
        ("int4", "2147483647"),
        ("regproc", "now"),
        ("text", "zwölf"),
        ("oid", "4294967295"),
        ("tid", "(4294967295,65535)"),
        ("xid", "4294967295"),
        ("cid", "7"),
        ("json", "{\"a\": [1, null]}"),
        ("xml", "<a>b</a>"),
        ("xid8", "18446744073709551615"),
        ("point", "(1.5,-2)"),
        ("lseg", "[(0,1),(2,3)]"),
        ("path", "((0,0),(1,1),(2,0))"),
        ("box", "(2,3),(0,1)"),
        ("polygon", "((0,0),(1,1),(2,0))"),
        ("line", "{1,-1,0}"),
        ("cidr", "10.1.0.0/16"),
        ("float4", "3.4028235e+38"),
        ("float8", "-1.7976931348623157e+308"),
        ("circle", "<(1,2),3>"),
        ("macaddr8", "08:00:2b:01:02:03:04:05"),
        ("money", "$1,234.50"),
        ("macaddr", "08:00:2b:01:02:03"),
        ("inet", "2001:db8::1/64"),
        ("bpchar", "x"),
        ("varchar", "some text"),
        ("date", "4713-01-01 BC"),
        ("time", "23:59:59.999999"),
        ("timestamp", "1999-12-31 23:59:59.000001"),
        ("timestamptz", "2024-02-29 12:00:00+00"),
        ("interval", "1 year 2 mons -3 days +04:05:06.789"),
        ("timetz", "12:34:56.789+05:30"),
        ("bit", "1"),
        ("varbit", "10110011101"),
        ("numeric", "-12345678901234567890.000000000987654321"),
        ("regprocedure", "lower(text)"),
        ("regoper", "|/"),
        ("regoperator", "+(integer,integer)"),
        ("regclass", "pg_class"),
        ("regtype", "integer"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("pg_lsn", "16/B374D848"),
        ("tsvector", "'cat':3A 'fat':2B,4"),
        ("tsquery", "'fat' & ( 'rat' | 'cat':* )"),
        ("regconfig", "english"),
        ("regdictionary", "simple"),
        ("jsonb", "{\"a\": [1, null], \"b\": {}}"),
        ("jsonpath", "$.\"a\"[*]?(@ > 1)"),
        ("int4range", "[1,5)"),
        ("numrange", "(0.5,)"),
        ("tsrange", "empty"),
        ("tstzrange", "[\"2024-01-01 00:00:00+00\",\"2025-01-01 00:00:00+00\")"),
        ("daterange", "[2024-01-01,2024-12-31)"),
        ("int8range", "(,10)"),
        ("int4multirange", "{[1,3),[5,8)}"),
        ("nummultirange", "{[1.5,2.5]}"),
        ("tsmultirange", "{}"),
        ("tstzmultirange", "{[\"2024-01-01 00:00:00+00\",\"2025-01-01 00:00:00+00\")}"),
        ("datemultirange", "{[2024-01-01,2024-02-01)}"),
        ("int8multirange", "{(,1),[9,)}"),
        ("regrole", "postgres"),
        ("regnamespace", "pg_catalog"),
        ("regcollation", "\"C\""),
        ("refcursor", "a cursor"),
        ("pg_snapshot", "10:20:10,14,15"),
        ("txid_snapshot", "10:20:10,14,15"),
    ]);
    // Those that have no input of their own, or no binary form.
    let without = [
        "pg_node_tree",
        "pg_ndistinct",
        "pg_dependencies",
        "pg_mcv_list",
        "pg_brin_bloom_summary",
        "pg_brin_minmax_multi_summary",
        "aclitem",
        "gtsvector",
    ];
    let types = db
        .query(
            "SELECT typname::text, oid FROM pg_type WHERE typtype IN ('b', 'r', 'm') AND typcategory <> 'A' AND oid < 16384 \
             AND typnamespace = 'pg_catalog'::regnamespace ORDER BY oid",
            &[],
        )
        .unwrap();
    let mut checked = Vec::new();
    for row in &types {
        let (name, oid): (&str, u32) = (row.get(0), row.get(1));
        if without.contains(&name) {
            continue;
        }
        let sample = samples.get(name).unwrap_or_else(|| panic!("no sample for type {name}"));
        assert_eq!(Type::from_oid(oid).map(|type_| type_.name().to_string()).as_deref(), Some(name));
        for (type_, sample) in [
            (format!("pg_catalog.\"{name}\""), (*sample).to_string()),
            (format!("pg_catalog.\"{name}\"[]"), array(&mut db, name, sample)),
        ] {
            let sql = format!("SELECT $1::text::{type_} AS value, $1::text::{type_}::text");
            let sent = db.query_one(&sql, &[&sample]).unwrap_or_else(|error| panic!("{type_}: {error}"));
            let text: String = sent.get(1);
            assert_eq!(text, sample, "{type_}");
            let sql = format!("SELECT $1::{type_}, $1::{type_}::text");
            let back = db.query_one(&sql, &[&sent.get::<_, Raw>(0)]).unwrap_or_else(|error| panic!("{type_}: {error}"));
            assert_eq!((back.get::<_, Raw>(0), back.get::<_, String>(1)), (sent.get(0), text), "{type_}");
        }
        checked.push(name);
    }
    assert_eq!(checked.len(), samples.len(), "{checked:?}");
}

/// Text of an array with a value and NULL, as PostgreSQL prints it.
fn array(db: &mut Pglite, type_: &str, sample: &str) -> String {
    let sql = format!("SELECT ARRAY[$1::text::pg_catalog.\"{type_}\", NULL]::text");
    db.query_one(&sql, &[&sample]).unwrap().get(0)
}
