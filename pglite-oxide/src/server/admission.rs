//! Connection admission: accept, read the start-up packet, queue for a session, reject on timeout.
//! A slow or silent client costs a thread until its time is up, and nothing else. Of what a client
//! says to PostgreSQL, only the application name is read, to recognize `pg_isready`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::handshakes::{Reading, Refused};
use super::listen::Listener;
use super::session_loop::Incoming;
use super::startup::{self, CANCEL_REQUEST, Encryption, GSS_REQUEST, PACKET_MAX, SSL_REQUEST, fatal};
use super::{SHUTTING_DOWN, Shared};
use crate::error::SqlState;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::CancelKey;
use crate::transport::pipe::{ClientEnd, pipe};
use crate::transport::socket::{Socket, Stream};
use crate::transport::{Input, Peer};

/// Time limit for a client's start-up packet: PostgreSQL's default of `authentication_timeout`.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client that gets no session may take to read why. The answer fits into the buffers of
/// a connection, so that only a client that sends requests and reads no answers needs any of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a waiting client checks whether the client that has the session is still there.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long the listener waits when the system cannot accept another connection.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// What `pg_isready` calls itself in its start-up packet, unless `PGAPPNAME` says otherwise.
const PROBE: &str = "pg_isready";

/// Accepts clients until the listener is to be closed.
pub(super) fn accept_loop(listener: &Listener, shared: &Arc<Shared>) {
    while let Some(accepted) = listener.next() {
        let result = accepted.and_then(|stream| {
            if let Stream::Tcp(stream) = &stream {
                // Answers are written whole: there is nothing to collect.
                stream.set_nodelay(true)?;
            }
            Socket::new(stream)
        });
        match result {
            Ok(socket) => start_handshake(shared, Box::new(socket)),
            Err(cause) if is_clients_fault(&cause) => (),
            Err(cause) => {
                shared.listen.report(Error::new(ErrorKind::Io, "cannot accept a connection").with_cause(cause));
                if !listener.pause(ACCEPT_RETRY_DELAY) {
                    return;
                }
            }
        }
    }
}

/// Admits a client of this process, and returns its end of the connection.
pub(super) fn connect(shared: &Arc<Shared>) -> Result<ClientEnd> {
    let (server, client) = pipe();
    start_handshake(shared, Box::new(server));
    Ok(client)
}

/// Tells clients why they get no session, and closes their connections.
pub(super) fn reject(clients: impl IntoIterator<Item = Incoming>, code: &SqlState, message: &str, hint: Option<&str>) {
    for mut client in clients {
        refuse(&mut *client.peer, code, message, hint);
    }
}

fn refuse(peer: &mut dyn Peer, code: &SqlState, message: &str, hint: Option<&str>) {
    peer.write(&mut fatal(code, message, hint), Some(Instant::now() + ANSWER_TIMEOUT));
}

/// Starts a client's handshake on a thread of its own.
fn start_handshake(shared: &Arc<Shared>, peer: Box<dyn Peer>) {
    let task = shared.clone();
    let run = move |peer: Box<dyn Peer>, reading: &Reading| {
        // A panic closes this connection only.
        if catch_unwind(AssertUnwindSafe(|| handshake(&task, peer, reading))).is_err() {
            task.listen.report(Error::new(ErrorKind::Crashed, "the thread of a client that connects panicked"));
        }
    };
    match shared.handshakes.start(peer, run) {
        Ok(()) => (),
        Err(Refused::Full(mut peer)) => {
            refuse(&mut *peer, &SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already", None);
        }
        Err(Refused::Closed(mut peer)) => refuse(&mut *peer, &SqlState::CANNOT_CONNECT_NOW, SHUTTING_DOWN, None),
        Err(Refused::Failed(error)) => shared.listen.report(error),
    }
}

fn handshake(shared: &Shared, mut peer: Box<dyn Peer>, reading: &Reading) {
    let packet = Packet::read(&mut *peer);
    reading.done();
    match packet {
        Some(Packet::Cancel(key)) => {
            // There is no answer: a guess must not be confirmed.
            let _ = shared.handles.iter().any(|handle| handle.cancel(key));
        }
        Some(Packet::Startup { startup, .. }) if startup::application_name(&startup) == Some(PROBE) => {
            answer_probe(shared, &mut *peer);
        }
        Some(Packet::Startup { startup, received }) => wait_for_session(shared, Incoming { peer, startup, received }),
        None => (),
    }
}

/// Tells `pg_isready` whether the server takes clients. For it, every error but 57P03 means yes. A
/// session for it would take the place of a client's.
fn answer_probe(shared: &Shared, peer: &mut dyn Peer) {
    if shared.failing.load(Ordering::SeqCst) {
        return refuse(peer, &SqlState::CANNOT_CONNECT_NOW, "the database system is not accepting connections", None);
    }
    let code = &SqlState::SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION;
    let hint = "A client whose application_name is pg_isready gets this answer instead of a session.";
    refuse(peer, code, "the database system is accepting connections", Some(hint));
}

fn wait_for_session(shared: &Shared, client: Incoming) {
    let deadline = Instant::now().checked_add(shared.listen.wait);
    let ticket = match shared.queue.enter(client) {
        Ok(ticket) => ticket,
        Err(client) => return reject([client], &SqlState::CANNOT_CONNECT_NOW, SHUTTING_DOWN, None),
    };
    loop {
        let left = deadline.map_or(POLL_INTERVAL, |deadline| deadline.saturating_duration_since(Instant::now()));
        // A client that has its session by now must not end it as one that is idle.
        shared.queue.while_waiting(ticket, || {
            if shared.handles.iter().all(|handle| handle.is_taken()) {
                shared.handles.iter().for_each(|handle| handle.make_room(shared.listen.take_over_idle));
            }
        });
        if shared.queue.wait(ticket, left.min(POLL_INTERVAL)) {
            return;
        }
        if left.is_zero() {
            let hint = "Another client has the database's one session. Close that connection, use one connection at a time (a pool of size 1), \
                        or have clients wait longer for their turn.";
            let message = format!("no session is free after {} ms", shared.listen.wait.as_millis());
            return reject(shared.queue.withdraw(ticket), &SqlState::TOO_MANY_CONNECTIONS, &message, Some(hint));
        }
    }
}

/// The first packet of a client.
#[derive(Debug)]
pub(crate) enum Packet {
    /// A start-up packet, whole, and what came after it.
    Startup {
        startup: BytesMut,
        received: BytesMut,
    },
    Cancel(CancelKey),
}

impl Packet {
    /// Reads it; `None` if the client leaves, takes too long, or sends something else. As in
    /// PostgreSQL, bytes that are no packet get no answer: the sender does not speak the protocol.
    pub(crate) fn read(peer: &mut dyn Peer) -> Option<Self> {
        let deadline = Instant::now() + STARTUP_TIMEOUT;
        let mut received = BytesMut::new();
        // PostgreSQL answers one request of each kind.
        let mut encryption = Encryption::default();
        loop {
            fill(peer, &mut received, 8, deadline)?;
            let len = (&received[..4]).get_u32() as usize;
            if !(8..=PACKET_MAX).contains(&len) {
                return None;
            }
            fill(peer, &mut received, len, deadline)?;
            let packet = &received[4..len];
            match (packet, (&packet[..4]).get_u32()) {
                (_, code @ (SSL_REQUEST | GSS_REQUEST)) => {
                    let ahead = received.len() > len;
                    received.clear();
                    // There is no encryption; clients that do not require it go on.
                    let (mut answer, goes_on) = encryption.answer(code, ahead);
                    (peer.write(&mut answer, Some(deadline)) && goes_on).then_some(())?;
                }
                ([_, _, _, _, key @ ..], CANCEL_REQUEST) => {
                    let (mut process_id, mut secret) = key.split_at_checked(4)?;
                    let key = CancelKey { process_id: process_id.get_i32(), secret: secret.try_get_i32().ok()? };
                    return Some(Self::Cancel(key));
                }
                _ => {
                    let startup = received.split_to(len);
                    return Some(Self::Startup { startup, received });
                }
            }
        }
    }
}

/// Reads until there are so many bytes.
fn fill(peer: &mut dyn Peer, received: &mut BytesMut, len: usize, deadline: Instant) -> Option<()> {
    while received.len() < len {
        let left = deadline.checked_duration_since(Instant::now())?;
        (peer.wait(received, Some(left)) == Input::Bytes).then_some(())?;
    }
    Some(())
}

fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn read(bytes: &[&[u8]]) -> (Option<Packet>, Vec<u8>) {
        let (mut server, mut client) = pipe();
        for piece in bytes {
            assert!(client.poll_write(&mut Context::from_waker(Waker::noop()), piece).is_ready());
        }
        client.finish();
        let packet = Packet::read(&mut server);
        drop(server);
        (packet, answer(&client))
    }

    fn answer(client: &ClientEnd) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(1..) = client.poll_read(&mut context, usize::MAX, |bytes| answer.extend_from_slice(bytes))
        {
        }
        answer
    }

    #[test]
    fn a_client_may_ask_for_encryption_and_goes_on_without() {
        let (packet, answer) = read(&[&[0, 0, 0, 8], &SSL_REQUEST.to_be_bytes()]);
        assert!(packet.is_none());
        assert_eq!(answer, b"N");
        let (packet, _) = read(&[&[0, 0, 0, 9, 0, 3, 0, 0, 0, b'Q', 0]]);
        let Some(Packet::Startup { startup, received }) = packet else { panic!("no start-up packet") };
        assert_eq!((startup.len(), &received[..]), (9, &b"Q\0"[..]));
    }

    #[test]
    fn bytes_that_came_ahead_of_the_answer_about_encryption_end_the_connection() {
        let (packet, answer) = read(&[&[0, 0, 0, 8], &SSL_REQUEST.to_be_bytes(), b"x"]);
        assert!(packet.is_none());
        assert!(answer.windows(5).any(|code| code == b"08P01"), "{answer:?}");
    }

    #[test]
    fn one_request_for_encryption_of_each_kind_is_answered() {
        let request = |code: u32| [8u32.to_be_bytes(), code.to_be_bytes()].concat();
        let (ssl, gss) = (request(SSL_REQUEST), request(GSS_REQUEST));
        for (first, second, version) in [(&ssl, &gss, "1234.5679"), (&gss, &ssl, "1234.5680")] {
            let (mut server, mut client) = pipe();
            let mut context = Context::from_waker(Waker::noop());
            std::thread::scope(|scope| {
                let reader = scope.spawn(move || Packet::read(&mut server));
                for request in [first, second, first] {
                    assert!(client.poll_write(&mut context, request).is_ready());
                    // The next request must not come ahead of the answer.
                    let mut answer = Vec::new();
                    while client
                        .poll_read(&mut context, usize::MAX, |bytes| answer.extend_from_slice(bytes))
                        .is_pending()
                    {
                        std::thread::yield_now();
                    }
                    if answer != b"N" {
                        let answer = String::from_utf8_lossy(&answer).into_owned();
                        let expected = format!("unsupported frontend protocol {version}: server supports 3.0 to 3.0");
                        assert!(answer.contains("C0A000") && answer.contains(&expected), "{answer}");
                        client.finish();
                        assert!(reader.join().unwrap().is_none());
                        return;
                    }
                }
                panic!("a third request was answered");
            });
        }
    }

    #[test]
    fn a_cancel_request_has_a_key() {
        let (packet, answer) =
            read(&[&[0, 0, 0, 16], &CANCEL_REQUEST.to_be_bytes(), &[0, 0, 0, 1, 255, 255, 255, 255]]);
        assert!(matches!(packet, Some(Packet::Cancel(CancelKey { process_id: 1, secret: -1 }))));
        assert!(answer.is_empty());
        assert!(read(&[&[0, 0, 0, 12], &CANCEL_REQUEST.to_be_bytes(), &[0, 0, 0, 1]]).0.is_none());
    }

    #[test]
    fn what_is_no_packet_gets_no_answer() {
        for len in [0u32, 7, 10_001, 1 << 31, u32::MAX] {
            let (packet, answer) = read(&[&len.to_be_bytes(), &[0; 8]]);
            assert!(packet.is_none());
            assert_eq!(answer, b"");
        }
        assert!(matches!(read(&[&[0, 0]]), (None, answer) if answer.is_empty()));
    }
}
