//! Loss of power: a workload is recorded write by write; then disks are made as a loss of power at
//! some moment could have left them, and each is opened and checked. It owns the moments and the
//! losses; the recording file system (`pglite_oxide::dev`) owns the rules of what a disk may lose.
//! A state may also be recovered by a PostgreSQL server, whose result must be the same.

use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use pglite_oxide::Durability;
use pglite_oxide::dev::{
    self, Class, Fate, Fault, FaultFs, FileSystem, HostFs, ImageFs, LogFs, Operation, Plan, Recording,
};

use crate::check::{self, Depth, Expected, Violation};
use crate::native::{self, Server};
use crate::sql;
use crate::watch::{self, Failure};
use crate::workload::{self, Model, Scale};

/// Recorded transactions.
const TRANSACTIONS: u64 = 48;
/// Number of transactions after which the database is closed and reopened in the recording.
const SESSION: u64 = 20;
/// Maximum number of failures shown.
const SHOWN_MAX: usize = 10;
/// Maximum number of sectors that remain of a torn write: those of some pages.
const SECTORS: usize = 40;

/// The guarantee given to the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Commits are durable when they are acknowledged.
    Full,
    /// The last commits may be lost, but no others, and no part of one.
    Relaxed,
    /// As `Full`, on a disk that acknowledges syncs without performing them: the guarantee cannot
    /// hold.
    Swallowed,
}

/// A workload as the disk saw it.
struct Record {
    base: ImageFs,
    recording: Recording,
    /// Numbers of transactions, with the number of operations at the time of each acknowledgement.
    answered: Vec<(u64, usize)>,
    seed: u64,
    promise: Promise,
}

/// A moment and the losses at it.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Operations before it.
    prefix: usize,
    losses: Losses,
    /// Whether power is lost again during recovery.
    is_cut_twice: bool,
    seed: u64,
}

/// What happens to unsynced changes.
#[derive(Debug, Clone, Copy)]
enum Losses {
    All,
    None,
    /// Each is lost with this probability, independently.
    Some(f64),
    /// Each is lost with this probability; every other remaining one is torn.
    Torn(f64),
}

/// Checks `states` of a recorded workload, and that the same check fails where syncs are ignored.
/// With `servers`, a directory, a PostgreSQL server recovers them there as well.
pub(crate) fn run(states: usize, seed: u64, only: Option<usize>, servers: Option<&Path>) -> Result<()> {
    println!("power loss: {states} states, seed {seed}");
    let relaxed = states.div_ceil(4);
    for (promise, states) in
        [(Promise::Full, states), (Promise::Relaxed, relaxed), (Promise::Swallowed, 20.min(states))]
    {
        let record = Record::make(seed, promise).with_context(|| format!("recording with {promise:?}"))?;
        let states = record.states(states);
        let describe = |number: usize| states.get(number).map(|state| state.to_string()).unwrap_or_default();
        let failures = watch::each(states.len(), describe, |number| match only {
            Some(only) if only != number => Ok(()),
            _ => record.try_state(number, &states[number], servers).map_err(|violation| violation.to_string()),
        });
        judge(&record, &states, &failures, servers.is_some())?;
    }
    Ok(())
}

fn judge(record: &Record, states: &[State], failures: &[Failure], servers: bool) -> Result<()> {
    let operations = record.recording.operations.len();
    let commits = record.answered.len();
    let count = states.len();
    if record.promise == Promise::Swallowed {
        let lost = failures.iter().filter(|(_, failure)| failure.starts_with("LOST COMMITS")).count();
        println!(
            "power loss, syncs swallowed: {} of {count} states fail, {lost} of them for lost commits, as they must",
            failures.len()
        );
        if lost == 0 {
            bail!("syncs were swallowed and no commit was found lost: this test cannot fail");
        }
        return Ok(());
    }
    for (number, failure) in failures.iter().take(SHOWN_MAX) {
        eprintln!("state {number}, {}: {failure}", states[*number]);
    }
    if !failures.is_empty() {
        bail!("{} of {count} states of seed {} fail; --only NUMBER tries one again", failures.len(), record.seed);
    }
    println!(
        "power loss, {:?}: {count} states of {operations} operations and {commits} commits, all recovered{}",
        record.promise,
        if servers { ", by a server too, with the same result" } else { "" }
    );
    Ok(())
}

impl Record {
    fn make(seed: u64, promise: Promise) -> Result<Self> {
        let base = dev::template()?;
        let log = LogFs::new(Arc::new(base.copy())).map_err(|errno| anyhow::anyhow!("cannot record: {errno}"))?;
        let swallow = Plan { fault: Fault::Swallowed, class: Class::Sync, at: 0, lasting: true };
        let fs: Arc<dyn FileSystem> = match promise {
            Promise::Swallowed => Arc::new(FaultFs::new(Arc::new(log.clone()), swallow)),
            Promise::Full | Promise::Relaxed => Arc::new(log.clone()),
        };
        let durability = if promise == Promise::Relaxed { Durability::Relaxed } else { Durability::Full };
        let open = || dev::open(fs.clone(), durability, &[("max_wal_size", "32MB"), ("min_wal_size", "32MB")]);
        let mut db = open()?;
        for statement in workload::schema() {
            sql::run(&mut db, &statement.sql)?;
        }
        let mut answered = vec![(0, log.len())];
        let mut model = Model::new(seed, Scale::SHORT);
        for n in 1..=TRANSACTIONS {
            if n == SESSION {
                db.close()?;
                db = open()?;
            }
            for statement in model.next().statements() {
                if !sql::execute(&mut db, &statement)? {
                    bail!("{:.200} did not fail", statement.sql);
                }
            }
            answered.push((n, log.len()));
            let always: &[&str] = match n % 16 {
                5 => &["SELECT pg_switch_wal()"],
                9 => &["CHECKPOINT"],
                13 => &["VACUUM"],
                _ => &[],
            };
            for statement in always.iter().copied().chain(model.maintenance()) {
                sql::run(&mut db, statement).context(statement)?;
            }
        }
        db.close()?;
        Ok(Self { base, recording: log.recording(), answered, seed, promise })
    }

    /// Moments just before and after syncs, and between them. The first ones are spread over the
    /// whole recording.
    fn states(&self, count: usize) -> Vec<State> {
        let operations = &self.recording.operations;
        let syncs: Vec<usize> = operations
            .iter()
            .enumerate()
            .filter(|(_, op)| matches!(op, Operation::Sync(_)))
            .map(|(at, _)| at)
            .collect();
        let mut rng = workload::rng(self.seed, &[9]);
        // Start of the guarantee: the schema exists from here on.
        let first = self.answered.first().map_or(0, |(_, at)| *at);
        (0..count)
            .map(|number| {
                let prefix = match (rng.u32(0..6), syncs.get(number * syncs.len() / count)) {
                    (0 | 1, Some(sync)) => *sync,
                    (2 | 3, Some(sync)) => sync + 1,
                    (4, _) => rng.usize(0..=operations.len()),
                    _ => rng.usize(first..=operations.len()),
                };
                let probability = [0.1, 0.5, 0.9][rng.usize(0..3)];
                let losses = match rng.u32(0..10) {
                    0..2 => Losses::All,
                    2 => Losses::None,
                    3..6 => Losses::Some(probability),
                    _ => Losses::Torn(probability),
                };
                // A disk that syncs nothing loses everything.
                let losses = if self.promise == Promise::Swallowed && number % 2 == 0 { Losses::All } else { losses };
                State { prefix, losses, is_cut_twice: number % 4 == 3, seed: rng.u64(..) }
            })
            .collect()
    }

    fn try_state(&self, number: usize, state: &State, servers: Option<&Path>) -> Result<(), Violation> {
        let disk = self.rebuild(state).map_err(|error| broken("making the disk", error))?;
        let answered = self.answered.iter().take_while(|(_, at)| *at <= state.prefix).last();
        let expected = Expected {
            seed: self.seed,
            scale: Scale::SHORT,
            acknowledged: answered.map(|(n, _)| *n),
            may_lose: self.promise == Promise::Relaxed,
        };
        let by_server = match servers {
            Some(directory) => Some(recover_by_server(&disk, &directory.join(number.to_string()), &expected)?),
            None => None,
        };
        let mut last = None;
        // Twice, because the result of recovery must be a valid database as well.
        for depth in [Depth::Everything, Depth::Contents] {
            let mut db = dev::open(Arc::new(disk.clone()), Durability::Full, &[])
                .map_err(|error| broken("opening", error.to_string()))?;
            let found = check::check(
                &mut db,
                &Expected { acknowledged: last.unwrap_or(expected.acknowledged), ..expected },
                depth,
            )?;
            last = Some(found);
            db.close().map_err(|error| broken("closing", error.to_string()))?;
        }
        match (by_server, last) {
            (Some(server), Some(ours)) if server != ours => {
                let error = format!("a server finds transaction {server:?} as the last one, this crate {ours:?}");
                Err(broken("recovery", error))
            }
            _ => Ok(()),
        }
    }

    fn rebuild(&self, state: &State) -> Result<ImageFs, String> {
        let fates = state.losses.fates(workload::rng(state.seed, &[10]));
        let disk = self.recording.rebuild(&self.base, state.prefix, fates).map_err(|errno| errno.to_string())?;
        if !state.is_cut_twice {
            return Ok(disk);
        }
        // Power is lost again during recovery.
        let log = LogFs::new(Arc::new(disk.copy())).map_err(|errno| errno.to_string())?;
        let db = dev::open(Arc::new(log.clone()), Durability::Full, &[]).map_err(|error| error.to_string())?;
        db.close().map_err(|error| error.to_string())?;
        let mut rng = workload::rng(state.seed, &[11]);
        let prefix = rng.usize(0..=log.len());
        let again = log.recording().rebuild(&disk, prefix, state.losses.fates(rng));
        again.map_err(|errno| errno.to_string())
    }
}

/// Has a PostgreSQL server recover a copy of the disk, below a directory that is made and removed.
/// The check compares the contents with the model; the number of the last transaction is returned.
fn recover_by_server(disk: &ImageFs, root: &Path, expected: &Expected) -> Result<Option<u64>, Violation> {
    let broken = |error: anyhow::Error| broken("recovery by a server", format!("{error:#}"));
    let data = native::data(root);
    let copy = || -> Result<()> {
        // A server rejects a directory that others may enter.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&data);
        made.with_context(|| format!("cannot make {}", data.display()))?;
        let to = HostFs::open(&data).with_context(|| format!("cannot open {}", data.display()))?;
        Ok(dev::copy(disk, &to)?)
    };
    copy().map_err(broken)?;
    let server = Server::start(root, &root.join("log")).map_err(broken)?;
    let mut client = native::connect(root).map_err(broken)?;
    let found = check::check(&mut client, expected, Depth::Everything)?;
    drop(client);
    server.stop().map_err(broken)?;
    fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display())).map_err(broken)?;
    Ok(found)
}

fn broken(what: &str, error: String) -> Violation {
    Violation::Broken { what: what.to_string(), error }
}

impl Losses {
    fn fates(self, mut rng: Rng) -> impl FnMut(usize) -> Fate {
        move |_| match self {
            Self::All => Fate::Lost,
            Self::None => Fate::Kept,
            Self::Some(probability) | Self::Torn(probability) if rng.f64() < probability => Fate::Lost,
            Self::Torn(_) if rng.bool() => Fate::Torn(rng.usize(0..SECTORS)),
            Self::Some(_) | Self::Torn(_) => Fate::Kept,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power lost after operation {}, ", self.prefix)?;
        match self.losses {
            Losses::All => write!(f, "everything lost that was not synced"),
            Losses::None => write!(f, "nothing lost"),
            Losses::Some(probability) => write!(f, "each change lost with probability {probability}"),
            Losses::Torn(probability) => write!(f, "each change lost with probability {probability}, others torn"),
        }?;
        if self.is_cut_twice { write!(f, "; and again during recovery") } else { Ok(()) }
    }
}
