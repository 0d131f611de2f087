//! `cargo xtask regress`: runs PostgreSQL's own tests against the server, or a native one. It
//! prepares what they need, runs them one after the other, continues after a failure, and compares
//! the results with the committed table.

mod driver;
mod report;
mod suite;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::assets;
use crate::assets::extension::Extension;
use crate::cargo::{SharedTarget, succeed};
use crate::error::{Error, Result};
use crate::files;
use crate::native::Native;
use crate::paths::Paths;
use crate::pipeline::progress::elapsed;
use crate::test;

use driver::{Driver, Server, Subject};
pub(crate) use report::Count;
use report::{NATIVE_TABLE, Outcome, REASONS, Reasons, Results, TABLE};
use suite::{Choice, Suite};

/// Settings that pg_regress gives a server that it starts, and PostgreSQL's defaults where this
/// server has others and tests depend on them.
const SETTINGS: &[(&str, &str)] = &[("max_prepared_transactions", "2"), ("max_parallel_workers_per_gather", "2")];

/// Options of `regress`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Only these tests, and the tests that they depend on
    tests: Vec<String>,
    /// A schedule instead of the main suite's parallel_schedule
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Only these suites; may be given several times
    #[arg(long = "suite", value_enum)]
    suites: Vec<Choice>,
    /// Run them against Debian's server, and compare the results with docs/regression-native.md
    #[arg(long, conflicts_with_all = ["keep", "server"])]
    native: bool,
    /// Write the results into the table (docs/regression.md, docs/regression-native.md)
    #[arg(long, conflicts_with_all = ["tests", "suites", "schedule"])]
    update: bool,
    /// Keep the server's database in this directory, which must not exist yet
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Only the suites of these extensions.
    #[arg(skip)]
    extensions: Vec<String>,
    /// A server program that is already built
    #[arg(long, value_name = "FILE", hide = true)]
    server: Option<PathBuf>,
}

impl Options {
    /// A run of the tests of PostgreSQL and contrib whose databases are left in this directory.
    pub(crate) fn keep(directory: &Path) -> Self {
        let suites = vec![Choice::Regress, Choice::Plpgsql, Choice::Contrib];
        Self { suites, keep: Some(directory.to_path_buf()), ..Self::default() }
    }
}

/// Options of `extensions installcheck`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct OwnSuites {
    /// Names of extensions, as in assets/extensions; all if none is named
    names: Vec<String>,
    /// Run them against Debian's server, and compare the results with docs/regression-native.md
    #[arg(long)]
    native: bool,
}

/// Runs the suites of extensions.
pub(crate) fn installcheck(paths: &Paths, options: &OwnSuites) -> Result<()> {
    let suites = vec![Choice::Contrib, Choice::Community];
    let (extensions, native) = (options.names.clone(), options.native);
    run(paths, &Options { suites, extensions, native, ..Options::default() })
}

/// Runs the tests.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let outputs = assets::test_outputs(paths)?;
    let work = paths.root.join(if options.native { "target/regress-native" } else { "target/regress" });
    files::remove_directory(&work)?;
    copy(&outputs.suites, &work)?;
    let data = match &options.keep {
        Some(data) if data.exists() => {
            return Err(Error::new(format!("{} is there already", data.display())).repair("name a new directory"));
        }
        Some(data) => std::path::absolute(data).map_err(|e| Error::io("find", data, e))?,
        None => work.join("data"),
    };
    let suites = Suite::find(&work, &options.suites, options.schedule.as_deref())?;
    let suites = restrict(of_extensions(suites, &options.extensions)?, &options.tests)?;
    // Held until the program has run, so that the program that runs is the one built here.
    let target;
    let subject = if options.native {
        native(paths, &work, &suites)?
    } else {
        let program = match &options.server {
            Some(program) => std::path::absolute(program).map_err(|e| Error::io("find", program, e))?,
            None => {
                target = SharedTarget::acquire(paths)?;
                build(&target)?
            }
        };
        Subject::Own { program, modules: outputs.modules, data: data.clone() }
    };
    let driver = Driver { subject, rootfs: outputs.rootfs, work, settings: SETTINGS };
    let start = Instant::now();
    let results = run_suites(&driver, &suites)?;
    if options.keep.is_none() {
        files::remove_directory(&data)?;
    }
    let (passed, all) = results.count();
    println!(
        "{passed} of {all} tests pass, in {}; differences are below {}",
        elapsed(start.elapsed()),
        driver.work.join("out").display()
    );
    judge(paths, options, &results)
}

/// The counts of each suite in the committed table.
pub(crate) fn counts(paths: &Paths) -> Result<BTreeMap<String, Count>> {
    Ok(report::parse_counts(&files::text(&paths.root.join(TABLE))?))
}

/// Compares results with the table, or writes them as the table.
fn judge(paths: &Paths, options: &Options, results: &Results) -> Result<()> {
    let read = |name: &str| {
        let path = paths.root.join(name);
        files::text(&path)
    };
    let reasons = Reasons::parse(&read(REASONS)?)?;
    if options.update {
        let (name, table) = if options.native {
            (NATIVE_TABLE, report::render_native(results, &reasons, &read(TABLE)?)?)
        } else {
            (TABLE, report::render(results, &reasons)?)
        };
        return files::write(&paths.root.join(name), table);
    }
    let (name, verb, changes) = if options.native {
        let changes = report::native_changes(results, &read(TABLE)?, &read(NATIVE_TABLE)?);
        (NATIVE_TABLE, "regress --native", changes)
    } else {
        (TABLE, "regress", report::changes(results, &reasons, &read(TABLE)?))
    };
    if changes.is_empty() {
        return Ok(());
    }
    let repair = format!("what is worse must be fixed; what is better: `cargo xtask {verb} --update`");
    Err(Error::new(format!("not as {name} says:\n  {}", changes.join("\n  "))).repair(repair))
}

fn build(target: &SharedTarget) -> Result<PathBuf> {
    succeed(&mut target.build(&["--bin", "regress"]))?;
    Ok(target.release().join("regress"))
}

/// A native server for these suites, whose files are in `work`.
fn native(paths: &Paths, work: &Path, suites: &[Suite]) -> Result<Subject> {
    let native = Native::prepare(paths, &[])?;
    Native::own(work)?;
    let cluster = native.initdb_in(work, false)?;
    let extensions = Extension::all(&paths.root)?;
    let is_there = |suite: &Suite| {
        let own = extensions.iter().filter(|extension| extension.name == suite.name);
        let names = own.flat_map(|extension| extension.creates.iter().chain(&extension.modules));
        names.chain([&suite.name]).any(|name| native.has_extension(name))
    };
    let absent = suites.iter().filter(|suite| !is_there(suite));
    Ok(Subject::Native { cluster, absent: absent.map(|suite| suite.name.clone()).collect() })
}

/// Runs the test of memory barriers.
pub(crate) fn barriers(paths: &Paths) -> Result<test::Outcome> {
    if !std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        return Ok(test::Outcome::Skipped("it needs two cores: on one, no access is seen out of order".to_owned()));
    }
    let modules = assets::test_outputs(paths)?.modules;
    let target = SharedTarget::acquire(paths)?;
    succeed(&mut target.build(&["--bin", "barriers"]))?;
    succeed(Command::new(target.release().join("barriers")).arg("--modules").arg(modules))?;
    Ok(test::Outcome::Passed)
}

/// The suites of the named extensions, or all if none is named.
fn of_extensions(suites: Vec<Suite>, names: &[String]) -> Result<Vec<Suite>> {
    if let Some(name) = names.iter().find(|name| !suites.iter().any(|suite| suite.name == **name)) {
        return Err(Error::new(format!("there is no suite of an extension {name}"))
            .repair("name one whose makefile has REGRESS: pgtap, pg_partman and plprofiler have other tests"));
    }
    Ok(suites.into_iter().filter(|suite| names.is_empty() || names.contains(&suite.name)).collect())
}

/// The suites with the named tests only, or with all if none is named.
fn restrict(suites: Vec<Suite>, names: &[String]) -> Result<Vec<Suite>> {
    if names.is_empty() {
        return Ok(suites);
    }
    if let Some(name) = names.iter().find(|name| !suites.iter().any(|suite| suite.tests.contains(name))) {
        return Err(Error::new(format!("no suite has a test called {name}")));
    }
    let suites = suites.iter().map(|suite| suite.restricted_to(names));
    Ok(suites.filter(|suite| !suite.tests.is_empty()).collect())
}

fn run_suites(driver: &Driver, suites: &[Suite]) -> Result<Results> {
    let mut results = Results::default();
    let mut server: Option<Server<'_>> = None;
    let mut settings: &[(String, String)] = &[];
    for suite in suites {
        if !driver.has(suite) {
            println!("{:<10} {}", suite.name, Outcome::NotThere);
            let tests = suite.tests.iter().map(|test| (test.clone(), Outcome::NotThere));
            results.0.push((suite.name.clone(), tests.collect()));
            continue;
        }
        if suite.settings != settings {
            if let Some(running) = server.take() {
                running.stop()?;
            }
            settings = &suite.settings;
        }
        let mut tests = Vec::new();
        for test in &suite.tests {
            let start = Instant::now();
            let mut running = match server.take() {
                Some(running) => running,
                None => driver.serve(settings)?,
            };
            let outcome = driver.test(suite, test, tests.is_empty(), &mut running)?;
            println!("{:<10} {test:<28} {:>7}  {outcome}", suite.name, elapsed(start.elapsed()));
            match &outcome {
                // The remaining tests get a new server on the same data.
                Outcome::Hung | Outcome::Died => drop(running),
                _ => server = Some(running),
            }
            tests.push((test.clone(), outcome));
        }
        results.0.push((suite.name.to_owned(), tests));
    }
    if let Some(server) = server {
        server.stop()?;
    }
    Ok(results)
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    files::make_directory(to)?;
    for entry in fs::read_dir(from).map_err(|e| Error::io("list", from, e))? {
        let from = entry.map_err(|e| Error::io("list", from, e))?.path();
        let Some(name) = from.file_name() else { continue };
        let to = to.join(name);
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).map_err(|e| Error::io("copy", &from, e))?;
        }
    }
    Ok(())
}
