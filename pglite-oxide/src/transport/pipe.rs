//! The connection between a session's thread and a client in this process: bytes in both
//! directions, bounded. The session's end blocks; the client's end never blocks and wakes a task of
//! any runtime instead. It owns the buffers and the waiting, not the meaning of the bytes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use crate::transport::{Closer, Input, Peer, Watch};
use crate::wasm::interrupts::{Flag, Interrupts};

/// Bytes in each direction that one end has written and the other has not read.
const CAPACITY: usize = 128 * 1024;

/// Creates both ends.
pub(crate) fn pipe() -> (ServerEnd, ClientEnd) {
    let shared = Arc::new(Shared::default());
    (ServerEnd { shared: shared.clone(), interrupts: None }, ClientEnd { shared, finished: false })
}

/// The session's end. When it is dropped, the client reads the end of the stream.
#[derive(Debug)]
pub(crate) struct ServerEnd {
    shared: Arc<Shared>,
    interrupts: Option<Arc<Interrupts>>,
}

/// The client's end. Dropping it without `finish` ends the session, also in a statement.
#[derive(Debug)]
pub(crate) struct ClientEnd {
    shared: Arc<Shared>,
    finished: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The session's thread waits for it.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// From the client.
    input: Half,
    /// To the client.
    output: Half,
    /// The client's end was dropped without `finish`.
    abandoned: bool,
    /// Of the session that serves the client.
    interrupts: Weak<Interrupts>,
}

#[derive(Debug, Default)]
struct Half {
    bytes: BytesMut,
    /// Nothing is added any more.
    ended: bool,
    /// Nothing is taken any more.
    unread: bool,
    /// The client's task that waits for this half.
    waker: Option<Waker>,
}

impl Peer for ServerEnd {
    fn attach(&mut self, interrupts: &Arc<Interrupts>) {
        interrupts.set_waker(Some(Waker::from(self.shared.clone())));
        self.interrupts = Some(interrupts.clone());
        let abandoned = {
            let mut state = self.shared.lock();
            state.interrupts = Arc::downgrade(interrupts);
            state.abandoned
        };
        if abandoned {
            interrupts.flag(Flag::Die);
        }
    }

    fn wait(&mut self, bytes: &mut BytesMut, timeout: Option<Duration>) -> Input {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.shared.lock();
        loop {
            if !state.input.bytes.is_empty() {
                if bytes.is_empty() {
                    std::mem::swap(bytes, &mut state.input.bytes);
                } else {
                    bytes.extend_from_slice(&state.input.bytes);
                }
                state.input.bytes.clear();
                let waker = state.input.waker.take();
                drop(state);
                wake(waker);
                return Input::Bytes;
            }
            if state.input.ended {
                return Input::End;
            }
            if self.interrupts.as_ref().is_some_and(|interrupts| interrupts.is_flagged()) {
                return Input::Interrupt;
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Input::Timeout,
                Some(left) => self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn write(&mut self, bytes: &mut BytesMut, deadline: Option<Instant>) -> bool {
        let mut state = self.shared.lock();
        loop {
            if state.output.unread {
                return false;
            }
            let count = bytes.len().min(CAPACITY.saturating_sub(state.output.bytes.len()));
            state.output.bytes.extend_from_slice(&bytes[..count]);
            bytes.advance(count);
            let waker = state.output.waker.take();
            drop(state);
            wake(waker);
            if bytes.is_empty() {
                return true;
            }
            state = self.shared.lock();
            while !state.output.unread && state.output.bytes.len() > CAPACITY / 2 {
                if self.interrupts.as_ref().is_some_and(|interrupts| interrupts.is_dying()) {
                    return false;
                }
                state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                    Some(Duration::ZERO) => return false,
                    Some(left) => {
                        self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                };
            }
        }
    }

    fn is_abandoned(&self) -> bool {
        self.shared.lock().abandoned
    }

    fn watch(&self) -> Option<Watch> {
        None
    }

    fn closer(&self) -> Closer {
        let shared = self.shared.clone();
        Box::new(move || {
            {
                let mut state = shared.lock();
                state.input.ended = true;
                state.output.unread = true;
            }
            shared.changed.notify_all();
        })
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.shared.lock();
            state.output.ended = true;
            state.input.unread = true;
            [state.input.waker.take(), state.output.waker.take()]
        };
        wakers.into_iter().for_each(wake);
    }
}

impl ClientEnd {
    /// Passes at most `limit` bytes that the session wrote to `put`, and returns their number; 0 is
    /// the end of the stream.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, limit: usize, put: impl FnOnce(&[u8])) -> Poll<usize> {
        let mut state = self.shared.lock();
        let half = &mut state.output;
        let before = half.bytes.len();
        if before == 0 {
            if half.ended {
                return Poll::Ready(0);
            }
            half.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = limit.min(before);
        put(&half.bytes[..count]);
        half.bytes.advance(count);
        // The session's thread waits for this only after it has filled the pipe.
        let wake = before > CAPACITY / 2 && half.bytes.len() <= CAPACITY / 2;
        drop(state);
        if wake {
            self.shared.changed.notify_all();
        }
        Poll::Ready(count)
    }

    /// Writes bytes for the session, and returns how many; `None`: the session reads no more.
    pub(crate) fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Option<usize>> {
        let mut state = self.shared.lock();
        let half = &mut state.input;
        if half.unread || half.ended {
            return Poll::Ready(None);
        }
        let before = half.bytes.len();
        let count = bytes.len().min(CAPACITY.saturating_sub(before));
        if count == 0 && !bytes.is_empty() {
            half.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        half.bytes.extend_from_slice(&bytes[..count]);
        drop(state);
        if before == 0 {
            self.shared.changed.notify_all();
        }
        Poll::Ready(Some(count))
    }

    /// Ready when a write would not block.
    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        let half = &mut state.input;
        if half.unread || half.ended || half.bytes.len() < CAPACITY {
            return Poll::Ready(());
        }
        half.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ends the stream that the session reads. The session processes what it was sent before.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.shared.lock().input.ended = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        let interrupts = {
            let mut state = self.shared.lock();
            state.input.ended = true;
            state.output.unread = true;
            state.output.bytes = BytesMut::new();
            state.abandoned = !self.finished;
            state.interrupts.upgrade()
        };
        self.shared.changed.notify_all();
        if let Some(interrupts) = interrupts.filter(|_| !self.finished) {
            interrupts.flag(Flag::Die);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For an interrupt of the guest: the session's thread looks again.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        // The lock orders this after the check of a thread that is about to wait.
        drop(self.lock());
        self.changed.notify_all();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (ServerEnd, ClientEnd) {
        pipe()
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn each_direction_takes_a_bounded_number_of_bytes() {
        let (mut server, client) = ends();
        let bytes = vec![7; CAPACITY + 1];
        assert_eq!(client.poll_write(&mut context(), &bytes), Poll::Ready(Some(CAPACITY)));
        assert!(client.poll_write(&mut context(), &bytes).is_pending());
        let mut taken = BytesMut::new();
        assert_eq!((server.wait(&mut taken, None), taken.len()), (Input::Bytes, CAPACITY));
        assert_eq!(client.poll_write(&mut context(), b"x"), Poll::Ready(Some(1)));
        assert_eq!((server.wait(&mut taken, None), taken.len()), (Input::Bytes, CAPACITY + 1));

        std::thread::scope(|scope| {
            let writer = scope.spawn(|| server.write(&mut BytesMut::from(&vec![8; 3 * CAPACITY][..]), None));
            let mut read = 0;
            while read < 3 * CAPACITY {
                match client.poll_read(&mut context(), usize::MAX, |_| ()) {
                    Poll::Ready(count) => {
                        assert!(count <= CAPACITY);
                        read += count;
                    }
                    Poll::Pending => std::thread::yield_now(),
                }
            }
            assert!(writer.join().unwrap());
        });
        assert!(client.poll_read(&mut context(), 1, |_| ()).is_pending());
    }

    #[test]
    fn a_client_that_finishes_is_read_to_its_end() {
        let (mut server, mut client) = ends();
        assert_eq!(client.poll_write(&mut context(), b"bye"), Poll::Ready(Some(3)));
        client.finish();
        drop(client);
        let mut taken = BytesMut::new();
        assert_eq!(server.wait(&mut taken, None), Input::Bytes);
        assert_eq!(server.wait(&mut taken, None), Input::End);
        assert_eq!(&taken[..], b"bye");
        assert!(!server.is_abandoned());
        assert!(!server.write(&mut BytesMut::from(&b"unread"[..]), None));
    }

    #[test]
    fn a_client_that_is_dropped_frees_a_session_that_writes() {
        let (mut server, client) = ends();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| server.write(&mut BytesMut::from(&vec![8; 3 * CAPACITY][..]), None));
            while client.poll_read(&mut context(), 1, |_| ()).is_pending() {
                std::thread::yield_now();
            }
            drop(client);
            assert!(!writer.join().unwrap());
        });
        assert!(server.is_abandoned());
    }

    #[test]
    fn a_session_that_goes_ends_what_is_read_and_refuses_what_is_written() {
        let (mut server, client) = ends();
        assert!(server.write(&mut BytesMut::from(&b"last"[..]), None));
        drop(server);
        let mut last = Vec::new();
        assert_eq!(client.poll_read(&mut context(), 3, |bytes| last.extend_from_slice(bytes)), Poll::Ready(3));
        assert_eq!(client.poll_read(&mut context(), 3, |bytes| last.extend_from_slice(bytes)), Poll::Ready(1));
        assert_eq!(client.poll_read(&mut context(), 3, |_| panic!("there is no more")), Poll::Ready(0));
        assert_eq!(last, b"last");
        assert_eq!(client.poll_write(&mut context(), b"x"), Poll::Ready(None));
    }

    #[test]
    fn a_wait_has_an_end() {
        let (mut server, _client) = ends();
        assert_eq!(server.wait(&mut BytesMut::new(), Some(Duration::from_millis(1))), Input::Timeout);
        let deadline = Some(Instant::now() + Duration::from_millis(1));
        assert!(!server.write(&mut BytesMut::from(&vec![8; 2 * CAPACITY][..]), deadline));
    }

    #[test]
    fn a_closer_ends_waits_and_writes() {
        let (mut server, _client) = ends();
        let close = server.closer();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| server.write(&mut BytesMut::from(&vec![8; 2 * CAPACITY][..]), None));
            close();
            assert!(!writer.join().unwrap());
        });
        assert_eq!(server.wait(&mut BytesMut::new(), None), Input::End);
    }
}
