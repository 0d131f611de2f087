//! Tests of the whole engine: what is kept, what runs again, and what a killed run leaves behind.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::fingerprint::Inputs;
use super::plan::{PlannedStep, Step, StepState};
use super::schedule::{Cores, Cost};
use super::*;
use crate::paths::Paths;

/// A cache directory and the steps that have run in it.
struct Bench {
    cache: tempfile::TempDir,
    ran: Mutex<Vec<String>>,
    machine: Machine,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Bench {
    fn new() -> Self {
        // One core: steps run one after the other.
        let machine = Machine { cores: 1, memory: 0 };
        Self { cache: tempfile::tempdir().unwrap(), ran: Mutex::default(), machine, said: Arc::default() }
    }

    fn paths(&self) -> Paths {
        Paths { root: self.cache.path().to_path_buf(), cache: self.cache.path().to_path_buf() }
    }

    fn store(&self) -> Store {
        Store::new(&self.paths())
    }

    /// Runs a plan whose steps copy their input and the output of the steps before them. Returns
    /// the steps that ran.
    fn run(&self, plan: &Plan) -> Vec<String> {
        self.try_run(plan, |context| write_output(context, "made")).unwrap()
    }

    fn try_run(
        &self,
        plan: &Plan,
        work: impl Fn(&mut StepContext<'_>) -> Result<()> + Send + Sync,
    ) -> Result<Vec<String>> {
        self.ran.lock().unwrap().clear();
        let mut executors: BTreeMap<StepId, Executor<'_>> = BTreeMap::new();
        for step in &plan.steps {
            let (id, work) = (step.id.to_string(), &work);
            let executor = move |context: &mut StepContext<'_>| {
                self.ran.lock().unwrap().push(id.clone());
                work(context)
            };
            executors.insert(step.id.clone(), Box::new(executor));
        }
        let lock = RunLock::acquire(self.cache.path(), "test", |_| {}).unwrap();
        let progress = Progress::lines(self.said.clone(), Duration::from_secs(3600));
        let outputs = run(plan, &executors, &self.store(), &lock, self.machine, &progress)?;
        for output in outputs.values() {
            assert!(output.path.join("sub/file").is_file());
        }
        Ok(self.ran.lock().unwrap().clone())
    }

    /// The progress shown since the last call, without times.
    fn said(&self) -> String {
        let said = String::from_utf8(std::mem::take(&mut *self.said.lock().unwrap())).unwrap();
        said.lines().map(|line| format!("{}\n", line.split(": done in ").next().unwrap())).collect()
    }

    fn scratch_directories(&self) -> usize {
        fs::read_dir(self.paths().scratch().join("steps")).unwrap().count()
    }

    /// The stored output of a step that was built last.
    fn out(&self, step: &str) -> PathBuf {
        let latest = self.store().latest(&id(step)).unwrap();
        self.entry(step, &latest.fingerprint).join("out")
    }

    fn entry(&self, step: &str, fingerprint: &Fingerprint) -> PathBuf {
        self.paths().store().join(id(step).directory()).join(fingerprint.to_string())
    }

    fn state(&self, plan: &Plan, step: &str) -> StepState {
        self.store().forecast(plan).unwrap().state(plan.step(&id(step)).unwrap())
    }

    fn render(&self, plan: &Plan) -> String {
        let forecast = self.store().forecast(plan).unwrap();
        plan.render(|step| forecast.state(step))
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
        after: after.iter().map(|name| Need::all(id(name))).collect(),
        cost: Cost::default(),
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
    insta::assert_snapshot!(bench.render(&changed), @"
    [1/3] image         cached  making image
    [2/3] guest/main    build   making guest/main
            input `source` changed
    [3/3] guest/vector  open    making guest/vector
            unless the output of guest/main stays the same
    1 of 3 steps to build, 1 more if what they read changes
    ");
    // The output has the same bytes, so the steps that read it do not run.
    assert_eq!(bench.run(&changed), ["guest/main"]);
    insta::assert_snapshot!(bench.said(), @"
    [1/3] image: cached
    [2/3] guest/main: making guest/main
    [2/3] guest/main
    [3/3] guest/vector: cached
    ");
    insta::assert_snapshot!(bench.render(&changed), @"
    [1/3] image         cached  making image
    [2/3] guest/main    cached  making guest/main
    [3/3] guest/vector  cached  making guest/vector
    0 of 3 steps to build
    ");
    assert_eq!(bench.run(&plan("1")), Vec::<String>::new(), "the earlier output is kept");
    let other = bench.try_run(&plan("3"), |context| write_output(context, "other")).unwrap();
    assert_eq!(other, ["guest/main", "guest/vector"], "other bytes");
    assert_eq!(bench.run(&plan("1")), Vec::<String>::new());
    assert_eq!(bench.scratch_directories(), 0);
}

#[test]
fn a_step_that_reads_a_part_runs_again_only_for_that_part() {
    let bench = Bench::new();
    let step = |name: &str, after: Vec<Need>, input: &str| Step {
        id: id(name),
        title: format!("making {name}"),
        inputs: Inputs::new().text("source", input).unwrap(),
        after,
        cost: Cost::default(),
    };
    let plan = |input: &str| {
        let part = |part| vec![Need::part(id("modules"), part)];
        let steps = vec![
            step("modules", vec![], input),
            step("aot/a", part("shipped/a.wasm"), ""),
            step("aot/b", part("shipped/b.wasm"), ""),
            step("payload", part("shipped"), ""),
        ];
        Plan::new(1, steps).unwrap()
    };
    let work = |b: &'static str| {
        move |context: &mut StepContext<'_>| {
            write_output(context, "made")?;
            let shipped = context.out.join("shipped");
            fs::create_dir(&shipped).unwrap();
            fs::write(shipped.join("a.wasm"), "a").unwrap();
            fs::write(shipped.join("b.wasm"), b).unwrap();
            if context.step.step.id == id("aot/a") {
                let read = |need: Need| context.part(&need).map(|path| fs::read_to_string(path).unwrap());
                assert_eq!(read(Need::part(id("modules"), "shipped/a.wasm")).unwrap(), "a");
                // Parts that are not planned cannot be read, even of an earlier step.
                let error = read(Need::part(id("modules"), "shipped/b.wasm")).unwrap_err();
                assert!(error.to_string().contains("reads modules:shipped/b.wasm, but is not planned after it"));
            }
            Ok(())
        }
    };
    let first = bench.try_run(&plan("1"), work("b")).unwrap();
    assert_eq!(first, ["modules", "aot/a", "aot/b", "payload"]);
    assert_eq!(bench.try_run(&plan("2"), work("b")).unwrap(), ["modules"]);
    assert_eq!(bench.try_run(&plan("3"), work("new")).unwrap(), ["modules", "aot/b", "payload"]);
}

#[test]
fn steps_run_side_by_side_and_after_a_failure_no_other_starts() {
    let mut bench = Bench::new();
    bench.machine = Machine { cores: 2, memory: 0 };
    let step = |name: &str, after: &[&str], seconds| Step {
        id: id(name),
        title: format!("making {name}"),
        inputs: Inputs::new(),
        after: after.iter().map(|name| Need::all(id(name))).collect(),
        cost: Cost { cores: Cores::One, memory: 0, seconds },
    };
    let steps = vec![step("a", &[], 9), step("b", &[], 8), step("c", &[], 1), step("d", &["a"], 1)];
    let plan = Plan::new(1, steps).unwrap();
    // Each of the two waits for the other: they pass only if both run at the same time.
    let both = std::sync::Barrier::new(2);
    let (ended, has_ended) = mpsc::channel();
    let (ended, has_ended) = (Mutex::new(ended), Mutex::new(has_ended));
    let error = bench.try_run(&plan, |context| {
        both.wait();
        if context.step.step.id == id("b") {
            ended.lock().unwrap().send(()).unwrap();
            return Err(Error::new("no such type"));
        }
        has_ended.lock().unwrap().recv().unwrap();
        write_output(context, "made")
    });
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("step b failed after 0s; finished steps are kept"), "{error}");
    let mut ran = bench.ran.lock().unwrap().clone();
    ran.sort();
    assert_eq!(ran, ["a", "b"]);
    assert_eq!(bench.state(&plan, "a"), StepState::Cached, "its output is kept");
    assert_eq!(bench.run(&plan).len(), 3);
}

#[test]
fn a_step_that_panics_is_an_error_that_names_it() {
    let bench = Bench::new();
    let error = bench.try_run(&plan("1"), |_| panic!("a step of a test panics")).unwrap_err();
    insta::assert_snapshot!(error, @"step image panicked: see above");
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
    let fingerprint = bench.store().latest(&id("guest/main")).unwrap().fingerprint;
    for (name, damage) in damages {
        damage(&bench.out("guest/main"));
        if name.contains("record") {
            let state = bench.state(&plan, "guest/main");
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
        let aside = bench.entry("guest/main", &fingerprint).with_extension("damaged");
        assert!(aside.is_dir(), "{name}");
    }
    insta::assert_snapshot!(reasons.replace(&fingerprint.to_string(), "FINGERPRINT"), @"
    one byte: sub/file: expected SHA-256 ea0890697a77af0a2e054cccec587c8a42feb5cf38e778c6c6e2a96bfb945c0b, found SHA-256 e642b12901a6ee51456f654c48cd0aa6e90afd64e035afbc97cfc542209c70f9
    cut short: sub/file: expected a file of 4 bytes, found a file of 2 bytes
    missing file: the file tool is missing
    extra file: the file sub/more should not be there
    missing directory: the directory empty is missing
    no output: the directory CACHE/store/guest--main/FINGERPRINT/out is missing
    no record: its record.json cannot be read: No such file or directory (os error 2)
    cut record: its record.json cannot be parsed: EOF while parsing a string at line 16 column 3
    ");
}

#[cfg(unix)]
#[test]
fn a_changed_mode_or_link_is_damage_too() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (plan, bench) = (plan("1"), Bench::new());
    bench.run(&plan);
    let tool = bench.out("image").join("tool");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(bench.run(&plan), ["image"]);
    let link = bench.out("image").join("link");
    fs::remove_file(&link).unwrap();
    symlink("tool", &link).unwrap();
    assert_eq!(bench.run(&plan), ["image"]);
}

#[test]
fn an_entry_under_another_fingerprint_is_not_taken() {
    let (old, new, bench) = (plan("1"), plan("2"), Bench::new());
    bench.run(&old);
    let fingerprint = |plan: &Plan| {
        let forecast = bench.store().forecast(plan).unwrap();
        plan.step(&id("guest/main")).unwrap().keyed(&forecast.outputs).unwrap().fingerprint
    };
    let (from, to) = (fingerprint(&old), fingerprint(&new));
    fs::rename(bench.entry("guest/main", &from), bench.entry("guest/main", &to)).unwrap();
    assert_eq!(bench.run(&new), ["guest/main"]);
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
            let image = context.output_of(&id("image"));
            match context.step.step.id.to_string().as_str() {
                "guest/main" => assert!(image.unwrap().join("sub/file").is_file()),
                "guest/vector" => assert!(image.unwrap_err().to_string().contains("not planned after it")),
                _ => assert!(image.is_err()),
            }
            write_output(context, "made")
        })
        .unwrap();
}

#[test]
fn a_step_without_an_executor_is_an_error_before_anything_runs() {
    let bench = Bench::new();
    let lock = RunLock::acquire(bench.cache.path(), "test", |_| {}).unwrap();
    let progress = Progress::lines(bench.said.clone(), Duration::from_secs(3600));
    let error = run(&plan("1"), &BTreeMap::new(), &bench.store(), &lock, bench.machine, &progress).unwrap_err();
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
    let step: &PlannedStep = plan.step(&id("guest/main")).unwrap();
    assert_eq!(bench.state(&plan, "guest/main"), StepState::Cached);
    let record = bench.store().latest(&id("guest/main")).unwrap();
    let image = bench.store().latest(&id("image")).unwrap();
    assert_eq!(record.inputs, step.inputs);
    assert_eq!(record.after, [("image".to_owned(), image.output.digest(None).unwrap())].into());
    assert_eq!(record.from, [(id("image"), image.fingerprint)].into());
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

/// Variable with the address at which [`a_killed_run_is_never_taken_for_a_finished_one`] waits for
/// the process that it starts and kills.
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
        // The child connects when it reaches the point, and then waits for an answer that never
        // comes.
        let (mut connection, _) = listener.accept().unwrap();
        let mut ready = [0];
        connection.read_exact(&mut ready).unwrap();
        assert_eq!(bench.scratch_directories(), 1, "{point}");
        // SIGKILL: no destructor runs. The operating system releases the run lock; otherwise the
        // next run would wait for ever.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(bench.store().latest(&id("image")).is_none(), "{point}");
        assert_eq!(bench.run(&plan), ["image", "guest/main", "guest/vector"], "{point}");
        assert!(bench.said().starts_with("removed 1 unfinished outputs of earlier runs\n"), "{point}");
        assert_eq!(fs::read_to_string(bench.out("image").join("sub/file")).unwrap(), "made", "{point}");
        assert_eq!(bench.scratch_directories(), 0, "{point}");
    }
}

/// The process that is killed. Without the environment variable it does nothing.
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
        let step = plan.steps[0].keyed(&BTreeMap::new()).unwrap();
        let scratch = store.begin(&step).unwrap();
        fs::create_dir(scratch.out().join("sub")).unwrap();
        fs::write(scratch.out().join("sub/file"), "half").unwrap();
        store.seal(&step, &scratch, Duration::ZERO, BTreeMap::new()).unwrap();
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
    let machine = Machine { cores: 1, memory: 0 };
    let _ = run(&plan, &executors, &store, &lock, machine, &progress);
}
