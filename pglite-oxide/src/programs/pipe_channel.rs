//! A client program's connection through a pipe to a session in this process.

use std::task::{Context, Poll};

use crate::fs::errno::{Errno, Result};
use crate::transport::pipe::ClientEnd;
use crate::wasm::channel::Channel;

/// The client's end of a session in this process. A program that goes has ended what it says.
#[derive(Debug)]
pub(super) struct PipeChannel(pub(super) ClientEnd);

impl Channel for PipeChannel {
    fn poll_read(&self, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
        self.0.poll_read(context, buf.len(), |bytes| buf[..bytes.len()].copy_from_slice(bytes)).map(Ok)
    }

    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        self.0.poll_write(context, data).map(|count| count.ok_or(Errno::PIPE))
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_read(context, 0, |_| ()).map(drop)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_writable(context)
    }
}

impl Drop for PipeChannel {
    fn drop(&mut self) {
        self.0.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;

    use super::*;
    use crate::transport::{Input, Peer, pipe};
    use crate::wasm::channel::{Channels, Dialer, PATH, READ, WRITE};
    use crate::wasm::interrupts::Interrupts;

    #[derive(Debug)]
    struct Once(std::sync::Mutex<Option<ClientEnd>>);

    impl Dialer for Once {
        fn dial(&self, _: &Waker) -> Result<Box<dyn Channel>> {
            let end = self.0.lock().unwrap().take().ok_or(Errno::CONNREFUSED)?;
            Ok(Box::new(PipeChannel(end)))
        }
    }

    #[test]
    fn a_program_reads_and_writes_without_waiting_and_waits_when_it_wants_to() {
        let (mut server, client) = pipe::pipe();
        let interrupts = Arc::<Interrupts>::default();
        let mut channels = Channels::new(Box::new(Once(Some(client).into())), &interrupts);
        assert_eq!(channels.open(b"/tmp/.s.PGSQL.5432"), Err(Errno::NOENT));
        assert_eq!(channels.open(PATH), Ok(0));
        assert_eq!(channels.open(PATH), Err(Errno::CONNREFUSED));
        let mut buf = [0; 4];
        assert_eq!(channels.read(0, &mut buf), Err(Errno::AGAIN));
        assert_eq!(channels.read(1, &mut buf), Err(Errno::BADF));
        assert_eq!(channels.wait(0, READ, Some(Duration::ZERO)), Ok(0));
        assert_eq!(channels.wait(0, READ | WRITE, None), Ok(WRITE));
        assert_eq!(channels.write(0, b"hello"), Ok(5));

        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = bytes::BytesMut::new();
                assert_eq!(server.wait(&mut bytes, None), Input::Bytes);
                assert!(server.write(&mut bytes, None));
            });
            assert_eq!(channels.wait(0, READ, None), Ok(READ));
        });
        assert_eq!((channels.read(0, &mut buf), &buf), (Ok(4), b"hell"));
        assert_eq!((channels.read(0, &mut buf), buf[0]), (Ok(1), b'o'));
        channels.close(0);
        assert_eq!(server.wait(&mut bytes::BytesMut::new(), None), Input::End, "its end is the end of the input");
        assert!(!server.is_abandoned());
    }
}
