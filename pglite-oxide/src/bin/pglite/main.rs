//! `pglite`: the command-line program. It owns flags, exit codes and messages; everything else is
//! the library's.

mod directory;
mod place;
mod serve;
mod tools;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The error of a command.
type Failure = Box<dyn std::error::Error>;

/// Exit code of an error of this program; the command of `--run` has its own exit codes.
const FAILED: u8 = 1;

/// PostgreSQL without a server to install.
#[derive(Debug, Parser)]
#[command(name = "pglite", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a database to PostgreSQL clients until a signal arrives, or while a command runs
    Serve(serve::Arguments),
    /// Dump a database with PostgreSQL's pg_dump
    Dump(tools::DumpArguments),
    /// Run PostgreSQL's psql
    Psql(tools::PsqlArguments),
    /// Make a database from the data directory of a PostgreSQL server, or of another database
    Import(directory::ImportArguments),
    /// Copy the data directory of a database, for a PostgreSQL server
    Export(directory::ExportArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Serve(arguments) => serve::run(&arguments),
        Verb::Dump(arguments) => tools::dump(&arguments),
        Verb::Psql(arguments) => tools::psql(&arguments),
        Verb::Import(arguments) => directory::import(&arguments),
        Verb::Export(arguments) => directory::export(&arguments),
    };
    result.unwrap_or_else(|error| {
        // Standard error may be closed.
        let _ = writeln!(std::io::stderr(), "pglite: {error}");
        ExitCode::from(FAILED)
    })
}
