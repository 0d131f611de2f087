//! Crash rounds: a child commits to a persistent root and is killed; the next one checks the result
//! and continues. It owns the moment of the kill and the invariants of the root's directory;
//! `check` owns those of the database.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use fastrand::Rng;

use crate::child::{Event, Then};
use crate::native::Server;
use crate::workload;

/// Rounds on one root before a new one is created.
const ROUNDS_PER_ROOT: u64 = 25;
/// Time limit for each action of a child, in seconds. Every action takes less than one second.
const PATIENCE: Duration = Duration::from_secs(120);
/// Rounds between checks that include the catalogs.
const EVERYTHING_EVERY: u64 = 5;
/// Maximum number of kills during opening before a round in which the database is used.
const KILLS_DURING_OPEN_MAX: u32 = 3;

/// When a child is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    /// While it opens the root, after this many microseconds: creation or recovery.
    Opening(u64),
    /// As soon as the root is open.
    Opened,
    /// This many microseconds after a commit.
    Commit { commits: u64, after_us: u64 },
    /// This many microseconds after the start of a checkpoint, a vacuum or closing.
    During(Then, u64),
    /// Never: it closes the database.
    Never,
}

/// Counts over all rounds.
#[derive(Debug, Default)]
struct Summary {
    kills: u64,
    kills_during_creation: u64,
    kills_during_recovery: u64,
    kills_during_maintenance: u64,
    kills_during_close: u64,
    /// Kills of a PostgreSQL server, and of an embedded database that a server has recovered.
    kills_of_servers: u64,
    recovered_by_servers: u64,
    acknowledged: u64,
    /// Transactions that were present although they had not been acknowledged.
    unacknowledged: u64,
    checks: u64,
    opened_ms: Vec<u64>,
    checked_ms: Vec<u64>,
}

/// A root whose processes are killed repeatedly.
struct Root {
    path: PathBuf,
    seed: u64,
    acknowledged: Option<u64>,
    /// Whether a child has reported that it opened the root.
    was_open: bool,
    /// Time of the last opening, in microseconds.
    open_us: u64,
    /// The last process that used the root was killed, and embedded the database.
    killed_embedded: bool,
}

/// What opens a root in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// A program that embeds the database.
    Embedded,
    /// A PostgreSQL server.
    Server,
}

/// What a child reported.
struct Life {
    events: Vec<Event>,
    status: ExitStatus,
    was_killed: bool,
}

/// Runs the rounds. Roots are made below `directory`; one that fails stays there. With `servers`, a
/// PostgreSQL server takes turns with the program that embeds the database.
pub(crate) fn run(rounds: u64, seed: u64, servers: bool, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    println!("crash: {rounds} rounds, seed {seed}, roots below {}", directory.display());
    let mut rng = workload::rng(seed, &[7]);
    let mut summary = Summary::default();
    let mut root: Option<Root> = None;
    let start = Instant::now();
    for round in 0..rounds {
        let mut current = match root.take() {
            Some(root) if round % ROUNDS_PER_ROOT != 0 => root,
            old => {
                if let Some(old) = old {
                    finish(old, directory, &mut summary)?;
                }
                Root::new(directory, seed, round / ROUNDS_PER_ROOT)
            }
        };
        let moment = one_round(&mut current, &mut rng, round, servers, directory, &mut summary).with_context(|| {
            format!("round {} of seed {seed}; the root is kept: {}", round + 1, current.path.display())
        })?;
        if round % 10 == 9 || round + 1 == rounds {
            println!(
                "round {}/{rounds}, {} s: transaction {}, killed {moment}; {} kills, {} commits acknowledged, none lost",
                round + 1,
                start.elapsed().as_secs(),
                current.acknowledged.unwrap_or_default(),
                summary.kills,
                summary.acknowledged,
            );
        }
        root = Some(current);
    }
    if let Some(root) = root {
        finish(root, directory, &mut summary)?;
    }
    println!("{summary}");
    Ok(())
}

fn one_round(
    root: &mut Root,
    rng: &mut Rng,
    round: u64,
    servers: bool,
    directory: &Path,
    summary: &mut Summary,
) -> Result<Moment> {
    // A root that was never opened has no guarantees, so many of its creations may be killed.
    let kills = if root.was_open {
        u32::from(rng.u32(0..3) == 0) * rng.u32(1..=KILLS_DURING_OPEN_MAX)
    } else {
        rng.u32(1..=KILLS_DURING_OPEN_MAX)
    };
    for _ in 0..kills {
        let moment = Moment::Opening(rng.u64(0..root.open_us + root.open_us / 5));
        live(root, moment, false, directory, summary)?;
    }
    let moment = Moment::choose(rng);
    let everything = round.is_multiple_of(EVERYTHING_EVERY);
    if servers && root.was_open && rng.bool() {
        serve(root, moment, everything, directory, summary)?;
    } else {
        live(root, moment, everything, directory, summary)?;
    }
    Ok(moment)
}

/// Checks a root for the last time, closes it cleanly, reopens it and removes it.
fn finish(mut root: Root, directory: &Path, summary: &mut Summary) -> Result<()> {
    for _ in 0..2 {
        live(&mut root, Moment::Never, true, directory, summary)
            .with_context(|| format!("the last check; the root is kept: {}", root.path.display()))?;
    }
    let left: Vec<_> =
        fs::read_dir(root.path.parent().unwrap_or(directory))?.flatten().map(|entry| entry.file_name()).collect();
    let name = root.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(left) = left.iter().find(|left| left.to_string_lossy().starts_with(&format!(".{name}.new-"))) {
        bail!("a creation that was killed left {}", left.display());
    }
    fs::remove_dir_all(&root.path).with_context(|| format!("cannot remove {}", root.path.display()))
}

/// Starts a child, kills it at the given moment, and records its reports.
fn live(root: &mut Root, moment: Moment, everything: bool, directory: &Path, summary: &mut Summary) -> Result<()> {
    let errors = directory.join("child.stderr");
    let life = observe(root, Side::Embedded, moment, everything, &errors, || Ok(()));
    let life = life.with_context(|| said(&errors))?;
    let was_open = root.was_open;
    root.killed_embedded = life.was_killed;
    root.take_note(&life, summary)?;
    // A child that closes the database may have ended before it was killed.
    let closes = matches!(moment, Moment::Never | Moment::During(Then::Close, _));
    let has_closed = closes && life.status.success() && life.events.last() == Some(&Event::Done);
    if !life.was_killed && !has_closed {
        bail!("the child ended by itself ({}), {}", life.status, said(&errors));
    }
    if !life.was_killed {
        return Ok(());
    }
    summary.kills += 1;
    let opened = life.events.iter().any(|event| matches!(event, Event::Opened(_)));
    let last = life.events.last();
    match moment {
        _ if !opened && !was_open => summary.kills_during_creation += 1,
        _ if !opened => summary.kills_during_recovery += 1,
        Moment::During(Then::Close, _) if last == Some(&Event::Then) => summary.kills_during_close += 1,
        Moment::During(..) if last == Some(&Event::Then) => summary.kills_during_maintenance += 1,
        _ => (),
    }
    // A directory with the name of a root must be a complete root.
    if root.path.exists() && !root.path.join("pglite-oxide.json").is_file() {
        bail!("a creation that was killed left a half-made root");
    }
    Ok(())
}

/// Starts a PostgreSQL server on the root, has a child work in it, and kills the server at the
/// given moment. The server recovers what a killed program left, and the other way round.
fn serve(root: &mut Root, moment: Moment, everything: bool, directory: &Path, summary: &mut Summary) -> Result<()> {
    let errors = directory.join("child.stderr");
    let server = Server::start(&root.path, &directory.join("server.log"))?;
    summary.recovered_by_servers += u64::from(root.killed_embedded);
    root.killed_embedded = false;
    let mut server = Some(server);
    let life = observe(root, Side::Server, moment, everything, &errors, || {
        if moment == Moment::Never { Ok(()) } else { server.take().map_or(Ok(()), Server::kill) }
    });
    let life = life.with_context(|| said(&errors))?;
    root.take_note(&life, summary)?;
    if moment == Moment::Never && life.events.last() != Some(&Event::Done) {
        bail!("the client of the server ended by itself ({}), {}", life.status, said(&errors));
    }
    match server {
        // The child had ended before the moment came.
        Some(server) => server.stop(),
        None => {
            summary.kills_of_servers += 1;
            Ok(())
        }
    }
}

fn observe(
    root: &Root,
    side: Side,
    moment: Moment,
    everything: bool,
    errors: &Path,
    at_the_moment: impl FnOnce() -> Result<()>,
) -> Result<Life> {
    let stderr = File::create(errors).with_context(|| format!("cannot make {}", errors.display()))?;
    let mut child = root
        .command(side, moment, everything)?
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .context("cannot start the child")?;
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("the child has no output"))?;
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        // An incomplete line was not written completely, so it was not reported.
        while lines.read_line(&mut line).is_ok_and(|count| count > 0) && line.ends_with('\n') {
            if sender.send(line.trim_end().to_string()).is_err() {
                return;
            }
            line.clear();
        }
    });
    let mut events = Vec::new();
    let waited = wait_for(moment, &receiver, &mut events);
    let done = at_the_moment();
    // It may have ended already; then this has no effect.
    let killed = child.kill();
    let status = child.wait().context("cannot wait for the child")?;
    reader.join().map_err(|_| anyhow!("the reader of the child's output panicked"))?;
    let late = receiver.try_iter().map(|line| parse(&line)).collect::<Result<Vec<_>>>()?;
    events.extend(late);
    killed.context("cannot kill the child")?;
    waited?;
    done?;
    Ok(Life { was_killed: is_killed(status), events, status })
}

/// Waits for the given moment or for the child's end.
fn wait_for(moment: Moment, receiver: &Receiver<String>, events: &mut Vec<Event>) -> Result<()> {
    let mut commits = 0;
    loop {
        let event = match receiver.recv_timeout(PATIENCE) {
            Ok(line) => parse(&line)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => bail!("the child hangs after {:?}", events.last()),
        };
        events.push(event);
        commits += u64::from(matches!(event, Event::Committed(_)));
        let wait_us = match (moment, event) {
            (Moment::Opening(us), Event::Opening) => Some(us),
            (Moment::Opened, Event::Opened(_)) => Some(0),
            (Moment::Commit { commits: wanted, after_us }, Event::Committed(_)) if commits == wanted => Some(after_us),
            (Moment::During(_, us), Event::Then) => Some(us),
            _ => None,
        };
        if let Some(us) = wait_us {
            // The pause sets the moment of the kill; it waits for no condition.
            thread::sleep(Duration::from_micros(us));
            return Ok(());
        }
    }
}

impl Moment {
    fn choose(rng: &mut Rng) -> Self {
        match rng.u32(0..100) {
            0..45 => Self::Commit { commits: rng.u64(1..200), after_us: short(rng) },
            45..55 => Self::Commit { commits: rng.u64(1..30), after_us: rng.u64(0..400_000) },
            55..65 => Self::Opened,
            65..80 => Self::During(Then::Checkpoint, short(rng)),
            80..85 => Self::During(Then::Vacuum, short(rng)),
            85..97 => Self::During(Then::Close, short(rng)),
            _ => Self::Never,
        }
    }
}

/// A random time, log-uniform from a few microseconds to some ten milliseconds, because durations
/// depend on the disk.
fn short(rng: &mut Rng) -> u64 {
    let limit = 1 << rng.u32(1..17);
    rng.u64(0..limit)
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening(us) => write!(f, "{us} µs after it began to open"),
            Self::Opened => write!(f, "when it had opened"),
            Self::Commit { commits, after_us } => write!(f, "{after_us} µs after {commits} commits"),
            Self::During(then, us) => write!(f, "{us} µs into its {then:?}"),
            Self::Never => write!(f, "never: closed"),
        }
    }
}

impl Root {
    fn new(directory: &Path, seed: u64, number: u64) -> Self {
        let path = directory.join(format!("root-{seed}-{number}"));
        let seed = workload::rng(seed, &[8, number]).u64(..);
        Self { path, seed, acknowledged: None, was_open: false, open_us: 150_000, killed_embedded: false }
    }

    fn command(&self, side: Side, moment: Moment, everything: bool) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.arg("child").arg("--root").arg(&self.path).arg("--seed").arg(self.seed.to_string());
        if let Some(last) = self.acknowledged {
            command.arg("--acknowledged").arg(last.to_string());
        }
        let then = match moment {
            Moment::During(Then::Checkpoint, _) => Some("checkpoint"),
            Moment::During(Then::Vacuum, _) => Some("vacuum"),
            Moment::During(Then::Close, _) | Moment::Never => Some("close"),
            _ => None,
        };
        if let Some(then) = then {
            let commits = if moment == Moment::Never { 3 } else { 40 };
            command.args(["--then", then, "--commits"]).arg(commits.to_string());
        }
        if everything {
            command.arg("--everything");
        }
        if side == Side::Server {
            command.arg("--server");
        }
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Updates the state from a child's reports, and checks that its numbers are consecutive.
    fn take_note(&mut self, life: &Life, summary: &mut Summary) -> Result<()> {
        for event in &life.events {
            match event {
                Event::Opened(ms) => {
                    self.was_open = true;
                    self.open_us = ms * 1000;
                    summary.opened_ms.push(*ms);
                }
                Event::Checked(ms, found) => {
                    summary.checks += 1;
                    summary.checked_ms.push(*ms);
                    // A transaction that was running when its process was killed may be present.
                    // Once seen, it must remain.
                    summary.unacknowledged += u64::from(*found != self.acknowledged);
                    self.acknowledged = *found;
                }
                Event::Committed(n) => {
                    if *n != self.acknowledged.map_or(0, |last| last + 1) {
                        bail!("transaction {n} was committed after {:?}", self.acknowledged);
                    }
                    summary.acknowledged += 1;
                    self.acknowledged = Some(*n);
                }
                Event::Opening | Event::Then | Event::Done => (),
            }
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "crash: {} commits acknowledged, none lost; {} more were there whole that had not been acknowledged",
            self.acknowledged, self.unacknowledged
        )?;
        writeln!(
            f,
            "crash: {} kills: {} during creation, {} during recovery, {} during a checkpoint or vacuum, {} during closing; {} checks passed",
            self.kills,
            self.kills_during_creation,
            self.kills_during_recovery,
            self.kills_during_maintenance,
            self.kills_during_close,
            self.checks,
        )?;
        if self.kills_of_servers > 0 {
            writeln!(
                f,
                "crash: {} kills of a server, recovered by the embedded database; {} kills of that, recovered by a server",
                self.kills_of_servers, self.recovered_by_servers
            )?;
        }
        write!(f, "crash: opening took {}, checking {}", spread(&self.opened_ms), spread(&self.checked_ms))
    }
}

/// Median and maximum.
fn spread(ms: &[u64]) -> String {
    let mut sorted = ms.to_vec();
    sorted.sort_unstable();
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(median), Some(largest)) => format!("{median} ms (median; at most {largest} ms)"),
        _ => "no time".to_string(),
    }
}

fn parse(line: &str) -> Result<Event> {
    Event::parse(line).ok_or_else(|| anyhow!("the child said {line:?}"))
}

fn said(errors: &Path) -> String {
    let mut text = String::new();
    let _ = File::open(errors).and_then(|mut file| file.read_to_string(&mut text));
    if text.trim().is_empty() { "and said nothing".to_string() } else { format!("and said: {}", text.trim()) }
}

#[cfg(unix)]
fn is_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    const SIGKILL: i32 = 9;
    status.signal() == Some(SIGKILL)
}

#[cfg(not(unix))]
fn is_killed(status: ExitStatus) -> bool {
    !status.success()
}
