//! The check `clients`: runs PostgreSQL clients against a server of the program `pglite`, over
//! every transport. The clients are the examples, and psql and pgbench of Debian. Each example
//! checks its own results; psql's output is compared with what it prints for a native server.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cargo::{RUNTIME_TESTS, SharedTarget, succeed};
use crate::error::{Context as _, Error, Result};
use crate::native::{Native, Options as NativeOptions};
use crate::paths::Paths;

/// Examples that are compiled here, by the names of their programs.
const COMPILED: [&str; 3] = ["sqlx", "tokio-postgres", "postgres"];
/// Examples that a program of Debian runs.
const INTERPRETED: [(&str, &str); 3] =
    [("python3", "with_psycopg.py"), ("python3", "with_asyncpg.py"), ("node", "node-pg.mjs")];
const PSQL_SCRIPT: &str = include_str!("../clients/psql.sql");
/// Limit for a client to finish and for a server to stop.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Seconds that a client waits for the session: the previous client may still be disconnecting.
const WAIT: &str = "60";
const PASSWORD: &str = "p@ss/w:rd %";
const PASSWORD_VARIABLE: &str = "PGLITE_CHECK_PASSWORD";
/// Where programs of Debian see the directory of the socket and scripts.
const INSIDE: &str = "/pgl";

/// A way to reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tcp,
    Unix,
    /// TCP, with a password.
    Password,
}

/// Runs the check.
pub(crate) fn check(paths: &Paths) -> Result<()> {
    let native = Native::prepare(paths, &[])?;
    // Held until the programs have run, so that the programs that run are those built here.
    let target = SharedTarget::acquire(paths)?;
    // The same command as the check of the runtime, so that the dependencies are compiled already.
    let (test, options) = RUNTIME_TESTS.split_at(1);
    succeed(target.cargo().args(test).arg("--no-run").args(options))?;
    succeed(target.cargo().args(["test", "--locked", "--release", "-p", "examples"]))?;
    let expected = native_psql(&native)?;
    for way in [Way::Tcp, Way::Unix, Way::Password] {
        let start = Instant::now();
        let server = Server::start(&target.release(), &native, way)?;
        server.serve_examples(&target.release(), &native, &paths.root.join("examples"))?;
        server.serve_psql(&native, &expected)?;
        server.serve_pgbench(&native)?;
        server.stop()?;
        println!("clients over {way}: {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// A server of the program `pglite`. Dropping it stops the server, and so does the end of this
/// process.
struct Server {
    way: Way,
    child: Child,
    /// The directory of its socket, the only part of the host that programs of Debian see.
    work: tempfile::TempDir,
    /// The connection URI, for programs of this machine.
    uri: String,
}

impl Server {
    fn start(programs: &Path, native: &Native, way: Way) -> Result<Self> {
        let work = native.work_directory()?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(programs.join("pglite"));
        command.args(["serve", "--temporary", "--print-uri", "--wait", WAIT]);
        match way {
            Way::Tcp => &mut command,
            // Programs of Debian run as another user.
            Way::Unix => command.arg("--unix").arg(work.path()).args(["--socket-mode", "666"]),
            Way::Password => command.args(["--password-env", PASSWORD_VARIABLE]).env(PASSWORD_VARIABLE, PASSWORD),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.context(|| "cannot start the program pglite through setpriv".into())?;
        let mut server = Self { way, child, work, uri: String::new() };
        if let Some(stdout) = server.child.stdout.take() {
            let read = BufReader::new(stdout).read_line(&mut server.uri);
            read.context(|| "cannot read what pglite serve prints".into())?;
        }
        server.uri.truncate(server.uri.trim_end().len());
        if server.uri.is_empty() {
            return Err(Error::new("pglite serve printed no connection URI").repair("what it said stands above"));
        }
        Ok(server)
    }

    fn serve_examples(&self, programs: &Path, native: &Native, examples: &Path) -> Result<()> {
        for name in COMPILED {
            let mut command = Command::new(programs.join(name));
            self.serve(name, command.stdin(Stdio::null()).env("DATABASE_URL", &self.uri))?;
        }
        for (interpreter, script) in INTERPRETED {
            let (from, to) = (examples.join(script), self.work.path().join(script));
            fs::copy(&from, &to).map_err(|e| Error::io("copy", &from, e))?;
            let mut command = native.command(self.work.path(), interpreter);
            command.arg(format!("{INSIDE}/{script}")).env("DATABASE_URL", self.uri_inside());
            self.serve(script, &mut command)?;
        }
        Ok(())
    }

    fn serve_psql(&self, native: &Native, expected: &str) -> Result<()> {
        let mut command = native.command(self.work.path(), "psql");
        command.args(["-X", "-d", &self.uri_inside()]).stdin(script(PSQL_SCRIPT)?);
        let said = without_process_ids(&self.serve("psql", &mut command)?);
        if said == expected {
            return Ok(());
        }
        let differs = said.lines().zip(expected.lines()).position(|(ours, theirs)| ours != theirs);
        let line = differs.unwrap_or_else(|| said.lines().count().min(expected.lines().count()));
        let at = |text: &str| text.lines().nth(line).unwrap_or("the end").to_owned();
        Err(Error::new(format!("psql over {}: line {} of what it prints: {}", self.way, line + 1, at(&said)))
            .cause(format!("for the native server it is: {}", at(expected))))
    }

    fn serve_pgbench(&self, native: &Native) -> Result<()> {
        let pgbench = |arguments: &[&str]| {
            let mut command = native.command(self.work.path(), "pgbench");
            self.serve(&format!("pgbench {}", arguments.join(" ")), command.args(arguments).arg(self.uri_inside()))
        };
        pgbench(&["-i", "-s", "1", "-q"])?;
        // Each run empties pgbench_history, so the run whose history is checked comes last.
        for (arguments, transactions) in
            [(&["-c", "1", "-t", "500", "-S", "-M", "prepared"][..], 500), (&["-c", "1", "-t", "200"], 200)]
        {
            let said = pgbench(arguments)?;
            let all = format!("number of transactions actually processed: {transactions}/{transactions}\n");
            if !said.contains(&all) || !said.contains("number of failed transactions: 0 ") {
                return Err(
                    Error::new(format!("pgbench over {}: not every transaction succeeded", self.way)).cause(said)
                );
            }
        }
        let sums = "SELECT (SELECT count(*) FROM pgbench_history) || ' ' || ((SELECT sum(delta) FROM pgbench_history) = (SELECT sum(abalance) FROM pgbench_accounts))";
        let mut command = native.command(self.work.path(), "psql");
        let found = self.serve("psql", command.args(["-XAt", "-d", &self.uri_inside(), "-c", sums]))?;
        if found == "200 true\n" {
            Ok(())
        } else {
            let message = format!("pgbench over {}: what its 200 transactions wrote is not there", self.way);
            Err(Error::new(message).cause(found))
        }
    }

    /// Runs a client to its end and returns what it printed.
    fn serve(&self, name: &str, command: &mut Command) -> Result<String> {
        run(&format!("{name} over {}", self.way), command)
    }

    /// The connection URI for programs that see the work directory elsewhere.
    fn uri_inside(&self) -> String {
        match self.way {
            Way::Unix => format!("postgresql://postgres@{}:5432/postgres", INSIDE.replace('/', "%2F")),
            Way::Tcp | Way::Password => self.uri.clone(),
        }
    }

    /// Stops the server with a signal, as a user does.
    fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM);
        let status = wait(&mut self.child)?;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Error::new(format!("pglite serve over {}: {status} after SIGTERM", self.way))),
            None => Err(Error::new(format!("pglite serve over {} did not stop in {} s", self.way, TIMEOUT.as_secs()))),
        }
    }

    fn signal(&self, signal: Signal) {
        // A process that has ended needs no signal.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Unix => "a Unix socket",
            Self::Password => "TCP with a password",
        })
    }
}

/// What psql prints for the script and a native server.
fn native_psql(native: &Native) -> Result<String> {
    let cluster = native.initdb(false)?;
    let server = cluster.start(&NativeOptions::default())?;
    let mut command = native.command(server.socket_directory(), "psql");
    command.args(["-X", "-h", INSIDE, "-p", &server.port().to_string(), "-U", "postgres", "-d", "postgres"]);
    let said = run("psql on the native server", command.stdin(script(PSQL_SCRIPT)?))?;
    server.stop()?;
    Ok(without_process_ids(&said))
}

/// A file to read a script from.
fn script(text: &str) -> Result<File> {
    let mut file = temporary_file()?;
    file.write_all(text.as_bytes()).and_then(|()| file.rewind()).context(|| "cannot write a script".into())?;
    Ok(file)
}

/// Runs a program to its end and returns all that it printed, in order.
fn run(name: &str, command: &mut Command) -> Result<String> {
    let said = temporary_file()?;
    let again = |file: &File| file.try_clone().context(|| "cannot open a temporary file once more".into());
    let program = PathBuf::from(command.get_program());
    let mut child = command.stdout(again(&said)?).stderr(again(&said)?).spawn().map_err(|e| {
        Error::io("start", &program, e)
            .repair("install util-linux; on other systems than Linux this check does not run")
    })?;
    let status = wait(&mut child)?;
    if status.is_none() {
        child.kill().and_then(|()| child.wait()).context(|| format!("cannot end {name}"))?;
    }
    let mut text = Vec::new();
    let mut said = said;
    said.rewind().and_then(|()| said.read_to_end(&mut text)).context(|| format!("cannot read what {name} printed"))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match status {
        Some(status) if status.success() => Ok(text),
        Some(status) => {
            let error = Error::new(format!("{name}: {status}")).cause(text.trim_end().to_owned());
            // The shell's and setpriv's number for a program that is not there.
            let missing = status.code() == Some(127);
            Err(if missing {
                error.repair("name its package in assets/native.toml and run `cargo xtask sources update native`")
            } else {
                error
            })
        }
        None => Err(Error::new(format!("{name}: not done after {} s", TIMEOUT.as_secs())).cause(text)),
    }
}

/// Waits for the end of a program, with a limit.
fn wait(child: &mut Child) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        match child.try_wait().context(|| "cannot wait for a program".into())? {
            Some(status) => return Ok(Some(status)),
            None if start.elapsed() > TIMEOUT => return Ok(None),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn temporary_file() -> Result<File> {
    tempfile::tempfile().map_err(|e| Error::io("make a file in", &std::env::temp_dir(), e))
}

/// A notification names the process that sent it.
fn without_process_ids(text: &str) -> String {
    let mut pieces = text.split("process with PID ");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces
        .fold(first, |text, piece| text + "process with PID N" + piece.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ids_are_no_difference() {
        let text = "received from server process with PID 42.\nPID 7\nprocess with PID 1";
        assert_eq!(without_process_ids(text), "received from server process with PID N.\nPID 7\nprocess with PID N");
    }

    #[test]
    fn a_client_that_fails_is_named_with_what_it_said() {
        let shell = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]).stdin(Stdio::null());
            run("a client", &mut command).map_err(|error| error.to_string())
        };
        assert_eq!(shell("echo one; echo two >&2; echo three"), Ok("one\ntwo\nthree\n".to_owned()));
        insta::assert_snapshot!(shell("echo wrong >&2; exit 3").unwrap_err(), @r"
        a client: exit status: 3
          because: wrong
        ");
        assert!(shell("exit 127").unwrap_err().contains("assets/native.toml"));
    }
}
