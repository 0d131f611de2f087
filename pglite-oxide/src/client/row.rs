//! Rows. Values are decoded from the server's answer when they are requested.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use postgres_protocol::message::backend::DataRowBody;
use postgres_types::{FromSql, WrongType};
use smallvec::SmallVec;

use crate::client::Column;
use crate::error::{Error, ErrorKind, Result};

/// A row of a result. It keeps a part of the server's answer, which it shares with other rows.
#[derive(Clone)]
pub struct Row {
    columns: Arc<[Column]>,
    body: Bytes,
    values: Values,
}

/// Positions of the values in the body of a DataRow: offsets of their lengths, each followed by the
/// value.
pub(crate) type Values = SmallVec<[u32; 8]>;

/// How a column of a row is named: by its index from 0, or by its name.
pub trait RowIndex: sealed::Sealed {}

impl RowIndex for usize {}
impl RowIndex for str {}
impl<T: RowIndex + ?Sized> RowIndex for &T {}

mod sealed {
    use super::Column;

    pub trait Sealed {
        #[doc(hidden)]
        fn find(&self, columns: &[Column]) -> Option<usize>;
    }

    impl Sealed for usize {
        fn find(&self, columns: &[Column]) -> Option<usize> {
            (*self < columns.len()).then_some(*self)
        }
    }

    impl Sealed for str {
        fn find(&self, columns: &[Column]) -> Option<usize> {
            let exact = columns.iter().position(|column| column.name == *self);
            // PostgreSQL folds unquoted names: `SELECT 1 AS Id` names its column `id`.
            exact.or_else(|| columns.iter().position(|column| column.name.eq_ignore_ascii_case(self)))
        }
    }

    impl<T: Sealed + ?Sized> Sealed for &T {
        fn find(&self, columns: &[Column]) -> Option<usize> {
            T::find(self, columns)
        }
    }
}

impl Row {
    pub(crate) fn new(columns: Arc<[Column]>, body: &DataRowBody) -> std::io::Result<Self> {
        let values = values(body.buffer())?;
        if values.len() != columns.len() {
            let message = format!("a row has {} values in {} columns", values.len(), columns.len());
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
        }
        Ok(Self { columns, body: body.buffer_bytes().clone(), values })
    }

    /// The columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there are no columns.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// A value, by the column's index or name. Read a value that may be NULL as an `Option`.
    ///
    /// # Panics
    /// If [`Self::try_get`] returns an error.
    #[track_caller]
    // Like indexing: for programs that know their columns.
    #[allow(clippy::panic)]
    pub fn get<'a, I, T>(&'a self, index: I) -> T
    where
        I: RowIndex + fmt::Display,
        T: FromSql<'a>,
    {
        match self.try_get(index) {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }

    /// A value, by the column's index or name. Read a value that may be NULL as an `Option`.
    ///
    /// # Errors
    /// [`ErrorKind::ColumnNotFound`] if the column does not exist; [`ErrorKind::FromSql`] if its
    /// value is not of type `T`, or NULL.
    pub fn try_get<'a, I, T>(&'a self, index: I) -> Result<T>
    where
        I: RowIndex + fmt::Display,
        T: FromSql<'a>,
    {
        let Some(at) = index.find(&self.columns) else {
            let names: Vec<&str> = self.columns.iter().map(Column::name).collect();
            let message = format!("there is no column {index}: the row has {} ({})", names.len(), names.join(", "));
            return Err(Error::new(ErrorKind::ColumnNotFound, message));
        };
        let column = &self.columns[at];
        let failed = |cause| {
            let message = format!("column {at} (\"{}\") of type {}", column.name, column.type_);
            Error::new(ErrorKind::FromSql, message).with_cause(cause)
        };
        if !T::accepts(&column.type_) {
            return Err(failed(WrongType::new::<T>(column.type_.clone()).into()));
        }
        FromSql::from_sql_nullable(&column.type_, self.raw(at)).map_err(failed)
    }

    /// The bytes of a value in PostgreSQL's binary format; `None` for NULL and for a column that
    /// does not exist.
    pub fn raw_value(&self, column: usize) -> Option<&[u8]> {
        if column < self.len() { self.raw(column) } else { None }
    }

    fn raw(&self, column: usize) -> Option<&[u8]> {
        value(&self.body, self.values[column])
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.columns.iter().map(|column| &column.name);
        let types = self.columns.iter().map(|column| column.type_.name());
        f.debug_map().entries(names.zip(types)).finish()
    }
}

/// Finds the values in the body of a DataRow.
pub(crate) fn values(body: &[u8]) -> std::io::Result<Values> {
    let mut values = Values::new();
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        let Some(length) = rest.first_chunk().map(|length| i32::from_be_bytes(*length)) else {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        };
        let length = usize::try_from(length).unwrap_or(0);
        if rest.len() - 4 < length {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        // A message is shorter than 4 GiB.
        values.push(at as u32);
        at += 4 + length;
    }
    Ok(values)
}

/// The value whose length is at `offset`, as found by `values`; `None` for NULL.
pub(crate) fn value(body: &[u8], offset: u32) -> Option<&[u8]> {
    let (length, rest) = body.get(offset as usize..)?.split_first_chunk()?;
    rest.get(..usize::try_from(i32::from_be_bytes(*length)).ok()?)
}
