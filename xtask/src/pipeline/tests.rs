//! The engine as a whole: what is kept, what is run again, and what a run that dies leaves behind.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::fingerprint::Inputs;
use super::plan::{Step, StepState};
use super::*;
use crate::paths::Paths;

/// A cache directory and the steps that have run in it.
struct Bench {
    cache: tempfile::TempDir,
    ran: RefCell<Vec<String>>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Bench {
    fn new() -> Self {
        Self { cache: tempfile::tempdir().unwrap(), ran: RefCell::default(), said: Arc::default() }
    }

    fn paths(&self) -> Paths {
        Paths { root: self.cache.path().to_path_buf(), cache: self.cache.path().to_path_buf() }
    }

    fn store(&self) -> Store {
        Store::new(&self.paths())
    }

    /// Runs a plan whose steps copy their input and the output of the steps before them. Returns the steps that ran.
    fn run(&self, plan: &Plan) -> Vec<String> {
        self.try_run(plan, |context| write_output(context, "made")).unwrap()
    }

    fn try_run(&self, plan: &Plan, work: impl Fn(&mut StepContext<'_>) -> Result<()>) -> Result<Vec<String>> {
        self.ran.borrow_mut().clear();
        let mut executors: BTreeMap<StepId, Executor<'_>> = BTreeMap::new();
        for step in &plan.steps {
            let (id, work) = (step.id.to_string(), &work);
            let executor = move |context: &mut StepContext<'_>| {
                self.ran.borrow_mut().push(id.clone());
                work(context)
            };
            executors.insert(step.id.clone(), Box::new(executor));
        }
        let lock = RunLock::acquire(self.cache.path(), "test", |_| {}).unwrap();
        let progress = Progress::lines(self.said.clone(), Duration::from_secs(3600));
        let outputs = run(plan, &executors, &self.store(), &lock, &progress)?;
        for output in outputs.values() {
            assert!(output.join("sub/file").is_file());
        }
        Ok(self.ran.borrow().clone())
    }

    /// What progress was shown since the last call, without times.
    fn said(&self) -> String {
        let said = String::from_utf8(std::mem::take(&mut *self.said.lock().unwrap())).unwrap();
        said.lines().map(|line| format!("{}\n", line.split(": done in ").next().unwrap())).collect()
    }

    fn scratch_directories(&self) -> usize {
        fs::read_dir(self.paths().scratch().join("steps")).unwrap().count()
    }

    /// The stored output of a step.
    fn out(&self, plan: &Plan, step: &str) -> PathBuf {
        let step = plan.step(&id(step)).unwrap();
        self.paths().store().join(step.id.directory()).join(step.fingerprint.to_string()).join("out")
    }
}

fn write_output(context: &StepContext<'_>, content: &str) -> Result<()> {
    let sub = context.out.join("sub");
    fs::create_dir(&sub).unwrap();
    fs::create_dir(context.out.join("empty")).unwrap();
    fs::write(sub.join("file"), content).unwrap();
    fs::write(context.out.join("tool"), "#!/bin/sh\n").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt, symlink};
        fs::set_permissions(context.out.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("sub/file", context.out.join("link")).unwrap();
    }
    fs::write(context.work.join("rubbish"), "x").unwrap();
    Ok(())
}

fn id(name: &str) -> StepId {
    StepId::new(name).unwrap()
}

/// `image` <- `guest/main` <- `guest/vector`, with the given source for `guest/main`.
fn plan(source: &str) -> Plan {
    let step = |name: &str, source: &str, after: &[&str]| Step {
        id: id(name),
        title: format!("making {name}"),
        inputs: Inputs::new().text("source", source).unwrap(),
        after: after.iter().map(|name| id(name)).collect(),
    };
    let steps = vec![
        step("image", "debs", &[]),
        step("guest/main", source, &["image"]),
        step("guest/vector", "v", &["guest/main"]),
    ];
    Plan::new(1, steps).unwrap()
}

#[test]
fn the_second_run_runs_nothing_and_a_change_runs_what_depends_on_it() {
    let bench = Bench::new();
    assert_eq!(bench.run(&plan("1")), ["image", "guest/main", "guest/vector"]);
    insta::assert_snapshot!(bench.said(), @"
    [1/3] image: making image
    [1/3] image
    [2/3] guest/main: making guest/main
    [2/3] guest/main
    [3/3] guest/vector: making guest/vector
    [3/3] guest/vector
    ");
    assert_eq!(bench.run(&plan("1")), Vec::<String>::new());
    insta::assert_snapshot!(bench.said(), @"
    [1/3] image: cached
    [2/3] guest/main: cached
    [3/3] guest/vector: cached
    ");
    let changed = plan("2");
    insta::assert_snapshot!(changed.render(|step| bench.store().state(step)), @"
    [1/3] image         a74d0550929d  cached  making image
    [2/3] guest/main    b1fa4997ba54  build   making guest/main
            input `source` changed
    [3/3] guest/vector  5cec7da3f2e0  build   making guest/vector
            step guest/main, which it builds on, changed
    2 of 3 steps to build
    ");
    assert_eq!(bench.run(&changed), ["guest/main", "guest/vector"]);
    assert_eq!(bench.run(&plan("1")), Vec::<String>::new(), "the earlier output is kept");
    assert_eq!(bench.scratch_directories(), 0);
}

#[test]
fn a_damaged_output_is_named_moved_aside_and_built_again() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 8] = [
        ("one byte", |out| fs::write(out.join("sub/file"), "mode").unwrap()),
        ("cut short", |out| fs::write(out.join("sub/file"), "ma").unwrap()),
        ("missing file", |out| fs::remove_file(out.join("tool")).unwrap()),
        ("extra file", |out| fs::write(out.join("sub/more"), "").unwrap()),
        ("missing directory", |out| fs::remove_dir(out.join("empty")).unwrap()),
        ("no output", |out| fs::remove_dir_all(out).unwrap()),
        ("no record", |out| fs::remove_file(out.with_file_name("record.json")).unwrap()),
        ("cut record", |out| {
            let record = out.with_file_name("record.json");
            let text = fs::read(&record).unwrap();
            fs::write(&record, &text[..text.len() / 2]).unwrap();
        }),
    ];
    let plan = plan("1");
    let bench = Bench::new();
    bench.run(&plan);
    let mut reasons = String::new();
    for (name, damage) in damages {
        damage(&bench.out(&plan, "guest/main"));
        if name.contains("record") {
            let state = bench.store().state(plan.step(&id("guest/main")).unwrap());
            assert!(
                matches!(&state, StepState::ToBuild(why) if why[0].starts_with("damaged: its record.json")),
                "{state:?}"
            );
        }
        bench.said();
        assert_eq!(bench.run(&plan), ["guest/main"], "{name}");
        let said = bench.said();
        let reason = said.lines().find_map(|line| line.split_once("is built again: ")).unwrap().1;
        reasons += &format!("{name}: {}\n", reason.replace(bench.cache.path().to_str().unwrap(), "CACHE"));
        assert_eq!(bench.run(&plan), Vec::<String>::new(), "{name}");
        let aside = bench.out(&plan, "guest/main").parent().unwrap().with_extension("damaged");
        assert!(aside.is_dir(), "{name}");
    }
    let fingerprint = plan.step(&id("guest/main")).unwrap().fingerprint.to_string();
    insta::assert_snapshot!(reasons.replace(&fingerprint, "FINGERPRINT"), @"
    one byte: sub/file: expected SHA-256 ea0890697a77af0a2e054cccec587c8a42feb5cf38e778c6c6e2a96bfb945c0b, found SHA-256 e642b12901a6ee51456f654c48cd0aa6e90afd64e035afbc97cfc542209c70f9
    cut short: sub/file: expected a file of 4 bytes, found a file of 2 bytes
    missing file: the file tool is missing
    extra file: the file sub/more should not be there
    missing directory: the directory empty is missing
    no output: the directory CACHE/store/guest--main/FINGERPRINT/out is missing
    no record: its record.json cannot be read: No such file or directory (os error 2)
    cut record: its record.json cannot be parsed: EOF while parsing an object at line 15 column 11
    ");
}

#[cfg(unix)]
#[test]
fn a_changed_mode_or_link_is_damage_too() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (plan, bench) = (plan("1"), Bench::new());
    bench.run(&plan);
    let tool = bench.out(&plan, "image").join("tool");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(bench.run(&plan), ["image"]);
    let link = bench.out(&plan, "image").join("link");
    fs::remove_file(&link).unwrap();
    symlink("tool", &link).unwrap();
    assert_eq!(bench.run(&plan), ["image"]);
}

#[test]
fn an_entry_under_another_fingerprint_is_not_taken() {
    let (old, new, bench) = (plan("1"), plan("2"), Bench::new());
    bench.run(&old);
    let entry = |plan| bench.out(plan, "guest/main").parent().unwrap().to_path_buf();
    fs::rename(entry(&old), entry(&new)).unwrap();
    assert_eq!(bench.run(&new), ["guest/main", "guest/vector"]);
}

#[test]
fn a_failed_step_shows_its_log_and_leaves_nothing() {
    let (plan, bench) = (plan("1"), Bench::new());
    let error = bench
        .try_run(&plan, |context| {
            write_output(context, "half")?;
            context.note("compiling xlog.c")?;
            if context.log.to_str().unwrap().contains("guest") {
                return context
                    .run(Command::new("sh").args(["-c", "echo 'xlog.c:1: error: no such type' >&2; exit 3"]));
            }
            Ok(())
        })
        .unwrap_err();
    let error = error.to_string();
    let (first, rest) = error.split_once('\n').unwrap();
    assert!(first.starts_with("step guest/main failed after "), "{first}");
    insta::assert_snapshot!(rest.replace(bench.cache.path().to_str().unwrap(), "CACHE"), @r#"
    compiling xlog.c
    + "sh" "-c" "echo 'xlog.c:1: error: no such type' >&2; exit 3"
    xlog.c:1: error: no such type
    (end of CACHE/store/guest--main/build.log)
      because: sh failed: exit status: 3
    "#);
    assert_eq!(bench.scratch_directories(), 0);
    assert_eq!(bench.run(&plan), ["guest/main", "guest/vector"], "the image is kept");
}

#[test]
fn a_step_reads_only_what_it_is_planned_after() {
    let (plan, bench) = (plan("1"), Bench::new());
    bench
        .try_run(&plan, |context| {
            let image = context.output_of(&id("image")).map(Path::to_path_buf);
            match context.step.id.to_string().as_str() {
                "guest/main" => assert!(image.unwrap().join("sub/file").is_file()),
                "guest/vector" => assert!(image.unwrap_err().to_string().contains("not planned after it")),
                _ => assert!(image.is_err()),
            }
            write_output(context, "made")
        })
        .unwrap();
}

#[test]
fn a_step_nobody_can_run_is_an_error_before_anything_runs() {
    let bench = Bench::new();
    let lock = RunLock::acquire(bench.cache.path(), "test", |_| {}).unwrap();
    let progress = Progress::lines(bench.said.clone(), Duration::from_secs(3600));
    let error = run(&plan("1"), &BTreeMap::new(), &bench.store(), &lock, &progress).unwrap_err();
    assert!(error.to_string().contains("step image is planned, but nothing can run it"), "{error}");
}

#[test]
fn the_record_says_what_the_output_was_made_of() {
    let (plan, bench) = (plan("1"), Bench::new());
    bench
        .try_run(&plan, |context| {
            context.tools.insert("clang".to_owned(), "22.1.8".to_owned());
            write_output(context, "made")
        })
        .unwrap();
    let step = plan.step(&id("guest/main")).unwrap();
    assert_eq!(bench.store().state(step), StepState::Cached);
    let record = bench.store().record(step).unwrap();
    assert_eq!((&record.inputs, &record.after), (&step.inputs, &step.after));
    assert_eq!(record.tools["clang"], "22.1.8");
    insta::assert_snapshot!(serde_json::to_string_pretty(&record.output).unwrap(), @r#"
    {
      "files": {
        "sub/file": {
          "size": 4,
          "sha256": "ea0890697a77af0a2e054cccec587c8a42feb5cf38e778c6c6e2a96bfb945c0b"
        },
        "tool": {
          "size": 10,
          "sha256": "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf",
          "executable": true
        }
      },
      "links": {
        "link": "sub/file"
      },
      "directories": [
        "empty",
        "sub"
      ]
    }
    "#);
}

/// Where [`a_killed_run_is_never_taken_for_a_finished_one`] reaches the process it starts and kills.
const CHILD_CACHE: &str = "PGLITE_OXIDE_TEST_KILLED_RUN_CACHE";
const CHILD_POINT: &str = "PGLITE_OXIDE_TEST_KILLED_RUN_POINT";

#[cfg(unix)]
#[test]
fn a_killed_run_is_never_taken_for_a_finished_one() {
    use std::os::unix::net::UnixListener;
    for point in ["writing", "sealed"] {
        let (plan, bench) = (plan("1"), Bench::new());
        let listener = UnixListener::bind(bench.cache.path().join("socket")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg(format!("{}::killed_run_child", module_path!().split_once("::").unwrap().1))
            .env(CHILD_CACHE, bench.cache.path())
            .env(CHILD_POINT, point)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // The child connects when it is at the point and then waits for an answer that never comes.
        let (mut connection, _) = listener.accept().unwrap();
        let mut ready = [0];
        connection.read_exact(&mut ready).unwrap();
        assert_eq!(bench.scratch_directories(), 1, "{point}");
        // Kill -9: no destructor runs. The operating system releases the run lock, or the next run would wait for ever.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!bench.out(&plan, "image").exists(), "{point}");
        assert_eq!(bench.run(&plan), ["image", "guest/main", "guest/vector"], "{point}");
        assert!(bench.said().starts_with("removed 1 unfinished outputs of earlier runs\n"), "{point}");
        assert_eq!(fs::read_to_string(bench.out(&plan, "image").join("sub/file")).unwrap(), "made", "{point}");
        assert_eq!(bench.scratch_directories(), 0, "{point}");
    }
}

/// The process that is killed. Without its environment it does nothing.
#[cfg(unix)]
#[test]
fn killed_run_child() {
    use std::os::unix::net::UnixStream;
    let Some(cache) = std::env::var_os(CHILD_CACHE).map(PathBuf::from) else { return };
    let wait_to_be_killed = || {
        let mut connection = UnixStream::connect(cache.join("socket")).unwrap();
        connection.write_all(b"!").unwrap();
        let _ = connection.read(&mut [0]);
    };
    let paths = Paths { root: cache.clone(), cache: cache.clone() };
    let (plan, store) = (plan("1"), Store::new(&paths));
    let lock = RunLock::acquire(&cache, "test", |_| {}).unwrap();
    if std::env::var(CHILD_POINT).unwrap() == "sealed" {
        let scratch = store.begin(&plan.steps[0]).unwrap();
        fs::create_dir(scratch.out().join("sub")).unwrap();
        fs::write(scratch.out().join("sub/file"), "half").unwrap();
        store.seal(&plan.steps[0], &scratch, Duration::ZERO, BTreeMap::new()).unwrap();
        wait_to_be_killed();
    }
    let executor: Executor<'_> = Box::new(|context| {
        write_output(context, "half")?;
        wait_to_be_killed();
        Ok(())
    });
    let executors = BTreeMap::from([(id("image"), executor)]);
    let progress = Progress::lines(Arc::new(Mutex::new(Vec::new())), Duration::from_secs(3600));
    let plan = plan.restricted_to(&[id("image")]).unwrap();
    let _ = run(&plan, &executors, &store, &lock, &progress);
}
