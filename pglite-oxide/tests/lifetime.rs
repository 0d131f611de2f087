//! What a process keeps of the databases that it opened and closed. The only test of its program:
//! it looks at everything that the process holds.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/heap.rs"]
mod heap;

use std::thread;
use std::time::{Duration, Instant};

use pglite_oxide::Pglite;

const ROUNDS: usize = 1000;

/// What the process holds at one moment.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Bytes that Rust code has allocated.
    heap: usize,
    /// Bytes of physical memory, those of C libraries and of guests included.
    resident: usize,
    /// Ranges of the address space in use.
    mappings: usize,
    descriptors: usize,
    threads: usize,
}

impl Held {
    fn now() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap();
        let entries = |name: &str| std::fs::read_dir(format!("/proc/self/{name}")).unwrap().count();
        let status = read("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            heap: heap::in_use(),
            resident: resident.trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10,
            mappings: read("maps").lines().count(),
            descriptors: entries("fd"),
            threads: entries("task"),
        }
    }
}

fn round(number: usize) {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100)").unwrap();
    // Every way to end: closed, dropped, ended by itself, in the middle of a transaction.
    match number % 4 {
        0 => db.close().unwrap(),
        1 => drop(db),
        2 => drop(db.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")),
        _ => db.batch_execute("BEGIN; INSERT INTO t VALUES (0)").unwrap(),
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_thousand_databases_leave_nothing_behind() {
    // From eight threads first: what a process keeps for good is there after that.
    thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || (0..5).for_each(|number| round(thread + number)));
        }
    });
    (0..50).for_each(round);
    let before = Held::now();
    (0..ROUNDS).for_each(round);
    // A thread may be about to end.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut after = Held::now();
    while after.threads > before.threads && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
        after = Held::now();
    }
    let held = format!("before: {before:?}\nafter {ROUNDS} rounds: {after:?}");
    eprintln!("{held}");
    // One of those before may have been about to end as well.
    assert!(after.threads <= before.threads, "{held}");
    assert_eq!(after.descriptors, before.descriptors, "{held}");
    // Not one in every tenth round; allocators of threads may have added a few.
    assert!(after.mappings < before.mappings + ROUNDS / 10, "{held}");
    // Far less than the smallest object of a session in each round.
    assert!(after.heap < before.heap + 1024 * ROUNDS, "{held}");
    assert!(after.resident < before.resident + (16 << 20), "{held}");
}
