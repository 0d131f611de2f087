//! `perf linked`: what extensions in the program cost a database that uses none of them. Both sides
//! are this program: a payload with all extensions, and one of PostgreSQL alone. It owns the cases;
//! there is no native side.

use std::process::{Command, Stdio};

use pglite_oxide::Builder;

use crate::Common;
use crate::error::{Context as _, Error, Result};
use crate::machine::{self, Machine};
use crate::ours::Ours;
use crate::report::{Report, Row, Table, Unit};
use crate::session::Session;
use crate::stats::median;

const FIRST_ROW: &str = "SELECT 'first row'";

/// What each side does in a round.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Processes that open one database.
    processes: u32,
    /// Databases that are opened one after the other.
    opens: u32,
    /// Databases that are open at the same time.
    kept: u32,
}

const FULL: Counts = Counts { processes: 5, opens: 50, kept: 16 };
const QUICK: Counts = Counts { processes: 1, opens: 2, kept: 2 };

/// The two sides, in the order of the columns.
const SIDES: [bool; 2] = [true, false];

/// Samples of all rounds: of the side with extensions, and of the one without.
type Both = [Vec<f64>; 2];

/// One sample of each side, for each case.
#[derive(Debug, Default)]
struct Samples {
    /// Milliseconds to the first row of a process, on its core, without its own start.
    first: Both,
    /// KiB that the process has written until then.
    first_memory: Both,
    /// The same for another database of a process.
    again: Both,
    /// KiB that another database adds.
    memory: Both,
}

/// Measures both sides, writes the file and prints the tables.
pub(crate) fn run(common: &Common) -> Result<()> {
    let mut machine = Machine::describe(&std::env::temp_dir());
    let core = *machine::cores()?.first().ok_or_else(|| Error::new("there is no core to run on"))?;
    machine::pin_this_thread(core)?;
    let counts = if common.quick { QUICK } else { FULL };
    let builders = [Ours::builder(SIDES[0])?, Ours::builder(SIDES[1])?];
    let [with, without] = [available(&builders[0])?, available(&builders[1])?];
    if with <= without {
        return Err(Error::new(format!("{with} extensions on one side and {without} on the other are no comparison")));
    }
    let mut samples = Samples::default();
    for round in 0..=common.rounds() {
        eprintln!("perf linked: round {round} of {}", common.rounds());
        let one = measure(&builders, counts)?;
        // The first round unpacks what a process needs once, and is not counted.
        if round > 0 {
            samples.add(one);
        }
    }
    machine.load_after = machine::load();
    let report = Report {
        benchmark: "linked",
        quick: common.quick,
        rounds: common.rounds(),
        machine,
        versions: vec![format!("with: {with} extensions are available to SQL; without: {without}")],
        conditions: vec![
            format!("everything on core {core}; the sides take turns, and no database uses an extension"),
            format!(
                "a sample is the median of {} processes, of {} databases one after the other, or of {} open ones",
                counts.processes, counts.opens, counts.kept
            ),
            "a time is what the process spends on its core; a difference is taken within each round".to_owned(),
        ],
        tables: samples.tables(),
        left_out: Vec::new(),
    };
    report.write(&common.json)?;
    println!("{}\nresult in {}", report.render(), common.json.display());
    Ok(())
}

/// The cold process: opens a database and prints the time of its first row, in milliseconds, and
/// the memory of the process.
pub(crate) fn once(extensions: bool) -> Result<()> {
    let start = machine::own_milliseconds();
    let database = open(&Ours::builder(extensions)?)?;
    let milliseconds = machine::own_milliseconds() - start;
    println!("{milliseconds} {}", machine::private_memory_kib()?);
    drop(database);
    Ok(())
}

fn open(builder: &Builder) -> Result<Ours> {
    let mut database = Ours::open(builder)?;
    database.value(FIRST_ROW)?;
    Ok(database)
}

/// Extensions that SQL can create in a database of this side.
fn available(builder: &Builder) -> Result<usize> {
    Ours::open(builder)?.simple("SELECT name FROM pg_available_extensions")
}

/// One round.
fn measure(builders: &[Builder; 2], counts: Counts) -> Result<Samples> {
    let mut first = Both::default();
    let mut first_memory = Both::default();
    in_turn(counts.processes, |side| {
        let (milliseconds, kib) = cold_process(SIDES[side])?;
        first[side].push(milliseconds);
        first_memory[side].push(kib);
        Ok(())
    })?;
    let mut again = Both::default();
    in_turn(counts.opens, |side| {
        let start = machine::own_milliseconds();
        let database = open(&builders[side])?;
        again[side].push(machine::own_milliseconds() - start);
        drop(database);
        Ok(())
    })?;
    let mut memory = Both::default();
    let mut kept = Vec::new();
    in_turn(counts.kept, |side| {
        let before = machine::private_memory_kib()?;
        kept.push(open(&builders[side])?);
        memory[side].push(machine::private_memory_kib()? - before);
        Ok(())
    })?;
    drop(kept);
    let of = |samples: Both| samples.map(|samples| median(&samples).into_iter().collect());
    Ok(Samples { first: of(first), first_memory: of(first_memory), again: of(again), memory: of(memory) })
}

/// Runs something for both sides, this many times each. Each is the first of the two in turn, so
/// that neither is always the one after the other.
fn in_turn(times: u32, mut run: impl FnMut(usize) -> Result<()>) -> Result<()> {
    for time in 0..times {
        let order = if time % 2 == 0 { [0, 1] } else { [1, 0] };
        order.into_iter().try_for_each(&mut run)?;
    }
    Ok(())
}

fn cold_process(extensions: bool) -> Result<(f64, f64)> {
    let program = std::env::current_exe().context(|| "cannot find the benchmark program itself".into())?;
    let mut command = Command::new(&program);
    command.arg("linked-once").stdin(Stdio::null()).stderr(Stdio::inherit());
    if !extensions {
        command.arg("--without");
    }
    let output = command.output().map_err(|e| Error::io("start", &program, e))?;
    if !output.status.success() {
        return Err(Error::new(format!("the cold process failed: {}", output.status)));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let mut numbers = said.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(milliseconds)), Some(Ok(kib))) => Ok((milliseconds, kib)),
        _ => Err(Error::new(format!("the cold process says {said:?}"))),
    }
}

impl Samples {
    fn add(&mut self, other: Self) {
        let add = |own: &mut Both, other: Both| own.iter_mut().zip(other).for_each(|(own, other)| own.extend(other));
        add(&mut self.first, other.first);
        add(&mut self.first_memory, other.first_memory);
        add(&mut self.again, other.again);
        add(&mut self.memory, other.memory);
    }

    fn tables(self) -> Vec<Table> {
        let (milliseconds, kib) = (Unit::Milliseconds, Unit::Kibibytes);
        let cases = [
            ("another database in the same process, to first row", milliseconds, 1e3, Unit::Microseconds, self.again),
            ("private memory that another open database adds", kib, 1.0, kib, self.memory),
            ("first database of a process, to first row", milliseconds, 1e3, Unit::Microseconds, self.first),
            ("private memory of a process with its first database", kib, 1.0, kib, self.first_memory),
        ];
        let (mut values, mut differences) = (Vec::new(), Vec::new());
        for (case, unit, factor, fine, [with, without]) in cases {
            let difference = with.iter().zip(&without).map(|(with, without)| (with - without) * factor).collect();
            differences.push(Row::new(case, fine, &[Some(difference)]));
            values.push(Row::new(case, unit, &[Some(with), Some(without)]));
        }
        let table = |title: &str, columns: &[&str], rows| Table {
            title: title.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows,
        };
        vec![
            table("Extensions that no database uses", &["with extensions", "without"], values),
            table("What they add", &["with extensions − without"], differences),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_take_turns() {
        let mut order = Vec::new();
        in_turn(3, |side| {
            order.push(side);
            Ok(())
        })
        .unwrap();
        assert_eq!(order, [0, 1, 1, 0, 0, 1]);
        let mut runs = 0;
        let failed = in_turn(3, |_| {
            runs += 1;
            Err(Error::new("it does not open"))
        });
        assert!(failed.is_err());
        assert_eq!(runs, 1);
    }

    #[test]
    fn differences_are_those_of_the_rounds() {
        let mut samples = Samples::default();
        for with in [10.25, 20.5] {
            samples.add(Samples {
                again: [vec![with], vec![with - 0.25]],
                memory: [vec![with], vec![with]],
                ..Samples::default()
            });
        }
        let tables = samples.tables();
        let [values, differences] = &tables[..] else { panic!("{tables:?}") };
        assert_eq!(values.rows[0].cells[1].as_ref().unwrap().samples, [10.0, 20.25]);
        assert_eq!(differences.rows[0].cells[0].as_ref().unwrap().samples, [250.0, 250.0]);
        assert_eq!(differences.rows[0].unit, Unit::Microseconds);
        assert_eq!(differences.rows[1].cells[0].as_ref().unwrap().median, 0.0);
        assert_eq!(differences.rows[2].cells[0], None, "nothing was measured");
    }
}
