//! Connects a client program to the session of a database in this process. There is one session,
//! which the first connection gets; further connections can only cancel its statement.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, BytesMut};

use super::pipe_channel::PipeChannel;
use crate::fs::errno::{Errno, Result};
use crate::server::startup::CANCEL_REQUEST;
use crate::sync::lock;
use crate::transport::pipe::ClientEnd;
use crate::wasm::channel::{Channel, Dialer};
use crate::wasm::interrupts::{Flag, Interrupts};

/// The message Terminate.
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// Dials one session.
#[derive(Debug)]
pub(crate) struct SessionDialer {
    end: Mutex<Option<AttachedChannel>>,
    session: Arc<Interrupts>,
}

impl SessionDialer {
    pub(crate) fn new(end: ClientEnd, session: &Arc<Interrupts>) -> Self {
        let end = AttachedChannel { inner: PipeChannel(end), last: Mutex::default(), session: session.clone() };
        Self { end: Mutex::new(Some(end)), session: session.clone() }
    }
}

impl Dialer for SessionDialer {
    fn dial(&self, _: &Waker) -> Result<Box<dyn Channel>> {
        Ok(match lock(&self.end).take() {
            Some(end) => Box::new(end),
            None => Box::new(Beside { session: self.session.clone(), state: Mutex::default() }),
        })
    }
}

/// The connection to the session. If the program ends without Terminate, the running statement is
/// cancelled.
#[derive(Debug)]
struct AttachedChannel {
    inner: PipeChannel,
    /// The last bytes that the program wrote.
    last: Mutex<BytesMut>,
    session: Arc<Interrupts>,
}

impl Channel for AttachedChannel {
    fn poll_read(&self, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
        self.inner.poll_read(context, buf)
    }

    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let written = self.inner.poll_write(context, data);
        if let Poll::Ready(Ok(count)) = written {
            let mut last = lock(&self.last);
            last.extend_from_slice(&data[count.saturating_sub(TERMINATE.len())..count]);
            let surplus = last.len().saturating_sub(TERMINATE.len());
            last.advance(surplus);
        }
        written
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_readable(context)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_writable(context)
    }
}

impl Drop for AttachedChannel {
    fn drop(&mut self) {
        let last = lock(&self.last);
        if !last.is_empty() && &last[..] != TERMINATE {
            self.session.flag(Flag::Cancel);
        }
    }
}

/// A further connection, while the session is in use.
#[derive(Debug)]
struct Beside {
    session: Arc<Interrupts>,
    state: Mutex<Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    received: BytesMut,
    answer: BytesMut,
    /// The request is answered.
    ended: bool,
    waker: Option<Waker>,
}

impl Channel for Beside {
    fn poll_read(&self, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
        let mut state = lock(&self.state);
        if state.answer.is_empty() && !state.ended {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = buf.len().min(state.answer.len());
        state.answer.copy_to_slice(&mut buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&self, _: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let mut state = lock(&self.state);
        if state.ended {
            return Poll::Ready(Err(Errno::PIPE));
        }
        state.received.extend_from_slice(data);
        if let Some(mut code) = state.received.get(4..8) {
            if code.get_u32() == CANCEL_REQUEST {
                self.session.flag(Flag::Cancel);
            } else {
                refuse(&mut state.answer);
            }
            state.ended = true;
            let waker = state.waker.take();
            drop(state);
            waker.into_iter().for_each(Waker::wake);
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_read(context, &mut []).map(drop)
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// An ErrorResponse that ends the connection.
fn refuse(answer: &mut BytesMut) {
    let mut body = BytesMut::new();
    for (field, value) in [
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', "53300"),
        (b'M', "this database has one session, and the program is connected to it"),
    ] {
        body.put_u8(field);
        body.put_slice(value.as_bytes());
        body.put_u8(0);
    }
    body.put_u8(0);
    answer.put_u8(b'E');
    answer.put_u32(body.len() as u32 + 4);
    answer.put_slice(&body);
}
