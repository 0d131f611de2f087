//! What the program `pglite` inherits from its surroundings, and what it hands on: the environment,
//! how signals are treated, the working directory, limits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(unix)]

mod signals;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};

fn pglite(arguments: &[&str]) -> Command {
    let mut command = signals::with_default_signals(Command::new(env!("CARGO_BIN_EXE_pglite")));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The program, started by a shell after some commands.
fn pglite_after(commands: &str, arguments: &[&str]) -> Command {
    let mut command = signals::with_default_signals(Command::new("/bin/sh"));
    let program = env!("CARGO_BIN_EXE_pglite");
    command.args(["-c", &format!("{commands}; exec \"$0\" \"$@\""), program]).args(arguments).stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_command_connects_to_its_server_whatever_the_environment_says() {
    let elsewhere = [
        ("PGSERVICE", "prod"),
        ("PGSERVICEFILE", "/nonexistent/services"),
        ("PGSYSCONFDIR", "/nonexistent"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGPASSFILE", "/nonexistent/passwords"),
        ("PGPASSWORD", "of another server"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", "system"),
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGREQUIREPEER", "nobody"),
        ("PGCHANNELBINDING", "require"),
        ("PGGSSENCMODE", "require"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGLOADBALANCEHOSTS", "random"),
        ("DATABASE_URL", "postgresql://elsewhere/"),
    ];
    let taste = [("PGAPPNAME", "test"), ("PGOPTIONS", "-c work_mem=1MB"), ("PGTZ", "Asia/Tokyo")];
    let print = "env | grep -E '^(PG|DATABASE_URL)' | sed 's/=.*//' | sort";
    let output = pglite(&["serve", "--temporary", "--run", print]).envs(elsewhere).envs(taste).output().unwrap();
    let (code, stdout, stderr) = said(&output);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let own = ["DATABASE_URL", "PGAPPNAME", "PGDATABASE", "PGHOST", "PGOPTIONS", "PGPORT", "PGTZ", "PGUSER"];
    assert_eq!(stdout.lines().collect::<Vec<_>>(), own);
    // A path that starts psql, which is libpq's: here with this program's own.
    let program = env!("CARGO_BIN_EXE_pglite");
    let ask = format!("'{program}' psql --url \"$DATABASE_URL\" -- -XAtc 'SELECT current_setting($$TimeZone$$)'");
    let output = pglite(&["serve", "--temporary", "--run", &ask]).envs(elsewhere).envs(taste).output().unwrap();
    assert_eq!(said(&output), (Some(0), "Asia/Tokyo\n".to_string(), String::new()));
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn psql_is_told_the_users_time_zone() {
    let arguments = ["psql", "--temporary", "--", "-XAtc", "SHOW TimeZone"];
    let output = pglite(&arguments).env("PGTZ", "Asia/Tokyo").output().unwrap();
    assert_eq!(said(&output), (Some(0), "Asia/Tokyo\n".to_string(), String::new()));
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn psql_runs_in_a_directory_that_was_removed() {
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("script.sql");
    std::fs::write(&script, "SELECT 'from a file';").unwrap();
    let removed = place.path().join("removed");
    std::fs::create_dir(&removed).unwrap();
    let leave = format!("cd '{0}' && rmdir '{0}'", removed.display());
    let run = |arguments: &[&str]| {
        let all = [&["psql", "--temporary", "--", "-XAt"], arguments].concat();
        std::fs::create_dir_all(&removed).unwrap();
        said(&pglite_after(&leave, &all).current_dir("/").output().unwrap())
    };
    assert_eq!(run(&["-c", "SELECT 1"]), (Some(0), "1\n".to_string(), String::new()));
    let absolute = run(&["-f", script.to_str().unwrap()]);
    assert_eq!(absolute, (Some(0), "from a file\n".to_string(), String::new()));
    let (code, _, stderr) = run(&["-f", "script.sql"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("script.sql: No such file or directory"), "{stderr}");
}

/// Signals that a process ignores, as bits.
#[cfg(target_os = "linux")]
fn ignored(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn signals_that_a_parent_had_ignored_stay_ignored() {
    let bit = |signal: Signal| 1u64 << (signal.as_raw() - 1);
    for (trap, signal, others) in
        [("HUP", Signal::HUP, [Signal::INT, Signal::TERM]), ("INT", Signal::INT, [Signal::HUP, Signal::TERM])]
    {
        let arguments = ["serve", "--temporary", "--print-uri"];
        let mut command = pglite_after(&format!("trap '' {trap}"), &arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut uri = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut uri).unwrap();
        let mask = ignored(child.id());
        let process = Pid::from_child(&child);
        kill_process(process, signal).unwrap();
        // A server that ended for the signal would not wait for this client's turn.
        let answer = Client::connect(uri.trim_end(), NoTls).and_then(|mut client| client.batch_execute("SELECT 1"));
        kill_process(process, Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert_ne!(mask & bit(signal), 0, "{trap} is not ignored: {mask:x}");
        assert!(others.iter().all(|other| mask & bit(*other) == 0), "{mask:x}");
        answer.unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

/// With less and less memory to map, until nothing works any more: a run is whole, or it is an
/// error and the command has not run without its server.
#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_limit_of_memory_or_threads_is_an_error_and_ends_the_command() {
    let (mut whole, mut refused) = (0, 0);
    // In KiB: from what is enough for everything to what is too little for PostgreSQL's memory.
    for limit in (8_300_000..=9_900_000u32).rev().step_by(40_000) {
        let arguments = ["serve", "--temporary", "--run", "echo begun; exit 7"];
        let output = pglite_after(&format!("ulimit -v {limit}"), &arguments).output().unwrap();
        let (code, stdout, stderr) = said(&output);
        match code {
            Some(7) => {
                assert_eq!((stdout.as_str(), stderr.as_str()), ("begun\n", ""), "{limit} KiB");
                whole += 1;
            }
            Some(1) => {
                assert_eq!(stdout, "", "{limit} KiB: {stderr}");
                assert!(stderr.contains("pglite: "), "{limit} KiB: {stderr}");
                refused += 1;
            }
            // The standard library ends a process that has no memory left for itself.
            None => {
                assert!(stdout.is_empty() && stderr.contains("memory allocation"), "{limit} KiB: {stdout}{stderr}");
            }
            Some(code) => panic!("exit code {code} with {limit} KiB: {stdout}{stderr}"),
        }
    }
    assert!(whole > 0 && refused > 0, "{whole} whole runs, {refused} refused ones");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_server_that_was_killed_leaves_a_socket_that_the_next_one_takes_over() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().to_str().unwrap();
    let arguments = ["serve", "--temporary", "--unix", directory, "--print-uri"];
    let start = || {
        let mut child = pglite(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut uri = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut uri).unwrap();
        (child, uri.trim_end().to_string())
    };
    let (mut killed, _) = start();
    let (code, _, stderr) = said(&pglite(&arguments).output().unwrap());
    let id = killed.id();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(code, Some(1));
    assert!(stderr.contains(&format!("process ID {id}")), "{stderr}");
    assert!(Path::new(directory).join(".s.PGSQL.5432.lock").exists());
    let (mut next, uri) = start();
    let answer = Client::connect(&uri, NoTls).and_then(|mut client| client.batch_execute("SELECT 1"));
    kill_process(Pid::from_child(&next), Signal::TERM).unwrap();
    assert_eq!(next.wait().unwrap().code(), Some(0));
    answer.unwrap();
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
}
