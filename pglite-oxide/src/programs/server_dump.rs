//! Dumps of a server's database, in their own session.

use std::task::Waker;

use super::pipe_channel::PipeChannel;
use super::{Dump, Login, PgDumpOptions, plain, text};
use crate::error::Result;
use crate::fs::errno::{self, Errno};
use crate::server::{PgliteServer, ServerConnector};
use crate::wasm::channel::{Channel, Dialer};

impl PgliteServer {
    /// Dumps the database as SQL with PostgreSQL's `pg_dump`, which connects like other clients, as
    /// the server's user, but without a socket.
    ///
    /// # Errors
    /// As [`Pglite::dump_sql`](crate::Pglite::dump_sql); PostgreSQL's error 53300 if no session
    /// becomes free.
    pub fn dump_sql(&self, options: &PgDumpOptions) -> Result<String> {
        plain(options)?;
        text(self.dump_bytes(options)?)
    }

    /// Dumps the database in any format; otherwise as [`Self::dump_sql`].
    ///
    /// # Errors
    /// As [`Self::dump_sql`].
    pub fn dump_bytes(&self, options: &PgDumpOptions) -> Result<Vec<u8>> {
        let login = Login { user: self.user(), database: self.database(), password: self.password() };
        Dump::start(Box::new(Inside(self.connector())), &login, options)?.finish()
    }
}

/// Leads to the server from inside the process.
#[derive(Debug)]
struct Inside(ServerConnector);

impl Dialer for Inside {
    fn dial(&self, _: &Waker) -> errno::Result<Box<dyn Channel>> {
        let end = self.0.connect().map_err(|_| Errno::AGAIN)?;
        Ok(Box::new(PipeChannel(end)))
    }
}
