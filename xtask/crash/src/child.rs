//! The process that is killed: opens a root, checks what its predecessors left, and commits
//! transactions until it is killed. It owns the format of its progress messages to the parent.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pglite_oxide::{Durability, Pglite};

use crate::check::{self, Depth, Expected};
use crate::native;
use crate::sql::{self, Sql};
use crate::workload::{self, Model, Scale};

/// Parameters of the child.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The root.
    #[arg(long)]
    pub(crate) root: PathBuf,
    /// Seed of the transactions.
    #[arg(long)]
    pub(crate) seed: u64,
    /// Number of the last transaction that was acknowledged.
    #[arg(long)]
    pub(crate) acknowledged: Option<u64>,
    /// The action after some commits.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) then: Then,
    /// The number of those commits.
    #[arg(long, default_value_t = 0)]
    pub(crate) commits: u64,
    /// Look at every page of the catalogs too.
    #[arg(long)]
    pub(crate) everything: bool,
    /// Work on the root's data directory through the PostgreSQL server that runs on it.
    #[arg(long)]
    pub(crate) server: bool,
}

/// The action of a child after its commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Then {
    /// Continues until it is killed.
    #[default]
    GoOn,
    /// Makes a checkpoint and continues.
    Checkpoint,
    /// Vacuums everything and continues.
    Vacuum,
    /// Closes the database and ends.
    Close,
}

/// The progress of a child. Each is one line of output, written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// About to open the root.
    Opening,
    /// The root is open; with the time in milliseconds.
    Opened(u64),
    /// The check passed; with its time in milliseconds and the number of the last transaction.
    Checked(u64, Option<u64>),
    /// COMMIT of this transaction was acknowledged.
    Committed(u64),
    /// About to perform the `Then` action.
    Then,
    /// The action is done.
    Done,
}

impl Event {
    /// Reads a line without its end.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (word, number) = (words.next()?, words.next().map(str::parse));
        match (word, number) {
            ("opening", None) => Some(Self::Opening),
            ("opened", Some(Ok(ms))) => Some(Self::Opened(ms)),
            ("checked", Some(Ok(ms))) => match words.next()? {
                "nothing" => Some(Self::Checked(ms, None)),
                last => Some(Self::Checked(ms, Some(last.parse().ok()?))),
            },
            ("committed", Some(Ok(n))) => Some(Self::Committed(n)),
            ("then", None) => Some(Self::Then),
            ("done", None) => Some(Self::Done),
            _ => None,
        }
    }

    fn line(self) -> String {
        match self {
            Self::Opening => "opening\n".to_string(),
            Self::Opened(ms) => format!("opened {ms}\n"),
            Self::Checked(ms, None) => format!("checked {ms} nothing\n"),
            Self::Checked(ms, Some(last)) => format!("checked {ms} {last}\n"),
            Self::Committed(n) => format!("committed {n}\n"),
            Self::Then => "then\n".to_string(),
            Self::Done => "done\n".to_string(),
        }
    }
}

/// Runs until it is killed or done.
pub(crate) fn run(options: &Options) -> Result<()> {
    say(Event::Opening)?;
    let start = Instant::now();
    if options.server {
        let mut server = native::connect(&options.root)?;
        say(Event::Opened(ms(start)))?;
        return if work(&mut server, options)? { say(Event::Done) } else { Ok(()) };
    }
    let mut builder = Pglite::builder().path(&options.root).durability(Durability::Full);
    for (name, value) in settings(options.seed) {
        builder = builder.setting(name, value);
    }
    let mut db = builder.open().context("cannot open the root")?;
    say(Event::Opened(ms(start)))?;
    if work(&mut db, options)? {
        db.close()?;
        say(Event::Done)?;
    }
    Ok(())
}

/// Checks the database and works in it until it is to be closed.
fn work<D: Sql>(db: &mut D, options: &Options) -> Result<bool> {
    let seed = options.seed;
    let start = Instant::now();
    let expected = Expected { seed, scale: Scale::LONG, acknowledged: options.acknowledged, may_lose: false };
    let depth = if options.everything { Depth::Everything } else { Depth::Pages };
    let found = check::check(db, &expected, depth)?;
    say(Event::Checked(ms(start), found))?;

    let mut model = match found {
        Some(last) => Model::after(seed, Scale::LONG, last),
        None => {
            for statement in workload::schema() {
                sql::run(db, &statement.sql).with_context(|| statement.sql.clone())?;
            }
            say(Event::Committed(0))?;
            Model::new(seed, Scale::LONG)
        }
    };
    let mut commits = 0;
    loop {
        if commits == options.commits && options.then != Then::GoOn {
            say(Event::Then)?;
            match options.then {
                Then::GoOn => (),
                Then::Checkpoint => sql::run(db, "CHECKPOINT")?,
                Then::Vacuum => sql::run(db, "VACUUM")?,
                Then::Close => return Ok(true),
            }
            say(Event::Done)?;
        }
        let transaction = model.next();
        for statement in transaction.statements() {
            let did = sql::execute(db, &statement);
            let shown = || format!("transaction {}: {:.200}", transaction.number, statement.sql);
            if !did.with_context(shown)? {
                bail!("{} did not fail", shown());
            }
        }
        say(Event::Committed(transaction.number))?;
        for statement in model.maintenance() {
            sql::run(db, statement).context(statement)?;
        }
        commits += 1;
    }
}

/// Settings of a root that make rare events frequent: some roots have checkpoints by size and by
/// time, some a busy autovacuum.
fn settings(seed: u64) -> Vec<(&'static str, &'static str)> {
    let mut rng = workload::rng(seed, &[6]);
    let mut settings = Vec::new();
    if rng.bool() {
        settings.extend([("max_wal_size", "32MB"), ("min_wal_size", "32MB")]);
    }
    if rng.bool() {
        settings.extend([("autovacuum_naptime", "1s"), ("autovacuum_vacuum_threshold", "10")]);
    }
    if rng.bool() {
        settings.push(("shared_buffers", "2MB"));
    }
    settings
}

/// Reports to the parent. A missing parent ends the process.
fn say(event: Event) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(event.line().as_bytes()).and_then(|()| stdout.flush()).context("the parent is gone")
}

fn ms(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_they_are_written() {
        for event in [
            Event::Opening,
            Event::Opened(12),
            Event::Checked(0, None),
            Event::Checked(3, Some(4)),
            Event::Committed(77),
            Event::Then,
            Event::Done,
        ] {
            let line = event.line();
            assert_eq!(Event::parse(line.trim_end()), Some(event));
            assert!(line.ends_with('\n'));
        }
        assert_eq!((Event::parse("committed"), Event::parse("committed x"), Event::parse("")), (None, None, None));
    }
}
