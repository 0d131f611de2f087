//! Notifications: what NOTIFY sends to sessions that LISTEN.

use std::time::{Duration, Instant};

use postgres_protocol::message::frontend;

use crate::Pglite;
use crate::client::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Notification;

/// The notifications of a session: those that came with answers to statements, and those that come now.
#[derive(Debug)]
pub struct Notifications<'a> {
    session: &'a mut Session,
}

/// Iterates over the notifications that are there.
#[derive(Debug)]
pub struct Iter<'a>(&'a mut Session);

/// Iterates over notifications and waits for more, up to a time after the last.
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
    /// Number of notifications that came with the answers to statements and were not taken yet.
    pub fn len(&mut self) -> usize {
        self.session.reader().notifications.len()
    }

    /// Whether there is none of them.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// The notifications that are there now. An error of the session is the last item.
    pub fn iter(&mut self) -> Iter<'_> {
        Iter(self.session)
    }

    /// Notifications, and waits up to `timeout` for each. An error of the session is the last item.
    pub fn timeout_iter(&mut self, timeout: Duration) -> TimeoutIter<'_> {
        TimeoutIter(self.session, timeout)
    }

    /// Notifications, and waits for each as long as it takes. [`CancelToken::cancel`](crate::CancelToken::cancel) ends the waiting, with an error of kind
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

/// The next notification that is there.
fn poll(session: &mut Session) -> Result<Option<Notification>> {
    if let Some(notification) = session.reader().notifications.pop_front() {
        return Ok(Some(notification));
    }
    // PostgreSQL tells of notifications when it becomes ready.
    frontend::sync(session.begin()?);
    session.send()?;
    session.finish()?;
    Ok(session.reader().notifications.pop_front())
}

/// The next notification, before the deadline if there is one.
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
