//! `cargo xtask test`: every check of the checkout, in one run. It owns the list of checks, their
//! order, which of them run beside the others, and the result of a run; each check belongs to the
//! module it is named after. The last line counts the results.

use std::io::{Read as _, Seek as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::assets::{self, BuildOptions, Verb, reproduce};
use crate::backend::{self, Choice};
use crate::cargo::{RUNTIME_TESTS, SharedTarget, succeed};
use crate::dependencies::{self, Policy};
use crate::error::{Context as _, Error, Result};
use crate::native::Native;
use crate::paths::Paths;
use crate::pipeline::progress::{Progress, elapsed};
use crate::{clients, consumer, crash, extensions, native_directory, regress, release};

/// Options of `test`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Only the checks whose name contains one of these
    names: Vec<String>,
    /// Only the checks that need no payload, no network and no backend: format, lints, unit tests
    #[arg(long)]
    fast: bool,
    /// Fail if a check cannot run here
    #[arg(long)]
    no_skips: bool,
    /// With --no-skips: a check that may be skipped nevertheless; may be given several times
    #[arg(long, value_name = "CHECK", requires = "no_skips")]
    may_skip: Vec<String>,
}

/// How a check ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran and succeeded.
    Passed,
    /// It could not run here, for this reason. This is not a pass.
    Skipped(String),
}

/// The runs that a check belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// In every run.
    Always,
    /// In a full run only: it needs a payload, the network or a backend.
    Full,
    /// In a fast run only: a check of a full run covers it.
    Fast,
}

/// A check.
struct Check {
    name: &'static str,
    runs: Runs,
    /// Names of the checks that make what this one needs. They come before it.
    needs: &'static [&'static str],
    /// It compiles, mostly, in a directory of its own: in a run with other checks, it runs beside
    /// those that follow `BEFORE_BESIDE`, which leave a core idle most of the time.
    beside: bool,
    run: fn(&Paths) -> Result<Outcome>,
}

/// The check after which the checks begin that run beside the others.
const BEFORE_BESIDE: &str = "assets build";

/// Makes a row of the table.
const fn check(
    name: &'static str,
    runs: Runs,
    needs: &'static [&'static str],
    run: fn(&Paths) -> Result<Outcome>,
) -> Check {
    Check { name, runs, needs, beside: false, run }
}

/// Makes a row of a check that runs beside others.
const fn beside(name: &'static str, needs: &'static [&'static str], run: fn(&Paths) -> Result<Outcome>) -> Check {
    Check { name, runs: Runs::Full, needs, beside: true, run }
}

/// In the order in which they run. Fast checks come first, and every check comes after those that
/// make what it needs.
const CHECKS: &[Check] = &[
    check("format", Runs::Always, &[], |paths| cargo(paths, &["fmt", "--all", "--check"])),
    check("sources", Runs::Always, &[], |paths| {
        let check = crate::sources::Verb::Check { online: false, mirror: Default::default() };
        passed(crate::sources::run(paths, check))
    }),
    check("dependencies", Runs::Always, &[], |paths| {
        passed(dependencies::check_workspace(paths, &Policy::read(paths)?))
    }),
    check("pipeline", Runs::Always, &[], |paths| cargo(paths, &["test", "--locked", "-p", "xtask"])),
    check("lints", Runs::Always, &[], |paths| cargo(paths, LINTS)),
    check("lints of examples and fuzz targets", Runs::Always, &[], |paths| cargo(paths, LINTS_BESIDE)),
    check("unit tests of the runtime", Runs::Fast, &[], |paths| {
        let packages = ["-p", "pglite-oxide", "-p", "pglite-oxide-runtime"];
        // These tests open a database, and the payload that is staged may be an older one.
        let without = ["--", "--skip", "programs::psql::tests", "--skip", "client::prepared::tests"];
        cargo(paths, &[&["test", "--locked", "--lib", "--all-features"], &packages[..], &without].concat())
    }),
    check("c format", Runs::Full, &["sources"], c_format),
    check("assets build", Runs::Full, &["sources"], |paths| passed(assets::build(paths, &BuildOptions::default()))),
    check("assets build, nothing changed", Runs::Full, &["assets build"], nothing_changed),
    check("assets verify", Runs::Full, &["assets build"], |paths| passed(assets::run(paths, Verb::Verify))),
    beside("lints of the AOT compiler", &["assets build"], |paths| passed(assets::lint_compiler(paths))),
    check("native PostgreSQL", Runs::Full, &["sources"], native),
    check("backend sandbox", Runs::Full, &["assets build"], |paths| backend(paths, Choice::Sandbox)),
    check("backend docker", Runs::Full, &["assets build"], |paths| backend(paths, Choice::Docker)),
    check("runtime", Runs::Full, &["assets build"], |paths| test_shared(paths, RUNTIME_TESTS)),
    check("fuzz corpus", Runs::Full, &["assets build", "runtime"], fuzz_corpus),
    check("clients", Runs::Full, &["assets build", "native PostgreSQL"], clients),
    check("crash", Runs::Full, &["assets build"], |paths| passed(crash::run(paths, &crash::Options::slice()))),
    check("native directory", Runs::Full, &["assets build", "native PostgreSQL"], |paths| {
        passed(native_directory::run(paths, &native_directory::Options::slice()))
    }),
    check("regress", Runs::Full, &["assets build"], |paths| passed(regress::run(paths, &regress::Options::default()))),
    check("extensions", Runs::Full, &["assets build"], |paths| passed(extensions::test(paths))),
    check("memory barriers", Runs::Full, &["assets build"], regress::barriers),
    check("release stage", Runs::Full, &["assets build"], |paths| {
        passed(release::run(paths, release::Verb::Stage(release::StageOptions::default())))
    }),
    beside("consumer", &["assets build"], |paths| passed(consumer::check(paths))),
    beside("fresh resolution", &["consumer"], consumer::fresh_resolution),
];

/// Everything that a plain `cargo build` compiles.
const LINTS: &[&str] = &["clippy", "--locked", "--all-targets", "--all-features", "--", "-D", "warnings"];

/// Packages that are not default members. The fuzz targets are not linked, so that no C++ is
/// compiled.
const LINTS_BESIDE: &[&str] = &[
    "clippy",
    "--locked",
    "-p",
    "examples",
    "-p",
    "pglite-oxide-fuzz",
    "--all-targets",
    "--no-default-features",
    "--",
    "-D",
    "warnings",
];

/// Runs the checks and prints a line for each.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let chosen: Vec<&Check> = CHECKS.iter().filter(|check| options.want(check)).collect();
    if chosen.is_empty() {
        return Err(Error::new(format!("no check is called {}", options.names.join(" or "))));
    }
    if let Some(name) = options.may_skip.iter().find(|name| !CHECKS.iter().any(|check| check.name == *name)) {
        return Err(Error::new(format!("--may-skip {name}: no check is called that")));
    }
    let (aside, chosen): (Vec<&Check>, Vec<&Check>) = if chosen.iter().any(|check| check.name == BEFORE_BESIDE) {
        chosen.into_iter().partition(|check| check.beside)
    } else {
        (Vec::new(), chosen)
    };
    let mut results: Vec<(&str, String, Result<Outcome>)> = Vec::new();
    let mut running = None;
    for check in chosen {
        println!("== {}", check.name);
        let start = Instant::now();
        let result = match missing(check, &results) {
            Some(need) => Ok(Outcome::Skipped(format!("it needs {need}, which did not pass"))),
            None => (check.run)(paths),
        };
        match &result {
            Ok(Outcome::Passed) => {}
            Ok(Outcome::Skipped(reason)) => eprintln!("SKIPPED: {}: {reason}", check.name),
            Err(error) => eprintln!("FAILED: {}: {error}", check.name),
        }
        results.push((check.name, elapsed(start.elapsed()), result));
        if check.name == BEFORE_BESIDE && !aside.is_empty() {
            running = Some(Beside::start(&aside, missing(aside[0], &results))?);
        }
    }
    if let Some(running) = running {
        results.extend(running.finish()?);
    }
    println!("\n{}", summary(&results));
    judge(options, &results)
}

/// Checks that run beside the others: in a second process of this program, whose output is printed
/// when it has ended.
struct Beside {
    names: Vec<&'static str>,
    /// The process and what it prints, or the check that did not pass.
    process: std::result::Result<(Child, std::fs::File), &'static str>,
}

impl Beside {
    /// Starts them, or remembers the check that they need and that did not pass.
    fn start(checks: &[&Check], missing: Option<&'static str>) -> Result<Self> {
        let names: Vec<&'static str> = checks.iter().map(|check| check.name).collect();
        if let Some(need) = missing {
            return Ok(Self { names, process: Err(need) });
        }
        println!("beside the following checks: {}", names.join(", "));
        let failed = || "cannot start a second process of this program".to_owned();
        let output = tempfile::tempfile().context(failed)?;
        let handle = || output.try_clone().context(failed);
        let child = Command::new(this_program().context(failed)?)
            .arg("test")
            .args(&names)
            .stdin(Stdio::null())
            .stdout(handle()?)
            .stderr(handle()?)
            .spawn()
            .context(failed)?;
        Ok(Self { names, process: Ok((child, output)) })
    }

    /// Waits for them and prints what they printed.
    fn finish(self) -> Result<Vec<(&'static str, String, Result<Outcome>)>> {
        let (mut child, mut output) = match self.process {
            Ok(process) => process,
            Err(need) => {
                let skipped = || Ok(Outcome::Skipped(format!("it needs {need}, which did not pass")));
                return Ok(self.names.into_iter().map(|name| (name, elapsed(Default::default()), skipped())).collect());
            }
        };
        let unreadable = || "cannot read what the checks beside the others printed".to_owned();
        let status = child.wait().context(unreadable)?;
        let mut printed = Vec::new();
        output.rewind().and_then(|()| output.read_to_end(&mut printed)).context(unreadable)?;
        let printed = String::from_utf8_lossy(&printed);
        print!("{printed}");
        let found = read_summary(&printed);
        let results = self.names.into_iter().map(|name| {
            let (took, result) = match found.iter().find(|(other, ..)| *other == name) {
                Some((_, took, Ok(outcome))) => ((*took).to_owned(), Ok(outcome.clone())),
                Some((_, took, Err(()))) => ((*took).to_owned(), Err(Error::new(format!("{name} failed: see above")))),
                None => {
                    (String::new(), Err(Error::new(format!("no result of {name}: its process ended with {status}"))))
                }
            };
            (name, took, result)
        });
        Ok(results.collect())
    }
}

/// This program, also where cargo has put another one in its place meanwhile.
fn this_program() -> std::io::Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { Ok(own) } else { std::env::current_exe() }
}

/// Reads what [`summary`] writes: names, times and results.
fn read_summary(printed: &str) -> Vec<(&str, &str, std::result::Result<Outcome, ()>)> {
    let line = |line| -> Option<(&str, &str, std::result::Result<Outcome, ()>)> {
        let (kind, rest) = str::split_once(line, ' ')?;
        let (took, name) = rest.trim_start().split_once("  ")?;
        Some(match kind {
            "passed" => (name, took, Ok(Outcome::Passed)),
            "FAILED" => (name, took, Err(())),
            "SKIPPED" => {
                let (name, reason) = name.split_once(": ")?;
                (name, took, Ok(Outcome::Skipped(reason.to_owned())))
            }
            _ => return None,
        })
    };
    printed.lines().filter_map(line).collect()
}

/// What a check needs and this run did not make: without it, the check would only fail once more,
/// or pass with what an earlier run made.
fn missing(check: &Check, results: &Results) -> Option<&'static str> {
    let passed = |result: &Result<Outcome>| matches!(result, Ok(Outcome::Passed));
    let is_missing = |name: &str| results.iter().any(|(other, _, result)| *other == name && !passed(result));
    check.needs.iter().find(|need| is_missing(need)).copied()
}

impl Options {
    fn want(&self, check: &Check) -> bool {
        let kind = match check.runs {
            Runs::Always => true,
            Runs::Full => !self.fast,
            // A check that is named runs in any case.
            Runs::Fast => self.fast || self.names.iter().any(|name| name == check.name),
        };
        kind && (self.names.is_empty() || self.names.iter().any(|part| check.name.contains(part.as_str())))
    }
}

type Results = [(&'static str, String, Result<Outcome>)];

/// A line for each check, and the count.
fn summary(results: &Results) -> String {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut lines = String::new();
    for (name, took, result) in results {
        lines += &match result {
            Ok(Outcome::Passed) => {
                passed += 1;
                format!("passed   {took:>7}  {name}\n")
            }
            Ok(Outcome::Skipped(reason)) => {
                skipped += 1;
                format!("SKIPPED  {took:>7}  {name}: {}\n", reason.lines().next().unwrap_or_default())
            }
            Err(_) => {
                failed += 1;
                format!("FAILED   {took:>7}  {name}\n")
            }
        };
    }
    lines + &format!("{passed} passed, {failed} failed, {skipped} skipped")
}

/// Whether the run as a whole is a success.
fn judge(options: &Options, results: &Results) -> Result<()> {
    let mut problems = Vec::new();
    for (name, _, result) in results {
        match result {
            Ok(Outcome::Passed) => {}
            Ok(Outcome::Skipped(_)) if !options.no_skips || options.may_skip.iter().any(|other| other == name) => {}
            Ok(Outcome::Skipped(_)) => problems.push(format!("{name} (skipped)")),
            Err(_) => problems.push((*name).to_owned()),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::new(format!("failed: {}", problems.join(", ")))) }
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

/// Checks the format of C code, and that the check finds code that is not formatted. It fetches the
/// sources and makes the image if necessary.
fn c_format(paths: &Paths) -> Result<Outcome> {
    assets::check_format(paths)?;
    ignored_tests(paths, "assets::format::")
}

/// A second build takes every output from the store.
fn nothing_changed(paths: &Paths) -> Result<Outcome> {
    let stale = assets::stale_steps(paths)?;
    if stale.is_empty() {
        Ok(Outcome::Passed)
    } else {
        Err(Error::new(format!("a second build would run {}", stale.join(", "))))
    }
}

/// Fetches the native PostgreSQL if necessary, and starts its server.
fn native(paths: &Paths) -> Result<Outcome> {
    if !cfg!(target_os = "linux") {
        return Ok(Outcome::Skipped("the native PostgreSQL is Debian's, which runs on Linux".to_owned()));
    }
    Native::prepare(paths, &[])?;
    ignored_tests(paths, "native::")
}

/// The other clients are Debian's, which run on Linux.
fn clients(paths: &Paths) -> Result<Outcome> {
    if !cfg!(target_os = "linux") {
        return Ok(Outcome::Skipped("it needs Linux".to_owned()));
    }
    passed(clients::check(paths))
}

/// Checks that a job in the backend is isolated from the machine, and that a build gives the same
/// bytes as those in the store, whichever backend made them.
fn backend(paths: &Paths, choice: Choice) -> Result<Outcome> {
    if let Some(reason) = backend::absence(choice)? {
        return Ok(Outcome::Skipped(reason.to_string()));
    }
    let test = match choice {
        Choice::Docker => "backend::tests::docker_",
        Choice::Sandbox => "backend::tests::sandbox_",
        Choice::Auto => return Err(Error::new("this check is of one backend")),
    };
    ignored_tests(paths, test)?;
    passed(reproduce::check_backend(paths, choice, &Progress::stderr()))
}

/// Runs the fuzz targets over their committed inputs.
fn fuzz_corpus(paths: &Paths) -> Result<Outcome> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if Command::new(&compiler).arg("--version").output().is_err() {
        return Ok(Outcome::Skipped(format!("libFuzzer needs a C++ compiler, and there is no {compiler}")));
    }
    // The packages of the runtime's tests, so that their dependencies are not compiled once more
    // with other features.
    let (test, options) = RUNTIME_TESTS.split_at(1);
    test_shared(paths, &[test, &["-p", "pglite-oxide-fuzz", "--test", "corpus"], options].concat())
}

/// Runs tests of this program that need the result of an earlier check.
fn ignored_tests(paths: &Paths, filter: &str) -> Result<Outcome> {
    let mut cargo = crate::cargo::command();
    cargo.args(["test", "--locked", "-p", "xtask", "--bin", "xtask", "--", "--ignored", filter]);
    let printed = release::run_cargo(cargo.current_dir(&paths.root))?;
    print!("{printed}");
    if printed.contains("test result: ok. 0 passed") {
        return Err(Error::new(format!("no test is called {filter}…, so that nothing was tested")));
    }
    Ok(Outcome::Passed)
}

/// Runs cargo in the checkout's own target directory.
fn cargo(paths: &Paths, args: &[&str]) -> Result<Outcome> {
    passed(succeed(crate::cargo::command().args(args).current_dir(&paths.root)))
}

/// Runs tests in the target directory that all checkouts share. Every test file runs, also after
/// one that fails.
fn test_shared(paths: &Paths, args: &[&str]) -> Result<Outcome> {
    let target = SharedTarget::acquire(paths)?;
    let [test, options @ ..] = args else { return Err(Error::new("no command runs these tests")) };
    passed(succeed(target.cargo().arg(test).arg("--no-fail-fast").args(options)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise a check would find nothing on a fresh machine, however often it runs.
    #[test]
    fn what_a_check_needs_comes_before_it() {
        for (place, check) in CHECKS.iter().enumerate() {
            for need in check.needs {
                let maker = CHECKS.iter().position(|other| other.name == *need);
                assert!(maker.is_some_and(|maker| maker < place), "{} needs {need}", check.name);
            }
        }
    }

    #[test]
    fn a_check_does_not_run_without_what_it_needs() {
        const NEEDS: Check = check("b", Runs::Always, &["a"], |_| Ok(Outcome::Passed));
        let after = |result| missing(&NEEDS, &[("a", String::new(), result)]);
        assert_eq!(after(Ok(Outcome::Passed)), None);
        assert_eq!(after(Err(Error::new("broken"))), Some("a"));
        assert_eq!(after(Ok(Outcome::Skipped("it needs c".to_owned()))), Some("a"));
        assert_eq!(missing(&NEEDS, &[]), None, "a run of chosen checks takes what an earlier run made");
    }

    #[test]
    fn names_and_kinds_choose_checks() {
        let chosen = |options: &Options| -> Vec<&str> {
            CHECKS.iter().filter(|check| options.want(check)).map(|check| check.name).collect()
        };
        let named = |fast, name: &str| Options { names: vec![name.to_owned()], fast, ..Options::default() };
        assert_eq!(chosen(&named(false, "backend")), ["backend sandbox", "backend docker"]);
        assert_eq!(chosen(&named(true, "backend")), [""; 0]);
        assert_eq!(chosen(&named(false, "unit tests of the runtime")), ["unit tests of the runtime"]);
        insta::assert_debug_snapshot!(chosen(&Options { fast: true, ..Options::default() }), @r#"
        [
            "format",
            "sources",
            "dependencies",
            "pipeline",
            "lints",
            "lints of examples and fuzz targets",
            "unit tests of the runtime",
        ]
        "#);
        let full = chosen(&Options::default());
        assert_eq!(full.len() + 1, CHECKS.len(), "everything but what only a fast run has");
    }

    #[test]
    fn a_skip_is_no_pass() {
        let skipped = || Ok(Outcome::Skipped("no daemon\n  repair: start one".to_owned()));
        let results = [
            ("format", "1 s".to_owned(), Ok(Outcome::Passed)),
            ("backend docker", "2 s".to_owned(), skipped()),
            ("clients", "3 s".to_owned(), skipped()),
        ];
        insta::assert_snapshot!(summary(&results), @r"
        passed       1 s  format
        SKIPPED      2 s  backend docker: no daemon
        SKIPPED      3 s  clients: no daemon
        1 passed, 0 failed, 2 skipped
        ");
        let printed = summary(&results);
        let read =
            read_summary(&printed).into_iter().map(|(name, took, result)| (name.to_owned(), took.to_owned(), result));
        let skip = || Ok(Outcome::Skipped("no daemon".to_owned()));
        let expected =
            [("format", "1 s", Ok(Outcome::Passed)), ("backend docker", "2 s", skip()), ("clients", "3 s", skip())]
                .map(|(name, took, result)| (name.to_owned(), took.to_owned(), result));
        assert_eq!(read.collect::<Vec<_>>(), expected);
        assert!(judge(&Options::default(), &results).is_ok());
        let strict = |may_skip: &[&str]| {
            let may_skip = may_skip.iter().map(|name| (*name).to_owned()).collect();
            judge(&Options { no_skips: true, may_skip, ..Options::default() }, &results)
        };
        insta::assert_snapshot!(strict(&[]).unwrap_err(), @"failed: backend docker (skipped), clients (skipped)");
        insta::assert_snapshot!(strict(&["backend docker"]).unwrap_err(), @"failed: clients (skipped)");
        assert!(strict(&["backend docker", "clients"]).is_ok());
        let failed = [("format", "4 s".to_owned(), Err(Error::new("bad")))];
        assert_eq!(read_summary(&summary(&failed)), [("format", "4 s", Err(()))]);
        insta::assert_snapshot!(judge(&Options::default(), &failed).unwrap_err(), @"failed: format");
    }
}
