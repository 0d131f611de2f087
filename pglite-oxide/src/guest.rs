//! A session's guest, and the thread of this process that goes on with it while nobody uses it: commits that were acknowledged before they reached the disk,
//! as `synchronous_commit = off` allows, must reach it soon, whether or not another statement follows. It owns who has the guest when, and the
//! thread; what the guest does is PostgreSQL's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::instance::Instance;

/// How long an acknowledged commit may wait for the disk while its session rests: PostgreSQL's default of `wal_writer_delay`.
pub(crate) const FLUSH_DELAY: Duration = Duration::from_millis(200);

/// The guest of one session.
#[derive(Debug, Clone)]
pub(crate) struct Guest(Arc<Slot>);

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
    pub(crate) fn new(instance: Instance) -> Self {
        Self(Arc::new(Slot { instance: Mutex::new(Some(instance)), announced: AtomicBool::new(false) }))
    }

    /// The guest, for as long as the result is held.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Instance>> {
        self.0.lock()
    }

    /// Calls the guest, unless it is gone or with a worker.
    pub(crate) fn with<T>(&self, call: impl FnOnce(&mut Instance) -> T) -> Result<T> {
        let gone = || Error::new(ErrorKind::Closed, "the session's PostgreSQL is gone");
        self.lock().as_mut().map(call).ok_or_else(gone)
    }

    /// Takes the guest away.
    pub(crate) fn take(&self) -> Option<Instance> {
        self.lock().take()
    }

    /// Brings the guest back.
    pub(crate) fn put(&self, instance: Instance) {
        *self.lock() = Some(instance);
    }

    /// Has commits that are not durable made so in a while, by another thread. Without one, the next statement or the end of the session does it.
    pub(crate) fn flush_later(&self) {
        if let Some(rounds) = rounds() {
            rounds.announce(&self.0);
        }
    }
}

/// Guests to look after, by the time when.
#[derive(Debug, Default)]
struct Rounds {
    visits: Mutex<BinaryHeap<Reverse<Visit>>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Visit {
    when: Instant,
    guest: Weak<Slot>,
}

impl Rounds {
    fn announce(&self, guest: &Arc<Slot>) {
        if guest.announced.swap(true, Ordering::SeqCst) {
            return;
        }
        self.lock().push(Reverse(Visit { when: Instant::now() + FLUSH_DELAY, guest: Arc::downgrade(guest) }));
        self.changed.notify_all();
    }

    fn run(&self) {
        let mut visits = self.lock();
        loop {
            let left = visits.peek().map(|next| next.0.when.saturating_duration_since(Instant::now()));
            visits = match left {
                None => self.changed.wait(visits).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    if let Some(Reverse(visit)) = visits.pop() {
                        drop(visits);
                        visit.pay();
                        visits = self.lock();
                    }
                    visits
                }
                Some(left) => self.changed.wait_timeout(visits, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Visit>>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    fn pay(&self) {
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

impl PartialEq for Visit {
    fn eq(&self, other: &Self) -> bool {
        self.when == other.when
    }
}

impl Eq for Visit {}

impl PartialOrd for Visit {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Visit {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.when.cmp(&other.when)
    }
}

/// The process's rounds, with their thread started at the first use.
fn rounds() -> Option<&'static Rounds> {
    static ROUNDS: OnceLock<Option<Arc<Rounds>>> = OnceLock::new();
    let rounds = ROUNDS.get_or_init(|| {
        let rounds = Arc::new(Rounds::default());
        let thread = std::thread::Builder::new().name("pglite-oxide-flush".to_string());
        let runner = rounds.clone();
        thread.spawn(move || runner.run()).ok().map(|_| rounds)
    });
    rounds.as_deref()
}
