//! Steps that compile C for the guest: PostgreSQL's tree and the extensions outside of it. It owns
//! which files the jobs see; the scripts in `assets/build` do the work.

use std::fs;

use super::extension::{Extension, Source};
use super::plan::{ICU, id, needs};
use super::workshop::{JobFiles, Workshop};
use crate::error::{Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::StepContext;
use crate::pipeline::plan::Need;

/// File in the output of the step `image` that holds the digest of the image's tree.
pub(crate) const IMAGE_DIGEST: &str = "image.txt";

/// The locked files and the image. The output is the digest: an image from other packages with an
/// equal tree changes nothing later.
pub(crate) fn image(workshop: &Workshop<'_>, context: &mut StepContext<'_>) -> Result<()> {
    let path = context.out.join(IMAGE_DIGEST);
    files::write(&path, workshop.image_digest()?)
}

/// PostgreSQL and the side modules of the server.
pub(crate) fn postgresql(
    paths: &Paths,
    extensions: &[Extension],
    workshop: &Workshop<'_>,
    context: &mut StepContext<'_>,
) -> Result<()> {
    let mut argv = vec!["sh", "/pgl/assets/build/postgresql.sh"];
    argv.extend(extensions.iter().filter(|e| e.is_server()).map(|e| e.source.place()));
    let mut files = sources(paths, workshop)?;
    files.read_only.insert(format!("sources/{ICU}.tar"), workshop.archive(ICU)?);
    add_libraries(&mut files, context)?;
    workshop.run(context, &argv, files).map_err(|error| explain_patch(context, "postgresql", error))
}

/// Mounts the libraries of the server.
pub(super) fn add_libraries(files: &mut JobFiles, context: &StepContext<'_>) -> Result<()> {
    for (name, need) in needs::server_libraries()? {
        files.add_need(context, &format!("deps/{name}"), &need)?;
    }
    Ok(())
}

/// PostgreSQL's own test suites and their driver, for the build machine.
pub(crate) fn suites(
    paths: &Paths,
    extensions: &[Extension],
    workshop: &Workshop<'_>,
    context: &mut StepContext<'_>,
) -> Result<()> {
    let mut argv = vec!["sh", "/pgl/assets/build/suites.sh"];
    argv.extend(contrib(extensions));
    let mut files = sources(paths, workshop)?;
    for (name, archive) in archives(extensions) {
        files.read_only.insert(format!("sources/extension/{name}.tar"), workshop.archive(archive)?);
    }
    workshop.run(context, &argv, files)
}

/// The names of extensions that have an archive of their own, and of their archives.
pub(super) fn archives(extensions: &[Extension]) -> impl Iterator<Item = (&str, &str)> {
    extensions.iter().filter_map(|extension| match &extension.source {
        Source::Archive(archive) => Some((extension.name.as_str(), archive.as_str())),
        Source::Contrib(_) | Source::Server(_) => None,
    })
}

/// The directories of extensions below PostgreSQL's `contrib`.
pub(super) fn contrib(extensions: &[Extension]) -> impl Iterator<Item = &str> {
    extensions.iter().filter(|e| matches!(e.source, Source::Contrib(_))).map(|e| e.source.place())
}

/// The mounts of a job that starts from PostgreSQL's archive.
pub(super) fn sources(paths: &Paths, workshop: &Workshop<'_>) -> Result<JobFiles> {
    Ok(JobFiles {
        read_only: [
            ("assets".to_owned(), paths.root.join("assets")),
            ("sources/postgresql.tar".to_owned(), workshop.archive("postgresql")?),
        ]
        .into(),
        ..JobFiles::default()
    })
}

/// A library that is linked into the modules of extensions. Its output has `include` and `lib`.
pub(crate) fn library(paths: &Paths, workshop: &Workshop<'_>, name: &str, context: &mut StepContext<'_>) -> Result<()> {
    let mut files = JobFiles {
        read_only: [
            ("assets".to_owned(), paths.root.join("assets")),
            (format!("sources/{name}.tar"), workshop.archive(name)?),
        ]
        .into(),
        ..JobFiles::default()
    };
    for (library, need) in needs::library(name)? {
        files.add_need(context, &format!("deps/{library}"), &need)?;
    }
    workshop
        .run(context, &["sh", &format!("/pgl/assets/build/libraries/{name}.sh")], files)
        .map_err(|error| explain_patch(context, name, error))
}

/// An extension that is built by PGXS or by a script of its own. Its output is the result of its
/// installation in an empty directory.
pub(crate) fn pgxs(
    paths: &Paths,
    workshop: &Workshop<'_>,
    extension: &Extension,
    context: &mut StepContext<'_>,
) -> Result<()> {
    let mut files = JobFiles::default();
    files.read_only.insert("assets".to_owned(), paths.root.join("assets"));
    for need in needs::pgxs()? {
        files.add_need(context, "deps/postgresql", &need)?;
    }
    add_libraries(&mut files, context)?;
    for library in &extension.libraries {
        files.add_need(context, &format!("deps/{library}"), &Need::all(id::library(library)?))?;
    }
    let place = extension.source.place();
    match &extension.source {
        Source::Archive(name) => {
            files.read_only.insert(format!("sources/{name}.tar"), workshop.archive(name)?);
        }
        Source::Contrib(directory) | Source::Server(directory) => {
            files.read_only.insert(format!("sources/{directory}"), context.part(&needs::contrib(directory)?)?);
        }
    }
    let script = format!("/pgl/assets/build/{}", extension.script());
    let mut argv = vec!["sh", &script, place];
    argv.extend(extension.make.iter().map(String::as_str));
    workshop.run(context, &argv, files).map_err(|error| explain_patch(context, place, error))
}

/// Adds the patch, file and hunk to the error if a patch did not apply.
pub(super) fn explain_patch(context: &StepContext<'_>, source: &str, error: Error) -> Error {
    let log = fs::read_to_string(&context.log).unwrap_or_default();
    match failed_patch(&log) {
        None => error,
        Some(what) => Error::new(what).repair(format!(
            "rework the patch in assets/patches/{source} against the pinned source, then run the same command again"
        )),
    }
}

/// Parses the output of `patch`: the patch, the file and the hunk that did not apply.
fn failed_patch(log: &str) -> Option<String> {
    let patch = log.lines().rev().find_map(|line| line.strip_prefix("PATCH-FAILED: "))?.split(' ').next()?;
    let begin = log.rfind(&format!("applying {patch}"))?;
    let mut file = "";
    let mut failures = Vec::new();
    for line in log[begin..].lines() {
        if let Some(name) = line.strip_prefix("patching file ") {
            file = name;
        } else if line.starts_with("Hunk #") && line.contains("FAILED")
            || line.starts_with("can't find file to patch")
            || line.contains("malformed patch")
        {
            failures.push(format!("{file}: {}", line.trim_end_matches('.')));
        }
    }
    Some(format!("the patch {patch} does not apply\n  {}", failures.join("\n  ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_does_not_apply_is_named_with_file_and_hunk() {
        let log = "applying 0001-a.patch\npatching file src/x.c\napplying 0002-b.patch\npatching file src/y.c\n\
            patching file src/z.c\nHunk #2 FAILED at 40.\n1 out of 2 hunks FAILED -- saving rejects to file src/z.c.rej\n\
            PATCH-FAILED: 0002-b.patch does not apply to PostgreSQL: the file and the hunk are named above\n";
        insta::assert_snapshot!(failed_patch(log).unwrap(), @r"
        the patch 0002-b.patch does not apply
          src/z.c: Hunk #2 FAILED at 40
        ");
        assert_eq!(failed_patch("applying 0001-a.patch\nsome other failure\n"), None);
    }
}
