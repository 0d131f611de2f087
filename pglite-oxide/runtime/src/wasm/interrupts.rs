//! Interrupting a guest from any thread: the flags in its memory that CHECK_FOR_INTERRUPTS reads,
//! and the sleep that they end. It owns the flags' addresses and the timer thread of the process.
//! PostgreSQL handles the flags.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::fs::errno::{Errno, Result};
use crate::sync::delay_queue::{Key, LazyDelayQueue, Task};

/// What to interrupt a guest with; the value is the flag's place in `PglInterrupts`, whose first
/// place says "look at the others".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    Cancel = 1,
    Die = 2,
    Alarm = 3,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// What was waited for.
    Ready,
    /// A flag was set.
    Flag,
    /// The time.
    Timeout,
}

/// The way to one guest's flags. Outlives the guest: flagging a guest that is gone does nothing.
#[derive(Debug, Default)]
pub struct Interrupts {
    flags: Mutex<Option<Flags>>,
    changed: Condvar,
    /// Whatever else waits for the guest's flags: the connection to its client.
    waker: Mutex<Option<Waker>>,
    /// Number of the newest arming of the timer; older ones are void.
    armed: AtomicU64,
    /// The newest arming while it waits for its time.
    alarm: Mutex<Option<Key>>,
}

/// Address of `PglInterrupts` on this side.
#[derive(Debug, Clone, Copy)]
struct Flags(NonNull<AtomicI32>);

// SAFETY: the pointer leads to atomics, and `Interrupts` drops it before their memory goes.
unsafe impl Send for Flags {}

impl Interrupts {
    /// Connects to a guest's flags.
    ///
    /// # Safety
    /// `flags` must lead to four aligned `i32` that stay valid until `detach` returns.
    pub unsafe fn attach(&self, flags: NonNull<AtomicI32>) {
        *self.lock() = Some(Flags(flags));
    }

    /// Forgets the guest's flags, before its memory goes.
    pub fn detach(&self) {
        *self.lock() = None;
    }

    /// Sets a flag, makes the guest look, and ends its sleep.
    pub fn flag(&self, flag: Flag) {
        if let Some(flags) = *self.lock() {
            flags.at(flag as usize).store(1, Ordering::SeqCst);
            flags.at(0).store(1, Ordering::SeqCst);
        }
        self.changed.notify_all();
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }

    /// Has a waker called for every flag that is set from now on, instead of the one before.
    pub fn set_waker(&self, waker: Option<Waker>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }

    /// Whether there is a flag that the guest has not seen.
    pub fn is_flagged(&self) -> bool {
        is_flagged(&self.lock())
    }

    /// Whether the guest is to die and has not seen that yet.
    pub fn is_dying(&self) -> bool {
        self.lock().is_some_and(|flags| flags.at(Flag::Die as usize).load(Ordering::SeqCst) != 0)
    }

    /// Sleeps until a flag is set, which returns true, or for the given time; without one, for
    /// ever.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        self.sleep(timeout, is_flagged)
    }

    /// Sleeps until a flag is set or something else is ready, which `wake` makes it look at, but no
    /// longer than the given time.
    pub fn wait_or(&self, timeout: Option<Duration>, ready: impl Fn() -> bool) -> WakeReason {
        match self.sleep(timeout, |flags| ready() || is_flagged(flags)) {
            _ if ready() => WakeReason::Ready,
            true => WakeReason::Flag,
            false => WakeReason::Timeout,
        }
    }

    /// Sleeps until a semaphore may be above zero.
    pub fn wait_semaphore(&self, semaphore: &AtomicI32) {
        self.sleep(None, |_| semaphore.load(Ordering::SeqCst) > 0);
    }

    /// Wakes a guest that waits, so that it checks its flags.
    pub fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Sets the alarm flag after a delay, instead of what was armed before; without a delay, never.
    pub fn arm(self: &Arc<Self>, delay: Option<Duration>) -> Result<()> {
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.armed.fetch_add(1, Ordering::SeqCst) + 1;
        // Statements come by the thousand and time-outs can be hours: what is void must not be kept
        // until then.
        if let Some(void) = alarm.take() {
            TIMER.remove(void);
        }
        let Some(delay) = delay else { return Ok(()) };
        let when = Instant::now().checked_add(delay).ok_or(Errno::INVAL)?;
        let added = TIMER.add(when, Alarm { number, target: Arc::downgrade(self) });
        *alarm = Some(added.map_err(|_| Errno::AGAIN)?);
        Ok(())
    }

    fn sleep(&self, timeout: Option<Duration>, done: impl Fn(&Option<Flags>) -> bool) -> bool {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut flags = self.lock();
        while !done(&flags) {
            flags = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => self.changed.wait_timeout(flags, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(flags).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<Flags>> {
        self.flags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a waker it makes the guest's thread look at what it waits for.
impl Wake for Interrupts {
    fn wake(self: Arc<Self>) {
        Self::wake(&self);
    }
}

/// Whether there is something for the guest to do. The first place is the guest's to clear when it
/// pleases; what it clears when it acts are the others.
fn is_flagged(flags: &Option<Flags>) -> bool {
    flags.is_some_and(|flags| (1..4).any(|place| flags.at(place).load(Ordering::SeqCst) != 0))
}

impl Flags {
    fn at(&self, place: usize) -> &AtomicI32 {
        debug_assert!(place < 4);
        // SAFETY: `attach`'s caller promised four of them, valid while `Interrupts` holds the
        // pointer.
        unsafe { self.0.add(place).as_ref() }
    }
}

/// One arming of a guest's timer.
#[derive(Debug)]
struct Alarm {
    number: u64,
    target: Weak<Interrupts>,
}

impl Task for Alarm {
    fn run(self) {
        if let Some(target) = self.target.upgrade()
            && target.armed.load(Ordering::SeqCst) == self.number
        {
            target.flag(Flag::Alarm);
        }
    }
}

/// The process's timer.
static TIMER: LazyDelayQueue<Alarm> = LazyDelayQueue::new("pglite-oxide-timer");

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(flags: &[AtomicI32; 4]) -> Arc<Interrupts> {
        let interrupts = Arc::new(Interrupts::default());
        // SAFETY: tests keep `flags` until they are done with the interrupts.
        unsafe { interrupts.attach(NonNull::from(flags).cast()) };
        interrupts
    }

    fn values(flags: &[AtomicI32; 4]) -> [i32; 4] {
        [0, 1, 2, 3].map(|place| flags[place].load(Ordering::SeqCst))
    }

    #[test]
    fn a_flag_from_another_thread_ends_a_wait_without_limit() {
        let flags = <[AtomicI32; 4]>::default();
        let interrupts = attached(&flags);
        std::thread::scope(|scope| {
            scope.spawn(|| interrupts.flag(Flag::Cancel));
            assert!(interrupts.wait(None));
        });
        assert_eq!(values(&flags), [1, 1, 0, 0]);
    }

    #[test]
    fn a_wait_times_out() {
        let flags = <[AtomicI32; 4]>::default();
        assert!(!attached(&flags).wait(Some(Duration::from_millis(1))));
    }

    #[test]
    fn an_alarm_that_was_replaced_never_rings() {
        let flags = <[AtomicI32; 4]>::default();
        let interrupts = attached(&flags);
        interrupts.arm(Some(Duration::ZERO)).unwrap();
        assert!(interrupts.wait(None));
        assert_eq!(values(&flags), [1, 0, 0, 1]);
        flags.iter().for_each(|flag| flag.store(0, Ordering::SeqCst));
        interrupts.arm(Some(Duration::from_millis(5))).unwrap();
        interrupts.arm(None).unwrap();
        // One thread serves all alarms in their order: when a later one rings, the first is over.
        let later = <[AtomicI32; 4]>::default();
        let other = attached(&later);
        other.arm(Some(Duration::from_millis(10))).unwrap();
        assert!(other.wait(None));
        assert_eq!((values(&flags), values(&later)), ([0, 0, 0, 0], [1, 0, 0, 1]));
    }

    #[test]
    fn armings_that_are_void_are_not_kept() {
        let interrupts = Arc::new(Interrupts::default());
        for _ in 0..10_000 {
            interrupts.arm(Some(Duration::from_secs(3600))).unwrap();
        }
        // Tests beside this one have a few of their own.
        assert!(TIMER.len() < 100, "{}", TIMER.len());
        interrupts.arm(None).unwrap();
    }

    #[test]
    fn a_guest_that_is_gone_is_left_alone() {
        let flags = <[AtomicI32; 4]>::default();
        let interrupts = attached(&flags);
        interrupts.detach();
        interrupts.flag(Flag::Cancel);
        assert_eq!(values(&flags), [0, 0, 0, 0]);
    }
}
