//! Measures pglite-oxide beside a native PostgreSQL. `cargo xtask perf` builds it, prepares the
//! native PostgreSQL and calls it. It owns the cases and the method; it asserts no time.

mod checksums;
#[path = "../../src/error.rs"]
mod error;
mod linked;
mod machine;
mod open;
mod ours;
mod query;
mod report;
#[path = "../../src/native/server.rs"]
mod server;
mod serving;
mod session;
mod stats;
mod theirs;
mod vectors;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use theirs::Address;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Time and memory up to the first row
    Open {
        /// Root file system of the native PostgreSQL
        #[arg(long)]
        native: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Statements
    Query {
        /// Directory of the native server's socket
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        port: u16,
        /// Directory of the socket of another native server, which syncs its commits
        #[arg(long)]
        durable_socket: PathBuf,
        #[arg(long)]
        durable_port: u16,
        #[command(flatten)]
        common: Common,
    },
    /// pgvector: insert, exact and approximate search, index builds
    Vector {
        /// Directory of the native server's socket
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        port: u16,
        #[command(flatten)]
        common: Common,
    },
    /// Time that clients of the local server wait
    Server {
        /// Root file system of the native PostgreSQL
        #[arg(long)]
        native: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// What data checksums cost
    Checksums {
        /// Root file system of the native PostgreSQL
        #[arg(long)]
        native: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// What extensions cost a database that uses none
    Linked {
        #[command(flatten)]
        common: Common,
    },
    /// One cold process of `linked`; prints what it measured to standard output
    #[command(hide = true)]
    LinkedOnce {
        /// Without any extension
        #[arg(long)]
        without: bool,
    },
    /// The embedded server for `server`, in a separate process
    #[command(hide = true)]
    ServeOnce {
        #[arg(long)]
        directory: PathBuf,
        #[arg(long = "setting")]
        settings: Vec<String>,
    },
    /// One cold process of `open`; prints its progress to standard output
    #[command(hide = true)]
    OpenOnce {
        /// Databases to open after the first
        #[arg(long)]
        again: u32,
        /// Directory of a persistent database instead of temporary ones
        #[arg(long)]
        root: Option<PathBuf>,
    },
    /// Runs one case on the embedded side for some seconds, for a profiler
    Profile {
        /// Part of the case's name
        case: String,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

/// Options of every benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    #[arg(long)]
    json: PathBuf,
    #[arg(long)]
    rounds: Option<u32>,
    #[arg(long)]
    quick: bool,
    /// Settings of the native server, NAME=VALUE; those that both sides have are part of the result
    #[arg(long = "setting", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

impl Common {
    /// Rounds that count.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 10 }).max(1)
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Open { native, common } => open::run(&native, &common),
        Verb::OpenOnce { again, root } => open::once(again, root.as_deref()),
        Verb::Query { socket, port, durable_socket, durable_port, common } => {
            let native = Address { directory: socket, port };
            let durable = Address { directory: durable_socket, port: durable_port };
            query::run(&native, &durable, &common)
        }
        Verb::Vector { socket, port, common } => vectors::run(&Address { directory: socket, port }, &common),
        Verb::Server { native, common } => serving::run(&native, &common),
        Verb::Checksums { native, common } => checksums::run(&native, &common),
        Verb::Linked { common } => linked::run(&common),
        Verb::LinkedOnce { without } => linked::once(!without),
        Verb::ServeOnce { directory, settings } => serving::once(&directory, &settings),
        Verb::Profile { case, seconds } => query::profile(&case, seconds),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
