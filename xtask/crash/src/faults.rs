//! Disk faults: a small workload on a disk whose n-th operation fails, for every n. It owns the
//! faults that are tried and the outcomes that are allowed: errors, or the end of the session, but
//! never a wrong answer, and never a lost commit once the disk works again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};
use pglite_oxide::dev::{self, Class, Fault, FaultFs, ImageFs, Plan};
use pglite_oxide::{Durability, Error, ErrorKind, Pglite};

use crate::check::{self, Depth, Expected, Violation};
use crate::sql;
use crate::watch;
use crate::workload::{self, Model, Scale};

/// Transactions of the workload.
const TRANSACTIONS: u64 = 8;
/// Number of transactions after which a checkpoint is requested and the database reopened.
const CHECKPOINT: u64 = 3;
const SESSION: u64 = 5;
/// Number of consecutive failures that end the workload: the disk stays broken.
const FAILURES_MAX: u32 = 3;
/// Maximum number of failures shown.
const SHOWN_MAX: usize = 10;

/// The kinds of faults and the operations that they apply to.
const KINDS: [(Fault, Class); 8] = [
    (Fault::Io, Class::Read),
    (Fault::Io, Class::Write),
    (Fault::Io, Class::Sync),
    (Fault::Io, Class::Name),
    (Fault::Full, Class::Write),
    (Fault::Full, Class::Sync),
    (Fault::Full, Class::Name),
    (Fault::Short, Class::Write),
];

/// One fault.
#[derive(Debug, Clone, Copy)]
struct Case(Plan);

/// The outcome of the workload.
#[derive(Debug, Default)]
struct Outcome {
    acknowledged: Option<u64>,
    /// Errors that the session survived, and ends of sessions.
    errors: u32,
    ends: u32,
}

impl Outcome {
    /// The last commit may have been unacknowledged, so there can be one more.
    fn is_done(&self) -> bool {
        self.acknowledged >= Some(TRANSACTIONS)
    }
}

/// The outcomes of all cases.
#[derive(Debug, Default)]
struct Seen {
    errors: AtomicU32,
    ends: AtomicU32,
}

/// Tries every `stride`-th operation.
pub(crate) fn run(stride: u64, seed: u64, only: Option<usize>) -> Result<()> {
    println!("disk faults: one in {stride} operations, seed {seed}");
    let base = dev::template()?;
    let mut cases = Vec::new();
    for (fault, class) in KINDS {
        // Without a fault: counts the operations.
        let plan = Plan { fault, class, at: u64::MAX, lasting: false };
        let fs = FaultFs::new(Arc::new(base.copy()), plan);
        let outcome = workload(&fs, seed)?;
        if outcome.acknowledged != Some(TRANSACTIONS) || outcome.errors + outcome.ends > 0 {
            bail!("the workload fails on a good disk: {outcome:?}");
        }
        let before = cases.len();
        for at in (0..fs.count()).step_by(usize::try_from(stride.max(1))?) {
            cases.extend([false, true].map(|lasting| Case(Plan { fault, class, at, lasting })));
        }
        println!("disk faults: {fault:?} in {class:?}: {} operations, {} cases", fs.count(), cases.len() - before);
    }
    let seen = Seen::default();
    let describe = |number: usize| cases.get(number).map(Case::to_string).unwrap_or_default();
    let failures = watch::each(cases.len(), describe, |number| match only {
        Some(only) if only != number => Ok(()),
        _ => {
            let outcome = try_case(&base, cases[number].0, seed).map_err(|violation| violation.to_string())?;
            seen.errors.fetch_add(outcome.errors, Ordering::Relaxed);
            seen.ends.fetch_add(outcome.ends, Ordering::Relaxed);
            Ok(())
        }
    });
    for (number, failure) in failures.iter().take(SHOWN_MAX) {
        eprintln!("case {number}, {}: {failure}", cases[*number]);
    }
    if !failures.is_empty() {
        bail!("{} of {} cases of seed {seed} fail; --only NUMBER tries one again", failures.len(), cases.len());
    }
    let (errors, ends) = (seen.errors.into_inner(), seen.ends.into_inner());
    println!(
        "disk faults: {} cases with {errors} errors that the session survived and {ends} sessions that ended; no wrong answer and no commit lost",
        cases.len(),
    );
    if only.is_none() && (errors == 0 || ends == 0) {
        bail!("no fault was noticed by anyone: this test cannot fail");
    }
    Ok(())
}

fn try_case(base: &ImageFs, plan: Plan, seed: u64) -> Result<Outcome, Violation> {
    let disk = base.copy();
    let fs = FaultFs::new(Arc::new(disk.clone()), plan);
    let outcome = workload(&fs, seed)?;
    fs.heal();
    let mut acknowledged = outcome.acknowledged;
    // Once after the fault, and once after recovery and more work.
    for depth in [Depth::Pages, Depth::Contents] {
        let mut db =
            dev::open(Arc::new(disk.clone()), Durability::Full, &[]).map_err(broken("opening after the fault"))?;
        let expected = Expected { seed, scale: Scale::TINY, acknowledged, may_lose: false };
        let found = check::check(&mut db, &expected, depth)?;
        let mut model = found.map(|last| Model::after(seed, Scale::TINY, last));
        acknowledged = found;
        for _ in 0..2 {
            acknowledged = Some(commit(&mut db, &mut model, seed).map_err(broken("a transaction after the fault"))?);
        }
        db.close().map_err(broken("closing after the fault"))?;
    }
    Ok(outcome)
}

/// Runs the workload as far as the disk allows. A wrong answer is a violation; an error is not.
fn workload(fs: &FaultFs, seed: u64) -> Result<Outcome, Violation> {
    let mut outcome = Outcome::default();
    let mut sessions = 0;
    while outcome.errors + outcome.ends < FAILURES_MAX && !outcome.is_done() && sessions < 4 {
        sessions += 1;
        let mut db = match dev::open(Arc::new(fs.clone()), Durability::Full, &[]) {
            Ok(db) => db,
            Err(error) => {
                is_clean(&error)?;
                outcome.ends += 1;
                continue;
            }
        };
        match session(&mut db, seed, &mut outcome) {
            Ok(()) => (),
            Err(End::Error(error)) => {
                is_clean(&error)?;
                outcome.ends += 1;
            }
            Err(End::Violation(violation)) => return Err(violation),
        }
        // Closing the session may fail as well.
        if let Err(error) = db.close() {
            is_clean(&error)?;
            outcome.ends += 1;
        }
    }
    Ok(outcome)
}

/// Why a session could not be closed.
enum End {
    Error(Error),
    Violation(Violation),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn session(db: &mut Pglite, seed: u64, outcome: &mut Outcome) -> Result<(), End> {
    // Reads the state again: an unacknowledged commit may be present.
    let last = match sql::rows(db, "SELECT to_regclass('ledger')") {
        Ok(rows) if rows == [[None]] => None,
        Ok(_) => sql::number(db, "SELECT max(n) FROM ledger")?,
        Err(error) => return Err(End::Error(error)),
    };
    let next = outcome.acknowledged.map_or(0, |last| last + 1);
    if last < outcome.acknowledged {
        return Err(End::Violation(Violation::Lost { acknowledged: outcome.acknowledged, found: last }));
    }
    if let Some(found) = last.filter(|last| *last > next) {
        return Err(End::Violation(Violation::Unexpected { acknowledged: outcome.acknowledged, found }));
    }
    outcome.acknowledged = last;
    let mut model = last.map(|last| Model::after(seed, Scale::TINY, last));
    while !outcome.is_done() {
        let before = model.clone();
        match commit(db, &mut model, seed) {
            Ok(number) => outcome.acknowledged = Some(number),
            Err(error) if error.kind() == ErrorKind::Database => {
                outcome.errors += 1;
                model = before;
                sql::run(db, "ROLLBACK")?;
            }
            Err(error) => return Err(End::Error(error)),
        }
        // In every case, an answer must be right.
        if let Some(model) = &model {
            match check::compare(db, model) {
                Ok(()) => (),
                Err(Violation::Broken { .. }) => outcome.errors += 1,
                Err(violation) => return Err(End::Violation(violation)),
            }
        }
        if outcome.acknowledged == Some(CHECKPOINT) {
            match sql::run(db, "CHECKPOINT") {
                Err(error) if error.kind() == ErrorKind::Database => outcome.errors += 1,
                result => result?,
            }
        }
        if outcome.errors + outcome.ends >= FAILURES_MAX {
            return Ok(());
        }
        if outcome.acknowledged == Some(SESSION) && outcome.errors == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Commits the next transaction, or the schema, and returns its number.
fn commit(db: &mut Pglite, model: &mut Option<Model>, seed: u64) -> Result<u64, Error> {
    let Some(model) = model else {
        for statement in workload::schema() {
            sql::run(db, &statement.sql)?;
        }
        *model = Some(Model::new(seed, Scale::TINY));
        return Ok(0);
    };
    let transaction = model.next();
    for statement in transaction.statements() {
        sql::execute(db, &statement)?;
    }
    Ok(transaction.number)
}

/// Errors that a program can handle. Another kind would be a fault of the crate.
fn is_clean(error: &Error) -> Result<(), Violation> {
    match error.kind() {
        ErrorKind::Database | ErrorKind::Closed | ErrorKind::Crashed | ErrorKind::Io => Ok(()),
        kind => Err(Violation::Broken { what: format!("the kind of an error, {kind:?}"), error: error.to_string() }),
    }
}

fn broken(what: &'static str) -> impl Fn(Error) -> Violation {
    move |error| Violation::Broken { what: what.to_string(), error: error.to_string() }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { fault, class, at, lasting } = self.0;
        write!(f, "{fault:?} at operation {at} of {class:?}{}", if lasting { " and all later ones" } else { "" })
    }
}
