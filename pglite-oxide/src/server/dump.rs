//! Dumps of a server's database, made in a session of their own.

use std::sync::Arc;
use std::task::Waker;

use super::{PgliteServer, Shared, door};
use crate::error::Result;
use crate::fs::errno::{self, Errno};
use crate::tools::{Channel, Dialer, Dump, Login, PgDumpOptions, PipeChannel, plain, text};

impl PgliteServer {
    /// Dumps the database as SQL with PostgreSQL's `pg_dump`, which connects like any other client, as the server's user, but without a socket.
    ///
    /// # Errors
    /// As [`Pglite::dump_sql`](crate::Pglite::dump_sql); with what PostgreSQL says if there is no session for it, because another client has it.
    pub fn dump_sql(&self, options: &PgDumpOptions) -> Result<String> {
        plain(options)?;
        text(self.dump_bytes(options)?)
    }

    /// Dumps the database in any form: [`Self::dump_sql`] says how.
    ///
    /// # Errors
    /// As [`Self::dump_sql`].
    pub fn dump_bytes(&self, options: &PgDumpOptions) -> Result<Vec<u8>> {
        let cluster = &self.options;
        let password = self.shared.listen.password.as_deref();
        let login = Login { user: &cluster.user, database: &cluster.database, password };
        Dump::start(Box::new(Inside(self.shared.clone())), &login, options)?.finish()
    }
}

/// Leads to the server from inside the process.
#[derive(Debug)]
struct Inside(Arc<Shared>);

impl Dialer for Inside {
    fn dial(&self, _: &Waker) -> errno::Result<Box<dyn Channel>> {
        let end = door::connect(&self.0).map_err(|_| Errno::AGAIN)?;
        Ok(Box::new(PipeChannel(end)))
    }
}
