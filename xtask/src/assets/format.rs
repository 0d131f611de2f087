//! The format of C code: that of PostgreSQL's own, which `pgindent` makes. It owns the report;
//! `assets/build/format.sh` compares, in the image.

use std::path::{Path, PathBuf};

use super::guest;
use super::workshop::Workshop;
use crate::backend::Choice;
use crate::error::{Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::progress::Progress;
use crate::sources::Lock;

/// Where the differences in files of this repository are, among what the script writes.
const GUEST: &str = "guest";
/// The archives that the patches belong to.
const ARCHIVES: [&str; 2] = ["postgresql", "pgvector"];

/// What is to be changed in the files of a tree, as `git apply` takes it.
#[derive(Debug)]
struct Difference {
    tree: &'static str,
    /// C code may have bytes in any encoding.
    patch: Vec<u8>,
}

/// Fails if a file of `assets/guest`, or what a patch changes, is not formatted. The differences
/// are then in the error, and in files below `target/c-format`.
pub(crate) fn check(paths: &Paths, progress: &Progress) -> Result<()> {
    let differences = compare(paths, progress)?;
    let directory = paths.root.join("target/c-format");
    files::make_directory(&directory)?;
    for difference in &differences {
        let path = file(&directory, difference.tree);
        files::write(&path, &difference.patch)?;
    }
    judge(&differences, &directory)
}

/// The differences, one for each tree, empty ones included.
fn compare(paths: &Paths, progress: &Progress) -> Result<Vec<Difference>> {
    let lock = Lock::read(&paths.lock())?;
    let workshop = Workshop::new(paths, &lock, Choice::Auto, vec![], progress.clone())?;
    let mut mounted = guest::sources(paths, &workshop)?;
    for name in ARCHIVES {
        mounted.read_only.insert(format!("sources/{name}.tar"), workshop.archive(name)?);
    }
    let scratch = workshop.run_alone(&["sh", "/pgl/assets/build/format.sh"], mounted)?;
    let read = |tree| {
        let path = file(&scratch.path().join("out"), tree);
        let patch = files::read(&path)?;
        Ok(Difference { tree, patch })
    };
    [GUEST].into_iter().chain(ARCHIVES).map(read).collect()
}

fn file(directory: &Path, tree: &str) -> PathBuf {
    directory.join(format!("{tree}.diff"))
}

/// An error if there is a difference. `directory` has the differences as files.
fn judge(differences: &[Difference], directory: &Path) -> Result<()> {
    let (mut shown, mut repairs) = (String::new(), Vec::new());
    for Difference { tree, patch } in differences.iter().filter(|difference| !difference.patch.is_empty()) {
        shown += &format!("\n{}", String::from_utf8_lossy(patch).trim_end());
        let apply = format!("`git apply {}`", file(directory, tree).display());
        repairs.push(if *tree == GUEST {
            apply
        } else {
            format!(
                "in the tree of {tree} with its patches, {apply}; then each change goes into the patch that it \
                 belongs to (\"Change PostgreSQL\" in CONTRIBUTING.md)"
            )
        });
    }
    if repairs.is_empty() {
        return Ok(());
    }
    repairs.push("where the name of a type is formatted as a variable's, add it to assets/guest/typedefs.list".into());
    Err(Error::new(format!("C code is not formatted as pgindent formats it:{shown}")).repair(repairs.join("\n    ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::assets::reproduce::copy_checkout;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn a_difference_is_shown_with_its_repair() {
        let difference = |tree, patch: &str| Difference { tree, patch: patch.into() };
        let clean = || difference("pgvector", "");
        assert!(judge(&[difference(GUEST, ""), clean()], Path::new("found")).is_ok());
        let found = [
            difference(GUEST, "--- a/assets/guest/x.c\n+++ b/assets/guest/x.c\n@@ -1 +1 @@\n-int x;\n+int\t\t\tx;\n"),
            difference("postgresql", "--- a/src/y.c\n+++ b/src/y.c\n@@ -1 +1 @@\n-int y;\n+int\t\t\ty;\n"),
            clean(),
        ];
        insta::assert_snapshot!(judge(&found, Path::new("found")).unwrap_err(), @r#"
        C code is not formatted as pgindent formats it:
        --- a/assets/guest/x.c
        +++ b/assets/guest/x.c
        @@ -1 +1 @@
        -int x;
        +int			x;
        --- a/src/y.c
        +++ b/src/y.c
        @@ -1 +1 @@
        -int y;
        +int			y;
          repair: `git apply found/guest.diff`
            in the tree of postgresql with its patches, `git apply found/postgresql.diff`; then each change goes into the patch that it belongs to ("Change PostgreSQL" in CONTRIBUTING.md)
            where the name of a type is formatted as a variable's, add it to assets/guest/typedefs.list
        "#);
    }

    /// Without its name in the list, a pointer to a type is formatted like a multiplication.
    #[test]
    fn the_types_of_the_guest_are_listed() {
        let mut code = String::new();
        let mut directories = vec![root().join("assets/guest")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "c" || extension == "h") {
                    code += &fs::read_to_string(&path).unwrap();
                }
            }
        }
        let listed = fs::read_to_string(root().join("assets/guest/typedefs.list")).unwrap();
        let listed: Vec<&str> = listed.lines().collect();
        assert!(listed.is_sorted(), "{listed:?}");
        let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let unused: Vec<_> = listed.iter().filter(|name| !words.contains(*name)).collect();
        assert!(unused.is_empty(), "{unused:?}");
        let ends = code.lines().filter_map(|line| line.strip_prefix("} ")?.strip_suffix(';'));
        let defined: BTreeSet<&str> = ends.filter(|name| !name.contains(['=', ' '])).collect();
        assert!(defined.len() > 5, "{defined:?}");
        let missing: Vec<_> = defined.iter().filter(|name| !listed.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    #[ignore = "runs in the build image; `cargo xtask test \"c format\"` runs it"]
    fn what_is_not_formatted_is_found_in_files_and_patches() {
        let copy = tempfile::tempdir().unwrap();
        copy_checkout(&root(), copy.path()).unwrap();
        let edit = |file: &str, edit: &dyn Fn(&str) -> String| {
            let path = copy.path().join(file);
            let text = fs::read_to_string(&path).unwrap();
            let edited = edit(&text);
            assert_ne!(edited, text, "{file}");
            fs::write(&path, edited).unwrap();
        };
        edit("assets/guest/programs/pgl_channel.c", &|text| format!("{text}\nint more;\n"));
        let patch = "assets/patches/pgvector/0002-half-precision.patch";
        edit(patch, &|text| text.replace("+\tuint32\t\tbin;", "+\tuint32 bin;"));
        let paths = Paths { root: copy.path().to_path_buf(), cache: Paths::find().unwrap().cache };
        let differences = compare(&paths, &Progress::stderr()).unwrap();
        let changed = differences.iter().map(|Difference { tree, patch }| {
            let patch = String::from_utf8_lossy(patch);
            let lines = patch.lines().filter(|line| line.starts_with(['-', '+'])).map(|line| format!("{line}\n"));
            format!("{tree}:\n{}", lines.collect::<String>())
        });
        insta::assert_snapshot!(changed.collect::<String>(), @r"
        guest:
        --- a/assets/guest/programs/pgl_channel.c
        +++ b/assets/guest/programs/pgl_channel.c
        -int more;
        +int			more;
        postgresql:
        pgvector:
        --- a/src/halfutils.h
        +++ b/src/halfutils.h
        -	uint32 bin;
        +	uint32		bin;
        ");
    }
}
