//! One session with a running backend: messages in, answers out. It owns the order of sending,
//! pumping and reading, the rest of answers that were not read to the end, and the end of a
//! session. It does not know the origin of the backend or its files, nor the meaning of the
//! messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use crate::backend::copy_thread::{CopyThread, Event};
use crate::backend::slot::BackendSlot;
use crate::backend::{Backend, Launch, Outcome};
use crate::client::{Garbage, TypeCache};
use crate::error::DbError;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Reader;
use crate::wasm::interrupts::{Flag, Interrupts};

/// Maximum length of a message in PostgreSQL, in bytes (`PQ_LARGE_MESSAGE_LIMIT`): a longer one
/// would end the session.
pub(crate) const MESSAGE_MAX: usize = 0x3fff_fffe;

/// A session. Between two calls of the public API it is ready for a statement or over; `settle`
/// makes that true again where a panic or a forgotten value left an answer unread.
#[derive(Debug)]
pub(crate) struct Session {
    guest: BackendSlot,
    worker: Option<CopyThread>,
    interrupts: Arc<Interrupts>,
    /// How often the session's cancel tokens were used.
    cancellations: Arc<AtomicU64>,
    reader: Reader,
    /// Messages to send, being made.
    outgoing: BytesMut,
    /// The server has answered all that was sent.
    ready: bool,
    /// What is not answered was sent by `exchange`, which goes on with it.
    raw: bool,
    /// Dropped, the session is closed on a thread of its own.
    pub(crate) closes_on_thread: bool,
    /// Why no statement is possible any more.
    over: Option<Over>,
    /// Statements and portals whose handles were dropped.
    garbage: Arc<Garbage>,
    pub(crate) types: TypeCache,
    names: u64,
}

/// Cancels the running statement of a database, from any thread. Has no effect once the database is
/// closed.
#[derive(Debug, Clone)]
pub struct CancelToken {
    interrupts: Arc<Interrupts>,
    count: Arc<AtomicU64>,
}

impl CancelToken {
    /// Requests that PostgreSQL end the statement with SQLSTATE 57014. Has no effect without a
    /// running statement.
    pub fn cancel(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.interrupts.flag(Flag::Cancel);
    }
}

#[derive(Debug)]
struct Over {
    message: String,
    database: Option<DbError>,
}

impl Session {
    /// Starts PostgreSQL and waits until it is ready.
    pub(crate) fn open(launch: Launch, user: &str, database: &str) -> Result<Self> {
        let mut instance = Backend::new(launch)?;
        let mut startup = BytesMut::new();
        let parameters = [("user", user), ("database", database), ("client_encoding", "UTF8")];
        frontend::startup_message(parameters, &mut startup)
            .map_err(|cause| Error::usage("the names of user and database cannot be sent").with_cause(cause))?;
        instance.streams().send(&mut startup);
        let outcome = instance.boot()?;
        let mut session = Self {
            interrupts: instance.interrupts().clone(),
            cancellations: Arc::default(),
            guest: BackendSlot::new(instance),
            worker: None,
            reader: Reader::default(),
            outgoing: BytesMut::new(),
            ready: false,
            raw: false,
            closes_on_thread: false,
            over: None,
            garbage: Arc::default(),
            types: TypeCache::default(),
            names: 0,
        };
        session.receive(Ok(outcome))?;
        session.skip()?;
        if !session.ready {
            session.send()?;
            session.finish()?;
        }
        // What a server says while it starts is not about anything the caller did.
        session.reader.take_notices();
        Ok(session)
    }

    /// An empty buffer for messages, of a session that is ready for them.
    pub(crate) fn begin(&mut self) -> Result<&mut BytesMut> {
        self.settle()?;
        Ok(self.more())
    }

    /// An empty buffer for messages that continue what was begun.
    pub(crate) fn more(&mut self) -> &mut BytesMut {
        self.outgoing.clear();
        &mut self.outgoing
    }

    /// The messages to send, to be added to.
    pub(crate) fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// Sends the messages and lets the server process them.
    pub(crate) fn send(&mut self) -> Result<()> {
        self.check_length()?;
        self.hand_in()?;
        let outcome = self.guest.with(Backend::pump)?;
        self.receive(outcome)
    }

    /// Sends the messages and lets the server process them on a thread of its own, while `event`
    /// and `feed` are used.
    pub(crate) fn send_to_worker(&mut self, takes_input: bool) -> Result<()> {
        self.check_length()?;
        self.hand_in()?;
        let instance = self.guest.take().ok_or_else(|| self.over_error())?;
        match CopyThread::start(instance, takes_input) {
            Ok(worker) => self.worker = Some(worker),
            Err(failed) => {
                let (mut instance, error) = *failed;
                // The input stays: a guest that never saw it answers it now, like any other, and
                // what it says is skipped.
                let outcome = instance.pump();
                self.guest.put(instance);
                self.receive(outcome)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits for the worker to tell something, and adds its output to what can be read. False: it
    /// is at rest and gone.
    pub(crate) fn wait_for_worker(&mut self) -> Result<Option<Event>> {
        let Some(worker) = &self.worker else { return Ok(None) };
        match worker.event() {
            Some(Event::Output(piece)) => {
                if self.reader.unread.is_empty() {
                    self.reader.unread = piece;
                } else {
                    self.reader.unread.extend_from_slice(&piece);
                }
                Ok(Some(Event::Output(BytesMut::new())))
            }
            Some(Event::Wants) => Ok(Some(Event::Wants)),
            None => {
                self.collect_worker()?;
                Ok(None)
            }
        }
    }

    /// Gives the worker's statement input. False: it takes no more.
    pub(crate) fn feed(&mut self, messages: BytesMut) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.feed(messages))
    }

    /// Announces that there is no more input for the worker's statement.
    pub(crate) fn end_feed(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.end_input();
        }
    }

    /// Sends a caller's messages as they are, and returns what has come of the answer as it is.
    pub(crate) fn exchange(&mut self, messages: &[u8]) -> Result<Vec<u8>> {
        let goes_on = self.raw && !self.ready && self.over.is_none();
        if !goes_on {
            // What was dropped is closed here: the answer to that is no part of the caller's.
            frontend::sync(self.begin()?);
            self.send()?;
            self.finish()?;
        }
        self.raw = true;
        let (outcome, answer) = {
            let mut guest = self.guest.lock();
            let Some(instance) = guest.as_mut() else {
                drop(guest);
                return Err(self.over_error());
            };
            self.ready = false;
            instance.streams().send(&mut messages.into());
            let outcome = instance.pump();
            // The end of the answer before may be there, if the server has not sent all of it yet.
            let before = self.reader.unread.len();
            instance.streams().receive(&mut self.reader.unread);
            (outcome, self.reader.unread[before..].to_vec())
        };
        self.receive(outcome)?;
        self.skip()?;
        Ok(answer)
    }

    /// The next message of the answer. An error of the server's ends the answer: the session is
    /// ready then.
    pub(crate) fn next(&mut self) -> Result<Message> {
        match self.try_next()? {
            Some(message) => Ok(message),
            None => Err(self.broken("the server's answer has no end")),
        }
    }

    /// As `next`, or `None` when all that has come is read.
    pub(crate) fn try_next(&mut self) -> Result<Option<Message>> {
        match self.reader.next_message() {
            Ok(Some(Message::ErrorResponse(body))) => Err(match DbError::parse(body.fields()) {
                Ok(error) => self.failed(error),
                Err(cause) => self.broken_by(cause),
            }),
            Ok(Some(message)) => {
                self.note_ready(&message)?;
                Ok(Some(message))
            }
            Ok(None) => Ok(None),
            Err(cause) => Err(self.broken_by(cause)),
        }
    }

    /// Reads the rest of an answer, up to the server's being ready.
    pub(crate) fn finish(&mut self) -> Result<()> {
        while !self.ready {
            self.next()?;
        }
        Ok(())
    }

    /// Makes the session ready whatever was going on, without a look at what the server says. An
    /// error if it is over.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.over.is_some() {
            return Err(self.over_error());
        }
        if self.ready {
            return Ok(());
        }
        self.stop_worker()?;
        self.skip()?;
        if !self.ready {
            frontend::sync(self.more());
            self.send()?;
            self.skip()?;
        }
        if self.ready { Ok(()) } else { Err(self.broken("the server does not become ready")) }
    }

    /// The error of a message that does not belong to the answer. The session is ready again.
    pub(crate) fn unexpected(&mut self, error: Error) -> Error {
        match self.settle() {
            Ok(()) => error,
            Err(over) => over,
        }
    }

    /// The error of an answer that is not what the protocol says. The session is over.
    pub(crate) fn broken(&mut self, message: &str) -> Error {
        let error = Error::new(ErrorKind::Protocol, message);
        self.end(error.to_string(), None);
        error
    }

    /// The error of an answer that cannot be read. The session is over.
    pub(crate) fn broken_by(&mut self, cause: std::io::Error) -> Error {
        let error = Error::protocol(cause);
        self.end(error.to_string(), None);
        error
    }

    /// Ends the session in good order. Ending it twice does nothing.
    pub(crate) fn close(&mut self) -> Result<()> {
        if self.over.is_some() {
            return Ok(());
        }
        self.settle()?;
        frontend::terminate(self.more());
        self.hand_in()?;
        let (outcome, log) = self.guest.with(|guest| (guest.pump(), guest.take_log()))?;
        self.end("the session is closed".to_string(), None);
        match outcome? {
            Outcome::Ended(0) => Ok(()),
            Outcome::Ended(code) => {
                let message = format!("PostgreSQL did not shut down cleanly (exit code {code}): {}", log.trim_end());
                Err(Error::new(ErrorKind::Crashed, message))
            }
            Outcome::Drained => {
                Err(Error::new(ErrorKind::Protocol, "PostgreSQL continued after the end of its session"))
            }
        }
    }

    /// Gives the guest away, at rest between two statements. The session is over then, its
    /// PostgreSQL is not.
    #[cfg(feature = "async")]
    pub(crate) fn hand_over(&mut self) -> Result<Backend> {
        let instance = self.lend()?;
        self.end("it was handed over to a connection".to_string(), None);
        Ok(instance)
    }

    /// Gives the guest away, at rest between two statements, until `take_back`.
    pub(crate) fn lend(&mut self) -> Result<Backend> {
        // What was dropped is closed with it.
        frontend::sync(self.begin()?);
        self.send()?;
        self.finish()?;
        self.guest.take().ok_or_else(|| self.over_error())
    }

    /// Takes back a guest that was lent. With an outcome, how its last call ended; if that was the
    /// session's end, the error says why.
    pub(crate) fn take_back(
        &mut self,
        instance: Backend,
        outcome: Result<Outcome>,
        fatal: Option<DbError>,
    ) -> Result<()> {
        self.guest.put(instance);
        self.ready = false;
        if let (Ok(Outcome::Ended(_)), Some(error)) = (&outcome, fatal) {
            self.end(error.to_string(), Some(error));
            return Err(self.over_error());
        }
        self.receive(outcome)?;
        self.settle()
    }

    /// Writes everything that is committed to its place in the files, whatever the state of the
    /// transaction.
    pub(crate) fn checkpoint(&mut self) -> Result<()> {
        self.settle()?;
        if self.guest.with(Backend::checkpoint)?? {
            return Ok(());
        }
        let log = self.take_log();
        Err(Error::new(ErrorKind::Io, format!("PostgreSQL could not make a checkpoint: {}", log.trim_end())))
    }

    /// Whether the session is over.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some() || self.guest.lock().as_ref().is_some_and(|guest| !guest.is_alive())
    }

    /// A name for a statement, portal or savepoint that no other has.
    pub(crate) fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    pub(crate) fn guest(&self) -> &BackendSlot {
        &self.guest
    }

    pub(crate) fn garbage(&self) -> &Arc<Garbage> {
        &self.garbage
    }

    pub(crate) fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    pub(crate) fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }

    pub(crate) fn cancel_token(&self) -> CancelToken {
        CancelToken { interrupts: self.interrupts.clone(), count: self.cancellations.clone() }
    }

    /// How often the session's cancel tokens were used.
    pub(crate) fn cancellations(&self) -> u64 {
        self.cancellations.load(Ordering::SeqCst)
    }

    /// Takes what the guest wrote to standard output and error so far.
    pub(crate) fn take_log(&mut self) -> String {
        self.guest.with(Backend::take_log).unwrap_or_default()
    }

    fn check_length(&mut self) -> Result<()> {
        if self.outgoing.len() <= MESSAGE_MAX {
            return Ok(());
        }
        let message =
            format!("a statement with its parameters has at most 1 GiB, this one {} bytes", self.outgoing.len());
        self.outgoing = BytesMut::new();
        Err(self.unexpected(Error::new(ErrorKind::ToSql, message)))
    }

    fn hand_in(&mut self) -> Result<()> {
        let mut closes = BytesMut::new();
        self.garbage.close_all(&mut closes)?;
        let mut guest = self.guest.lock();
        let Some(instance) = guest.as_mut() else {
            drop(guest);
            return Err(self.over_error());
        };
        self.ready = false;
        self.raw = false;
        let streams = instance.streams();
        if !closes.is_empty() {
            streams.send(&mut closes);
        }
        streams.send(&mut self.outgoing);
        Ok(())
    }

    /// Takes what the guest has put out, and the end of the session if this was it.
    fn receive(&mut self, outcome: Result<Outcome>) -> Result<()> {
        if let Some(instance) = self.guest.lock().as_mut() {
            instance.streams().receive(&mut self.reader.unread);
        }
        match outcome {
            Ok(Outcome::Drained) => Ok(()),
            Ok(Outcome::Ended(code)) => {
                // The server's last word is why.
                let mut reason = None;
                while let Ok(Some(message)) = self.reader.next_message() {
                    if let Message::ErrorResponse(body) = message
                        && let Ok(error) = DbError::parse(body.fields())
                        && error.is_fatal()
                    {
                        reason = Some(error);
                    }
                }
                let message = match &reason {
                    Some(error) => error.to_string(),
                    None => format!("PostgreSQL ended the session (exit code {code}): {}", self.take_log().trim_end()),
                };
                self.end(message, reason);
                Err(self.over_error())
            }
            Err(error) => {
                self.end(error.to_string(), None);
                Err(error)
            }
        }
    }

    /// Reads what has come and drops it.
    fn skip(&mut self) -> Result<()> {
        loop {
            match self.reader.next_message() {
                Ok(Some(message)) => self.note_ready(&message)?,
                Ok(None) => return Ok(()),
                Err(cause) => return Err(self.broken_by(cause)),
            }
        }
    }

    /// Notes whether the server is ready with this message. If it is, its guest is at rest here,
    /// with nothing left to do.
    fn note_ready(&mut self, message: &Message) -> Result<()> {
        self.ready = matches!(message, Message::ReadyForQuery(_));
        if !self.ready {
            return Ok(());
        }
        while self.wait_for_worker()?.is_some() {}
        let maintain = |guest: &mut Backend| {
            let outcome = guest.maintenance_due().then(|| guest.maintain());
            (outcome, guest.flush_due())
        };
        if let Ok((mut outcome, flush_due)) = self.guest.with(maintain) {
            if flush_due && !self.guest.flush_later() {
                outcome = self.guest.with(|guest| guest.is_alive().then(|| guest.maintain()))?;
            }
            // The statement has its answer; should the session have ended, the next one says so.
            let _ = outcome.map(|outcome| self.receive(outcome));
        }
        Ok(())
    }

    fn stop_worker(&mut self) -> Result<()> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        if worker.takes_input() {
            let mut messages = BytesMut::new();
            frontend::copy_fail("the writer was dropped before its end", &mut messages).map_err(Error::protocol)?;
            frontend::sync(&mut messages);
            worker.feed(messages);
            worker.end_input();
        } else {
            self.interrupts.flag(Flag::Cancel);
        }
        while self.wait_for_worker()?.is_some() {
            self.skip()?;
        }
        Ok(())
    }

    /// Takes back the guest from a worker that is done.
    fn collect_worker(&mut self) -> Result<()> {
        let Some(worker) = self.worker.take() else { return Ok(()) };
        match worker.join() {
            Some((instance, outcome)) => {
                self.guest.put(instance);
                self.receive(outcome)
            }
            None => {
                self.end("the thread that ran PostgreSQL panicked".to_string(), None);
                Err(self.over_error())
            }
        }
    }

    fn failed(&mut self, error: DbError) -> Error {
        // Should the session have ended, `over` says why to the next statement.
        let _ = self.settle();
        Error::database(ErrorKind::Database, error)
    }

    fn end(&mut self, message: String, database: Option<DbError>) {
        self.over.get_or_insert(Over { message, database });
    }

    fn over_error(&self) -> Error {
        match &self.over {
            Some(Over { database: Some(error), .. }) => Error::ended(error.clone()),
            Some(Over { message, .. }) => Error::new(ErrorKind::Closed, format!("the session is over: {message}")),
            None => Error::new(ErrorKind::Closed, "the session has ended"),
        }
    }
}

impl Session {
    /// Takes the session out, and leaves one that is over.
    fn take(&mut self) -> Self {
        let over = Self {
            guest: BackendSlot::gone(),
            worker: None,
            interrupts: Arc::default(),
            cancellations: Arc::default(),
            reader: Reader::default(),
            outgoing: BytesMut::new(),
            ready: false,
            raw: false,
            closes_on_thread: false,
            over: Some(Over { message: "it was dropped".to_string(), database: None }),
            garbage: Arc::default(),
            types: TypeCache::default(),
            names: 0,
        };
        std::mem::replace(self, over)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.closes_on_thread && self.over.is_none() {
            self.closes_on_thread = false;
            let session = self.take();
            let thread = std::thread::Builder::new().name("pglite-oxide-close".to_string());
            // Without a thread, the session is dropped, and closed, right here.
            let _ = thread.spawn(move || drop(session));
            return;
        }
        // `close` returns the error.
        let _ = self.close();
    }
}
