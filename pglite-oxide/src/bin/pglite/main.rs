//! `pglite`: a database of this crate from the command line. It owns flags, exit codes and what is
//! printed; everything else is the library's.

mod place;
mod serve;
mod tools;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a command failed of.
type Failure = Box<dyn std::error::Error>;

/// Exit code of an error of this program's own; what `--run` runs has codes of its own.
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
    /// Serve a database to any PostgreSQL client until a signal comes, or while a command runs
    Serve(serve::Arguments),
    /// Dump a database with PostgreSQL's pg_dump
    Dump(tools::DumpArguments),
    /// Run PostgreSQL's psql
    Psql(tools::PsqlArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Serve(arguments) => serve::run(&arguments),
        Verb::Dump(arguments) => tools::dump(&arguments),
        Verb::Psql(arguments) => tools::psql(&arguments),
    };
    result.unwrap_or_else(|error| {
        // Standard error may be closed.
        let _ = writeln!(std::io::stderr(), "pglite: {error}");
        ExitCode::from(FAILED)
    })
}
