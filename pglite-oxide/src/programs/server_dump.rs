//! Dumps of a server's database, made in a session of their own.

use std::task::Waker;

use super::pipe_channel::PipeChannel;
use super::{Dump, Login, PgDumpOptions, plain, text};
use crate::error::Result;
use crate::fs::errno::{self, Errno};
use crate::server::{PgliteServer, ServerConnector};
use crate::wasm::channel::{Channel, Dialer};

impl PgliteServer {
    /// Dumps the database as SQL with PostgreSQL's `pg_dump`, which connects like any other client,
    /// as the server's user, but without a socket.
    ///
    /// # Errors
    /// As [`Pglite::dump_sql`](crate::Pglite::dump_sql); with what PostgreSQL says if there is no
    /// session for it, because another client has it.
    pub fn dump_sql(&self, options: &PgDumpOptions) -> Result<String> {
        plain(options)?;
        text(self.dump_bytes(options)?)
    }

    /// Dumps the database in any form: [`Self::dump_sql`] says how.
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
