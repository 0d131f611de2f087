//! Runs tests: the server as a separate process, this crate's or a native one, and PostgreSQL's
//! `pg_regress` in the root file system of the build image, one test at a time. It owns the
//! processes, their time limits and the files they leave; `report` owns the meaning of a result.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::report::{Outcome, parse_tap};
use super::suite::Suite;
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::native::{self, Cluster, HOST_PATH, Native};

/// Where the server and the tests see the directory of the run.
const MOUNT: &str = "/pgl";
/// Directory of the socket of this crate's server, in that of the run. A native server's is the
/// latter.
const SOCKET: &str = "socket";
/// Time limit of a test. The longest test takes a tenth of it.
const TEST_MAX: Duration = Duration::from_secs(300);
/// What a native server logs when it accepts connections.
const RECOVERED: &str = "database system is ready to accept connections";
/// Limit for the server to start.
const START_MAX: Duration = Duration::from_secs(60);

/// Enters the root in a separate mount namespace: $1 is the root, $2 the directory of the run, the
/// rest is the command.
const ENTER: &str = r#"set -eu
root=$1 work=$2
shift 2
mount --bind "$work" "$root/pgl"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
exec chroot "$root" "$@"
"#;

/// Parameters of a run.
#[derive(Debug)]
pub(crate) struct Driver {
    /// What is tested.
    pub(crate) subject: Subject,
    /// Root file system with a shell and `diff`.
    pub(crate) rootfs: PathBuf,
    /// Directory of the run: the suites, their results, the socket.
    pub(crate) work: PathBuf,
    /// Server settings.
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

/// What is tested.
#[derive(Debug)]
pub(crate) enum Subject {
    /// A server of this crate.
    Own {
        /// The server program.
        program: PathBuf,
        /// Compiled modules that only tests load.
        modules: PathBuf,
        /// Data directory of the server.
        data: PathBuf,
    },
    /// A native server.
    Native {
        /// Its data, in the directory of the run.
        cluster: Cluster,
        /// Names of the suites of what it does not have.
        absent: Vec<String>,
    },
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    process: Process<'a>,
    log: PathBuf,
    /// Length of the log that belongs to finished tests.
    seen: u64,
}

#[derive(Debug)]
enum Process<'a> {
    Own(Program),
    Native(native::Server<'a>),
}

/// The server program of this crate. Dropping it ends it.
#[derive(Debug)]
struct Program(Child);

impl Driver {
    /// Directory with the results of a suite.
    pub(crate) fn results(&self, suite: &Suite) -> PathBuf {
        self.work.join("out").join(&suite.name)
    }

    /// Whether the server has what a suite tests.
    pub(crate) fn has(&self, suite: &Suite) -> bool {
        match &self.subject {
            Subject::Own { .. } => true,
            Subject::Native { absent, .. } => !absent.contains(&suite.name),
        }
    }

    /// Starts the server with more settings, and waits until it listens.
    pub(crate) fn serve(&self, more: &[(String, String)]) -> Result<Server<'_>> {
        let more = more.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        match &self.subject {
            Subject::Own { program, modules, data } => {
                let mut command = Command::new(program);
                if more.len() > 0 {
                    // Suites with settings of their own are about WAL; without durability there is
                    // less.
                    command.arg("--durable");
                }
                command.arg("--data").arg(data).arg("--modules").arg(modules);
                for (name, value) in self.settings.iter().copied().chain(more) {
                    command.arg("--setting").arg(format!("{name}={value}"));
                }
                self.start(command)
            }
            Subject::Native { cluster, .. } => {
                // No test loses power.
                let settings: Vec<_> =
                    [("fsync", "off")].into_iter().chain(self.settings.iter().copied()).chain(more).collect();
                let server = cluster.start(&native::Options { settings: &settings, port: None })?;
                let mut server = Server { process: Process::Native(server), log: cluster.log(), seen: 0 };
                server.news()?;
                Ok(server)
            }
        }
    }

    /// Starts this crate's server.
    fn start(&self, mut command: Command) -> Result<Server<'_>> {
        let log = self.work.join("server.log");
        let output = File::options().append(true).create(true).open(&log).map_err(|e| Error::io("open", &log, e))?;
        let seen = output.metadata().map_err(|e| Error::io("read", &log, e))?.len();
        let socket = Path::new(SOCKET);
        let directory = self.work.join(socket);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).map_err(|e| Error::io("make the directory", &directory, e))?;
        // A relative path: those of sockets must be short.
        command.current_dir(&self.work).arg("--socket").arg(socket);
        command.args(["--mount", &format!("{MOUNT}={}", self.work.display())]);
        let cannot = || "cannot start the server".to_owned();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(output).spawn().context(cannot)?;
        let ready = child.stdout.take();
        let server = Server { process: Process::Own(Program(child)), log, seen };
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = ready.map(|ready| BufReader::new(ready).read_line(&mut line));
            let _ = sender.send(read.is_some_and(|read| read.is_ok()) && line.trim_end() == "ready");
        });
        if receiver.recv_timeout(START_MAX) == Ok(true) {
            return Ok(server);
        }
        Err(Error::new("the server did not start").repair(format!("see {}", server.log.display())))
    }

    /// Runs a test. The first test of a suite creates its database.
    pub(crate) fn test(&self, suite: &Suite, test: &str, first: bool, server: &mut Server<'_>) -> Result<Outcome> {
        let out = self.results(suite);
        files::make_directory(&out)?;
        let host = match &self.subject {
            Subject::Own { .. } => format!("{MOUNT}/{SOCKET}"),
            Subject::Native { .. } => {
                Native::own(&out)?;
                MOUNT.to_owned()
            }
        };
        let path = out.join("pg_regress.out");
        let output = File::create(&path).map_err(|e| Error::io("create", &path, e))?;
        let errors = output.try_clone().map_err(|e| Error::io("open once more", &path, e))?;
        let mut command = self.enter(suite);
        command.arg(format!("{MOUNT}/bin/pg_regress")).args([
            format!("--bindir={MOUNT}/bin"),
            "--dlpath=/usr/lib/postgresql".to_owned(),
            format!("--inputdir={MOUNT}/{}", suite.name),
            format!("--outputdir={MOUNT}/out/{}", suite.name),
            format!("--host={host}"),
            "--port=5432".to_owned(),
            "--user=postgres".to_owned(),
            format!("--dbname={}", suite.database),
            "--max-connections=1".to_owned(),
        ]);
        command.args(suite.launcher.iter().map(|launcher| format!("--launcher={launcher}")));
        if first {
            command.args(suite.load.iter().map(|name| format!("--load-extension={name}")));
        } else {
            command.arg("--use-existing");
        }
        command.arg(test).stdout(output).stderr(errors);
        let mut child = command.spawn().context(|| "cannot start pg_regress through setpriv".to_owned())?;
        let start = Instant::now();
        let ended = loop {
            if child.try_wait().context(|| "cannot wait for pg_regress".to_owned())?.is_some() {
                break true;
            }
            if start.elapsed() > TEST_MAX || !server.is_alive() {
                kill_group(&mut child);
                break false;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let said = files::text(&path)?;
        let diffs = out.join("regression.diffs");
        let difference = fs::read(&diffs).unwrap_or_default();
        let difference = String::from_utf8_lossy(&difference);
        let kept = out.join("differences").join(format!("{test}.diff"));
        if !difference.is_empty() {
            fs::create_dir_all(out.join("differences")).map_err(|e| Error::io("make a directory in", &out, e))?;
            files::write(&kept, difference.as_bytes())?;
        }
        if !server.is_alive() {
            return Ok(Outcome::Died);
        }
        let news = server.news()?;
        if let Some(crash) = crash(&news).map(str::to_owned) {
            server.recover(news)?;
            return Ok(Outcome::Crashed(crash));
        }
        if !ended {
            return Ok(Outcome::Hung);
        }
        if let Some(sql) = suite.prepare.filter(|_| first) {
            self.prepare(suite, sql)?;
        }
        let variant = self.variant(suite, test)?;
        Ok(parse_tap(&said, test, &difference, variant))
    }

    /// Runs a statement in the database of a suite.
    fn prepare(&self, suite: &Suite, sql: &str) -> Result<()> {
        let mut psql = self.enter(suite);
        psql.arg(format!("{MOUNT}/bin/psql")).args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]);
        psql.args(["-h", &format!("{MOUNT}/socket"), "-d", &suite.database, "-c", sql]);
        let output = psql.output().context(|| "cannot start psql through setpriv".to_owned())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        Err(Error::new(format!("the database of the suite {} cannot be prepared", suite.name)).cause(said))
    }

    /// Number of the variant of the expected output that equals a test's output; `None` for the
    /// first one, or without a match.
    fn variant(&self, suite: &Suite, test: &str) -> Result<Option<u8>> {
        let result = self.results(suite).join("results").join(format!("{test}.out"));
        let found = fs::read(&result).unwrap_or_default();
        let expected = self.work.join(&suite.name).join("expected");
        let is_equal = |path: &Path| match fs::read(path) {
            Ok(bytes) => Ok(bytes == found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("read", path, error)),
        };
        if is_equal(&expected.join(format!("{test}.out")))? {
            return Ok(None);
        }
        for variant in 0..=9 {
            if is_equal(&expected.join(format!("{test}_{variant}.out")))? {
                return Ok(Some(variant));
            }
        }
        Ok(None)
    }

    /// A command in the root, with the directory of a suite as its working directory, because tests
    /// name files relative to it. It ends with the thread that starts it. It runs as the server's
    /// user, because both read and write files of the other.
    fn enter(&self, suite: &Suite) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["/bin/sh", "-c", ENTER, "sh"]).arg(&self.rootfs).arg(&self.work);
        command.args(["/usr/bin/env", &format!("--chdir={MOUNT}/{}", suite.name)]);
        command.args(["/usr/bin/setpriv", "--pdeathsig", "KILL"]);
        if let Subject::Native { .. } = self.subject {
            command.args(native::as_user());
        }
        command.arg("--");
        command.env_clear().envs([
            ("PATH", format!("{MOUNT}/bin:{HOST_PATH}")),
            ("LD_LIBRARY_PATH", format!("{MOUNT}/lib")),
            ("HOME", "/tmp".to_owned()),
            ("LC_ALL", "C".to_owned()),
        ]);
        // A process group of its own, so that all of it can be terminated.
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        command
    }
}

impl Server<'_> {
    /// Whether the process is running.
    pub(crate) fn is_alive(&mut self) -> bool {
        match &mut self.process {
            Process::Own(program) => matches!(program.0.try_wait(), Ok(None)),
            Process::Native(server) => matches!(server.ended(), Ok(None)),
        }
    }

    /// What the log says since the last call.
    fn news(&mut self) -> Result<String> {
        let bytes = files::read(&self.log)?;
        let new = bytes.get(usize::try_from(self.seen).unwrap_or(usize::MAX)..).unwrap_or_default();
        self.seen = bytes.len() as u64;
        Ok(String::from_utf8_lossy(new).into_owned())
    }

    /// Waits until a native server, one of whose sessions has crashed, accepts others: it ends them
    /// all and recovers. `news` is what the log says since the crash.
    fn recover(&mut self, mut news: String) -> Result<()> {
        let start = Instant::now();
        while matches!(self.process, Process::Native(_)) && self.is_alive() && !news.contains(RECOVERED) {
            if start.elapsed() > START_MAX {
                return Err(Error::new("the native server does not recover from the crash of a session")
                    .repair(format!("see {}", self.log.display())));
            }
            std::thread::sleep(Duration::from_millis(2));
            news += &self.news()?;
        }
        Ok(())
    }

    /// Requests the stop and waits for it.
    pub(crate) fn stop(self) -> Result<()> {
        let see = || format!("see {}", self.log.display());
        match self.process {
            Process::Own(program) => program.stop().map_err(|error| error.repair(see())),
            Process::Native(server) => server.stop(),
        }
    }
}

impl Program {
    /// It stops when its input ends.
    fn stop(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let cannot = || "cannot wait for the server".to_owned();
        let start = Instant::now();
        loop {
            match self.0.try_wait().context(cannot)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Error::new(format!("the server ended badly: {status}"))),
                None if start.elapsed() > START_MAX => return Err(Error::new("the server does not stop")),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The line of a log that reports the crash of a session.
fn crash(log: &str) -> Option<&str> {
    log.lines().find(|line| {
        line.starts_with("session failed: ")
            || line.contains("PANIC:  ")
            || (line.contains("LOG:  server process (PID ") && line.contains(" was terminated by signal "))
    })
}

fn kill_group(child: &mut Child) {
    // The child has not been reaped, so its process ID is still its own.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.wait();
}
