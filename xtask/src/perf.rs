//! `cargo xtask perf`: measures opening a database and running statements beside a native
//! PostgreSQL in the same run, and what a choice of the program costs beside the other choice. It
//! prepares the native PostgreSQL and builds the benchmark program, which owns the measurements and
//! the form of the result.

use std::path::PathBuf;
use std::process::Command;

use crate::cargo::{SharedTarget, succeed};
use crate::error::{Context as _, Error, Result};
use crate::native::{Native, Options as ServerOptions};
use crate::paths::Paths;
use crate::sources::MirrorOption;

/// Settings of the native server: those of the embedded PostgreSQL, which has no other processes
/// and no just-in-time compiler. All other settings have PostgreSQL's defaults on both sides.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("shared_buffers", "128MB"),
    ("jit", "off"),
    ("autovacuum", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("max_parallel_maintenance_workers", "0"),
];

/// Verbs of `cargo xtask perf`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Time and memory up to the first row
    Open(Options),
    /// Time of statements: round trips and compute-bound statements
    Query(Options),
    /// Time of pgvector: insert, exact and approximate search, index builds
    Vector(Options),
    /// Time that clients of the local server wait: connections, round trips, pgbench, pg_dump
    Server(Options),
    /// What data checksums cost the embedded database
    Checksums(Options),
    /// What extensions in the program cost a database that uses none of them
    Linked(Options),
}

/// Options of every benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds to measure, after one warm-up round [default: 10, with --quick 2]
    #[arg(long)]
    rounds: Option<u32>,
    /// Small data and short rounds: tests the benchmark and measures nothing
    #[arg(long)]
    quick: bool,
    /// File for the result [default: target/perf/VERB.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    mirror: MirrorOption,
}

/// Runs a verb.
pub(crate) fn run(paths: &Paths, verb: Verb) -> Result<()> {
    let (name, options) = match &verb {
        Verb::Open(options) => ("open", options),
        Verb::Query(options) => ("query", options),
        Verb::Vector(options) => ("vector", options),
        Verb::Server(options) => ("server", options),
        Verb::Checksums(options) => ("checksums", options),
        Verb::Linked(options) => ("linked", options),
    };
    let shared = SharedTarget::acquire(paths)?;
    let program = build(&shared)?;
    let json = options.json.clone().unwrap_or_else(|| paths.root.join("target/perf").join(format!("{name}.json")));
    let mut command = Command::new(&program);
    command.arg(name).arg("--json").arg(&json);
    if options.quick {
        command.arg("--quick");
    }
    if let Some(rounds) = options.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    for (name, value) in SETTINGS {
        command.args(["--setting", &format!("{name}={value}")]);
    }
    let native = || Native::prepare(paths, &options.mirror.debian_mirror);
    match verb {
        // It compares the embedded PostgreSQL with itself.
        Verb::Linked(_) => measure(&mut command),
        Verb::Open(_) | Verb::Server(_) | Verb::Checksums(_) => measure(command.arg("--native").arg(native()?.rootfs)),
        Verb::Vector(_) => {
            let native = native()?;
            let cluster = native.initdb(false)?;
            let server = cluster.start(&ServerOptions { settings: SETTINGS, port: None })?;
            command.arg("--socket").arg(server.socket_directory()).args(["--port", &server.port().to_string()]);
            measure(&mut command)?;
            server.stop()
        }
        Verb::Query(_) => {
            let native = native()?;
            let cluster = native.initdb(false)?;
            let server = cluster.start(&ServerOptions { settings: SETTINGS, port: None })?;
            eprintln!("native: the server is process {}", server.pid());
            let durable_cluster = native.initdb(false)?;
            let syncing: Vec<_> = SETTINGS.iter().copied().filter(|(name, _)| *name != "fsync").collect();
            let durable = durable_cluster.start(&ServerOptions { settings: &syncing, port: None })?;
            command.arg("--socket").arg(server.socket_directory()).args(["--port", &server.port().to_string()]);
            command.arg("--durable-socket").arg(durable.socket_directory());
            command.args(["--durable-port", &durable.port().to_string()]);
            measure(&mut command)?;
            durable.stop()?;
            server.stop()
        }
    }
}

fn measure(command: &mut Command) -> Result<()> {
    let status = command.status().context(|| "cannot start the benchmark program".into())?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("the benchmark failed: {status}"))) }
}

/// Builds the benchmark program and returns its path.
fn build(shared: &SharedTarget) -> Result<PathBuf> {
    succeed(&mut shared.build(&["--bin", "bench"]))?;
    Ok(shared.release().join("bench"))
}
