//! The description of a stage: the table, the checksums, and `STAGE.json`. Pure functions over the
//! packages.

use std::fmt::Write;

use serde::Serialize;

use super::{Kind, Package};
use crate::assets::stage::Staged;
use crate::error::{Context, Result};

/// The properties of a stage, without the crates.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: String,
    /// PostgreSQL's version.
    postgresql: String,
    /// The build that the payloads are of.
    build: String,
    commit: Option<Commit>,
    limit_bytes: u64,
    /// In the order in which they are published.
    crates: Vec<Line>,
}

/// The commit that was checked out.
#[derive(Debug, Serialize)]
pub(super) struct Commit {
    pub(super) id: String,
    /// Whether tracked files differed from it.
    pub(super) dirty: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    file: String,
    sha256: String,
    compressed_bytes: u64,
    unpacked_bytes: u64,
    payload: Content,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Content {
    /// The library: it has none.
    None,
    Present,
    /// The target has no artifacts.
    Missing,
}

impl Report {
    pub(super) fn new(packages: &[Package], staged: &Staged, commit: Option<Commit>, limit_bytes: u64) -> Self {
        let line = |package: &Package| Line {
            name: package.krate.name.clone(),
            file: package.file_name(),
            sha256: package.sha256.clone(),
            compressed_bytes: package.compressed(),
            unpacked_bytes: package.unpacked(),
            payload: match package.payload() {
                None => Content::None,
                Some(true) => Content::Present,
                Some(false) => Content::Missing,
            },
        };
        let runtime = packages.iter().find(|p| p.krate.kind == Kind::Runtime);
        Self {
            version: runtime.map(|p| p.version.clone()).unwrap_or_default(),
            postgresql: staged.assets.postgresql.clone(),
            build: staged.assets.build.clone(),
            commit,
            limit_bytes,
            crates: packages.iter().map(line).collect(),
        }
    }

    /// A line for each crate, and one for where they came from.
    pub(super) fn table(&self) -> String {
        let width = self.crates.iter().map(|c| c.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        // Writing into a String cannot fail.
        for c in &self.crates {
            let share = c.compressed_bytes as f64 * 100.0 / self.limit_bytes as f64;
            let note = match c.payload {
                Content::Missing => "  NO ARTIFACTS: this target is not supported by this release",
                Content::None | Content::Present => "",
            };
            let _ = writeln!(
                text,
                "{:width$}  {:>10} bytes  {share:>5.1} % of the limit{note}",
                c.name, c.compressed_bytes
            );
        }
        let commit = match &self.commit {
            None => "not a git checkout".to_owned(),
            Some(Commit { id, dirty: true }) => format!("commit {id}, WITH CHANGES"),
            Some(Commit { id, dirty: false }) => format!("commit {id}"),
        };
        let _ = writeln!(
            text,
            "version {}, PostgreSQL {}, build {}, {commit}",
            self.version,
            self.postgresql,
            self.build.get(..12).unwrap_or(&self.build)
        );
        text
    }

    /// In the form that `sha256sum --check` reads.
    pub(super) fn checksums(&self) -> String {
        self.crates.iter().map(|c| format!("{}  {}\n", c.sha256, c.file)).collect()
    }

    pub(super) fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).context(|| "cannot write STAGE.json".into())?;
        Ok(text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::package::tests::{krate, package};
    use super::*;
    use crate::assets::targets::TARGETS;
    use crate::manifest::{AssetsManifest, FORMAT};

    fn report(dirty: bool) -> Report {
        let packages = [
            package(krate("pglite-oxide-assets", Kind::Assets), &[("payload/payload.tar", "p")]),
            package(krate("pglite-oxide-aot-x", Kind::Aot(TARGETS[0])), &[("src/lib.rs", "//! x")]),
            package(krate("pglite-oxide", Kind::Runtime), &[("src/lib.rs", "//! x")]),
        ];
        let assets = AssetsManifest {
            format: FORMAT,
            build: "0123456789abcdef".into(),
            postgresql: "17.11".into(),
            abi: 1,
            image: "i".into(),
            toolchain: BTreeMap::new(),
            modules: vec![],
            programs: vec![],
            extensions: vec![],
            archives: vec![],
        };
        let mut report = Report::new(
            &packages,
            &Staged { assets, targets: vec![] },
            Some(Commit { id: "c0ffee".into(), dirty }),
            1000,
        );
        // The test does not depend on the compression ratio.
        for (index, line) in report.crates.iter_mut().enumerate() {
            line.compressed_bytes = 100 * (index as u64 + 1);
            line.sha256 = format!("hash{index}");
        }
        report
    }

    #[test]
    fn the_table_is_loud_about_what_is_missing() {
        insta::assert_snapshot!(report(true).table());
        assert!(!report(false).table().contains("CHANGES"));
    }

    #[test]
    fn checksums_and_json() {
        insta::assert_snapshot!(report(false).checksums());
        insta::assert_snapshot!(report(false).json().unwrap());
    }
}
