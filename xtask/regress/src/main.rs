//! A server for PostgreSQL's own tests, on a Unix socket: a database with the modules that only
//! tests load, and with a directory of the host visible to the guest. It serves until its standard
//! input ends. `cargo xtask regress` runs the tests.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use pglite_oxide::{Durability, Listen, Pglite, dev};

/// Options of the program.
#[derive(Debug, Parser)]
struct Options {
    /// Directory for the socket
    #[arg(long)]
    socket: PathBuf,
    /// Root of the database; created if it does not exist
    #[arg(long)]
    data: PathBuf,
    /// Directory with the artifacts of modules
    #[arg(long)]
    modules: PathBuf,
    /// A directory of the host, and its path in the guest
    #[arg(long, value_name = "POINT=DIRECTORY")]
    mount: String,
    /// Write and sync as a database with a path does by default
    #[arg(long)]
    durable: bool,
    /// A server setting; may be given several times
    #[arg(long = "setting", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let durability = if options.durable { Durability::Full } else { Durability::None };
    let mut builder = Pglite::builder().path(&options.data).durability(durability);
    for setting in &options.settings {
        let (name, value) = setting.split_once('=').context("a setting is NAME=VALUE")?;
        // Modules are loaded early because an extension needs it.
        builder = match name {
            "shared_preload_libraries" => builder.extension(value),
            _ => builder.setting(name, value),
        };
    }
    let (point, directory) = options.mount.split_once('=').context("a mount is POINT=DIRECTORY")?;
    let builder = dev::extend(builder, &options.modules, (point, directory.as_ref()))?;
    // psql's `\connect` opens the new connection before it closes the old one.
    let listen = Listen::unix(&options.socket).take_over_idle(true).wait_for_session(Duration::from_secs(60));
    let server = builder.serve(&listen.on_error(|error| eprintln!("session failed: {error}")))?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.shutdown()?;
    Ok(())
}
