//! A backend that runs on its own thread, for statements whose data flows while they run (COPY). It
//! owns the thread and the channels, which are bounded, so the faster side waits. `client`
//! interprets the data.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::BytesMut;

use crate::backend::{Backend, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::wasm::streams::{More, Sink, Source};

/// Output is handed over in pieces of about this size, in bytes.
const PIECE: usize = 128 * 1024;
/// Pieces in a channel.
const PIECES: usize = 2;

/// What a guest at work tells.
#[derive(Debug)]
pub enum Event {
    /// A piece of its output, cut anywhere.
    Output(BytesMut),
    /// It wants input in the middle of a statement.
    Wants,
}

/// A guest that is processing its input on another thread.
#[derive(Debug)]
pub struct CopyThread {
    thread: JoinHandle<Option<(Backend, Result<Outcome>)>>,
    events: Receiver<Event>,
    /// Input for the statement that runs; whole messages.
    feed: Option<SyncSender<BytesMut>>,
}

impl CopyThread {
    /// Lets a guest process its input. On failure the guest comes back.
    pub fn start(instance: Backend, takes_input: bool) -> Result<Self, Box<(Backend, Error)>> {
        let (events_in, events) = sync_channel(PIECES);
        let (feed, fed) = sync_channel(PIECES);
        let (hand_over, handed_over) = sync_channel::<Backend>(1);
        let thread = std::thread::Builder::new().name("pglite-oxide-copy".to_string()).spawn(move || {
            let mut instance = handed_over.recv().ok()?;
            // Never both: each side could wait for the other.
            if takes_input {
                instance.streams().attach(Some(Box::new(Feed { fed, events: events_in, asked: false })), None);
            } else {
                instance.streams().attach(None, Some(Box::new(Pieces { events: events_in })));
            }
            let outcome = instance.pump();
            instance.streams().attach(None, None);
            Some((instance, outcome))
        });
        let thread = match thread {
            Ok(thread) => thread,
            Err(cause) => {
                return Err(Box::new((instance, Error::new(ErrorKind::Io, "cannot start a thread").with_cause(cause))));
            }
        };
        // The thread waits for it: nothing can have ended it.
        match hand_over.send(instance) {
            Ok(()) => Ok(Self { thread, events, feed: takes_input.then_some(feed) }),
            Err(refused) => Err(Box::new((refused.0, Error::new(ErrorKind::Io, "a thread ended at its start")))),
        }
    }

    /// The next thing the guest tells; `None` when it is at rest.
    pub fn event(&self) -> Option<Event> {
        self.events.recv().ok()
    }

    /// Gives input to the statement that runs; false if it has ended, and takes none.
    pub fn feed(&self, messages: BytesMut) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.send(messages).is_ok())
    }

    /// Whether it was started to take input, and its end was not announced yet.
    pub fn takes_input(&self) -> bool {
        self.feed.is_some()
    }

    /// Announces that there is no more input.
    pub fn end_input(&mut self) {
        self.feed = None;
    }

    /// Waits for the guest to come to rest. Output must have been taken to its end. `None` if the
    /// guest went with its thread.
    pub fn join(self) -> Option<(Backend, Result<Outcome>)> {
        drop((self.feed, self.events));
        self.thread.join().ok().flatten()
    }
}

struct Feed {
    fed: Receiver<BytesMut>,
    events: SyncSender<Event>,
    asked: bool,
}

impl Source for Feed {
    fn more(&mut self, input: &mut BytesMut) -> More {
        if !self.asked {
            self.asked = true;
            if self.events.send(Event::Wants).is_err() {
                return More::End;
            }
        }
        match self.fed.recv() {
            Ok(messages) => {
                *input = messages;
                More::Messages
            }
            Err(_) => More::End,
        }
    }
}

struct Pieces {
    events: SyncSender<Event>,
}

impl Sink for Pieces {
    fn take(&mut self, output: &mut BytesMut) -> bool {
        output.len() < PIECE || self.events.send(Event::Output(std::mem::take(output))).is_ok()
    }
}
