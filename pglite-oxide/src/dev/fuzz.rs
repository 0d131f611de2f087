//! Entry points for fuzzing: code that reads bytes from outside, without a connection or a guest.
//! It owns what must hold for any bytes; the bytes are the caller's.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use crate::client::session::MESSAGE_MAX;
use crate::cluster::archive::{self, Format};
use crate::cluster::control_file::Layout;
use crate::fs::host::HostFs;
use crate::fs::{Image, ImageFs, OpenOptions, Volume};
use crate::protocol::Follower;
use crate::server::admission::Packet;
use crate::server::session_loop::{UNKNOWN_MESSAGE_MAX, whole};
use crate::server::startup::PACKET_MAX;
use crate::transport::{Closer, Input, Peer, Watch};
use crate::wasm::fd_table::{Files, ROOT_FD};
use crate::wasm::interrupts::Interrupts;

/// Gives bytes, in pieces of `size`, to what reads a client's start-up packet.
///
/// # Panics
/// If bytes are lost, or if the client is told what is not meant for it.
pub fn read_startup(bytes: &[u8], size: usize) {
    check_reading(&mut Pieces { bytes, taken: 0, size: size.max(1), answer: BytesMut::new() });
}

/// Gives bytes, in pieces of `size`, to what finds the ends of messages and follows a session.
///
/// # Panics
/// If the result depends on the pieces.
pub fn read_messages(bytes: &[u8], size: usize) {
    check_framing(bytes, size);
}

/// The layout that [`load_archive`] accepts: that of a data directory of few bytes.
fn small_layout() -> Layout {
    Layout {
        postgresql: "17".to_owned(),
        control_version: 0,
        catalog_version: 0,
        max_align: 0,
        block_size: 8192,
        segment_blocks: 4,
        wal_block_size: 0,
        float8_by_value: false,
    }
}

/// Loads bytes as an archive of a data directory, and says whether they were accepted. An archive
/// that is accepted can be dumped and loaded again.
///
/// # Panics
/// If that is not so.
pub fn load_archive(bytes: &[u8]) -> bool {
    let (first, second) = (ImageFs::new(Arc::new(Image::empty())), ImageFs::new(Arc::new(Image::empty())));
    let layout = small_layout();
    let mut reader = bytes;
    if archive::load(&mut reader, &first, &layout).is_err() {
        return false;
    }
    let mut dumped = Vec::new();
    let result = archive::dump(&first, &layout, &mut dumped, Format::Tar)
        .and_then(|()| archive::load(&mut dumped.as_slice(), &second, &layout));
    assert!(result.is_ok(), "an archive that was accepted cannot be dumped and loaded: {result:?}");
    true
}

/// Runs operations with the paths that a guest passes, one a line, in the directory `inside` of
/// `directory`: the first byte says which operation, the rest is its path, or two with a tab
/// between them.
///
/// # Errors
/// If `inside` cannot be opened.
pub fn use_paths(input: &[u8], directory: &Path) -> std::io::Result<()> {
    let failed = |errno| std::io::Error::other(format!("{errno}"));
    let host = HostFs::open(&directory.join("inside")).map_err(std::io::Error::other)?;
    let mut files = Files::new(Arc::new(Volume::new(Arc::new(host))), Bytes::new()).map_err(failed)?;
    for line in input.split(|byte| *byte == b'\n') {
        let Some((operation, path)) = line.split_first() else { continue };
        let path = String::from_utf8_lossy(path);
        let (from, to) = path.split_once('\t').unwrap_or((&path, "x"));
        let (from, to) = ((ROOT_FD, from), (ROOT_FD, to));
        // Whether an operation succeeds is not the matter here; what it reaches is.
        let _ = match operation % 8 {
            0 => {
                let options = OpenOptions { create: true, write: true, ..OpenOptions::default() };
                files.open(from, options, false, 0).and_then(|fd| files.write(fd, b"x", 0).map(drop))
            }
            1 => files.create_directory(from, 0),
            2 => files.remove_directory(from, 0),
            3 => files.remove_file(from, 0),
            4 => files.rename(from, to, 0),
            5 => files.hard_link(from, to, 0),
            6 => files.change_directory(from.1),
            _ => files.stat_path(from).map(drop),
        };
    }
    Ok(())
}

/// A client that sends some bytes in pieces and then no more.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    bytes: &'a [u8],
    taken: usize,
    size: usize,
    /// What it was told.
    pub(crate) answer: BytesMut,
}

impl Pieces<'_> {
    /// What was read of its bytes.
    pub(crate) fn taken(&self) -> &[u8] {
        &self.bytes[..self.taken]
    }
}

impl Peer for Pieces<'_> {
    fn attach(&mut self, _: &Arc<Interrupts>) {}

    fn wait(&mut self, bytes: &mut BytesMut, _: Option<Duration>) -> Input {
        let left = &self.bytes[self.taken..];
        let piece = &left[..left.len().min(self.size)];
        if piece.is_empty() {
            return Input::End;
        }
        bytes.extend_from_slice(piece);
        self.taken += piece.len();
        Input::Bytes
    }

    fn write(&mut self, bytes: &mut BytesMut, _: Option<Instant>) -> bool {
        self.answer.extend_from_slice(bytes);
        bytes.advance(bytes.len());
        true
    }

    fn is_abandoned(&self) -> bool {
        false
    }

    fn watch(&self) -> Option<Watch> {
        None
    }

    fn closer(&self) -> Closer {
        Box::new(|| ())
    }
}

/// For fuzzing: whatever a client begins with, nothing of it is lost, and it is told nothing but
/// what is meant for it.
///
/// # Panics
/// If that is not so.
fn check_reading(peer: &mut Pieces<'_>) {
    let packet = Packet::read(peer);
    if let Some(Packet::Startup { startup, received }) = packet {
        assert!((8..=PACKET_MAX).contains(&startup.len()), "a start-up packet of {} bytes", startup.len());
        assert_eq!((&startup[..4]).get_u32() as usize, startup.len());
        let kept = [startup, received].concat();
        assert!(peer.taken().ends_with(&kept), "bytes are not those that came");
    }
    let told = peer.answer.iter().position(|byte| *byte != b'N').unwrap_or(peer.answer.len());
    let rest = &peer.answer[told..];
    assert!(rest.is_empty() || rest[0] == b'E', "an answer that is none: {rest:?}");
    assert!(told <= 2.min(peer.taken().len() / 8), "more answers about encryption than requests");
}

/// For fuzzing: what is handed on does not depend on how bytes were cut on their way.
///
/// # Panics
/// If it does.
fn check_framing(bytes: &[u8], size: usize) {
    for max in [UNKNOWN_MESSAGE_MAX, MESSAGE_MAX] {
        let at_once = whole(bytes, max);
        assert_eq!(whole(&bytes[..at_once], max), at_once);
        let mut taken = 0;
        for end in (0..bytes.len()).step_by(size.max(1)).chain([bytes.len()]) {
            taken += whole(&bytes[taken..end], max);
        }
        // Of what is no message, all that has come is handed on.
        assert!(taken == at_once || at_once == bytes.len(), "{taken} bytes in pieces of {size}, {at_once} at once");
    }
    let (mut at_once, mut in_pieces) = (Follower::default(), Follower::default());
    at_once.follow(bytes);
    bytes.chunks(size.max(1)).for_each(|piece| in_pieces.follow(piece));
    assert_eq!(at_once.key(), in_pieces.key());
    assert_eq!(at_once.status(), in_pieces.status());
    assert_eq!(
        at_once.take_fatal().map(|error| error.to_string()),
        in_pieces.take_fatal().map(|error| error.to_string())
    );
}

#[cfg(test)]
mod tests {
    use postgres_protocol::message::frontend;

    use super::*;

    #[test]
    fn any_bytes_give_the_same_messages_in_any_pieces() {
        let mut bytes = BytesMut::new();
        frontend::sync(&mut bytes);
        frontend::query("SELECT 1", &mut bytes).unwrap();
        bytes.extend_from_slice(
            b"E\0\0\0\x17SFATAL\0C57P01\0Mgone\0\0Z\0\0\0\x05IK\0\0\0\x0c\0\0\0\x01\0\0\0\x02Q\xff\xff\xff\xffS",
        );
        for size in 1..=bytes.len() {
            (0..bytes.len()).for_each(|start| {
                read_startup(&bytes[start..], size);
                read_messages(&bytes[start..], size);
            });
        }
    }
}
