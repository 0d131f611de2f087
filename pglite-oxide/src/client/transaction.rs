//! Transactions and savepoints that roll back when they are dropped.

use postgres_protocol::escape::escape_identifier;

use crate::Pglite;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::TransactionStatus;

/// A transaction. What a database can run, it runs inside the transaction. Dropped without
/// [`Self::commit`], it rolls back, in a panic too. A transaction that is started inside another
/// one is a savepoint of it.
///
/// Functions that work with a database and inside a transaction take
/// [`impl GenericClient`](crate::GenericClient). The database itself cannot be had from a
/// transaction: a database exchanged behind its back would have another session's work committed in
/// the place of its own.
///
/// ```compile_fail,E0614
/// # fn main() -> pglite_oxide::Result<()> {
/// let mut one = pglite_oxide::Pglite::temporary()?;
/// let mut other = pglite_oxide::Pglite::temporary()?;
/// let mut transaction = one.transaction()?;
/// std::mem::swap(&mut *transaction, &mut other);
/// transaction.commit()
/// # }
/// ```
#[derive(Debug)]
pub struct Transaction<'a>(Open<'a>);

/// A savepoint with a name. What a database can run, it runs. Dropped without [`Self::commit`],
/// everything since the savepoint is undone, in a panic too; the transaction around it goes on.
///
/// ```compile_fail,E0614
/// # fn main() -> pglite_oxide::Result<()> {
/// let mut one = pglite_oxide::Pglite::temporary()?;
/// let mut other = pglite_oxide::Pglite::temporary()?;
/// let mut transaction = one.transaction()?;
/// let mut savepoint = transaction.savepoint("s")?;
/// std::mem::swap(&mut *savepoint, &mut other);
/// savepoint.commit()
/// # }
/// ```
#[derive(Debug)]
pub struct Savepoint<'a>(Open<'a>);

/// A transaction or savepoint that is not ended yet.
#[derive(Debug)]
struct Open<'a> {
    db: &'a mut Pglite,
    /// Quoted name; `None` for a transaction that is no savepoint.
    savepoint: Option<String>,
    done: bool,
}

/// Isolation level of a transaction (PostgreSQL documentation, chapter "Transaction Isolation").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// As `ReadCommitted` in PostgreSQL.
    ReadUncommitted,
    /// Each statement sees what was committed before it. The default.
    ReadCommitted,
    /// All statements see what was committed before the transaction's first statement.
    RepeatableRead,
    /// As if transactions ran one after another.
    Serializable,
}

/// A transaction to be started with [`Self::start`].
#[derive(Debug)]
pub struct TransactionBuilder<'a> {
    db: &'a mut Pglite,
    isolation_level: Option<IsolationLevel>,
    read_only: Option<bool>,
    deferrable: Option<bool>,
}

impl Pglite {
    /// Starts a transaction. Inside a transaction, it creates a savepoint; the outer transaction
    /// decides whether its changes are committed.
    ///
    /// ```no_run
    /// # fn main() -> pglite_oxide::Result<()> {
    /// # let mut db = pglite_oxide::Pglite::temporary()?;
    /// let mut transaction = db.transaction()?;
    /// transaction.execute("INSERT INTO t VALUES ($1)", &[&1i32])?;
    /// transaction.commit()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Database`] if the outer transaction has failed.
    pub fn transaction(&mut self) -> Result<Transaction<'_>> {
        self.session.settle()?;
        if self.session.reader().status == TransactionStatus::Idle {
            return self.build_transaction().start();
        }
        let name = self.session.name("pglite_");
        self.set_savepoint(&name).map(Transaction)
    }

    /// Options for a transaction.
    pub fn build_transaction(&mut self) -> TransactionBuilder<'_> {
        TransactionBuilder { db: self, isolation_level: None, read_only: None, deferrable: None }
    }

    pub(super) fn named_savepoint(&mut self, name: &str) -> Result<Savepoint<'_>> {
        self.set_savepoint(name).map(Savepoint)
    }

    fn set_savepoint(&mut self, name: &str) -> Result<Open<'_>> {
        let name = escape_identifier(name);
        self.batch_execute(&format!("SAVEPOINT {name}"))?;
        Ok(Open { db: self, savepoint: Some(name), done: false })
    }
}

impl<'a> TransactionBuilder<'a> {
    /// Sets the isolation level.
    #[must_use]
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.isolation_level = Some(level);
        self
    }

    /// Sets whether the transaction is read-only.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = Some(read_only);
        self
    }

    /// Sets whether a read-only serializable transaction may wait at its start, so that it cannot
    /// fail later (DEFERRABLE).
    #[must_use]
    pub fn deferrable(mut self, deferrable: bool) -> Self {
        self.deferrable = Some(deferrable);
        self
    }

    /// Starts the transaction.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] inside another transaction: only the outermost transaction has options.
    pub fn start(self) -> Result<Transaction<'a>> {
        self.db.session.settle()?;
        if self.db.session.reader().status != TransactionStatus::Idle {
            return Err(Error::usage("a transaction is open already: only the outermost can be built"));
        }
        let level = self.isolation_level.map(|level| match level {
            IsolationLevel::ReadUncommitted => "ISOLATION LEVEL READ UNCOMMITTED",
            IsolationLevel::ReadCommitted => "ISOLATION LEVEL READ COMMITTED",
            IsolationLevel::RepeatableRead => "ISOLATION LEVEL REPEATABLE READ",
            IsolationLevel::Serializable => "ISOLATION LEVEL SERIALIZABLE",
        });
        let read_only = self.read_only.map(|read_only| if read_only { "READ ONLY" } else { "READ WRITE" });
        let deferrable = self.deferrable.map(|deferrable| if deferrable { "DEFERRABLE" } else { "NOT DEFERRABLE" });
        let modes: Vec<&str> = [level, read_only, deferrable].into_iter().flatten().collect();
        self.db.batch_execute(&format!("START TRANSACTION {}", modes.join(", ")))?;
        Ok(Transaction(Open { db: self.db, savepoint: None, done: false }))
    }
}

impl Transaction<'_> {
    /// Commits the transaction; one inside another becomes part of it.
    ///
    /// # Errors
    /// [`ErrorKind::Database`] if PostgreSQL cannot commit, for example because of a deferred
    /// constraint; [`ErrorKind::RolledBack`] if the transaction had failed. All its changes are
    /// undone then.
    pub fn commit(self) -> Result<()> {
        self.0.commit()
    }

    /// Undoes everything since the transaction began. Dropping it does the same and hides errors.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] or [`ErrorKind::Crashed`] if the session is over.
    pub fn rollback(mut self) -> Result<()> {
        self.0.undo()
    }

    pub(super) fn client(&self) -> &Pglite {
        self.0.db
    }

    pub(super) fn client_mut(&mut self) -> &mut Pglite {
        self.0.db
    }
}

impl Savepoint<'_> {
    /// Keeps what was done since the savepoint, as part of the transaction around it.
    ///
    /// # Errors
    /// [`ErrorKind::Database`] if an earlier error had failed the savepoint. Its changes are undone
    /// then.
    pub fn commit(self) -> Result<()> {
        self.0.commit()
    }

    /// Undoes everything since the savepoint and removes it. Dropping it does the same and hides
    /// errors.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] or [`ErrorKind::Crashed`] if the session is over.
    pub fn rollback(mut self) -> Result<()> {
        self.0.undo()
    }

    pub(super) fn client(&self) -> &Pglite {
        self.0.db
    }

    pub(super) fn client_mut(&mut self) -> &mut Pglite {
        self.0.db
    }
}

impl Open<'_> {
    fn commit(mut self) -> Result<()> {
        match &self.savepoint {
            // If it fails, dropping `self` rolls back.
            Some(name) => self.db.session.batch_execute(&format!("RELEASE {name}"))?,
            None => self.db.session.batch_execute("COMMIT").and_then(|tag| match tag.as_str() {
                "ROLLBACK" => Err(Error::new(
                    ErrorKind::RolledBack,
                    "the transaction was rolled back: an earlier error had failed it",
                )),
                _ => Ok(tag),
            })?,
        };
        self.done = true;
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        self.done = true;
        self.db.session.settle()?;
        if self.db.session.reader().status == TransactionStatus::Idle {
            return Ok(());
        }
        let sql = match &self.savepoint {
            Some(name) => format!("ROLLBACK TO {name}; RELEASE {name}"),
            None => "ROLLBACK".to_string(),
        };
        self.db.batch_execute(&sql)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.done {
            // If the session has ended, the next statement reports it.
            let _ = self.undo();
        }
    }
}
