//! For tests and benchmarks of this crate, not for users: databases on file systems that record or
//! fail, the bare round trip, and `psql`. Not stable.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::bundle::{self, Payload};
use crate::client::{Builder, Pglite};
use crate::cluster::options::{Durability, Options};
use crate::cluster::{Cluster, Data};
use crate::error::{Error, ErrorKind, Result};
use crate::fs;
use crate::programs::psql::Psql;
use crate::programs::socket::SocketDialer;
use crate::programs::{Input, Kept};
use crate::wasm::artifact;

mod fault;
mod fuzz;
mod log;

pub use crate::dev::fault::{Class, Fault, FaultFs, Plan};
pub use crate::dev::log::{Fate, FileId, LogFs, Operation, Recording, SECTOR};
pub use crate::fs::errno::Errno;
pub use crate::fs::host::HostFs;
pub use crate::fs::image::ImageFs;
pub use crate::fs::{Entry, FileSystem, Handle, Kind, OpenOptions, RawSlice, RawSliceMut, Stat};
pub use fuzz::{load_archive, read_messages, read_startup, use_paths};

/// The data directory of a new database, in memory. Two of them share their pages until they are
/// written.
///
/// # Errors
/// [`ErrorKind::Payload`] if this build contains no PostgreSQL for this machine.
pub fn template() -> Result<ImageFs> {
    Ok(ImageFs::new(bundle::embedded()?.template()?))
}

/// Contents of one file.
///
/// # Errors
/// [`ErrorKind::Io`] with the path.
pub fn read(data: &dyn FileSystem, path: &str) -> Result<Vec<u8>> {
    let failed = |errno: Errno| Error::new(ErrorKind::Io, format!("{path}: {errno}"));
    fs::read(&*data.open(path, OpenOptions::default(), 0).map_err(failed)?).map_err(failed)
}

/// Copies a data directory from one file system to another, which is empty.
///
/// # Errors
/// [`ErrorKind::Io`] with the path.
pub fn copy(from: &dyn FileSystem, to: &dyn FileSystem) -> Result<()> {
    crate::cluster::copy(from, to)
}

/// Opens a database on any file system that holds a data directory.
///
/// # Errors
/// As [`crate::Builder::open`].
pub fn open(data: Arc<dyn FileSystem>, durability: Durability, settings: &[(&str, &str)]) -> Result<Pglite> {
    let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let options = Options { durability, settings, ..Options::default() };
    options.check()?;
    Pglite::start(Cluster::new(bundle::embedded()?, Data::Other(data), options, None))
}

/// Has a builder's PostgreSQL find more modules, those of a directory with artifacts, and see a
/// directory of the machine at an absolute path. Both stay loaded as long as the process runs.
///
/// # Errors
/// [`ErrorKind::Payload`] if the artifacts cannot be read; [`ErrorKind::Io`] if the directory
/// cannot be opened.
pub fn extend(builder: Builder, modules: &Path, mount: (&str, &Path)) -> Result<Builder> {
    let (point, directory) = mount;
    let failed = |cause| Error::new(ErrorKind::Io, format!("cannot open {}", directory.display())).with_cause(cause);
    let fs = Arc::new(HostFs::open(directory).map_err(failed)?);
    let modules = artifact::from_directory(modules)?;
    let payload = bundle::embedded()?.extended(modules, vec![(String::leak(point.to_string()), fs)]);
    Ok(builder.with_payload(Box::leak(Box::new(payload))))
}

/// Has a builder's PostgreSQL lack what a feature of this crate adds. It stays loaded as long as
/// the process runs.
///
/// # Errors
/// [`ErrorKind::Payload`] if this build contains no PostgreSQL for this machine.
pub fn without_feature(builder: Builder, feature: &str) -> Result<Builder> {
    of_parts(builder, |part| part.feature != feature)
}

/// Has a builder's PostgreSQL lack what all features of this crate add, as that of a program that
/// requests none. It stays loaded as long as the process runs.
///
/// # Errors
/// [`ErrorKind::Payload`] if this build contains no PostgreSQL for this machine.
pub fn without_extensions(builder: Builder) -> Result<Builder> {
    of_parts(builder, |part| part.feature.is_empty())
}

fn of_parts(builder: Builder, is_wanted: impl Fn(&bundle::Part) -> bool) -> Result<Builder> {
    let payload = Payload::of_parts(bundle::PARTS.iter().filter(|part| is_wanted(part)))?;
    Ok(builder.with_payload(Box::leak(Box::new(payload))))
}

/// Sends a Sync message and reads the answer: the cost of a round trip in which PostgreSQL does
/// nothing.
///
/// # Errors
/// [`ErrorKind::Closed`] if the session is over.
pub fn round_trip(db: &mut Pglite) -> Result<()> {
    postgres_protocol::message::frontend::sync(db.session.begin()?);
    db.session.send()?;
    db.session.finish()
}

/// Lets the program panic in the next call by which PostgreSQL puts something out.
///
/// # Errors
/// [`ErrorKind::Closed`] if the session is over.
pub fn panic_in_next_output(db: &mut Pglite) -> Result<()> {
    struct Panics;
    impl crate::wasm::streams::Sink for Panics {
        fn take(&mut self, _: &mut bytes::BytesMut) -> bool {
            #[allow(clippy::panic, reason = "the panic is what the caller asks for")]
            {
                panic!("a panic in a host function");
            }
        }
    }
    db.session.guest().with(|guest| guest.streams().attach(None, Some(Box::new(Panics))))
}

/// A run of `psql`: its exit code, and what it put out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PsqlRun {
    /// 0, or what `psql` says about its failure (PostgreSQL documentation, `psql`, "Exit Status").
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `psql` in the session of a database, with these arguments and this input, and paths that
/// start at this directory.
///
/// # Errors
/// As the session's or the program's.
pub fn psql(db: &mut Pglite, args: &[&str], input: impl Into<Bytes>, directory: &Path) -> Result<PsqlRun> {
    let (psql, stdout, stderr) = psql_command(args, Input::Bytes(input.into()), directory);
    Ok(psql_run(psql.run_in(db, |_| Ok(()))?, &stdout, &stderr))
}

/// Runs `psql` against a server at a TCP address.
///
/// # Errors
/// As the program's.
pub fn psql_at(server: SocketAddr, args: &[&str], input: impl Into<Bytes>, directory: &Path) -> Result<PsqlRun> {
    let (psql, stdout, stderr) = psql_command(args, Input::Bytes(input.into()), directory);
    let running = psql.start(Box::new(SocketDialer::Tcp(server)))?;
    Ok(psql_run(running.wait()?, &stdout, &stderr))
}

fn psql_command(args: &[&str], stdin: Input, directory: &Path) -> (Psql, Kept, Kept) {
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let psql = Psql {
        args: args.iter().map(|argument| argument.to_string()).collect(),
        env: Vec::new(),
        working_directory: Some(directory.to_path_buf()),
        stdin,
        stdout: stdout.output(),
        stderr: stderr.output(),
    };
    (psql, stdout, stderr)
}

fn psql_run(code: i32, stdout: &Kept, stderr: &Kept) -> PsqlRun {
    let text = |kept: &Kept| String::from_utf8_lossy(&kept.take()).into_owned();
    PsqlRun { code, stdout: text(stdout), stderr: text(stderr) }
}
