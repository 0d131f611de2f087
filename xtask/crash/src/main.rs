//! Tests what a database survives: killed processes (`rounds`, `child`), losses of power (`power`),
//! disk errors (`faults`). `workload` owns the transactions and the expected contents, `check` the
//! comparison; this file owns the command line.

mod check;
mod child;
mod faults;
mod native;
mod power;
mod rounds;
mod sql;
mod watch;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

/// Where Linux keeps files in memory. A killed process loses nothing that it has written to the
/// system, so a disk would only slow the rounds down; `power` covers what a disk may lose.
const MEMORY: &str = "/dev/shm";

/// Crashes databases and checks the result.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Kills processes that commit
    Rounds {
        /// How many kills
        #[arg(long)]
        rounds: u64,
        /// Seed of the work and of the moments [default: a new one]
        #[arg(long)]
        seed: Option<u64>,
        /// Directory for the roots [default: a temporary directory, in memory where the system has
        /// one]
        #[arg(long)]
        root: Option<PathBuf>,
        /// Let PostgreSQL servers take turns, and recover what was killed on the other side
        #[arg(long)]
        servers: bool,
    },
    /// Rebuilds disks as a loss of power could leave them
    PowerLoss {
        /// How many of them
        #[arg(long)]
        states: usize,
        /// Seed of the work, the moments and the losses [default: a new one]
        #[arg(long)]
        seed: Option<u64>,
        /// Only the one of this number
        #[arg(long)]
        only: Option<usize>,
        /// Have PostgreSQL servers recover them as well
        #[arg(long)]
        servers: bool,
    },
    /// Makes operations of a disk fail
    Faults {
        /// Only every N-th of them
        #[arg(long, default_value_t = 1)]
        stride: u64,
        /// Seed of the work
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only the case of this number
        #[arg(long)]
        only: Option<usize>,
    },
    /// The process that `rounds` starts and kills
    #[command(hide = true)]
    Child(child::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Rounds { rounds, seed, root, servers } => {
            below(root, |directory| rounds::run(rounds, seed.unwrap_or_else(|| fastrand::u64(..)), servers, directory))
        }
        Verb::PowerLoss { states, seed, only, servers } => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(..));
            if !servers {
                return power::run(states, seed, only, None);
            }
            below(None, |directory| power::run(states, seed, only, Some(directory)))
        }
        Verb::Faults { stride, seed, only } => faults::run(stride, seed, only),
        Verb::Child(options) => child::run(&options),
    }
}

/// Runs something that makes roots in a directory: this one, or a temporary one. What a failed run
/// leaves in a temporary one is kept for inspection.
fn below(directory: Option<PathBuf>, run: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if let Some(directory) = directory {
        return run(&directory);
    }
    let place = if Path::new(MEMORY).is_dir() { PathBuf::from(MEMORY) } else { std::env::temp_dir() };
    let temporary = tempfile::Builder::new().prefix("pglite-oxide-crash-").tempdir_in(place);
    let temporary = temporary.context("cannot make a temporary directory")?;
    let result = run(temporary.path());
    if result.is_err() {
        let _ = temporary.keep();
    }
    result
}
