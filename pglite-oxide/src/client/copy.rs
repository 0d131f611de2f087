//! COPY from and to the caller. Data flows while the statement runs, so the statement runs on a
//! worker thread; memory stays constant in both directions. The data is in the format that the
//! statement names.

use std::io::{self, BufRead, Read, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use crate::Pglite;
use crate::backend::copy_thread::Event;
use crate::client::ToStatement;
use crate::client::query::put_bind;
use crate::client::session::Session;
use crate::client::statement::sealed::Source;
use crate::client::statement::{invalid, put_parse};
use crate::error::{Error, ErrorKind, Result};

/// Size of a CopyData message, in bytes.
const CHUNK: usize = 64 * 1024;
/// Size of its header: the tag and the length.
const HEAD: usize = 5;

/// Writes the data of a COPY FROM STDIN. [`Self::finish`] ends it; if it is dropped before, nothing
/// is copied.
///
/// An error of PostgreSQL ends the statement: the next `write` or `finish` reports it, as an
/// [`Error`] inside the [`io::Error`].
#[derive(Debug)]
pub struct CopyInWriter<'a> {
    session: &'a mut Session,
    /// A CopyData message whose length is not filled in yet.
    chunk: BytesMut,
    /// The statement is running.
    open: bool,
}

/// Reads the data of a COPY TO STDOUT. If it is dropped before the end, the statement is cancelled.
///
/// An error of PostgreSQL is an [`Error`] inside the [`io::Error`].
#[derive(Debug)]
pub struct CopyOutReader<'a> {
    session: &'a mut Session,
    data: Bytes,
    open: bool,
}

impl Pglite {
    /// Runs a COPY FROM STDIN and returns a writer for its data.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut db = pglite_oxide::Pglite::temporary()?;
    /// use std::io::Write;
    ///
    /// let mut writer = db.copy_in("COPY person (id, name) FROM STDIN")?;
    /// writer.write_all(b"1\tAda\n2\tGrace\n")?;
    /// assert_eq!(writer.finish()?, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if the statement is not a COPY FROM STDIN; it is executed nevertheless.
    /// Otherwise as [`Self::query`].
    pub fn copy_in<T>(&mut self, statement: &T) -> Result<CopyInWriter<'_>>
    where
        T: ?Sized + ToStatement,
    {
        let session = &mut self.session;
        session.put_copy(statement.source())?;
        session.send_to_worker(true)?;
        if let Some(Event::Wants) = session.wait_for_worker()? {
            return Ok(CopyInWriter { session, chunk: chunk(), open: true });
        }
        while session.try_next()?.is_some() {}
        Err(session.unexpected(Error::usage("the statement is not a COPY FROM STDIN")))
    }

    /// Runs a COPY TO STDOUT and returns a reader of its data.
    ///
    /// # Errors
    /// As [`Self::copy_in`].
    pub fn copy_out<T>(&mut self, statement: &T) -> Result<CopyOutReader<'_>>
    where
        T: ?Sized + ToStatement,
    {
        let session = &mut self.session;
        session.put_copy(statement.source())?;
        frontend::sync(session.outgoing());
        session.send_to_worker(false)?;
        loop {
            match session.next_of_worker()? {
                Message::CopyOutResponse(_) => return Ok(CopyOutReader { session, data: Bytes::new(), open: true }),
                Message::ParseComplete | Message::BindComplete => (),
                _ => return Err(session.unexpected(Error::usage("the statement is not a COPY TO STDOUT"))),
            }
        }
    }
}

impl Session {
    /// Adds the messages for a COPY, without its end.
    fn put_copy(&mut self, source: Source<'_>) -> Result<()> {
        let name = match source {
            Source::Prepared(statement) => statement.name_in(self)?,
            Source::Text(_) => "",
        };
        let messages = self.begin()?;
        if let Source::Text(sql) = source {
            put_parse("", sql, [], messages)?;
        }
        put_bind::<&(dyn postgres_types::ToSql + Sync), _>("", name, &[], [], messages)?;
        frontend::execute("", 0, messages).map_err(invalid)
    }

    /// As `next`, while a worker runs the statement.
    fn next_of_worker(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.try_next()? {
                return Ok(message);
            }
            if self.wait_for_worker()?.is_none() {
                return self.next();
            }
        }
    }
}

impl CopyInWriter<'_> {
    /// Ends the data and returns the number of rows that were copied.
    ///
    /// # Errors
    /// PostgreSQL's error, as [`ErrorKind::Database`]. Nothing is copied then.
    pub fn finish(mut self) -> Result<u64> {
        if !self.open {
            return Err(Error::usage("the COPY has failed already"));
        }
        self.send_chunk();
        let mut end = BytesMut::new();
        frontend::copy_done(&mut end);
        frontend::sync(&mut end);
        self.session.feed(end);
        self.session.end_feed();
        self.result()
    }

    /// Sends the message under construction. False: the statement has ended.
    fn send_chunk(&mut self) -> bool {
        if self.chunk.len() == HEAD {
            return true;
        }
        let mut chunk = std::mem::replace(&mut self.chunk, chunk());
        // The length counts itself, but not the tag.
        let length = (chunk.len() - 1) as u32;
        chunk[1..HEAD].copy_from_slice(&length.to_be_bytes());
        self.session.feed(chunk)
    }

    /// How the statement ended.
    fn result(&mut self) -> Result<u64> {
        self.open = false;
        let mut rows = 0;
        loop {
            match self.session.next_of_worker()? {
                Message::CommandComplete(body) => rows = self.session.complete(&body)?,
                Message::ReadyForQuery(_) => return Ok(rows),
                _ => (),
            }
        }
    }
}

impl Write for CopyInWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if !self.open {
            return Err(Error::usage("the COPY has failed already").into());
        }
        let count = data.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&data[..count]);
        if self.chunk.len() == CHUNK && !self.send_chunk() {
            let error = self.result().err();
            return Err(error.unwrap_or_else(|| Error::usage("the COPY ended before its data")).into());
        }
        Ok(count)
    }

    /// Does nothing: PostgreSQL gets full chunks, and the rest with `finish`.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for CopyInWriter<'_> {
    fn drop(&mut self) {
        if self.open {
            // If the session has ended, the next statement reports it.
            let _ = self.session.settle();
        }
    }
}

impl CopyOutReader<'_> {
    fn more(&mut self) -> Result<()> {
        while self.open && self.data.is_empty() {
            match self.session.next_of_worker() {
                Ok(Message::CopyData(body)) => self.data = body.into_bytes(),
                Ok(Message::CommandComplete(body)) => drop(self.session.complete(&body)?),
                Ok(Message::ReadyForQuery(_)) => self.open = false,
                Ok(_) => (),
                Err(error) => {
                    self.open = false;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Read for CopyOutReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let data = self.fill_buf()?;
        let count = data.len().min(buffer.len());
        buffer[..count].copy_from_slice(&data[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for CopyOutReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.more()?;
        Ok(&self.data)
    }

    fn consume(&mut self, count: usize) {
        self.data.advance(count.min(self.data.len()));
    }
}

impl Drop for CopyOutReader<'_> {
    fn drop(&mut self) {
        if self.open {
            // If the session has ended, the next statement reports it.
            let _ = self.session.settle();
        }
    }
}

fn chunk() -> BytesMut {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    chunk.put_u8(b'd');
    chunk.put_u32(0);
    chunk
}

/// The crate's error in an `io::Error` of a COPY, or that error as one of the crate's.
pub(crate) fn unwrap_io(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::new(ErrorKind::Protocol, "unreadable COPY data").with_cause(error),
    }
}
