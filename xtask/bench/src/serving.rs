//! `perf server`: the time that a client of the local server waits, beside the same client on a
//! native server. Each server is a separate process on one core, the client is on another core
//! where there are two. It owns the cases; the same client programs measure both sides.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pglite_oxide::{Listen, Pglite};
use postgres_protocol::message::{backend::Message, frontend};

use crate::Common;
use crate::error::{Context as _, Error, Result};
use crate::machine::{self, Machine};
use crate::report::{Report, Row, Table, Unit};
use crate::server::{self, Cluster, Native, Options, Server};

const QUESTION: &str = "SELECT 1";
/// The path at which those programs see it.
const SEEN: &str = "/pgl";
/// Pause between connections to an idle server: longer than the end of a session and the start of
/// the next one.
const PAUSE: Duration = Duration::from_millis(100);
/// The number in the names of the embedded server's sockets.
const NUMBER: u16 = 5432;

/// Amount of work in one round.
#[derive(Debug, Clone, Copy)]
struct Scale {
    connections: u32,
    questions: u32,
    /// pgbench's scale factor: 100,000 accounts each.
    bench: u32,
    seconds: u32,
    rows: u32,
}

/// One side: its TCP and Unix addresses, and the address for pgbench and pg_dump.
#[derive(Debug)]
struct Side<'a> {
    tcp: SocketAddr,
    /// The Unix socket's file.
    socket: PathBuf,
    /// The directory that the native programs see as `/pgl`; it contains the socket.
    work: &'a Path,
}

/// Samples of both sides for a case, in the order of the sides.
type Samples = [Vec<f64>; 2];

/// Measures everything, writes the file and prints the tables.
pub(crate) fn run(rootfs: &Path, common: &Common) -> Result<()> {
    let mut machine = Machine::describe(&std::env::temp_dir());
    let cores = machine::cores()?;
    let (here, there) = match cores[..] {
        [] => return Err(Error::new("there is no core to run on")),
        [only] => (only, only),
        [first, second, ..] => (first, second),
    };
    let scale = if common.quick {
        Scale { connections: 5, questions: 200, bench: 1, seconds: 1, rows: 20_000 }
    } else {
        Scale { connections: 40, questions: 20_000, bench: 10, seconds: 10, rows: 1_000_000 }
    };
    let native = Native::at(rootfs);
    // Processes started from here on stay on this core; the client moves to another one.
    machine::pin_this_thread(there)?;
    let cluster = native.initdb(true)?;
    let settings: Vec<(&str, &str)> = common.settings.iter().filter_map(|s| s.split_once('=')).collect();
    let theirs = Theirs::start(&cluster, &settings)?;
    let work = native.work_directory()?;
    let ours = Ours::start(work.path(), &common.settings)?;
    machine::pin_this_thread(here)?;
    let sides = [
        Side { tcp: ours.tcp, socket: work.path().join(format!(".s.PGSQL.{NUMBER}")), work: work.path() },
        Side { tcp: theirs.tcp, socket: theirs.socket(), work: theirs.server.socket_directory() },
    ];
    let bench = Programs { native: &native };
    for side in &sides {
        let make = format!(
            "CREATE TABLE dumped AS SELECT i AS id, md5(i::text) AS text, i * 1.5 AS number FROM generate_series(1, {}) i",
            scale.rows
        );
        bench.run(side, "psql", &["-qXc", &make])?;
        bench.run(side, "pgbench", &["-i", "-q", "-s", &scale.bench.to_string()])?;
        bench.run(side, "psql", &["-qXc", "VACUUM ANALYZE"])?;
    }
    let versions = versions(&sides)?;

    let mut cases = Cases::default();
    for round in 0..=common.rounds() {
        eprintln!("perf server: round {round} of {}", common.rounds());
        let mut one = Cases::default();
        for (index, side) in sides.iter().enumerate() {
            one.measure(index, side, &bench, scale)?;
        }
        // The first round fills caches and is not counted.
        if round > 0 {
            cases.add(one);
        }
    }
    machine.load_after = machine::load();
    let report = Report {
        benchmark: "server",
        quick: common.quick,
        rounds: common.rounds(),
        machine,
        versions,
        conditions: vec![
            format!("clients on core {here}, both servers on core {there}, one of them working at a time"),
            "both with fsync and synchronous_commit on; nothing else is set but what is named here".to_owned(),
            format!("native settings: {}", common.settings.join(", ")),
            "a time is the median of all rounds (smallest…largest); a ratio is taken within each round".to_owned(),
            "connections, questions: a client that speaks the protocol and does nothing else; pgbench, pg_dump: Debian's, for both".to_owned(),
        ],
        tables: cases.tables(),
        left_out: Vec::new(),
    };
    report.write(&common.json)?;
    println!("{}\nresult in {}", report.render(), common.json.display());
    ours.stop()?;
    theirs.server.stop()
}

/// The process of the embedded server: prints its address, and ends when its standard input ends.
pub(crate) fn once(directory: &Path, settings: &[String]) -> Result<()> {
    let settings: Vec<_> = settings.iter().filter_map(|s| s.split_once('=')).collect();
    let serve = |root: &str, listen: &Listen| {
        let mut builder = Pglite::builder().path(directory.join(root));
        // Durability is on by default.
        for (name, value) in settings.iter().filter(|(name, _)| *name != "fsync") {
            builder = builder.setting(*name, *value);
        }
        builder.serve(listen).context(|| "cannot start our server".into())
    };
    // A server has one listener, so there are two servers; one is idle while the other is measured.
    let unix = serve("root", &Listen::unix(directory).port(NUMBER).socket_mode(0o777))?;
    let tcp = serve("tcp", &Listen::tcp())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", tcp.port()).and_then(|()| out.flush()).context(|| "cannot say where it listens".into())?;
    std::io::stdin().read_to_end(&mut Vec::new()).context(|| "cannot wait for the end of the benchmark".into())?;
    for server in [unix, tcp] {
        server.shutdown().context(|| "cannot shut our server down".into())?;
    }
    Ok(())
}

/// The measurements, by case.
#[derive(Debug, Default)]
struct Cases {
    connect: [Samples; 2],
    later: [Samples; 2],
    p50: [Samples; 2],
    p99: [Samples; 2],
    select: Samples,
    write: Samples,
    dump: Samples,
}

impl Cases {
    fn measure(&mut self, index: usize, side: &Side<'_>, programs: &Programs<'_>, scale: Scale) -> Result<()> {
        for (place, way) in [Way::Tcp, Way::Unix].into_iter().enumerate() {
            for (connect, pause) in [(&mut self.connect, Duration::ZERO), (&mut self.later, PAUSE)] {
                let mut times = Vec::new();
                for _ in 0..scale.connections {
                    std::thread::sleep(pause);
                    let start = Instant::now();
                    let mut client = Bare::connect(side, way)?;
                    client.ask(QUESTION)?;
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                    client.leave()?;
                }
                connect[place][index].push(quantile(&mut times, 0.5));
            }
            let mut client = Bare::connect(side, way)?;
            let mut times = Vec::new();
            for _ in 0..scale.questions {
                let start = Instant::now();
                client.ask(QUESTION)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            client.leave()?;
            self.p50[place][index].push(quantile(&mut times, 0.5));
            self.p99[place][index].push(quantile(&mut times, 0.99));
        }
        let seconds = scale.seconds.to_string();
        let bench = ["-n", "-c", "1", "-M", "prepared", "-T", &seconds];
        self.select[index].push(latency(&programs.run(side, "pgbench", &[&bench[..], &["-S"]].concat())?)?);
        self.write[index].push(latency(&programs.run(side, "pgbench", &bench)?)?);
        let start = Instant::now();
        programs.run(side, "pg_dump", &["-t", "dumped", "-f", "/dev/null"])?;
        self.dump[index].push(start.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    fn add(&mut self, one: Self) {
        let both = |all: &mut Samples, one: Samples| all.iter_mut().zip(one).for_each(|(all, one)| all.extend(one));
        for (all, one) in [
            (&mut self.connect, one.connect),
            (&mut self.later, one.later),
            (&mut self.p50, one.p50),
            (&mut self.p99, one.p99),
        ] {
            all.iter_mut().zip(one).for_each(|(all, one)| both(all, one));
        }
        both(&mut self.select, one.select);
        both(&mut self.write, one.write);
        both(&mut self.dump, one.dump);
    }

    fn tables(self) -> Vec<Table> {
        let row = |case: &str, unit, samples: Samples| Row::new(case, unit, &samples.map(Some));
        let [connect_tcp, connect_unix] = self.connect;
        let [later_tcp, later_unix] = self.later;
        let [p50_tcp, p50_unix] = self.p50;
        let [p99_tcp, p99_unix] = self.p99;
        let columns = vec!["pglite-oxide".to_owned(), "native".to_owned()];
        let connections = vec![
            row("connect and SELECT 1, TCP", Unit::Milliseconds, later_tcp),
            row("connect and SELECT 1, Unix socket", Unit::Milliseconds, later_unix),
            row("the same, one at once after the other, TCP", Unit::Milliseconds, connect_tcp),
            row("the same, one at once after the other, Unix socket", Unit::Milliseconds, connect_unix).note(
                "ours waits for the end of the session before, with its checkpoint, and for the start of the next one",
            ),
        ];
        let questions = vec![
            row("SELECT 1, TCP, median", Unit::Microseconds, p50_tcp),
            row("SELECT 1, TCP, 99th percentile", Unit::Microseconds, p99_tcp),
            row("SELECT 1, Unix socket, median", Unit::Microseconds, p50_unix),
            row("SELECT 1, Unix socket, 99th percentile", Unit::Microseconds, p99_unix),
        ];
        let programs = vec![
            row("pgbench -c1 -S, one transaction", Unit::Milliseconds, self.select),
            row("pgbench -c1 (tpcb-like), one transaction", Unit::Milliseconds, self.write),
            row("pg_dump of a table", Unit::Milliseconds, self.dump),
        ];
        [("Connections", connections), ("Round trips", questions), ("Programs, over the Unix socket", programs)]
            .map(|(title, rows)| Table { title: title.to_owned(), columns: columns.clone(), rows })
            .into()
    }
}

/// The native server, listening at a free TCP port and at its socket.
struct Theirs<'a> {
    server: Server<'a>,
    tcp: SocketAddr,
}

impl<'a> Theirs<'a> {
    fn start(cluster: &'a Cluster, settings: &[(&str, &str)]) -> Result<Self> {
        // The port was free a moment ago; otherwise PostgreSQL reports an error.
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let tcp = free.context(|| "cannot find a free port".into())?;
        let mut settings: Vec<_> = settings.iter().copied().filter(|(name, _)| *name != "fsync").collect();
        settings.push(("listen_addresses", "127.0.0.1"));
        let server = cluster.start(&Options { settings: &settings, port: Some(tcp.port()) })?;
        Ok(Self { server, tcp })
    }

    fn socket(&self) -> PathBuf {
        self.server.socket_directory().join(format!(".s.PGSQL.{}", self.server.port()))
    }
}

/// The process of the embedded server.
struct Ours {
    child: Child,
    tcp: SocketAddr,
}

impl Ours {
    fn start(directory: &Path, settings: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context(|| "cannot find the benchmark program itself".into())?;
        let mut command = Command::new(program);
        command.arg("serve-once").arg("--directory").arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        for setting in settings {
            command.args(["--setting", setting]);
        }
        let mut child = command.spawn().context(|| "cannot start our server".into())?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line).context(|| "cannot read from our server".into())?;
        }
        let port = line.trim().parse::<u16>().context(|| "our server did not start, see above".into())?;
        Ok(Self { child, tcp: ([127, 0, 0, 1], port).into() })
    }

    fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait().context(|| "cannot wait for our server".into())?;
        if status.success() { Ok(()) } else { Err(Error::new(format!("our server failed: {status}"))) }
    }
}

/// Debian's programs.
struct Programs<'a> {
    native: &'a Native,
}

impl Programs<'_> {
    /// Runs one to its end and returns what it printed.
    fn run(&self, side: &Side<'_>, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.native.command(side.work, program);
        command.env("PGHOST", SEEN).env("PGUSER", "postgres").env("PGDATABASE", "postgres").args(arguments);
        let port = side.socket.extension().map(|port| port.to_string_lossy().into_owned());
        command.env("PGPORT", port.unwrap_or_default());
        let output = server::run(&mut command, program)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn versions(sides: &[Side<'_>; 2]) -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for (name, side) in ["ours", "native"].into_iter().zip(sides) {
        let mut client = Bare::connect(side, Way::Unix)?;
        versions.push(format!("{name}: {}", client.ask("SELECT version()")?));
        client.leave()?;
    }
    Ok(versions)
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Tcp,
    Unix,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A client without a library, which measures the server and the system only.
struct Bare {
    stream: Box<dyn Stream>,
    message: BytesMut,
    answer: BytesMut,
    chunk: Vec<u8>,
}

impl Bare {
    fn connect(side: &Side<'_>, way: Way) -> Result<Self> {
        let failed = || "cannot connect".to_owned();
        let stream: Box<dyn Stream> = match way {
            Way::Tcp => {
                let stream = TcpStream::connect(side.tcp).context(failed)?;
                stream.set_nodelay(true).context(failed)?;
                Box::new(stream)
            }
            Way::Unix => Box::new(UnixStream::connect(&side.socket).context(failed)?),
        };
        let mut bare = Self { stream, message: BytesMut::new(), answer: BytesMut::new(), chunk: vec![0; 8 << 10] };
        frontend::startup_message([("user", "postgres"), ("database", "postgres")], &mut bare.message)
            .context(failed)?;
        bare.round_trip()?;
        Ok(bare)
    }

    /// Sends a statement and returns the first value of its answer.
    fn ask(&mut self, sql: &str) -> Result<String> {
        self.message.clear();
        frontend::query(sql, &mut self.message).context(|| sql.to_owned())?;
        self.round_trip()
    }

    fn leave(mut self) -> Result<()> {
        self.message.clear();
        frontend::terminate(&mut self.message);
        self.stream.write_all(&self.message).context(|| "cannot end a connection".into())
    }

    fn round_trip(&mut self) -> Result<String> {
        let broken = |e: std::io::Error| Error::new("a connection broke").cause(e);
        self.stream.write_all(&self.message).map_err(broken)?;
        let mut value = String::new();
        loop {
            while let Some(message) = Message::parse(&mut self.answer).map_err(broken)? {
                match message {
                    Message::DataRow(row) => {
                        value = String::from_utf8_lossy(row.buffer().get(4..).unwrap_or_default()).into()
                    }
                    Message::ErrorResponse(_) => return Err(Error::new("a server answered with an error")),
                    Message::ReadyForQuery(_) => return Ok(value),
                    _ => {}
                }
            }
            let count = self.stream.read(&mut self.chunk).map_err(broken)?;
            if count == 0 {
                return Err(Error::new("a server closed the connection"));
            }
            self.answer.extend_from_slice(&self.chunk[..count]);
        }
    }
}

fn quantile(times: &mut [f64], part: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let place = (times.len() as f64 * part) as usize;
    times.get(place).copied().unwrap_or_default()
}

/// The mean time of a transaction in milliseconds, as pgbench prints it.
fn latency(output: &str) -> Result<f64> {
    let line = output.lines().find_map(|line| line.strip_prefix("latency average = ")?.strip_suffix(" ms"));
    let latency = line.and_then(|number| number.parse().ok());
    latency.ok_or_else(|| Error::new("pgbench printed no latency").cause(output.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbench_says_what_a_transaction_takes() {
        let output = "scaling factor: 1\nlatency average = 0.123 ms\ninitial connection time = 2.1 ms\ntps = 8130.1\n";
        assert_eq!(latency(output).unwrap(), 0.123);
        assert!(latency("tps = 1").is_err());
    }

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let mut times = vec![5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!((quantile(&mut times, 0.5), quantile(&mut times, 0.99)), (3.0, 5.0));
    }
}
