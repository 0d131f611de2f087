//! A PostgreSQL server on the data directory of a root: starting, stopping and killing it. Its
//! programs are found in the search path. It owns the processes; what is done with the server
//! belongs to `rounds` and `child`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postgres::Client;
use rustix::process::{Pid, Signal, kill_process};

/// Limit for the server to start and to stop.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A running server. Dropping it kills all of its processes.
#[derive(Debug)]
pub(crate) struct Server {
    postmaster: Child,
    log: PathBuf,
}

/// The data directory of a root.
pub(crate) fn data(root: &Path) -> PathBuf {
    root.join("pgdata")
}

/// Connects to a server on the data directory of a root. Its socket is in the directory itself, as
/// `postgresql.conf` says.
pub(crate) fn connect(root: &Path) -> Result<Client> {
    let mut config = postgres::Config::new();
    config.host_path(data(root)).user("postgres").dbname("postgres");
    config.connect(postgres::NoTls).context("cannot connect to the server")
}

impl Server {
    /// Starts a server on the data directory of a root, with the configuration that it finds there.
    /// It syncs nothing: a killed process loses nothing that the system has.
    pub(crate) fn start(root: &Path, log: &Path) -> Result<Self> {
        let stdout = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        let stderr = stdout.try_clone().context("cannot open the server's log")?;
        let mut command = Command::new("postgres");
        command.arg("-D").arg(data(root)).args(["-c", "fsync=off"]);
        // Files in the directory, which the next start removes: a killed server would leave others.
        command.args(["-c", "dynamic_shared_memory_type=mmap"]);
        let postmaster = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let mut server = Self { postmaster: postmaster.context("cannot start postgres")?, log: log.to_path_buf() };
        let status = data(root).join("postmaster.pid");
        let start = Instant::now();
        loop {
            if let Some(status) = server.postmaster.try_wait().context("cannot wait for the server")? {
                bail!("the server ended while it started ({status}): {}", server.said());
            }
            let text = fs::read_to_string(&status).unwrap_or_default();
            if is_ready(&text, server.postmaster.id()) {
                return Ok(server);
            }
            if start.elapsed() > TIMEOUT {
                bail!("the server does not get ready: {}", server.said());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Shuts the server down. Its sessions are ended.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::INT);
        let start = Instant::now();
        loop {
            match self.postmaster.try_wait().context("cannot wait for the server")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the server ended with {status}: {}", self.said()),
                None if start.elapsed() > TIMEOUT => bail!("the server does not end: {}", self.said()),
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Ends all processes of the server at once.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        // Stopped, it starts no process that would not be in the list.
        self.signal(Signal::STOP);
        let children = children(self.postmaster.id());
        let _ = self.postmaster.kill();
        for child in &children {
            let _ = kill_process(*child, Signal::KILL);
        }
        self.postmaster.wait().context("cannot wait for the server")?;
        let start = Instant::now();
        while children.iter().any(|child| is_running(*child)) {
            if start.elapsed() > TIMEOUT {
                bail!("processes of the server do not end");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // The child has not been reaped, so its process ID is still its own.
        if let Some(pid) = i32::try_from(self.postmaster.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// The end of what the server wrote to its log.
    fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.postmaster.try_wait(), Ok(None)) {
            let _ = self.end();
        }
    }
}

/// Whether this `postmaster.pid` says that the postmaster with this process ID accepts connections.
/// Until it has written its own, there may be that of a server which was killed when it was ready.
fn is_ready(postmaster_pid: &str, pid: u32) -> bool {
    let mut lines = postmaster_pid.lines();
    lines.next() == Some(&pid.to_string()) && lines.nth(6).is_some_and(|line| line.trim_end() == "ready")
}

/// The processes that a process has started, as Linux tells them.
fn children(parent: u32) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        (field(pid, 1)?.parse() == Ok(parent)).then(|| Pid::from_raw(pid)).flatten()
    };
    entries.flatten().filter_map(pid).collect()
}

/// Whether a process exists and has not ended.
fn is_running(pid: Pid) -> bool {
    field(pid.as_raw_nonzero().get(), 0).is_some_and(|state| state != "Z" && state != "X")
}

/// A field of `/proc/PID/stat`, counted from the state (0), which is followed by the parent (1).
fn field(pid: i32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(number).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_killed_server_does_not_say_that_another_one_is_ready() {
        let file = |pid: u32, status: &str| format!("{pid}\n/data\n1\n5432\n/data\n\n  1 2\n{status}\n");
        assert!(is_ready(&file(77, "ready   "), 77));
        assert!(!is_ready(&file(76, "ready   "), 77));
        assert!(!is_ready(&file(77, "starting"), 77));
        assert!(!is_ready("77\n/data\n", 77));
    }
}
