//! A server for PostgreSQL's own tests: a database with modules that only tests load and a
//! directory of the machine that the guest sees, on a Unix socket. It serves until its standard
//! input ends. What is run against it is `cargo xtask regress`'s.

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
    /// Root of the database; made if it is not there
    #[arg(long)]
    data: PathBuf,
    /// Directory with the artifacts of modules
    #[arg(long)]
    modules: PathBuf,
    /// A directory of the machine, and where the guest sees it
    #[arg(long, value_name = "POINT=DIRECTORY")]
    mount: String,
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
    let mut builder = Pglite::builder().path(&options.data).durability(Durability::None);
    for setting in &options.settings {
        let (name, value) = setting.split_once('=').context("a setting is NAME=VALUE")?;
        builder = builder.setting(name, value);
    }
    let (point, directory) = options.mount.split_once('=').context("a mount is POINT=DIRECTORY")?;
    let builder = dev::extend(builder, &options.modules, (point, directory.as_ref()))?;
    // psql connects anew before it closes what it had.
    let listen = Listen::unix(&options.socket).take_over_idle(true).wait_for_session(Duration::from_secs(60));
    let server = builder.serve(&listen.on_error(|error| eprintln!("session failed: {error}")))?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.shutdown()?;
    Ok(())
}
