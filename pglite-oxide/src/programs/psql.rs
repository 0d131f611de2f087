//! `psql`, with the caller's arguments, streams and files. It owns what the program sees of the
//! caller's environment: all files of the host, the working directory, and a few environment
//! variables.

use std::path::PathBuf;
use std::sync::Arc;

use super::machine::MachineFs;
use super::session::SessionDialer;
use super::{Command, Input, Interrupter, Login, Output, Running, installation};
use crate::client::Pglite;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Volume;
use crate::protocol::TransactionStatus;
use crate::server::attach;
use crate::transport::pipe;
use crate::wasm::channel::Dialer;

/// Where the program is installed, in its own view: a path that no machine has.
const INSTALLATION: &str = "/.pglite-oxide";

#[cfg_attr(not(any(test, feature = "cli")), allow(dead_code, reason = "for the command line's psql"))]
/// Variables that are passed on from the caller's environment: the user's preferences, and nothing
/// that chooses a server.
const PASSED_ON: [&str; 13] = [
    "COLUMNS",
    "HOME",
    "LINES",
    "PGAPPNAME",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGGEQO",
    "PGOPTIONS",
    "PGTZ",
    "PSQLRC",
    "PSQL_HISTORY",
    "TERM",
    "XDG_CONFIG_HOME",
];

/// A run of psql.
#[derive(Debug)]
pub(crate) struct Psql {
    /// Arguments, without the program's name.
    pub(crate) args: Vec<String>,
    /// Environment: PGUSER and PGDATABASE, and what `environment` passes on.
    pub(crate) env: Vec<(String, String)>,
    /// The working directory; `None`: it has been removed.
    pub(crate) working_directory: Option<PathBuf>,
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
}

impl Psql {
    /// Starts the program.
    ///
    /// # Errors
    /// [`ErrorKind::Payload`] if this build does not carry it; [`ErrorKind::Io`] if the working
    /// directory is not there, or the system refuses a thread.
    pub(crate) fn start(self, dialer: Box<dyn Dialer>) -> Result<Running> {
        let working_directory = self.working_directory.as_deref().map(guest_path).transpose()?;
        let volume = Volume::new(Arc::new(MachineFs)).mount(INSTALLATION, Arc::new(installation("bin/psql")?));
        // There is no program to page through output with.
        let mut env: Vec<(String, String)> =
            [("PSQL_PAGER", ""), ("PAGER", "")].map(|(name, value)| (name.to_string(), value.to_string())).into();
        env.extend(self.env);
        let name = format!("{INSTALLATION}/bin/psql");
        let command = Command {
            program: "psql",
            args: std::iter::once(name).chain(self.args).collect(),
            env,
            volume,
            working_directory,
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
            dialer,
        };
        command.start()
    }

    /// Runs the program in the session of a database, and returns its exit code. A transaction that
    /// it leaves open is rolled back, as a server would. `watch` is given the way to interrupt it,
    /// and what it returns is dropped at the end.
    ///
    /// # Errors
    /// As [`Self::start`]; [`ErrorKind::Crashed`] if the program traps; why the session is over if
    /// it is.
    pub(crate) fn run_in<W>(mut self, db: &mut Pglite, watch: impl FnOnce(Interrupter) -> Result<W>) -> Result<i32> {
        let interrupts = db.session.interrupts().clone();
        let (server, client) = pipe::pipe();
        let login = Login { user: &db.options().user, database: &db.options().database, password: None };
        self.env.extend(login.environment());
        let running = self.start(Box::new(SessionDialer::new(client, &interrupts)))?;
        let _watch = watch(running.interrupter())?;
        let served = attach::attach(db, server);
        let code = running.wait();
        // A client that was refused has said so.
        match served {
            Err(error) if !matches!(error.kind(), ErrorKind::Config | ErrorKind::Database) => return Err(error),
            _ => (),
        }
        if db.transaction_status() != TransactionStatus::Idle {
            db.batch_execute("ROLLBACK")?;
        }
        code
    }
}

#[cfg_attr(not(any(test, feature = "cli")), allow(dead_code, reason = "for the command line's psql"))]
/// What of this process's environment the program sees.
pub(crate) fn environment() -> Vec<(String, String)> {
    PASSED_ON.iter().filter_map(|name| Some((name.to_string(), std::env::var(name).ok()?))).collect()
}

/// A path of the machine as the program knows it.
fn guest_path(path: &std::path::Path) -> Result<String> {
    let failed = |cause: std::io::Error| {
        Error::new(ErrorKind::Io, format!("cannot use the working directory {}", path.display())).with_cause(cause)
    };
    let path = std::path::absolute(path).map_err(failed)?;
    let text = path.to_str().ok_or_else(|| failed(std::io::ErrorKind::InvalidFilename.into()))?;
    Ok(if text.starts_with('/') { text.to_string() } else { format!("/{}", text.replace('\\', "/")) })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::{Duration, Instant};

    use super::super::Kept;
    use super::*;

    /// A terminal at which lines are typed.
    struct Typed(Receiver<&'static str>);

    impl Read for Typed {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let line = self.0.recv().unwrap_or_default();
            buf[..line.len()].copy_from_slice(line.as_bytes());
            Ok(line.len())
        }
    }

    struct Terminal {
        keyboard: Sender<&'static str>,
        screen: Kept,
        seen: String,
    }

    impl Terminal {
        /// Waits until a text appears on the screen, and returns what did until then.
        fn wait_for(&mut self, text: &str) -> String {
            let start = Instant::now();
            while !self.seen.contains(text) {
                assert!(start.elapsed() < Duration::from_secs(60), "{text:?} does not come after {:?}", self.seen);
                std::thread::sleep(Duration::from_millis(1));
                self.seen += &String::from_utf8(self.screen.take()).unwrap();
            }
            std::mem::take(&mut self.seen)
        }
    }

    fn at_a_terminal() -> (Psql, Terminal) {
        let (keyboard, typed) = channel();
        let screen = Kept::default();
        let psql = Psql {
            args: vec!["-X".to_string()],
            env: environment(),
            working_directory: Some(std::env::temp_dir()),
            stdin: Input::Reader { reader: Box::new(Typed(typed)), is_terminal: true },
            stdout: Output { is_terminal: true, ..screen.output() },
            stderr: screen.output(),
        };
        (psql, Terminal { keyboard, screen, seen: String::new() })
    }

    /// Serves the program on this thread while `typing` goes on, and returns the exit code.
    fn with_terminal(db: &mut Pglite, typing: impl FnOnce(Terminal, &Running) + Send) -> i32 {
        let (mut psql, terminal) = at_a_terminal();
        psql.env.extend([("PGUSER", "postgres"), ("PGDATABASE", "postgres")].map(|(a, b)| (a.into(), b.into())));
        let interrupts = db.session.interrupts().clone();
        let (server, client) = pipe::pipe();
        let running = psql.start(Box::new(SessionDialer::new(client, &interrupts))).unwrap();
        std::thread::scope(|scope| {
            let typist = scope.spawn(move || {
                typing(terminal, &running);
                running.wait().unwrap()
            });
            attach::attach(db, server).unwrap();
            typist.join().unwrap()
        })
    }

    /// A statement that says when it runs, and then runs for long.
    const SLEEP: &str = "DO $$ BEGIN RAISE NOTICE 'begun'; PERFORM pg_sleep(600); END $$;\n";

    #[test]
    #[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
    fn ctrl_c_ends_a_statement_and_a_line_but_not_the_program() {
        let mut db = Pglite::temporary().unwrap();
        let code = with_terminal(&mut db, |mut terminal, running| {
            terminal.wait_for("postgres=# ");
            terminal.keyboard.send(SLEEP).unwrap();
            terminal.wait_for("NOTICE:  begun");
            running.interrupter().interrupt();
            terminal.wait_for("canceling statement due to user request");
            terminal.keyboard.send("SELECT 'half a statement'\n").unwrap();
            terminal.wait_for("postgres-# ");
            running.interrupter().interrupt();
            terminal.wait_for("postgres=# ");
            terminal.keyboard.send("SELECT 41 + 1 AS answer;\n").unwrap();
            terminal.wait_for("     42\n");
            terminal.keyboard.send("SELECT n FROM generate_series(1, 1000000) n;\n").unwrap();
            terminal.wait_for(" 1000\n");
            running.interrupter().interrupt();
            assert!(!terminal.wait_for("postgres=# ").contains(" 1000000\n"), "printing went on to its end");
            terminal.keyboard.send("SELECT 41 + 1 AS answer;\n").unwrap();
            terminal.wait_for("     42\n");
            terminal.keyboard.send("\\watch 0.01\n").unwrap();
            for _ in 0..3 {
                terminal.wait_for("     42\n");
            }
            running.interrupter().interrupt();
            terminal.keyboard.send("\\q\n").unwrap();
        });
        assert_eq!(code, 0);
        assert_eq!(db.query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0), 1);
    }

    #[test]
    #[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
    fn a_program_that_is_dropped_leaves_the_session_as_it_was() {
        for (statement, begun) in [
            (SLEEP, "NOTICE:  begun"),
            ("COPY (SELECT generate_series(1, 100000000)) TO STDOUT;\n", "1000\n"),
            ("COPY t FROM STDIN;\n1\n", ">> "),
        ] {
            let mut db = Pglite::temporary().unwrap();
            db.batch_execute("CREATE TABLE t (n int)").unwrap();
            let (mut psql, mut terminal) = at_a_terminal();
            psql.env.extend([("PGUSER", "postgres"), ("PGDATABASE", "postgres")].map(|(a, b)| (a.into(), b.into())));
            let interrupts = db.session.interrupts().clone();
            let (server, client) = pipe::pipe();
            let running = psql.start(Box::new(SessionDialer::new(client, &interrupts))).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    terminal.wait_for("postgres=# ");
                    terminal.keyboard.send(statement).unwrap();
                    terminal.wait_for(begun);
                    drop(running);
                });
                attach::attach(&mut db, server).unwrap();
            });
            for _ in 0..3 {
                assert_eq!(db.query_one("SELECT count(*) FROM t", &[]).unwrap().get::<_, i64>(0), 0, "{statement}");
            }
        }
    }
}
