//! A session's guest, and the thread of this process that goes on with it while nobody uses it: commits that were acknowledged before they reached the disk,
//! as `synchronous_commit = off` allows, must reach it soon, whether or not another statement follows. It owns who has the guest when, and the
//! thread; what the guest does is PostgreSQL's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::backend::Instance;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::delay_queue::{Schedule, Task};

/// How long an acknowledged commit may wait for the disk while its session rests: PostgreSQL's default of `wal_writer_delay`.
pub const FLUSH_DELAY: Duration = Duration::from_millis(200);

/// The guest of one session.
#[derive(Debug, Clone)]
pub struct Guest(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    /// `None` while a worker has it.
    instance: Mutex<Option<Instance>>,
    /// A visit is on its way.
    announced: AtomicBool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Instance>> {
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    pub fn new(instance: Instance) -> Self {
        Self(Arc::new(Slot { instance: Mutex::new(Some(instance)), announced: AtomicBool::new(false) }))
    }

    /// No guest at all.
    pub fn gone() -> Self {
        Self(Arc::new(Slot { instance: Mutex::new(None), announced: AtomicBool::new(false) }))
    }

    /// The guest, for as long as the result is held.
    pub fn lock(&self) -> MutexGuard<'_, Option<Instance>> {
        self.0.lock()
    }

    /// Calls the guest, unless it is gone or with a worker.
    pub fn with<T>(&self, call: impl FnOnce(&mut Instance) -> T) -> Result<T> {
        let gone = || Error::new(ErrorKind::Closed, "the session's PostgreSQL is gone");
        self.lock().as_mut().map(call).ok_or_else(gone)
    }

    /// Takes the guest away.
    pub fn take(&self) -> Option<Instance> {
        self.lock().take()
    }

    /// Brings the guest back.
    pub fn put(&self, instance: Instance) {
        *self.lock() = Some(instance);
    }

    /// Has commits that are not durable made so in a while, by another thread. Without one, the next statement or the end of the session does it.
    pub fn flush_later(&self) {
        if let Some(rounds) = rounds()
            && !self.0.announced.swap(true, Ordering::SeqCst)
        {
            rounds.add(Instant::now() + FLUSH_DELAY, Visit { guest: Arc::downgrade(&self.0) });
        }
    }
}

/// One look after a guest.
#[derive(Debug)]
struct Visit {
    guest: Weak<Slot>,
}

impl Task for Visit {
    fn run(self) {
        let Some(slot) = self.guest.upgrade() else { return };
        // What is committed from here on announces itself, and a guest that is in use is announced again when it is not: others must not wait for it.
        slot.announced.store(false, Ordering::SeqCst);
        let Ok(mut guest) = slot.instance.try_lock() else { return };
        if let Some(instance) = guest.as_mut().filter(|instance| instance.is_alive() && instance.flush_due()) {
            // Should this end the guest, the session's next statement says how.
            let _ = instance.maintain();
        }
    }
}

/// The process's rounds, with their thread started at the first use.
fn rounds() -> Option<&'static Schedule<Visit>> {
    static ROUNDS: OnceLock<Option<Arc<Schedule<Visit>>>> = OnceLock::new();
    ROUNDS.get_or_init(|| Schedule::start("pglite-oxide-flush")).as_deref()
}
