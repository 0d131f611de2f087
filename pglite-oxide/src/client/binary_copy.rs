//! COPY of typed values: PostgreSQL's binary format (PostgreSQL documentation, page of COPY,
//! "Binary Format").

use std::fmt;
use std::io::{Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use postgres_types::{BorrowToSql, FromSql, IsNull, ToSql, Type, WrongType};
use smallvec::SmallVec;

use crate::client::copy::unwrap_io;
use crate::client::{CopyInWriter, CopyOutReader};
use crate::error::{Error, ErrorKind, Result};

/// Begins the data.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Flags and the length of the header's extension, which is empty.
const HEADER_REST: usize = 8;
/// Takes the place of the number of values after the last row.
const END: i16 = -1;
/// Rows are passed on when they reach this size, in bytes.
const BUFFER: usize = 64 * 1024;

/// Writes rows to a `COPY … FROM STDIN (FORMAT binary)`.
#[derive(Debug)]
pub struct BinaryCopyInWriter<'a> {
    writer: CopyInWriter<'a>,
    types: Vec<Type>,
    buffer: BytesMut,
}

/// Iterates over the rows of a `COPY … TO STDOUT (FORMAT binary)`.
#[derive(Debug)]
pub struct BinaryCopyOutIter<'a> {
    reader: CopyOutReader<'a>,
    types: Vec<Type>,
    begun: bool,
    done: bool,
}

/// A row of a binary COPY.
#[derive(Debug)]
pub struct BinaryCopyOutRow {
    types: Vec<Type>,
    data: Bytes,
    /// Ends of the values, `None` for NULL.
    values: SmallVec<[Option<(u32, u32)>; 8]>,
}

impl<'a> BinaryCopyInWriter<'a> {
    /// Writes to `writer`, for columns of these types.
    pub fn new(writer: CopyInWriter<'a>, types: &[Type]) -> Self {
        let mut buffer = BytesMut::new();
        buffer.put_slice(SIGNATURE);
        buffer.put_bytes(0, HEADER_REST);
        Self { writer, types: types.to_vec(), buffer }
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`ErrorKind::ToSql`] and [`ErrorKind::ParameterCount`] if the values do not match the types;
    /// the row is left out then. [`ErrorKind::Database`] if the statement has failed.
    pub fn write(&mut self, values: &[&(dyn ToSql + Sync)]) -> Result<()> {
        self.write_raw(values.iter().copied())
    }

    /// As [`Self::write`], with values from an iterator.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_raw<P, I>(&mut self, values: I) -> Result<()>
    where
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator,
    {
        let values = values.into_iter();
        if values.len() != self.types.len() {
            let message = format!("a row has {} values, {} were given", self.types.len(), values.len());
            return Err(Error::new(ErrorKind::ParameterCount, message));
        }
        let before = self.buffer.len();
        if let Err(error) = put_row(values, &self.types, &mut self.buffer) {
            self.buffer.truncate(before);
            return Err(error);
        }
        if self.buffer.len() >= BUFFER { self.hand_on() } else { Ok(()) }
    }

    /// Ends the data and returns the number of rows that were copied.
    ///
    /// # Errors
    /// As [`CopyInWriter::finish`].
    pub fn finish(mut self) -> Result<u64> {
        self.buffer.put_i16(END);
        self.hand_on()?;
        self.writer.finish()
    }

    fn hand_on(&mut self) -> Result<()> {
        let written = self.writer.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(unwrap_io)
    }
}

impl<'a> BinaryCopyOutIter<'a> {
    /// Reads from `reader`, whose columns have these types.
    pub fn new(reader: CopyOutReader<'a>, types: &[Type]) -> Self {
        Self { reader, types: types.to_vec(), begun: false, done: false }
    }

    fn try_next(&mut self) -> Result<Option<BinaryCopyOutRow>> {
        if !self.begun {
            let mut header = [0; SIGNATURE.len() + HEADER_REST];
            self.read(&mut header)?;
            if !header.starts_with(SIGNATURE) {
                return Err(Error::usage("the data is not of COPY's binary format: say FORMAT binary"));
            }
            self.begun = true;
        }
        let mut count = [0; 2];
        self.read(&mut count)?;
        let count = i16::from_be_bytes(count);
        if count == END {
            // The end of the answer is still to come and may be an error.
            let rest = self.reader.read(&mut [0]).map_err(unwrap_io)?;
            return if rest == 0 { Ok(None) } else { Err(unreadable("data after its end")) };
        }
        if usize::try_from(count) != Ok(self.types.len()) {
            let message = format!("the data has {count} columns, {} types were given", self.types.len());
            return Err(Error::usage(message));
        }
        let mut data = BytesMut::new();
        let mut values = SmallVec::new();
        for _ in 0..count {
            let mut length = [0; 4];
            self.read(&mut length)?;
            values.push(match usize::try_from(i32::from_be_bytes(length)) {
                Ok(length) => {
                    let start = data.len();
                    data.resize(start + length, 0);
                    self.read(&mut data[start..])?;
                    Some((start as u32, data.len() as u32))
                }
                Err(_) => None,
            });
        }
        Ok(Some(BinaryCopyOutRow { types: self.types.clone(), data: data.freeze(), values }))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.reader.read_exact(buffer).map_err(unwrap_io)
    }
}

impl Iterator for BinaryCopyOutIter<'_> {
    type Item = Result<BinaryCopyOutRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.try_next();
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

impl BinaryCopyOutRow {
    /// A value, by the column's index from 0.
    ///
    /// # Panics
    /// If [`Self::try_get`] returns an error.
    #[track_caller]
    // Like indexing: for programs that know their columns.
    #[allow(clippy::panic)]
    pub fn get<'a, T: FromSql<'a>>(&'a self, column: usize) -> T {
        match self.try_get(column) {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }

    /// A value, by the column's index from 0. Read a value that may be NULL as an `Option`.
    ///
    /// # Errors
    /// [`ErrorKind::ColumnNotFound`] if the column does not exist; [`ErrorKind::FromSql`] if its
    /// value is not of type `T`, or NULL.
    pub fn try_get<'a, T: FromSql<'a>>(&'a self, column: usize) -> Result<T> {
        let (Some(type_), Some(value)) = (self.types.get(column), self.values.get(column)) else {
            let message = format!("there is no column {column}: the row has {}", self.types.len());
            return Err(Error::new(ErrorKind::ColumnNotFound, message));
        };
        let failed =
            |cause| Error::new(ErrorKind::FromSql, format!("column {column} of type {type_}")).with_cause(cause);
        if !T::accepts(type_) {
            return Err(failed(WrongType::new::<T>(type_.clone()).into()));
        }
        let value = value.map(|(start, end)| &self.data[start as usize..end as usize]);
        FromSql::from_sql_nullable(type_, value).map_err(failed)
    }
}

fn put_row<P: BorrowToSql>(values: impl Iterator<Item = P>, types: &[Type], buffer: &mut BytesMut) -> Result<()> {
    let count = i16::try_from(types.len())
        .map_err(|_| Error::new(ErrorKind::ParameterCount, format!("{} columns are too many", types.len())))?;
    buffer.put_i16(count);
    for (number, (value, type_)) in values.zip(types).enumerate() {
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::ToSql, format!("column {number} of type {type_}")).with_cause(cause)
        };
        let at = buffer.len();
        buffer.put_i32(-1);
        if let IsNull::No = value.borrow_to_sql().to_sql_checked(type_, buffer).map_err(failed)? {
            let length = i32::try_from(buffer.len() - at - 4).map_err(|cause| failed(cause.into()))?;
            buffer[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}

fn unreadable(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Protocol, format!("unreadable COPY data: {what}"))
}
