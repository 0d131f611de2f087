//! Makes the database template: performs the work of `initdb` with the built guest, and packs the
//! data directory as a tar archive.
//!
//! It owns the order of the work and the determinism of the result: the guest has a fixed clock and
//! a seeded random source, so that equal modules and share files give equal bytes. PostgreSQL
//! writes the directory.

mod config;
mod script;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use pglite_oxide_runtime::pipeline::{ClockSource, Connection, File, Modules, RngSource, Start, Tree, run_main};

use script::{SHARE, STEPS, Step};

/// The data directory, as the guest sees it.
const PGDATA: &str = "/pgdata";
/// WAL segment size in bytes: PostgreSQL's default.
const WAL_SEGMENT: &str = "16777216";
/// Start of the guest's clock: 2025-01-01T00:00:00Z in microseconds since 1970. The template
/// contains it as the time of the cluster's creation.
const CLOCK_START_US: u64 = 1_735_689_600_000_000;
/// Advance of the clock at each reading, in microseconds.
const CLOCK_STEP_US: u64 = 10;
/// Seed of the guest's random source.
const SEED: u64 = 17;

/// Makes the database template from AOT artifacts of this machine and PostgreSQL's share files.
#[derive(Debug, Parser)]
struct Args {
    /// Directory of artifacts: NAME.aot and NAME.json.
    #[arg(long)]
    modules: PathBuf,
    /// Directory that the guest is to see as /usr/share/postgresql.
    #[arg(long)]
    share: PathBuf,
    /// Major version of PostgreSQL, such as 17.
    #[arg(long)]
    major: String,
    /// The archive to write.
    #[arg(long)]
    out: PathBuf,
}

/// Errors of this program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {action} {path}: {cause}")]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("the share file {file} is not what this build expects: {problem}")]
    Share { file: &'static str, problem: String },
    #[error("bootstrap ended with exit code {code}; the guest said:\n{log}")]
    Bootstrap { code: i32, log: String },
    #[error("{step}: {cause}")]
    Step { step: String, cause: pglite_oxide_runtime::error::Error },
    #[error(transparent)]
    Guest(#[from] pglite_oxide_runtime::error::Error),
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let modules = Modules::load(&args.modules)?;
    let tree = Tree::new(initial_files(args, &modules)?, CLOCK_START_US)?;

    println!("bootstrapping template1");
    let bki = config::bootstrap_input(&share_text(args, "postgres.bki")?, &args.major)?;
    let exit = run_main(
        &modules,
        &tree,
        start(&["--boot", "-F", "-c", "log_checkpoints=false", "-X", WAL_SEGMENT, "-D", PGDATA], bki.into_bytes(), 0),
    )?;
    if exit.code != 0 {
        return Err(Error::Bootstrap { code: exit.code, log: exit.log });
    }

    let session = ["--single", "-F", "-O", "-c", "search_path=pg_catalog", "-c", "log_checkpoints=false", "-D", PGDATA];
    let mut connection = Connection::open(&modules, &tree, start(&session, Vec::new(), 1), "postgres", "template1")?;
    for step in STEPS {
        let (name, sql) = match step {
            Step::File(file) => (format!("running {file}"), share_text(args, file)?),
            Step::Sql(sql) => (sql.split_whitespace().take(6).collect::<Vec<_>>().join(" "), (*sql).to_owned()),
        };
        println!("{name}");
        connection.batch_execute(&sql).map_err(|cause| Error::Step { step: name, cause })?;
    }
    connection.close()?;

    pack(&tree.files(PGDATA.trim_start_matches('/'))?, &args.out)
}

/// How a guest is started. Each start sets the clock later than any earlier start can have reached,
/// so that time never goes back.
fn start(args: &[&str], stdin: Vec<u8>, number: u64) -> Start {
    const HOUR_US: u64 = 3_600_000_000;
    Start {
        args: std::iter::once("postgres").chain(args.iter().copied()).map(str::to_owned).collect(),
        env: vec![("TZ".into(), "UTC".into()), ("PGTZ".into(), "UTC".into())],
        stdin: stdin.into(),
        clock: ClockSource::Fixed { unix_us: CLOCK_START_US + number * HOUR_US, step_us: CLOCK_STEP_US },
        rng: RngSource::Seeded(SEED + number),
    }
}

/// The files that exist before the guest first runs.
fn initial_files(args: &Args, modules: &Modules) -> Result<Vec<File>, Error> {
    let mut files = modules.placeholders("usr/lib/postgresql");
    share_files(&args.share, SHARE.trim_start_matches('/'), &mut files)?;

    let data = PGDATA.trim_start_matches('/');
    files.push(File { path: data.to_owned(), contents: None });
    files.extend(config::DIRECTORIES.iter().map(|dir| File { path: format!("{data}/{dir}"), contents: None }));
    let version = format!("{}\n", args.major);
    let conf = config::postgresql_conf(&share_text(args, "postgresql.conf.sample")?)?;
    let hba = config::pg_hba_conf(&share_text(args, "pg_hba.conf.sample")?);
    let ident = share_text(args, "pg_ident.conf.sample")?;
    let auto = "# Do not edit this file manually!\n# It will be overwritten by the ALTER SYSTEM command.\n".to_owned();
    for (name, text) in [
        ("PG_VERSION", version.clone()),
        ("base/1/PG_VERSION", version),
        ("postgresql.conf", conf),
        ("postgresql.auto.conf", auto),
        ("pg_hba.conf", hba),
        ("pg_ident.conf", ident),
    ] {
        files.push(File { path: format!("{data}/{name}"), contents: Some(text.into_bytes().into()) });
    }
    Ok(files)
}

fn share_text(args: &Args, file: &'static str) -> Result<String, Error> {
    let path = args.share.join(file);
    fs::read_to_string(&path).map_err(|cause| Error::Io { action: "read", path, cause })
}

/// Adds the files below a host directory, in the order of their names.
fn share_files(directory: &Path, guest: &str, files: &mut Vec<File>) -> Result<(), Error> {
    let failed = |cause| Error::Io { action: "read", path: directory.to_path_buf(), cause };
    let mut entries = fs::read_dir(directory).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let guest = format!("{guest}/{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            share_files(&path, &guest, files)?;
        } else {
            let bytes = fs::read(&path).map_err(|cause| Error::Io { action: "read", path: path.clone(), cause })?;
            files.push(File { path: guest, contents: Some(bytes.into()) });
        }
    }
    Ok(())
}

/// Writes the data directory as a tar archive with fixed metadata.
fn pack(files: &[File], out: &Path) -> Result<(), Error> {
    let failed = |cause| Error::Io { action: "write", path: out.to_path_buf(), cause };
    let mut archive = tar::Builder::new(Vec::new());
    let mut files: Vec<&File> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for file in files {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(CLOCK_START_US / 1_000_000);
        match &file.contents {
            None => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o700);
                header.set_size(0);
                archive.append_data(&mut header, &file.path, std::io::empty()).map_err(failed)?;
            }
            Some(bytes) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(0o600);
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, &file.path, &bytes[..]).map_err(failed)?;
            }
        }
    }
    let bytes = archive.into_inner().map_err(failed)?;
    let mut file = fs::File::create(out).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)
}
