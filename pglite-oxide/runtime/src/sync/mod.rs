//! Helpers for threads. They know nothing of PostgreSQL.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod delay_queue;

/// Locks a mutex whose contents are valid also after a panic of a thread that had it.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
