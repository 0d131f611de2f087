//! Serves a client in the session of an open database, and gives the session back afterwards,
//! whatever the client did: Terminate is not passed on, a COPY without its client fails, and output
//! that is not read is dropped. Serving a client that keeps its session belongs to `session_loop`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::session_loop::{Conversation, before_terminate};
use super::startup;
use crate::Pglite;
use crate::backend::slot::FLUSH_DELAY;
use crate::backend::{Backend, Outcome};
use crate::client::session::Session;
use crate::error::DbError;
use crate::error::Result;
use crate::transport::pipe::ServerEnd;
use crate::transport::{Input, Peer};
use crate::wasm::interrupts::{Flag, Interrupts};
use crate::wasm::streams::{More, Sink, Source};

/// Tag of the message Terminate.
pub(super) const TERMINATE: u8 = b'X';

/// Serves a client on this thread until it terminates or is gone, and returns the last error that
/// it was told. The session keeps the state that the client leaves: an open transaction stays open.
///
/// # Errors
/// What the client was refused for, as [`startup::accept`] says; and why the session is over, if it
/// is.
pub(crate) fn attach(db: &mut Pglite, mut end: ServerEnd) -> Result<Option<DbError>> {
    let mut received = BytesMut::new();
    if !startup::accept(db, &mut end, &mut received)? {
        return Ok(None);
    }
    let status = db.transaction_status();
    let instance = db.session.lend()?;
    end.attach(instance.interrupts());
    let client = Mutex::new(Conversation::with(Box::new(end), received, status));
    let interrupts = instance.interrupts().clone();
    let attached = Arc::new(AttachedClient { client, interrupts, gone: AtomicBool::new(false) });
    let mut attachment = Attachment { session: &mut db.session, instance: Some(instance), attached: attached.clone() };
    let outcome = attachment.run();
    attachment.end(outcome)?;
    let error = attached.lock().follower.take_error();
    Ok(error)
}

/// A session whose guest serves a client. The guest is given back however this ends.
struct Attachment<'a> {
    session: &'a mut Session,
    instance: Option<Backend>,
    attached: Arc<AttachedClient>,
}

impl Attachment<'_> {
    fn run(&mut self) -> Result<Outcome> {
        let Some(instance) = &mut self.instance else { return Ok(Outcome::Drained) };
        let (source, sink) = (FromAttached(self.attached.clone()), ToAttached(self.attached.clone()));
        instance.streams().attach(Some(Box::new(source)), Some(Box::new(sink)));
        let mut messages = BytesMut::new();
        loop {
            let timeout = instance.flush_due().then_some(FLUSH_DELAY);
            let input = self.attached.lock().wait(&mut messages, timeout);
            let outcome = match input {
                Input::Bytes => {
                    let terminated = truncate_at_terminate(&mut messages);
                    if terminated {
                        self.attached.gone.store(true, Ordering::SeqCst);
                    }
                    instance.streams().send(&mut messages);
                    match instance.pump()? {
                        Outcome::Drained if instance.maintenance_due() => instance.maintain()?,
                        outcome => outcome,
                    }
                }
                Input::Interrupt => instance.pump()?,
                Input::Timeout => instance.maintain()?,
                Input::End => return Ok(Outcome::Drained),
            };
            // During a COPY, its source may have seen the client go.
            if self.attached.gone.load(Ordering::SeqCst) || outcome != Outcome::Drained {
                return Ok(outcome);
            }
        }
    }

    fn end(mut self, outcome: Result<Outcome>) -> Result<()> {
        self.give_back(outcome)
    }

    fn give_back(&mut self, outcome: Result<Outcome>) -> Result<()> {
        let Some(mut instance) = self.instance.take() else { return Ok(()) };
        instance.streams().attach(None, None);
        instance.interrupts().set_waker(None);
        let fatal = match outcome {
            Ok(Outcome::Ended(_)) => self.attached.lock().follower.take_fatal(),
            _ => None,
        };
        self.session.take_back(instance, outcome, fatal)
    }
}

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        // There is something left to do only when a panic unwinds.
        let _ = self.give_back(Ok(Outcome::Drained));
    }
}

/// The client as the guest sees it.
struct AttachedClient {
    /// Only ever locked by the session's thread.
    client: Mutex<Conversation>,
    interrupts: Arc<Interrupts>,
    /// It has terminated, or reads and writes no more.
    gone: AtomicBool,
}

impl AttachedClient {
    fn lock(&self) -> MutexGuard<'_, Conversation> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct FromAttached(Arc<AttachedClient>);

impl Source for FromAttached {
    /// Reading past the input means that a COPY FROM STDIN is in progress. If the client is gone,
    /// the statement fails and the session goes on.
    fn more(&mut self, input: &mut BytesMut) -> More {
        let attached = &self.0;
        if !attached.gone.load(Ordering::SeqCst) {
            match attached.lock().wait(input, None) {
                Input::Bytes if !truncate_at_terminate(input) => return More::Messages,
                Input::Bytes | Input::End => (),
                Input::Interrupt | Input::Timeout => return More::Interrupt,
            }
            attached.gone.store(true, Ordering::SeqCst);
        }
        if !input.is_empty() {
            return More::Messages;
        }
        let failed = frontend::copy_fail("the client left in the middle of the data", input);
        failed.map_or(More::End, |()| More::Messages)
    }
}

struct ToAttached(Arc<AttachedClient>);

impl Sink for ToAttached {
    /// Output for a client that is gone is dropped, and the statement that writes it is cancelled.
    fn take(&mut self, output: &mut BytesMut) -> bool {
        let attached = &self.0;
        let taken = {
            let mut client = attached.lock();
            client.follower.follow(output);
            client.peer.as_mut().is_some_and(|peer| peer.write(output, None))
        };
        let terminated = attached.gone.load(Ordering::SeqCst);
        if !taken && !terminated && !attached.gone.swap(true, Ordering::SeqCst) {
            attached.interrupts.flag(Flag::Cancel);
        }
        output.clear();
        true
    }
}

/// Removes Terminate and everything after it from whole messages. True: there was one.
fn truncate_at_terminate(messages: &mut BytesMut) -> bool {
    let len = before_terminate(messages);
    let cut = len < messages.len();
    messages.truncate(len);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminate_is_found_among_messages_only() {
        let mut messages = BytesMut::new();
        frontend::query("X", &mut messages).unwrap();
        messages.extend_from_slice(b"d\0\0\0\x09X\0\0\0\x04");
        let all = messages.clone();
        assert!(!truncate_at_terminate(&mut messages));
        assert_eq!(messages, all);
        frontend::terminate(&mut messages);
        frontend::sync(&mut messages);
        assert!(truncate_at_terminate(&mut messages));
        assert_eq!(messages, all);
    }
}
