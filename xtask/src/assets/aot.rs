//! Steps `aot…`: build the AOT compiler in the image and run it there, for each target and the
//! modules of each owner. If Wasmer refuses to compile for a target, the reason becomes the step's
//! result.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::guest::explain_patch;
use super::host::Host;
use super::plan::id;
use super::targets::Target;
use super::workshop::{JobFiles, Workshop, jobs};
use super::{modules, payload};
use crate::error::{Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::StepContext;
use crate::pipeline::fingerprint::children;
use crate::pipeline::plan::Need;

/// The crate of the compiler that `assets/patches` changes.
const PATCHED: &str = "wasmer-compiler-llvm";
/// Its version, the one that the patches are for.
const PATCHED_VERSION: &str = "7.4.2";
/// The compiler in the output of its step.
const COMPILER: &str = "aot-compiler";
/// File in a target's output with the reason why there are no artifacts.
const REFUSED: &str = "refused.txt";

/// Builds the compiler: the checkout, the Rust toolchain and the downloaded crates are mounted
/// read-only, and there is no network.
pub(crate) fn compiler(
    paths: &Paths,
    host: &Host,
    workshop: &Workshop<'_>,
    context: &mut StepContext<'_>,
) -> Result<()> {
    if !host.sysroot.join("bin/cargo").is_file() {
        return Err(Error::new(format!(
            "the Rust toolchain at {} has no bin/cargo that could be mounted",
            host.sysroot.display()
        ))
        .repair("use a Rust installed by rustup"));
    }
    context.run(crate::cargo::command().args(["fetch", "--locked"]).current_dir(&paths.root))?;
    let registry = host.cargo_home.join("registry");
    let unpacked = unpacked(&registry)?;
    patch(paths, &unpacked, workshop, context)?;
    // The patched crate replaces the registry's for this job only; version and checksum stay those
    // of Cargo.lock.
    let replaced = unpacked.strip_prefix(&host.cargo_home).unwrap_or(&unpacked).display().to_string();
    let target = compiler_target(paths)?;
    let files = JobFiles {
        read_only: [
            ("checkout".to_owned(), paths.root.clone()),
            ("rust".to_owned(), host.sysroot.clone()),
            ("cargo/registry".to_owned(), registry),
            (format!("cargo/{replaced}"), context.work.join(PATCHED)),
        ]
        .into(),
        writable: [("target".to_owned(), target.clone())].into(),
        env: compiler_environment(),
    };
    // Every checkout is mounted at the same path, so Cargo would take another checkout's build of
    // the program for this one's. The program's tests run here, because only the image can link it.
    // Both commands have the same targets: Cargo unites the features of what they need, and would
    // compile most crates twice if only one of them needed the tests'.
    let script = "set -eu; cd /pgl/checkout
        cargo clean --quiet --profile aot-compiler --locked --offline -p aot-compiler -p wasmer-compiler-llvm
        cargo build --profile aot-compiler --locked --offline -p aot-compiler --all-targets
        cargo test --quiet --profile aot-compiler --locked --offline -p aot-compiler --all-targets";
    workshop.run(context, &["sh", "-c", script], files)?;
    let (built, wanted) = (target.join(COMPILER).join(COMPILER), context.out.join(COMPILER));
    fs::copy(&built, &wanted).map_err(|e| Error::io("copy", &built, e))?;
    context.tools.insert("rust".into(), host.rust.clone());
    Ok(())
}

/// The crate that is patched, as cargo unpacked it.
fn unpacked(registry: &Path) -> Result<PathBuf> {
    for (_, index) in children(&registry.join("src"))? {
        let version = format!("{PATCHED}-{PATCHED_VERSION}");
        if index.join(&version).is_dir() {
            return Ok(index.join(version));
        }
    }
    Err(Error::new(format!("cargo did not unpack {PATCHED} {PATCHED_VERSION} below {}", registry.display()))
        .repair("run `cargo fetch --locked`; if Cargo.lock has another version, rework assets/patches for it"))
}

/// Copies the crate into the step's scratch directory and patches the copy.
fn patch(paths: &Paths, unpacked: &Path, workshop: &Workshop<'_>, context: &mut StepContext<'_>) -> Result<()> {
    let files = JobFiles {
        read_only: [("assets".to_owned(), paths.root.join("assets")), ("crate".to_owned(), unpacked.to_path_buf())]
            .into(),
        ..JobFiles::default()
    };
    let script = format!(
        "set -eu; . /pgl/assets/build/flags.sh
        cp -r /pgl/crate /pgl/work/{PATCHED}; cd /pgl/work/{PATCHED}; chmod -R u+w .; apply_patches {PATCHED}"
    );
    workshop
        .run(context, &["sh", "-c", &script], files)
        .map_err(|error| explain_patch(context, "wasmer-compiler-llvm", error))
}

/// Lints the compiler in the image, which alone has the LLVM that its crates look for.
pub(crate) fn lint(paths: &Paths, host: &Host, workshop: &Workshop<'_>) -> Result<()> {
    if !host.sysroot.join("bin/cargo-clippy").is_file() {
        let error = Error::new(format!("the Rust toolchain at {} has no Clippy", host.sysroot.display()));
        return Err(error.repair("run `rustup component add clippy`"));
    }
    let files = JobFiles {
        read_only: [
            ("checkout".to_owned(), paths.root.clone()),
            ("rust".to_owned(), host.sysroot.clone()),
            ("cargo/registry".to_owned(), host.cargo_home.join("registry")),
        ]
        .into(),
        writable: [("target".to_owned(), compiler_target(paths)?)].into(),
        env: compiler_environment(),
    };
    // Another profile than that of the build, so that nothing of it is removed.
    let script = "set -eu; cd /pgl/checkout
        cargo clean --quiet --locked --offline -p aot-compiler
        cargo clippy --quiet --locked --offline -p aot-compiler --all-targets -- -D warnings";
    workshop.run_alone(&["sh", "-c", script], files).map(drop)
}

/// Where the compiler is compiled. Kept between builds: most of the time goes into crates that
/// seldom change.
fn compiler_target(paths: &Paths) -> Result<PathBuf> {
    let target = paths.cache.join("aot-compiler-target");
    files::make_directory(&target)?;
    Ok(target)
}

/// Cargo's configuration in the image.
fn compiler_environment() -> BTreeMap<String, String> {
    [
        ("PATH", "/pgl/rust/bin"),
        ("CARGO_HOME", "/pgl/cargo"),
        ("CARGO_TARGET_DIR", "/pgl/target"),
        ("LLVM_SYS_221_PREFIX", "/usr/lib/llvm-22"),
        ("CC", "gcc"),
        ("CXX", "g++"),
        ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", "gcc"),
        ("CARGO_TERM_COLOR", "never"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Compiles modules for a target: files, or directories with all their modules. The output has each
/// artifact in the form that is loaded and in the form that is shipped.
pub(crate) fn compile(
    target: Target,
    modules: &[Need],
    workshop: &Workshop<'_>,
    context: &mut StepContext<'_>,
) -> Result<()> {
    let mut found = Vec::new();
    for need in modules {
        let path = context.part(need)?;
        found.extend(if path.is_dir() { modules::list(&path)? } else { vec![(modules::name_of(&path)?, path)] });
    }
    let compiler = context.output_of(&id::compiler()?)?;
    compile_files(target, &compiler, &found, &context.out.clone(), |argv, files| workshop.run(context, argv, files))
}

/// Compiles these modules, by name, with the compiler in this directory: `run` runs a job whose
/// output goes to the directory `out`.
pub(super) fn compile_files(
    target: Target,
    compiler: &Path,
    modules: &[(String, PathBuf)],
    out: &Path,
    run: impl FnOnce(&[&str], JobFiles) -> Result<()>,
) -> Result<()> {
    let mut files = JobFiles::default();
    files.read_only.insert("compiler".to_owned(), compiler.to_path_buf());
    files.read_only.extend(modules.iter().map(|(name, path)| (format!("wasm/{name}.wasm"), path.clone())));
    let paths: Vec<String> = modules.iter().map(|(name, _)| format!("/pgl/wasm/{name}.wasm")).collect();
    let (features, threads) = (target.cpu_features.join(","), jobs().to_string());
    let script = "set +e; \"$@\" 2>/pgl/work/errors; code=$?; cat /pgl/work/errors >&2
        if [ $code = 3 ]; then rm -rf /pgl/out/*; cp /pgl/work/errors /pgl/out/refused.txt; exit 0; fi; exit $code";
    let mut argv = vec!["sh", "-c", script, "sh", "/pgl/compiler/aot-compiler"];
    argv.extend(["--target", target.triple, "--cpu-features", &features]);
    argv.extend(["--threads", &threads, "--out", "/pgl/out"]);
    argv.extend(paths.iter().map(String::as_str));
    run(&argv, files)?;
    if matches!(outcome(out)?, Outcome::Artifacts) {
        for (name, _) in modules {
            let path = out.join(format!("{name}.aot"));
            let packed = payload::compress(&files::read(&path)?)?;
            let path = out.join(format!("{name}.aot.zst"));
            files::write(&path, packed)?;
        }
    }
    Ok(())
}

/// The result of a target's step.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Artifacts and their records.
    Artifacts,
    /// The compiler's reason for making none.
    Refused(String),
}

/// Reads the result of a target's step.
pub(crate) fn outcome(output: &Path) -> Result<Outcome> {
    let refused: PathBuf = output.join(REFUSED);
    if refused.exists() {
        let text = files::text(&refused)?;
        // The compiler repeats the reason for every module it tried; one is enough.
        let reason = text.lines().next().unwrap_or_default();
        return Ok(Outcome::Refused(reason.trim_start_matches("refused: ").to_owned()));
    }
    if children(output)?.iter().any(|(name, _)| name.ends_with(".aot")) {
        Ok(Outcome::Artifacts)
    } else {
        Err(Error::new(format!("{} holds neither artifacts nor a refusal", output.display())))
    }
}
