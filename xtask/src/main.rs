//! `cargo xtask`: parses the verb, finds the checkout and calls the module of the verb. It does
//! nothing else.

mod assets;
mod backend;
mod cargo;
mod clients;
mod consumer;
mod crash;
mod dependencies;
mod error;
mod extensions;
mod files;
mod image;
#[path = "../../pglite-oxide/src/bundle/manifest.rs"]
mod manifest;
mod native;
mod native_directory;
mod paths;
mod perf;
mod pipeline;
mod regress;
mod release;
mod shell;
mod sources;
mod test;
mod wasm;

use std::process::ExitCode;

use clap::Parser;

/// The build pipeline of pglite-oxide.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    area: Area,
}

#[derive(Debug, clap::Subcommand)]
enum Area {
    /// Build, check and describe the payload of the internal crates
    #[command(subcommand)]
    Assets(assets::Verb),
    /// Test what a database survives: kills, losses of power, disk errors
    Crash(crash::Options),
    /// Build an extension of your own
    #[command(subcommand)]
    Extension(assets::bundle::Verb),
    /// List and test the extensions
    #[command(subcommand)]
    Extensions(extensions::Verb),
    /// Test that a native PostgreSQL opens the data directory of an embedded database, and the
    /// other way round
    NativeDirectory(native_directory::Options),
    /// Measure this PostgreSQL beside a native one
    #[command(subcommand)]
    Perf(perf::Verb),
    /// Run PostgreSQL's own tests against the server
    Regress(regress::Options),
    /// Prepare the crates to publish
    #[command(subcommand)]
    Release(release::Verb),
    /// Fetch, check and pin the inputs of the build
    #[command(subcommand)]
    Sources(sources::Verb),
    /// Run every check, or with --fast those that need no payload
    Test(test::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = paths::Paths::find().and_then(|paths| match cli.area {
        Area::Assets(verb) => assets::run(&paths, verb),
        Area::Crash(options) => crash::run(&paths, &options),
        Area::Extension(verb) => assets::bundle::run(&paths, &verb),
        Area::Extensions(verb) => extensions::run(&paths, &verb),
        Area::NativeDirectory(options) => native_directory::run(&paths, &options),
        Area::Perf(verb) => perf::run(&paths, verb),
        Area::Regress(options) => regress::run(&paths, &options),
        Area::Release(verb) => release::run(&paths, verb),
        Area::Sources(verb) => sources::run(&paths, verb),
        Area::Test(options) => test::run(&paths, &options),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
