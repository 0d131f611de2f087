//! Notifications: what NOTIFY sends to sessions that LISTEN.

use std::time::{Duration, Instant};

use postgres_protocol::message::frontend;

use crate::Pglite;
use crate::client::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Notification;

/// The notifications of a session: those that arrived with answers to statements, and those that
/// arrive now.
#[derive(Debug)]
pub struct Notifications<'a> {
    session: &'a mut Session,
}

/// Iterates over the notifications that have arrived.
#[derive(Debug)]
pub struct Iter<'a>(&'a mut Session);

/// Iterates over notifications and waits for each up to a timeout.
#[derive(Debug)]
pub struct TimeoutIter<'a>(&'a mut Session, Duration);

/// Iterates over notifications and waits for more.
#[derive(Debug)]
pub struct BlockingIter<'a>(&'a mut Session);

impl Pglite {
    /// Notifications on the channels this session listens to.
    pub fn notifications(&mut self) -> Notifications<'_> {
        Notifications { session: &mut self.session }
    }
}

impl Notifications<'_> {
    /// Number of notifications that arrived with answers to statements and were not taken yet.
    pub fn len(&mut self) -> usize {
        self.session.reader().notifications.len()
    }

    /// Whether there are none.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// The notifications that have arrived. An error of the session is the last item.
    pub fn iter(&mut self) -> Iter<'_> {
        Iter(self.session)
    }

    /// Iterates over notifications and waits up to `timeout` for each. An error of the session is
    /// the last item.
    pub fn timeout_iter(&mut self, timeout: Duration) -> TimeoutIter<'_> {
        TimeoutIter(self.session, timeout)
    }

    /// Iterates over notifications and waits for each without a limit.
    /// [`CancelToken::cancel`](crate::CancelToken::cancel) ends the wait with an error of kind
    /// [`ErrorKind::Cancelled`].
    pub fn blocking_iter(&mut self) -> BlockingIter<'_> {
        BlockingIter(self.session)
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<Notification>;

    fn next(&mut self) -> Option<Self::Item> {
        poll(self.0).transpose()
    }
}

impl Iterator for TimeoutIter<'_> {
    type Item = Result<Notification>;

    fn next(&mut self) -> Option<Self::Item> {
        wait(self.0, Instant::now().checked_add(self.1)).transpose()
    }
}

impl Iterator for BlockingIter<'_> {
    type Item = Result<Notification>;

    fn next(&mut self) -> Option<Self::Item> {
        wait(self.0, None).transpose()
    }
}

/// The next notification that has arrived.
fn poll(session: &mut Session) -> Result<Option<Notification>> {
    if let Some(notification) = session.reader().notifications.pop_front() {
        return Ok(Some(notification));
    }
    // PostgreSQL sends notifications when it becomes ready.
    frontend::sync(session.begin()?);
    session.send()?;
    session.finish()?;
    Ok(session.reader().notifications.pop_front())
}

/// The next notification that arrives before the deadline, if any.
fn wait(session: &mut Session, deadline: Option<Instant>) -> Result<Option<Notification>> {
    let cancellations = session.cancellations();
    loop {
        if let Some(notification) = poll(session)? {
            return Ok(Some(notification));
        }
        if session.cancellations() != cancellations {
            return Err(Error::new(ErrorKind::Cancelled, "the wait for notifications was cancelled"));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(None);
        }
        session.interrupts().wait(left);
    }
}
