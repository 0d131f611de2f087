//! A suite's own indexes: Release (which indexes there are, with their hashes), Packages and
//! Sources. It reads text that was already fetched and verified; `archive.rs` fetches and verifies.

use deb822_fast::borrowed::{BorrowedParagraph, BorrowedParagraphIter};

use super::lock::is_hex;
use crate::error::{Error, Result};

/// A file with its hash in a Release file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexFile {
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

/// The fields that identify a Release file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release<'a> {
    pub(crate) codename: &'a str,
    pub(crate) date: &'a str,
    hashes: Vec<&'a str>,
}

impl<'a> Release<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let missing = |name: &str| {
            Error::new(format!("the Release file of the suite: {name}: expected a value, found none")).repair(REPAIR)
        };
        let stanza = stanzas(text, "Release").next().ok_or_else(|| missing("Codename"))??;
        let field = |name: &str| stanza.get_single(name).ok_or_else(|| missing(name));
        let (codename, date) = (field("Codename")?, field("Date")?);
        let hashes = stanza.get("SHA256").ok_or_else(|| missing("SHA256"))?.to_vec();
        Ok(Self { codename, date, hashes })
    }

    /// The Release file's entry for an index, named relative to the suite.
    pub(crate) fn file(&self, path: &str) -> Option<IndexFile> {
        checksums(&self.hashes).find(|(_, _, name)| *name == path).map(|(sha256, size, _)| IndexFile { size, sha256 })
    }
}

/// A binary package as its index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binary<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) architecture: &'a str,
    pub(crate) priority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) size: u64,
    pub(crate) sha256: &'a str,
    pub(crate) depends: &'a str,
    pub(crate) pre_depends: &'a str,
    pub(crate) provides: &'a str,
}

/// All packages of a Packages index. A stanza that lacks what identifies its file is an error,
/// never skipped.
pub(crate) fn binaries(text: &str) -> Result<Vec<Binary<'_>>> {
    let mut found = Vec::new();
    for stanza in stanzas(text, "Packages") {
        let stanza = stanza?;
        let field = |name: &str| required(&stanza, "Packages", name);
        let optional = |name: &str| single(&stanza, "Packages", name).map(Option::unwrap_or_default);
        let (size, sha256) = (field("Size")?, field("SHA256")?);
        found.push(Binary {
            name: field("Package")?,
            version: field("Version")?,
            architecture: field("Architecture")?,
            priority: single(&stanza, "Packages", "Priority")?.unwrap_or("optional"),
            path: field("Filename")?,
            size: size.parse().map_err(|_| malformed(&stanza, "Packages", "Size", size))?,
            sha256: if is_hex(sha256, 64) {
                sha256
            } else {
                return Err(malformed(&stanza, "Packages", "SHA256", sha256));
            },
            depends: optional("Depends")?,
            pre_depends: optional("Pre-Depends")?,
            provides: optional("Provides")?,
        });
    }
    Ok(found)
}

/// The upstream archive of a source package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Original {
    /// Debian version of the source package.
    pub(crate) version: String,
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

/// The `.orig.tar.*` files of every version of a source package in a Sources index.
pub(crate) fn originals(text: &str, package: &str) -> Result<Vec<Original>> {
    let mut found = Vec::new();
    for stanza in stanzas(text, "Sources") {
        let stanza = stanza?;
        if stanza.get_single("Package") != Some(package) {
            continue;
        }
        let directory = required(&stanza, "Sources", "Directory")?;
        let version = required(&stanza, "Sources", "Version")?;
        let sums = stanza.get("Checksums-Sha256");
        let sums = sums.ok_or_else(|| malformed(&stanza, "Sources", "Checksums-Sha256", "none"))?;
        let archive = checksums(sums).find(|(_, _, name)| {
            let extension = name.rsplit('.').next().unwrap_or_default();
            name.contains(".orig.tar.") && ["gz", "bz2", "xz", "zst"].contains(&extension)
        });
        if let Some((sha256, size, name)) = archive {
            found.push(Original { version: version.to_owned(), path: format!("{directory}/{name}"), size, sha256 });
        }
    }
    Ok(found)
}

/// How to go on after an index that cannot be used.
const REPAIR: &str = "use another mirror with `--debian-mirror`";

/// The stanzas of an index, one after the other: a Packages index has 50 MB.
fn stanzas<'a>(text: &'a str, index: &str) -> impl Iterator<Item = Result<BorrowedParagraph<'a>>> {
    BorrowedParagraphIter::new(text).map(move |stanza| {
        stanza.map_err(|e| Error::new(format!("{index} index: a line is no field")).cause(e).repair(REPAIR))
    })
}

/// Lines of `hash size name`.
fn checksums<'a>(lines: &[&'a str]) -> impl Iterator<Item = (String, u64, &'a str)> {
    lines.iter().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (hash, size, name) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        is_hex(hash, 64).then(|| (hash.to_owned(), size, name))
    })
}

fn required<'a>(stanza: &BorrowedParagraph<'a>, index: &str, field: &str) -> Result<&'a str> {
    single(stanza, index, field)?.ok_or_else(|| malformed(stanza, index, field, "none"))
}

/// The value of a field that has one line, if the field is there.
fn single<'a>(stanza: &BorrowedParagraph<'a>, index: &str, field: &str) -> Result<Option<&'a str>> {
    let Some(found) = stanza.get_field(field) else { return Ok(None) };
    found.as_single_line().map(Some).ok_or_else(|| malformed(stanza, index, field, "several lines"))
}

fn malformed(stanza: &BorrowedParagraph<'_>, index: &str, field: &str, found: &str) -> Error {
    let name = stanza.get_single("Package").unwrap_or("an entry without a name");
    Error::new(format!("{index} index: {name}: {field}: expected a valid value, found {found}")).repair(REPAIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "dd27f2b3c59e73ed14aa3324901242bf69a032a6347805f274e6260322d42979";

    #[test]
    fn release_names_its_indexes() {
        let text = format!(
            "Origin: Debian\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nMD5Sum:\n 00 1 main/x\nSHA256:\n {HASH}  77 main/binary-amd64/Packages.xz\n"
        );
        let release = Release::parse(&text).unwrap();
        assert_eq!(release.codename, "trixie");
        let file = release.file("main/binary-amd64/Packages.xz");
        assert_eq!(file, Some(IndexFile { size: 77, sha256: HASH.to_owned() }));
        assert_eq!(release.file("main/x"), None, "an MD5 sum is no SHA-256");
        insta::assert_snapshot!(Release::parse("Origin: Debian\n").unwrap_err(), @r"
        the Release file of the suite: Codename: expected a value, found none
          repair: use another mirror with `--debian-mirror`
        ");
    }

    #[test]
    fn packages_without_a_hash_are_refused() {
        let good = format!(
            "Package: a\nVersion: 1\nArchitecture: amd64\nFilename: pool/a.deb\nSize: 3\nSHA256: {HASH}\nDepends: b\n"
        );
        assert_eq!(binaries(&good).unwrap()[0].depends, "b");
        insta::assert_snapshot!(binaries(&good.replace(HASH, "short")).unwrap_err(), @r"
        Packages index: a: SHA256: expected a valid value, found short
          repair: use another mirror with `--debian-mirror`
        ");
        insta::assert_snapshot!(binaries(&good.replace("Size: 3\n", "")).unwrap_err(), @r"
        Packages index: a: Size: expected a valid value, found none
          repair: use another mirror with `--debian-mirror`
        ");
        insta::assert_snapshot!(binaries(&format!("{good} , c\n")).unwrap_err(), @r"
        Packages index: a: Depends: expected a valid value, found several lines
          repair: use another mirror with `--debian-mirror`
        ");
        assert!(binaries(&format!("{good}\nno field\n")).unwrap_err().to_string().contains("a line is no field"));
    }

    #[test]
    fn stanzas_of_an_index_are_counted_and_names_have_no_case() {
        let one = format!("version: 1\nArchitecture: amd64\nFilename: a\nSize: 3\nSHA256: {HASH}\n");
        let text = format!("\n\nPackage: a\n{one}Description: x\n y\n .\n\n\nPackage: b\n{one}");
        let found: Vec<_> = binaries(&text).unwrap().into_iter().map(|b| (b.name, b.version)).collect();
        assert_eq!(found, [("a", "1"), ("b", "1")]);
        assert!(binaries("\n\n").unwrap().is_empty());
    }

    #[test]
    fn original_archives_of_a_source_package() {
        let text = format!(
            "Package: other\nDirectory: pool/o\nVersion: 1\n\nPackage: pg\nVersion: 17.11-0+deb13u1\nDirectory: pool/main/p/pg\n\
             Checksums-Sha256:\n {HASH} 9 pg_17.11-0.dsc\n {HASH} 21 pg_17.11.orig.tar.bz2\n {HASH} 8 pg_17.11.orig.tar.bz2.asc\n {HASH} 5 pg_17.11-0.debian.tar.xz\n"
        );
        let found = originals(&text, "pg").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].size), ("pool/main/p/pg/pg_17.11.orig.tar.bz2", 21));
        assert!(originals(&text, "absent").unwrap().is_empty());
    }
}
