//! `pglite import` and `pglite export`: data directories of PostgreSQL servers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::Failure;
use crate::place::Place;

/// What a server leaves and an embedded database does not use, with what to do about it.
const LEFT: [(&str, &str); 2] = [
    (
        "SELECT slot_name::text FROM pg_replication_slots ORDER BY 1",
        "the replication slot {} keeps WAL; drop it if nothing follows this database: SELECT pg_drop_replication_slot('{}')",
    ),
    (
        "SELECT gid FROM pg_prepared_xacts ORDER BY 1",
        "the prepared transaction {} keeps its locks; end it with COMMIT PREPARED or ROLLBACK PREPARED '{}'",
    ),
];

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The data directory; nothing may have it open, and it does not change
    #[arg(value_name = "DIRECTORY")]
    from: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    place: Place,
    /// The directory to create
    #[arg(value_name = "DIRECTORY")]
    to: PathBuf,
}

pub(crate) fn import(arguments: &ImportArguments) -> Result<ExitCode, Failure> {
    let mut db = arguments.place.builder().copy_of(&arguments.from).open()?;
    for (query, advice) in LEFT {
        for row in db.query(query, &[])? {
            eprintln!("pglite: {}", advice.replace("{}", row.get(0)));
        }
    }
    db.close()?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn export(arguments: &ExportArguments) -> Result<ExitCode, Failure> {
    arguments.place.builder().export(&arguments.to)?;
    Ok(ExitCode::SUCCESS)
}
