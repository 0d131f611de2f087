//! `cargo xtask native-directory`: that a data directory belongs to the embedded database and to a
//! native PostgreSQL alike. Both programs run as one user in the native root file system, and take
//! turns on the same directories. It owns the scenarios; the kills belong to `xtask/crash`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::cargo::{SharedTarget, succeed};
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::native::Native;
use crate::paths::Paths;

const LOAD: &str = include_str!("../native/load.sql");
const QUERIES: &str = include_str!("../native/queries.sql");
const CHANGE: &str = include_str!("../native/change.sql");

const PAGE: &str = include_str!("../../docs/outgrow.md");

/// The programs of this project, where both sides see them.
const PGLITE: &str = "/pgl/bin/pglite";
const CRASH: &str = "/pgl/bin/crash";
/// The root, and its data directory.
const ROOT: &str = "/pgl/shop";
const DATA: &str = "/pgl/shop/pgdata";

/// Options of `native-directory`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Times that a database goes from the embedding program to a server and back
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// Times that one side is killed, and the other one recovers
    #[arg(long, value_name = "N", default_value_t = 400)]
    kills: u32,
    /// Repeat the kills with this seed; each run prints its own
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

impl Options {
    /// A small run for `cargo xtask test`.
    pub(crate) fn slice() -> Self {
        Self { rounds: 2, kills: 10, seed: None }
    }
}

/// Runs all scenarios.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let native = Native::prepare(paths, &[])?;
    let target = SharedTarget::acquire(paths)?;
    succeed(&mut target.build(&["--bin", "crash"]))?;
    succeed(&mut target.build(&["-p", "pglite-oxide", "--features", "cli", "--bin", "pglite"]))?;
    let work = native.work_directory()?;
    let bin = work.path().join("bin");
    files::make_directory(&bin)?;
    for program in ["crash", "pglite"] {
        let (from, to) = (target.release().join(program), bin.join(program));
        fs::copy(&from, &to).map_err(|e| Error::io("copy", &from, e))?;
    }
    for (name, text) in [("load.sql", LOAD), ("queries.sql", QUERIES), ("change.sql", CHANGE)] {
        files::write(&work.path().join(name), text)?;
    }
    let here = Here { native: &native, work: work.path() };
    let result = here.scenarios(options);
    if result.is_err() {
        for data in ["/pgl/shop/pgdata", "/pgl/theirs", "/pgl/handed-out"] {
            let _ = here.theirs("pg_ctl", &["-D", data, "-s", "-m", "immediate", "stop"]);
        }
        eprintln!("native-directory: what is left of it: {}", work.keep().display());
    }
    result
}

/// The two sides, and the directory that both see as `/pgl`.
struct Here<'a> {
    native: &'a Native,
    work: &'a Path,
}

/// What both sides must agree on.
#[derive(Debug, PartialEq, Eq)]
struct State {
    dump: String,
    answers: String,
}

impl Here<'_> {
    fn scenarios(&self, options: &Options) -> Result<()> {
        self.there_and_back(options.rounds)?;
        self.locks()?;
        self.native_directories()?;
        self.page()?;
        self.kills(options)
    }

    /// A database that the embedding program made goes to a server and back, and each side finds
    /// what the other one did.
    fn there_and_back(&self, rounds: u32) -> Result<()> {
        self.ours(&["psql", "--root", ROOT, "--", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", "/pgl/load.sql"])?;
        let mut before = self.our_state("--root", ROOT)?;
        for round in 1..=rounds {
            self.start(DATA)?;
            agree("the server", &before, &self.their_state(DATA)?)?;
            self.amcheck(DATA)?;
            self.theirs("psql", &["-h", DATA, "-U", "postgres", "-Xq", "-v", "who=server", "-f", "/pgl/change.sql"])?;
            self.theirs("vacuumdb", &["-h", DATA, "-U", "postgres", "-a", "-q"])?;
            let after = self.their_state(DATA)?;
            // In every other round the server leaves WAL to be recovered.
            let crash = round % 2 == 0;
            self.theirs("pg_ctl", &["-D", DATA, "-s", "-m", if crash { "immediate" } else { "fast" }, "stop"])?;
            self.theirs("pg_controldata", &[DATA])?;
            agree("the embedded database", &after, &self.our_state("--root", ROOT)?)?;
            self.our_amcheck()?;
            let change = ["psql", "--root", ROOT, "--", "-Xq", "-v", "who=embedded", "-f", "/pgl/change.sql"];
            self.ours(&change)?;
            before = self.our_state("--root", ROOT)?;
            println!(
                "native-directory: round {round}: equal on both sides, {} KiB of dump, {} lines of answers{}",
                before.dump.len() / 1024,
                before.answers.lines().count(),
                if crash { ", after a recovery" } else { "" }
            );
        }
        Ok(())
    }

    /// Neither side opens what the other one has open.
    fn locks(&self) -> Result<()> {
        self.start(DATA)?;
        let pid = self.pid(DATA)?;
        let refused = self.our_output(&["psql", "--root", ROOT, "--", "-Xc", "SELECT 1"])?;
        let said = text(&refused.stderr);
        if refused.status.success() || !said.contains(&format!("is in use by a PostgreSQL server (pid {pid})")) {
            return Err(Error::new("a directory that a server has open was not refused").cause(said));
        }
        self.theirs("pg_ctl", &["-D", DATA, "-s", "-m", "fast", "stop"])?;

        // While the embedding program serves the root, a server does not start.
        let script = format!(
            "pg_ctl -D {DATA} status; echo status $?; postgres -D {DATA} 2>&1; echo server $?; test -e {DATA}/postmaster.pid && echo held"
        );
        let held = self.our_output(&["serve", "--root", ROOT, "--run", &script])?;
        let said = text(&held.stdout) + &text(&held.stderr);
        for part in ["single-user server is running", "lock file \"postmaster.pid\" already exists", "server 1", "held"]
        {
            if !said.contains(part) {
                return Err(Error::new(format!("a server on a directory in use: {part:?} is missing")).cause(said));
            }
        }
        println!("native-directory: each side refuses what the other one has open");
        Ok(())
    }

    /// Directories that `initdb` and `pg_basebackup` made, opened in place and copied.
    fn native_directories(&self) -> Result<()> {
        let theirs = "/pgl/theirs";
        self.theirs(
            "initdb",
            &[
                "-D",
                theirs,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
                "--no-sync",
            ],
        )?;
        let load = ["psql", "--data-directory", theirs, "--", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", "/pgl/load.sql"];
        self.ours(&load)?;
        let made = self.our_state("--data-directory", theirs)?;
        self.start_configured(theirs)?;
        agree("the server of initdb", &made, &self.their_state(theirs)?)?;
        self.amcheck(theirs)?;
        let backup = "/pgl/backup";
        self.theirs("pg_basebackup", &["-h", theirs, "-U", "postgres", "-D", backup, "-c", "fast"])?;
        self.theirs("pg_ctl", &["-D", theirs, "-s", "-m", "immediate", "stop"])?;
        // The backup is copied, and opened as it is; both recover from its WAL.
        self.ours(&["import", backup, "--root", "/pgl/from-backup"])?;
        agree("the import of a backup", &made, &self.our_state("--root", "/pgl/from-backup")?)?;
        agree("the backup in place", &made, &self.our_state("--data-directory", backup)?)?;
        agree("the directory of initdb", &made, &self.our_state("--data-directory", theirs)?)?;
        self.ours(&["export", "--root", "/pgl/from-backup", "/pgl/handed-out"])?;
        self.start_configured("/pgl/handed-out")?;
        agree("the export", &made, &self.their_state("/pgl/handed-out")?)?;
        self.theirs("pg_ctl", &["-D", "/pgl/handed-out", "-s", "-m", "fast", "stop"])?;
        println!("native-directory: directories of initdb and pg_basebackup are opened, imported and exported");
        Ok(())
    }

    /// Every command of `docs/outgrow.md`, in its order.
    fn page(&self) -> Result<()> {
        let commands = commands(PAGE);
        for command in &commands {
            let script = format!("cd /pgl; PATH=/pgl/bin:$PATH; {command}");
            let output = output(self.native.command(self.work, "sh").args(["-c", &script]))?;
            finished(&format!("the command of docs/outgrow.md: {command}"), &output)?;
        }
        println!("native-directory: {} commands of docs/outgrow.md work", commands.len());
        Ok(())
    }

    /// Kills of either side; the other one recovers.
    fn kills(&self, options: &Options) -> Result<()> {
        let mut crash = self.native.command(self.work, CRASH);
        crash.args(["rounds", "--servers", "--rounds", &options.kills.to_string()]);
        if let Some(seed) = options.seed {
            crash.args(["--seed", &seed.to_string()]);
        }
        let status = crash.status().context(|| "cannot start the program that crashes databases".into())?;
        if status.success() { Ok(()) } else { Err(Error::new(format!("crash rounds --servers failed: {status}"))) }
    }

    fn start(&self, data: &str) -> Result<()> {
        self.theirs("pg_ctl", &["-D", data, "-s", "-w", "-l", "/pgl/log", "start"]).map(drop)
    }

    /// Starts a server on a directory of `initdb`, which says nothing about sockets.
    fn start_configured(&self, data: &str) -> Result<()> {
        let options = format!("-k {data} -c listen_addresses=");
        self.theirs("pg_ctl", &["-D", data, "-s", "-w", "-l", "/pgl/log", "-o", &options, "start"]).map(drop)
    }

    fn pid(&self, data: &str) -> Result<String> {
        let file = self.work.join(data.trim_start_matches("/pgl/")).join("postmaster.pid");
        Ok(files::text(&file)?.lines().next().unwrap_or_default().to_owned())
    }

    /// All relations of the database `postgres`, with their indexes.
    fn amcheck(&self, data: &str) -> Result<()> {
        let arguments = ["-h", data, "-U", "postgres", "-d", "postgres", "--heapallindexed", "--parent-check"];
        self.theirs("pg_amcheck", &arguments).map(drop)
    }

    fn our_amcheck(&self) -> Result<()> {
        let sql = "SELECT count(*) FROM (SELECT bt_index_parent_check(i.indexrelid, true, true) FROM pg_index i \
                   JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree'); \
                   SELECT t.oid::regclass, v.* FROM pg_class t, LATERAL verify_heapam(t.oid, check_toast => true) v \
                   WHERE t.relkind IN ('r', 't', 'm')";
        let found = self.ours(&["psql", "--root", ROOT, "--", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])?;
        let lines: Vec<&str> = found.lines().collect();
        // The number of indexes, and no finding.
        match lines[..] {
            [number] if number.parse().is_ok_and(|number: u32| number > 100) => Ok(()),
            _ => Err(Error::new("amcheck of the embedded database").cause(found)),
        }
    }

    fn our_state(&self, kind: &str, place: &str) -> Result<State> {
        let dump = self.ours(&["dump", kind, place])?;
        let answers =
            self.ours(&["psql", kind, place, "--", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", "/pgl/queries.sql"])?;
        Ok(State { dump: without_versions(&dump), answers })
    }

    fn their_state(&self, data: &str) -> Result<State> {
        let connection = ["-h", data, "-U", "postgres"];
        let dump = self.theirs("pg_dump", &connection)?;
        let options = ["-Xq", "-v", "ON_ERROR_STOP=1", "-f", "/pgl/queries.sql"];
        let answers = self.theirs("psql", &[&connection[..], &options].concat())?;
        Ok(State { dump: without_versions(&dump), answers })
    }

    fn ours(&self, arguments: &[&str]) -> Result<String> {
        finished(&format!("pglite {}", arguments.join(" ")), &self.our_output(arguments)?)
    }

    fn our_output(&self, arguments: &[&str]) -> Result<Output> {
        output(self.native.command(self.work, PGLITE).args(arguments))
    }

    fn theirs(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = output(self.native.command(self.work, program).args(arguments))?;
        let log = fs::read_to_string(self.work.join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        finished(&format!("{program} {}", arguments.join(" ")), &output).map_err(|error| {
            if tail.is_empty() { error } else { error.cause(tail.into_iter().rev().collect::<Vec<_>>().join("\n")) }
        })
    }
}

/// The commands of a page, which follow the prompt `$`.
fn commands(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

fn output(command: &mut Command) -> Result<Output> {
    command.output().context(|| "cannot start a program in the native root file system".into())
}

fn finished(what: &str, output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stdout).lines().rev().take(5).collect::<Vec<_>>().join("\n") + &text(&output.stderr);
    Err(Error::new(format!("{what} failed: {}", output.status)).cause(said))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A dump without what differs between two servers of one major version, and between two dumps: a
/// recovery leaves a sequence up to 32 values further on, as everywhere.
fn without_versions(dump: &str) -> String {
    let differs = [
        "SELECT pg_catalog.setval(",
        "-- Dumped from database version",
        "-- Dumped by pg_dump version",
        "\\restrict ",
        "\\unrestrict ",
    ];
    let lines = dump.lines().filter(|line| !differs.iter().any(|start| line.starts_with(start)));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// An error with the first difference.
fn agree(who: &str, expected: &State, found: &State) -> Result<()> {
    for (what, expected, found) in
        [("dump", &expected.dump, &found.dump), ("answers", &expected.answers, &found.answers)]
    {
        if expected == found {
            continue;
        }
        let pairs = expected.lines().zip(found.lines()).enumerate();
        let (line, (a, b)) = pairs.into_iter().find(|(_, (a, b))| a != b).unwrap_or_default();
        let message = format!("the {what} of {who} differ from the other side's at line {}", line + 1);
        return Err(Error::new(message).cause(format!("expected: {a:.300}\nfound: {b:.300}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_follow_the_prompt() {
        assert_eq!(commands("a\n```console\n$ one -x\n$ two\n```\n"), ["one -x", "two"]);
        assert!(commands(PAGE).len() > 10);
    }

    #[test]
    fn states_that_differ_are_told_by_line() {
        let state = |dump: &str| State { dump: without_versions(dump), answers: String::new() };
        let one = state("-- Dumped from database version 17.11\na\nb\n\\restrict x\n");
        assert_eq!(one.dump, "a\nb\n");
        assert!(agree("x", &one, &state("-- Dumped from database version 17.12\na\nb\n\\restrict y\n")).is_ok());
        let error = agree("x", &one, &state("a\nc\n")).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("expected: b"), "{error}");
    }
}
