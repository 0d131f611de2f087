//! Running jobs: the description of a job, and the selection of one of the two backends, which give
//! the same bytes. It owns the environment that a job sees and the report of a failed job; which
//! jobs exist belongs to the pipeline.

mod docker;
mod interrupt;
mod sandbox;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{self, Locked};
use crate::image::{Image, SOURCE_DATE_EPOCH};

/// Name of the machine a job sees, in both backends.
const HOSTNAME: &str = "pglite-oxide";
/// Lines of the log that a failed job's error shows.
const TAIL_LINES: usize = 30;
/// Bytes of the log searched for those lines.
const TAIL_BYTES_MAX: u64 = 64 << 10;

/// One command in an image, without network, on a file system that is read-only but for `/tmp` and
/// the writable mounts.
#[derive(Debug, Clone)]
pub(crate) struct Job<'a> {
    /// The root file system.
    pub(crate) image: &'a Image,
    /// Host files and directories the job sees.
    pub(crate) mounts: Vec<Mount>,
    /// Added to the fixed environment, or replacing part of it.
    pub(crate) env: BTreeMap<String, String>,
    /// The program, looked up in the job's `PATH`, and its arguments.
    pub(crate) argv: Vec<String>,
    /// Absolute directory, inside, that the program starts in.
    pub(crate) workdir: String,
    /// Host file that takes stdout and stderr as they come. Replaced at the start.
    pub(crate) log: PathBuf,
}

/// A host path that a job sees at `target`.
#[derive(Debug, Clone)]
pub(crate) struct Mount {
    /// Absolute path on the host.
    pub(crate) source: PathBuf,
    /// Absolute path inside; it need not exist in the image.
    pub(crate) target: PathBuf,
    /// Whether the job may write to it.
    pub(crate) writable: bool,
}

/// A way to run jobs.
pub(crate) trait Backend: Send + Sync {
    /// `docker` or `sandbox`.
    fn name(&self) -> &'static str;

    /// Runs the job to its end. A job dies with this process, and with the thread that called this.
    fn run(&self, job: &Job<'_>) -> Result<()>;
}

/// The value of `--backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Choice {
    /// Docker where a daemon answers, else the sandbox.
    #[default]
    Auto,
    /// Containers of a Docker daemon.
    Docker,
    /// Linux namespaces of this machine.
    Sandbox,
}

/// Why a backend cannot be used.
#[derive(Debug)]
enum Unavailable {
    /// It is absent: a program or a daemon is missing, or a required operation is not allowed.
    Absent(Error),
    /// It is present and does not work.
    Failing(Error),
}

impl From<Unavailable> for Error {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Absent(error) | Unavailable::Failing(error) => error,
        }
    }
}

/// The chosen backend, after it has been found to work.
pub(crate) fn select(choice: Choice) -> Result<Box<dyn Backend>> {
    Ok(find(choice)?)
}

/// Why a backend is absent on this machine; `None` if it is present. A backend that is present and
/// does not work is an error.
pub(crate) fn absence(choice: Choice) -> Result<Option<Error>> {
    match find(choice) {
        Ok(_) => Ok(None),
        Err(Unavailable::Absent(error)) => Ok(Some(error)),
        Err(Unavailable::Failing(error)) => Err(error),
    }
}

fn find(choice: Choice) -> Result<Box<dyn Backend>, Unavailable> {
    match choice {
        Choice::Docker => Ok(Box::new(docker::Docker::connect()?)),
        Choice::Sandbox => Ok(Box::new(sandbox::Sandbox::find()?)),
        Choice::Auto => {
            let no_docker = match find(Choice::Docker) {
                Err(unavailable) => unavailable,
                docker => return docker,
            };
            let no_sandbox = match find(Choice::Sandbox) {
                Err(unavailable) => unavailable,
                sandbox => return sandbox,
            };
            let absent = matches!((&no_docker, &no_sandbox), (Unavailable::Absent(_), Unavailable::Absent(_)));
            let error = Error::new(format!(
                "no backend can run build jobs here\n  docker: {}\n  sandbox: {}",
                indented(&no_docker.into()),
                indented(&no_sandbox.into())
            ))
            .repair("do one of the repairs above");
            Err(if absent { Unavailable::Absent(error) } else { Unavailable::Failing(error) })
        }
    }
}

impl Job<'_> {
    /// The command line, environment and directory included, that both backends start with nothing
    /// else in its environment.
    fn command(&self) -> Vec<String> {
        let epoch = SOURCE_DATE_EPOCH.to_string();
        let fixed = [
            ("HOME", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C"),
            ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),
            ("SOURCE_DATE_EPOCH", &epoch),
            ("TZ", "UTC"),
        ];
        let mut env: BTreeMap<&str, &str> = fixed.into();
        env.extend(self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut command = vec!["/usr/bin/env".into(), "-i".into(), format!("--chdir={}", self.workdir)];
        command.extend(env.iter().map(|(name, value)| format!("{name}={value}")));
        command.extend(self.argv.iter().cloned());
        command
    }

    /// Mounts in the order in which they are made: what lies inside another one comes after it.
    fn mounts_in_order(&self) -> Vec<&Mount> {
        let mut mounts: Vec<_> = self.mounts.iter().collect();
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        mounts
    }

    /// Rejects a job that the backends cannot run, or would run differently.
    fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::new(format!("the job {:?} cannot run: {what}", self.argv)));
        match self.argv.first() {
            None => return refuse("it has no program".into()),
            Some(program) if program.is_empty() || program.contains('=') || program.starts_with('-') => {
                return refuse(format!("\"{program}\" is no program name that env(1) takes"));
            }
            Some(_) => {}
        }
        let texts = self.argv.iter().chain(self.env.keys()).chain(self.env.values()).chain([&self.workdir]);
        if let Some(text) = texts.into_iter().find(|text| text.contains('\0')) {
            return refuse(format!("{text:?} holds a zero byte"));
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains('=') || name.starts_with('-'))
        {
            return refuse(format!("\"{name}\" is no name of an environment variable"));
        }
        if !self.workdir.starts_with('/') {
            return refuse(format!("its directory \"{}\" is not absolute", self.workdir));
        }
        let mut outer: Vec<&Mount> = Vec::new();
        for mount in self.mounts_in_order() {
            if let Err(what) = check_mount(mount, &self.image.rootfs, &outer) {
                return refuse(format!("mount {} at {}: {what}", mount.source.display(), mount.target.display()));
            }
            outer.push(mount);
        }
        Ok(())
    }

    /// The log, empty and locked: as long as this process holds it, the job is alive.
    fn create_log(&self) -> Result<Locked> {
        if let Some(parent) = self.log.parent() {
            files::make_directory(parent)?;
        }
        let log = File::options()
            .append(true)
            .create(true)
            .open(&self.log)
            .map_err(|e| Error::io("create the log", &self.log, e))?;
        let log = Locked::take(log)
            .map_err(|e| Error::io("lock", &self.log, e))?
            .map_err(|_| Error::new(format!("another running job writes the log {}", self.log.display())))?;
        log.0.set_len(0).map_err(|e| Error::io("empty the log", &self.log, e))?;
        Ok(log)
    }

    /// The error of a job that ended with this status, as shells count: 128 plus the signal for a
    /// killed job.
    fn failed(&self, backend: &str, status: i64) -> Error {
        let tail = tail(&self.log).unwrap_or_else(|e| format!("(the log cannot be read: {e})"));
        let tail = tail.lines().map(|line| format!("\n    {line}")).collect::<String>();
        Error::new(format!(
            "the job `{}` failed in the {backend} backend with exit status {status}\n  log: {}\n  its last lines:{}",
            self.argv.join(" "),
            self.log.display(),
            if tail.is_empty() { "\n    (none: it wrote nothing)" } else { &tail }
        ))
    }
}

/// What is wrong with a mount, if anything.
fn check_mount(mount: &Mount, rootfs: &Path, outer: &[&Mount]) -> Result<(), String> {
    if !mount.source.is_absolute() {
        return Err("the source is not absolute".into());
    }
    if !mount.source.exists() {
        return Err("the source does not exist".into());
    }
    let names: Vec<_> = mount.target.components().skip(1).collect();
    if !mount.target.is_absolute() || names.is_empty() || !names.iter().all(|c| matches!(c, Component::Normal(_))) {
        return Err("the target must be absolute, below / and without \"..\"".into());
    }
    if [&mount.source, &mount.target].iter().any(|path| path.to_str().is_none_or(|text| text.contains('\0'))) {
        return Err("both paths must be valid UTF-8".into());
    }
    if ["/dev", "/proc", "/sys"].iter().any(|reserved| mount.target.starts_with(reserved)) {
        return Err("the target lies in a directory that the backend itself provides".into());
    }
    if mount.target == Path::new("/tmp") {
        return Err("the target /tmp is the job's own scratch space".into());
    }
    // The backends differ here: one follows the link, the other mounts over it.
    let mut inside = PathBuf::new();
    for name in names {
        inside.push(name);
        if rootfs.join(&inside).is_symlink() {
            return Err(format!("/{} is a symbolic link in the image", inside.display()));
        }
    }
    if let Some(parent) = outer.iter().rev().find(|parent| mount.target.starts_with(&parent.target)) {
        let rest = mount.target.strip_prefix(&parent.target).map_err(|e| e.to_string())?;
        if rest.as_os_str().is_empty() {
            return Err("another mount has the same target".into());
        }
        if !parent.source.join(rest).exists() {
            return Err(format!(
                "it lies inside the mount at {}, whose source {} has no {}",
                parent.target.display(),
                parent.source.display(),
                rest.display()
            ));
        }
    }
    Ok(())
}

fn indented(error: &Error) -> String {
    error.to_string().replace('\n', "\n  ")
}

/// The last lines of a log, with a limit on their length.
fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}

#[cfg(test)]
mod tests;
