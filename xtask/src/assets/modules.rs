//! The step `guest/modules`: links the main module with the exports that the side modules need, makes it loadable, and proves that every import of every module is satisfied. Its output
//! is the set of modules that everything later is made from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::plan::{PGXS, id};
use super::workshop::{JobFiles, Workshop};
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
/// Directory of modules below an installed tree.
const MODULE_DIR: &str = "install/usr/lib/postgresql";

/// Runs the step.
pub(crate) fn run(paths: &Paths, workshop: &Workshop<'_>, context: &mut StepContext<'_>) -> Result<()> {
    let sides = side_modules(context)?;
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
    for (name, bytes) in &sides {
        let path = context.out.join(format!("{name}.wasm"));
        fs::write(&path, bytes).map_err(|e| Error::io("write", &path, e))?;
    }

    let report = linkcheck(&main, &sides, &HostProvided::pglite())?;
    let path = context.out.join(REPORT);
    let json = serde_json::to_vec_pretty(&report).context(|| "cannot write the link report".into())?;
    fs::write(&path, json).map_err(|e| Error::io("write", &path, e))?;
    report.verify()
}

/// Side modules of all trees, by name.
fn side_modules(context: &StepContext<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found: BTreeMap<String, (PathBuf, Vec<u8>)> = BTreeMap::new();
    let mut trees = vec![context.output_of(&id::postgresql()?)?];
    for (name, _) in PGXS {
        trees.push(context.output_of(&id::extension(name)?)?);
    }
    for tree in trees {
        for (name, path) in children(&tree.join(MODULE_DIR))? {
            let Some(name) = name.strip_suffix(".so") else { continue };
            let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
            if let Some((other, _)) = found.get(name) {
                return Err(Error::new(format!(
                    "two side modules are called {name}: {} and {}",
                    other.display(),
                    path.display()
                )));
            }
            found.insert(name.to_owned(), (path, bytes));
        }
    }
    Ok(found.into_iter().map(|(name, (_, bytes))| (name, bytes)).collect())
}

/// The modules in the step's output by name, the main one first, with the SHA-256 of their bytes.
pub(crate) fn list(output: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut modules: Vec<(String, PathBuf)> = children(output)?
        .into_iter()
        .filter_map(|(name, path)| Some((name.strip_suffix(".wasm")?.to_owned(), path)))
        .collect();
    modules.sort_by_key(|(name, _)| (name != MAIN, name.clone()));
    Ok(modules)
}
