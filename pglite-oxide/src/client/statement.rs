//! Prepared statements: preparing, the handle, closing. `query` executes them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::Oid;
use postgres_protocol::message::backend::{Message, ParameterDescriptionBody, RowDescriptionBody};
use postgres_protocol::message::frontend;
use postgres_types::Type;

use crate::Pglite;
use crate::client::session::Session;
use crate::error::{Error, Result};

/// A prepared statement of one database. Clones are the same statement. When the last one is
/// dropped, it is closed together with the next statement that is run.
#[derive(Debug, Clone)]
pub struct Statement(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    params: Vec<Type>,
    columns: Arc<[Column]>,
    garbage: Arc<Garbage>,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub(crate) name: String,
    pub(crate) type_: Type,
    pub(crate) table_oid: Option<Oid>,
    pub(crate) column_id: Option<i16>,
}

/// Types of a statement's parameters and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    params: Vec<Type>,
    columns: Vec<Column>,
}

/// A statement to run: SQL text, or a [`Statement`].
pub trait ToStatement: sealed::Sealed {}

impl ToStatement for str {}
impl ToStatement for String {}
impl ToStatement for Statement {}

pub(crate) mod sealed {
    /// Prevents implementations of `ToStatement` outside of this crate.
    pub trait Sealed {
        #[doc(hidden)]
        fn source(&self) -> Source<'_>;
    }

    /// What there is to run.
    #[derive(Debug, Clone, Copy)]
    pub enum Source<'a> {
        Text(&'a str),
        Prepared(&'a super::Statement),
    }

    impl Sealed for str {
        fn source(&self) -> Source<'_> {
            Source::Text(self)
        }
    }

    impl Sealed for String {
        fn source(&self) -> Source<'_> {
            Source::Text(self)
        }
    }

    impl Sealed for super::Statement {
        fn source(&self) -> Source<'_> {
            Source::Prepared(self)
        }
    }
}

impl Pglite {
    /// Prepares a statement, to run it more than once.
    ///
    /// # Errors
    /// [`ErrorKind::Database`](crate::ErrorKind::Database) if PostgreSQL rejects it.
    pub fn prepare(&mut self, sql: &str) -> Result<Statement> {
        self.prepare_typed(sql, &[])
    }

    /// As [`Self::prepare`], with the types of the first parameters; PostgreSQL infers the others.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_typed(&mut self, sql: &str, types: &[Type]) -> Result<Statement> {
        self.session.prepare(sql, types)
    }

    /// Types of the parameters and columns of a statement, without running it.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn describe(&mut self, sql: &str) -> Result<Description> {
        let statement = self.prepare(sql)?;
        Ok(Description { params: statement.params().to_vec(), columns: statement.columns().to_vec() })
    }
}

impl Session {
    pub(crate) fn prepare(&mut self, sql: &str, types: &[Type]) -> Result<Statement> {
        // A name that another client, which may take the session over, does not choose.
        let name = self.name("pglite_");
        let raw = self.parse(&name, sql, types, true)?;
        // From here on the statement must be closed in every case.
        let mut inner = Inner { name, params: Vec::new(), columns: Arc::default(), garbage: self.garbage().clone() };
        inner.params = self.types_of(&raw.params)?;
        inner.columns = self.columns_of(raw.columns)?;
        Ok(Statement(Arc::new(inner)))
    }

    /// Parses and describes a statement. Without `sync` the message sequence stays open for its
    /// execution.
    pub(crate) fn parse(&mut self, name: &str, sql: &str, types: &[Type], sync: bool) -> Result<RawDescription> {
        let messages = self.begin()?;
        put_parse(name, sql, types.iter().map(Type::oid), messages)?;
        frontend::describe(b'S', name, messages).map_err(invalid)?;
        if sync {
            frontend::sync(messages);
        } else {
            frontend::flush(messages);
        }
        self.send()?;
        let raw = self.read_description()?;
        if sync {
            self.finish()?;
        }
        Ok(raw)
    }

    /// Reads the answers to Parse and Describe.
    pub(crate) fn read_description(&mut self) -> Result<RawDescription> {
        match self.next()? {
            Message::ParseComplete => (),
            _ => return Err(self.broken("unexpected answer to Parse")),
        }
        let params = match self.next()? {
            Message::ParameterDescription(body) => params(&body),
            _ => return Err(self.broken("unexpected answer to Describe")),
        };
        let columns = match self.next()? {
            Message::RowDescription(body) => columns(&body),
            Message::NoData => Ok(Vec::new()),
            _ => return Err(self.broken("unexpected answer to Describe")),
        };
        match (params, columns) {
            (Ok(params), Ok(columns)) => Ok(RawDescription { params, columns }),
            (Err(cause), _) | (_, Err(cause)) => Err(self.broken_by(cause)),
        }
    }
}

impl Statement {
    /// Types of the parameters.
    pub fn params(&self) -> &[Type] {
        &self.0.params
    }

    /// Columns of the rows it returns; none if it returns no rows.
    pub fn columns(&self) -> &[Column] {
        &self.0.columns
    }

    pub(crate) fn shared_columns(&self) -> &Arc<[Column]> {
        &self.0.columns
    }

    /// The statement's name in this session; an error if it is another's.
    pub(crate) fn name_in(&self, session: &Session) -> Result<&str> {
        if Arc::ptr_eq(&self.0.garbage, session.garbage()) {
            Ok(&self.0.name)
        } else {
            Err(Error::usage("the statement was prepared in another database"))
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.garbage.add(b'S', std::mem::take(&mut self.name));
    }
}

impl Column {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Type of its values.
    pub fn type_(&self) -> &Type {
        &self.type_
    }

    /// OID of its table, if it is a column of a table.
    pub fn table_oid(&self) -> Option<Oid> {
        self.table_oid
    }

    /// Its number in that table.
    pub fn column_id(&self) -> Option<i16> {
        self.column_id
    }
}

impl Description {
    /// Types of the parameters.
    pub fn params(&self) -> &[Type] {
        &self.params
    }

    /// Columns of the rows; none if the statement returns no rows.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }
}

/// A description with type OIDs only.
#[derive(Debug)]
pub(crate) struct RawDescription {
    pub(crate) params: Vec<Oid>,
    pub(crate) columns: Vec<RawColumn>,
}

#[derive(Debug)]
pub(crate) struct RawColumn {
    pub(crate) name: String,
    pub(crate) type_oid: Oid,
    pub(crate) table_oid: Oid,
    pub(crate) column_id: i16,
}

/// Names of statements and portals to be closed.
#[derive(Debug, Default)]
pub(crate) struct Garbage(Mutex<Vec<(u8, String)>>);

impl Garbage {
    /// Adds a statement (`S`) or portal (`P`).
    pub(crate) fn add(&self, variant: u8, name: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((variant, name));
    }

    /// Writes the messages that close all of them.
    pub(crate) fn close_all(&self, messages: &mut BytesMut) -> Result<()> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.drain(..).try_for_each(|(variant, name)| frontend::close(variant, &name, messages).map_err(invalid))
    }
}

/// Makes a Parse message.
pub(crate) fn put_parse(
    name: &str,
    sql: &str,
    types: impl IntoIterator<Item = Oid>,
    messages: &mut BytesMut,
) -> Result<()> {
    frontend::parse(name, sql, types, messages).map_err(invalid)
}

/// The error of a text that cannot be part of a message.
pub(crate) fn invalid(cause: std::io::Error) -> Error {
    Error::usage("the statement cannot be sent").with_cause(cause)
}

fn params(body: &ParameterDescriptionBody) -> std::io::Result<Vec<Oid>> {
    body.parameters().collect()
}

fn columns(body: &RowDescriptionBody) -> std::io::Result<Vec<RawColumn>> {
    let column = |field: postgres_protocol::message::backend::Field<'_>| {
        Ok(RawColumn {
            name: field.name().to_string(),
            type_oid: field.type_oid(),
            table_oid: field.table_oid(),
            column_id: field.column_id(),
        })
    };
    body.fields().map(column).collect()
}
