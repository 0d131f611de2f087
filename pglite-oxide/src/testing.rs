//! For tests and benchmarks of this crate, not for users: databases on file systems that record or fail, the bare round trip, and what reads bytes of strangers. No promise of
//! stability.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use crate::cluster::{Cluster, Data};
use crate::database::Pglite;
use crate::error::{Error, ErrorKind, Result};
use crate::fs;
use crate::interrupts::Interrupts;
use crate::options::{Durability, Options};
use crate::payload;
use crate::serve::peer::{Input, Peer, Watch};

pub use crate::fs::errno::Errno;
pub use crate::fs::fault::{Class, Fault, FaultFs, Plan};
pub use crate::fs::host::HostFs;
pub use crate::fs::image::ImageFs;
pub use crate::fs::log::{Fate, FileId, LogFs, Operation, Recording, SECTOR};
pub use crate::fs::{Entry, FileSystem, Handle, Kind, OpenOptions, Stat};

/// The data directory of a new database, in memory. Two of them share their pages until they are written.
///
/// # Errors
/// [`ErrorKind::Payload`] if this build carries no PostgreSQL for this machine.
pub fn template() -> Result<ImageFs> {
    Ok(ImageFs::new(payload::embedded()?.template()?))
}

/// Contents of one file.
///
/// # Errors
/// [`ErrorKind::Io`] with the path.
pub fn read(data: &dyn FileSystem, path: &str) -> Result<Vec<u8>> {
    let failed = |errno: Errno| Error::new(ErrorKind::Io, format!("{path}: {errno}"));
    fs::read(&*data.open(path, OpenOptions::default(), 0).map_err(failed)?).map_err(failed)
}

/// Opens a database on any file system that holds a data directory.
///
/// # Errors
/// As [`crate::Builder::open`].
pub fn open(data: Arc<dyn FileSystem>, durability: Durability, settings: &[(&str, &str)]) -> Result<Pglite> {
    let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let options = Options { durability, settings, ..Options::default() };
    options.check()?;
    Cluster::new(Data::Other(data), options, None).open()
}

/// Sends a Sync message and reads the answer: the cost of a round trip in which PostgreSQL does nothing.
///
/// # Errors
/// [`ErrorKind::Closed`] if the session is over.
pub fn round_trip(db: &mut Pglite) -> Result<()> {
    postgres_protocol::message::frontend::sync(db.session.begin()?);
    db.session.send()?;
    db.session.finish()
}

/// Gives bytes, in pieces of `size`, to what looks at a client's bytes before PostgreSQL does and at a session's before the client does. For fuzzing: it returns nothing.
///
/// # Panics
/// If what comes of them depends on the pieces, or is not what came.
pub fn read_untrusted(bytes: &[u8], size: usize) {
    crate::server::check_reading(&mut Pieces { bytes, taken: 0, size: size.max(1), answer: BytesMut::new() });
    crate::serve::check_framing(bytes, size);
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

    fn write(&mut self, bytes: &mut BytesMut) -> bool {
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
}
