//! The program `pglite`: exit codes, signals, what it prints, and what a command that it runs is
//! told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(unix)]

mod signals;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};

type Test = Result<(), Box<dyn std::error::Error>>;

/// A program that has not ended after this time hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn pglite(arguments: &[&str]) -> Command {
    let mut command = signals::with_default_signals(Command::new(env!("CARGO_BIN_EXE_pglite")));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end. Exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = pglite(arguments).output().unwrap();
    said(&output)
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A server with `--print-uri`, which is killed if the test fails.
struct Server {
    child: Child,
    uri: String,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut command = pglite(&["serve", "--print-uri"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdout, stderr) = (BufReader::new(child.stdout.take().unwrap()), child.stderr.take().unwrap());
        let mut uri = String::new();
        stdout.read_line(&mut uri).unwrap();
        Self { child, uri: uri.trim_end().to_string(), stdout, stderr }
    }

    fn connect(&self) -> Client {
        Client::connect(&self.uri, NoTls).unwrap()
    }

    /// A client whose notices arrive at a receiver.
    fn connect_with_notices(&self) -> (Client, mpsc::Receiver<String>) {
        let (sender, notices) = mpsc::channel();
        let mut config: postgres::Config = self.uri.parse().unwrap();
        config.notice_callback(move |notice| drop(sender.send(notice.message().to_string())));
        (config.connect(NoTls).unwrap(), notices)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end. Its status, and what else it printed.
    fn end(mut self) -> (ExitStatus, String, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the server did not stop");
            std::thread::sleep(Duration::from_millis(2));
        };
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        (status, stdout, stderr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn the_exit_code_of_the_command_is_that_of_the_program() {
    assert_eq!(run(&["serve", "--temporary", "--run", "exit 7"]), (7, String::new(), String::new()));
    assert_eq!(run(&["serve", "--temporary", "--run", "true"]).0, 0);
    // As in shells: 128 and the number of the signal.
    assert_eq!(run(&["serve", "--temporary", "--run", "kill -KILL $$"]).0, 137);
    assert_eq!(run(&["serve", "--temporary", "--run", "/nonexistent/program"]).0, 127);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_command_is_told_where_the_server_is() -> Test {
    let print = r#"printf '%s\n' "$DATABASE_URL" "$PGHOST" "$PGPORT" "$PGUSER" "$PGDATABASE" "${PGPASSWORD-none}""#;
    let (code, stdout, stderr) = run(&["serve", "--temporary", "--user", "postgres", "--run", print]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let lines: Vec<&str> = stdout.lines().collect();
    let [url, "127.0.0.1", port, "postgres", "postgres", "none"] = lines[..] else { panic!("{stdout}") };
    assert!(port.parse::<u16>()? > 0);
    assert_eq!(url, format!("postgresql://postgres@127.0.0.1:{port}/postgres"));

    let directory = tempfile::tempdir()?;
    let place = directory.path().to_str().ok_or("no text")?;
    let flags = ["serve", "--temporary", "--unix", place, "--password-env", "SECRET", "--run", print];
    let (code, stdout, stderr) = said(&pglite(&flags).env("SECRET", "a:b").output()?);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let encoded = place.replace('/', "%2F");
    assert_eq!(
        stdout.lines().collect::<Vec<_>>(),
        [&format!("postgresql://postgres:a%3Ab@{encoded}:5432/postgres"), place, "5432", "postgres", "postgres", "a:b"]
    );
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn the_uri_is_one_line_and_nothing_else_is_printed() -> Test {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let server = Server::start(&["--temporary", "--extension", "vector"]);
        assert!(server.uri.starts_with("postgresql://postgres@127.0.0.1:"), "{}", server.uri);
        let mut client = server.connect();
        client.batch_execute("CREATE TABLE t (at vector(3))")?;
        server.signal(signal);
        let (status, stdout, stderr) = server.end();
        assert_eq!((status.code(), stdout.as_str(), stderr.as_str()), (Some(0), "", ""));
        assert!(client.batch_execute("SELECT 1").is_err());
    }
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_signal_in_the_middle_of_writing_loses_no_commit_and_keeps_nothing_else() -> Test {
    let directory = tempfile::tempdir()?;
    let root = directory.path().join("shop");
    let place = ["--root", root.to_str().ok_or("no text")?];
    let server = Server::start(&place);
    server.connect().batch_execute("CREATE TABLE t (id int, part int)")?;

    // Commits until the server ends; returns the last number that was acknowledged.
    let mut client = server.connect();
    let (committed, commits) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        for id in 1.. {
            let transaction = format!("BEGIN; INSERT INTO t VALUES ({id}, 1); INSERT INTO t VALUES ({id}, 2); COMMIT");
            if client.batch_execute(&transaction).is_err() {
                return id - 1;
            }
            // Nothing is received after the first commits.
            let _ = committed.send(());
        }
        unreachable!()
    });
    for _ in 0..20 {
        commits.recv_timeout(PATIENCE)?;
    }
    server.signal(Signal::TERM);
    assert_eq!(server.end().0.code(), Some(0));
    let acknowledged: i64 = writer.join().unwrap();
    assert!(acknowledged >= 20);

    let server = Server::start(&place);
    let mut client = server.connect();
    let count = "SELECT count(*), count(*) FILTER (WHERE part = 1), max(id)::bigint FROM t";
    let row = client.query_one(count, &[])?;
    let (rows, whole, last): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!((rows, last), (2 * whole, whole));
    // The answer to one more commit may have been on its way.
    assert!(whole == acknowledged || whole == acknowledged + 1, "{whole} transactions, {acknowledged} acknowledged");

    // A transaction that is open at the end is rolled back.
    client.batch_execute("BEGIN; INSERT INTO t VALUES (-1, 1)")?;
    server.signal(Signal::TERM);
    assert_eq!(server.end().0.code(), Some(0));
    assert!(client.batch_execute("COMMIT").is_err());
    let server = Server::start(&place);
    let row = server.connect().query_one("SELECT count(*), count(*) FILTER (WHERE id < 0) FROM t", &[])?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (rows, 0));
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn on_a_signal_a_statement_has_the_grace_period_to_end_by_itself() -> Test {
    // One that ends in time, and one that does not.
    for (grace, seconds, ends) in [("600", "0.3", true), ("0.1", "1000", false)] {
        let server = Server::start(&["--temporary", "--grace", grace]);
        let (mut client, notices) = server.connect_with_notices();
        let sql =
            format!("DO $$ BEGIN RAISE NOTICE 'begun'; PERFORM pg_sleep({seconds}); RAISE NOTICE 'ended'; END $$");
        let statement = std::thread::spawn(move || client.batch_execute(&sql));
        assert_eq!(notices.recv_timeout(PATIENCE)?, "begun");
        server.signal(Signal::TERM);
        let (status, stdout, stderr) = server.end();
        assert_eq!((status.code(), stdout.as_str(), stderr.as_str()), (Some(0), "", ""));
        let result = statement.join().unwrap();
        match ends {
            // The server ends the session as soon as the statement has ended; a client that reads
            // both at once may report the end of the session instead of the statement's.
            true => assert_eq!(notices.recv_timeout(PATIENCE)?, "ended"),
            false => {
                assert_eq!(result.unwrap_err().code(), Some(&SqlState::ADMIN_SHUTDOWN));
                assert!(notices.try_recv().is_err());
            }
        }
    }
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_command_decides_how_it_ends_on_a_signal() -> Test {
    let command = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut server = Server::start(&["--temporary", "--run", command]);
    let mut line = String::new();
    server.stdout.read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    server.signal(Signal::TERM);
    assert_eq!(server.end().0.code(), Some(5));
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn what_is_wrong_on_the_command_line_is_said_with_what_to_do() -> Test {
    let refused = |arguments: &[&str], code: i32, expected: &str| {
        let (status, stdout, stderr) = run(&[&["serve"], arguments].concat());
        assert_eq!((status, stdout.as_str()), (code, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    };
    let directory = tempfile::tempdir()?;
    let place = directory.path().to_str().ok_or("no text")?;
    refused(&["--temporary", "--tpc"], 2, "'--tpc'");
    refused(&[], 2, "<--root <DIR>|--data-directory <DIR>|--temporary|--app <NAME>>");
    refused(&["--temporary", "--root", place], 2, "cannot be used with");
    refused(&["--temporary", "--tcp", "5433", "--unix", place], 2, "cannot be used with");
    refused(&["--temporary", "--tcp", "localhost:x"], 2, "ADDRESS:PORT");
    refused(&["--temporary", "--config", "work_mem"], 2, "NAME=VALUE");
    refused(&["--temporary", "--unix", place, "--socket-mode", "999"], 2, "octal");
    refused(&["--temporary", "--wait=-1"], 2, "seconds");
    refused(&["--app", ""], 2, "APPLICATION");
    refused(&["--temporary", "--config", "fsync=off"], 1, "durability");
    refused(&["--temporary", "--config", "port=5433"], 1, "accepts no connections");
    refused(&["--temporary", "--config", "work_mem=much"], 1, "work_mem");
    refused(&["--temporary", "--extension", "nonesuch"], 1, "nonesuch");
    refused(&["--temporary", "--database", "nonesuch", "--extension", "vector"], 1, "\"nonesuch\" does not exist");
    refused(&["--temporary", "--tcp", "0.0.0.0"], 1, "password");
    refused(&["--temporary", "--password-env", "PGLITE_TEST_NOT_SET"], 1, "PGLITE_TEST_NOT_SET");
    refused(&["--temporary", "--unix", &format!("{place}/absent")], 1, "cannot listen at");
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_root_that_is_served_is_not_served_twice() -> Test {
    let directory = tempfile::tempdir()?;
    let root = directory.path().join("shop");
    let place = ["--root", root.to_str().ok_or("no text")?];
    let server = Server::start(&place);
    let (code, _, stderr) = run(&[&["serve", "--run", "true"], &place[..]].concat());
    assert_eq!(code, 1);
    assert!(stderr.contains(&format!("pid {}", server.child.id())), "{stderr}");
    let port = server.uri.rsplit([':', '/']).nth(1).ok_or("no port")?.to_string();
    let (code, _, stderr) = run(&["serve", "--temporary", "--tcp", &port]);
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot listen at") && stderr.contains("free one"), "{stderr}");
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_application_has_a_database_of_its_own() -> Test {
    let home = tempfile::tempdir()?;
    let serve = |app: &str, command: &str| {
        let mut pglite = pglite(&["serve", "--app", app, "--run", command]);
        pglite.env("HOME", home.path()).env("XDG_DATA_HOME", home.path().join("data")).output().unwrap()
    };
    assert_eq!(said(&serve("org/example/shop", "exit 3")), (3, String::new(), String::new()));
    assert!(holds_a_database(home.path()), "nothing was made below the home directory");
    assert_eq!(said(&serve("org/example/shop", "true")).0, 0);
    Ok(())
}

/// Whether there is a data directory somewhere below.
fn holds_a_database(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().flatten().any(|entry| {
        entry.file_name() == "PG_VERSION" || (entry.file_type().unwrap().is_dir() && holds_a_database(&entry.path()))
    })
}
