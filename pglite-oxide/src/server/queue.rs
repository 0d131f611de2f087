//! The queue of clients that wait for a session, first come, first served.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::session_loop::Incoming;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Ticket, Incoming)>,
    tickets: u64,
    closed: bool,
}

/// A client's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Queue {
    /// Adds a client at the end. A closed queue gives it back.
    pub(super) fn enter(&self, client: Incoming) -> Result<Ticket, Incoming> {
        let mut state = self.lock();
        if state.closed {
            return Err(client);
        }
        state.tickets += 1;
        let ticket = Ticket(state.tickets);
        state.waiting.push_back((ticket, client));
        self.changed.notify_all();
        Ok(ticket)
    }

    /// Waits until a client has left the queue, for some time. True: it has.
    pub(super) fn wait(&self, ticket: Ticket, timeout: Duration) -> bool {
        let waits = |state: &mut State| state.waiting.iter().any(|(other, _)| *other == ticket);
        let (_state, timed_out) =
            self.changed.wait_timeout_while(self.lock(), timeout, waits).unwrap_or_else(PoisonError::into_inner);
        !timed_out.timed_out()
    }

    /// Runs `work` if the client is still in the queue, and keeps it there meanwhile.
    pub(super) fn while_waiting(&self, ticket: Ticket, work: impl FnOnce()) {
        let state = self.lock();
        if state.waiting.iter().any(|(other, _)| *other == ticket) {
            work();
        }
    }

    /// Removes a client, if it is still there.
    pub(super) fn withdraw(&self, ticket: Ticket) -> Option<Incoming> {
        let mut state = self.lock();
        let place = state.waiting.iter().position(|(other, _)| *other == ticket)?;
        state.waiting.remove(place).map(|(_, client)| client)
    }

    /// Waits for the next client and takes it; `None` when the queue is closed.
    pub(super) fn next(&self) -> Option<Incoming> {
        let empty = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let mut state = self.changed.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front();
        self.changed.notify_all();
        next.map(|(_, client)| client)
    }

    /// Closes the queue for new clients, and returns those that wait.
    pub(super) fn close(&self) -> Vec<Incoming> {
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        state.waiting.drain(..).map(|(_, client)| client).collect()
    }

    /// Whether the queue is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::pipe::pipe;

    fn client(name: &str) -> Incoming {
        Incoming { peer: Box::new(pipe().0), startup: name.as_bytes().into(), received: Default::default() }
    }

    fn name(client: Option<Incoming>) -> String {
        client.map(|client| String::from_utf8(client.startup.to_vec()).unwrap()).unwrap_or_default()
    }

    #[test]
    fn clients_are_served_in_their_order_and_may_give_up() {
        let queue = Queue::default();
        let [first, second, third] = ["first", "second", "third"].map(|name| queue.enter(client(name)).unwrap());
        assert!(!queue.wait(second, Duration::from_millis(1)));
        let mut waited = 0;
        queue.while_waiting(second, || waited += 1);
        assert_eq!(name(queue.withdraw(second)), "second");
        queue.while_waiting(second, || waited += 1);
        assert_eq!(waited, 1);
        assert!(queue.wait(second, Duration::ZERO) && queue.withdraw(second).is_none());
        assert_eq!((name(queue.next()), name(queue.next())), ("first".to_string(), "third".to_string()));
        assert!(queue.wait(first, Duration::ZERO) && queue.wait(third, Duration::ZERO));
    }

    #[test]
    fn a_session_waits_for_a_client_until_the_queue_is_closed() {
        let queue = Queue::default();
        std::thread::scope(|scope| {
            let session = scope.spawn(|| (name(queue.next()), queue.next().is_none()));
            let ticket = queue.enter(client("one")).unwrap();
            assert!(queue.wait(ticket, Duration::from_secs(60)));
            assert!(queue.close().is_empty());
            assert_eq!(session.join().unwrap(), ("one".to_string(), true));
        });
        assert!(queue.enter(client("late")).is_err());
    }
}
