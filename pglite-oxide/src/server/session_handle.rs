//! Handle that other threads use to inspect, cancel or terminate a running session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::protocol::TransactionStatus;
use crate::protocol::{CancelKey, Follower};
use crate::transport::Watch;
use crate::wasm::interrupts::{Flag, Interrupts};

/// The handle of the sessions that run one after the other on one thread.
#[derive(Debug, Default)]
pub(crate) struct SessionHandle(Mutex<State>);

#[derive(Default)]
struct State {
    /// The session has a client.
    taken: bool,
    interrupts: Weak<Interrupts>,
    /// The state of the transaction while the session is at rest; `None` while it works.
    rests: Option<TransactionStatus>,
    key: Option<CancelKey>,
    watch: Option<Watch>,
    /// Set when the client has left: see [`SessionHandle::arrive`].
    left: Arc<AtomicBool>,
    /// This session and every later one is ended as soon as it is at rest.
    closing: bool,
    /// This session and every later one is ended also in the middle of a statement.
    ending: bool,
}

impl SessionHandle {
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

    /// Ends the session if its client is gone; with `take_over_idle`, also if it waits for its
    /// client and no transaction is open.
    pub(crate) fn make_room(&self, take_over_idle: bool) {
        let state = self.lock();
        let is_gone = state.watch.as_ref().is_some_and(|is_gone| is_gone());
        match state.rests {
            _ if !state.taken => (),
            // The session's thread reads what the client sent last, and then the end of the input.
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

    /// Ends this session and every later one as soon as it is at rest.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        if state.rests.is_some() {
            state.end();
        }
    }

    /// Ends this session and every later one, also in the middle of a statement.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ending = true;
        state.end();
    }

    /// Notes that the session has a client. The flag that this returns is set when the client has
    /// left: nothing is sent to it from then on.
    pub(super) fn arrive(&self, interrupts: &Arc<Interrupts>, watch: Option<Watch>) -> Arc<AtomicBool> {
        let mut state = self.lock();
        let State { closing, ending, .. } = *state;
        let interrupts = Arc::downgrade(interrupts);
        *state = State { taken: true, interrupts, watch, closing, ending, ..State::default() };
        // A client that says nothing is never at rest.
        if ending {
            state.end();
        }
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
        *state = State { closing: state.closing, ending: state.ending, ..State::default() };
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
