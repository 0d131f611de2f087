//! A program's standard streams, as its host makes them: bytes, a reader or writer of the caller's,
//! a buffer to be looked at later. It owns how a program that waits for input is interrupted.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};

use crate::fs::errno::{Errno, Result};
use crate::sync::lock;
use crate::wasm::fd_table::Stream;
use crate::wasm::interrupts::{Interrupts, WakeReason};

/// Bytes that are read at a time from a reader of the caller's.
const PIECE: usize = 16 * 1024;

#[cfg_attr(not(test), allow(dead_code, reason = "for the command line's psql"))]
/// Where a program's input comes from.
pub(crate) enum Input {
    /// These bytes, and no more.
    Bytes(Bytes),
    /// A reader, which a thread of its own waits for. The thread stays as long as a read does that
    /// the program did not wait for to its end.
    Reader { reader: Box<dyn Read + Send>, is_terminal: bool },
}

/// Where a program's output goes.
pub(crate) struct Output {
    pub(crate) writer: Box<dyn Write + Send>,
    pub(crate) is_terminal: bool,
}

/// Output that is kept, to be taken when the program is done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Input {
    /// The stream of a program with these interrupts.
    ///
    /// # Errors
    /// If there can be no thread.
    pub(crate) fn stream(self, interrupts: &Arc<Interrupts>) -> io::Result<Arc<dyn Stream>> {
        match self {
            Self::Bytes(bytes) => Ok(Arc::new(FromBytes(Mutex::new(bytes)))),
            Self::Reader { reader, is_terminal } => {
                let shared = Arc::new(Shared { state: Mutex::default(), wanted: Default::default() });
                let thread = std::thread::Builder::new().name("pglite-oxide-stdin".to_string());
                let (feeder, waker) = (shared.clone(), interrupts.clone());
                thread.spawn(move || feeder.feed(reader, &waker))?;
                Ok(Arc::new(FromReader { shared, interrupts: interrupts.clone(), is_terminal }))
            }
        }
    }
}

impl Output {
    pub(crate) fn stream(self) -> Arc<dyn Stream> {
        Arc::new(ToWriter { writer: Mutex::new(self.writer), is_terminal: self.is_terminal })
    }
}

impl Kept {
    pub(crate) fn output(&self) -> Output {
        Output { writer: Box::new(self.clone()), is_terminal: false }
    }

    /// What was put out so far.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl Write for Kept {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct FromBytes(Mutex<Bytes>);

impl Stream for FromBytes {
    fn read(&self, buf: &mut [u8]) -> Result<usize> {
        let mut left = lock(&self.0);
        let count = buf.len().min(left.len());
        buf[..count].copy_from_slice(&left.split_to(count));
        Ok(count)
    }

    fn write(&self, _: &[u8]) -> Result<usize> {
        Err(Errno::BADF)
    }

    fn is_terminal(&self) -> bool {
        false
    }
}

/// What the thread that reads and the program share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wanted: std::sync::Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    /// The program waits for more: nothing is read ahead of that, since the program may end, and
    /// what it did not ask for is its caller's.
    wanted: bool,
    ended: Option<Result<()>>,
    /// The program is gone.
    unread: bool,
}

impl Shared {
    fn feed(&self, mut reader: Box<dyn Read + Send>, interrupts: &Interrupts) {
        let mut piece = vec![0; PIECE];
        loop {
            {
                let mut state = lock(&self.state);
                while !state.wanted && !state.unread {
                    state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.unread {
                    return;
                }
            }
            let read = reader.read(&mut piece);
            let mut state = lock(&self.state);
            match read {
                Ok(count) => {
                    state.bytes.extend_from_slice(&piece[..count]);
                    // The end of a terminal's input is not for ever: it is told once.
                    state.ended = (count == 0).then_some(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => state.ended = Some(Err(error.into())),
            }
            state.wanted = false;
            drop(state);
            interrupts.wake();
        }
    }
}

#[derive(Debug)]
struct FromReader {
    shared: Arc<Shared>,
    interrupts: Arc<Interrupts>,
    is_terminal: bool,
}

impl Stream for FromReader {
    fn read(&self, buf: &mut [u8]) -> Result<usize> {
        {
            let mut state = lock(&self.shared.state);
            if state.bytes.is_empty() && state.ended.is_none() {
                state.wanted = true;
                self.shared.wanted.notify_all();
            }
        }
        let ready = || {
            let state = lock(&self.shared.state);
            !state.bytes.is_empty() || state.ended.is_some()
        };
        if self.interrupts.wait_or(None, ready) != WakeReason::Ready {
            return Err(Errno::INTR);
        }
        let mut state = lock(&self.shared.state);
        let count = buf.len().min(state.bytes.len());
        buf[..count].copy_from_slice(&state.bytes[..count]);
        state.bytes.advance(count);
        match state.bytes.is_empty().then(|| state.ended.take()).flatten() {
            Some(Err(errno)) => Err(errno),
            _ => Ok(count),
        }
    }

    fn write(&self, _: &[u8]) -> Result<usize> {
        Err(Errno::BADF)
    }

    fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

impl Drop for FromReader {
    fn drop(&mut self) {
        lock(&self.shared.state).unread = true;
        self.shared.wanted.notify_all();
    }
}

struct ToWriter {
    writer: Mutex<Box<dyn Write + Send>>,
    is_terminal: bool,
}

impl Stream for ToWriter {
    fn read(&self, _: &mut [u8]) -> Result<usize> {
        Err(Errno::BADF)
    }

    /// All of it: what the program has written, others see.
    fn write(&self, data: &[u8]) -> Result<usize> {
        let mut writer = lock(&self.writer);
        writer.write_all(data).and_then(|()| writer.flush())?;
        Ok(data.len())
    }

    fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

impl fmt::Debug for ToWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToWriter").field("is_terminal", &self.is_terminal).finish_non_exhaustive()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.debug_tuple("Bytes").field(&bytes.len()).finish(),
            Self::Reader { is_terminal, .. } => f.debug_struct("Reader").field("is_terminal", is_terminal).finish(),
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("is_terminal", &self.is_terminal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_asked_only_for_what_the_program_wants() {
        struct Counted(Arc<Mutex<usize>>);
        impl Read for Counted {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                let mut reads = lock(&self.0);
                *reads += 1;
                buf[..2].copy_from_slice(b"ab");
                Ok(if *reads < 3 { 2 } else { 0 })
            }
        }
        let reads = Arc::default();
        let input = Input::Reader { reader: Box::new(Counted(Arc::clone(&reads))), is_terminal: false };
        let stream = input.stream(&Arc::default()).unwrap();
        let mut buf = [0; 1];
        assert_eq!((stream.read(&mut buf), buf), (Ok(1), *b"a"));
        assert_eq!((stream.read(&mut buf), buf), (Ok(1), *b"b"));
        assert_eq!(*lock(&reads), 1);
        assert_eq!((stream.read(&mut buf), stream.read(&mut buf), stream.read(&mut buf)), (Ok(1), Ok(1), Ok(0)));
    }

    #[test]
    fn what_is_written_is_kept() {
        let kept = Kept::default();
        let stream = kept.output().stream();
        assert_eq!((stream.write(b"one "), stream.write(b"two")), (Ok(4), Ok(3)));
        assert_eq!((kept.take(), kept.take()), (b"one two".to_vec(), vec![]));
    }
}
