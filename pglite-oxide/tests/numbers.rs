//! Floating point numbers as text, in and out: the guest's conversions are its own
//! (`pgl_strtod.c`, `pgl_dtoa.c`), and are compared with Rust's here.
//! `xtask/tests/guest_numbers.rs` compares the same C, compiled for the build machine, with many
//! more numbers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use pglite_oxide::Pglite;

/// Numbers of one statement.
const COUNT: usize = 20_000;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn finite(&mut self) -> f64 {
        loop {
            let value = f64::from_bits(self.next());
            if value.is_finite() {
                return value;
            }
        }
    }
}

/// Texts of numbers of all sizes and lengths, none of which is out of a `float8`'s range.
fn texts() -> Vec<String> {
    let mut random = Random(17);
    let mut texts: Vec<String> = [
        "0",
        "-0",
        "1.5e-300",
        "4.9406564584124654e-324",
        "2.4703282292062328e-324",
        "2.2250738585072011e-308",
        "1.7976931348623157e308",
        "9007199254740993",
        "9007199254740992.9999999999999999999999",
        "0.1",
        "1e23",
        "8.5e-45",
    ]
    .map(str::to_owned)
    .to_vec();
    while texts.len() < COUNT {
        let value = random.finite();
        texts.push(match random.below(5) {
            0 => format!("{value:e}"),
            1 => format!("{value:.*e}", random.below(25) as usize),
            2 => format!("{}.{:012}", random.below(1_000_000), random.below(1_000_000_000_000)),
            3 => format!("{}{}e{}", random.next(), random.next(), random.below(500) as i64 - 300),
            _ => format!("0.{:09}", random.below(1_000_000_000)),
        });
    }
    texts.retain(|text| text.parse::<f64>().unwrap().is_finite());
    texts
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn text_becomes_the_nearest_float8() {
    let mut db = Pglite::temporary().unwrap();
    let texts = texts();
    // PostgreSQL refuses what becomes zero and was not.
    let texts: Vec<String> =
        texts.into_iter().filter(|t| t.parse::<f64>().unwrap() != 0.0 || t.trim_start_matches('-') == "0").collect();
    let rows =
        db.query("SELECT x::float8 FROM unnest($1::text[]) WITH ORDINALITY u(x, n) ORDER BY n", &[&texts]).unwrap();
    assert_eq!(rows.len(), texts.len());
    for (text, row) in texts.iter().zip(rows) {
        let (found, expected) = (row.get::<_, f64>(0), text.parse::<f64>().unwrap());
        assert_eq!(found.to_bits(), expected.to_bits(), "{text}: {found:e} instead of {expected:e}");
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn text_becomes_the_nearest_float4() {
    let mut db = Pglite::temporary().unwrap();
    let in_range = |text: &String| {
        let value = text.parse::<f32>().unwrap();
        value.is_finite() && value != 0.0
    };
    let mut random = Random(4);
    let bits = std::iter::repeat_with(move || f32::from_bits(random.next() as u32));
    let values = bits.filter(|v| v.is_finite()).take(COUNT / 4).map(|v| format!("{v:e}"));
    let texts: Vec<String> = texts().into_iter().chain(values).filter(in_range).collect();
    let rows =
        db.query("SELECT x::float4 FROM unnest($1::text[]) WITH ORDINALITY u(x, n) ORDER BY n", &[&texts]).unwrap();
    assert_eq!(rows.len(), texts.len());
    for (text, row) in texts.iter().zip(rows) {
        let (found, expected) = (row.get::<_, f32>(0), text.parse::<f32>().unwrap());
        assert_eq!(found.to_bits(), expected.to_bits(), "{text}: {found:e} instead of {expected:e}");
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn numbers_that_are_none_or_out_of_range_are_errors() {
    let mut db = Pglite::temporary().unwrap();
    for (text, state) in [
        ("", "22P02"),
        (".", "22P02"),
        ("1e", "22P02"),
        ("0x", "22P02"),
        ("1.2.3", "22P02"),
        ("1e400", "22003"),
        ("-1e400", "22003"),
        ("1e-400", "22003"),
        ("2e-324", "22003"),
    ] {
        let error = db.query_one("SELECT $1::text::float8", &[&text]).unwrap_err();
        assert_eq!(error.code().unwrap().code(), state, "{text}: {error}");
    }
    let special =
        "SELECT ' inf'::float8::text, '-Infinity'::float8::text, 'NaN '::float8::text, '0x1p-3'::float8::text";
    let row = db.query_one(special, &[]).unwrap();
    let found: Vec<&str> = (0..4).map(|column| row.get(column)).collect();
    assert_eq!(found, ["Infinity", "-Infinity", "NaN", "0.125"]);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn numbers_are_printed_with_as_many_digits_as_asked_for() {
    let mut db = Pglite::temporary().unwrap();
    let mut random = Random(5);
    let values: Vec<f64> = (0..COUNT).map(|_| random.finite()).collect();
    db.batch_execute("SET extra_float_digits = 0").unwrap();
    let rows =
        db.query("SELECT x::text FROM unnest($1::float8[]) WITH ORDINALITY u(x, n) ORDER BY n", &[&values]).unwrap();
    for (value, row) in values.iter().zip(rows) {
        let (found, expected) = (row.get::<_, &str>(0), format!("{value:.14e}"));
        assert_eq!(found.parse::<f64>().unwrap(), expected.parse::<f64>().unwrap(), "{value:e}: {found}");
    }
    for (sql, expected) in [
        ("to_char(0.5::float8, 'FM9')", "0"),
        ("to_char(12345.678::float8, '99999.99')", " 12345.68"),
        ("to_char(-1.5e-7::float8, '9.999EEEE')", "-1.500e-07"),
        ("(1e300::float8)::numeric::text", &format!("1{}", "0".repeat(300))),
        ("(0.1::float8 + 0.2::float8)::numeric::text", "0.3"),
        ("(2.5::float4)::numeric::text", "2.5"),
    ] {
        let row = db.query_one(&format!("SELECT {sql}"), &[]).unwrap();
        assert_eq!(row.get::<_, &str>(0), expected, "{sql}");
    }
}
