//! Databases in a directory: what is durable, who may open what, archives and copies.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use pglite_oxide::{Durability, ErrorKind, Format, Pglite, SimpleQueryMessage};

/// A directory for databases.
fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn value(db: &mut Pglite, sql: &str) -> String {
    let answer = db.simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let value = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    value.unwrap_or_else(|| panic!("{sql}: no value"))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Another process that runs the test of this name. In that process `in_child` returns the path.
struct Other {
    child: Child,
    output: BufReader<ChildStdout>,
}

const CHILD: &str = "PGLITE_OXIDE_TEST_CHILD";

/// In a process that [`Other::start`] started, the path it was given.
fn in_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// In a child: tells the test that it has come this far.
fn ready() {
    println!("READY");
    std::io::stdout().flush().unwrap();
}

/// In a child: waits until the test goes on, if it ever does.
fn pause() {
    ready();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

impl Other {
    fn start(test: &str, path: &Path, environment: &[(&str, &Path)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--include-ignored"])
            .env(CHILD, path)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Waits until the process calls `ready` or `pause`.
    fn wait_until_ready(&mut self) {
        let mut line = String::new();
        while !line.contains("READY") {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the process ended before it was ready");
        }
    }

    /// Ends a `pause`.
    fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end, which must be a success.
    fn end(mut self) {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn data_is_there_after_a_close_and_after_a_drop() {
    let dir = place();
    let path = dir.path().join("db");
    let mut db = Pglite::open(&path).unwrap();
    db.batch_execute("CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT i, repeat('x', i) FROM generate_series(1, 2000) i").unwrap();
    db.close().unwrap();
    assert_eq!(names(dir.path()), ["db"]);
    for round in 0..2 {
        let mut db = Pglite::open(&path).unwrap();
        assert_eq!(value(&mut db, "SELECT count(*) || ' ' || sum(length(b)) FROM t"), "2000 2001000");
        assert_eq!(value(&mut db, "SHOW fsync") + &value(&mut db, "SHOW synchronous_commit"), "onon");
        db.batch_execute("CREATE TABLE IF NOT EXISTS more (a int)").unwrap();
        // The second round ends by dropping.
        if round == 0 {
            db.close().unwrap();
        }
    }
    assert!(!path.join("pgdata/postmaster.pid").exists());
}

/// The file says which process has the database open, also between two sessions, as a PostgreSQL
/// server expects it. One that is empty, as it may be after a loss of power, or of a process that
/// is gone was left behind.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_postmaster_pid_is_there_while_the_database_is_open() {
    let dir = place();
    let path = dir.path().join("db");
    Pglite::open(&path).unwrap().close().unwrap();
    let file = path.join("pgdata/postmaster.pid");
    for left in ["", "1999999999\n/elsewhere\n", "not a number"] {
        fs::write(&file, left).unwrap();
        let mut db = Pglite::open(&path).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with(&format!("-{}\n{}/pgdata\n", std::process::id(), path.display())), "{text}");
        assert_eq!(value(&mut db, "SELECT pg_read_file('postmaster.pid')"), text);
        db.close().unwrap();
        assert!(!file.exists(), "{left:?}");
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_database_that_a_server_has_open_is_in_use() {
    let dir = place();
    let path = dir.path().join("db");
    Pglite::open(&path).unwrap().close().unwrap();
    let mut server = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let text = format!("{}\n{}/pgdata\n1\n5432\n\n\n\nready\n", server.id(), path.display());
    fs::write(path.join("pgdata/postmaster.pid"), &text).unwrap();
    let refused = Pglite::open(&path).map(drop);
    server.kill().unwrap();
    server.wait().unwrap();
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.to_string().contains(&format!("a PostgreSQL server (pid {}); stop it", server.id())), "{error}");
    Pglite::open(&path).unwrap().close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_root_can_be_moved_and_has_an_identity_of_its_own() {
    let dir = place();
    let identifier = |path: &Path| {
        let mut db = Pglite::open(path).unwrap();
        value(&mut db, "SELECT system_identifier FROM pg_control_system()")
    };
    let (one, two) = (identifier(&dir.path().join("one")), identifier(&dir.path().join("two")));
    assert_ne!(one, two);
    std::fs::rename(dir.path().join("one"), dir.path().join("three")).unwrap();
    assert_eq!(identifier(&dir.path().join("three")), one);
    let mut temporary = Pglite::temporary().unwrap();
    assert!(![one, two].contains(&value(&mut temporary, "SELECT system_identifier FROM pg_control_system()")));
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_killed_process_loses_no_commit_and_keeps_no_lock() {
    if let Some(path) = in_child() {
        let mut db = Pglite::open(path).unwrap();
        db.batch_execute("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)").unwrap();
        db.batch_execute("BEGIN; INSERT INTO t VALUES (0)").unwrap();
        return pause();
    }
    let dir = place();
    let path = dir.path().join("db");
    for round in 0..3 {
        let mut other = Other::start("a_killed_process_loses_no_commit_and_keeps_no_lock", &path, &[]);
        other.wait_until_ready();
        let error = Pglite::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
        assert!(error.to_string().contains(&format!("pid {}", other.child.id())), "{error}");
        other.kill();
        let mut db = Pglite::open(&path).unwrap();
        assert_eq!(value(&mut db, "SELECT count(*) || ' ' || min(a) FROM t"), "1000 1", "round {round}");
        db.batch_execute("DROP TABLE t").unwrap();
        db.close().unwrap();
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn one_open_at_a_time_in_one_process() {
    let dir = place();
    let path = dir.path().join("db");
    let db = Pglite::open(&path).unwrap();
    let error = Pglite::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.to_string().contains("by this process"), "{error}");
    db.close().unwrap();
    // A session that PostgreSQL ended keeps no lock, even while its `Pglite` still exists.
    let mut ended = Pglite::open(&path).unwrap();
    ended.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").unwrap_err();
    Pglite::open(&path).unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_creation_that_is_killed_leaves_no_database_or_a_whole_one() {
    if let Some(path) = in_child() {
        ready();
        Pglite::open(path).unwrap();
        return pause();
    }
    let dir = place();
    let path = dir.path().join("db");
    // The moments of the kill: how far the creation must have come.
    let made = |process: u32, name: &str| {
        let prefix = format!(".db.new-{process}-");
        let mut entries = std::fs::read_dir(dir.path()).unwrap().flatten();
        entries
            .any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix) && entry.path().join(name).exists())
    };
    let moments = ["", "pgdata", "pgdata/base/5/PG_VERSION", "pglite-oxide.json", "whole"];
    for moment in ["at once"].into_iter().chain(moments) {
        let mut other = Other::start("a_creation_that_is_killed_leaves_no_database_or_a_whole_one", &path, &[]);
        other.wait_until_ready();
        // A stage may be over before it is seen; then a later one is used.
        let process = other.child.id();
        while moment != "at once" && !path.exists() && !made(process, moment) {
            assert!(!other.has_ended(), "the creation failed before it made {moment:?}");
            std::thread::yield_now();
        }
        other.kill();
        assert!(path.exists() || moment != "whole", "a database that was there is gone");
        if path.exists() {
            let mut db = Pglite::open(&path).unwrap();
            assert_eq!(value(&mut db, "SELECT count(*) FROM pg_database"), "3");
            drop(db);
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
    // Creating one removes what the killed processes left.
    Pglite::open(&path).unwrap().close().unwrap();
    assert_eq!(names(dir.path()), ["db"]);
}

#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_application_has_a_database_of_its_own() {
    if in_child().is_some() {
        return Pglite::builder().app("org", "Example", "Shop").open().unwrap().close().unwrap();
    }
    let dir = place();
    let environment = [("XDG_DATA_HOME", dir.path())];
    Other::start("an_application_has_a_database_of_its_own", dir.path(), &environment).end();
    assert_eq!(names(&dir.path().join("shop")), ["pglite-oxide"]);
    Pglite::open(dir.path().join("shop/pglite-oxide")).unwrap().close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn what_is_not_a_database_of_ours_is_refused() {
    let dir = place();
    std::fs::write(dir.path().join("letter.txt"), "").unwrap();
    let refusal = || {
        let error = Pglite::open(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        error.to_string()
    };
    assert!(refusal().contains("not empty and not a database"), "{}", refusal());
    std::fs::write(dir.path().join("PG_VERSION"), "17\n").unwrap();
    assert!(refusal().contains("data directory of a PostgreSQL server"));
    assert_eq!(names(dir.path()), ["PG_VERSION", "letter.txt"]);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn nothing_outside_is_read_or_written() {
    let dir = place();
    let path = dir.path().join("db");
    std::fs::write(dir.path().join("secret"), "secret\n").unwrap();
    let mut db = Pglite::open(&path).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path().join("secret"), path.join("pgdata/file")).unwrap();
        std::os::unix::fs::symlink(dir.path(), path.join("pgdata/out")).unwrap();
    }
    let outside = dir.path().display();
    for name in ["file", "out/secret", "/pgdata/../../secret", "../secret", &format!("{outside}/secret"), "/etc/passwd"]
    {
        let absolute = if name.starts_with('/') { name.to_string() } else { format!("/pgdata/{name}") };
        for sql in [
            format!("SELECT pg_read_file('{name}')"),
            format!("CREATE TEMP TABLE x (a text); COPY x FROM '{absolute}'"),
            format!("COPY (SELECT 'overwritten') TO '{absolute}'"),
        ] {
            // Other files below `/` are in the memory of the guest, which may write there.
            let is_own =
                absolute.starts_with("/etc") || absolute.contains("..") || absolute.starts_with(&outside.to_string());
            if !(is_own && sql.contains(") TO ")) {
                assert!(db.batch_execute(&sql).is_err(), "{sql}");
            }
        }
    }
    // The guest has a `/tmp` of its own. No file of the machine has this name.
    let shared = Path::new("/tmp").join(dir.path().file_name().unwrap()).with_extension("new");
    assert!(db.batch_execute("COPY (SELECT 1) TO '/pgdata/out/new'").is_err());
    db.batch_execute(&format!("COPY (SELECT 1) TO '{}'", shared.display())).unwrap();
    for name in ["/pgdata/../../new", "/new"] {
        // The guest may or may not write there; the machine must not have the file.
        let _ = db.batch_execute(&format!("COPY (SELECT 1) TO '{name}'"));
    }
    assert!(!shared.exists() && !Path::new("/new").exists(), "a file of the guest is on the machine");
    db.close().unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("secret")).unwrap(), "secret\n");
    assert_eq!(
        (names(dir.path()), names(&path)),
        (
            ["db", "secret"].map(String::from).to_vec(),
            ["lock", "pgdata", "pglite-oxide.json"].map(String::from).to_vec()
        )
    );
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn archives_make_new_databases() {
    let dir = place();
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 5000) i; CREATE INDEX ON t (i)")
        .unwrap();
    let sum = value(&mut db, "SELECT md5(string_agg(md5, '' ORDER BY i)) FROM t");
    for format in [Format::Tar, Format::TarZst] {
        let archive = dir.path().join(format!("{format:?}"));
        db.batch_execute("BEGIN; DELETE FROM t").unwrap();
        db.dump_data_dir(std::fs::File::create(&archive).unwrap(), format).unwrap();
        db.batch_execute("ROLLBACK").unwrap();
        let path = dir.path().join(format!("db {format:?}"));
        for builder in [Pglite::builder().path(&path), Pglite::builder()] {
            let mut loaded = builder.load(&archive).open().unwrap();
            assert_eq!(value(&mut loaded, "SELECT md5(string_agg(md5, '' ORDER BY i)) FROM t"), sum);
            loaded.batch_execute("DROP TABLE t").unwrap();
        }
        let error = Pglite::builder().path(&path).load(&archive).open().unwrap_err();
        assert!(error.to_string().contains("there is a database already"), "{error}");
    }
    let half = std::fs::read(dir.path().join("TarZst")).unwrap();
    let path = dir.path().join("half");
    Pglite::builder().path(&path).load_data_dir(&half[..half.len() / 2]).unwrap_err();
    assert!(!path.exists());
    assert!(names(dir.path()).iter().all(|name| !name.starts_with('.')), "{:?}", names(dir.path()));
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_clone_goes_its_own_way() {
    let dir = place();
    for mut db in [Pglite::temporary().unwrap(), Pglite::open(dir.path().join("db")).unwrap()] {
        db.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 1000) a").unwrap();
        db.batch_execute("BEGIN; INSERT INTO t VALUES (0)").unwrap();
        let mut copy = db.try_clone().unwrap();
        let mut third = copy.try_clone().unwrap();
        db.batch_execute("COMMIT; DELETE FROM t WHERE a <= 500").unwrap();
        copy.batch_execute("INSERT INTO t SELECT generate_series(2001, 2010)").unwrap();
        let count = |db: &mut Pglite| value(db, "SELECT count(*) || ' ' || min(a) || ' ' || max(a) FROM t");
        assert_eq!(
            (count(&mut db), count(&mut copy), count(&mut third)),
            ("500 501 1000".to_string(), "1010 1 2010".to_string(), "1000 1 1000".to_string())
        );
        db.close().unwrap();
        assert_eq!(count(&mut copy), "1010 1 2010");
        assert_eq!(value(&mut copy, "SHOW fsync"), "off");
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn what_was_asked_for_is_there() {
    let dir = place();
    let path = dir.path().join("db");
    let mut db = Pglite::builder()
        .path(&path)
        .durability(Durability::Relaxed)
        .setting("work_mem", "17MB")
        .setting("my.value", "it's \"x\"=1 \\")
        .extension("pg_trgm")
        .open()
        .unwrap();
    assert_eq!(value(&mut db, "SHOW work_mem"), "17MB");
    assert_eq!(value(&mut db, "SHOW my.value"), "it's \"x\"=1 \\");
    assert_eq!(value(&mut db, "SHOW fsync") + &value(&mut db, "SHOW synchronous_commit"), "onoff");
    assert_eq!(value(&mut db, "SELECT similarity('a', 'a')"), "1");
    db.batch_execute("CREATE DATABASE shop").unwrap();
    db.batch_execute("CREATE ROLE clerk LOGIN").unwrap();
    db.close().unwrap();
    let shop = Pglite::builder().path(&path).database("shop").extension("pg_trgm");
    let mut db = shop.clone().open().unwrap();
    assert_eq!(value(&mut db, "SELECT current_database() || ' ' || current_user"), "shop postgres");
    db.close().unwrap();
    let mut db = Pglite::builder().path(&path).user("clerk").durability(Durability::None).open().unwrap();
    assert_eq!(value(&mut db, "SELECT session_user || ' ' || current_setting('fsync')"), "clerk off");
    db.close().unwrap();

    let error = Pglite::builder().path(&path).database("nothing").open().unwrap_err();
    assert_eq!(*error.code().unwrap(), "3D000", "{error}");
    let error = Pglite::builder().path(&path).user("nobody").open().unwrap_err();
    assert_eq!(*error.code().unwrap(), "28000", "{error}");
    Pglite::open(&path).unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn settings_that_cannot_be_are_refused() {
    let dir = place();
    let path = dir.path().join("db");
    let error = Pglite::builder().path(&path).setting("fsync", "off").open().unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Config, "setting \"fsync\": use `durability`"));
    assert!(!path.exists());
    for (name, value, code) in [("work_mem", "banana", "22023"), ("no_such_setting", "1", "42704")] {
        let error = Pglite::builder().path(&path).setting(name, value).open().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(*error.code().unwrap_or_else(|| panic!("no SQLSTATE in {error}")), code);
        Pglite::open(&path).unwrap().close().unwrap();
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_temporary_database_on_disk_leaves_nothing() {
    if in_child().is_some() {
        let mut db = Pglite::builder().temporary_on_disk().open().unwrap();
        db.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 100000) a").unwrap();
        assert_eq!(value(&mut db, "SELECT count(*) FROM t"), "100000");
        pause();
        return db.close().unwrap();
    }
    // The process has a directory for temporary files of its own.
    let dir = place();
    let environment = ["TMPDIR", "TMP", "TEMP"].map(|name| (name, dir.path()));
    let mut other = Other::start("a_temporary_database_on_disk_leaves_nothing", dir.path(), &environment);
    other.wait_until_ready();
    assert_eq!(names(dir.path()).len(), 1, "{:?}", names(dir.path()));
    other.go_on();
    other.end();
    assert_eq!(names(dir.path()), [""; 0]);
}

/// A commit that is acknowledged has been synced; with `Durability::None` nothing is.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn commits_are_synced_as_promised() {
    use pglite_oxide::dev::{self, LogFs, Operation};
    for (durability, expected) in [(Durability::Full, true), (Durability::None, false)] {
        let log = LogFs::new(std::sync::Arc::new(dev::template().unwrap())).unwrap();
        let mut db = dev::open(std::sync::Arc::new(log.clone()), durability, &[]).unwrap();
        db.batch_execute("CREATE TABLE t (a int)").unwrap();
        for round in 0..5 {
            let before = log.len();
            db.batch_execute("INSERT INTO t VALUES (1)").unwrap();
            let operations = &log.recording().operations[before..];
            let last = operations.iter().rev().find(|o| matches!(o, Operation::Write { .. } | Operation::Sync(_)));
            assert_eq!(
                matches!(last, Some(Operation::Sync(Some(_)))),
                expected,
                "{durability:?} {round}: {operations:?}"
            );
        }
        db.close().unwrap();
    }
}

/// After a loss of power every acknowledged commit is there, if syncs work. If they do nothing,
/// none is: the test would notice.
#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_loss_of_power_loses_no_commit() {
    use pglite_oxide::dev::{self, Class, Fate, Fault, FaultFs, LogFs, Plan};
    let run = |swallow: bool| {
        let base = dev::template().unwrap();
        let log = LogFs::new(std::sync::Arc::new(base.copy())).unwrap();
        let plan = Plan { fault: Fault::Swallowed, class: Class::Sync, at: 0, lasting: swallow };
        let at = if swallow { 0 } else { u64::MAX };
        let fault = FaultFs::new(std::sync::Arc::new(log.clone()), Plan { at, ..plan });
        let mut db = dev::open(std::sync::Arc::new(fault), Durability::Full, &[]).unwrap();
        db.batch_execute("CREATE TABLE t (a int PRIMARY KEY)").unwrap();
        let mut acknowledged = Vec::new();
        for number in 0..6 {
            db.batch_execute(&format!("INSERT INTO t VALUES ({number})")).unwrap();
            acknowledged.push(log.len());
        }
        let recording = log.recording();
        drop(db);
        // The commits that are missing after a loss of everything that was not synced.
        acknowledged
            .iter()
            .enumerate()
            .filter(|(number, prefix)| {
                let after = recording.rebuild(&base, **prefix, |_| Fate::Lost).unwrap();
                let opened = dev::open(std::sync::Arc::new(after), Durability::Full, &[]);
                opened
                    .and_then(|mut db| db.query_one("SELECT count(*) FROM t", &[]))
                    .map_or(true, |row| row.get::<_, i64>(0) != *number as i64 + 1)
            })
            .count()
    };
    assert_eq!(run(false), 0);
    assert_eq!(run(true), 6);
}
