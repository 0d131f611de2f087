//! What others may know of a session and do to it while its thread serves a client: whether it rests, and how to cancel its statement or end it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::protocol::TransactionStatus;
use crate::protocol::{CancelKey, Follower};
use crate::transport::Watch;
use crate::wasm::interrupts::{Flag, Interrupts};

/// A place for one session after the other.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<State>);

#[derive(Default)]
struct State {
    /// The session has a client.
    taken: bool,
    interrupts: Weak<Interrupts>,
    /// `None` while it works.
    rests: Option<TransactionStatus>,
    key: Option<CancelKey>,
    watch: Option<Watch>,
    /// Set when the client has left: see [`Presence::arrive`].
    left: Arc<AtomicBool>,
    /// It ends as soon as it rests, this session and every later one.
    closing: bool,
}

impl Presence {
    /// Whether there is a client.
    pub(crate) fn is_taken(&self) -> bool {
        self.lock().taken
    }

    /// Cancels the running statement, if the key is this session's.
    pub(crate) fn cancel(&self, key: CancelKey) -> bool {
        let state = self.lock();
        let fits = state.key == Some(key);
        if let Some(interrupts) = state.interrupts.upgrade().filter(|_| fits) {
            interrupts.flag(Flag::Cancel);
        }
        fits
    }

    /// Ends the session if its client is gone; with `take_over_idle`, also if it waits for its client
    /// and no transaction is open.
    pub(crate) fn make_room(&self, take_over_idle: bool) {
        let state = self.lock();
        let is_gone = state.watch.as_ref().is_some_and(|is_gone| is_gone());
        match state.rests {
            _ if !state.taken => (),
            // Its thread reads what the client sent last, and the end after that.
            Some(_) if is_gone => (),
            Some(TransactionStatus::Idle) if take_over_idle => state.end(),
            Some(_) => (),
            None if is_gone => {
                state.left.store(true, Ordering::SeqCst);
                state.end();
            }
            None => (),
        }
    }

    /// Ends the session when it has nothing to do, and every later one.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        if state.rests.is_some() {
            state.end();
        }
    }

    /// Ends the session, whatever it does.
    pub(crate) fn end(&self) {
        self.lock().end();
    }

    /// The session has a client. The result is set when the client has left: PostgreSQL has nothing to
    /// tell it from then on.
    pub(super) fn arrive(&self, interrupts: &Arc<Interrupts>, watch: Option<Watch>) -> Arc<AtomicBool> {
        let mut state = self.lock();
        let closing = state.closing;
        let interrupts = Arc::downgrade(interrupts);
        *state = State { taken: true, interrupts, watch, closing, ..State::default() };
        state.left.clone()
    }

    pub(super) fn rest(&self, follower: &Follower, interrupts: &Interrupts) {
        let mut state = self.lock();
        state.rests = follower.status();
        state.key = follower.key();
        if state.closing {
            interrupts.flag(Flag::Die);
        }
    }

    pub(super) fn work(&self) {
        self.lock().rests = None;
    }

    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        *state = State { closing: state.closing, ..State::default() };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&self) {
        if let Some(interrupts) = self.interrupts.upgrade() {
            interrupts.flag(Flag::Die);
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("taken", &self.taken).field("rests", &self.rests).finish_non_exhaustive()
    }
}
