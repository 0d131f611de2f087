//! The plan of `assets build`: the steps, their dependencies and their order. It reads the inputs
//! to fingerprint them and runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::extension::{Extension, Source};
use super::guest;
use super::host::Host;
use super::lockfile;
use super::modules::{EXPORTS, MAIN, SHIPPED, TEST};
use super::payload::LEVEL;
use super::targets::{self, Target};
use crate::error::{Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::fingerprint::Inputs;
use crate::pipeline::plan::{Need, Plan, Step, StepId};
use crate::pipeline::schedule::{Cores, Cost};
use crate::sources::Lock;

/// Incremented when the pipeline itself gives other results for the same inputs.
const PIPELINE_VERSION: u64 = 2;

/// The client programs that `assets/build/programs.sh` links.
pub(crate) const PROGRAMS: &[&str] = &["pg_dump", "psql"];

/// Libraries that the server is compiled against. The server and the client programs contain those
/// that compress values, WAL and dumps (see `flags.sh`); libxml2 is a side module.
const SERVER_LIBRARIES: &[&str] = &["libxml", "lz4", "zlib", "zstd"];

/// The archive of ICU, of which the server needs the headers; the library is a side module.
pub(crate) const ICU: &str = "icu";

/// Libraries that are compiled against others.
const LIBRARY_NEEDS: &[(&str, &[&str])] =
    &[("geos", &["libcxx"]), (ICU, &["libcxx"]), ("libxslt", &["libxml"]), ("proj", &["libcxx", "sqlite3"])];

/// All libraries: those of the server, and those of extensions.
pub(crate) fn libraries(extensions: &[Extension]) -> BTreeSet<&str> {
    SERVER_LIBRARIES.iter().copied().chain(extensions.iter().flat_map(|e| &e.libraries).map(String::as_str)).collect()
}

/// What a plan is made for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) lock: &'a Lock,
    /// Identifies the inputs of the image.
    pub(crate) image_inputs: String,
    pub(crate) host: &'a Host,
    pub(crate) extensions: &'a [Extension],
    /// Targets to compile for; the host's artifacts are always made, since the template needs them.
    pub(crate) targets: &'a [Target],
}

/// Names of the steps.
pub(crate) mod id {
    use super::{Result, StepId};

    pub(crate) fn image() -> Result<StepId> {
        StepId::new("image")
    }
    pub(crate) fn postgresql() -> Result<StepId> {
        StepId::new("guest/postgresql")
    }
    pub(crate) fn extension(name: &str) -> Result<StepId> {
        StepId::new(&format!("guest/{name}"))
    }
    pub(crate) fn library(name: &str) -> Result<StepId> {
        StepId::new(&format!("library/{name}"))
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
    /// Of the main module, of the modules of an extension, or of those of a part of the server.
    pub(crate) fn aot(triple: &str, unit: &str) -> Result<StepId> {
        StepId::new(&format!("aot/{triple}/{unit}"))
    }
    pub(crate) fn aot_program(triple: &str, program: &str) -> Result<StepId> {
        StepId::new(&format!("aot-programs/{triple}/{program}"))
    }
    pub(crate) fn aot_test(triple: &str) -> Result<StepId> {
        StepId::new(&format!("aot-test/{triple}"))
    }
    pub(crate) fn suites() -> Result<StepId> {
        StepId::new("test/suites")
    }
    pub(crate) fn template_program() -> Result<StepId> {
        StepId::new("template/program")
    }
    pub(crate) fn template() -> Result<StepId> {
        StepId::new("template/files")
    }
    pub(crate) fn assets() -> Result<StepId> {
        StepId::new("payload/assets")
    }
    pub(crate) fn payload(triple: &str) -> Result<StepId> {
        StepId::new(&format!("payload/{triple}"))
    }
}

/// Parts of outputs that steps read, where they do not read all of it.
pub(crate) mod needs {
    use super::{Need, Result, id};

    /// The libraries of the server, by name.
    pub(crate) fn server_libraries() -> Result<Vec<(&'static str, Need)>> {
        super::SERVER_LIBRARIES.iter().map(|name| Ok((*name, Need::all(id::library(name)?)))).collect()
    }
    /// The libraries that a library is compiled against, by name.
    pub(crate) fn library(name: &str) -> Result<Vec<(&'static str, Need)>> {
        let needed = super::LIBRARY_NEEDS.iter().find(|(library, _)| *library == name);
        let needed = needed.map(|(_, needed)| *needed).unwrap_or_default().iter();
        let need = |name| -> Result<Need> {
            // Only their headers are read.
            if name == "libcxx" || name == "libxml" {
                return Ok(Need::part(id::library(name)?, "include"));
            }
            Ok(Need::all(id::library(name)?))
        };
        needed.map(|name| Ok((*name, need(name)?))).collect()
    }
    /// Headers and makefiles that extensions are built against.
    pub(crate) fn pgxs() -> Result<Vec<Need>> {
        ["install/usr/include", "install/usr/lib/postgresql/pgxs"]
            .map(|part| Ok(Need::part(id::postgresql()?, part)))
            .into_iter()
            .collect()
    }
    /// Patched source of an extension in PostgreSQL's tree.
    pub(crate) fn contrib(directory: &str) -> Result<Need> {
        Ok(Need::part(id::postgresql()?, format!("contrib/{directory}")))
    }
    /// The server's objects.
    pub(crate) fn server() -> Result<Vec<Need>> {
        ["postgres.a", "libpgcommon_srv.a", "libpgport_srv.a"]
            .map(|part| Ok(Need::part(id::postgresql()?, part)))
            .into_iter()
            .collect()
    }
    /// The server's own side modules.
    pub(crate) fn server_modules() -> Result<Need> {
        Ok(Need::part(id::postgresql()?, "modules"))
    }
    /// Modules that only tests load.
    pub(crate) fn test_modules() -> Result<Need> {
        Ok(Need::part(id::postgresql()?, "test"))
    }
    /// The client programs' objects.
    pub(crate) fn program_objects() -> Result<Need> {
        Ok(Need::part(id::postgresql()?, "programs"))
    }
    /// The server's share files.
    pub(crate) fn share() -> Result<Need> {
        Ok(Need::part(id::postgresql()?, "install/usr/share/postgresql"))
    }
    /// Shipped modules: one, or all.
    pub(crate) fn module(name: &str) -> Result<Need> {
        Ok(Need::part(id::modules()?, format!("{}/{name}.wasm", super::SHIPPED)))
    }
    pub(crate) fn shipped() -> Result<Need> {
        Ok(Need::part(id::modules()?, super::SHIPPED))
    }
    /// Checked modules that only tests load.
    pub(crate) fn checked_test_modules() -> Result<Need> {
        Ok(Need::part(id::modules()?, super::TEST))
    }
    /// One client program.
    pub(crate) fn program(name: &str) -> Result<Need> {
        Ok(Need::part(id::programs()?, format!("{name}.wasm")))
    }
}

/// Modules that are compiled in one step: the main one, those of an extension, those of a part of
/// the server.
pub(crate) fn units(extensions: &[Extension]) -> BTreeMap<String, Vec<String>> {
    let sides = extensions.iter().map(|e| (e.name.clone(), e.modules.clone()));
    sides.filter(|(_, modules)| !modules.is_empty()).chain([(MAIN.to_owned(), vec![MAIN.to_owned()])]).collect()
}

/// The modules for making the template: the main module and the server's own.
pub(crate) fn server_units(extensions: &[Extension]) -> Vec<String> {
    let own = extensions.iter().filter(|e| e.is_server() && !e.modules.is_empty()).map(|e| e.name.clone());
    own.chain([MAIN.to_owned()]).collect()
}

/// The plan.
pub(crate) fn plan(wanted: &Wanted<'_>) -> Result<Plan> {
    let Wanted { paths, lock, image_inputs, host, extensions, targets } = wanted;
    let root = &paths.root;
    let assets = root.join("assets");
    let archive = |name: &str| {
        lock.archive(name).ok_or_else(|| {
            Error::new(format!("sources.lock has no archive {name}"))
                .repair(format!("pin it: `cargo xtask sources update {name}`"))
        })
    };
    let with_libraries = |mut after: Vec<Need>| -> Result<Vec<Need>> {
        after.extend(needs::server_libraries()?.into_iter().map(|(_, need)| need));
        Ok(after)
    };
    let image = || -> Result<Need> { Ok(Need::all(id::image()?)) };
    // Measured on two quiet cores; if a step has run before, the time of that run is used.
    let cost = |cores, memory, seconds| Cost { cores, memory, seconds };
    let mut steps = Vec::new();

    steps.push(Step {
        id: id::image()?,
        title: "fetching the sources and unpacking the build image".into(),
        inputs: Inputs::new().text("image", image_inputs)?,
        after: vec![],
        cost: cost(Cores::One, 300, 90),
    });
    let own = extensions.iter().filter(|e| e.is_server()).map(|e| e.source.place());
    steps.push(Step {
        id: id::postgresql()?,
        title: "building PostgreSQL and the side modules of the server".into(),
        inputs: Inputs::new()
            .text("archive", &archive("postgresql")?.sha256)?
            .text("headers", &archive(ICU)?.sha256)?
            .tree("patches", &assets.join("patches/postgresql"))?
            .tree("overlay", &assets.join("guest/overlay"))?
            .tree("sysroot", &assets.join("guest/sysroot"))?
            .list("modules", own)?
            .files("layouts", &assets.join("guest"), ["layouts.txt"])?
            .files("scripts", &assets.join("build"), ["cc.sh", "flags.sh", "layouts.pl", "postgresql.sh"])?,
        after: with_libraries(vec![image()?])?,
        cost: cost(Cores::Half, 1000, 300),
    });
    let suites = guest::archives(extensions).map(|(name, source)| Ok(format!("{name}: {}", archive(source)?.sha256)));
    let suites = suites.collect::<Result<Vec<_>>>()?;
    steps.push(Step {
        id: id::suites()?,
        title: "building the driver of PostgreSQL's own tests".into(),
        inputs: Inputs::new()
            .text("archive", &archive("postgresql")?.sha256)?
            .list("extensions", guest::contrib(extensions))?
            .list("archives", suites)?
            .files("scripts", &assets.join("build"), scripts(&assets, "suites.sh")?)?,
        after: vec![image()?],
        cost: cost(Cores::Half, 500, 60),
    });
    // Those that others are compiled against come first.
    let mut in_order: Vec<&str> = libraries(extensions).into_iter().collect();
    in_order.sort_by_key(|name| LIBRARY_NEEDS.iter().any(|(library, _)| library == name));
    for library in in_order {
        let mut inputs = Inputs::new()
            .text("archive", &archive(library)?.sha256)?
            .tree("sysroot", &assets.join("guest/sysroot"))?
            .files("scripts", &assets.join("build"), scripts(&assets, &format!("libraries/{library}.sh"))?)?;
        // What is compiled into it, and changes to it.
        for (what, directory) in [("sources", "guest"), ("patches", "patches")] {
            let directory = assets.join(directory).join(library);
            if directory.exists() {
                inputs = inputs.tree(what, &directory)?;
            }
        }
        let mut after = vec![image()?];
        after.extend(needs::library(library)?.into_iter().map(|(_, need)| need));
        steps.push(Step {
            id: id::library(library)?,
            title: format!("building the library {library}"),
            inputs,
            after,
            // C++, in hundreds of files.
            cost: if library == "geos" || library == ICU {
                cost(Cores::All, 900, 400)
            } else {
                cost(Cores::Half, 600, 60)
            },
        });
    }
    for extension in extensions.iter().filter(|e| !e.is_server()) {
        let mut inputs = Inputs::new()
            .tree("sysroot", &assets.join("guest/sysroot"))?
            .files("scripts", &assets.join("build"), scripts(&assets, extension.script())?)?
            .list("variables", &extension.make)?;
        let mut after = with_libraries(needs::pgxs()?)?;
        after.push(image()?);
        for library in &extension.libraries {
            after.push(Need::all(id::library(library)?));
        }
        match &extension.source {
            Source::Archive(name) => {
                let locked = archive(name)?;
                if locked.license != extension.license {
                    return Err(Error::new(format!(
                        "the licence of {name} is {} in sources.lock, and {} in assets/extensions/{}.toml",
                        locked.license, extension.license, extension.name
                    ))
                    .repair("find out which is right and correct the other"));
                }
                inputs = inputs.text("archive", &locked.sha256)?;
            }
            Source::Contrib(directory) | Source::Server(directory) => after.push(needs::contrib(directory)?),
        }
        // Changes to the extension, applied in the order of their names.
        let patches = assets.join("patches").join(extension.source.place());
        if patches.exists() {
            inputs = inputs.tree("patches", &patches)?;
        }
        steps.push(Step {
            id: id::extension(&extension.name)?,
            title: format!("building the extension {}", extension.name),
            inputs,
            after,
            cost: if extension.script.is_some() { cost(Cores::All, 600, 60) } else { cost(Cores::One, 300, 8) },
        });
    }

    let mut after = with_libraries(needs::server()?)?;
    after.extend([image()?, needs::server_modules()?, needs::test_modules()?]);
    for extension in extensions.iter().filter(|e| !e.is_server()) {
        after.push(Need::all(id::extension(&extension.name)?));
    }
    let owners = extensions.iter().map(|e| format!("{}: {}", e.name, e.modules.join(" ")));
    steps.push(Step {
        id: id::modules()?,
        title: "linking the main module and checking every import".into(),
        inputs: Inputs::new()
            .list("modules", owners)?
            .files("exports", &assets.join("guest"), [EXPORTS])?
            .files("scripts", &assets.join("build"), ["flags.sh", "link.sh"])?
            .rust("post-link", root, ["xtask/src/wasm"])?
            .rust("step", root, ["xtask/src/assets/modules.rs"])?,
        after,
        cost: cost(Cores::One, 500, 3),
    });
    steps.push(Step {
        id: id::programs()?,
        title: "linking the client programs".into(),
        inputs: Inputs::new()
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
                [
                    "pgl_decimal.c",
                    "pgl_decimal.h",
                    "pgl_dtoa.c",
                    "pgl_locale.c",
                    "pgl_pow5.h",
                    "pgl_process.c",
                    "pgl_setjmp.c",
                    "pgl_strtod.c",
                ],
            )?
            .files("scripts", &assets.join("build"), ["flags.sh", "programs.sh"])?
            .rust("post-link", root, ["xtask/src/wasm"])?
            .rust("step", root, ["xtask/src/assets/programs.rs"])?,
        after: with_libraries(vec![image()?, needs::program_objects()?])?,
        cost: cost(Cores::One, 300, 2),
    });
    steps.push(Step {
        id: id::compiler()?,
        title: "building the AOT compiler (Wasmer with LLVM)".into(),
        inputs: rust_program(root, "aot-compiler")?
            .tree("patches", &assets.join("patches/wasmer-compiler-llvm"))?
            .text("rust", &host.rust)?,
        after: vec![image()?],
        cost: cost(Cores::Half, 3000, 240),
    });
    steps.push(Step {
        id: id::template_program()?,
        title: "building the program that makes the template".into(),
        inputs: rust_program(root, "initdb")?.text("rust", &host.rust)?,
        after: vec![],
        cost: cost(Cores::Half, 2500, 420),
    });

    let mut compiled: Vec<Target> = targets.to_vec();
    if !compiled.iter().any(|t| t.triple == host.triple) {
        compiled.insert(0, targets::find(&host.triple)?);
    }
    let units = units(extensions);
    for target in &compiled {
        let inputs = || -> Result<Inputs> {
            Inputs::new()
                .text("target", target.triple)?
                .list("cpu features", target.cpu_features)?
                .list("compression", [LEVEL.to_string()])
        };
        let mut aot = |id, what: String, modules: Vec<Need>, cost| -> Result<()> {
            let after = modules.into_iter().chain([image()?, Need::all(id::compiler()?)]).collect();
            let title = format!("compiling {what} for {}", target.triple);
            steps.push(Step { id, title, inputs: inputs()?, after, cost });
            Ok(())
        };
        for (unit, modules) in &units {
            let needs = modules.iter().map(|name| needs::module(name)).collect::<Result<_>>()?;
            let what = if unit == MAIN { "the main module".to_owned() } else { unit.clone() };
            // What has a script of its own is large.
            let large = extensions.iter().any(|e| e.name == *unit && e.script.is_some());
            let cost = match unit.as_str() {
                MAIN => cost(Cores::All, 3000, 180),
                _ if large => cost(Cores::All, 1500, 150),
                _ => cost(Cores::One, 400, 5),
            };
            aot(id::aot(target.triple, unit)?, what, needs, cost)?;
        }
        for program in PROGRAMS {
            let id = id::aot_program(target.triple, program)?;
            aot(id, (*program).to_owned(), vec![needs::program(program)?], cost(Cores::One, 600, 15))?;
        }
        if target.triple == host.triple {
            let id = id::aot_test(target.triple)?;
            aot(id, "what only tests load".into(), vec![needs::checked_test_modules()?], cost(Cores::One, 400, 5))?;
        }
    }
    let mut after = vec![Need::all(id::template_program()?), needs::share()?];
    for unit in server_units(extensions) {
        after.push(Need::all(id::aot(&host.triple, &unit)?));
    }
    steps.push(Step {
        id: id::template()?,
        title: "making the database template".into(),
        inputs: Inputs::new().list("compression", [LEVEL.to_string()])?,
        after,
        cost: cost(Cores::One, 600, 30),
    });

    let mut after =
        vec![image()?, needs::share()?, needs::shipped()?, Need::all(id::programs()?), Need::all(id::template()?)];
    for extension in extensions.iter().filter(|e| !e.is_server()) {
        after.push(Need::all(id::extension(&extension.name)?));
    }
    steps.push(Step {
        id: id::assets()?,
        title: "packing the portable payload".into(),
        inputs: packing(root)?
            .rust("control files", root, ["xtask/src/assets/control.rs"])?
            .text("postgresql", &archive("postgresql")?.version)?
            .tree("border", &assets.join("guest/overlay/src/include/pgl_host.h"))?
            .list("extensions", extensions.iter().map(Extension::description))?
            .list("toolchain", lock.toolchains.iter().map(|t| format!("{} {}", t.name, t.version)))?,
        after,
        cost: cost(Cores::One, 300, 10),
    });
    for target in &compiled {
        let mut after = vec![needs::shipped()?, Need::all(id::programs()?)];
        for unit in units.keys() {
            after.push(Need::all(id::aot(target.triple, unit)?));
        }
        for program in PROGRAMS {
            after.push(Need::all(id::aot_program(target.triple, program)?));
        }
        steps.push(Step {
            id: id::payload(target.triple)?,
            title: format!("packing the payload for {}", target.triple),
            inputs: packing(root)?.list("parts", Extension::parts(extensions))?,
            after,
            cost: cost(Cores::One, 300, 3),
        });
    }
    Plan::new(PIPELINE_VERSION, steps)
}

/// What a payload is made with, besides what goes into it.
fn packing(root: &Path) -> Result<Inputs> {
    Inputs::new().rust("step", root, [MANIFEST_FORMAT, "xtask/src/assets/parts.rs", "xtask/src/assets/payload.rs"])
}

/// The format of the manifests, which the runtime reads.
const MANIFEST_FORMAT: &str = "pglite-oxide/src/bundle/manifest.rs";

/// A script in `assets/build`, and those that it and they name.
fn scripts(assets: &Path, script: &str) -> Result<Vec<String>> {
    const HERE: &str = "/pgl/assets/build/";
    let mut found = vec![script.to_owned()];
    let mut next = 0;
    while let Some(script) = found.get(next) {
        let text = files::text(&assets.join("build").join(script))?;
        next += 1;
        for rest in text.split(HERE).skip(1) {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c))).unwrap_or(rest.len());
            let name = rest[..end].to_owned();
            if name.ends_with(".sh") && !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What a Rust program of the pipeline is built from: the sources of the workspace's members that
/// it consists of, and the crates that it depends on. Comments do not count.
fn rust_program(root: &Path, package: &str) -> Result<Inputs> {
    let read = |path: PathBuf| files::text(&path);
    let lock = lockfile::parse(&read(root.join("Cargo.lock"))?)?;
    let workspace = read(root.join("Cargo.toml"))?;
    let members = lockfile::members(&workspace, |directory| read(root.join(directory).join("Cargo.toml")))?;
    let (mut sources, mut settings) = (Vec::new(), Vec::new());
    for member in lockfile::local(&lock, package)? {
        let directory = members.get(&member).ok_or_else(|| {
            Error::new(format!("{package} depends on {member}, which is neither a member of the workspace nor locked"))
        })?;
        let manifest = read(root.join(directory).join("Cargo.toml"))?;
        settings.extend(lockfile::workspace_settings(&workspace, &manifest)?);
        let parts = ["Cargo.toml", "build.rs", "src"].map(|part| format!("{directory}/{part}"));
        sources.extend(parts.into_iter().filter(|part| root.join(part).exists()));
    }
    Inputs::new()
        .rust("sources", root, sources)?
        .list("crates", lockfile::closure(&lock, package)?)?
        .list("settings", settings)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
