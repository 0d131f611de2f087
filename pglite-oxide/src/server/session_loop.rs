//! Runs one session on a thread, for a client that speaks PostgreSQL's protocol over a connection,
//! from the client's first packet to the end of the guest. The connection itself, a socket or a
//! pipe in this process, belongs to `transport`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::backend::slot::FLUSH_DELAY;
use crate::backend::{Backend, Outcome};
use crate::client::session::MESSAGE_MAX;
use crate::cluster::{Data, control_file};
use crate::error::SqlState;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::TransactionStatus;
use crate::wasm::interrupts::Interrupts;
use crate::wasm::streams::{ClientLeft, More, Sink, Source};

use super::session_handle::SessionHandle;
use super::{attach, startup};
use crate::protocol::Follower;
#[cfg(feature = "async")]
use crate::transport::pipe::{self, ClientEnd};
use crate::transport::{Input, Peer};

/// How long a client may take to read why its session crashed.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest message of a client that PostgreSQL has not let in yet, in bytes:
/// `PG_MAX_AUTH_TOKEN_LENGTH`.
pub(crate) const UNKNOWN_MESSAGE_MAX: usize = 65_535;

/// Serves an open session on a thread of its own, and returns the client's end of the connection.
/// `ended` is called with the session's result when everything it held has been released.
///
/// # Errors
/// [`ErrorKind::Io`] if a thread cannot be spawned; the session is closed then.
#[cfg(feature = "async")]
pub(crate) fn start(db: crate::Pglite, ended: impl FnOnce(Result<()>) + Send + 'static) -> Result<ClientEnd> {
    let (server, client) = pipe::pipe();
    let thread = std::thread::Builder::new().name("pglite-oxide-session".to_string());
    thread
        .spawn(move || ended(run(db, server)))
        .map_err(|cause| Error::new(ErrorKind::Io, "cannot start a thread").with_cause(cause))?;
    Ok(client)
}

/// Serves a client until the client or the session ends.
#[cfg(feature = "async")]
fn run(mut db: crate::Pglite, mut end: pipe::ServerEnd) -> Result<()> {
    let mut received = BytesMut::new();
    match startup::accept(&mut db, &mut end, &mut received) {
        Ok(true) => (),
        Ok(false) => return db.close(),
        Err(error) => {
            // The client was told this error; an error of the close is secondary.
            let _ = db.close();
            return Err(error);
        }
    }
    let status = db.transaction_status();
    let data = db.data().clone();
    let mut instance = db.session.hand_over()?;
    end.attach(instance.interrupts());
    let client = Client::connect(Conversation::with(Box::new(end), received, status), &mut instance);
    Served { instance, client, handle: Arc::default(), data }.run(&mut || ())
}

/// A client that waits for a session: its connection, its start-up packet, and what it sent after
/// that.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) peer: Box<dyn Peer>,
    pub(crate) startup: BytesMut,
    pub(crate) received: BytesMut,
}

/// Waits for the next client; `None`: there will be none.
pub(crate) type NextClient = Box<dyn FnMut() -> Option<Incoming> + Send>;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It had no client.
    Unused,
    /// It had a client, and ended normally or with an error.
    Served(Result<()>),
}

/// Starts a session on this thread, up to the point where PostgreSQL reads the start-up packet,
/// waits for a client, and serves it until the client or the session ends. Other threads use
/// `handle` meanwhile; `leaving` is called when the client has terminated, before PostgreSQL ends
/// the session.
///
/// # Errors
/// That of the session, if it ended before it had a client.
pub(crate) fn serve_one(
    mut instance: Backend,
    handle: Arc<SessionHandle>,
    data: Data,
    next_client: NextClient,
    leaving: &mut dyn FnMut(),
) -> Result<Ended> {
    let expected = Expected { next_client, handle: handle.clone(), interrupts: instance.interrupts().clone() };
    let client = Client::connect(Conversation::expecting(expected), &mut instance);
    // The first pump tells the client that PostgreSQL is ready.
    let outcome = match instance.boot() {
        Ok(Outcome::Drained) => instance.pump(),
        other => other,
    };
    // The connection is closed last: when a client reads its end, the session's files are closed.
    let mut served = Served { instance, client, handle, data };
    let result = match outcome {
        Ok(Outcome::Drained) => served.run(leaving),
        Ok(Outcome::Ended(code)) => served.ended(code),
        Err(error) => Err(error),
    };
    served.handle.leave();
    // PostgreSQL tells the client why it ends a session, unless it crashes.
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

/// A guest and its client.
struct Served {
    instance: Backend,
    client: Arc<Client>,
    handle: Arc<SessionHandle>,
    /// The files of the database.
    data: Data,
}

impl Served {
    fn run(&mut self, leaving: &mut dyn FnMut()) -> Result<()> {
        let mut messages = BytesMut::new();
        let interrupts = self.instance.interrupts().clone();
        loop {
            let timeout = self.instance.flush_due().then_some(FLUSH_DELAY);
            self.handle.rest(&self.client.lock().follower, &interrupts);
            let input = self.client.lock().wait(&mut messages, timeout);
            self.handle.work();
            if input == Input::End || self.client.lock().left.load(Ordering::SeqCst) {
                leaving();
            }
            let outcome = match input {
                Input::Bytes => self.process(&mut messages),
                // For example an idle timeout, which PostgreSQL tells the client at once.
                Input::Interrupt => self.instance.pump(),
                Input::Timeout => self.instance.maintain(),
                Input::End => {
                    messages.clear();
                    frontend::terminate(&mut messages);
                    return match self.process(&mut messages)? {
                        Outcome::Ended(code) => self.ended(code),
                        Outcome::Drained => {
                            Err(Error::new(ErrorKind::Protocol, "PostgreSQL continued after the end of its session"))
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
            // A client that was refused may have been told so in an older version of the protocol,
            // which the follower does not read.
            let refused = client.peer.is_some() && client.follower.status().is_none();
            let abandoned = refused || client.peer.as_ref().is_some_and(|peer| peer.is_abandoned());
            (abandoned, client.follower.take_fatal())
        };
        match fatal {
            // A client that is dropped ends its session as an administrator does: that is no error
            // of the session's.
            Some(error) if !abandoned || *error.code() != SqlState::ADMIN_SHUTDOWN => {
                return Err(Error::ended(error));
            }
            None if !abandoned => (),
            // The exit code is that of a client that was refused, was dropped or left. Whether the
            // last checkpoint succeeded is in the control file.
            _ if control_file::is_shut_down(self.data.fs()).is_ok_and(|is| is) => return Ok(()),
            _ => (),
        }
        let log = self.instance.take_log();
        let message = format!("PostgreSQL did not shut down cleanly (exit code {code}): {}", log.trim_end());
        Err(Error::new(ErrorKind::Crashed, message))
    }
}

/// The client as the guest sees it: whole messages come from it. The lock is only ever taken by the
/// session's thread.
struct Client(Mutex<Conversation>);

/// A client's connection with the state of the protocol.
pub(super) struct Conversation {
    /// `None` until there is a client.
    pub(super) peer: Option<Box<dyn Peer>>,
    /// How to wait for the client, until there is one.
    expected: Option<Expected>,
    /// The client has left, or has sent Terminate: nothing is sent to it any more.
    left: Arc<AtomicBool>,
    /// Bytes of a message that is not whole yet.
    received: BytesMut,
    pub(super) follower: Follower,
}

struct Expected {
    next_client: NextClient,
    handle: Arc<SessionHandle>,
    interrupts: Arc<Interrupts>,
}

impl Client {
    /// Makes a client what the guest reads from and writes to.
    fn connect(client: Conversation, instance: &mut Backend) -> Arc<Self> {
        let client = Arc::new(Self(Mutex::new(client)));
        instance.streams().attach(Some(Box::new(FromClient(client.clone()))), Some(Box::new(ToClient(client.clone()))));
        client
    }

    fn lock(&self) -> MutexGuard<'_, Conversation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversation {
    /// With a client that is authenticated already, in a session with this status.
    pub(super) fn with(peer: Box<dyn Peer>, received: BytesMut, status: TransactionStatus) -> Self {
        let left = Arc::default();
        Self { peer: Some(peer), expected: None, left, received, follower: Follower::ready(status) }
    }

    fn expecting(expected: Expected) -> Self {
        let (left, received) = (Arc::default(), BytesMut::new());
        Self { peer: None, expected: Some(expected), left, received, follower: Follower::default() }
    }

    /// Waits for whole messages and puts them into the empty `messages`. Terminate is returned
    /// alone, so that everything before it is answered, and nothing is sent afterwards.
    pub(super) fn wait(&mut self, messages: &mut BytesMut, timeout: Option<Duration>) -> Input {
        // A client that is not authenticated must not make the server allocate much.
        let max = if self.follower.status().is_some() { MESSAGE_MAX } else { UNKNOWN_MESSAGE_MAX };
        loop {
            let len = whole(&self.received, max);
            if len > 0 {
                let len = match before_terminate(&self.received[..len]) {
                    0 => {
                        self.left.store(true, Ordering::SeqCst);
                        len
                    }
                    len => len,
                };
                *messages = self.received.split_to(len);
                return Input::Bytes;
            }
            let Some(peer) = &mut self.peer else { return Input::End };
            match peer.wait(&mut self.received, timeout) {
                Input::Bytes => (),
                other => return other,
            }
        }
    }

    /// Waits for the client, and takes its start-up packet. False: there will be none.
    fn expect(&mut self, input: &mut BytesMut) -> bool {
        let Some(mut expected) = self.expected.take() else { return false };
        let Some(mut incoming) = (expected.next_client)() else { return false };
        incoming.peer.attach(&expected.interrupts);
        self.left = expected.handle.arrive(&expected.interrupts, incoming.peer.watch());
        self.peer = Some(incoming.peer);
        self.received = incoming.received;
        *input = incoming.startup;
        true
    }

    /// Whether the client has left. What has come of it meanwhile is kept.
    fn client_left(&mut self) -> ClientLeft {
        let Some(peer) = &mut self.peer else { return ClientLeft::default() };
        let closed = peer.is_abandoned() || peer.watch().is_some_and(|is_gone| is_gone());
        // The rest of the input matters only if nothing is before it.
        let ended = self.received.is_empty() && peer.wait(&mut self.received, Some(Duration::ZERO)) == Input::End;
        let said = self.left.load(Ordering::SeqCst) || self.received.first() == Some(&attach::TERMINATE);
        ClientLeft { closed, goodbye: ended || said }
    }

    /// Sends the client a message of the server's own.
    fn tell(&mut self, message: &[u8]) {
        if let Some(peer) = &mut self.peer {
            peer.write(&mut BytesMut::from(message), Some(Instant::now() + LAST_WORDS_TIMEOUT));
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
        self.0.lock().client_left()
    }
}

struct ToClient(Arc<Client>);

impl Sink for ToClient {
    fn take(&mut self, output: &mut BytesMut) -> bool {
        let mut client = self.0.lock();
        let client = &mut *client;
        client.follower.follow(output);
        // Output from before there is a client is dropped; the follower keeps an error that ends
        // the session.
        let has_left = client.left.load(Ordering::SeqCst);
        let taken = client.peer.as_mut().is_none_or(|peer| has_left || peer.write(output, None));
        output.clear();
        taken
    }
}

/// Length of the whole messages at the beginning of `bytes`. With a message whose length is
/// invalid, all bytes count: PostgreSQL refuses it and ends the session.
pub(crate) fn whole(bytes: &[u8], max: usize) -> usize {
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

/// How many bytes of whole messages come before Terminate.
pub(super) fn before_terminate(messages: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&[tag, a, b, c, d]) = messages.get(at..at + 5) {
        if tag == attach::TERMINATE {
            return at;
        }
        // PostgreSQL refuses what is no message.
        at = at.saturating_add(1).saturating_add(u32::from_be_bytes([a, b, c, d]) as usize);
    }
    messages.len()
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
    fn terminate_is_returned_alone() {
        let (mut server, mut client) = crate::transport::pipe::pipe();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut bytes = BytesMut::new();
        frontend::query("X", &mut bytes).unwrap();
        let query = bytes.clone();
        frontend::terminate(&mut bytes);
        assert!(client.poll_write(&mut context, &bytes).is_ready());
        client.finish();
        let mut received = BytesMut::new();
        assert_eq!(server.wait(&mut received, None), Input::Bytes);
        let mut conversation = Conversation::with(Box::new(server), received, TransactionStatus::Idle);
        let mut next = || {
            let mut messages = BytesMut::new();
            let input = conversation.wait(&mut messages, None);
            (input, messages, conversation.left.load(Ordering::SeqCst))
        };
        assert_eq!(next(), (Input::Bytes, query, false));
        assert_eq!(next(), (Input::Bytes, BytesMut::from(&b"X\0\0\0\x04"[..]), true));
        assert_eq!(next().0, Input::End);
    }

    #[test]
    fn what_is_no_message_is_for_postgresql_to_refuse() {
        assert_eq!(whole(b"Q\0\0\0\x03abc", MESSAGE_MAX), 8);
        assert_eq!(whole(b"Q\xff\xff\xff\xffabc", MESSAGE_MAX), 8);
        assert_eq!(whole(b"S\0\0\0\x04Q\xff\xff\xff\xff", MESSAGE_MAX), 10);
        assert_eq!(whole(b"p\0\0\x01\0abc", 255), 8);
    }
}
