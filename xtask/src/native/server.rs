//! Runs a native PostgreSQL from a root file system: its programs, a data directory, a server. It
//! owns how a program enters that root, and that no process outlives the caller. It needs no
//! Docker. Root changes to an ordinary user, because PostgreSQL refuses to run as root; other users
//! enter user namespaces.
//!
//! The benchmark program includes this file too, so it uses nothing of the pipeline but the error
//! type.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, Result};

/// Programs of the server package, inside the root.
const PROGRAMS: &str = "/usr/lib/postgresql/17/bin:/usr/bin:/bin";
/// The user that PostgreSQL runs as: for root a user ID of its own, for other users their own ID as
/// mapped in the namespace. `/etc/passwd` of the root file system names it, because initdb looks it
/// up.
pub(crate) const USER: u32 = 999;
/// Where a program sees the caller's directory. Every image has this directory, empty.
const WORK: &str = "/pgl";
/// The port is part of the socket's name. Without a setting for it there is no TCP listener.
const PORT: u16 = 5432;
/// Limit for a server to start and to stop.
const TIMEOUT: Duration = Duration::from_secs(60);
/// `PATH` of the host's own programs that enter a root file system; `chroot` is not in every user's
/// own.
pub(crate) const HOST_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Mounts, in a mount namespace of its own: $1 is the root, $2 the caller's directory. What follows
/// them is the command. Nothing is written into the root, because it is verified before each use.
const MOUNTS: &str = r#"set -eu
root=$1 work=$2
shift 2
mount --bind "$work" "$root/pgl"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
"#;

/// The programs of a native PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Native {
    /// Where the root file system is.
    pub(crate) rootfs: PathBuf,
}

/// Options of a server.
#[derive(Debug, Default)]
pub(crate) struct Options<'a> {
    /// Settings by name; they override those of the data directory.
    pub(crate) settings: &'a [(&'a str, &'a str)],
    /// Its TCP port, if a setting has it listen, and the number in its socket's name.
    pub(crate) port: Option<u16>,
}

/// A data directory, with a place for its socket and its log.
#[derive(Debug)]
pub(crate) struct Cluster {
    native: Native,
    /// What the server sees as `/pgl`.
    directory: PathBuf,
    /// Removes the directory when it is dropped, if it is not the caller's.
    _own: Option<tempfile::TempDir>,
}

/// A running server. Dropping it stops the server, and so does the end of this process.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    cluster: &'a Cluster,
    port: u16,
    child: Child,
}

impl Native {
    /// The programs in an existing root file system.
    pub(crate) fn at(rootfs: &Path) -> Self {
        Self { rootfs: rootfs.to_path_buf() }
    }

    /// A command for a program like `psql`. It sees `work` as `/pgl` and nothing else of the host.
    /// It ends with the thread that starts it.
    pub(crate) fn command(&self, work: &Path, program: &str) -> Command {
        self.enter(work, program, "KILL")
    }

    /// A directory that a program may be given as its `work`.
    pub(crate) fn work_directory(&self) -> Result<tempfile::TempDir> {
        let directory = tempfile::Builder::new()
            .prefix("pg-")
            .tempdir()
            .map_err(|e| Error::io("make a directory in", &std::env::temp_dir(), e))?;
        if is_root() {
            let owned = std::os::unix::fs::chown(directory.path(), Some(USER), Some(USER));
            owned.map_err(|e| Error::io("change the owner of", directory.path(), e))?;
        }
        Ok(directory)
    }

    /// Makes a data directory in a directory of its own, which is removed with the result.
    pub(crate) fn initdb(&self, sync: bool) -> Result<Cluster> {
        let own = self.work_directory()?;
        let cluster = self.initdb_in(own.path(), sync)?;
        Ok(Cluster { _own: Some(own), ..cluster })
    }

    /// Makes the data directory `data` with `initdb`: UTF-8 and the builtin provider's C.UTF-8,
    /// like ours. Without `sync` it does not wait for the disk. The directory belongs to the user
    /// of the programs.
    pub(crate) fn initdb_in(&self, directory: &Path, sync: bool) -> Result<Cluster> {
        let mut initdb = self.command(directory, "initdb");
        initdb.args(["-D", "/pgl/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
        initdb.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]);
        if !sync {
            initdb.arg("--no-sync");
        }
        run(&mut initdb, "initdb")?;
        Ok(Cluster { native: self.clone(), directory: directory.to_path_buf(), _own: None })
    }

    /// `signal` is what the program gets when the thread that started it ends.
    fn enter(&self, work: &Path, program: &str, signal: &str) -> Command {
        let mut command = Command::new("setpriv");
        // Shared memory of a server that is killed goes with the last of its processes.
        command.args(["--pdeathsig", "KILL", "unshare", "--ipc", "--mount", "--propagation", "private"]);
        // Each script ends in `exec`: the process ID stays the same, so the caller's child is the
        // program itself.
        let user = if is_root() {
            format!("exec chroot \"$root\" setpriv {} --pdeathsig {signal} -- \"$@\"", as_user().join(" "))
        } else {
            command.args(["--user", "--map-root-user"]);
            format!(
                "exec unshare --user --map-user {USER} --map-group {USER} --root \"$root\" setpriv --pdeathsig {signal} -- \"$@\""
            )
        };
        command.args(["/bin/sh", "-c", &format!("{MOUNTS}{user}"), "sh"]).arg(&self.rootfs).arg(work).arg(program);
        let path = format!("{PROGRAMS}:{HOST_PATH}");
        command.env_clear().envs([("PATH", path.as_str()), ("LC_ALL", "C"), ("TZ", "UTC"), ("HOME", WORK)]);
        command.current_dir("/").stdin(Stdio::null());
        command
    }
}

impl Cluster {
    /// Where the servers of the cluster write their log.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Starts a server on the directory and waits until it accepts connections.
    pub(crate) fn start(&self, options: &Options<'_>) -> Result<Server<'_>> {
        let log_path = self.log();
        let log = File::options().append(true).create(true).open(&log_path);
        let log = log.map_err(|e| Error::io("open", &log_path, e))?;
        let errors = log.try_clone().map_err(|e| Error::io("open once more", &log_path, e))?;
        // Fast shutdown: nothing remains if the caller is killed, not even System V shared memory.
        let mut postgres = self.native.enter(&self.directory, "postgres", "INT");
        let port = options.port.unwrap_or(PORT);
        postgres.args(["-D", "/pgl/data", "-k", WORK, "-h", "", "-p", &port.to_string()]);
        for (name, value) in options.settings {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        let child = postgres.stdout(log).stderr(errors).spawn().map_err(|e| cannot_enter("postgres", &e))?;
        let mut server = Server { cluster: self, port, child };
        server.wait_until_ready(&log_path)?;
        Ok(server)
    }
}

impl Server<'_> {
    /// Directory of the socket, on the host's side.
    pub(crate) fn socket_directory(&self) -> &Path {
        &self.cluster.directory
    }

    /// Names the socket in its directory.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The status with which the server has ended; none while it runs.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(|e| Error::new("cannot wait for the native server").cause(e))
    }

    /// Shuts the server down and waits for its end.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.shut_down()
    }

    /// The server writes its readiness into `postmaster.pid`.
    fn wait_until_ready(&mut self, log: &Path) -> Result<()> {
        let status = self.cluster.directory.join("data/postmaster.pid");
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(Error::new(format!("the native server ended while it started ({status})")).cause(said));
            }
            let text = fs::read_to_string(&status).unwrap_or_default();
            // A file of another process was there before this server started.
            let mut lines = text.lines();
            let is_own = lines.next() == Some(&self.child.id().to_string());
            if is_own && lines.nth(6).is_some_and(|line| line.trim_end() == "ready") {
                return Ok(());
            }
            if start.elapsed() > TIMEOUT {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(
                    Error::new(format!("the native server was not ready after {} s", TIMEOUT.as_secs())).cause(said)
                );
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn shut_down(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        signal(&self.child, Signal::INT);
        let start = Instant::now();
        while self.ended()?.is_none() {
            if start.elapsed() > TIMEOUT {
                signal(&self.child, Signal::KILL);
                self.child.wait().map_err(|e| Error::new("cannot wait for the native server").cause(e))?;
                return Err(Error::new("the native server did not shut down and was killed"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            eprintln!("warning: {error}");
        }
    }
}

/// Runs a program to its end; an error contains its output.
pub(crate) fn run(command: &mut Command, name: &str) -> Result<Output> {
    let output = command.output().map_err(|e| cannot_enter(name, &e))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    Err(Error::new(format!("the native program {name} failed: {}", output.status))
        .cause(String::from_utf8_lossy(&said).trim_end().to_owned())
        .repair(
            "this needs root, or user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)",
        ))
}

/// Arguments with which `setpriv` runs a program as the user of the server: none if the caller is
/// that.
pub(crate) fn as_user() -> Vec<String> {
    let user = USER.to_string();
    let arguments = ["--reuid", &user, "--regid", &user, "--clear-groups"];
    if is_root() { arguments.map(str::to_owned).into() } else { Vec::new() }
}

fn signal(child: &Child, signal: Signal) {
    // The child has not been reaped, so its process ID is still its own. A process that has ended
    // needs no signal.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn cannot_enter(program: &str, cause: &io::Error) -> Error {
    Error::new(format!("cannot start the native program {program} through setpriv"))
        .cause(cause.to_string())
        .repair("install util-linux; the native PostgreSQL runs on Linux only")
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
