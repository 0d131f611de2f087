//! The step `guest/modules`: links the main module with the exports that the side modules need,
//! makes it loadable, and proves that every import of every module is satisfied. Its output is the
//! set of modules that everything later is made from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::extension::Extension;
use super::guest::add_libraries;
use super::plan::{id, needs};
use super::workshop::{JobFiles, Workshop};
use crate::error::{Context, Error, Result};
use crate::files;
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
/// Directory of the modules in the step's output that users get.
pub(crate) const SHIPPED: &str = "shipped";
/// Directory of the modules in the step's output that only PostgreSQL's own tests load. They are
/// compiled like the others, and never shipped.
pub(crate) const TEST: &str = "test";
/// Directory of modules below the tree that an extension's step installed.
pub(crate) const MODULE_DIR: &str = "install/usr/lib/postgresql";

/// File in `assets/guest` with more that the main module exports, for modules that are no part of
/// the project.
pub(crate) const EXPORTS: &str = "exports.txt";

/// Runs the step.
pub(crate) fn run(
    paths: &Paths,
    extensions: &[Extension],
    workshop: &Workshop<'_>,
    context: &mut StepContext<'_>,
) -> Result<()> {
    let found = Sides::find(context, extensions)?;
    let sides = found.read()?;
    let mut exports = needed_exports(&sides)?;
    exports.extend(listed(&files::text(&paths.root.join("assets/guest").join(EXPORTS))?).map(str::to_owned));
    let list = context.work.join("exports.txt");
    let text: String = exports.iter().map(|name| format!("{name}\n")).collect();
    files::write(&list, text)?;
    context.note(&format!("the main module exports {} symbols to {} side modules", exports.len(), sides.len()))?;

    let mut files = JobFiles::default();
    files.read_only.insert("assets".to_owned(), paths.root.join("assets"));
    for need in needs::server()? {
        files.add_need(context, "deps/postgresql", &need)?;
    }
    add_libraries(&mut files, context)?;
    workshop.run(context, &["sh", "/pgl/assets/build/link.sh"], files)?;

    let shipped = context.out.join(SHIPPED);
    files::make_directory(&shipped)?;
    files::make_directory(&context.out.join(TEST))?;
    let linked_path = context.out.join(format!("{MAIN}.wasm"));
    let linked = files::read(&linked_path)?;
    fs::remove_file(&linked_path).map_err(|e| Error::io("remove", &linked_path, e))?;
    let main = postlink(&linked)?;
    let main_path = shipped.join(format!("{MAIN}.wasm"));
    files::write(&main_path, &main)?;
    for (name, bytes) in &sides {
        let directory = if found.test.contains_key(name) { context.out.join(TEST) } else { shipped.clone() };
        let path = directory.join(format!("{name}.wasm"));
        files::write(&path, bytes)?;
    }

    let report = linkcheck(&main, &sides, &HostProvided::pglite())?;
    let path = context.out.join(REPORT);
    let json = serde_json::to_vec_pretty(&report).context(|| "cannot write the link report".into())?;
    files::write(&path, json)?;
    report.verify()
}

/// The names in [`EXPORTS`]: separated by white space; `#` begins a comment.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
}

/// Side modules by name: those that are shipped, and those that only tests load.
#[derive(Debug, Default)]
struct Sides {
    shipped: BTreeMap<String, PathBuf>,
    test: BTreeMap<String, PathBuf>,
}

impl Sides {
    /// The modules of all trees, each at the place that its owner's file names.
    fn find(context: &StepContext<'_>, extensions: &[Extension]) -> Result<Self> {
        let mut sides = Self::default();
        let server: Vec<&str> =
            extensions.iter().filter(|e| e.is_server()).flat_map(|e| &e.modules).map(String::as_str).collect();
        sides.shipped.extend(modules("the server", &context.part(&needs::server_modules()?)?, &server)?);
        for extension in extensions.iter().filter(|e| !e.is_server()) {
            let directory = context.output_of(&id::extension(&extension.name)?)?.join(MODULE_DIR);
            let expected: Vec<&str> = extension.modules.iter().map(String::as_str).collect();
            sides.shipped.extend(modules(&extension.name, &directory, &expected)?);
        }
        for (name, path) in installed(&context.part(&needs::test_modules()?)?)? {
            if let Some(other) = sides.shipped.get(&name) {
                let (a, b) = (other.display(), path.display());
                return Err(Error::new(format!("two side modules are called {name}: {a} and {b}")));
            }
            sides.test.insert(name, path);
        }
        Ok(sides)
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

/// The modules of an installation, which must be the expected ones.
fn modules(owner: &str, directory: &Path, expected: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let found = installed(directory)?;
    let mut problems: Vec<String> =
        expected.iter().filter(|name| !found.contains_key(**name)).map(|name| format!("{name} was not made")).collect();
    let unknown = found.keys().filter(|name| !expected.contains(&name.as_str()));
    problems.extend(unknown.map(|name| format!("{name} is not named")));
    if problems.is_empty() {
        return Ok(found);
    }
    Err(Error::new(format!("the modules of {owner} are not those of its file: {}", problems.join(", ")))
        .repair("correct `modules` in its file in assets/extensions"))
}

/// Modules in a directory of an installation, by name; none if the directory does not exist.
pub(super) fn installed(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    if !directory.exists() {
        return Ok(BTreeMap::new());
    }
    let modules = children(directory)?.into_iter();
    Ok(modules.filter_map(|(file, path)| Some((file.strip_suffix(".so")?.to_owned(), path))).collect())
}

/// The modules in a directory by name, the main one first.
pub(crate) fn list(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut modules: Vec<(String, PathBuf)> = children(directory)?
        .into_iter()
        .filter_map(|(name, path)| Some((name.strip_suffix(".wasm")?.to_owned(), path)))
        .collect();
    modules.sort_by_key(|(name, _)| (name != MAIN, name.clone()));
    Ok(modules)
}

/// Name of the module in a file.
pub(crate) fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".wasm"));
    name.map(str::to_owned).ok_or_else(|| Error::new(format!("{} is no module's file", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_install_made_must_be_what_was_announced() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.so", "b.so", "pgxs"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let found = |expected: &[&str]| modules("x", directory.path(), expected);
        assert_eq!(found(&["b", "a"]).unwrap().into_keys().collect::<Vec<_>>(), ["a", "b"]);
        insta::assert_snapshot!(found(&["a", "c"]).unwrap_err(), @"
        the modules of x are not those of its file: c was not made, b is not named
          repair: correct `modules` in its file in assets/extensions
        ");
        assert!(modules("x", &directory.path().join("none"), &[]).unwrap().is_empty(), "SQL only");
    }
}
