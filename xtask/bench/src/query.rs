//! `perf query`: the time of statements on both sides. It owns the cases and the order of
//! measurements: in each round, every side in turn.

use std::time::{Duration, Instant};

use crate::Common;
use crate::error::{Context as _, Error, Result};
use crate::machine::{self, Machine};
use crate::ours::Ours;
use crate::report::{LeftOut, Report, Row, Table, Unit};
use crate::session::{Operation, Session};
use crate::theirs::{Address, Theirs};

/// Length of one sample of a round-trip case.
const SAMPLE: Duration = Duration::from_millis(60);
const SAMPLE_QUICK: Duration = Duration::from_millis(5);
/// SQLSTATE of endless recursion: statement_too_complex, "stack depth limit exceeded".
const TOO_DEEP: &str = "54001";
const DIVISION_BY_ZERO: &str = "22012";
/// Rows with 768 dimensions: about a million numbers.
const EMBEDDINGS: u32 = 1302;
/// Errors caught in one statement.
const CAUGHT: u32 = 1000;

/// One case to measure.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Run before each measurement and not measured.
    before: Option<String>,
    work: Work,
    /// Number of repetitions inside one measured statement.
    times: u32,
}

#[derive(Debug)]
pub(crate) enum Work {
    /// Rows of the answer are counted.
    Simple {
        sql: String,
        rows: usize,
    },
    Bare {
        sql: &'static str,
        rows: usize,
    },
    Sync,
    Prepared {
        sql: &'static str,
        parameters: &'static [i32],
    },
    Failure {
        sql: &'static str,
        state: &'static str,
    },
    CopyIn {
        sql: &'static str,
        rows: u32,
    },
}

impl Work {
    fn operation(&self) -> Operation {
        match self {
            Self::Simple { .. } | Self::Failure { .. } => Operation::Simple,
            Self::Bare { .. } => Operation::Bare,
            Self::Sync => Operation::Sync,
            Self::Prepared { .. } => Operation::Prepared,
            Self::CopyIn { .. } => Operation::CopyIn,
        }
    }
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, work: Work) -> Self {
        Self { name: name.into(), before: None, work, times: 1 }
    }

    pub(crate) fn before(self, sql: impl Into<String>) -> Self {
        Self { before: Some(sql.into()), ..self }
    }
}

/// How large the data is.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Rows of the tables that are read.
    rows: u32,
    /// Rows that are written at once.
    bulk: u32,
    sample: Duration,
}

impl Scale {
    fn new(quick: bool) -> Self {
        if quick {
            Self { rows: 10_000, bulk: 20_000, sample: SAMPLE_QUICK }
        } else {
            Self { rows: 100_000, bulk: 1_000_000, sample: SAMPLE }
        }
    }
}

/// Measures everything, writes the file and prints the tables.
pub(crate) fn run(address: &Address, durable: &Address, common: &Common) -> Result<()> {
    let mut machine = Machine::describe(&address.directory);
    let cores = machine::cores()?;
    let (here, there) = match cores[..] {
        [] => return Err(Error::new("there is no core to run on")),
        [only] => (only, None),
        [first, second, ..] => (first, Some(second)),
    };
    machine::pin_this_thread(here)?;
    let mut columns = vec!["pglite-oxide".to_owned(), "native, same core".to_owned()];
    let mut sides: Vec<Box<dyn Session>> =
        vec![Box::new(Ours::temporary()?), Box::new(Theirs::connect(address, Some(here))?)];
    if let Some(there) = there {
        columns.push("native, two cores".to_owned());
        sides.push(Box::new(Theirs::connect(address, Some(there))?));
    }
    let scale = Scale::new(common.quick);
    for (index, side) in sides.iter_mut().enumerate() {
        set_up(side.as_mut(), index, scale)?;
    }

    let mut left_out = Vec::new();
    let mut tables = Vec::new();
    for (title, unit, cases) in [
        ("Chatty: time of one operation", Unit::Microseconds, chatty()),
        ("Compute-bound: time of one statement", Unit::Milliseconds, compute(scale)),
    ] {
        let mut rows = Vec::new();
        for case in &cases {
            eprintln!("perf query: {}", case.name);
            if sides[0].offers(case.work.operation()) {
                let samples = measure(&mut sides, case, common.rounds(), unit, scale.sample)?;
                rows.push(Row::new(&case.name, unit, &samples.into_iter().map(Some).collect::<Vec<_>>()));
            } else {
                let why = format!("pglite-oxide's interface has no {:?} yet", case.work.operation());
                left_out.push(LeftOut { case: case.name.clone(), why });
            }
        }
        tables.push(Table { title: title.to_owned(), columns: columns.clone(), rows });
    }
    tables.push(depth(&mut sides, &columns)?);
    tables.push(durable_commits(durable, here, common.rounds(), scale)?);

    machine.load_after = machine::load();
    let mut conditions = vec![
        format!("ours and the native client run on core {here}; the native server's process for the client on the same core{}",
            there.map_or_else(String::new, |core| format!(", or in the last column on core {core}"))),
        "native through a Unix socket and the `postgres` crate; the cases named \"bare\" through a socket without a client library".to_owned(),
        "a time is the median of all rounds (smallest…largest); a ratio is taken within each round".to_owned(),
    ];
    conditions.push(
        "ours is one process and has no just-in-time compiler and no parallel workers, whatever its settings say"
            .to_owned(),
    );
    conditions.extend(settings(&mut sides, &common.settings)?);
    let report = Report {
        benchmark: "query",
        quick: common.quick,
        rounds: common.rounds(),
        machine,
        versions: vec![
            format!("ours: {}", sides[0].value("SELECT version()")?),
            format!("native: {}", sides[1].value("SELECT version()")?),
        ],
        conditions,
        tables,
        left_out,
    };
    report.write(&common.json)?;
    println!("{}\nresult in {}", report.render(), common.json.display());
    Ok(())
}

/// Commits that are durable when they return, on both sides, with their data on the same file
/// system.
fn durable_commits(address: &Address, core: usize, rounds: u32, scale: Scale) -> Result<Table> {
    let directory = tempfile::tempdir_in(&address.directory)
        .context(|| "cannot make a directory beside the native server's".into())?;
    let mut sides: Vec<Box<dyn Session>> = vec![
        Box::new(Ours::persistent(&directory.path().join("root"))?),
        Box::new(Theirs::connect(address, Some(core))?),
    ];
    for side in &mut sides {
        side.simple("CREATE TABLE events (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), note text)")?;
    }
    let insert = Work::Simple { sql: "INSERT INTO events (note) VALUES ('something happened')".to_owned(), rows: 0 };
    let case = Case::new("single-row insert, autocommit, durable", insert).before("TRUNCATE events");
    let samples = measure(&mut sides, &case, rounds, Unit::Microseconds, scale.sample)?;
    let row = Row::new(&case.name, Unit::Microseconds, &samples.into_iter().map(Some).collect::<Vec<_>>());
    let columns = ["pglite-oxide", "native, same core"].map(String::from).to_vec();
    Ok(Table { title: "Durable: time of one commit, most of it the disk's".to_owned(), columns, rows: vec![row] })
}

/// Runs a case on the embedded side repeatedly, for a profiler.
pub(crate) fn profile(name: &str, seconds: u64) -> Result<()> {
    let scale = Scale::new(false);
    let cases = chatty().into_iter().chain(compute(scale));
    let case = cases
        .filter(|case| case.name.contains(name))
        .find(|case| !matches!(case.work, Work::Sync | Work::Prepared { .. } | Work::CopyIn { .. }))
        .ok_or_else(|| Error::new(format!("no case that our side offers is called {name}")))?;
    let mut ours = Ours::temporary()?;
    set_up(&mut ours, 0, scale)?;
    let rows = prepare(&mut ours, &case)?;
    let mut each = repeat(&mut ours, &case, &rows, 1)?;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        let times = fitting(each, Duration::from_millis(200));
        each = repeat(&mut ours, &case, &rows, times)?;
        count += times;
    }
    let each = each * 1e6 / f64::from(case.times);
    println!("{}: {count} times, the last ones {each:.2} µs each", case.name);
    Ok(())
}

fn chatty() -> Vec<Case> {
    let insert = || Work::Simple { sql: "INSERT INTO events (note) VALUES ('something happened')".to_owned(), rows: 0 };
    vec![
        Case::new("Sync alone (bare)", Work::Sync),
        Case::new("empty statement, simple (bare)", Work::Bare { sql: "", rows: 0 }),
        Case::new("SELECT 1, simple (bare)", Work::Bare { sql: "SELECT 1", rows: 1 }),
        Case::new("SELECT 1, simple", Work::Simple { sql: "SELECT 1".to_owned(), rows: 1 }),
        Case::new("SELECT 1, prepared", Work::Prepared { sql: "SELECT 1", parameters: &[] }),
        Case::new("SELECT $1, prepared", Work::Prepared { sql: "SELECT $1::int4", parameters: &[7] }),
        Case::new(
            "one row by primary key, simple",
            Work::Simple { sql: "SELECT * FROM items WHERE id = 4711".to_owned(), rows: 1 },
        ),
        Case::new("single-row insert, autocommit, not synced", insert()).before("TRUNCATE events"),
        Case::new("error, uncaught", Work::Failure { sql: "SELECT 1/0", state: DIVISION_BY_ZERO }),
        Case {
            times: CAUGHT,
            ..Case::new(
                "error, caught in a PL/pgSQL loop",
                Work::Simple {
                    sql: format!(
                        "DO $$ DECLARE x int; BEGIN FOR i IN 1..{CAUGHT} LOOP \
                         BEGIN x := 1 / (i - i); EXCEPTION WHEN division_by_zero THEN x := 0; END; END LOOP; END $$"
                    ),
                    rows: 0,
                },
            )
        },
    ]
}

fn compute(scale: Scale) -> Vec<Case> {
    let Scale { rows, bulk, .. } = scale;
    let simple = |name: &str, sql: String, rows: u32| Case::new(name, Work::Simple { sql, rows: rows as usize });
    let text = |sql: &str| sql.to_owned();
    vec![
        simple("fetch a table", text("SELECT * FROM items"), rows),
        simple("aggregate", text("SELECT count(*), sum(price), avg(grp), max(name) FROM items"), 1),
        simple("filter with LIKE", text("SELECT count(*) FROM items WHERE name LIKE '%77%'"), 1),
        simple(
            "hash join",
            text("SELECT count(*), sum(o.amount) FROM items i JOIN orders o ON o.item = i.id WHERE i.grp < 90"),
            1,
        ),
        simple("sort by text", text("SELECT name FROM items ORDER BY name OFFSET 1000000"), 0),
        simple("group by", text("SELECT grp, count(*), avg(price) FROM items GROUP BY grp"), 97),
        simple(
            "PL/pgSQL loop, 1,000,000 turns",
            text("DO $$ DECLARE s bigint := 0; BEGIN FOR i IN 1..1000000 LOOP s := s + i % 7; END LOOP; END $$"),
            0,
        ),
        simple(
            "bulk insert",
            format!("INSERT INTO bulk SELECT g, g % 97, 'row ' || g FROM generate_series(1, {bulk}) g"),
            0,
        )
        .before("TRUNCATE bulk"),
        simple("index build on it", text("CREATE INDEX bulk_note ON bulk (note)"), 0)
            .before("DROP INDEX IF EXISTS bulk_note"),
        simple("text to float8", text("SELECT sum(number::float8) FROM texts"), 1),
        simple("text to float8, small exponents", text("SELECT sum(small::float8) FROM texts"), 1),
        simple("text to timestamp with a fraction", text("SELECT max(at::timestamp) FROM texts"), 1),
        simple("text to vector(16)", text("SELECT count(list::vector(16)) FROM texts"), 1),
        simple(
            "distances of halfvec(768), 1,000,000 dimensions",
            text("SELECT sum(e <=> (SELECT e FROM embeddings LIMIT 1)) FROM embeddings"),
            1,
        ),
        Case::new("COPY in", Work::CopyIn { sql: "COPY bulk FROM STDIN", rows: bulk })
            .before("DROP INDEX IF EXISTS bulk_note; TRUNCATE bulk"),
    ]
}

/// Creates the tables and settings of one side. Sides on the same server have separate schemas.
fn set_up(side: &mut dyn Session, index: usize, scale: Scale) -> Result<()> {
    let rows = scale.rows;
    side.simple(&format!("CREATE SCHEMA side{index}"))?;
    side.simple(&format!("SET search_path = side{index}, public"))?;
    side.simple(
        "CREATE TABLE items (id int PRIMARY KEY, grp int, name text, price float8);
         CREATE TABLE orders (id int PRIMARY KEY, item int, amount int);
         CREATE TABLE events (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), note text);
         CREATE TABLE bulk (id int, grp int, note text);
         CREATE SEQUENCE depth;
         CREATE FUNCTION descend(n int) RETURNS int LANGUAGE plpgsql AS
             $$ BEGIN PERFORM nextval('depth'); RETURN descend(n + 1) + 1; END $$;",
    )?;
    side.simple(&format!(
        "INSERT INTO items SELECT g, g % 97, 'item number ' || g * 7919 % {rows}, g * 0.25 FROM generate_series(1, {rows}) g;
         INSERT INTO orders SELECT g, g * 31 % {rows} + 1, g % 50 FROM generate_series(1, {rows}) g;"
    ))?;
    side.simple("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")?;
    side.simple(&format!(
        "CREATE TABLE texts AS SELECT (g * 0.123456789)::text AS number, '1.5e-' || 200 + g % 100 AS small,
             ('2026-01-01'::timestamp + g * '1.234567 s'::interval)::text AS at,
             (SELECT '[' || string_agg((0.001 * (g % 977 + i))::text, ',') || ']' FROM generate_series(1, 16) i) AS list
             FROM generate_series(1, {rows}) g;
         CREATE TABLE embeddings AS SELECT
             (SELECT array_agg(sin(g * 768 + i)) FROM generate_series(1, 768) i)::vector(768)::halfvec(768) AS e
             FROM generate_series(1, {EMBEDDINGS}) g;"
    ))?;
    // Sets hint bits and statistics, so that no side does this work during a measurement.
    for table in ["items", "orders", "texts", "embeddings"] {
        side.simple(&format!("VACUUM ANALYZE {table}"))?;
    }
    Ok(())
}

/// Samples of each side, one for each round, in the unit.
pub(crate) fn measure(
    sides: &mut [Box<dyn Session>],
    case: &Case,
    rounds: u32,
    unit: Unit,
    sample: Duration,
) -> Result<Vec<Vec<f64>>> {
    let mut counts = Vec::new();
    let mut inputs = Vec::new();
    // The warm-up round also determines how many repetitions of a round-trip statement fit into a
    // sample.
    for side in sides.iter_mut() {
        let rows = prepare(side.as_mut(), case)?;
        let once = repeat(side.as_mut(), case, &rows, 1)?;
        counts.push(match unit {
            Unit::Microseconds => {
                let again = repeat(side.as_mut(), case, &rows, 20.min(fitting(once, sample)))?;
                fitting(again, sample)
            }
            _ => 1,
        });
        inputs.push(rows);
    }
    let mut samples = vec![Vec::new(); sides.len()];
    for round in 0..rounds as usize {
        for turn in 0..sides.len() {
            // Each round begins with another side, so that the order varies.
            let index = (turn + round) % sides.len();
            let side = sides[index].as_mut();
            let each = repeat(side, case, &inputs[index], counts[index])?;
            let scale = if unit == Unit::Microseconds { 1e6 } else { 1e3 };
            samples[index].push(each * scale / f64::from(case.times));
        }
    }
    Ok(samples)
}

/// Number of repetitions of a case with this duration that fit into a sample.
fn fitting(seconds: f64, sample: Duration) -> u32 {
    (sample.as_secs_f64() / seconds.max(1e-9)).clamp(1.0, 1e6) as u32
}

/// Prepares what the case needs on a side; returns the rows it sends.
fn prepare(side: &mut dyn Session, case: &Case) -> Result<Vec<u8>> {
    match &case.work {
        Work::Prepared { sql, .. } => side.prepare(sql).map(|()| Vec::new()),
        Work::CopyIn { rows, .. } => {
            Ok((1..=*rows).flat_map(|n| format!("{n}\t{}\trow {n}\n", n % 97).into_bytes()).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Runs a case this many times and returns the average seconds of each.
fn repeat(side: &mut dyn Session, case: &Case, input: &[u8], count: u32) -> Result<f64> {
    if let Some(sql) = &case.before {
        side.simple(sql)?;
    }
    let expect = |found: usize, expected: usize| {
        if found == expected {
            Ok(())
        } else {
            Err(Error::new(format!("{}: expected {expected} rows, found {found}", case.name)))
        }
    };
    let start = Instant::now();
    for _ in 0..count {
        match &case.work {
            Work::Simple { sql, rows } => expect(side.simple(sql)?, *rows)?,
            Work::Bare { sql, rows } => expect(side.bare(sql)?, *rows)?,
            Work::Sync => side.sync()?,
            Work::Prepared { parameters, .. } => expect(side.prepared(parameters)?, 1)?,
            Work::CopyIn { sql, rows } => expect(side.copy_in(sql, input)? as usize, *rows as usize)?,
            Work::Failure { sql, state } => {
                let found = side.failure(sql)?;
                if found != *state {
                    return Err(Error::new(format!("{}: expected SQLSTATE {state}, found {found}", case.name)));
                }
            }
        }
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(count))
}

/// Depth of PL/pgSQL recursion at which PostgreSQL raises an error. Not a time. It runs last,
/// because a session may not survive it.
fn depth(sides: &mut [Box<dyn Session>], columns: &[String]) -> Result<Table> {
    eprintln!("perf query: recursion depth");
    let mut samples = Vec::new();
    let mut note = None;
    for (side, column) in sides.iter_mut().zip(columns) {
        match side.failure("SELECT descend(1)") {
            Ok(state) if state == TOO_DEEP => {
                // The sequence keeps its value although the statement failed.
                let value = side.value("SELECT last_value FROM depth")?;
                samples.push(value.parse::<f64>().ok().map(|value| vec![value]));
            }
            Ok(state) => {
                note = Some(format!("{column} ended with SQLSTATE {state}, not {TOO_DEEP}"));
                samples.push(None);
            }
            Err(error) => {
                note = Some(format!("{column} did not survive it: {error}"));
                samples.push(None);
            }
        }
    }
    let row = Row::new("calls until \"stack depth limit exceeded\"", Unit::Calls, &samples);
    let row = match note {
        Some(note) => row.note(&note),
        None => row,
    };
    Ok(Table { title: "PL/pgSQL recursion".to_owned(), columns: columns.to_vec(), rows: vec![row] })
}

/// The values, on each side, of the settings of the native server.
pub(crate) fn settings(sides: &mut [Box<dyn Session>], given: &[String]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for name in given.iter().filter_map(|setting| setting.split_once('=')).map(|(name, _)| name) {
        let [ours, native] = [0, 1].map(|index| sides[index].value(&format!("SHOW {name}")));
        let (ours, native) = (ours?, native?);
        lines.push(if ours == native {
            format!("{name} = {ours} on both sides")
        } else {
            format!("{name} = {native} on the native side, {ours} on ours")
        });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A side that only counts.
    #[derive(Default)]
    struct Counter {
        statements: Vec<String>,
        rows: usize,
    }

    impl Session for Counter {
        fn offers(&self, _: Operation) -> bool {
            true
        }
        fn simple(&mut self, sql: &str) -> Result<usize> {
            self.statements.push(sql.to_owned());
            Ok(self.rows)
        }
        fn value(&mut self, _: &str) -> Result<String> {
            Ok("1".to_owned())
        }
        fn failure(&mut self, _: &str) -> Result<String> {
            Ok("00000".to_owned())
        }
    }

    #[test]
    fn preparation_runs_once_and_an_answer_of_another_size_is_an_error() {
        let case = Case::new("rows", Work::Simple { sql: "work".to_owned(), rows: 2 }).before("before");
        let mut side = Counter { rows: 2, ..Counter::default() };
        repeat(&mut side, &case, &[], 3).unwrap();
        assert_eq!(side.statements, ["before", "work", "work", "work"]);
        side.rows = 1;
        let error = repeat(&mut side, &case, &[], 1).unwrap_err().to_string();
        assert_eq!(error, "rows: expected 2 rows, found 1");
    }

    #[test]
    fn another_error_than_the_expected_one_is_no_measurement() {
        let case = Case::new("error", Work::Failure { sql: "SELECT 1/0", state: DIVISION_BY_ZERO });
        let error = repeat(&mut Counter::default(), &case, &[], 1).unwrap_err().to_string();
        assert_eq!(error, "error: expected SQLSTATE 22012, found 00000");
    }

    #[test]
    fn every_side_has_a_sample_of_every_round() {
        let case = Case::new("rows", Work::Simple { sql: "work".to_owned(), rows: 0 });
        let mut sides: Vec<Box<dyn Session>> = vec![Box::<Counter>::default(), Box::<Counter>::default()];
        let samples = measure(&mut sides, &case, 5, Unit::Milliseconds, SAMPLE_QUICK).unwrap();
        assert_eq!(samples.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5]);
    }

    #[test]
    fn a_sample_holds_at_least_one_and_never_endlessly_many() {
        assert_eq!(fitting(1.0, SAMPLE), 1);
        assert_eq!(fitting(0.001, Duration::from_millis(60)), 60);
        assert_eq!(fitting(0.0, SAMPLE), 1_000_000);
    }
}
