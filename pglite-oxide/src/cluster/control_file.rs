//! Identification of a data directory: `global/pg_control` and the headers of WAL segments. It owns
//! the offsets of their fields (PostgreSQL 17, `catalog/pg_control.h` and `access/xlog_internal.h`,
//! with 64-bit numbers aligned to 8 bytes).

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::fs::errno::Errno;
use crate::fs::{self, FileSystem, OpenOptions};

const CONTROL: &str = "global/pg_control";
const WAL: &str = "pg_wal";

/// Where `ControlFileData` has its fields, in bytes.
mod at {
    pub(super) const SYSTEM_IDENTIFIER: usize = 0;
    pub(super) const CONTROL_VERSION: usize = 8;
    pub(super) const CATALOG_VERSION: usize = 12;
    pub(super) const STATE: usize = 16;
    pub(super) const MAX_ALIGN: usize = 204;
    pub(super) const BLOCK_SIZE: usize = 216;
    pub(super) const SEGMENT_BLOCKS: usize = 220;
    pub(super) const WAL_BLOCK_SIZE: usize = 224;
    pub(super) const FLOAT8_BY_VALUE: usize = 248;
    /// `mock_authentication_nonce`.
    pub(super) const NONCE: usize = 256;
    /// CRC-32C of everything before it.
    pub(super) const CRC: usize = 288;
}

/// `XLogLongPageHeaderData`, at the head of each segment of the log.
const WAL_HEAD: usize = 40;
const WAL_MAGIC: u16 = 0xD116;
const WAL_LONG_HEADER: u16 = 2;
const WAL_SYSTEM_IDENTIFIER: usize = 24;

const WRITE: OpenOptions =
    OpenOptions { create: false, exclusive: false, truncate: false, directory: false, write: true };

/// The properties that determine the format of a data directory. Directories with equal layouts can
/// be opened by the same builds of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layout {
    /// Major version of PostgreSQL.
    pub(crate) postgresql: String,
    pub(crate) control_version: u32,
    pub(crate) catalog_version: u32,
    pub(crate) max_align: u32,
    pub(crate) block_size: u32,
    pub(crate) segment_blocks: u32,
    pub(crate) wal_block_size: u32,
    /// Whether 8-byte values are passed by value: on 64-bit machines, and here.
    pub(crate) float8_by_value: bool,
}

impl Layout {
    /// The layout of a data directory, as its control file has it.
    pub(crate) fn of(data: &dyn FileSystem) -> Result<Self> {
        let version = read(data, "PG_VERSION")?;
        let control = control(data)?;
        Ok(Self {
            postgresql: String::from_utf8_lossy(&version).trim().to_string(),
            control_version: u32_at(&control, at::CONTROL_VERSION),
            catalog_version: u32_at(&control, at::CATALOG_VERSION),
            max_align: u32_at(&control, at::MAX_ALIGN),
            block_size: u32_at(&control, at::BLOCK_SIZE),
            segment_blocks: u32_at(&control, at::SEGMENT_BLOCKS),
            wal_block_size: u32_at(&control, at::WAL_BLOCK_SIZE),
            float8_by_value: control[at::FLOAT8_BY_VALUE] != 0,
        })
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { postgresql, catalog_version, block_size, float8_by_value, .. } = self;
        let bits = if *float8_by_value { 64 } else { 32 };
        write!(f, "PostgreSQL {postgresql} (catalog {catalog_version}, {bits} bit, blocks of {block_size} bytes)")
    }
}

/// What distinguishes a database from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The system identifier.
    system: u64,
    /// The secret from which a server computes what it tells a client about the password of a role
    /// that does not exist. With a known one, a client could tell that it does not.
    nonce: [u8; 32],
}

impl Identity {
    /// A new identity. The system identifier is built as in PostgreSQL: seconds, microseconds, and
    /// 12 bits that differ between processes.
    pub(crate) fn new() -> Result<Self> {
        let (mut random, mut nonce) = ([0; 2], [0; 32]);
        getrandom::fill(&mut random)
            .and_then(|()| getrandom::fill(&mut nonce))
            .map_err(|cause| Error::new(ErrorKind::Io, "cannot make a system identifier").with_cause(cause))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let low = u64::from(u16::from_le_bytes(random) & 0xFFF);
        Ok(Self { system: now.as_secs() << 32 | u64::from(now.subsec_micros()) << 12 | low, nonce })
    }
}

/// Whether PostgreSQL has ended with a checkpoint, so that the next start replays nothing
/// (`DB_SHUTDOWNED`).
pub(crate) fn is_shut_down(data: &dyn FileSystem) -> Result<bool> {
    Ok(u32_at(&control(data)?, at::STATE) == 1)
}

/// Gives another identity to a data directory that was shut down cleanly.
pub(crate) fn set_identity(data: &dyn FileSystem, identity: &Identity) -> Result<()> {
    let mut control = control(data)?;
    let old = control[at::SYSTEM_IDENTIFIER..][..8].to_vec();
    control[at::SYSTEM_IDENTIFIER..][..8].copy_from_slice(&identity.system.to_le_bytes());
    control[at::NONCE..][..32].copy_from_slice(&identity.nonce);
    let crc = crc32c::crc32c(&control[..at::CRC]);
    control[at::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
    let failed = |path: &str, errno: Errno| Error::new(ErrorKind::Io, format!("cannot write {path}: {errno}"));

    let segments = data.open(WAL, OpenOptions::default(), 0).and_then(|wal| wal.list());
    for entry in segments.map_err(|errno| failed(WAL, errno))? {
        if entry.name.len() != 24 || !entry.name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let path = format!("{WAL}/{}", entry.name);
        let segment = data.open(&path, WRITE, 0).map_err(|errno| failed(&path, errno))?;
        let mut head = [0; WAL_HEAD];
        let count = segment.read_at(0, &mut head).map_err(|errno| failed(&path, errno))?;
        // A segment that was made for later has no header.
        if head == [0; WAL_HEAD] {
            continue;
        }
        let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let is_head = count == WAL_HEAD && word(0) == WAL_MAGIC && word(2) & WAL_LONG_HEADER != 0;
        if !is_head || head[WAL_SYSTEM_IDENTIFIER..][..8] != old {
            return Err(Error::new(ErrorKind::Payload, format!("{path} does not belong to {CONTROL}")));
        }
        let bytes = identity.system.to_le_bytes();
        segment.write_at(WAL_SYSTEM_IDENTIFIER as u64, &bytes, 0).map_err(|errno| failed(&path, errno))?;
    }
    let file = data.open(CONTROL, WRITE, 0).map_err(|errno| failed(CONTROL, errno))?;
    file.write_at(0, &control[..at::CRC + 4], 0).map_err(|errno| failed(CONTROL, errno))?;
    Ok(())
}

/// The control file, after checking its CRC.
fn control(data: &dyn FileSystem) -> Result<Vec<u8>> {
    let bytes = read(data, CONTROL)?;
    if bytes.len() < at::CRC + 4 || crc32c::crc32c(&bytes[..at::CRC]) != u32_at(&bytes, at::CRC) {
        let message = format!("{CONTROL} is damaged or of another PostgreSQL: its checksum is wrong");
        return Err(Error::new(ErrorKind::Incompatible, message));
    }
    Ok(bytes)
}

fn read(data: &dyn FileSystem, path: &str) -> Result<Vec<u8>> {
    let bytes = data.open(path, OpenOptions::default(), 0).and_then(|file| fs::read(&*file));
    bytes.map_err(|errno| Error::new(ErrorKind::Incompatible, format!("cannot read {path}: {errno}")))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::fs::test_support::read;
    use crate::fs::{Image, ImageFs, Item};

    const SEGMENT: &str = "pg_wal/000000010000000000000001";

    fn data(old_in_wal: u64) -> ImageFs {
        let mut control = vec![0; 8192];
        control[..8].copy_from_slice(&7u64.to_le_bytes());
        control[at::CONTROL_VERSION..][..4].copy_from_slice(&1700u32.to_le_bytes());
        control[at::BLOCK_SIZE..][..4].copy_from_slice(&8192u32.to_le_bytes());
        let crc = crc32c::crc32c(&control[..at::CRC]);
        control[at::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
        let mut segment = vec![0; 8192];
        segment[..2].copy_from_slice(&WAL_MAGIC.to_le_bytes());
        segment[2] = 2;
        segment[WAL_SYSTEM_IDENTIFIER..][..8].copy_from_slice(&old_in_wal.to_le_bytes());
        let unused = ("pg_wal/000000010000000000000002", vec![0; 8192]);
        let files = [("PG_VERSION", b"17\n".to_vec()), (CONTROL, control), (SEGMENT, segment), unused];
        let items = files.map(|(path, bytes)| (path.to_string(), Item::File(Bytes::from(bytes))));
        ImageFs::new(Arc::new(Image::new(items, 0).unwrap()))
    }

    #[test]
    fn a_new_identity_is_everywhere_and_the_checksum_right() {
        let data = data(7);
        let identity = Identity { system: 0x0102_0304_0506_0708, nonce: [9; 32] };
        set_identity(&data, &identity).unwrap();
        let bytes = control(&data).unwrap();
        assert_eq!(bytes[..8], 0x0102_0304_0506_0708u64.to_le_bytes());
        assert_eq!(bytes[256..288], [9; 32]);
        assert_eq!(read(&data, SEGMENT)[24..32], 0x0102_0304_0506_0708u64.to_le_bytes());
        let layout = Layout::of(&data).unwrap();
        assert_eq!((layout.postgresql.as_str(), layout.control_version, layout.block_size), ("17", 1700, 8192));
        let [one, other] = [Identity::new().unwrap(), Identity::new().unwrap()];
        assert!(one.system != other.system && one.nonce != other.nonce, "{one:?} {other:?}");
    }

    #[test]
    fn what_does_not_belong_together_stays_as_it_is() {
        let other = data(8);
        let error = set_identity(&other, &Identity { system: 9, nonce: [9; 32] }).unwrap_err();
        assert!(error.to_string().contains(SEGMENT), "{error}");
        assert_eq!(control(&other).unwrap()[..8], 7u64.to_le_bytes());
        let damaged = data(7);
        damaged.open(CONTROL, WRITE, 0).unwrap().write_at(100, b"x", 0).unwrap();
        assert_eq!(Layout::of(&damaged).unwrap_err().kind(), ErrorKind::Incompatible);
    }
}
