//! Ten million rows with flat memory. In a process of its own: what it measures is the process.

// A helper of a test fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::io::BufRead;

use pglite_oxide::Pglite;

const ROWS: i64 = 10_000_000;
/// What may come and go in a process that does nothing else, in bytes.
const SLACK: usize = 8 << 20;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn memory_stays_flat_over_ten_million_rows() {
    let mut db = Pglite::temporary().expect("a temporary database opens");
    let sql = "SELECT g, 'row ' || g FROM (SELECT generate_series(1, $1::bigint) g) s";
    let mut largest = 0;
    let mut warm = 0;
    let mut sum = 0;
    let mut rows = db.query_raw(sql, [ROWS]).unwrap();
    for (number, row) in (1..).zip(&mut rows) {
        sum += row.unwrap().get::<_, i64>(0);
        if number == 500_000 {
            warm = resident();
        } else if number % 100_000 == 0 {
            largest = largest.max(resident());
        }
    }
    assert_eq!(sum, ROWS * (ROWS + 1) / 2);
    assert!(largest < warm + SLACK, "{warm} bytes after 500,000 rows, {largest} at most");
    drop(rows);

    let before = resident();
    let lines = db.copy_out("COPY (SELECT generate_series(1, 10000000)) TO STDOUT").unwrap().lines();
    assert_eq!(lines.count(), ROWS as usize);
    let after = resident();
    assert!(after < before + SLACK, "{before} bytes before COPY, {after} after");
}
