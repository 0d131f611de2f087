//! Runs jobs in namespaces of this Linux machine, with util-linux alone: `unshare` creates the
//! namespaces, and a short shell prologue the mounts. It isolates builds from the machine's state,
//! so that results are equal. It is not a defence against a hostile job.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::{Backend, HOSTNAME, Job, Mount, Unavailable};
use crate::error::{Error, Result};
use crate::native::HOST_PATH;

/// Head of the prologue. A user namespace cannot drop flags of the host's mount, hence the three
/// attempts at a read-only bind.
const FUNCTIONS: &str = r#"set -eu
umask 022
trap 'echo "sandbox: setting it up failed, see above" >&2' EXIT
point() {
    if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "$(dirname "$2")"; : > "$2"; fi
}
bind() {
    mount --rbind "$1" "$2"
    [ "$3" = rw ] && return
    mount -o remount,bind,ro "$2" 2>/dev/null ||
        mount -o remount,bind,ro,nosuid,nodev "$2" 2>/dev/null ||
        mount -o remount,bind,ro,nosuid,nodev,noatime "$2"
}"#;

/// The root: an overlay with the missing mount points above the image, so that nothing is written
/// to the image.
const ROOT_MOUNTS: &str = "\
mount -t overlay -o ro,lowerdir=points:image overlay root
mount -t proc -o nosuid,nodev,noexec proc root/proc
mount -t tmpfs -o mode=0755,nosuid tmpfs root/dev
for node in null zero full random urandom tty; do : > root/dev/$node; mount --bind /dev/$node root/dev/$node; done
ln -s /proc/self/fd root/dev/fd
ln -s fd/0 root/dev/stdin
ln -s fd/1 root/dev/stdout
ln -s fd/2 root/dev/stderr
mkdir root/dev/shm
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs root/dev/shm
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs root/tmp";

/// The namespace sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// Root needs no user namespace; other users become root in one.
    user_namespace: bool,
}

impl Sandbox {
    /// The sandbox, after every kind of mount it needs has been tried.
    pub(super) fn find() -> Result<Self, Unavailable> {
        if !cfg!(target_os = "linux") {
            let error = Error::new("the sandbox backend needs Linux").repair("start Docker and use --backend docker");
            return Err(Unavailable::Absent(error));
        }
        let sandbox = Self { user_namespace: !rustix::process::geteuid().is_root() };
        let directory = tempfile::tempdir().map_err(|e| Error::io("make", &std::env::temp_dir(), e));
        let directory = directory.map_err(Unavailable::Failing)?;
        let output = sandbox.command(&probe_script(directory.path())).stderr(Stdio::piped()).output();
        let refused = |why: String| {
            Error::new(format!("the sandbox backend does not work on this machine: {why}")).repair(
                "install util-linux; as another user than root allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
                 kernel.apparmor_restrict_unprivileged_userns=0); inside a container give it the SYS_ADMIN capability; or use --backend docker",
            )
        };
        let output = match output {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Unavailable::Absent(refused(format!("setpriv cannot be started: {e}"))));
            }
            Err(e) => return Err(Unavailable::Failing(refused(format!("setpriv cannot be started: {e}")))),
            Ok(output) => output,
        };
        if output.status.success() {
            return Ok(sandbox);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        let absent = is_not_to_be_had(&said);
        let error = refused(said);
        Err(if absent { Unavailable::Absent(error) } else { Unavailable::Failing(error) })
    }

    /// A shell script as the first process of new namespaces.
    fn command(&self, script: &str) -> Command {
        // setpriv ends unshare with this process, and unshare ends the job with itself: killing any
        // of them, even with SIGKILL, leaves no process behind.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--ipc", "--uts", "--net"]);
        if self.user_namespace {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--propagation", "private", "--fork", "--kill-child=KILL", "/bin/sh", "-c", script]);
        command.env_clear().env("PATH", HOST_PATH).env("LC_ALL", "C").stdin(Stdio::null());
        // A process group of its own: Ctrl-C reaches this process, and its end ends the job.
        command.process_group(0);
        command
    }
}

impl Backend for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn run(&self, job: &Job<'_>) -> Result<()> {
        job.check()?;
        let log = job.create_log()?;
        let duplicate = || log.0.try_clone().map_err(|e| Error::io("open once more", &job.log, e));
        let status = self
            .command(&job_script(job))
            .stdout(duplicate()?)
            .stderr(duplicate()?)
            .status()
            .map_err(|e| Error::new("setpriv, which starts the sandbox, cannot be started").cause(e))?;
        if status.success() { Ok(()) } else { Err(job.failed(self.name(), shell_status(status))) }
    }
}

/// Whether the probe failed because this machine lacks a program or a kind of file system, or does
/// not allow namespaces, and not because of a fault of the sandbox.
fn is_not_to_be_had(said: &str) -> bool {
    ["Operation not permitted", "failed to execute", "not found", "unknown filesystem type"]
        .iter()
        .any(|sign| said.contains(sign))
}

/// The prologue of a job: its root file system, mount by mount, then the change into it.
fn job_script(job: &Job<'_>) -> String {
    let stage = quote_path(&job.image.mount_point);
    let image = quote_path(&job.image.rootfs);
    let mounts = job.mounts_in_order();
    let mut lines = vec![
        FUNCTIONS.to_string(),
        format!(
            "mount -t tmpfs -o mode=0755 tmpfs {stage}\ncd {stage}\nmkdir image points root\nmount --rbind {image} image"
        ),
    ];
    // A target inside another mount has its mount point there; a target in /tmp has it on a fresh
    // tmpfs.
    let in_tmp = |mount: &&&Mount| mount.target.starts_with("/tmp");
    let outermost: Vec<_> = mounts
        .iter()
        .enumerate()
        .filter(|(index, mount)| !mounts[..*index].iter().any(|outer| mount.target.starts_with(&outer.target)))
        .map(|(_, mount)| mount)
        .collect();
    let point = |directory: &str, mount: &Mount| {
        format!("point {} {}", quote_path(&mount.source), inside(directory, &mount.target))
    };
    lines.extend(outermost.iter().filter(|mount| !in_tmp(mount)).map(|mount| point("points", mount)));
    lines.push(ROOT_MOUNTS.into());
    lines.extend(outermost.iter().filter(|mount| in_tmp(mount)).map(|mount| point("root", mount)));
    lines.extend(mounts.iter().map(|mount| {
        let access = if mount.writable { "rw" } else { "ro" };
        format!("bind {} {} {access}", quote_path(&mount.source), inside("root", &mount.target))
    }));
    lines.push(set_hostname());
    let command: Vec<_> = job.command().iter().map(|argument| quote(argument)).collect();
    lines.push(format!("exec chroot root {}", command.join(" ")));
    lines.join("\n") + "\n"
}

/// Tries, in an empty directory, each kind of mount that a job needs.
fn probe_script(directory: &Path) -> String {
    format!(
        "set -eu\nmount -t tmpfs tmpfs {directory}\ncd {directory}\nmkdir a b root\n\
         mount -t overlay -o ro,lowerdir=a:b overlay root\nmount -t proc proc a\nmount --bind /dev/null /dev/zero\n\
         command -v chroot >/dev/null\n{hostname}\n",
        directory = quote_path(directory),
        hostname = set_hostname()
    )
}

/// In a user namespace the file is not writable, so the system call is tried first; its program is
/// not on every machine.
fn set_hostname() -> String {
    format!("hostname {HOSTNAME} 2>/dev/null || echo {HOSTNAME} > /proc/sys/kernel/hostname")
}

/// An absolute path of the job below a directory of the prologue.
fn inside(directory: &str, target: &Path) -> String {
    quote(&format!("{directory}{}", target.display()))
}

fn quote_path(path: &Path) -> String {
    quote(&path.display().to_string())
}

/// One word of the shell.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn shell_status(status: ExitStatus) -> i64 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).map_or(-1, i64::from)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{described_image, full_job};
    use super::*;

    #[test]
    fn the_prologue_mounts_then_enters() {
        let image = described_image();
        insta::assert_snapshot!("prologue", job_script(&full_job(&image, Path::new("log"))));
    }

    #[test]
    fn quoted_words_reach_the_program_unchanged() {
        for word in ["plain", "", "it's", "$HOME `id` \"x\" \\ \n *", "'", "-n", "ä;&|"] {
            let script = format!("printf %s {}", quote(word));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn a_machine_without_namespaces_is_told_from_a_sandbox_that_fails() {
        for said in [
            "unshare: unshare failed: Operation not permitted",
            "setpriv: failed to execute unshare: No such file or directory",
            "mount: a: unknown filesystem type 'overlay'.",
            "/bin/sh: 1: mount: not found",
        ] {
            assert!(is_not_to_be_had(said), "{said}");
        }
        for said in ["mount: wrong fs type, bad option, bad superblock on overlay", "/bin/sh: Syntax error", ""] {
            assert!(!is_not_to_be_had(said), "{said}");
        }
    }

    #[test]
    fn status_of_a_killed_job_is_that_of_a_shell() {
        assert_eq!(shell_status(ExitStatus::from_raw(9)), 137);
        assert_eq!(shell_status(ExitStatus::from_raw(3 << 8)), 3);
    }
}
