//! The slot of a session's backend, and the thread that makes its commits durable while no
//! statement runs. Commits that were acknowledged before they were durable, as
//! `synchronous_commit = off` allows, must become durable soon, also without another statement.
//! Each session has its own thread, so a slow disk delays only its own databases. It owns access to
//! the backend, and the thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::delay_queue::{LazyDelayQueue, Task};
use crate::sync::lock;

/// How long an acknowledged commit may stay unflushed while its session is idle: PostgreSQL's
/// default of `wal_writer_delay`.
pub const FLUSH_DELAY: Duration = Duration::from_millis(200);

/// The guest of one session.
#[derive(Debug, Clone)]
pub struct BackendSlot(Arc<SlotState>);

#[derive(Debug)]
struct SlotState {
    /// `None` while a worker has it.
    instance: Mutex<Option<Backend>>,
    /// A flush is scheduled.
    announced: AtomicBool,
    /// Its thread is started by the first flush and ends with the session.
    flush_queue: LazyDelayQueue<FlushTask>,
}

impl SlotState {
    fn lock(&self) -> MutexGuard<'_, Option<Backend>> {
        lock(&self.instance)
    }
}

impl BackendSlot {
    pub fn new(instance: Backend) -> Self {
        Self::holding(Some(instance))
    }

    /// No guest at all.
    pub fn gone() -> Self {
        Self::holding(None)
    }

    fn holding(instance: Option<Backend>) -> Self {
        Self(Arc::new(SlotState {
            instance: Mutex::new(instance),
            announced: AtomicBool::new(false),
            flush_queue: LazyDelayQueue::new("pglite-oxide-flush"),
        }))
    }

    /// The guest, for as long as the result is held.
    pub fn lock(&self) -> MutexGuard<'_, Option<Backend>> {
        self.0.lock()
    }

    /// Calls the guest, unless it is gone or with a worker.
    pub fn with<T>(&self, call: impl FnOnce(&mut Backend) -> T) -> Result<T> {
        let gone = || Error::new(ErrorKind::Closed, "the session has ended");
        self.lock().as_mut().map(call).ok_or_else(gone)
    }

    /// Takes the guest away.
    pub fn take(&self) -> Option<Backend> {
        self.lock().take()
    }

    /// Brings the guest back.
    pub fn put(&self, instance: Backend) {
        *self.lock() = Some(instance);
    }

    /// Schedules the flush of commits that are not durable yet, on another thread. False: there is
    /// no such thread, because the system has no room for one.
    pub fn flush_later(&self) -> bool {
        if self.0.announced.swap(true, Ordering::SeqCst) {
            return true;
        }
        let task = FlushTask { guest: Arc::downgrade(&self.0) };
        let added = self.0.flush_queue.add(Instant::now() + FLUSH_DELAY, task);
        if added.is_err() {
            self.0.announced.store(false, Ordering::SeqCst);
        }
        added.is_ok()
    }
}

/// Makes the commits of a resting guest durable.
#[derive(Debug)]
struct FlushTask {
    guest: Weak<SlotState>,
}

impl Task for FlushTask {
    fn run(self) {
        let Some(slot) = self.guest.upgrade() else { return };
        // What is committed from here on announces itself, and a guest that is in use is announced
        // again when it is not: others must not wait for it.
        slot.announced.store(false, Ordering::SeqCst);
        let Ok(mut guest) = slot.instance.try_lock() else { return };
        if let Some(instance) = guest.as_mut().filter(|instance| instance.is_alive() && instance.flush_due()) {
            // Should this end the guest, the session's next statement says how.
            let _ = instance.maintain();
        }
    }
}
