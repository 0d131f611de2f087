//! `perf checksums`: what data checksums cost the embedded database, in a workload of writes and in
//! reads from outside of its buffers. It owns the cases; `query` owns the method.

use std::path::Path;
use std::process::Command;

use pglite_oxide::Durability;

use crate::Common;
use crate::error::{Context as _, Error, Result};
use crate::machine::{self, Machine};
use crate::ours::Ours;
use crate::query::{Case, Work, measure};
use crate::report::{Report, Row, Table, Unit};
use crate::server::{Native, run as run_native};
use crate::session::Session;

/// Transactions of one sample.
const TRANSACTIONS: u32 = 5_000;
/// Rows of the largest table. It is larger than the buffers that the sessions get.
const ROWS: u32 = 400_000;
const ROWS_QUICK: u32 = 20_000;

/// Measures both databases, writes the file and prints the table.
pub(crate) fn run(rootfs: &Path, common: &Common) -> Result<()> {
    let mut machine = Machine::describe(&std::env::temp_dir());
    let core = *machine::cores()?.first().ok_or_else(|| Error::new("there is no core to run on"))?;
    machine::pin_this_thread(core)?;
    let native = Native::at(rootfs);
    let directory = native.work_directory()?;
    let roots = [("without", false), ("with", true)].map(|(name, enabled)| (directory.path().join(name), enabled));
    let rows = if common.quick { ROWS_QUICK } else { ROWS };
    let mut sides: Vec<Box<dyn Session>> = Vec::new();
    for (root, enabled) in &roots {
        let mut new = Ours::at(root, Durability::None)?;
        set_up(&mut new, rows)?;
        new.close()?;
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        checksums(&native, directory.path(), &name, *enabled)?;
        let mut side = Ours::at(root, Durability::None)?;
        let expected = if *enabled { "on" } else { "off" };
        if side.value("SHOW data_checksums")? != expected {
            return Err(Error::new(format!("{}: data_checksums is not {expected}", root.display())));
        }
        sides.push(Box::new(side));
    }
    let mut table = Vec::new();
    for case in &cases(rows, if common.quick { 200 } else { TRANSACTIONS }) {
        eprintln!("perf checksums: {}", case.name);
        let samples = measure(&mut sides, case, common.rounds(), Unit::Milliseconds, Default::default())?;
        // The ratio is that of the first column to the others, so the one with checksums comes
        // first.
        let samples: Vec<_> = samples.into_iter().rev().map(Some).collect();
        table.push(Row::new(&case.name, Unit::Milliseconds, &samples));
    }
    machine.load_after = machine::load();
    let report = Report {
        benchmark: "checksums",
        quick: common.quick,
        rounds: common.rounds(),
        machine,
        versions: vec![format!("ours: {}", sides[0].value("SELECT version()")?)],
        conditions: vec![
            format!(
                "both databases in one process on core {core}, in directories of one file system, with Durability::None"
            ),
            "a time is the median of all rounds (smallest…largest); a ratio is taken within each round".to_owned(),
        ],
        tables: vec![Table {
            title: "Data checksums: time of one statement".to_owned(),
            columns: vec!["with checksums".to_owned(), "without".to_owned()],
            rows: table,
        }],
        left_out: Vec::new(),
    };
    report.write(&common.json)?;
    println!("{}\nresult in {}", report.render(), common.json.display());
    Ok(())
}

/// A bank like pgbench's, with transactions in a procedure, so that no round trips are measured.
fn set_up(side: &mut dyn Session, rows: u32) -> Result<()> {
    side.simple(&format!(
        "CREATE TABLE accounts (id int PRIMARY KEY, branch int, balance int, filler char(84));
         CREATE TABLE tellers (id int PRIMARY KEY, balance int, filler char(84)) WITH (fillfactor = 50);
         CREATE TABLE history (account int, teller int, delta int, at timestamptz DEFAULT now(), note text);
         CREATE TABLE bulk (id int, grp int, note text);
         INSERT INTO accounts SELECT g, g % 10, 0, '' FROM generate_series(1, {rows}) g;
         INSERT INTO tellers SELECT g, 0, '' FROM generate_series(1, 100) g;
         CREATE PROCEDURE work(transactions int) LANGUAGE plpgsql AS $$
         DECLARE account int; teller int; delta int;
         BEGIN
             FOR i IN 1..transactions LOOP
                 account := 1 + (random() * ({rows} - 1))::int; teller := 1 + i % 100; delta := i % 1000 - 500;
                 UPDATE accounts SET balance = balance + delta WHERE id = account;
                 UPDATE tellers SET balance = balance + delta WHERE id = teller;
                 INSERT INTO history (account, teller, delta, note) VALUES (account, teller, delta, 'transfer');
                 COMMIT;
             END LOOP;
         END $$"
    ))?;
    side.simple("VACUUM ANALYZE").map(drop)
}

fn cases(rows: u32, transactions: u32) -> Vec<Case> {
    let simple = |name: &str, sql: String, rows| Case::new(name, Work::Simple { sql, rows });
    vec![
        simple("transactions as in pgbench", format!("CALL work({transactions})"), 0),
        simple(
            "bulk insert, and a checkpoint",
            format!("INSERT INTO bulk SELECT g, g % 97, 'row ' || g FROM generate_series(1, {rows}) g; CHECKPOINT"),
            0,
        )
        .before("TRUNCATE bulk"),
        simple(
            "update of a third of a table, and a checkpoint",
            "UPDATE accounts SET balance = balance + 1 WHERE id % 3 = 0; CHECKPOINT".to_owned(),
            0,
        )
        .before("VACUUM accounts"),
        simple(
            "index build, and a checkpoint",
            "CREATE INDEX again ON accounts (branch, id); CHECKPOINT".to_owned(),
            0,
        )
        .before("DROP INDEX IF EXISTS again"),
        simple("scan of a table larger than the buffers", "SELECT count(*) FROM accounts".to_owned(), 1),
    ]
}

/// Enables data checksums in a root below `work`. The program runs as a user of its own, to which
/// the files belong in the meantime.
fn checksums(native: &Native, work: &Path, root: &str, enabled: bool) -> Result<()> {
    if !enabled {
        return Ok(());
    }
    let path = work.join(root);
    let owner = |of: &Path| {
        let mut chown = Command::new("chown");
        chown.args(["-R", "--reference"]).arg(of).arg(&path);
        run_native(&mut chown, "chown").map(drop)
    };
    owner(work)?;
    let mut program = native.command(work, "pg_checksums");
    run_native(program.args(["--enable", "--no-sync", "-D", &format!("/pgl/{root}/pgdata")]), "pg_checksums")?;
    // Those of this process.
    let own = tempfile::tempdir().context(|| "cannot make a temporary directory".into())?;
    owner(own.path())
}
