//! The functions that a database, a transaction and a savepoint have in common: those that run
//! statements. It owns their delegation to [`Pglite`], which implements them.
//!
//! A transaction never returns the `&mut Pglite` that it holds: a caller could exchange the session
//! behind it, and `commit` would commit another session's transaction.

use postgres_types::{BorrowToSql, ToSql, Type};

use crate::client::{
    CancelToken, CopyInWriter, CopyOutReader, Description, Notifications, Pglite, Portal, Row, RowIter, Savepoint,
    SimpleQueryMessage, Statement, ToStatement, Transaction,
};
use crate::error::{DbError, Result};
use crate::protocol::TransactionStatus;

mod sealed {
    pub trait Sealed {}
}

/// Runs statements: implemented by [`Pglite`], [`Transaction`] and [`Savepoint`], for functions
/// that work with any of them. Every method is also an inherent method of the three types.
///
/// ```no_run
/// use pglite_oxide::{GenericClient, Pglite, Result};
///
/// fn add(client: &mut impl GenericClient, name: &str) -> Result<()> {
///     client.execute("INSERT INTO person (name) VALUES ($1)", &[&name]).map(drop)
/// }
///
/// # fn main() -> Result<()> {
/// let mut db = Pglite::temporary()?;
/// add(&mut db, "Ada")?;
/// let mut transaction = db.transaction()?;
/// add(&mut transaction, "Grace")?;
/// transaction.commit()
/// # }
/// ```
pub trait GenericClient: sealed::Sealed {
    /// As [`Pglite::query`].
    fn query<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>>
    where
        T: ?Sized + ToStatement;

    /// As [`Pglite::query_one`].
    fn query_one<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Row>
    where
        T: ?Sized + ToStatement;

    /// As [`Pglite::query_opt`].
    fn query_opt<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>>
    where
        T: ?Sized + ToStatement;

    /// As [`Pglite::query_typed`].
    fn query_typed(&mut self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>>;

    /// As [`Pglite::query_raw`].
    fn query_raw<T, P, I>(&mut self, statement: &T, params: I) -> Result<RowIter<'_>>
    where
        T: ?Sized + ToStatement,
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator;

    /// As [`Pglite::execute`].
    fn execute<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<u64>
    where
        T: ?Sized + ToStatement;

    /// As [`Pglite::prepare`].
    fn prepare(&mut self, sql: &str) -> Result<Statement>;

    /// As [`Pglite::prepare_typed`].
    fn prepare_typed(&mut self, sql: &str, types: &[Type]) -> Result<Statement>;

    /// As [`Pglite::simple_query`].
    fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>>;

    /// As [`Pglite::batch_execute`].
    fn batch_execute(&mut self, sql: &str) -> Result<()>;

    /// As [`Pglite::copy_in`].
    fn copy_in<T>(&mut self, statement: &T) -> Result<CopyInWriter<'_>>
    where
        T: ?Sized + ToStatement;

    /// As [`Pglite::copy_out`].
    fn copy_out<T>(&mut self, statement: &T) -> Result<CopyOutReader<'_>>
    where
        T: ?Sized + ToStatement;

    /// As [`Pglite::transaction`]: inside a transaction it is a savepoint.
    fn transaction(&mut self) -> Result<Transaction<'_>>;

    /// As [`Pglite::cancel_token`].
    fn cancel_token(&self) -> CancelToken;
}

macro_rules! implement_generic_client {
    ($($client:ty),*) => {$(
        impl sealed::Sealed for $client {}

        impl GenericClient for $client {
            fn query<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>>
            where
                T: ?Sized + ToStatement,
            {
                <$client>::query(self, statement, params)
            }

            fn query_one<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Row>
            where
                T: ?Sized + ToStatement,
            {
                <$client>::query_one(self, statement, params)
            }

            fn query_opt<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>>
            where
                T: ?Sized + ToStatement,
            {
                <$client>::query_opt(self, statement, params)
            }

            fn query_typed(&mut self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
                <$client>::query_typed(self, sql, params)
            }

            fn query_raw<T, P, I>(&mut self, statement: &T, params: I) -> Result<RowIter<'_>>
            where
                T: ?Sized + ToStatement,
                P: BorrowToSql,
                I: IntoIterator<Item = P>,
                I::IntoIter: ExactSizeIterator,
            {
                <$client>::query_raw(self, statement, params)
            }

            fn execute<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<u64>
            where
                T: ?Sized + ToStatement,
            {
                <$client>::execute(self, statement, params)
            }

            fn prepare(&mut self, sql: &str) -> Result<Statement> {
                <$client>::prepare(self, sql)
            }

            fn prepare_typed(&mut self, sql: &str, types: &[Type]) -> Result<Statement> {
                <$client>::prepare_typed(self, sql, types)
            }

            fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
                <$client>::simple_query(self, sql)
            }

            fn batch_execute(&mut self, sql: &str) -> Result<()> {
                <$client>::batch_execute(self, sql)
            }

            fn copy_in<T>(&mut self, statement: &T) -> Result<CopyInWriter<'_>>
            where
                T: ?Sized + ToStatement,
            {
                <$client>::copy_in(self, statement)
            }

            fn copy_out<T>(&mut self, statement: &T) -> Result<CopyOutReader<'_>>
            where
                T: ?Sized + ToStatement,
            {
                <$client>::copy_out(self, statement)
            }

            fn transaction(&mut self) -> Result<Transaction<'_>> {
                <$client>::transaction(self)
            }

            fn cancel_token(&self) -> CancelToken {
                <$client>::cancel_token(self)
            }
        }
    )*};
}

implement_generic_client!(Pglite, Transaction<'_>, Savepoint<'_>);

/// The functions of [`Pglite`] that make sense inside a transaction, as inherent methods. The type
/// has methods `client` and `client_mut` that return the database, visible to this module alone.
macro_rules! delegate_to_database {
    ($($open:ident),*) => {$(
        impl $open<'_> {
            /// As [`Pglite::query`].
            ///
            /// # Errors
            /// As [`Pglite::query`].
            pub fn query<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>>
            where
                T: ?Sized + ToStatement,
            {
                self.client_mut().query(statement, params)
            }

            /// As [`Pglite::query_one`].
            ///
            /// # Errors
            /// As [`Pglite::query_one`].
            pub fn query_one<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Row>
            where
                T: ?Sized + ToStatement,
            {
                self.client_mut().query_one(statement, params)
            }

            /// As [`Pglite::query_opt`].
            ///
            /// # Errors
            /// As [`Pglite::query_opt`].
            pub fn query_opt<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>>
            where
                T: ?Sized + ToStatement,
            {
                self.client_mut().query_opt(statement, params)
            }

            /// As [`Pglite::query_typed`].
            ///
            /// # Errors
            /// As [`Pglite::query_typed`].
            pub fn query_typed(&mut self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
                self.client_mut().query_typed(sql, params)
            }

            /// As [`Pglite::query_raw`].
            ///
            /// # Errors
            /// As [`Pglite::query_raw`].
            pub fn query_raw<T, P, I>(&mut self, statement: &T, params: I) -> Result<RowIter<'_>>
            where
                T: ?Sized + ToStatement,
                P: BorrowToSql,
                I: IntoIterator<Item = P>,
                I::IntoIter: ExactSizeIterator,
            {
                self.client_mut().query_raw(statement, params)
            }

            /// As [`Pglite::execute`].
            ///
            /// # Errors
            /// As [`Pglite::execute`].
            pub fn execute<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<u64>
            where
                T: ?Sized + ToStatement,
            {
                self.client_mut().execute(statement, params)
            }

            /// As [`Pglite::prepare`].
            ///
            /// # Errors
            /// As [`Pglite::prepare`].
            pub fn prepare(&mut self, sql: &str) -> Result<Statement> {
                self.client_mut().prepare(sql)
            }

            /// As [`Pglite::prepare_typed`].
            ///
            /// # Errors
            /// As [`Pglite::prepare_typed`].
            pub fn prepare_typed(&mut self, sql: &str, types: &[Type]) -> Result<Statement> {
                self.client_mut().prepare_typed(sql, types)
            }

            /// As [`Pglite::describe`].
            ///
            /// # Errors
            /// As [`Pglite::describe`].
            pub fn describe(&mut self, sql: &str) -> Result<Description> {
                self.client_mut().describe(sql)
            }

            /// As [`Pglite::simple_query`].
            ///
            /// # Errors
            /// As [`Pglite::simple_query`].
            pub fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
                self.client_mut().simple_query(sql)
            }

            /// As [`Pglite::batch_execute`].
            ///
            /// # Errors
            /// As [`Pglite::batch_execute`].
            pub fn batch_execute(&mut self, sql: &str) -> Result<()> {
                self.client_mut().batch_execute(sql)
            }

            /// As [`Pglite::copy_in`].
            ///
            /// # Errors
            /// As [`Pglite::copy_in`].
            pub fn copy_in<T>(&mut self, statement: &T) -> Result<CopyInWriter<'_>>
            where
                T: ?Sized + ToStatement,
            {
                self.client_mut().copy_in(statement)
            }

            /// As [`Pglite::copy_out`].
            ///
            /// # Errors
            /// As [`Pglite::copy_out`].
            pub fn copy_out<T>(&mut self, statement: &T) -> Result<CopyOutReader<'_>>
            where
                T: ?Sized + ToStatement,
            {
                self.client_mut().copy_out(statement)
            }

            /// Creates a portal for a statement and its parameters, for [`Self::query_portal`].
            ///
            /// # Errors
            /// As [`Pglite::query`].
            pub fn bind<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Portal>
            where
                T: ?Sized + ToStatement,
            {
                self.client_mut().session.bind(statement.source(), params)
            }

            /// The next rows of a portal, at most `max_rows`; all that are left if that is 0. No
            /// row if it has ended.
            ///
            /// # Errors
            /// As [`Pglite::query`].
            pub fn query_portal(&mut self, portal: &Portal, max_rows: u32) -> Result<Vec<Row>> {
                self.client_mut().session.query_portal(portal, max_rows)
            }

            /// A savepoint inside this transaction, under a name that no other has. Its `commit`
            /// keeps its changes in this transaction.
            ///
            /// # Errors
            /// [`ErrorKind::Database`](crate::ErrorKind::Database) if an error has failed this
            /// transaction.
            pub fn transaction(&mut self) -> Result<Transaction<'_>> {
                self.client_mut().transaction()
            }

            /// A savepoint with a name, which SQL can use as well.
            ///
            /// # Errors
            /// [`ErrorKind::Database`](crate::ErrorKind::Database) if an error has failed this
            /// transaction.
            pub fn savepoint(&mut self, name: &str) -> Result<Savepoint<'_>> {
                self.client_mut().named_savepoint(name)
            }

            /// As [`Pglite::notifications`].
            pub fn notifications(&mut self) -> Notifications<'_> {
                self.client_mut().notifications()
            }

            /// As [`Pglite::parameter`].
            pub fn parameter(&mut self, name: &str) -> Option<&str> {
                self.client_mut().parameter(name)
            }

            /// As [`Pglite::transaction_status`].
            pub fn transaction_status(&mut self) -> TransactionStatus {
                self.client_mut().transaction_status()
            }

            /// As [`Pglite::is_closed`].
            pub fn is_closed(&self) -> bool {
                self.client().is_closed()
            }

            /// As [`Pglite::is_valid`].
            ///
            /// # Errors
            /// As [`Pglite::is_valid`].
            pub fn is_valid(&mut self) -> Result<()> {
                self.client_mut().is_valid()
            }

            /// As [`Pglite::take_notices`].
            pub fn take_notices(&mut self) -> Vec<DbError> {
                self.client_mut().take_notices()
            }

            /// As [`Pglite::on_notice`].
            pub fn on_notice(&mut self, callback: impl FnMut(DbError) + Send + 'static) {
                self.client_mut().on_notice(callback);
            }

            /// As [`Pglite::cancel_token`].
            pub fn cancel_token(&self) -> CancelToken {
                self.client().cancel_token()
            }

            /// As [`Pglite::clear_type_cache`].
            pub fn clear_type_cache(&mut self) {
                self.client_mut().clear_type_cache();
            }
        }
    )*};
}

delegate_to_database!(Transaction, Savepoint);
