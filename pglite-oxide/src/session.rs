//! One session with a running guest: statements in, results out. It owns the order of sending, pumping and reading, and when a session is
//! over. It knows nothing of where the guest or its files come from.

use crate::error::{DbError, Error, ErrorKind, Result};
use crate::instance::{Instance, Launch, Outcome};
use crate::protocol::{self, Answer, Reader, ResultSet};

/// A session that is ready for a statement, or over.
#[derive(Debug)]
pub(crate) struct Session {
    instance: Instance,
    reader: Reader,
    /// Why no statement is possible any more, if PostgreSQL or the caller ended the session.
    over: Option<Option<DbError>>,
}

impl Session {
    /// Starts PostgreSQL and waits until it is ready.
    pub(crate) fn open(launch: Launch, user: &str, database: &str) -> Result<Self> {
        let mut session = Self { instance: Instance::new(launch)?, reader: Reader::default(), over: None };
        session.instance.streams().input.extend_from_slice(&protocol::startup(user, database)?);
        let outcome = session.instance.boot()?;
        match (session.read()?.error, outcome) {
            (None, Outcome::Drained) => {
                // What a server says while it starts is not about anything the caller did.
                session.reader.take_notices();
                Ok(session)
            }
            (Some(error), _) => Err(Error::database(ErrorKind::Closed, error)),
            (None, Outcome::Ended(_)) => {
                let log = session.instance.take_log();
                Err(Error::new(ErrorKind::Crashed, format!("PostgreSQL ended during start-up: {}", log.trim_end())))
            }
        }
    }

    /// Runs statements and returns the result of each. The first error ends them all.
    pub(crate) fn exec(&mut self, sql: &str) -> Result<Vec<ResultSet>> {
        if let Some(reason) = &self.over {
            return Err(reason.clone().map_or_else(
                || Error::new(ErrorKind::Closed, "the session is closed"),
                |error| Error::database(ErrorKind::Closed, error),
            ));
        }
        let answer = self.send(&protocol::query(sql)?)?;
        match (answer.error, answer.ready) {
            (None, true) => Ok(answer.results),
            (Some(error), true) => Err(Error::database(ErrorKind::Database, error)),
            (error, false) => {
                self.over = Some(error.clone());
                Err(error.map_or_else(
                    || Error::new(ErrorKind::Closed, "PostgreSQL ended the session"),
                    |error| Error::database(ErrorKind::Closed, error),
                ))
            }
        }
    }

    /// Ends the session in good order. Ending it twice does nothing.
    pub(crate) fn close(&mut self) -> Result<()> {
        if self.over.is_some() || !self.instance.is_alive() {
            return Ok(());
        }
        self.over = Some(None);
        let streams = self.instance.streams();
        streams.input.extend_from_slice(&protocol::terminate());
        match self.instance.pump()? {
            Outcome::Ended(0) => Ok(()),
            Outcome::Ended(code) => {
                let log = self.instance.take_log();
                let message = format!("PostgreSQL did not shut down cleanly (exit code {code}): {}", log.trim_end());
                Err(Error::new(ErrorKind::Crashed, message))
            }
            Outcome::Drained => Err(Error::new(ErrorKind::Protocol, "PostgreSQL went on after the end of its session")),
        }
    }

    pub(crate) fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    pub(crate) fn instance(&mut self) -> &mut Instance {
        &mut self.instance
    }

    fn send(&mut self, message: &[u8]) -> Result<Answer> {
        self.instance.streams().input.extend_from_slice(message);
        let outcome = self.instance.pump()?;
        let streams = self.instance.streams();
        // What the guest has read is not kept; a buffer that grew large is let go.
        if streams.taken == streams.input.len() {
            streams.input.clear();
            streams.input.shrink_to(1 << 20);
            streams.taken = 0;
        }
        let mut answer = self.read()?;
        answer.ready &= outcome == Outcome::Drained;
        if answer.ready && self.instance.maintenance_due() {
            answer.ready = self.instance.maintain()? == Outcome::Drained;
        }
        Ok(answer)
    }

    fn read(&mut self) -> Result<Answer> {
        let mut output = std::mem::take(&mut self.instance.streams().output);
        let answer = self.reader.read(&output)?;
        // The buffer goes back, so that it is not allocated for each statement; one that grew large is let go.
        if output.capacity() <= 1 << 20 {
            output.clear();
            self.instance.streams().output = output;
        }
        Ok(answer)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _ = self.close();
    }
}
