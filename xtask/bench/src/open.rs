//! `perf open`: time and memory up to the first row. Each cold measurement of the embedded side is
//! a separate process; the native ones include the server's start.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Common;
use crate::error::{Context as _, Error, Result};
use crate::machine::{self, Machine};
use crate::ours::Ours;
use crate::report::{Report, Row, Table, Unit};
use crate::server::{Cluster, Native, Options, Server};
use crate::session::Session;
use crate::theirs::Address;

const FIRST_ROW: &str = "SELECT 'first row'";
/// Databases that a cold process opens after the first one.
const AGAIN: u32 = 5;

/// Samples of all rounds.
#[derive(Debug, Default)]
struct Samples {
    cold: Vec<f64>,
    inside: Vec<f64>,
    again: Vec<f64>,
    memory: Vec<f64>,
    from_nothing: Vec<f64>,
    restart: Vec<f64>,
    root_create: Vec<f64>,
    root_reopen: Vec<f64>,
    root_again: Vec<f64>,
    create_database: Vec<f64>,
    native_memory: Vec<f64>,
}

/// Measures everything, writes the file and prints the tables.
pub(crate) fn run(rootfs: &Path, common: &Common) -> Result<()> {
    let mut machine = Machine::describe(&std::env::temp_dir());
    let core = *machine::cores()?.first().ok_or_else(|| Error::new("there is no core to run on"))?;
    machine::pin_this_thread(core)?;
    let native = Native::at(rootfs);
    let settings: Vec<(&str, &str)> = common.settings.iter().filter_map(|s| s.split_once('=')).collect();
    let mut samples = Samples::default();
    let mut versions = Vec::new();
    for round in 0..=common.rounds() {
        eprintln!("perf open: round {round} of {}", common.rounds());
        let mut one = Samples::default();
        cold_processes(&mut one)?;
        native_server(&native, &settings, &mut one, &mut versions)?;
        // The first round reads files into the page cache and is not counted.
        if round > 0 {
            samples.add(one);
        }
    }
    versions.insert(0, format!("ours: {}", Ours::temporary()?.value("SELECT version()")?));
    machine.load_after = machine::load();

    let mut conditions = vec![
        format!("everything on core {core}: our process, the native server and initdb, and their client"),
        "files are in the page cache; \"cold\" is the process, and \"empty\" is what it keeps between runs".to_owned(),
        "a time is the median of all rounds (smallest…largest); a ratio is taken within each round".to_owned(),
        "native: initdb --no-sync; client of the `postgres` crate over a Unix socket".to_owned(),
    ];
    conditions.push(format!("native settings: {}", common.settings.join(", ")));
    let report = Report {
        benchmark: "open",
        quick: common.quick,
        rounds: common.rounds(),
        machine,
        versions,
        conditions,
        tables: samples.tables(),
        left_out: Vec::new(),
    };
    report.write(&common.json)?;
    println!("{}\nresult in {}", report.render(), common.json.display());
    Ok(())
}

/// The cold process: opens databases and prints the time of each first row, in seconds.
pub(crate) fn once(again: u32, root: Option<&Path>) -> Result<()> {
    let start = Instant::now();
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).context(|| "cannot write to standard output".into())
    };
    let first = open_and_read(root)?;
    say(format!("{}", start.elapsed().as_secs_f64()))?;
    say(format!("{}", machine::peak_memory_kib()))?;
    drop(first);
    for _ in 0..again {
        let start = Instant::now();
        let database = open_and_read(root)?;
        say(format!("{}", start.elapsed().as_secs_f64()))?;
        drop(database);
    }
    Ok(())
}

fn open_and_read(root: Option<&Path>) -> Result<Ours> {
    let mut database = root.map_or_else(Ours::temporary, Ours::persistent)?;
    database.value(FIRST_ROW)?;
    Ok(database)
}

/// The measurements of a cold process, in milliseconds.
#[derive(Debug)]
struct Cold {
    /// Including the start of the process.
    whole: f64,
    inside: f64,
    memory_mib: f64,
    /// Median of later opens in the same process.
    again: Option<f64>,
}

/// The cold processes of one round: one with temporary databases, one that creates a persistent
/// one, one that opens it again.
fn cold_processes(samples: &mut Samples) -> Result<()> {
    let temporary = cold_process(None)?;
    samples.cold.push(temporary.whole);
    samples.inside.push(temporary.inside);
    samples.memory.push(temporary.memory_mib);
    samples.again.extend(temporary.again);
    let directory = tempfile::tempdir().context(|| "cannot make a temporary directory".into())?;
    let root = directory.path().join("root");
    samples.root_create.push(cold_process(Some(&root))?.whole);
    let reopened = cold_process(Some(&root))?;
    samples.root_reopen.push(reopened.whole);
    samples.root_again.extend(reopened.again);
    Ok(())
}

fn cold_process(root: Option<&Path>) -> Result<Cold> {
    let program = std::env::current_exe().context(|| "cannot find the benchmark program itself".into())?;
    let mut command = Command::new(&program);
    command.args(["open-once", "--again", &AGAIN.to_string()]).stdout(Stdio::piped());
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    let start = Instant::now();
    let mut child = command.spawn().map_err(|e| Error::io("start", &program, e))?;
    let output = child.stdout.take().ok_or_else(|| Error::new("the cold process has no output"))?;
    let mut lines = BufReader::new(output).lines();
    let mut next = || -> Result<Option<f64>> {
        let Some(line) = lines.next() else { return Ok(None) };
        let line = line.context(|| "cannot read what the cold process says".into())?;
        line.parse().map(Some).context(|| format!("the cold process says {line:?}"))
    };
    let first = next()?;
    let cold = start.elapsed().as_secs_f64();
    let memory = next()?;
    let mut again = Vec::new();
    while let Some(seconds) = next()? {
        again.push(seconds * 1e3);
    }
    let status = child.wait().context(|| "cannot wait for the cold process".into())?;
    let (true, Some(first), Some(memory)) = (status.success(), first, memory) else {
        return Err(Error::new(format!("the cold process failed: {status}")));
    };
    again.sort_by(f64::total_cmp);
    let again = again.get(again.len() / 2).copied();
    Ok(Cold { whole: cold * 1e3, inside: first * 1e3, memory_mib: memory / 1024.0, again })
}

/// The native side of one round.
fn native_server(
    native: &Native,
    settings: &[(&str, &str)],
    samples: &mut Samples,
    versions: &mut Vec<String>,
) -> Result<()> {
    let options = Options { settings, port: None };
    let start = Instant::now();
    let cluster = native.initdb(false)?;
    let server = first_row(&cluster, &options)?;
    samples.from_nothing.push(start.elapsed().as_secs_f64() * 1e3);
    samples.native_memory.push(machine::memory_of_family_kib(server.pid()) / 1024.0);
    let address = address(&server);
    let mut client = address.connect("postgres")?;
    if versions.is_empty() {
        let row = client.query_one("SELECT version()", &[]).context(|| "native: version()".into())?;
        versions.push(format!("native: {}", row.get::<_, String>(0)));
    }
    let mut create = Vec::new();
    for number in 0..AGAIN {
        let name = format!("fresh{number}");
        let start = Instant::now();
        client.batch_execute(&format!("CREATE DATABASE {name}")).context(|| "native: CREATE DATABASE".into())?;
        read(&address, &name)?;
        create.push(start.elapsed().as_secs_f64() * 1e3);
    }
    create.sort_by(f64::total_cmp);
    samples.create_database.extend(create.get(create.len() / 2));
    drop(client);
    server.stop()?;

    let start = Instant::now();
    let server = first_row(&cluster, &options)?;
    samples.restart.push(start.elapsed().as_secs_f64() * 1e3);
    server.stop()
}

fn first_row<'a>(cluster: &'a Cluster, options: &Options<'_>) -> Result<Server<'a>> {
    let server = cluster.start(options)?;
    read(&address(&server), "postgres")?;
    Ok(server)
}

fn address(server: &Server<'_>) -> Address {
    Address { directory: server.socket_directory().to_path_buf(), port: server.port() }
}

fn read(address: &Address, database: &str) -> Result<()> {
    let mut client = address.connect(database)?;
    client.simple_query(FIRST_ROW).context(|| format!("native: {FIRST_ROW}"))?;
    Ok(())
}

impl Samples {
    fn add(&mut self, other: Self) {
        self.cold.extend(other.cold);
        self.inside.extend(other.inside);
        self.again.extend(other.again);
        self.memory.extend(other.memory);
        self.root_create.extend(other.root_create);
        self.root_reopen.extend(other.root_reopen);
        self.root_again.extend(other.root_again);
        self.from_nothing.extend(other.from_nothing);
        self.restart.extend(other.restart);
        self.create_database.extend(other.create_database);
        self.native_memory.extend(other.native_memory);
    }

    fn tables(self) -> Vec<Table> {
        let row = |case, ours: &[f64], native: Option<&[f64]>| {
            Row::new(case, Unit::Milliseconds, &[Some(ours.to_vec()), native.map(<[f64]>::to_vec)])
        };
        let times = vec![
            row("cold process, empty cache: temporary database to first row", &self.cold, Some(&self.from_nothing))
                .note("native: initdb, start, first row"),
            row("cold process, warm cache: temporary database to first row", &self.cold, Some(&self.restart))
                .note("ours keeps nothing between runs, so this is the row above once more; native: start on a data directory that is there, first row"),
            row("the same without the process's own start", &self.inside, None),
            row("another database in the same process, to first row", &self.again, Some(&self.create_database))
                .note("native: CREATE DATABASE, connect, first row"),
            row("cold process: new persistent database to first row", &self.root_create, Some(&self.from_nothing))
                .note("ours syncs what it made, native does not: initdb --no-sync, start, first row"),
            row("cold process: persistent database that is there, to first row", &self.root_reopen, Some(&self.restart))
                .note("native: start, first row"),
            row("the same again in that process", &self.root_again, Some(&self.restart)),
        ];
        let memory = Row::new(
            "memory after the first row",
            Unit::Mebibytes,
            &[Some(self.memory), Some(self.native_memory)],
        )
        .note("ours: the most the process ever had resident; native: all server processes, shared pages counted once, without the client");
        let columns = || ["pglite-oxide", "native"].map(String::from).to_vec();
        vec![
            Table { title: "Open: time".to_owned(), columns: columns(), rows: times },
            Table { title: "Open: memory".to_owned(), columns: columns(), rows: vec![memory] },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cache_cases_exist_and_say_that_they_are_one() {
        let samples = Samples {
            cold: vec![50.0],
            inside: vec![40.0],
            again: vec![10.0],
            memory: vec![100.0],
            from_nothing: vec![500.0],
            restart: vec![25.0],
            root_create: vec![200.0],
            root_reopen: vec![60.0],
            root_again: vec![20.0],
            create_database: vec![20.0],
            native_memory: vec![50.0],
        };
        let tables = samples.tables();
        let rows = &tables[0].rows;
        assert_eq!(rows[0].cells[0], rows[1].cells[0]);
        assert!(rows[1].note.as_ref().unwrap().contains("once more"));
        assert_eq!(rows[0].ratios[0].as_ref().unwrap().median, 0.1);
        assert_eq!(rows[2].cells[1], None);
        assert_eq!(tables[1].rows[0].unit, Unit::Mebibytes);
    }
}
