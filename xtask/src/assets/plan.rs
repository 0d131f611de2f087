//! What `assets build` consists of: the steps, what each one depends on, and in which order they come. It reads the inputs to fingerprint them and runs nothing.

use std::path::Path;

use super::host::Host;
use super::lockfile;
use super::targets::Target;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::pipeline::fingerprint::Inputs;
use crate::pipeline::plan::{Plan, Step, StepId};
use crate::sources::Lock;

/// Raised when the pipeline itself begins to give other results from the same inputs.
const PIPELINE_VERSION: u64 = 1;

/// Extensions outside PostgreSQL's tree: name of the archive in the lock, and make variables.
pub(crate) const PGXS: &[(&str, &[&str])] = &[
    // No -march of the build machine; the distance functions are loops that the vectorizer turns into SIMD.
    ("pgvector", &["OPTFLAGS=-msimd128"]),
];

/// What a plan is for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) lock: &'a Lock,
    /// Names what the image is made from.
    pub(crate) image_inputs: String,
    pub(crate) host: &'a Host,
    /// Targets to compile for; the host's artifacts are always made, since the template needs them.
    pub(crate) targets: &'a [Target],
}

/// Names of the steps.
pub(crate) mod id {
    use super::{Result, StepId};

    pub(crate) fn postgresql() -> Result<StepId> {
        StepId::new("guest/postgresql")
    }
    pub(crate) fn extension(name: &str) -> Result<StepId> {
        StepId::new(&format!("guest/{name}"))
    }
    pub(crate) fn modules() -> Result<StepId> {
        StepId::new("guest/modules")
    }
    pub(crate) fn programs() -> Result<StepId> {
        StepId::new("guest/programs")
    }
    pub(crate) fn compiler() -> Result<StepId> {
        StepId::new("aot/compiler")
    }
    pub(crate) fn aot(triple: &str) -> Result<StepId> {
        StepId::new(&format!("aot/{triple}"))
    }
    pub(crate) fn suites() -> Result<StepId> {
        StepId::new("test/suites")
    }
    pub(crate) fn aot_programs(triple: &str) -> Result<StepId> {
        StepId::new(&format!("aot-programs/{triple}"))
    }
    pub(crate) fn template() -> Result<StepId> {
        StepId::new("template")
    }
    pub(crate) fn assets() -> Result<StepId> {
        StepId::new("payload/assets")
    }
    pub(crate) fn payload(triple: &str) -> Result<StepId> {
        StepId::new(&format!("payload/{triple}"))
    }
}

/// The plan.
pub(crate) fn plan(wanted: &Wanted<'_>) -> Result<Plan> {
    let Wanted { paths, lock, image_inputs, host, targets } = wanted;
    let root = &paths.root;
    let assets = root.join("assets");
    let archive = |name: &str| {
        lock.archive(name).map(|a| a.sha256.as_str()).ok_or_else(|| {
            Error::new(format!("sources.lock has no archive {name}"))
                .repair(format!("pin it: `cargo xtask sources update {name}`"))
        })
    };
    let mut steps = Vec::new();

    steps.push(Step {
        id: id::postgresql()?,
        title: "building PostgreSQL and the side modules of its tree".into(),
        inputs: Inputs::new()
            .text("image", image_inputs)?
            .text("archive", archive("postgresql")?)?
            .tree("patches", &assets.join("patches/postgresql"))?
            .tree("overlay", &assets.join("guest/overlay"))?
            .tree("sysroot", &assets.join("guest/sysroot"))?
            .files("scripts", &assets.join("build"), ["flags.sh", "postgresql.sh"])?,
        after: vec![],
    });
    steps.push(Step {
        id: id::suites()?,
        title: "building the driver of PostgreSQL's own tests".into(),
        inputs: Inputs::new().text("image", image_inputs)?.text("archive", archive("postgresql")?)?.files(
            "scripts",
            &assets.join("build"),
            ["suites.sh"],
        )?,
        after: vec![],
    });
    for (name, variables) in PGXS {
        let mut inputs = Inputs::new()
            .text("image", image_inputs)?
            .text("archive", archive(name)?)?
            .tree("sysroot", &assets.join("guest/sysroot"))?
            .files("scripts", &assets.join("build"), ["flags.sh", "pg_config.sh", "pgxs.sh"])?
            .list("variables", *variables)?;
        // Changes to the extension, applied in the order of their names.
        let patches = assets.join("patches").join(name);
        if patches.exists() {
            inputs = inputs.tree("patches", &patches)?;
        }
        steps.push(Step {
            id: id::extension(name)?,
            title: format!("building the extension {name}"),
            inputs,
            after: vec![id::postgresql()?],
        });
    }
    let mut guests = vec![id::postgresql()?];
    for (name, _) in PGXS {
        guests.push(id::extension(name)?);
    }
    steps.push(Step {
        id: id::modules()?,
        title: "linking the main module and checking every import".into(),
        inputs: Inputs::new()
            .text("image", image_inputs)?
            .files("scripts", &assets.join("build"), ["flags.sh", "link.sh"])?
            .tree("post-link", &root.join("xtask/src/wasm"))?
            .tree("step", &root.join("xtask/src/assets/modules.rs"))?,
        after: guests.clone(),
    });
    steps.push(Step {
        id: id::programs()?,
        title: "linking the client programs".into(),
        inputs: Inputs::new()
            .text("image", image_inputs)?
            .tree("sources", &assets.join("guest/programs"))?
            .tree("sysroot", &assets.join("guest/sysroot"))?
            .files(
                "headers",
                &assets.join("guest/overlay/src/include"),
                ["pgl_host.h", "pgl_numbers.h", "pgl_process.h"],
            )?
            .files(
                "shared sources",
                &assets.join("guest/overlay/src/backend/port"),
                ["pgl_dtoa.c", "pgl_locale.c", "pgl_pow5.h", "pgl_process.c", "pgl_setjmp.c", "pgl_strtod.c"],
            )?
            .files("scripts", &assets.join("build"), ["flags.sh", "programs.sh"])?
            .tree("post-link", &root.join("xtask/src/wasm"))?
            .tree("step", &root.join("xtask/src/assets/programs.rs"))?,
        after: vec![id::postgresql()?],
    });
    steps.push(Step {
        id: id::compiler()?,
        title: "building the AOT compiler (Wasmer with LLVM)".into(),
        inputs: rust_program(root, "xtask/aot-compiler", "aot-compiler")?
            .tree("patches", &assets.join("patches/wasmer-compiler-llvm"))?
            .text("image", image_inputs)?
            .text("rust", &host.rust)?,
        after: vec![],
    });

    let mut compiled: Vec<Target> = targets.to_vec();
    if !compiled.iter().any(|t| t.triple == host.triple) {
        compiled.insert(0, super::targets::find(&host.triple)?);
    }
    for target in &compiled {
        steps.push(Step {
            id: id::aot(target.triple)?,
            title: format!("compiling the modules for {}", target.triple),
            inputs: Inputs::new().text("target", target.triple)?.list("cpu features", target.cpu_features)?,
            after: vec![id::modules()?, id::compiler()?],
        });
        steps.push(Step {
            id: id::aot_programs(target.triple)?,
            title: format!("compiling the client programs for {}", target.triple),
            inputs: Inputs::new().text("target", target.triple)?.list("cpu features", target.cpu_features)?,
            after: vec![id::programs()?, id::compiler()?],
        });
    }
    steps.push(Step {
        id: id::template()?,
        title: "making the database template".into(),
        inputs: rust_program(root, "xtask/initdb", "initdb")?
            .tree("runtime", &root.join("pglite-oxide/runtime/src"))?
            .text("rust", &host.rust)?,
        after: vec![id::postgresql()?, id::aot(&host.triple)?],
    });

    let mut after = guests;
    after.extend([id::modules()?, id::programs()?, id::template()?, id::compiler()?]);
    steps.push(Step {
        id: id::assets()?,
        title: "packing the portable payload".into(),
        inputs: packing(root)?
            .list("toolchain", lock.toolchains.iter().map(|t| format!("{} {}", t.name, t.version)))?,
        after,
    });
    for target in &compiled {
        steps.push(Step {
            id: id::payload(target.triple)?,
            title: format!("packing the payload for {}", target.triple),
            inputs: packing(root)?,
            after: vec![id::modules()?, id::programs()?, id::aot(target.triple)?, id::aot_programs(target.triple)?],
        });
    }
    Plan::new(PIPELINE_VERSION, steps)
}

/// What a payload is made with, besides what goes into it.
fn packing(root: &Path) -> Result<Inputs> {
    Inputs::new()
        .tree("manifest", &root.join("pglite-oxide/src/bundle/manifest.rs"))?
        .tree("step", &root.join("xtask/src/assets/payload.rs"))
}

/// What a Rust program of the pipeline is built from: its own files, and the crates it depends on.
fn rust_program(root: &Path, directory: &str, package: &str) -> Result<Inputs> {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e));
    let lock = read(root.join("Cargo.lock"))?;
    let manifest = read(root.join(directory).join("Cargo.toml"))?;
    Inputs::new()
        .tree("source", &root.join(directory))?
        .list("crates", lockfile::closure(&lock, package)?)?
        .list("settings", lockfile::workspace_settings(&read(root.join("Cargo.toml"))?, &manifest)?)
}
