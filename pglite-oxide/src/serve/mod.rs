//! A session with a thread of its own, for a client that speaks PostgreSQL's protocol over a connection. It owns the session from the client's first packet to
//! the end of the guest. Where the connection leads is not its business: to a client in this process, or to a socket that somebody listened at.

mod follow;
mod lend;
pub(crate) mod peer;
pub(crate) mod pipe;
mod presence;
pub(crate) mod socket;
pub(crate) mod startup;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::error::{Error, ErrorKind, Result};
use crate::guest::FLUSH_DELAY;
use crate::instance::{Instance, Launch, Outcome};
use crate::interrupts::Interrupts;
use crate::protocol::TransactionStatus;
use crate::session::MESSAGE_MAX;
use crate::sqlstate::SqlState;
use crate::streams::{ClientLeft, More, Sink, Source};

pub(crate) use follow::CancelKey;
use follow::Follower;
pub(crate) use lend::lend;
use peer::{Input, Peer};
pub(crate) use pipe::{ClientEnd, pipe};
pub(crate) use presence::Presence;
pub(crate) use startup::fatal;

/// Tag of the message with which a client ends its session.
const TERMINATE: u8 = b'X';

/// Longest message of a client that PostgreSQL has not let in yet, in bytes: `PG_MAX_AUTH_TOKEN_LENGTH`.
const UNKNOWN_MESSAGE_MAX: usize = 65_535;

/// Starts a thread for a session that runs, and returns the client's end. `ended` is called with how the session ended, when all it held is let go.
///
/// # Errors
/// [`ErrorKind::Io`] if there can be no thread; the session is closed then.
#[cfg(feature = "async")]
pub(crate) fn start(db: crate::Pglite, ended: impl FnOnce(Result<()>) + Send + 'static) -> Result<ClientEnd> {
    let (server, client) = pipe();
    let thread = std::thread::Builder::new().name("pglite-oxide-session".to_string());
    thread
        .spawn(move || ended(run(db, server)))
        .map_err(|cause| Error::new(ErrorKind::Io, "cannot start a thread").with_cause(cause))?;
    Ok(client)
}

/// Serves a client until one of both ends.
#[cfg(feature = "async")]
fn run(mut db: crate::Pglite, mut end: pipe::ServerEnd) -> Result<()> {
    let mut received = BytesMut::new();
    match startup::accept(&mut db, &mut end, &mut received) {
        Ok(true) => (),
        Ok(false) => return db.close(),
        Err(error) => {
            // The client was told; that the session ends badly as well is not what it must know.
            let _ = db.close();
            return Err(error);
        }
    }
    let status = db.transaction_status();
    let mut instance = db.session.hand_over()?;
    end.attach(instance.interrupts());
    let client = Client::connect(Conversation::with(Box::new(end), received, status), &mut instance);
    Served { instance, client, presence: Arc::default() }.run()
}

/// A client that came: its connection, its start-up packet, and what it sent after that.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) peer: Box<dyn Peer>,
    pub(crate) startup: BytesMut,
    pub(crate) received: BytesMut,
}

/// Waits for the client of a session that is started; `None`: there will be none.
pub(crate) type Reception = Box<dyn FnMut() -> Option<Arrival> + Send>;

/// How a session ended that was started for a client to come.
#[derive(Debug)]
pub(crate) enum Ended {
    /// There was none.
    Unused,
    /// It had one, and ended in good order or not.
    Served(Result<()>),
}

/// Starts a session, on this thread, up to the point where all depends on the client; waits for one and serves it until one of both ends. `presence` tells others
/// about it meanwhile.
///
/// # Errors
/// Any, if the session ended before there was a client.
pub(crate) fn attend(launch: Launch, presence: Arc<Presence>, reception: Reception) -> Result<Ended> {
    let mut instance = Instance::new(launch)?;
    let expected = Expected { reception, presence: presence.clone(), interrupts: instance.interrupts().clone() };
    let client = Client::connect(Conversation::expecting(expected), &mut instance);
    // The first pump tells the client that PostgreSQL is ready.
    let outcome = match instance.boot() {
        Ok(Outcome::Drained) => instance.pump(),
        other => other,
    };
    // The connection is closed last: a client that sees its end finds the session's files at rest.
    let mut served = Served { instance, client, presence };
    let result = match outcome {
        Ok(Outcome::Drained) => served.run(),
        Ok(Outcome::Ended(code)) => served.ended(code),
        Err(error) => Err(error),
    };
    served.presence.leave();
    // PostgreSQL says itself why it ends a session, unless it crashes.
    if let Err(error) = &result
        && !served.instance.has_exited()
    {
        served.client.lock().tell(&startup::fatal(&SqlState::INTERNAL_ERROR, &error.to_string(), None));
    }
    let had_client = served.client.lock().peer.is_some();
    match result {
        result if had_client => Ok(Ended::Served(result)),
        result => result.map(|()| Ended::Unused),
    }
}

/// A guest at its client's service.
struct Served {
    instance: Instance,
    client: Arc<Client>,
    presence: Arc<Presence>,
}

impl Served {
    fn run(&mut self) -> Result<()> {
        let mut messages = BytesMut::new();
        let interrupts = self.instance.interrupts().clone();
        loop {
            let timeout = self.instance.flush_due().then_some(FLUSH_DELAY);
            self.presence.rest(&self.client.lock().follower, &interrupts);
            let input = self.client.lock().wait(&mut messages, timeout);
            self.presence.work();
            let outcome = match input {
                Input::Bytes => self.process(&mut messages),
                // An idle timeout, for one: PostgreSQL says so to the client at once.
                Input::Interrupt => self.instance.pump(),
                Input::Timeout => self.instance.maintain(),
                Input::End => {
                    messages.clear();
                    frontend::terminate(&mut messages);
                    return match self.process(&mut messages)? {
                        Outcome::Ended(code) => self.ended(code),
                        Outcome::Drained => {
                            Err(Error::new(ErrorKind::Protocol, "PostgreSQL went on after the end of its session"))
                        }
                    };
                }
            };
            if let Outcome::Ended(code) = outcome? {
                return self.ended(code);
            }
        }
    }

    fn process(&mut self, messages: &mut BytesMut) -> Result<Outcome> {
        self.instance.streams().send(messages);
        match self.instance.pump()? {
            Outcome::Drained if self.instance.maintenance_due() => self.instance.maintain(),
            outcome => Ok(outcome),
        }
    }

    fn ended(&mut self, code: i32) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let (abandoned, fatal) = {
            let mut client = self.client.lock();
            // A client that was refused may have been told so in an older protocol, which nobody here reads.
            let refused = client.peer.is_some() && client.follower.status().is_none();
            let abandoned = refused || client.peer.as_ref().is_some_and(|peer| peer.is_abandoned());
            (abandoned, client.follower.take_fatal())
        };
        match fatal {
            // A client that is dropped ends its session as an administrator would. One that goes when it has read why PostgreSQL ended it is another matter.
            Some(error) if !abandoned || *error.code() != SqlState::ADMIN_SHUTDOWN => {
                return Err(Error::ended(error));
            }
            None if !abandoned => (),
            _ => return Ok(()),
        }
        let log = self.instance.take_log();
        let message = format!("PostgreSQL did not shut down cleanly (exit code {code}): {}", log.trim_end());
        Err(Error::new(ErrorKind::Crashed, message))
    }
}

/// The client as the guest sees it: whole messages come from it. The lock is only ever taken by the session's thread.
struct Client(Mutex<Conversation>);

/// What has come from a client and gone to it.
struct Conversation {
    /// `None` until there is a client.
    peer: Option<Box<dyn Peer>>,
    /// Where a client comes from that is not there yet.
    expected: Option<Expected>,
    /// What came and was not handed on, because a message is not whole yet.
    received: BytesMut,
    /// The last message that was handed on is the client's Terminate.
    said_goodbye: bool,
    follower: Follower,
}

struct Expected {
    reception: Reception,
    presence: Arc<Presence>,
    interrupts: Arc<Interrupts>,
}

impl Client {
    /// Makes a client what the guest reads from and writes to.
    fn connect(client: Conversation, instance: &mut Instance) -> Arc<Self> {
        let client = Arc::new(Self(Mutex::new(client)));
        instance.streams().attach(Some(Box::new(FromClient(client.clone()))), Some(Box::new(ToClient(client.clone()))));
        client
    }

    fn lock(&self) -> MutexGuard<'_, Conversation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation {
    /// With a client that is let in already, in a session with this status.
    fn with(peer: Box<dyn Peer>, received: BytesMut, status: TransactionStatus) -> Self {
        Self { peer: Some(peer), expected: None, received, said_goodbye: false, follower: Follower::ready(status) }
    }

    fn expecting(expected: Expected) -> Self {
        Self {
            peer: None,
            expected: Some(expected),
            received: BytesMut::new(),
            said_goodbye: false,
            follower: Follower::default(),
        }
    }

    /// Waits as the connection does, but for whole messages, which it puts into the empty `messages`.
    fn wait(&mut self, messages: &mut BytesMut, timeout: Option<Duration>) -> Input {
        // A client that nobody knows yet sends little, and nothing makes room for more.
        let max = if self.follower.status().is_some() { MESSAGE_MAX } else { UNKNOWN_MESSAGE_MAX };
        loop {
            let len = whole(&self.received, max);
            if len > 0 {
                *messages = self.received.split_to(len);
                self.said_goodbye = last_tag(messages) == Some(TERMINATE);
                return Input::Bytes;
            }
            let Some(peer) = &mut self.peer else { return Input::End };
            match peer.wait(&mut self.received, timeout) {
                Input::Bytes => (),
                other => return other,
            }
        }
    }

    /// Waits for a client that is not there yet, and takes its start-up packet. False: there will be none.
    fn expect(&mut self, input: &mut BytesMut) -> bool {
        let Some(mut expected) = self.expected.take() else { return false };
        let Some(mut arrival) = (expected.reception)() else { return false };
        arrival.peer.attach(&expected.interrupts);
        expected.presence.arrive(&expected.interrupts, arrival.peer.watch());
        self.peer = Some(arrival.peer);
        self.received = arrival.received;
        *input = arrival.startup;
        true
    }

    /// Whether the client has left. What has come of it meanwhile is kept.
    fn left(&mut self) -> ClientLeft {
        let Some(peer) = &mut self.peer else { return ClientLeft::default() };
        let closed = peer.is_abandoned() || peer.watch().is_some_and(|is_gone| is_gone());
        // The rest of the input matters only if nothing is before it.
        let ended = self.received.is_empty() && peer.wait(&mut self.received, Some(Duration::ZERO)) == Input::End;
        let goodbye = ended || self.said_goodbye || self.received.first() == Some(&TERMINATE);
        ClientLeft { closed, goodbye }
    }

    /// Sends the client what is not PostgreSQL's to say.
    fn tell(&mut self, message: &[u8]) {
        if let Some(peer) = &mut self.peer {
            peer.write(&mut BytesMut::from(message));
        }
    }
}

struct FromClient(Arc<Client>);

impl Source for FromClient {
    fn more(&mut self, input: &mut BytesMut) -> More {
        let mut client = self.0.lock();
        if client.peer.is_none() {
            return if client.expect(input) { More::Messages } else { More::End };
        }
        match client.wait(input, None) {
            Input::Bytes => More::Messages,
            Input::Interrupt | Input::Timeout => More::Interrupt,
            Input::End => More::End,
        }
    }

    fn client_left(&mut self) -> ClientLeft {
        self.0.lock().left()
    }
}

struct ToClient(Arc<Client>);

impl Sink for ToClient {
    fn take(&mut self, output: &mut BytesMut) -> bool {
        let mut client = self.0.lock();
        let client = &mut *client;
        client.follower.follow(output);
        // What PostgreSQL says before there is a client is none of a later client's business. If it ends for that, the follower knows why.
        let taken = client.peer.as_mut().is_none_or(|peer| peer.write(output));
        output.clear();
        taken
    }
}

/// Length of the whole messages at the beginning of some bytes. A message that cannot be one makes them all count: PostgreSQL refuses it and ends the session.
fn whole(bytes: &[u8], max: usize) -> usize {
    let mut at = 0;
    while let Some(&[_, a, b, c, d]) = bytes.get(at..at + 5) {
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=max).contains(&len) {
            return bytes.len();
        }
        if bytes.len() - at - 1 < len {
            break;
        }
        at += 1 + len;
    }
    at
}

/// The tag of the last of some whole messages.
fn last_tag(messages: &[u8]) -> Option<u8> {
    let (mut at, mut last) = (0, None);
    while let Some(&[tag, a, b, c, d]) = messages.get(at..at + 5) {
        last = Some(tag);
        at = at.saturating_add(1 + u32::from_be_bytes([a, b, c, d]) as usize);
    }
    last
}

/// For fuzzing: what is handed on does not depend on how bytes were cut on their way.
///
/// # Panics
/// If it does.
pub(crate) fn check_framing(bytes: &[u8], size: usize) {
    for max in [UNKNOWN_MESSAGE_MAX, MESSAGE_MAX] {
        let at_once = whole(bytes, max);
        assert_eq!(whole(&bytes[..at_once], max), at_once);
        let mut taken = 0;
        for end in (0..bytes.len()).step_by(size.max(1)).chain([bytes.len()]) {
            taken += whole(&bytes[taken..end], max);
        }
        // Of what is no message, all that has come is handed on.
        assert!(taken == at_once || at_once == bytes.len(), "{taken} bytes in pieces of {size}, {at_once} at once");
    }
    let (mut at_once, mut in_pieces) = (Follower::default(), Follower::default());
    at_once.follow(bytes);
    bytes.chunks(size.max(1)).for_each(|piece| in_pieces.follow(piece));
    assert_eq!(at_once.key(), in_pieces.key());
    assert_eq!(at_once.status(), in_pieces.status());
    assert_eq!(
        at_once.take_fatal().map(|error| error.to_string()),
        in_pieces.take_fatal().map(|error| error.to_string())
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_messages_are_handed_on() {
        let mut bytes = BytesMut::new();
        frontend::sync(&mut bytes);
        frontend::query("SELECT 1", &mut bytes).unwrap();
        let lengths: Vec<usize> = (0..=bytes.len()).map(|len| whole(&bytes[..len], MESSAGE_MAX)).collect();
        let (first, all) = (5, bytes.len());
        assert_eq!(lengths[..first], [0; 5]);
        assert!(lengths[first..all].iter().all(|len| *len == first));
        assert_eq!(lengths[all], all);
    }

    #[test]
    fn the_last_of_several_messages_is_known() {
        let mut bytes = BytesMut::new();
        assert_eq!(last_tag(&bytes), None);
        frontend::query("SELECT 'X'", &mut bytes).unwrap();
        assert_eq!(last_tag(&bytes), Some(b'Q'));
        frontend::terminate(&mut bytes);
        assert_eq!(last_tag(&bytes), Some(TERMINATE));
        assert_eq!(last_tag(b"Q\xff\xff\xff\xffabc"), Some(b'Q'));
    }

    #[test]
    fn any_bytes_give_the_same_messages_in_any_pieces() {
        let mut bytes = BytesMut::new();
        frontend::sync(&mut bytes);
        frontend::query("SELECT 1", &mut bytes).unwrap();
        bytes.extend_from_slice(
            b"E\0\0\0\x17SFATAL\0C57P01\0Mgone\0\0Z\0\0\0\x05IK\0\0\0\x0c\0\0\0\x01\0\0\0\x02Q\xff\xff\xff\xffS",
        );
        for size in 1..=bytes.len() {
            (0..bytes.len()).for_each(|start| crate::testing::read_untrusted(&bytes[start..], size));
        }
    }

    #[test]
    fn what_is_no_message_is_for_postgresql_to_refuse() {
        assert_eq!(whole(b"Q\0\0\0\x03abc", MESSAGE_MAX), 8);
        assert_eq!(whole(b"Q\xff\xff\xff\xffabc", MESSAGE_MAX), 8);
        assert_eq!(whole(b"S\0\0\0\x04Q\xff\xff\xff\xff", MESSAGE_MAX), 10);
        assert_eq!(whole(b"p\0\0\x01\0abc", 255), 8);
    }
}
