//! A session with a thread of its own, for a client that speaks PostgreSQL's protocol over a pipe. It owns the session from the client's first packet to
//! the end of the guest. Where the pipe leads is not its business: to a client in this process, or to a socket that somebody listens at.

mod last_error;
mod lend;
pub(crate) mod pipe;
mod startup;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::Pglite;
use crate::error::{Error, ErrorKind, Result};
use crate::guest::FLUSH_DELAY;
use crate::instance::{Instance, Outcome};
use crate::session::MESSAGE_MAX;
use crate::sqlstate::SqlState;
use crate::streams::{Sink, Source};

use last_error::LastError;
pub(crate) use lend::lend;
pub(crate) use pipe::ClientEnd;
use pipe::{Input, ServerEnd};

/// Starts the thread and returns the client's end. `ended` is called with how the session ended, when all it held is let go.
///
/// # Errors
/// [`ErrorKind::Io`] if there can be no thread; the session is closed then.
pub(crate) fn start(db: Pglite, ended: impl FnOnce(Result<()>) + Send + 'static) -> Result<ClientEnd> {
    let (server, client) = pipe::pipe(db.session.interrupts().clone());
    let thread = thread::Builder::new().name("pglite-oxide-session".to_string());
    thread
        .spawn(move || ended(run(db, server)))
        .map_err(|cause| Error::new(ErrorKind::Io, "cannot start a thread").with_cause(cause))?;
    Ok(client)
}

/// Serves a client until one of both ends.
fn run(mut db: Pglite, end: ServerEnd) -> Result<()> {
    let mut received = BytesMut::new();
    match startup::accept(&mut db, &end, &mut received) {
        Ok(true) => (),
        Ok(false) => return db.close(),
        Err(error) => {
            // The client was told; that the session ends badly as well is not what it must know.
            let _ = db.close();
            return Err(error);
        }
    }
    let instance = db.session.hand_over()?;
    Served::new(instance, end, received).run()
}

/// A guest at its client's service.
struct Served {
    instance: Instance,
    client: Arc<Client>,
}

impl Served {
    fn new(mut instance: Instance, end: ServerEnd, received: BytesMut) -> Self {
        let client = Arc::new(Client { end, received: Mutex::new(received), last_error: Mutex::default() });
        instance.streams().attach(Some(Box::new(FromClient(client.clone()))), Some(Box::new(ToClient(client.clone()))));
        Self { instance, client }
    }

    fn run(mut self) -> Result<()> {
        let mut messages = BytesMut::new();
        loop {
            let timeout = self.instance.flush_due().then_some(FLUSH_DELAY);
            let outcome = match self.client.wait(&mut messages, timeout) {
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

    fn ended(mut self, code: i32) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let abandoned = self.client.end.is_abandoned();
        match lock(&self.client.last_error).take_fatal() {
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

/// The client as the guest sees it: whole messages come from it.
#[derive(Debug)]
struct Client {
    end: ServerEnd,
    /// What came and was not handed on, because a message is not whole yet. Only ever locked by the session's thread.
    received: Mutex<BytesMut>,
    /// Likewise.
    last_error: Mutex<LastError>,
}

impl Client {
    /// Waits as the pipe does, but for whole messages, which it puts into the empty `messages`.
    fn wait(&self, messages: &mut BytesMut, timeout: Option<Duration>) -> Input {
        let mut received = lock(&self.received);
        loop {
            let len = whole(&received);
            if len > 0 {
                *messages = received.split_to(len);
                return Input::Bytes;
            }
            match self.end.wait(&mut received, timeout) {
                Input::Bytes => (),
                other => return other,
            }
        }
    }

    fn read(&self, messages: &mut BytesMut) -> bool {
        let mut received = lock(&self.received);
        loop {
            let len = whole(&received);
            if len > 0 {
                *messages = received.split_to(len);
                return true;
            }
            if !self.end.read(&mut received) {
                return false;
            }
        }
    }
}

struct FromClient(Arc<Client>);

impl Source for FromClient {
    fn more(&mut self, input: &mut BytesMut) -> bool {
        self.0.read(input)
    }
}

struct ToClient(Arc<Client>);

impl Sink for ToClient {
    fn take(&mut self, output: &mut BytesMut) -> bool {
        lock(&self.0.last_error).follow(output);
        let taken = self.0.end.write(output);
        output.clear();
        taken
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Length of the whole messages at the beginning of some bytes. A message that cannot be one makes them all count: PostgreSQL refuses it and ends the session.
fn whole(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&[_, a, b, c, d]) = bytes.get(at..at + 5) {
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=MESSAGE_MAX).contains(&len) {
            return bytes.len();
        }
        if bytes.len() - at - 1 < len {
            break;
        }
        at += 1 + len;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_messages_are_handed_on() {
        let mut bytes = BytesMut::new();
        frontend::sync(&mut bytes);
        frontend::query("SELECT 1", &mut bytes).unwrap();
        let lengths: Vec<usize> = (0..=bytes.len()).map(|len| whole(&bytes[..len])).collect();
        let (first, all) = (5, bytes.len());
        assert_eq!(lengths[..first], [0; 5]);
        assert!(lengths[first..all].iter().all(|len| *len == first));
        assert_eq!(lengths[all], all);
    }

    #[test]
    fn what_is_no_message_is_for_postgresql_to_refuse() {
        assert_eq!(whole(b"Q\0\0\0\x03abc"), 8);
        assert_eq!(whole(b"Q\xff\xff\xff\xffabc"), 8);
        assert_eq!(whole(b"S\0\0\0\x04Q\xff\xff\xff\xff"), 10);
    }
}
