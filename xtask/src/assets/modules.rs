//! The step `guest/modules`: links the main module with the exports that the side modules need, makes it loadable, and proves that every import of every module is satisfied. Its output
//! is the set of modules that everything later is made from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::plan::{PGXS, id};
use super::workshop::{JobFiles, Workshop, make_dir};
use crate::error::{Context, Error, Result};
use crate::paths::Paths;
use crate::pipeline::StepContext;
use crate::pipeline::fingerprint::children;
use crate::wasm::host::HostProvided;
use crate::wasm::linkcheck::{linkcheck, needed_exports};
use crate::wasm::postlink::postlink;

/// Name of the main module.
pub(crate) const MAIN: &str = "postgres";
/// The link check's report in the step's output.
pub(crate) const REPORT: &str = "link-report.json";
/// Directory of the modules in the step's output that only PostgreSQL's own tests load. They are compiled like the others, and never shipped.
pub(crate) const TEST: &str = "test";
/// Directory of modules below the tree that a step installed.
const MODULE_DIR: &str = "usr/lib/postgresql";

/// Runs the step.
pub(crate) fn run(paths: &Paths, workshop: &Workshop<'_>, context: &mut StepContext<'_>) -> Result<()> {
    let found = Sides::find(context)?;
    let sides = found.read()?;
    let exports = needed_exports(&sides)?;
    let list = context.work.join("exports.txt");
    let text: String = exports.iter().map(|name| format!("{name}\n")).collect();
    fs::write(&list, text).map_err(|e| Error::io("write", &list, e))?;
    context.note(&format!("the main module exports {} symbols to {} side modules", exports.len(), sides.len()))?;

    let files = JobFiles {
        read_only: [
            ("assets".to_owned(), paths.root.join("assets")),
            ("deps/postgresql".to_owned(), context.output_of(&id::postgresql()?)?.to_path_buf()),
        ]
        .into(),
        ..JobFiles::default()
    };
    workshop.run(context, &["sh", "/pgl/assets/build/link.sh"], files)?;

    let main_path = context.out.join(format!("{MAIN}.wasm"));
    let linked = fs::read(&main_path).map_err(|e| Error::io("read", &main_path, e))?;
    let main = postlink(&linked)?;
    fs::write(&main_path, &main).map_err(|e| Error::io("write", &main_path, e))?;
    make_dir(&context.out.join(TEST))?;
    for (name, bytes) in &sides {
        let directory = if found.test.contains_key(name) { context.out.join(TEST) } else { context.out.clone() };
        let path = directory.join(format!("{name}.wasm"));
        fs::write(&path, bytes).map_err(|e| Error::io("write", &path, e))?;
    }

    let report = linkcheck(&main, &sides, &HostProvided::pglite())?;
    let path = context.out.join(REPORT);
    let json = serde_json::to_vec_pretty(&report).context(|| "cannot write the link report".into())?;
    fs::write(&path, json).map_err(|e| Error::io("write", &path, e))?;
    report.verify()
}

/// Side modules by name: those that are shipped, and those that only tests load.
#[derive(Debug, Default)]
struct Sides {
    shipped: BTreeMap<String, PathBuf>,
    test: BTreeMap<String, PathBuf>,
}

impl Sides {
    /// Those of all trees.
    fn find(context: &StepContext<'_>) -> Result<Self> {
        let mut steps = vec![id::postgresql()?];
        for (name, _) in PGXS {
            steps.push(id::extension(name)?);
        }
        let mut sides = Self::default();
        for step in steps {
            let output = context.output_of(&step)?;
            sides.add("install", &output.join("install").join(MODULE_DIR))?;
            let test = output.join(TEST).join(MODULE_DIR);
            if test.exists() {
                sides.add(TEST, &test)?;
            }
        }
        Ok(sides)
    }

    fn add(&mut self, tree: &str, directory: &Path) -> Result<()> {
        for (file, path) in children(directory)? {
            let Some(name) = file.strip_suffix(".so") else { continue };
            if let Some(other) = self.shipped.get(name).or_else(|| self.test.get(name)) {
                return Err(Error::new(format!(
                    "two side modules are called {name}: {} and {}",
                    other.display(),
                    path.display()
                )));
            }
            let modules = if tree == TEST { &mut self.test } else { &mut self.shipped };
            modules.insert(name.to_owned(), path);
        }
        Ok(())
    }

    /// Names and bytes of all.
    fn read(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let read = |(name, path): (&String, &PathBuf)| match fs::read(path) {
            Ok(bytes) => Ok((name.clone(), bytes)),
            Err(e) => Err(Error::io("read", path, e)),
        };
        self.shipped.iter().chain(&self.test).map(read).collect()
    }
}

/// The shipped modules in the step's output by name, the main one first, with the SHA-256 of their bytes.
pub(crate) fn list(output: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut modules: Vec<(String, PathBuf)> = children(output)?
        .into_iter()
        .filter_map(|(name, path)| Some((name.strip_suffix(".wasm")?.to_owned(), path)))
        .collect();
    modules.sort_by_key(|(name, _)| (name != MAIN, name.clone()));
    Ok(modules)
}
