//! `perf vector`: pgvector on both sides, for vectors of 128 and 768 dimensions and for half
//! precision. It owns the cases; `query` owns the method.

use crate::Common;
use crate::error::{Error, Result};
use crate::machine::{self, Machine};
use crate::ours::Ours;
use crate::query::{Case, Work, measure, settings};
use crate::report::{Report, Row, Table, Unit};
use crate::session::Session;
use crate::theirs::{Address, Theirs};

/// Searches in one statement.
const PROBES: u32 = 50;
/// Neighbors that a search returns.
const NEAREST: u32 = 10;

/// A table of vectors.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    /// The type without its dimensions, which is part of the names of operator classes.
    of: &'static str,
    dimensions: u32,
    rows: u32,
}

/// The tables, so large that an index build takes seconds, or a tenth of that.
fn kinds(quick: bool) -> [Kind; 3] {
    let part = if quick { 10 } else { 1 };
    [
        Kind { name: "v128", of: "vector", dimensions: 128, rows: 10_000 / part },
        Kind { name: "v768", of: "vector", dimensions: 768, rows: 3_000 / part },
        Kind { name: "h768", of: "halfvec", dimensions: 768, rows: 3_000 / part },
    ]
}

/// Measures everything, writes the file and prints the table.
pub(crate) fn run(address: &Address, common: &Common) -> Result<()> {
    let mut machine = Machine::describe(&address.directory);
    let core = *machine::cores()?.first().ok_or_else(|| Error::new("there is no core to run on"))?;
    machine::pin_this_thread(core)?;
    let mut sides: Vec<Box<dyn Session>> =
        vec![Box::new(Ours::temporary()?), Box::new(Theirs::connect(address, Some(core))?)];
    let kinds = kinds(common.quick);
    for side in &mut sides {
        set_up(side.as_mut(), &kinds)?;
    }
    let mut rows = Vec::new();
    for case in kinds.iter().flat_map(cases) {
        eprintln!("perf vector: {}", case.name);
        let samples = measure(&mut sides, &case, common.rounds(), Unit::Milliseconds, Default::default())?;
        rows.push(Row::new(&case.name, Unit::Milliseconds, &samples.into_iter().map(Some).collect::<Vec<_>>()));
    }
    machine.load_after = machine::load();
    let version = "SELECT version() || ', pgvector ' || extversion FROM pg_extension WHERE extname = 'vector'";
    let mut conditions = vec![
        format!("both sides and the native client run on core {core}; native through a Unix socket"),
        "random vectors, the same on both sides; 256 MB of maintenance_work_mem; defaults of pgvector".to_owned(),
        "a time is the median of all rounds (smallest…largest); a ratio is taken within each round".to_owned(),
    ];
    conditions.extend(settings(&mut sides, &common.settings)?);
    let report = Report {
        benchmark: "vector",
        quick: common.quick,
        rounds: common.rounds(),
        machine,
        versions: vec![format!("ours: {}", sides[0].value(version)?), format!("native: {}", sides[1].value(version)?)],
        conditions,
        tables: vec![Table {
            title: "pgvector: time of one statement".to_owned(),
            columns: ["pglite-oxide", "native, same core"].map(String::from).to_vec(),
            rows,
        }],
        left_out: Vec::new(),
    };
    report.write(&common.json)?;
    println!("{}\nresult in {}", report.render(), common.json.display());
    Ok(())
}

fn set_up(side: &mut dyn Session, kinds: &[Kind]) -> Result<()> {
    side.simple("CREATE EXTENSION vector; SET maintenance_work_mem = '256MB'; SELECT setseed(0.25)")?;
    for Kind { name, of, dimensions, rows } in kinds {
        // The reference to the row keeps the inner query from being run only once.
        let random = |from: u32, to: u32| {
            format!(
                "SELECT g AS id, (SELECT array_agg(random() + 0 * (g + i)) FROM generate_series(1, {dimensions}) i)\
                 ::vector({dimensions})::{of}({dimensions}) AS e FROM generate_series({from}, {to}) g"
            )
        };
        side.simple(&format!(
            "CREATE TABLE {name} AS {};
             CREATE TABLE {name}_probe AS {};
             CREATE TABLE {name}_text AS SELECT id, e::text AS e FROM {name} WHERE id <= 1000;
             CREATE TABLE {name}_new (id int, e {of}({dimensions}))",
            random(1, *rows),
            random(1, PROBES)
        ))?;
        side.simple(&format!("VACUUM ANALYZE {name}, {name}_probe, {name}_text"))?;
    }
    Ok(())
}

fn cases(kind: &Kind) -> Vec<Case> {
    let Kind { name, of, dimensions, rows } = *kind;
    let case = |what: &str, sql: String, rows: usize| {
        Case::new(format!("{of}({dimensions}), {what}"), Work::Simple { sql, rows })
    };
    let search = |exact: bool| {
        let scans = if exact { "enable_indexscan = off" } else { "enable_seqscan = off" };
        format!(
            "SET {scans}; SELECT sum(s.n) FROM {name}_probe p, LATERAL (SELECT count(*) AS n FROM
                 (SELECT FROM {name} t ORDER BY t.e <-> p.e LIMIT {NEAREST}) nearest) s; RESET ALL"
        )
    };
    let lists = (rows / 100).max(1);
    let some = rows.min(1000);
    let build =
        |method: &str, with: &str| format!("CREATE INDEX {name}_index ON {name} USING {method} (e {of}_l2_ops){with}");
    let drop = format!("DROP INDEX IF EXISTS {name}_index; SET maintenance_work_mem = '256MB'");
    vec![
        case(
            &format!("{some} rows from text"),
            format!("INSERT INTO {name}_new SELECT id, e::{of} FROM {name}_text"),
            0,
        )
        .before(format!("TRUNCATE {name}_new")),
        case(&format!("exact search in {rows} rows, {PROBES} times"), search(true), 1),
        case(&format!("HNSW build, {rows} rows"), build("hnsw", ""), 0).before(drop.clone()),
        case(&format!("HNSW search, {PROBES} times"), search(false), 1),
        case(
            &format!("{some} rows into an HNSW index"),
            format!("INSERT INTO {name}_new SELECT * FROM {name} LIMIT 1000"),
            0,
        )
        .before(format!(
            "DROP TABLE {name}_new; CREATE TABLE {name}_new (id int, e {of}({dimensions}));
                 CREATE INDEX ON {name}_new USING hnsw (e {of}_l2_ops)"
        )),
        case(&format!("IVFFlat build, {rows} rows"), build("ivfflat", &format!(" WITH (lists = {lists})")), 0)
            .before(drop),
        case(&format!("IVFFlat search, {PROBES} times"), search(false), 1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_every_case() {
        let names: Vec<String> = kinds(true).iter().flat_map(cases).map(|case| case.name).collect();
        assert_eq!(names.len(), 21);
        assert_eq!(names[9], "vector(768), HNSW build, 300 rows");
    }
}
