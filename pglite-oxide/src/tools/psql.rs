//! `psql`, with the caller's arguments, streams and files. It owns what of the caller's surroundings the program sees: all of the machine's files, with the
//! caller's working directory, and a few variables of the environment.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::channel::Dialer;
use super::machine::MachineFs;
use super::session::SessionDialer;
use super::{Command, Input, Output, Running};
use crate::database::Pglite;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Image, ImageFs, Item, Volume};
use crate::protocol::TransactionStatus;
use crate::serve::{self, pipe};

/// Where the program finds itself and its like: a place that no machine has.
const INSTALLATION: &str = "/.pglite-oxide";

/// Variables that are handed on from the caller's environment: the user's taste, not where the server is.
const PASSED_ON: [&str; 11] = [
    "COLUMNS",
    "HOME",
    "LINES",
    "PGAPPNAME",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGOPTIONS",
    "PSQLRC",
    "PSQL_HISTORY",
    "TERM",
    "XDG_CONFIG_HOME",
];

/// A run of psql.
#[derive(Debug)]
pub(crate) struct Psql {
    /// Arguments, without the program's name.
    pub(crate) args: Vec<String>,
    /// Environment: PGUSER and PGDATABASE, and what `environment` hands on.
    pub(crate) env: Vec<(String, String)>,
    /// What relative paths start at.
    pub(crate) working_directory: PathBuf,
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

impl Psql {
    /// Starts the program.
    ///
    /// # Errors
    /// [`ErrorKind::Payload`] if this build does not carry it; [`ErrorKind::Io`] if the working directory is not there, or the system refuses a thread.
    pub(crate) fn start(self, dialer: Box<dyn Dialer>) -> Result<Running> {
        let working_directory = guest_path(&self.working_directory)?;
        let itself = [("bin/psql".to_string(), Item::File(Bytes::from_static(b"psql\n")))];
        let installation = Image::new(itself, 0)
            .map_err(|(path, errno)| Error::new(ErrorKind::Io, format!("cannot lay out {path}: {errno}")))?;
        let volume =
            Volume::new(Arc::new(MachineFs)).mount(INSTALLATION, Arc::new(ImageFs::new(Arc::new(installation))));
        // There is no program to page through output with.
        let mut env: Vec<(String, String)> =
            [("PSQL_PAGER", ""), ("PAGER", "")].map(|(name, value)| (name.to_string(), value.to_string())).into();
        env.extend(self.env);
        let name = format!("{INSTALLATION}/bin/psql");
        let command = Command {
            program: "psql",
            args: std::iter::once(name).chain(self.args).collect(),
            env,
            volume,
            working_directory,
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
            dialer,
        };
        command.start()
    }

    /// Runs the program in the session of a database, and returns its exit code. A transaction that it leaves open is rolled back, as a server would.
    ///
    /// # Errors
    /// As [`Self::start`]; [`ErrorKind::Crashed`] if the program traps; why the session is over if it is.
    pub(crate) fn run_in(mut self, db: &mut Pglite) -> Result<i32> {
        let interrupts = db.session.interrupts().clone();
        let (server, client) = pipe::pipe(interrupts.clone());
        for (name, value) in [("PGUSER", &db.options().user), ("PGDATABASE", &db.options().database)] {
            self.env.push((name.to_string(), value.clone()));
        }
        let running = self.start(Box::new(SessionDialer::new(client, &interrupts)))?;
        let served = serve::lend(db, server);
        let code = running.wait();
        // A client that was refused has said so.
        match served {
            Err(error) if !matches!(error.kind(), ErrorKind::Config | ErrorKind::Database) => return Err(error),
            _ => (),
        }
        if db.transaction_status() != TransactionStatus::Idle {
            db.batch_execute("ROLLBACK")?;
        }
        code
    }
}

/// What of this process's environment the program sees.
pub(crate) fn environment() -> Vec<(String, String)> {
    PASSED_ON.iter().filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?))).collect()
}

/// A path of the machine as the program knows it.
fn guest_path(path: &std::path::Path) -> Result<String> {
    let failed = |cause: std::io::Error| {
        Error::new(ErrorKind::Io, format!("cannot use the working directory {}", path.display())).with_cause(cause)
    };
    let path = std::path::absolute(path).map_err(failed)?;
    let text = path.to_str().ok_or_else(|| failed(std::io::ErrorKind::InvalidFilename.into()))?;
    Ok(if text.starts_with('/') { text.to_string() } else { format!("/{}", text.replace('\\', "/")) })
}
