//! The threads of connections whose handshake is in progress: their limit, and their end. A
//! shutdown closes their connections and joins them. The handshake itself belongs to `admission`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::spawn;
use crate::error::Error;
use crate::transport::{Closer, Peer};

/// Handshakes in progress at a time. This bounds what connections cost before they have a session.
const HANDSHAKES_MAX: usize = 100;

/// The threads.
#[derive(Debug, Default)]
pub(super) struct Handshakes(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    closed: bool,
    threads: Vec<Handshake>,
}

#[derive(Debug)]
struct Handshake {
    thread: JoinHandle<()>,
    reading: Reading,
}

/// A handshake that waits for its client's first packet. A shutdown closes the connection only
/// until the packet has been read: from then on the connection belongs to the queue, or to a
/// session.
#[derive(Clone)]
pub(super) struct Reading(Arc<Mutex<Option<Closer>>>);

/// Why a handshake was not started.
#[derive(Debug)]
pub(super) enum Refused {
    /// There are as many as there may be.
    Full(Box<dyn Peer>),
    /// The server is shutting down.
    Closed(Box<dyn Peer>),
    /// No thread could be spawned. The connection is closed.
    Failed(Error),
}

impl Handshakes {
    /// Runs a handshake on a thread of its own.
    pub(super) fn start(
        &self,
        peer: Box<dyn Peer>,
        handshake: impl FnOnce(Box<dyn Peer>, &Reading) + Send + 'static,
    ) -> Result<(), Refused> {
        let mut running = self.lock();
        if running.closed {
            return Err(Refused::Closed(peer));
        }
        // A thread that has ended, by a panic or not, does not count.
        running.threads.retain(|handshake| !handshake.thread.is_finished());
        if running.threads.len() >= HANDSHAKES_MAX {
            return Err(Refused::Full(peer));
        }
        let reading = Reading(Arc::new(Mutex::new(Some(peer.closer()))));
        let thread = spawn("client", {
            let reading = reading.clone();
            move || handshake(peer, &reading)
        });
        running.threads.push(Handshake { thread: thread.map_err(Refused::Failed)?, reading });
        Ok(())
    }

    /// Closes the connections that have not sent their first packet, and waits until every thread
    /// has ended. No handshake starts afterwards.
    pub(super) fn close(&self) {
        let threads = {
            let mut running = self.lock();
            running.closed = true;
            std::mem::take(&mut running.threads)
        };
        threads.iter().for_each(|handshake| handshake.reading.close());
        for handshake in threads {
            // A panic is reported by the handshake itself.
            let _ = handshake.thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// The packet has been read.
    pub(super) fn done(&self) {
        self.take();
    }

    fn close(&self) {
        if let Some(close) = self.take() {
            close();
        }
    }

    fn take(&self) -> Option<Closer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use bytes::BytesMut;

    use super::*;
    use crate::transport::Input;
    use crate::transport::pipe::pipe;

    #[test]
    fn a_shutdown_ends_handshakes_that_wait_and_lets_none_start() {
        let handshakes = Handshakes::default();
        let (server, _client) = pipe();
        let (end, ended) = channel();
        let wait = move |mut peer: Box<dyn Peer>, _: &Reading| {
            end.send(peer.wait(&mut BytesMut::new(), None)).unwrap();
        };
        handshakes.start(Box::new(server), wait).unwrap();
        handshakes.close();
        // The thread is joined: it has sent what its wait ended with.
        assert_eq!(ended.try_recv(), Ok(Input::End));
        let late = handshakes.start(Box::new(pipe().0), |_, _| ());
        assert!(matches!(late, Err(Refused::Closed(_))));
    }

    #[test]
    fn a_connection_whose_packet_was_read_is_not_closed() {
        let handshakes = Handshakes::default();
        let (server, client) = pipe();
        let (keep, kept) = channel();
        let read = move |peer: Box<dyn Peer>, reading: &Reading| {
            reading.done();
            keep.send(peer).unwrap();
        };
        handshakes.start(Box::new(server), read).unwrap();
        // It has read its packet when it hands the connection on.
        let mut peer = kept.recv().unwrap();
        handshakes.close();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert_eq!(client.poll_write(&mut context, b"x"), std::task::Poll::Ready(Some(1)));
        assert_eq!(peer.wait(&mut BytesMut::new(), None), Input::Bytes);
    }

    #[test]
    fn handshakes_that_panic_or_end_make_room() {
        let handshakes = Handshakes::default();
        for number in 0..3 * HANDSHAKES_MAX {
            let (end, ended) = channel::<()>();
            let work = move |_: Box<dyn Peer>, _: &Reading| {
                let _end = end;
                assert!(number % 2 == 0, "a handshake that panics");
            };
            handshakes.start(Box::new(pipe().0), work).unwrap();
            assert!(ended.recv().is_err());
            // The channel's end is the thread's last act but one.
            while !handshakes.lock().threads.iter().all(|handshake| handshake.thread.is_finished()) {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn there_is_a_bound() {
        let handshakes = Handshakes::default();
        let wait = |mut peer: Box<dyn Peer>, _: &Reading| {
            peer.wait(&mut BytesMut::new(), None);
        };
        let mut clients = Vec::new();
        for _ in 0..HANDSHAKES_MAX {
            let (server, client) = pipe();
            clients.push(client);
            handshakes.start(Box::new(server), wait).unwrap();
        }
        assert!(matches!(handshakes.start(Box::new(pipe().0), wait), Err(Refused::Full(_))));
        handshakes.close();
    }
}
