//! A process that opens and closes databases for ever. The only test of its program: it looks at what the whole process holds.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::thread;

use pglite_oxide::Pglite;

const PAGE: u64 = 4096;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE
}

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

fn round(number: usize) {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100)").unwrap();
    // Every way to go: closed, dropped, ended by itself, in the middle of a transaction.
    match number % 4 {
        0 => db.close().unwrap(),
        1 => drop(db),
        2 => drop(db.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")),
        _ => db.batch_execute("BEGIN; INSERT INTO t VALUES (0)").unwrap(),
    }
}

#[test]
fn a_thousand_databases_leave_nothing_behind() {
    // From eight threads first: everything that a process keeps is there after that.
    thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || (0..5).for_each(|number| round(thread + number)));
        }
    });
    (0..50).for_each(round);
    let before = (resident(), entries("/proc/self/fd"), entries("/proc/self/task"));
    (0..1000).for_each(round);
    let after = (resident(), entries("/proc/self/fd"), entries("/proc/self/task"));
    assert_eq!(after.1, before.1, "descriptors");
    // The linker of modules has helper threads that may be about to end.
    assert!(after.2 <= before.2 + 2, "threads: {} before, {} after", before.2, after.2);
    let grown = after.0.saturating_sub(before.0);
    assert!(grown < 16 << 20, "{grown} bytes more after 1000 rounds, {} before", before.0);
}
