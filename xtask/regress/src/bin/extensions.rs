//! Tests the life of extensions: created, used, restarted, dumped and restored, dropped, created
//! again, updated from older versions, with an error in between, alone and together, in this
//! process and through the server. The statements come from a file; `cargo xtask extensions check`
//! writes it from `assets/extensions`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use pglite_oxide::{Builder, Durability, Listen, PgDumpOptions, Pglite, TransactionStatus, dev};
use serde::Deserialize;

/// Options of the program.
#[derive(Debug, Parser)]
struct Options {
    /// File with the extensions, in JSON
    cases: PathBuf,
    /// Number of random sets of ten, and orders in which all are created together
    #[arg(long, value_name = "N", default_value_t = 5)]
    sets: usize,
    /// Seed of the random sets
    #[arg(long)]
    seed: Option<u64>,
}

/// An extension.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    /// What CREATE EXTENSION makes of it.
    creates: Vec<String>,
    /// Modules that must be loaded early.
    preload: Vec<String>,
    /// Statements that fail if it does not work.
    smoke: Vec<String>,
    /// A statement after them that fails because of what it creates.
    error: Option<ErrorCase>,
    /// Versions that its scripts cannot update.
    no_update_from: Vec<String>,
    /// The file that it is in, if it is not part of the program.
    bundle: Option<PathBuf>,
}

/// A statement that fails.
#[derive(Debug, Deserialize)]
struct ErrorCase {
    sql: String,
    sqlstate: String,
}

impl Case {
    /// The names that a program uses.
    fn names(&self) -> &[String] {
        if self.creates.is_empty() { std::slice::from_ref(&self.name) } else { &self.creates }
    }

    fn name_in(&self, builder: Builder) -> Builder {
        self.names().iter().fold(self.find_in(builder), Builder::extension)
    }

    /// The builder, for a database that may have it.
    fn find_in(&self, builder: Builder) -> Builder {
        self.bundle.iter().fold(builder, Builder::extension_bundle)
    }
}

/// Size of a random set.
const SET: usize = 10;

/// The smoke statements work in a schema of their own.
const BEGIN: &str = "CREATE SCHEMA smoke; SET search_path = smoke, public";
const END: &str = "RESET ALL; UNLISTEN *; DROP SCHEMA smoke CASCADE";

/// Drops the schemas that extensions leave behind, which a dump creates.
const OWN_SCHEMAS: &str = "DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$' LOOP
        EXECUTE format('DROP SCHEMA %I', name);
    END LOOP;
END $$";

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
    let text = std::fs::read_to_string(&options.cases).context("the file of the extensions")?;
    let cases: Vec<Case> = serde_json::from_str(&text).context("the file of the extensions")?;
    let mut failed = Vec::new();
    for case in &cases {
        match life(case) {
            Ok(()) => println!("extensions: {}: passed", case.name),
            Err(error) => {
                println!("extensions: {}: FAILED: {error:#}", case.name);
                failed.push(case.name.as_str());
            }
        }
    }
    if cases.len() > SET {
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        println!("extensions: {} sets of {SET}, seed {seed}", options.sets);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..options.sets {
            let mut all: Vec<&Case> = cases.iter().collect();
            random.shuffle(&mut all);
            all.truncate(SET);
            together(&all)?;
        }
        let mut all: Vec<&Case> = cases.iter().collect();
        together(&all)?;
        println!("extensions: all {} together: passed", all.len());
        // Each pair in the other order as well.
        if options.sets > 1 {
            all.reverse();
            together(&all)?;
            println!("extensions: all in the opposite order: passed");
        }
    }
    ensure!(failed.is_empty(), "{} of {} extensions fail: {}", failed.len(), cases.len(), failed.join(", "));
    println!("extensions: {} passed", cases.len());
    Ok(())
}

fn open(root: &Path, case: &Case) -> Result<Pglite> {
    case.name_in(Pglite::builder().path(root).durability(Durability::None)).open().context("open")
}

/// The life of one extension.
fn life(case: &Case) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let root = directory.path().join("root");
    let mut db = open(&root, case)?;
    smoke(&mut db, case).context("created")?;
    error(&mut db, case)?;
    db.batch_execute(END)?;
    for created in &case.creates {
        let again = db.batch_execute(&format!("CREATE EXTENSION \"{created}\""));
        let code = again.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
        ensure!(code.as_deref() == Some("42710"), "a repeated CREATE EXTENSION: {code:?}");
    }
    let there = versions(&mut db)?;
    let missing =
        case.creates.iter().find(|name| !there.iter().any(|line| line.split(' ').next() == Some(name.as_str())));
    ensure!(missing.is_none(), "{missing:?} is not in pg_extension");
    db.close()?;

    let mut db = open(&root, case).context("reopen")?;
    smoke(&mut db, case).context("after a restart")?;
    restored(&mut db, case, directory.path()).context("dump and restore")?;
    db.batch_execute(END)?;
    // What requires another was created after it.
    for created in case.creates.iter().rev() {
        db.batch_execute(&format!("DROP EXTENSION \"{created}\" CASCADE")).context("drop")?;
    }
    for created in &case.creates {
        db.batch_execute(&format!("CREATE EXTENSION \"{created}\" CASCADE")).context("create again")?;
    }
    smoke(&mut db, case).context("created again")?;
    db.batch_execute(END)?;
    updated(&mut db, case)?;
    db.close()?;

    // The database opens without it, if nothing has to be loaded early.
    let mut db = Pglite::builder().path(&root).durability(Durability::None).open().context("open without its name")?;
    db.batch_execute("SELECT 1")?;
    db.close()?;

    served(&root, case, directory.path()).context("through the server")
}

fn smoke(db: &mut Pglite, case: &Case) -> Result<()> {
    db.batch_execute(BEGIN)?;
    // One after the other: some need the transaction before them.
    for statement in &case.smoke {
        db.batch_execute(statement).with_context(|| statement.clone())?;
    }
    Ok(())
}

/// An error that comes from what the extension creates ends the statement and nothing else.
fn error(db: &mut Pglite, case: &Case) -> Result<()> {
    let Some(ErrorCase { sql, sqlstate }) = &case.error else { return Ok(()) };
    let Err(error) = db.batch_execute(sql) else { bail!("{sql} did not fail") };
    let found = error.code().map(|code| code.code().to_owned());
    ensure!(found.as_ref() == Some(sqlstate), "{sql}: {found:?} instead of {sqlstate}: {error}");
    if db.transaction_status() != TransactionStatus::Idle {
        db.batch_execute("ROLLBACK")?;
    }
    ensure!(db.query_one("SELECT 40 + 2", &[])?.try_get::<_, i32>(0)? == 42, "the statement after {sql}");
    Ok(())
}

/// Every version that can be created becomes the present one by ALTER EXTENSION UPDATE.
fn updated(db: &mut Pglite, case: &Case) -> Result<()> {
    for name in &case.creates {
        let sql = "SELECT v.version, e.default_version FROM pg_available_extension_versions v
            JOIN pg_available_extensions e USING (name)
            JOIN pg_extension_update_paths($1) p ON p.source = v.version AND p.target = e.default_version
            WHERE v.name = $1 AND p.path IS NOT NULL ORDER BY 1";
        let mut unmet = case.no_update_from.clone();
        for row in db.query(sql, &[name])? {
            let (version, default): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let what = || format!("{name} {version}, to be updated");
            // Another that it requires may have been dropped.
            db.batch_execute(&format!("DROP EXTENSION IF EXISTS \"{name}\" CASCADE")).with_context(what)?;
            db.batch_execute(OWN_SCHEMAS).with_context(what)?;
            let old = format!("CREATE EXTENSION \"{name}\" VERSION '{version}' CASCADE");
            db.batch_execute(&old).with_context(what)?;
            let update = db.batch_execute(&format!("ALTER EXTENSION \"{name}\" UPDATE"));
            if case.no_update_from.contains(&version) {
                ensure!(update.is_err(), "{} no longer fails", what());
                unmet.retain(|unmet| *unmet != version);
                continue;
            }
            update.with_context(what)?;
            let found = db.query_one("SELECT extversion FROM pg_extension WHERE extname = $1", &[name])?;
            ensure!(found.try_get::<_, String>(0)? == default, "{} has not become {default}", what());
            if case.creates.len() == 1 {
                smoke(db, case).with_context(what)?;
                db.batch_execute(END)?;
            }
        }
        ensure!(unmet.is_empty(), "{name} has no version {}", unmet.join(", "));
    }
    // Of several, the last versions are used together.
    if case.creates.len() > 1 {
        smoke(db, case).context("after the updates")?;
        db.batch_execute(END)?;
    }
    Ok(())
}

fn versions(db: &mut Pglite) -> Result<Vec<String>> {
    let rows = db.query("SELECT extname || ' ' || extversion FROM pg_extension ORDER BY 1", &[])?;
    rows.iter().map(|row| Ok(row.try_get::<_, String>(0)?)).collect()
}

/// A dump of a database with the extension and what depends on it makes the same database.
fn restored(db: &mut Pglite, case: &Case, directory: &Path) -> Result<()> {
    let options = PgDumpOptions::new();
    let dump = db.dump_sql(&options)?;
    let mut copy = case.find_in(Pglite::builder());
    // Only what is loaded early is named: the dump creates the rest.
    if !case.preload.is_empty() {
        copy = case.name_in(copy);
    }
    let mut copy = copy.open()?;
    for created in case.creates.iter().filter(|_| !case.preload.is_empty()) {
        copy.batch_execute(&format!("DROP EXTENSION \"{created}\" CASCADE"))?;
    }
    copy.batch_execute(OWN_SCHEMAS)?;
    let run = dev::psql(&mut copy, &["-X", "-q", "-v", "ON_ERROR_STOP=1"], dump.clone(), directory)?;
    ensure!(run.code == 0, "psql: {}", run.stderr);
    let again = copy.dump_sql(&options)?;
    let without = |dump: &str| dump.lines().filter(|line| !line.starts_with("\\")).collect::<Vec<_>>().join("\n");
    ensure!(without(&dump) == without(&again), "the dump of the restored database differs");
    ensure!(versions(db)? == versions(&mut copy)?, "the restored database has other extensions");
    copy.batch_execute(END)?;
    smoke(&mut copy, case).context("in the restored database")?;
    copy.close()?;
    Ok(())
}

/// The same statements from a client of the server.
fn served(root: &Path, case: &Case, directory: &Path) -> Result<()> {
    let builder = case.name_in(Pglite::builder().path(root).durability(Durability::None));
    let socket = directory.join("socket");
    std::fs::create_dir(&socket)?;
    let server = builder.serve(&Listen::unix(&socket))?;
    let mut client = postgres::Config::new();
    client.host_path(&socket).user("postgres").dbname("postgres");
    let mut client = client.connect(postgres::NoTls)?;
    client.batch_execute(BEGIN)?;
    for statement in &case.smoke {
        client.batch_execute(statement).with_context(|| statement.clone())?;
    }
    client.batch_execute(END)?;
    client.close()?;
    server.shutdown()?;
    Ok(())
}

/// Several extensions in one database.
fn together(cases: &[&Case]) -> Result<()> {
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let builder = cases.iter().fold(Pglite::builder(), |builder, case| case.name_in(builder));
    let mut db = builder.open().with_context(|| names.join(" "))?;
    for case in cases {
        smoke(&mut db, case)
            .and_then(|()| Ok(db.batch_execute(END)?))
            .with_context(|| format!("{}, beside {}", case.name, names.join(" ")))?;
    }
    db.close()?;
    Ok(())
}
