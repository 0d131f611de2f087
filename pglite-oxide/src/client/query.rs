//! Running statements with parameters. It owns the sequence of messages of one execution; `portal`
//! owns rows in batches.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{CommandCompleteBody, DataRowBody, Message};
use postgres_protocol::message::frontend::{self, BindError};
use postgres_types::{BorrowToSql, ToSql, Type};

use crate::Pglite;
use crate::client::session::Session;
use crate::client::statement::sealed::Source;
use crate::client::statement::{RawDescription, invalid, put_parse};
use crate::client::{Column, Row, ToStatement};
use crate::error::{Error, ErrorKind, Result};

/// Maximum number of parameters of a statement: the protocol has two bytes for the number.
const PARAMETERS_MAX: usize = 65_535;

/// Maximum number of rows wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    None,
    Rows(i32),
}

impl Pglite {
    /// Runs a statement and returns its rows.
    ///
    /// `statement` is SQL text or a prepared [`Statement`](crate::Statement); text is prepared for
    /// this execution only. `params` are the values of `$1`, `$2`, ….
    ///
    /// # Errors
    /// [`ErrorKind::Database`] if PostgreSQL reports an error; [`ErrorKind::ToSql`] and
    /// [`ErrorKind::ParameterCount`] if the parameters do not match the statement.
    pub fn query<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>>
    where
        T: ?Sized + ToStatement,
    {
        self.session.query(statement.source(), params, Limit::None)
    }

    /// Runs a statement that returns one row.
    ///
    /// # Errors
    /// [`ErrorKind::RowCount`] if it returns none or more; otherwise as [`Self::query`].
    pub fn query_one<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Row>
    where
        T: ?Sized + ToStatement,
    {
        let row = self.query_opt(statement, params)?;
        row.ok_or_else(|| Error::new(ErrorKind::RowCount, "the statement returned no row"))
    }

    /// Runs a statement that returns one row or none. The statement is stopped after two rows: one
    /// that changes data may have changed more rows or fewer than the caller means when it returns
    /// more than one.
    ///
    /// # Errors
    /// [`ErrorKind::RowCount`] if it returns more; otherwise as [`Self::query`].
    pub fn query_opt<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>>
    where
        T: ?Sized + ToStatement,
    {
        let mut rows = self.session.query(statement.source(), params, Limit::Rows(2))?;
        if rows.len() > 1 {
            return Err(Error::new(ErrorKind::RowCount, "the statement returned more than one row"));
        }
        Ok(rows.pop())
    }

    /// Runs a statement with parameters of the given types, instead of types that PostgreSQL
    /// infers.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn query_typed(&mut self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        self.session.query_typed(sql, params)
    }

    /// Runs a statement and returns the number of rows that it changed or read; 0 for statements
    /// without such a number.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub fn execute<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<u64>
    where
        T: ?Sized + ToStatement,
    {
        self.session.execute(statement.source(), params)
    }
}

/// Columns of a running statement: with known types, or with type OIDs only.
enum Columns {
    Known(Arc<[Column]>),
    Raw(RawDescription),
}

impl Session {
    pub(crate) fn query(
        &mut self,
        source: Source<'_>,
        params: &[&(dyn ToSql + Sync)],
        limit: Limit,
    ) -> Result<Vec<Row>> {
        let columns = self.start(source, params, limit)?;
        let (bodies, _) = self.read_rows()?;
        self.make_rows(columns, &bodies)
    }

    fn query_typed(&mut self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        check_number(params.len())?;
        let types: Vec<Type> = params.iter().map(|(_, type_)| type_.clone()).collect();
        let messages = self.begin()?;
        put_parse("", sql, types.iter().map(Type::oid), messages)?;
        frontend::describe(b'S', "", messages).map_err(invalid)?;
        put_bind("", "", &types, params.iter().map(|(value, _)| *value), messages)?;
        put_execute(Limit::None, messages)?;
        let columns = self.start_described(types.len())?;
        let (bodies, _) = self.read_rows()?;
        self.make_rows(columns, &bodies)
    }

    fn execute(&mut self, source: Source<'_>, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        self.start(source, params, Limit::None)?;
        loop {
            match self.next()? {
                Message::DataRow(_) => (),
                message => {
                    if let Some(count) = self.ended(&message)? {
                        self.finish()?;
                        return Ok(count);
                    }
                }
            }
        }
    }

    /// Sends a statement with its execution, up to the first row.
    fn start(&mut self, source: Source<'_>, params: &[&(dyn ToSql + Sync)], limit: Limit) -> Result<Columns> {
        match source {
            Source::Prepared(statement) => {
                let name = statement.name_in(self)?;
                let messages = self.begin()?;
                put_bind("", name, statement.params(), params.iter().copied(), messages)?;
                put_execute(limit, messages)?;
                self.send()?;
                self.expect_bind()?;
                Ok(Columns::Known(statement.shared_columns().clone()))
            }
            // Nothing is needed before the execution: everything is sent at once.
            Source::Text(sql) if params.is_empty() => {
                let messages = self.begin()?;
                put_parse("", sql, [], messages)?;
                frontend::describe(b'S', "", messages).map_err(invalid)?;
                put_bind("", "", &[], params.iter().copied(), messages)?;
                put_execute(limit, messages)?;
                self.start_described(0)
            }
            Source::Text(sql) => {
                check_number(params.len())?;
                let (types, columns) = self.parse_unnamed(sql)?;
                let bound = put_bind("", "", &types, params.iter().copied(), self.more());
                if let Err(error) = bound.and_then(|()| put_execute(limit, self.outgoing())) {
                    return Err(self.unexpected(error));
                }
                self.send()?;
                self.expect_bind()?;
                Ok(Columns::Known(columns))
            }
        }
    }

    /// Parses a statement without a name and resolves its types. Afterwards the message sequence is
    /// open, or the session is ready.
    pub(crate) fn parse_unnamed(&mut self, sql: &str) -> Result<(Vec<Type>, Arc<[Column]>)> {
        let raw = self.parse("", sql, &[], false)?;
        if !self.knows(raw.params.iter().copied()) || !self.knows(raw.columns.iter().map(|column| column.type_oid)) {
            // The catalog is queried in separate message sequences.
            self.settle()?;
        }
        Ok((self.types_of(&raw.params)?, self.columns_of(raw.columns)?))
    }

    /// Sends a statement whose description arrives with its execution.
    fn start_described(&mut self, params: usize) -> Result<Columns> {
        self.send()?;
        let raw = self.read_description()?;
        if raw.params.len() != params {
            // The server's error follows, with a less clear message.
            return Err(self.unexpected(wrong_number(raw.params.len(), params)));
        }
        self.expect_bind()?;
        Ok(Columns::Raw(raw))
    }

    pub(crate) fn expect_bind(&mut self) -> Result<()> {
        match self.next()? {
            Message::BindComplete => Ok(()),
            _ => Err(self.broken("unexpected answer to Bind")),
        }
    }

    /// Reads rows up to the end of the statement, and the answer to its end.
    fn read_rows(&mut self) -> Result<(Vec<DataRowBody>, u64)> {
        let mut bodies = Vec::new();
        loop {
            match self.next()? {
                Message::DataRow(body) => bodies.push(body),
                message => {
                    if let Some(count) = self.ended(&message)? {
                        self.finish()?;
                        return Ok((bodies, count));
                    }
                }
            }
        }
    }

    /// Handles a message that is not a row; returns the number of rows if it ends the statement.
    pub(crate) fn ended(&mut self, message: &Message) -> Result<Option<u64>> {
        match message {
            Message::CommandComplete(body) => self.complete(body).map(Some),
            Message::EmptyQueryResponse | Message::PortalSuspended => Ok(Some(0)),
            // The server's error about it follows.
            Message::CopyInResponse(_) => Ok(None),
            Message::CopyOutResponse(_) => {
                Err(self.unexpected(Error::usage("the statement is a COPY TO STDOUT: use copy_out")))
            }
            _ => Err(self.broken("unexpected message among the rows")),
        }
    }

    /// Number of rows in the tag of a statement that has ended.
    pub(crate) fn complete(&mut self, body: &CommandCompleteBody) -> Result<u64> {
        let tag = match body.tag() {
            Ok(tag) => tag,
            Err(cause) => return Err(self.broken_by(cause)),
        };
        self.types.note(tag);
        Ok(tag.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    fn make_rows(&mut self, columns: Columns, bodies: &[DataRowBody]) -> Result<Vec<Row>> {
        let columns = match columns {
            Columns::Known(columns) => columns,
            Columns::Raw(raw) => self.columns_of(raw.columns)?,
        };
        let rows: std::io::Result<Vec<Row>> = bodies.iter().map(|body| Row::new(columns.clone(), body)).collect();
        rows.map_err(|cause| self.broken_by(cause))
    }
}

/// Writes a Bind message; all values are requested in binary format.
pub(crate) fn put_bind<P, I>(
    portal: &str,
    statement: &str,
    types: &[Type],
    params: I,
    messages: &mut BytesMut,
) -> Result<()>
where
    P: BorrowToSql,
    I: IntoIterator<Item = P>,
{
    let params: Vec<P> = params.into_iter().collect();
    if params.len() != types.len() {
        return Err(wrong_number(types.len(), params.len()));
    }
    let formats = params.iter().zip(types).map(|(param, type_)| param.borrow_to_sql().encode_format(type_) as i16);
    let mut number = 0;
    let serialize = |(param, type_): (&P, &Type), buffer: &mut BytesMut| {
        number += 1;
        match param.borrow_to_sql().to_sql_checked(type_, buffer)? {
            postgres_types::IsNull::No => Ok(IsNull::No),
            postgres_types::IsNull::Yes => Ok(IsNull::Yes),
        }
    };
    let bound = frontend::bind(portal, statement, formats, params.iter().zip(types), serialize, Some(1), messages);
    bound.map_err(|error| match error {
        BindError::Conversion(cause) => {
            let type_ = types.get(number - 1).map_or("unknown", Type::name);
            Error::new(ErrorKind::ToSql, format!("parameter ${number} of type {type_}")).with_cause(cause)
        }
        BindError::Serialization(cause) => {
            Error::new(ErrorKind::ToSql, "the parameters cannot be sent").with_cause(cause)
        }
    })
}

/// Writes the messages that execute the unnamed portal and end the sequence.
fn put_execute(limit: Limit, messages: &mut BytesMut) -> Result<()> {
    let rows = match limit {
        Limit::None => 0,
        Limit::Rows(rows) => rows,
    };
    frontend::execute("", rows, messages).map_err(invalid)?;
    frontend::sync(messages);
    Ok(())
}

/// Rejects more parameters than the protocol can send.
pub(crate) fn check_number(params: usize) -> Result<()> {
    if params <= PARAMETERS_MAX {
        return Ok(());
    }
    let message = format!("{params} parameters: a statement has at most {PARAMETERS_MAX}; pass an array, or use COPY");
    Err(Error::new(ErrorKind::ParameterCount, message))
}

fn wrong_number(expected: usize, given: usize) -> Error {
    let message = format!("the statement has {expected} parameters, {given} were given");
    Error::new(ErrorKind::ParameterCount, message)
}
