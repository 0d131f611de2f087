//! A session lent to a client for a while: whatever the client does or leaves undone, the session is its owner's again when the client is gone. It owns what takes the
//! place of the client's last words; how a client that keeps its session is served is the parent's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::session_loop::{Conversation, before_goodbye};
use super::startup;
use crate::Pglite;
use crate::backend::slot::FLUSH_DELAY;
use crate::backend::{Instance, Outcome};
use crate::client::session::Session;
use crate::error::DbError;
use crate::error::Result;
use crate::transport::pipe::ServerEnd;
use crate::transport::{Input, Peer};
use crate::wasm::interrupts::{Flag, Interrupts};
use crate::wasm::streams::{More, Sink, Source};

/// Tag of the message with which a client says goodbye.
pub(super) const TERMINATE: u8 = b'X';

/// Serves a client until it says goodbye or is gone, on this thread, and returns the last error that it was told. The session goes on after it as it is then: in a
/// transaction if the client left one open.
///
/// # Errors
/// What the client was refused for, as [`startup::accept`] says; and why the session is over, if it is.
pub(crate) fn lend(db: &mut Pglite, mut end: ServerEnd) -> Result<Option<DbError>> {
    let mut received = BytesMut::new();
    if !startup::accept(db, &mut end, &mut received)? {
        return Ok(None);
    }
    let status = db.transaction_status();
    let instance = db.session.lend()?;
    end.attach(instance.interrupts());
    let client = Mutex::new(Conversation::with(Box::new(end), received, status));
    let interrupts = instance.interrupts().clone();
    let borrower = Arc::new(Borrower { client, interrupts, gone: AtomicBool::new(false) });
    let mut loan = Loan { session: &mut db.session, instance: Some(instance), borrower: borrower.clone() };
    let outcome = loan.run();
    loan.end(outcome)?;
    let error = borrower.lock().follower.take_error();
    Ok(error)
}

/// A session without its guest, which comes back however this ends.
struct Loan<'a> {
    session: &'a mut Session,
    instance: Option<Instance>,
    borrower: Arc<Borrower>,
}

impl Loan<'_> {
    fn run(&mut self) -> Result<Outcome> {
        let Some(instance) = &mut self.instance else { return Ok(Outcome::Drained) };
        let (source, sink) = (FromBorrower(self.borrower.clone()), ToBorrower(self.borrower.clone()));
        instance.streams().attach(Some(Box::new(source)), Some(Box::new(sink)));
        let mut messages = BytesMut::new();
        loop {
            let timeout = instance.flush_due().then_some(FLUSH_DELAY);
            let input = self.borrower.lock().wait(&mut messages, timeout);
            let outcome = match input {
                Input::Bytes => {
                    let goodbye = cut_at_goodbye(&mut messages);
                    if goodbye {
                        self.borrower.gone.store(true, Ordering::SeqCst);
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
            if self.borrower.gone.load(Ordering::SeqCst) || outcome != Outcome::Drained {
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
            Ok(Outcome::Ended(_)) => self.borrower.lock().follower.take_fatal(),
            _ => None,
        };
        self.session.take_back(instance, outcome, fatal)
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        // Only on the way of a panic is there anything left to do.
        let _ = self.give_back(Ok(Outcome::Drained));
    }
}

/// The client as the guest sees it.
struct Borrower {
    /// Only ever locked by the session's thread.
    client: Mutex<Conversation>,
    interrupts: Arc<Interrupts>,
    /// It has said goodbye, or reads and writes no more.
    gone: AtomicBool,
}

impl Borrower {
    fn lock(&self) -> MutexGuard<'_, Conversation> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct FromBorrower(Arc<Borrower>);

impl Source for FromBorrower {
    /// A guest that asks is in the middle of a COPY. If the client is gone, the statement ends with an error, and the session does not.
    fn more(&mut self, input: &mut BytesMut) -> More {
        let borrower = &self.0;
        if !borrower.gone.load(Ordering::SeqCst) {
            match borrower.lock().wait(input, None) {
                Input::Bytes if !cut_at_goodbye(input) => return More::Messages,
                Input::Bytes | Input::End => (),
                Input::Interrupt | Input::Timeout => return More::Interrupt,
            }
            borrower.gone.store(true, Ordering::SeqCst);
        }
        if !input.is_empty() {
            return More::Messages;
        }
        let failed = frontend::copy_fail("the client left in the middle of the data", input);
        failed.map_or(More::End, |()| More::Messages)
    }
}

struct ToBorrower(Arc<Borrower>);

impl Sink for ToBorrower {
    /// What a client that is gone would have read is dropped, and the statement that says it is cancelled.
    fn take(&mut self, output: &mut BytesMut) -> bool {
        let borrower = &self.0;
        let taken = {
            let mut client = borrower.lock();
            client.follower.follow(output);
            client.peer.as_mut().is_some_and(|peer| peer.write(output, None))
        };
        let goodbye = borrower.gone.load(Ordering::SeqCst);
        if !taken && !goodbye && !borrower.gone.swap(true, Ordering::SeqCst) {
            borrower.interrupts.flag(Flag::Cancel);
        }
        output.clear();
        true
    }
}

/// Takes off a goodbye among whole messages, with whatever follows it. True: there was one.
fn cut_at_goodbye(messages: &mut BytesMut) -> bool {
    let len = before_goodbye(messages);
    let cut = len < messages.len();
    messages.truncate(len);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goodbye_is_found_among_messages_only() {
        let mut messages = BytesMut::new();
        frontend::query("X", &mut messages).unwrap();
        messages.extend_from_slice(b"d\0\0\0\x09X\0\0\0\x04");
        let all = messages.clone();
        assert!(!cut_at_goodbye(&mut messages));
        assert_eq!(messages, all);
        frontend::terminate(&mut messages);
        frontend::sync(&mut messages);
        assert!(cut_at_goodbye(&mut messages));
        assert_eq!(messages, all);
    }
}
