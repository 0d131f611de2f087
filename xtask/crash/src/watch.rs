//! Runs work on several threads with a watchdog: each piece of work has a name, and a thread that
//! hangs ends the program with that name.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for one piece of work. None takes more than a few seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Interval of the watchdog's checks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Interval of its progress reports.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// A failed piece of work: its number and the error.
pub(crate) type Failure = (usize, String);

/// Runs the pieces of work 0 to `count`, as many in parallel as the machine has processors, and
/// returns the failures in order. `describe` names a piece; a panic is a failure.
pub(crate) fn each(
    count: usize,
    describe: impl Fn(usize) -> String + Sync,
    work: impl Fn(usize) -> Result<(), String> + Sync,
) -> Vec<Failure> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(count.max(1));
    let running: Vec<Mutex<Option<(usize, Instant)>>> = (0..workers).map(|_| Mutex::new(None)).collect();
    let failures = Mutex::new(Vec::new());
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let hands: Vec<_> = running
            .iter()
            .map(|mine| {
                let (next, failures, work) = (&next, &failures, &work);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= count {
                            return;
                        }
                        *lock(mine) = Some((number, Instant::now()));
                        let result = catch_unwind(AssertUnwindSafe(|| work(number)));
                        *lock(mine) = None;
                        match result {
                            Ok(Ok(())) => (),
                            Ok(Err(failure)) => lock(failures).push((number, failure)),
                            Err(_) => lock(failures).push((number, "PANIC of this program, see above".to_string())),
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut told = Instant::now();
            while !is_over.load(Ordering::SeqCst) {
                thread::sleep(LOOK_EVERY);
                if told.elapsed() > TELL_EVERY {
                    told = Instant::now();
                    println!("{} of {count}", next.load(Ordering::SeqCst).min(count));
                }
                for mine in &running {
                    if let Some((number, since)) = *lock(mine)
                        && since.elapsed() > PATIENCE
                    {
                        // A hanging thread cannot be terminated alone.
                        eprintln!("error: HANG: number {number} ({}) takes longer than {PATIENCE:?}", describe(number));
                        process::exit(1);
                    }
                }
            }
        });
        for hand in hands {
            // Panics of the work are caught inside it.
            let _ = hand.join();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    failures
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_and_failures_are_told() {
        let done = Mutex::new(Vec::new());
        let failures = each(
            20,
            |number| number.to_string(),
            |number| {
                lock(&done).push(number);
                match number {
                    3 => Err("no".to_string()),
                    7 => panic!("as the test wants it"),
                    _ => Ok(()),
                }
            },
        );
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..20).collect::<Vec<_>>());
        assert_eq!(failures[0], (3, "no".to_string()));
        assert!(failures[1].0 == 7 && failures[1].1.contains("PANIC") && failures.len() == 2);
    }
}
