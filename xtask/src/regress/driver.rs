//! Runs tests: the server as a separate process, and PostgreSQL's `pg_regress` in the root file
//! system of the build image, one test at a time. It owns the processes, their time limits and the
//! files they leave; `report` owns the meaning of a result.

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
use crate::native::HOST_PATH;

/// Where the server and the tests see the directory of the run.
const MOUNT: &str = "/pgl";
/// Time limit of a test. The longest test takes a tenth of it.
const TEST_MAX: Duration = Duration::from_secs(300);
/// Limit for the server to start.
const START_MAX: Duration = Duration::from_secs(60);

/// Enters the root in a separate mount namespace: $1 is the root, $2 the directory of the run, the
/// rest is the command. It runs as the caller, who reads files that the server has written.
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
    /// The server program.
    pub(crate) program: PathBuf,
    /// Compiled modules that only tests load.
    pub(crate) modules: PathBuf,
    /// Root file system with a shell and `diff`.
    pub(crate) rootfs: PathBuf,
    /// Directory of the run: the suites, their results, the socket.
    pub(crate) work: PathBuf,
    /// Data directory of the server.
    pub(crate) data: PathBuf,
    /// Server settings.
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    /// Length of the log that belongs to finished tests.
    seen: u64,
}

impl Driver {
    /// Directory with the results of a suite.
    pub(crate) fn results(&self, suite: &Suite) -> PathBuf {
        self.work.join("out").join(&suite.name)
    }

    /// Starts the server with more settings, and waits until it listens.
    pub(crate) fn serve(&self, more: &[(String, String)]) -> Result<Server> {
        let log = self.work.join("server.log");
        let output = File::options().append(true).create(true).open(&log).map_err(|e| Error::io("open", &log, e))?;
        let seen = output.metadata().map_err(|e| Error::io("read", &log, e))?.len();
        let socket = Path::new("socket");
        let directory = self.work.join(socket);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).map_err(|e| Error::io("make the directory", &directory, e))?;
        let mut command = Command::new(&self.program);
        // A relative path: those of sockets must be short.
        command.current_dir(&self.work).arg("--socket").arg(socket).arg("--data").arg(&self.data);
        command.arg("--modules").arg(&self.modules).args(["--mount", &format!("{MOUNT}={}", self.work.display())]);
        if !more.is_empty() {
            // Suites with settings of their own are about WAL; without durability there is less.
            command.arg("--durable");
        }
        let settings = self.settings.iter().copied();
        for (name, value) in settings.chain(more.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
            command.arg("--setting").arg(format!("{name}={value}"));
        }
        let cannot = || "cannot start the server".to_owned();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(output).spawn().context(cannot)?;
        let ready = child.stdout.take();
        let server = Server { child, log, seen };
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
    pub(crate) fn test(&self, suite: &Suite, test: &str, first: bool, server: &mut Server) -> Result<Outcome> {
        let out = self.results(suite);
        files::make_directory(&out)?;
        let path = out.join("pg_regress.out");
        let output = File::create(&path).map_err(|e| Error::io("create", &path, e))?;
        let errors = output.try_clone().map_err(|e| Error::io("open once more", &path, e))?;
        let mut command = self.enter(suite);
        command.arg(format!("{MOUNT}/bin/pg_regress")).args([
            format!("--bindir={MOUNT}/bin"),
            "--dlpath=/usr/lib/postgresql".to_owned(),
            format!("--inputdir={MOUNT}/{}", suite.name),
            format!("--outputdir={MOUNT}/out/{}", suite.name),
            format!("--host={MOUNT}/socket"),
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
        if let Some(crash) = server.crash()? {
            return Ok(Outcome::Crashed(crash));
        }
        if !ended {
            return Ok(Outcome::Hung);
        }
        let variant = self.variant(suite, test)?;
        Ok(parse_tap(&said, test, &difference, variant))
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
    /// name files relative to it. It ends with the thread that starts it.
    fn enter(&self, suite: &Suite) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["/bin/sh", "-c", ENTER, "sh"]).arg(&self.rootfs).arg(&self.work);
        command.args(["/usr/bin/env", &format!("--chdir={MOUNT}/{}", suite.name)]);
        command.args(["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"]);
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

impl Server {
    /// Whether the process is running.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The log's report of a session that crashed, since the last call.
    fn crash(&mut self) -> Result<Option<String>> {
        let bytes = files::read(&self.log)?;
        let new = bytes.get(usize::try_from(self.seen).unwrap_or(usize::MAX)..).unwrap_or_default();
        self.seen = bytes.len() as u64;
        let text = String::from_utf8_lossy(new);
        let line = text.lines().find(|line| line.starts_with("session failed: ") || line.contains("PANIC:  "));
        Ok(line.map(str::to_owned))
    }

    /// Requests the stop and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let start = Instant::now();
        while self.is_alive() {
            if start.elapsed() > START_MAX {
                return Err(Error::new("the server does not stop").repair(format!("see {}", self.log.display())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let status = self.child.wait().context(|| "cannot wait for the server".to_owned())?;
        if status.success() {
            return Ok(());
        }
        Err(Error::new(format!("the server ended badly: {status}")).repair(format!("see {}", self.log.display())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill_group(child: &mut Child) {
    // The child has not been reaped, so its process ID is still its own.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.wait();
}
