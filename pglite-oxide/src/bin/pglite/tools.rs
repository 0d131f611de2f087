//! `pglite dump` and `pglite psql`: PostgreSQL's client programs, on a database or against a
//! server.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pglite_oxide::cli::{self, Server};
use pglite_oxide::{DumpFormat, PgDumpOptions, Pglite};

use crate::Failure;
use crate::place::Target;

#[derive(Debug, Args)]
pub(crate) struct DumpArguments {
    #[command(flatten)]
    target: Target,
    /// Write the dump to this file, which is replaced when the dump is complete [default: standard
    /// output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The format of the dump
    #[arg(long, value_enum, default_value_t)]
    format: Form,
    /// Compress an archive of the custom format: gzip, lz4, zstd or none, with a level or without,
    /// such as zstd:9 [default: gzip]
    #[arg(long, value_name = "METHOD")]
    compression: Option<String>,
    /// Options of pg_dump, after `--`
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PsqlArguments {
    #[command(flatten)]
    target: Target,
    /// Arguments of psql, after `--`
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Form {
    /// SQL
    #[default]
    Plain,
    /// An archive for pg_restore
    Custom,
    /// The same, as a tar file
    Tar,
}

enum Opened {
    Database(Box<Pglite>),
    Server(Server),
}

pub(crate) fn dump(arguments: &DumpArguments) -> Result<ExitCode, Failure> {
    let format = match arguments.format {
        Form::Plain => DumpFormat::Plain,
        Form::Custom => DumpFormat::Custom,
        Form::Tar => DumpFormat::Tar,
    };
    let options = PgDumpOptions::new().format(format);
    let options = arguments.compression.iter().fold(options, PgDumpOptions::compression);
    let options = arguments.options.iter().fold(options, PgDumpOptions::arg);
    let dump = match open(&arguments.target)? {
        Opened::Database(mut db) => {
            let dump = db.dump_bytes(&options)?;
            db.close()?;
            dump
        }
        Opened::Server(server) => server.dump(&options)?,
    };
    match &arguments.output {
        Some(path) => replace(path, &dump)?,
        None => {
            let mut stdout = std::io::stdout().lock();
            let written = stdout.write_all(&dump).and_then(|()| stdout.flush());
            written.map_err(|cause| format!("cannot write the dump: {cause}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn psql(arguments: &PsqlArguments) -> Result<ExitCode, Failure> {
    let code = match open(&arguments.target)? {
        Opened::Database(mut db) => {
            let code = cli::psql(&mut db, arguments.arguments.clone())?;
            db.close()?;
            code
        }
        Opened::Server(server) => server.psql(arguments.arguments.clone())?,
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn open(target: &Target) -> Result<Opened, Failure> {
    Ok(match target.url() {
        Some(url) => Opened::Server(Server::at(url)?),
        None => Opened::Database(Box::new(target.builder().open()?)),
    })
}

/// Writes a file atomically.
fn replace(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(contents)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error).map(drop)
    };
    write().map_err(|cause: std::io::Error| format!("cannot write {}: {cause}", path.display()).into())
}
