//! `cargo xtask native-directory`: that a data directory belongs to the embedded database and to a
//! native PostgreSQL alike. Both programs run as one user in the native root file system, and take
//! turns on the same directories. It owns the scenarios; the kills belong to `xtask/crash`.

mod template;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::cargo::{SharedTarget, succeed};
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::native::Native;
use crate::paths::Paths;
use crate::regress;

/// Scripts for `psql`, which both sides run.
const SCRIPTS: &[(&str, &str)] = &[
    ("load.sql", include_str!("../native/load.sql")),
    ("queries.sql", include_str!("../native/queries.sql")),
    ("change.sql", include_str!("../native/change.sql")),
    ("every.sql", include_str!("../native/every.sql")),
    ("every_change.sql", include_str!("../native/every_change.sql")),
    ("only_for_tests.sql", include_str!("../native/only_for_tests.sql")),
    ("template.sql", include_str!("../native/template.sql")),
];

const PAGE: &str = include_str!("../../docs/outgrow.md");

/// The programs of this project, where both sides see them.
const PGLITE: &str = "/pgl/bin/pglite";
const CRASH: &str = "/pgl/bin/crash";
/// The root, and its data directory.
const ROOT: &str = "/pgl/shop";
const DATA: &str = "/pgl/shop/pgdata";
/// The same for the databases of PostgreSQL's own tests.
const TESTED: &str = "/pgl/tested";
const TESTED_DATA: &str = "/pgl/tested/pgdata";
/// Options of `initdb` for a directory like those of this crate.
const INITDB: &[&str] = &[
    "-U",
    "postgres",
    "-A",
    "trust",
    "-E",
    "UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
    "--no-sync",
];

/// Options of `native-directory`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Times that a database goes from the embedding program to a server and back
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// Times that one side is killed, and the other one recovers
    #[arg(long, value_name = "N", default_value_t = 700)]
    kills: u32,
    /// States of a disk after a loss of power that both sides recover
    #[arg(long, value_name = "N", default_value_t = 50)]
    power_losses: u32,
    /// Leave out the databases of PostgreSQL's own tests
    #[arg(long)]
    no_regression: bool,
    /// Repeat the kills and the losses with this seed; each run prints its own
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

impl Options {
    /// A small run for `cargo xtask test`.
    pub(crate) fn slice() -> Self {
        Self { rounds: 2, kills: 10, power_losses: 4, no_regression: true, seed: None }
    }
}

/// Runs all scenarios.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let native = Native::prepare(paths, &[])?;
    let target = SharedTarget::acquire(paths)?;
    succeed(&mut target.build(&["--bin", "crash"]))?;
    succeed(&mut target.build(&["-p", "pglite-oxide", "--features", "cli", "--bin", "pglite"]))?;
    let work = native.work_directory()?;
    let bin = work.path().join("bin");
    files::make_directory(&bin)?;
    for program in ["crash", "pglite"] {
        let (from, to) = (target.release().join(program), bin.join(program));
        fs::copy(&from, &to).map_err(|e| Error::io("copy", &from, e))?;
    }
    for (name, text) in SCRIPTS {
        files::write(&work.path().join(name), text)?;
    }
    // What follows needs no build directory, or takes it itself.
    drop(target);
    let here = Here { paths, native: &native, work: work.path() };
    let result = here.scenarios(options);
    if result.is_err() {
        for data in [DATA, TESTED_DATA, "/pgl/theirs", "/pgl/handed-out", "/pgl/plain", "/pgl/fresh/pgdata"] {
            let _ = here.theirs("pg_ctl", &["-D", data, "-s", "-m", "immediate", "stop"]);
        }
        eprintln!("native-directory: what is left of it: {}", work.keep().display());
    }
    result
}

/// The two sides, and the directory that both see as `/pgl`.
struct Here<'a> {
    paths: &'a Paths,
    native: &'a Native,
    work: &'a Path,
}

/// A root that goes to a server and back.
struct Journey<'a> {
    root: &'a str,
    data: &'a str,
    databases: &'a [String],
    /// What is read on both sides.
    queries: &'a str,
    /// What is changed on both sides, in turn.
    change: &'a str,
    /// Whether no statement may fail, or even warn.
    strict: bool,
}

/// What both sides must agree on.
#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    dump: String,
    answers: String,
}

impl Here<'_> {
    fn scenarios(&self, options: &Options) -> Result<()> {
        self.template()?;
        self.shop(options.rounds)?;
        self.locks()?;
        self.logical_decoding()?;
        self.unlogged()?;
        self.native_directories()?;
        self.page()?;
        if !options.no_regression {
            self.regression(options.rounds)?;
        }
        self.crashes(&["power-loss", "--servers", "--states", &options.power_losses.to_string()], options.seed)?;
        self.crashes(&["rounds", "--servers", "--rounds", &options.kills.to_string()], options.seed)
    }

    /// A new database has the contents and the settings of one that `initdb` makes, but for what
    /// the list of differences explains.
    fn template(&self) -> Result<()> {
        self.theirs("initdb", &[&["-D", "/pgl/plain"], INITDB].concat())?;
        self.ours(&["psql", "--root", "/pgl/fresh", "--", "-Xqc", "SELECT 1"])?;
        let server = self.facts("/pgl/plain")?;
        let embedded = self.facts("/pgl/fresh/pgdata")?;
        let summary = template::compare(&server, &embedded)?;
        println!("native-directory: a new database is that of initdb, {summary}");
        Ok(())
    }

    /// What a server finds in a directory that was just made.
    fn facts(&self, data: &str) -> Result<String> {
        let mut facts = String::new();
        for line in self.theirs("pg_controldata", &[data])?.lines() {
            facts.push_str(&format!("control|{line}\n"));
        }
        for file in template::files(&self.work.join(data.trim_start_matches("/pgl/")))? {
            facts.push_str(&format!("file|{file}\n"));
        }
        self.start_configured(data)?;
        let options = ["-h", data, "-U", "postgres", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "/pgl/template.sql"];
        facts.push_str(&self.theirs("psql", &options)?);
        self.theirs("pg_ctl", &["-D", data, "-s", "-m", "fast", "stop"])?;
        Ok(facts)
    }

    /// A database that the embedding program made, with every kind of index and value.
    fn shop(&self, rounds: u32) -> Result<()> {
        self.ours(&["psql", "--root", ROOT, "--", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", "/pgl/load.sql"])?;
        let shop = Journey {
            root: ROOT,
            data: DATA,
            databases: &["postgres".to_owned()],
            queries: "/pgl/queries.sql",
            change: "/pgl/change.sql",
            strict: true,
        };
        self.archives()?;
        self.there_and_back(&shop, rounds)
    }

    /// A server's `pg_restore` reads an archive of the embedded database, however it is compressed.
    fn archives(&self) -> Result<()> {
        let mut scripts = Vec::new();
        for method in ["none", "gzip", "lz4", "zstd:9"] {
            let archive = "/pgl/archive";
            let dump = ["dump", "--root", ROOT, "--format", "custom", "--compression", method, "--output", archive];
            self.ours(&dump)?;
            let script = self.theirs("pg_restore", &["-f", "-", archive])?;
            // All but the key, which is another one each time.
            let lines = script.lines().filter(|line| !line.starts_with('\\'));
            scripts.push(lines.collect::<Vec<_>>().join("\n"));
        }
        if scripts.iter().any(|script| !script.contains("COPY public.kinds") || *script != scripts[0]) {
            return Err(Error::new("archives of one database that are compressed in other ways restore differently"));
        }
        println!("native-directory: pg_restore reads archives with every compression");
        Ok(())
    }

    /// The databases that PostgreSQL's own tests leave.
    fn regression(&self, rounds: u32) -> Result<()> {
        let root = self.work.join(TESTED.trim_start_matches("/pgl/"));
        regress::run(self.paths, &regress::Options::keep(&root))?;
        Native::own(&root)?;
        let names = "SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'template1' ORDER BY 1";
        let databases = self.ours(&["psql", "--root", TESTED, "--", "-XAtqc", names])?;
        let databases: Vec<String> = databases.lines().map(str::to_owned).collect();
        for database in &databases {
            let script = ["--", "-Xq", "-f", "/pgl/only_for_tests.sql"];
            self.ours(&[&["psql", "--root", TESTED, "--database", database][..], &script].concat())?;
        }
        println!("native-directory: the databases {}", databases.join(", "));
        let tested = Journey {
            root: TESTED,
            data: TESTED_DATA,
            databases: &databases,
            queries: "/pgl/every.sql",
            change: "/pgl/every_change.sql",
            strict: false,
        };
        self.there_and_back(&tested, rounds)
    }

    /// A database goes to a server and back, and each side finds what the other one did.
    fn there_and_back(&self, journey: &Journey<'_>, rounds: u32) -> Result<()> {
        let Journey { root, data, .. } = *journey;
        let mut before = self.our_state("--root", journey)?;
        for round in 1..=rounds {
            self.start(data)?;
            agree("the server", &before, &self.their_state(journey)?)?;
            for database in journey.databases {
                self.amcheck(data, database)?;
                self.run_on_server(journey, database, &["-v", "who=server"], journey.change)?;
            }
            self.theirs("vacuumdb", &["-h", data, "-U", "postgres", "-a", "-q"])?;
            let after = self.their_state(journey)?;
            // In every other round the server leaves WAL to be recovered.
            let crash = round % 2 == 0;
            self.theirs("pg_ctl", &["-D", data, "-s", "-m", if crash { "immediate" } else { "fast" }, "stop"])?;
            self.theirs("pg_controldata", &[data])?;
            agree("the embedded database", &after, &self.our_state("--root", journey)?)?;
            for database in journey.databases {
                self.our_amcheck(root, database)?;
                self.run_embedded("--root", journey, database, &["-v", "who=embedded"], journey.change)?;
            }
            before = self.our_state("--root", journey)?;
            println!(
                "native-directory: round {round}: equal on both sides, {} KiB of dump, {} lines of answers{}",
                before.dump.len() / 1024,
                before.answers.lines().count(),
                if crash { ", after a recovery" } else { "" }
            );
        }
        Ok(())
    }

    /// A server's logical decoding reads what the embedded database wrote, from the slot on that
    /// the server made.
    fn logical_decoding(&self) -> Result<()> {
        let psql = ["-h", DATA, "-U", "postgres", "-XAtqc"];
        self.start(DATA)?;
        self.theirs("psql", &[&psql[..], &["ALTER SYSTEM SET wal_level = 'logical'"]].concat())?;
        self.theirs("pg_ctl", &["-D", DATA, "-s", "-w", "-l", "/pgl/log", "-m", "fast", "restart"])?;
        let slot = "SELECT pg_create_logical_replication_slot('decoded', 'test_decoding') IS NOT NULL";
        self.theirs("psql", &[&psql[..], &[slot]].concat())?;
        self.theirs("pg_ctl", &["-D", DATA, "-s", "-m", "fast", "stop"])?;
        let work = "INSERT INTO parts VALUES (5000000001); \
                    SELECT pg_logical_emit_message(true, 'of', 'the embedded database') IS NOT NULL; CHECKPOINT";
        self.ours(&["psql", "--root", ROOT, "--", "-XAtqc", work])?;
        self.start(DATA)?;
        let changes = "SELECT data FROM pg_logical_slot_get_changes('decoded', NULL, NULL, 'include-xids', '0')";
        let found = self.theirs("psql", &[&psql[..], &[changes]].concat())?;
        self.theirs("psql", &[&psql[..], &["SELECT pg_drop_replication_slot('decoded')"]].concat())?;
        self.theirs("psql", &[&psql[..], &["ALTER SYSTEM RESET wal_level"]].concat())?;
        self.theirs("pg_ctl", &["-D", DATA, "-s", "-m", "fast", "stop"])?;
        for part in [
            "table public.parts_high: INSERT: n[bigint]:5000000001",
            "message: transactional: 1 prefix: of, sz: 21 content:the embedded database",
        ] {
            if !found.contains(part) {
                return Err(Error::new(format!("logical decoding does not find {part:?}")).cause(found));
            }
        }
        println!("native-directory: a server decodes the changes and messages of the embedded database");
        Ok(())
    }

    /// An unlogged table with an index and a sequence is kept by a clean end, and empty after a
    /// crash, whichever side wrote it and whichever finds it.
    fn unlogged(&self) -> Result<()> {
        let ours = |sql: &str| self.ours(&["psql", "--root", ROOT, "--", "-XAtqc", sql]);
        let theirs = |sql: &str| self.theirs("psql", &["-h", DATA, "-U", "postgres", "-XAtqc", sql]);
        let stop = |mode| self.theirs("pg_ctl", &["-D", DATA, "-s", "-m", mode, "stop"]);
        let found = |side: &str, rows: String, expected: &str| match rows.trim() == expected {
            true => Ok(()),
            false => Err(Error::new(format!("{side} finds {} rows, expected {expected}", rows.trim()))),
        };
        let count = "SET enable_seqscan = off; SELECT count(*) FROM quick WHERE i > 0";
        let fill = "INSERT INTO quick SELECT nextval('turn') FROM generate_series(1, 1000)";
        ours("CREATE UNLOGGED TABLE quick (i int PRIMARY KEY); CREATE UNLOGGED SEQUENCE turn")?;
        ours(fill)?;
        self.start(DATA)?;
        found("the server, after a clean end,", theirs(count)?, "1000")?;
        theirs(fill)?;
        stop("fast")?;
        found("the embedded database, after a clean end,", ours(count)?, "2000")?;
        self.start(DATA)?;
        theirs(&format!("CHECKPOINT; {fill}"))?;
        stop("immediate")?;
        found("the embedded database, after a crash of the server,", ours(count)?, "0")?;
        // A sequence begins again as well, so the keys are free.
        ours(fill)?;
        // Killed while the session is open: the end of a session is a clean one.
        let fill = fill.replace('\'', "'\\''");
        let kill = format!("p=$PPID; psql -h $PGHOST -XAtq -c 'CHECKPOINT; {fill}' -c \"\\\\! kill -9 $p\"");
        let killed = self.our_output(&["serve", "--root", ROOT, "--run", &kill])?;
        if killed.status.success() {
            return Err(Error::new("the embedded database was to be killed").cause(text(&killed.stdout)));
        }
        self.start(DATA)?;
        found("the server, after a crash of the embedded database,", theirs(count)?, "0")?;
        theirs("DROP TABLE quick; DROP SEQUENCE turn")?;
        stop("fast")?;
        println!("native-directory: unlogged tables are kept by a clean end, and empty after a crash");
        Ok(())
    }

    /// Neither side opens what the other one has open.
    fn locks(&self) -> Result<()> {
        self.start(DATA)?;
        let pid = self.pid(DATA)?;
        let refused = self.our_output(&["psql", "--root", ROOT, "--", "-Xc", "SELECT 1"])?;
        let said = text(&refused.stderr);
        if refused.status.success() || !said.contains(&format!("is in use by a PostgreSQL server (pid {pid})")) {
            return Err(Error::new("a directory that a server has open was not refused").cause(said));
        }
        self.theirs("pg_ctl", &["-D", DATA, "-s", "-m", "fast", "stop"])?;

        // While the embedding program serves the root, a server does not start.
        let script = format!(
            "pg_ctl -D {DATA} status; echo status $?; postgres -D {DATA} 2>&1; echo server $?; test -e {DATA}/postmaster.pid && echo held"
        );
        let held = self.our_output(&["serve", "--root", ROOT, "--run", &script])?;
        let said = text(&held.stdout) + &text(&held.stderr);
        for part in ["single-user server is running", "lock file \"postmaster.pid\" already exists", "server 1", "held"]
        {
            if !said.contains(part) {
                return Err(Error::new(format!("a server on a directory in use: {part:?} is missing")).cause(said));
            }
        }
        println!("native-directory: each side refuses what the other one has open");
        Ok(())
    }

    /// Directories that `initdb` and `pg_basebackup` made, opened in place and copied.
    fn native_directories(&self) -> Result<()> {
        let theirs = "/pgl/theirs";
        self.theirs("initdb", &[&["-D", theirs], INITDB].concat())?;
        let load = ["psql", "--data-directory", theirs, "--", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", "/pgl/load.sql"];
        self.ours(&load)?;
        let databases = ["postgres".to_owned()];
        let at = |root, data| Journey {
            root,
            data,
            databases: &databases,
            queries: "/pgl/queries.sql",
            change: "/pgl/change.sql",
            strict: true,
        };
        let in_place = at(theirs, theirs);
        let made = self.our_state("--data-directory", &in_place)?;
        self.start_configured(theirs)?;
        agree("the server of initdb", &made, &self.their_state(&in_place)?)?;
        self.amcheck(theirs, "postgres")?;
        let backup = "/pgl/backup";
        self.theirs("pg_basebackup", &["-h", theirs, "-U", "postgres", "-D", backup, "-c", "fast"])?;
        self.theirs("pg_ctl", &["-D", theirs, "-s", "-m", "immediate", "stop"])?;
        // The backup is copied, and opened as it is; both recover from its WAL.
        self.ours(&["import", backup, "--root", "/pgl/from-backup"])?;
        let imported = at("/pgl/from-backup", "/pgl/from-backup/pgdata");
        agree("the import of a backup", &made, &self.our_state("--root", &imported)?)?;
        agree("the backup in place", &made, &self.our_state("--data-directory", &at(backup, backup))?)?;
        agree("the directory of initdb", &made, &self.our_state("--data-directory", &in_place)?)?;
        self.ours(&["export", "--root", "/pgl/from-backup", "/pgl/handed-out"])?;
        self.start_configured("/pgl/handed-out")?;
        agree("the export", &made, &self.their_state(&at("/pgl/handed-out", "/pgl/handed-out"))?)?;
        self.theirs("pg_ctl", &["-D", "/pgl/handed-out", "-s", "-m", "fast", "stop"])?;
        println!("native-directory: directories of initdb and pg_basebackup are opened, imported and exported");
        Ok(())
    }

    /// Every command of `docs/outgrow.md`, in its order.
    fn page(&self) -> Result<()> {
        let commands = commands(PAGE);
        for command in &commands {
            let script = format!("cd /pgl; PATH=/pgl/bin:$PATH; {command}");
            let output = output(self.native.command(self.work, "sh").args(["-c", &script]))?;
            finished(&format!("the command of docs/outgrow.md: {command}"), &output)?;
        }
        println!("native-directory: {} commands of docs/outgrow.md work", commands.len());
        Ok(())
    }

    /// Crashes, by the program that crashes databases; the other side recovers.
    fn crashes(&self, arguments: &[&str], seed: Option<u64>) -> Result<()> {
        let mut crash = self.native.command(self.work, CRASH);
        crash.args(arguments);
        if let Some(seed) = seed {
            crash.args(["--seed", &seed.to_string()]);
        }
        let status = crash.status().context(|| "cannot start the program that crashes databases".into())?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::new(format!("crash {} failed: {status}", arguments.join(" "))))
        }
    }

    fn start(&self, data: &str) -> Result<()> {
        self.theirs("pg_ctl", &["-D", data, "-s", "-w", "-l", "/pgl/log", "start"]).map(drop)
    }

    /// Starts a server on a directory of `initdb`, which says nothing about sockets.
    fn start_configured(&self, data: &str) -> Result<()> {
        let options = format!("-k {data} -c listen_addresses=");
        self.theirs("pg_ctl", &["-D", data, "-s", "-w", "-l", "/pgl/log", "-o", &options, "start"]).map(drop)
    }

    fn pid(&self, data: &str) -> Result<String> {
        let file = self.work.join(data.trim_start_matches("/pgl/")).join("postmaster.pid");
        Ok(files::text(&file)?.lines().next().unwrap_or_default().to_owned())
    }

    /// All relations of a database, with their indexes.
    fn amcheck(&self, data: &str, database: &str) -> Result<()> {
        let options = ["--install-missing", "--heapallindexed", "--parent-check"];
        let arguments = [&["-h", data, "-U", "postgres", "-d", database], &options[..]].concat();
        self.theirs("pg_amcheck", &arguments).map(drop)
    }

    fn our_amcheck(&self, root: &str, database: &str) -> Result<()> {
        let sql = "SELECT count(*) FROM (SELECT bt_index_parent_check(i.indexrelid, true, true) FROM pg_index i \
                   JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relkind = 'i' \
                   AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid); \
                   SELECT t.oid::regclass, v.* FROM pg_class t JOIN pg_am a ON a.oid = t.relam, \
                   LATERAL verify_heapam(t.oid, check_toast => true) v \
                   WHERE t.relkind IN ('r', 't', 'm') AND t.relpersistence = 'p' AND a.amname = 'heap'";
        let options = ["--", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql];
        let found = self.ours(&[&["psql", "--root", root, "--database", database], &options[..]].concat())?;
        let lines: Vec<&str> = found.lines().collect();
        // The number of indexes, and no finding.
        match lines[..] {
            [number] if number.parse().is_ok_and(|number: u32| number > 100) => Ok(()),
            _ => Err(Error::new("amcheck of the embedded database").cause(found)),
        }
    }

    /// The state of a journey's databases, read by the embedding program. `kind` is the option that
    /// names the directory.
    fn our_state(&self, kind: &str, journey: &Journey<'_>) -> Result<State> {
        let mut state = State::default();
        for database in journey.databases {
            let dump = self.ours(&["dump", kind, journey.root, "--database", database])?;
            state.dump += &without_versions(&dump);
            state.answers += &self.run_embedded(kind, journey, database, &[], journey.queries)?;
        }
        Ok(state)
    }

    /// The same, read by a server.
    fn their_state(&self, journey: &Journey<'_>) -> Result<State> {
        let mut state = State::default();
        for database in journey.databases {
            let dump = self.theirs("pg_dump", &["-h", journey.data, "-U", "postgres", "-d", database])?;
            state.dump += &without_versions(&dump);
            state.answers += &self.run_on_server(journey, database, &[], journey.queries)?;
        }
        Ok(state)
    }

    /// Runs a script of a journey in a database of the embedding program, and returns its output.
    fn run_embedded(
        &self,
        kind: &str,
        journey: &Journey<'_>,
        database: &str,
        variables: &[&str],
        script: &str,
    ) -> Result<String> {
        let head = ["psql", kind, journey.root, "--database", database, "--", "-Xq"];
        let output = self.our_output(&[&head[..], &journey.options(), variables, &["-f", script]].concat())?;
        journey.check(&format!("{script} in the embedded database {database}"), &output)
    }

    /// The same in a database of a server.
    fn run_on_server(&self, journey: &Journey<'_>, database: &str, variables: &[&str], script: &str) -> Result<String> {
        let head = ["-h", journey.data, "-U", "postgres", "-d", database, "-Xq"];
        let arguments = [&head[..], &journey.options(), variables, &["-f", script]].concat();
        let output = output(self.native.command(self.work, "psql").args(arguments))?;
        journey.check(&format!("{script} in the database {database} of the server"), &output)
    }

    fn ours(&self, arguments: &[&str]) -> Result<String> {
        finished(&format!("pglite {}", arguments.join(" ")), &self.our_output(arguments)?)
    }

    fn our_output(&self, arguments: &[&str]) -> Result<Output> {
        output(self.native.command(self.work, PGLITE).args(arguments))
    }

    fn theirs(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = output(self.native.command(self.work, program).args(arguments))?;
        let log = fs::read_to_string(self.work.join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        finished(&format!("{program} {}", arguments.join(" ")), &output).map_err(|error| {
            if tail.is_empty() { error } else { error.cause(tail.into_iter().rev().collect::<Vec<_>>().join("\n")) }
        })
    }
}

impl Journey<'_> {
    fn options(&self) -> Vec<&'static str> {
        if self.strict { vec!["-v", "ON_ERROR_STOP=1"] } else { Vec::new() }
    }

    /// The output of a script.
    fn check(&self, what: &str, output: &Output) -> Result<String> {
        let found = finished(what, output)?;
        if self.strict && !output.stderr.is_empty() {
            return Err(Error::new(format!("{what} is not silent")).cause(text(&output.stderr)));
        }
        Ok(found)
    }
}

/// The commands of a page, which follow the prompt `$`.
fn commands(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

fn output(command: &mut Command) -> Result<Output> {
    command.output().context(|| "cannot start a program in the native root file system".into())
}

fn finished(what: &str, output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stdout).lines().rev().take(5).collect::<Vec<_>>().join("\n") + &text(&output.stderr);
    Err(Error::new(format!("{what} failed: {}", output.status)).cause(said))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A dump without what differs between two servers of one major version, and between two dumps: a
/// recovery leaves a sequence up to 32 values further on, as everywhere.
fn without_versions(dump: &str) -> String {
    let differs = [
        "SELECT pg_catalog.setval(",
        "-- Dumped from database version",
        "-- Dumped by pg_dump version",
        "\\restrict ",
        "\\unrestrict ",
    ];
    let lines = dump.lines().filter(|line| !differs.iter().any(|start| line.starts_with(start)));
    lines.map(|line| without_alias_word(line) + "\n").collect()
}

/// A line of a rule without the word AS between the table that it changes and its alias: servers
/// from 17.12 on write it.
fn without_alias_word(line: &str) -> String {
    for command in [" UPDATE ", " DELETE FROM "] {
        if let Some((head, tail)) = line.rsplit_once(command)
            && let Some((table, rest)) = tail.split_once(" AS ")
            && !table.contains(' ')
        {
            return format!("{head}{command}{table} {rest}");
        }
    }
    line.to_owned()
}

/// An error with the first difference.
fn agree(who: &str, expected: &State, found: &State) -> Result<()> {
    for (what, expected, found) in
        [("dump", &expected.dump, &found.dump), ("answers", &expected.answers, &found.answers)]
    {
        if expected == found {
            continue;
        }
        let pairs = expected.lines().zip(found.lines()).enumerate();
        let (line, (a, b)) = pairs.into_iter().find(|(_, (a, b))| a != b).unwrap_or_default();
        let message = format!("the {what} of {who} differ from the other side's at line {}", line + 1);
        return Err(Error::new(message).cause(format!("expected: {a:.300}\nfound: {b:.300}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_follow_the_prompt() {
        assert_eq!(commands("a\n```console\n$ one -x\n$ two\n```\n"), ["one -x", "two"]);
        assert!(commands(PAGE).len() > 10);
    }

    #[test]
    fn an_alias_is_the_same_with_and_without_its_word() {
        let rule = "    ON UPDATE TO a DO INSTEAD  UPDATE public.b AS c SET d = (e AS f)";
        assert_eq!(without_alias_word(rule), "    ON UPDATE TO a DO INSTEAD  UPDATE public.b c SET d = (e AS f)");
        assert_eq!(without_alias_word("SELECT a AS b"), "SELECT a AS b");
        assert_eq!(without_alias_word("  DELETE FROM a WHERE b AS c"), "  DELETE FROM a WHERE b AS c");
    }

    #[test]
    fn states_that_differ_are_told_by_line() {
        let state = |dump: &str| State { dump: without_versions(dump), answers: String::new() };
        let one = state("-- Dumped from database version 17.11\na\nb\n\\restrict x\n");
        assert_eq!(one.dump, "a\nb\n");
        assert!(agree("x", &one, &state("-- Dumped from database version 17.12\na\nb\n\\restrict y\n")).is_ok());
        let error = agree("x", &one, &state("a\nc\n")).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("expected: b"), "{error}");
    }
}
