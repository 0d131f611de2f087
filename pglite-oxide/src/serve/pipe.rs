//! The connection between a session's thread and its client, inside the process: bytes in both directions, a bounded number of them each. The session's
//! end blocks; the client's end never does and wakes a task instead, of whatever runtime. It owns who waits for what. What the bytes mean is others'.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};

use crate::interrupts::{Flag, Interrupts, Woken};

/// Bytes in each direction that one end has written and the other has not read.
const CAPACITY: usize = 128 * 1024;

/// Makes both ends for a session with these interrupts.
pub(crate) fn pipe(interrupts: Arc<Interrupts>) -> (ServerEnd, ClientEnd) {
    let shared = Arc::new(Shared { state: Mutex::default(), interrupts });
    (ServerEnd(shared.clone()), ClientEnd { shared, finished: false })
}

/// The session's end. Dropped, it ends what the client reads.
#[derive(Debug)]
pub(crate) struct ServerEnd(Arc<Shared>);

/// The client's end. Dropped without `finish`, it ends the session, whatever that is doing.
#[derive(Debug)]
pub(crate) struct ClientEnd {
    shared: Arc<Shared>,
    finished: bool,
}

/// What the wait for a client's bytes ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Some came.
    Bytes,
    /// The client sends no more.
    End,
    /// None came, but the guest has an interrupt to serve.
    Interrupt,
    /// The time is up.
    Timeout,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The session's thread waits for them and for the client with one condition variable. Its lock comes before `state`'s.
    interrupts: Arc<Interrupts>,
}

#[derive(Debug, Default)]
struct State {
    /// From the client.
    input: Half,
    /// To the client.
    output: Half,
    /// The client went without saying goodbye.
    abandoned: bool,
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

impl ServerEnd {
    /// Waits for bytes and adds them to `bytes`; for an interrupt of the guest too; and no longer than `timeout`.
    pub(crate) fn wait(&self, bytes: &mut BytesMut, timeout: Option<Duration>) -> Input {
        let woken = self.0.interrupts.wait_or(timeout, || self.0.has_input());
        let taken = self.take(bytes);
        match woken {
            _ if taken => Input::Bytes,
            Woken::Ready => Input::End,
            Woken::Flag => Input::Interrupt,
            Woken::Timeout => Input::Timeout,
        }
    }

    /// Waits for bytes and adds them to `bytes`. False: the client sends no more.
    pub(crate) fn read(&self, bytes: &mut BytesMut) -> bool {
        self.0.interrupts.wait_until(|| self.0.has_input());
        self.take(bytes)
    }

    /// Hands all bytes to the client, as fast as it reads. False: it reads no more.
    pub(crate) fn write(&self, bytes: &mut BytesMut) -> bool {
        loop {
            let waker = {
                let mut state = self.0.lock();
                if state.output.unread {
                    return false;
                }
                let count = bytes.len().min(CAPACITY.saturating_sub(state.output.bytes.len()));
                state.output.bytes.extend_from_slice(&bytes[..count]);
                bytes.advance(count);
                state.output.waker.take()
            };
            wake(waker);
            if bytes.is_empty() {
                return true;
            }
            self.0.interrupts.wait_until(|| self.0.takes_output());
        }
    }

    /// Whether the client went without saying goodbye.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.lock().abandoned
    }

    fn take(&self, bytes: &mut BytesMut) -> bool {
        let waker = {
            let mut state = self.0.lock();
            if state.input.bytes.is_empty() {
                return false;
            }
            if bytes.is_empty() {
                std::mem::swap(bytes, &mut state.input.bytes);
            } else {
                bytes.extend_from_slice(&state.input.bytes);
            }
            state.input.bytes.clear();
            state.input.waker.take()
        };
        wake(waker);
        true
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.0.lock();
            state.output.ended = true;
            state.input.unread = true;
            [state.input.waker.take(), state.output.waker.take()]
        };
        wakers.into_iter().for_each(wake);
    }
}

impl ClientEnd {
    /// Puts at most `limit` bytes of what the session wrote where they are wanted, and says how many; none: it writes no more.
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
            self.shared.interrupts.wake();
        }
        Poll::Ready(count)
    }

    /// Gives the session bytes and says how many it took; `None`: it takes none any more.
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
            self.shared.interrupts.wake();
        }
        Poll::Ready(Some(count))
    }

    /// Whether the session would take bytes, or none any more.
    pub(crate) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        let half = &mut state.input;
        if half.unread || half.ended || half.bytes.len() < CAPACITY {
            return Poll::Ready(());
        }
        half.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ends what the session reads, in good order: it processes what it was sent.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.shared.lock().input.ended = true;
        self.shared.interrupts.wake();
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.input.ended = true;
            state.output.unread = true;
            state.output.bytes = BytesMut::new();
            state.abandoned = !self.finished;
        }
        self.shared.interrupts.wake();
        if !self.finished {
            self.shared.interrupts.flag(Flag::Die);
        }
    }
}

impl Shared {
    fn has_input(&self) -> bool {
        let state = self.lock();
        state.input.ended || !state.input.bytes.is_empty()
    }

    fn takes_output(&self) -> bool {
        let state = self.lock();
        state.output.unread || state.output.bytes.len() <= CAPACITY / 2
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        pipe(Arc::default())
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn each_direction_takes_a_bounded_number_of_bytes() {
        let (server, client) = ends();
        let bytes = vec![7; CAPACITY + 1];
        assert_eq!(client.poll_write(&mut context(), &bytes), Poll::Ready(Some(CAPACITY)));
        assert!(client.poll_write(&mut context(), &bytes).is_pending());
        let mut taken = BytesMut::new();
        assert_eq!((server.wait(&mut taken, None), taken.len()), (Input::Bytes, CAPACITY));
        assert_eq!(client.poll_write(&mut context(), b"x"), Poll::Ready(Some(1)));
        assert!(server.read(&mut taken));
        assert_eq!(taken.len(), CAPACITY + 1);

        std::thread::scope(|scope| {
            let writer = scope.spawn(|| server.write(&mut BytesMut::from(&vec![8; 3 * CAPACITY][..])));
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
        let (server, mut client) = ends();
        assert_eq!(client.poll_write(&mut context(), b"bye"), Poll::Ready(Some(3)));
        client.finish();
        drop(client);
        let mut taken = BytesMut::new();
        assert_eq!(server.wait(&mut taken, None), Input::Bytes);
        assert_eq!(server.wait(&mut taken, None), Input::End);
        assert_eq!(&taken[..], b"bye");
        assert!(!server.read(&mut taken) && !server.is_abandoned());
        assert!(!server.write(&mut BytesMut::from(&b"unread"[..])));
    }

    #[test]
    fn a_client_that_is_dropped_frees_a_session_that_writes() {
        let (server, client) = ends();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| server.write(&mut BytesMut::from(&vec![8; 3 * CAPACITY][..])));
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
        let (server, client) = ends();
        assert!(server.write(&mut BytesMut::from(&b"last"[..])));
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
        let (server, _client) = ends();
        assert_eq!(server.wait(&mut BytesMut::new(), Some(Duration::from_millis(1))), Input::Timeout);
    }
}
