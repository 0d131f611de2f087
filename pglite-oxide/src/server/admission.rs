//! How a client gets to a session: it is accepted, says what it wants, waits for its turn, and is told if there is none for it. A client that is slow, silent or no
//! client at all costs a thread for a while and nothing else. What it says to PostgreSQL is not looked at.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::listen::Listener;
use super::session_loop::Arrival;
use super::startup::fatal;
use super::{SHUTTING_DOWN, Shared, spawn};
use crate::error::SqlState;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::CancelKey;
use crate::server::startup::{CANCEL_REQUEST, GSS_REQUEST, PACKET_MAX, SSL_REQUEST};
use crate::transport::pipe::{ClientEnd, pipe};
use crate::transport::socket::{Socket, Stream};
use crate::transport::{Input, Peer};

/// How long a client may take for its start-up packet: PostgreSQL's default of `authentication_timeout`.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients at the door at a time. What they cost is bounded by this.
const CLIENTS_MAX: usize = 100;
/// How often a client that waits looks whether the one that has the session is still there.
const LOOK: Duration = Duration::from_millis(50);
/// How long the listener waits when the system has no room for another connection.
const SHORTAGE: Duration = Duration::from_millis(50);

/// Accepts clients until the listener is to be closed.
pub(super) fn stand(listener: &Listener, shared: &Arc<Shared>) {
    while let Some(accepted) = listener.next() {
        let result = accepted.and_then(|stream| {
            if let Stream::Tcp(stream) = &stream {
                // An answer is whole when it is written.
                stream.set_nodelay(true)?;
            }
            Socket::new(stream)
        });
        match result {
            Ok(socket) => receive(shared, socket),
            Err(cause) if is_clients_fault(&cause) => (),
            Err(cause) => {
                shared.listen.report(Error::new(ErrorKind::Io, "cannot accept a connection").with_cause(cause));
                if !listener.pause(SHORTAGE) {
                    return;
                }
            }
        }
    }
}

/// Lets a client of this process in, and returns its end of the connection.
pub(super) fn connect(shared: &Arc<Shared>) -> Result<ClientEnd> {
    let (server, client) = pipe();
    let shared = shared.clone();
    spawn("client", move || let_in(&shared, Box::new(server)))?;
    Ok(client)
}

/// Tells clients why they get no session.
pub(super) fn turn_away(
    clients: impl IntoIterator<Item = Arrival>,
    code: &SqlState,
    message: &str,
    hint: Option<&str>,
) {
    for mut client in clients {
        client.peer.write(&mut fatal(code, message, hint));
    }
}

/// Gives a client a thread of its own.
fn receive(shared: &Arc<Shared>, mut socket: Socket) {
    if shared.at_the_door.fetch_add(1, Ordering::SeqCst) >= CLIENTS_MAX {
        shared.leave_the_door();
        // It fits into the socket's buffer: nobody is waited for.
        socket.write(&mut fatal(&SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already", None));
        return;
    }
    let task = shared.clone();
    let thread = spawn("client", move || {
        let_in(&task, Box::new(socket));
        task.leave_the_door();
    });
    if let Err(error) = thread {
        shared.leave_the_door();
        shared.listen.report(error);
    }
}

fn let_in(shared: &Shared, mut peer: Box<dyn Peer>) {
    match Packet::read(&mut *peer) {
        Some(Packet::Cancel(key)) => {
            // No answer: whoever guesses learns nothing.
            let _ = shared.presences.iter().any(|presence| presence.cancel(key));
        }
        Some(Packet::Startup { startup, received }) => wait_for_session(shared, Arrival { peer, startup, received }),
        None => (),
    }
}

fn wait_for_session(shared: &Shared, client: Arrival) {
    let deadline = Instant::now().checked_add(shared.listen.wait);
    let ticket = match shared.queue.enter(client) {
        Ok(ticket) => ticket,
        Err(client) => return turn_away([client], &SqlState::CANNOT_CONNECT_NOW, SHUTTING_DOWN, None),
    };
    loop {
        let left = deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()));
        // A client that has its session by now must not end it as one that is idle.
        shared.queue.while_waiting(ticket, || {
            if shared.presences.iter().all(|presence| presence.is_taken()) {
                shared.presences.iter().for_each(|presence| presence.end_if_idle(!shared.listen.take_over_idle));
            }
        });
        if shared.queue.wait(ticket, left.min(LOOK)) {
            return;
        }
        if left.is_zero() {
            let hint = "Another client has the database's one session. Close that connection, use one connection at a time (a pool of size 1), \
                        or have clients wait longer for their turn.";
            let message = format!("no session is free after {} ms", shared.listen.wait.as_millis());
            return turn_away(shared.queue.withdraw(ticket), &SqlState::TOO_MANY_CONNECTIONS, &message, Some(hint));
        }
    }
}

/// What a client begins with.
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
    /// Reads it; `None` if the client leaves, takes too long, or sends something else.
    pub(crate) fn read(peer: &mut dyn Peer) -> Option<Self> {
        let deadline = Instant::now() + PATIENCE;
        let mut received = BytesMut::new();
        loop {
            fill(peer, &mut received, 8, deadline)?;
            let len = (&received[..4]).get_u32() as usize;
            if !(8..=PACKET_MAX).contains(&len) {
                peer.write(&mut fatal(&SqlState::PROTOCOL_VIOLATION, "invalid length of startup packet", None));
                return None;
            }
            fill(peer, &mut received, len, deadline)?;
            let packet = &received[4..len];
            match (packet, (&packet[..4]).get_u32()) {
                // There is no encryption on one machine; clients that can do without go on. What came before the answer cannot be meant for anybody.
                (_, SSL_REQUEST | GSS_REQUEST) if received.len() > len => return None,
                (_, SSL_REQUEST | GSS_REQUEST) => {
                    received.clear();
                    peer.write(&mut BytesMut::from(&b"N"[..])).then_some(())?;
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
        assert!(packet.is_none() && answer.is_empty());
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
    fn what_is_no_packet_is_refused() {
        for len in [0u32, 7, 10_001, 1 << 31, u32::MAX] {
            let (packet, answer) = read(&[&len.to_be_bytes(), &[0; 8]]);
            assert!(packet.is_none());
            assert!(answer.starts_with(b"E") && answer.windows(5).any(|code| code == b"08P01"));
        }
        assert!(read(&[&[0, 0]]).0.is_none());
    }
}
