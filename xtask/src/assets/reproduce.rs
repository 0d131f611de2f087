//! Builds a second time and compares: with another cache directory, another checkout, another
//! backend. It owns the environment of the second run and the description of differences; the steps
//! are those of every build.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use xshell::cmd;

use super::plan::id;
use super::{BuildOptions, Run};
use crate::backend::Choice;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::fingerprint::children;
use crate::pipeline::plan::{Output, StepId};
use crate::pipeline::progress::Progress;
use crate::pipeline::runlock::RunLock;
use crate::pipeline::store::{Lookup, Store};
use crate::shell;

/// What the second run shares with the first instead of making it again.
struct Shared {
    /// Directories of the cache, by name.
    directories: &'static [&'static str],
    /// Steps whose output is copied from the first run.
    steps: Vec<StepId>,
}

/// Builds everything but the pipeline's own programs again, from a copy of the checkout and with a
/// separate image, and compares every output.
pub(crate) fn verify(
    paths: &Paths,
    options: &BuildOptions,
    first: &BTreeMap<StepId, Output>,
    progress: &Progress,
) -> Result<()> {
    let second = paths.cache.join("second-build");
    let checkout = second.join("checkout");
    files::remove_directory(&second)?;
    copy_checkout(&paths.root, &checkout)?;
    // The programs are tools, not results, and take longer than everything else.
    let tools = vec![id::compiler()?, id::template_program()?];
    let shared = Shared { directories: &["downloads", "cargo-target"], steps: tools };
    let steps: Vec<StepId> = first.keys().cloned().collect();
    let outputs = run(paths, &Paths { root: checkout, cache: second.clone() }, &shared, &steps, options, progress)?;
    let differences = compare(first, &outputs)?;
    files::remove_directory(&second)?;
    report(&differences, "the second build, in other directories", progress)
}

/// Builds an extension and links the main module and the client programs in a backend, on top of
/// what is in the store, and compares the outputs with the stored ones.
pub(crate) fn check_backend(paths: &Paths, choice: Choice, progress: &Progress) -> Result<()> {
    // Held to the end: all runs share one second cache directory.
    let lock = RunLock::acquire(&paths.cache, "backend check", |message| progress.say(message))?;
    let second = paths.cache.join("second-backend");
    files::remove_directory(&second)?;
    let options = BuildOptions { backend: choice, ..BuildOptions::default() };
    let targets = [id::extension("vector")?, id::modules()?, id::programs()?];
    let mut first = stored(paths, &targets, &options, &lock, progress)?;
    // Everything that they are built from is that of the store.
    let steps = first.keys().filter(|id| !targets.contains(id)).cloned().collect();
    first.retain(|id, _| targets.contains(id));
    let shared = Shared { directories: &["downloads", "images"], steps };
    let outputs =
        run(paths, &Paths { root: paths.root.clone(), cache: second.clone() }, &shared, &targets, &options, progress)?;
    let differences = compare(&first, &outputs)?;
    files::remove_directory(&second)?;
    report(&differences, &format!("the build in {choice:?}"), progress)
}

/// Finished outputs of the steps, and of those that they depend on.
fn stored(
    paths: &Paths,
    steps: &[StepId],
    options: &BuildOptions,
    lock: &RunLock,
    progress: &Progress,
) -> Result<BTreeMap<StepId, Output>> {
    let run = Run::prepare(paths, vec![], options, progress.clone())?;
    let store = Store::new(paths);
    let mut outputs = BTreeMap::new();
    for step in &run.plan.restricted_to(steps)?.steps {
        match store.lookup(&step.keyed(&outputs)?, lock)? {
            Lookup::Hit(output) => outputs.insert(step.id.clone(), output),
            _ => return Err(Error::new(format!("step {} is not built", step.id)).repair(super::stage::REPAIR)),
        };
    }
    Ok(outputs)
}

fn run(
    first: &Paths,
    second: &Paths,
    shared: &Shared,
    targets: &[StepId],
    options: &BuildOptions,
    progress: &Progress,
) -> Result<BTreeMap<StepId, Output>> {
    files::make_directory(&second.cache)?;
    for name in shared.directories {
        let (from, to) = (first.cache.join(name), second.cache.join(name));
        files::make_directory(&from)?;
        std::os::unix::fs::symlink(&from, &to).map_err(|e| Error::io("link", &to, e))?;
    }
    let mut run = Run::prepare(second, super::wanted_targets(options)?, options, progress.clone())?;
    let shell = shell::at(&second.root)?;
    for step in &shared.steps {
        let (from, to) = (first.store().join(step.directory()), second.store().join(step.directory()));
        if from.exists() {
            files::make_directory(&second.store())?;
            cmd!(shell, "cp -a {from} {to}").quiet().run().context(|| format!("cannot copy the output of {step}"))?;
        }
    }
    run.plan = run.plan.restricted_to(targets)?;
    let lock = RunLock::acquire(&second.cache, "second build", |message| progress.say(message))?;
    run.execute(&lock)
}

/// Copies the files that git tracks or would track, without outputs.
pub(super) fn copy_checkout(from: &Path, to: &Path) -> Result<()> {
    let shell = shell::at(from)?;
    let files = cmd!(shell, "git ls-files -z --cached --others --exclude-standard")
        .quiet()
        .read()
        .context(|| "git cannot list the checkout".into())?;
    for name in files.split('\0').filter(|name| !name.is_empty()) {
        let (source, copy) = (from.join(name), to.join(name));
        if let Some(parent) = copy.parent() {
            files::make_directory(parent)?;
        }
        if source.is_symlink() {
            let target = fs::read_link(&source).map_err(|e| Error::io("read", &source, e))?;
            std::os::unix::fs::symlink(target, &copy).map_err(|e| Error::io("link", &copy, e))?;
        } else if source.exists() {
            fs::copy(&source, &copy).map_err(|e| Error::io("copy", &source, e))?;
        }
    }
    Ok(())
}

/// Every difference between the outputs of the same steps.
fn compare(first: &BTreeMap<StepId, Output>, second: &BTreeMap<StepId, Output>) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for (step, a) in first {
        let Some(b) = second.get(step) else { continue };
        let (a, b) = (files(&a.path)?, files(&b.path)?);
        for name in a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))) {
            match (a.get(name), b.get(name)) {
                (Some(a), Some(b)) => {
                    let read = |path: &PathBuf| files::read(path);
                    if let Some(where_) = difference(name, &read(a)?, &read(b)?) {
                        differences.push(format!("{step}: {name}: {where_}"));
                    }
                }
                _ => differences.push(format!("{step}: {name}: only one build made it")),
            }
        }
    }
    Ok(differences)
}

fn report(differences: &[String], what: &str, progress: &Progress) -> Result<()> {
    if differences.is_empty() {
        progress.say(&format!("{what} gave the same bytes in every output"));
        return Ok(());
    }
    Err(Error::new(format!("{what} gave other bytes:\n  {}", differences.join("\n  ")))
        .repair("find what the output depends on besides its inputs: a path, a time, an order"))
}

/// Files below a directory by relative path; links count as their targets.
fn files(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    fn walk(directory: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
        for (name, path) in children(directory)? {
            if path.is_dir() {
                walk(&path, &format!("{prefix}{name}/"), files)?;
            } else if path.exists() {
                files.insert(format!("{prefix}{name}"), path);
            }
        }
        Ok(())
    }
    let mut found = BTreeMap::new();
    walk(root, "", &mut found)?;
    Ok(found)
}

/// Where two files differ, in the terms of their format.
fn difference(name: &str, a: &[u8], b: &[u8]) -> Option<String> {
    if a == b {
        return None;
    }
    if name.ends_with(".wasm") || name.ends_with(".so") {
        let (a, b) = (sections(a), sections(b));
        let names = a.iter().zip(&b).filter(|(a, b)| a != b).map(|((name, _), _)| name.clone()).collect::<Vec<_>>();
        if a.len() == b.len() && !names.is_empty() {
            return Some(format!("the sections {} differ", names.join(", ")));
        }
    }
    if name.ends_with(".tar")
        && let (Ok(a), Ok(b)) = (super::payload::read(a), super::payload::read(b))
    {
        let differ = |(name, bytes): &(&String, &Vec<u8>)| b.get(*name) != Some(*bytes);
        let names = a.iter().filter(differ).map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if !names.is_empty() {
            return Some(format!("the members {} differ", names.join(", ")));
        }
    }
    let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    Some(format!("{} and {} bytes, the first difference at {at}", a.len(), b.len()))
}

/// Sections of a wasm module, with their bytes; whatever cannot be parsed ends the list.
fn sections(wasm: &[u8]) -> Vec<(String, &[u8])> {
    let mut sections = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { break };
        if let wasmparser::Payload::CustomSection(custom) = &payload {
            sections.push((format!("custom {}", custom.name()), custom.data()));
        } else if let Some((id, range)) = payload.as_section() {
            let bytes = usize::try_from(range.start)
                .ok()
                .zip(usize::try_from(range.end).ok())
                .and_then(|(start, end)| wasm.get(start..end));
            sections.push((format!("number {id}"), bytes.unwrap_or_default()));
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_section_member_or_offset() {
        let module =
            |data: &str| wat::parse_str(format!("(module (memory 1) (data (i32.const 0) \"{data}\"))")).unwrap();
        assert_eq!(difference("x.wasm", &module("a"), &module("a")), None);
        assert_eq!(difference("x.wasm", &module("a"), &module("b")).unwrap(), "the sections number 11 differ");
        assert_eq!(difference("x.aot", b"abc", b"abd").unwrap(), "3 and 3 bytes, the first difference at 2");
        let tar = |text: &[u8]| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, "base/1", text).unwrap();
            builder.into_inner().unwrap()
        };
        assert_eq!(difference("t.tar", &tar(b"x"), &tar(b"y")).unwrap(), "the members base/1 differ");
    }
}
