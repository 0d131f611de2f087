//! Tests of jobs: command lines, rejected jobs, reports of failures, and what a job sees in each
//! backend.

use std::fs;
use std::io::Write as _;

use super::*;

/// A description of an image; the tests that use it start nothing.
pub(super) fn described_image() -> Image {
    Image {
        digest: "0123456789abcdef".into(),
        rootfs: "/images/it's/rootfs".into(),
        mount_point: "/images/it's/mnt".into(),
    }
}

/// A job with every feature.
pub(super) fn full_job<'a>(image: &'a Image, log: &Path) -> Job<'a> {
    let mount = |source: &str, target: &str, writable| Mount { source: source.into(), target: target.into(), writable };
    Job {
        image,
        mounts: vec![
            mount("/usr/bin", "/tmp/in", false),
            mount("/usr", "/opt/it's here", false),
            mount("/usr/bin", "/opt/it's here/bin", true),
            mount("/etc/passwd", "/pgl/file", false),
        ],
        env: [("PATH", "/opt/bin:/usr/bin"), ("FLAGS", "-O2 'quoted' $not \"expanded\"")]
            .map(|(n, v)| (n.into(), v.into()))
            .into(),
        argv: ["clang-22", "-c", "a b.c", ""].map(String::from).into(),
        workdir: "/pgl/work dir".into(),
        log: log.into(),
    }
}

/// The last image built on this machine, for the tests that run something in it.
fn built_image() -> Image {
    let images = crate::paths::Paths::find().unwrap().images();
    let homes = fs::read_dir(&images).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = homes.filter(|home| home.join("rootfs/usr/bin/clang-22").exists()).find_map(|home| {
        let record: toml::Table = toml::from_str(&fs::read_to_string(home.join("image.toml")).ok()?).ok()?;
        let digest = record.get("digest")?.as_str()?.to_string();
        Some(Image { digest, rootfs: home.join("rootfs"), mount_point: home.join("mnt") })
    });
    found.unwrap_or_else(|| panic!("{} has no image: run `cargo xtask assets build`", images.display()))
}

#[test]
fn the_command_carries_its_environment() {
    let image = described_image();
    insta::assert_debug_snapshot!("command", full_job(&image, Path::new("log")).command());
}

#[test]
fn what_the_backends_would_do_differently_is_refused() {
    let image = Image { rootfs: tempfile::tempdir().unwrap().keep(), ..described_image() };
    std::os::unix::fs::symlink("usr/lib", image.rootfs.join("lib")).unwrap();
    full_job(&image, Path::new("log")).check().unwrap();
    fn mount(source: &'static str, target: &'static str) -> impl FnOnce(&mut Job<'_>) {
        move |job| job.mounts.push(Mount { source: source.into(), target: target.into(), writable: false })
    }
    fn refusal(image: &Image, change: impl FnOnce(&mut Job<'_>)) -> String {
        let mut job = full_job(image, Path::new("log"));
        job.mounts.clear();
        change(&mut job);
        let text = job.check().unwrap_err().to_string();
        text.split_once(" cannot run: ").unwrap().1.to_string()
    }
    let refusals = [
        refusal(&image, |job| job.argv.clear()),
        refusal(&image, |job| job.argv[0] = "A=b".into()),
        refusal(&image, |job| job.argv[1] = "a\0b".into()),
        refusal(&image, |job| drop(job.env.insert("A=B".into(), String::new()))),
        refusal(&image, |job| job.workdir = "pgl".into()),
        refusal(&image, mount("usr", "/pgl/x")),
        refusal(&image, mount("/does/not/exist", "/pgl/x")),
        refusal(&image, mount("/usr", "pgl/x")),
        refusal(&image, mount("/usr", "/")),
        refusal(&image, mount("/usr", "/pgl/../usr")),
        refusal(&image, mount("/usr", "/proc/1")),
        refusal(&image, mount("/usr", "/tmp")),
        refusal(&image, mount("/usr", "/lib/modules")),
        refusal(&image, |job| (mount("/usr", "/pgl/x")(job), mount("/etc", "/pgl/x")(job)).0),
        refusal(&image, |job| (mount("/usr", "/pgl/x")(job), mount("/etc", "/pgl/x/none")(job)).0),
    ];
    insta::assert_snapshot!("refusals", refusals.join("\n"));
    fs::remove_dir_all(&image.rootfs).unwrap();
}

#[test]
fn a_failed_job_shows_the_end_of_its_log() {
    let home = tempfile::tempdir().unwrap();
    let image = described_image();
    let job = full_job(&image, &home.path().join("logs/log"));
    let log = job.create_log().unwrap();
    let error = || job.failed("sandbox", 137).to_string().replace(&home.path().display().to_string(), "[HOME]");
    insta::assert_snapshot!("failed_without_output", error());
    for line in 1..=1000 {
        writeln!(&log.0, "line {line}, {}", "x".repeat(line % 7)).unwrap();
    }
    insta::assert_snapshot!("failed", error());

    let busy = job.create_log().unwrap_err().to_string();
    assert!(busy.contains("another running job writes the log"), "{busy}");
    drop(log);
    assert_eq!(job.create_log().unwrap().0.metadata().unwrap().len(), 0);
}

/// Compiles and links in a backend, looks around, and fails on request. Both backends are held to
/// one snapshot, so that a job sees the same in each.
fn job_sees_the_image_and_nothing_else(choice: Choice) {
    const SCRIPT: &str = "set -eu; clang-22 --version | head -n 1 | cut -c 1-24 | sed 's/^.*clang/clang/'
        clang-22 --target=wasm32-wasip1 -nostdinc -O2 -g -c /pgl/in/t.c -o /pgl/out/t.o
        wasm-ld-22 --no-entry --export-all /pgl/out/t.o -o /pgl/out/t.wasm
        env | sort; id -u; uname -n; umask; pwd; echo to stderr >&2
        for place in /x /usr/x /pgl/in/x; do ! touch $place 2>/dev/null || exit 1; done; touch /tmp/x
        ls /sys/class/net 2>/dev/null | grep -v lo || true";
    let image = built_image();
    let home = tempfile::tempdir().unwrap();
    let (input, out) = (home.path().join("in"), home.path().join("out"));
    fs::create_dir(&input).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(input.join("t.c"), "int add(int a, int b) { return a + b; }\n").unwrap();
    let backend = select(choice).unwrap();
    let mount =
        |source: &Path, target: &str, writable| Mount { source: source.into(), target: target.into(), writable };
    let mut job = Job {
        image: &image,
        mounts: vec![mount(&input, "/pgl/in", false), mount(&out, "/pgl/out", true)],
        env: BTreeMap::new(),
        argv: ["sh", "-c", SCRIPT].map(String::from).into(),
        workdir: "/tmp".into(),
        log: home.path().join("log"),
    };
    backend.run(&job).unwrap();
    insta::assert_snapshot!("what_a_job_sees", fs::read_to_string(&job.log).unwrap());
    assert!(fs::read(out.join("t.wasm")).unwrap().starts_with(b"\0asm"));

    job.argv = ["sh", "-c", "echo the reason; exit 7"].map(String::from).into();
    let error = backend.run(&job).unwrap_err().to_string();
    assert!(error.contains("exit status 7") && error.contains("the reason"), "{error}");
}

#[test]
#[ignore = "needs the build image and namespaces: `cargo xtask test \"backend sandbox\"`"]
fn sandbox_jobs_see_the_image_and_nothing_else() {
    job_sees_the_image_and_nothing_else(Choice::Sandbox);
}

#[test]
#[ignore = "needs the build image and a Docker daemon: `cargo xtask test \"backend docker\"`"]
fn docker_jobs_see_the_image_and_nothing_else() {
    job_sees_the_image_and_nothing_else(Choice::Docker);
}

/// Names the log of the job that a child process of the next test runs.
const CHILD_LOG: &str = "PGLITE_OXIDE_TEST_INTERRUPTED_LOG";

/// The child process of the next test: two jobs at a time, and two more after them.
#[test]
#[ignore = "a process of docker_a_signal_ends_the_whole_run"]
fn child_that_is_interrupted() {
    let Some(log) = std::env::var_os(CHILD_LOG).map(std::path::PathBuf::from) else {
        panic!("only docker_a_signal_ends_the_whole_run starts this")
    };
    let image = built_image();
    std::thread::scope(|scope| {
        for log in [log.join("one"), log.join("two")] {
            let image = &image;
            scope.spawn(move || {
                for argv in [["sh", "-c", "echo started; sleep 600"], ["sh", "-c", "echo more; sleep 600"]] {
                    let argv = argv.map(String::from).into();
                    let (mounts, env) = (vec![], BTreeMap::new());
                    let job = Job { image, mounts, env, argv, workdir: "/tmp".into(), log: log.clone() };
                    drop(select(Choice::Docker).unwrap().run(&job));
                }
            });
        }
    });
}

#[test]
#[ignore = "needs the build image and a Docker daemon: `cargo xtask test \"backend docker\"`"]
fn docker_a_signal_ends_the_whole_run() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let home = tempfile::tempdir().unwrap();
    let logs = ["one", "two"].map(|name| home.path().join(name));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "backend::tests::child_that_is_interrupted", "--nocapture"])
        .env(CHILD_LOG, home.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let started = |log: &std::path::PathBuf| fs::read(log).is_ok_and(|text| text == b"started\n");
    while !logs.iter().all(started) {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "the jobs did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(logs.each_ref().map(|log| docker::containers(log)), [1, 1]);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(2), "{said}");
    assert!(said.contains("the run was ended by SIGINT (Ctrl-C)"), "{said}");
    assert_eq!(logs.each_ref().map(|log| docker::containers(log)), [0, 0]);
}
