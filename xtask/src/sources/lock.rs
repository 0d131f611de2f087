//! `sources.lock`: the typed model, reading with validation, and writing. It knows no mirrors,
//! downloads nothing and resolves nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;

/// The schema this pipeline reads and writes.
const SCHEMA_VERSION: u32 = 1;

const HEADER: &str = "\
# Every byte the build starts from, and ([[native]]) the PostgreSQL it is compared with. Written by `cargo xtask sources update`, read by everything else.
# `path` is relative to a Debian mirror (or, for `kind = \"git\"`, names the repository); which host serves it is the machine's business.
";

/// What an entry is for. One role per entry; which roles a table may use is checked when it is
/// read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// A Debian package of the build image.
    Image,
    /// A Debian package of the build image that carries the WASIX headers and libc.
    Sysroot,
    /// A Debian package of the native PostgreSQL for comparisons, never an input of the build.
    Native,
    /// A source archive that is built for the guest.
    Guest,
    /// An upstream for audits, never built.
    Audit,
    /// A toolchain of the host.
    Host,
    /// A part of the WebAssembly engine; the runtime and the artifacts have to agree on it.
    Engine,
    /// A compiler inside the image.
    Compiler,
}

impl Role {
    const PACKAGE: &'static [Self] = &[Self::Image, Self::Sysroot];
    const NATIVE: &'static [Self] = &[Self::Native];
    const ARCHIVE: &'static [Self] = &[Self::Guest];
    const GIT: &'static [Self] = &[Self::Audit];
    const TOOLCHAIN: &'static [Self] = &[Self::Host, Self::Engine, Self::Compiler];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Sysroot => "sysroot",
            Self::Native => "native",
            Self::Guest => "guest",
            Self::Audit => "audit",
            Self::Host => "host",
            Self::Engine => "engine",
            Self::Compiler => "compiler",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file of a Debian mirror, with what is needed to fetch it from any mirror and to verify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) name: String,
    /// Debian version for a package, upstream version for an archive.
    pub(crate) version: String,
    pub(crate) suite: String,
    /// Path below the root of a mirror.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
    /// 64 lowercase hexadecimal digits.
    pub(crate) sha256: String,
    pub(crate) license: String,
    pub(crate) role: Role,
}

impl Artifact {
    /// The command that pins this entry again.
    pub(crate) fn repin(&self) -> String {
        repin(&self.name, self.role)
    }
}

/// A Debian binary package of the image or of the native PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) artifact: Artifact,
    pub(crate) architecture: String,
}

/// An upstream that is audited and never fetched by a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitSource {
    pub(crate) name: String,
    /// Branch or tag.
    pub(crate) version: String,
    /// `owner/repository`.
    pub(crate) path: String,
    /// 40 lowercase hexadecimal digits.
    pub(crate) commit: String,
    pub(crate) license: String,
    pub(crate) role: Role,
}

/// The identity of a tool or engine. Not fetched; `sources check` compares it with what declares
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Toolchain {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) role: Role,
}

/// The origin in an archive entry that is no longer valid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Remains {
    pub(crate) suite: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) license: Option<String>,
}

/// A validated `sources.lock`; every list is sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Lock {
    /// Packages of the build image.
    pub(crate) packages: Vec<Package>,
    /// Packages of the native PostgreSQL. A name may be here and in the image, in two versions: the
    /// two are pinned apart.
    pub(crate) native: Vec<Package>,
    pub(crate) archives: Vec<Artifact>,
    pub(crate) git: Vec<GitSource>,
    pub(crate) toolchains: Vec<Toolchain>,
}

impl Lock {
    /// Reads and validates a lock file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = files::text(path)?;
        Self::parse(&text)
    }

    /// Validates the text of a lock file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let raw: RawLock = toml::from_str(text).map_err(|e| {
            Error::new("sources.lock does not have the expected form")
                .cause(e.to_string().trim_end().to_owned())
                .repair("correct or remove that line; `git diff sources.lock` shows what changed")
        })?;
        raw.validate()
    }

    /// As [`Lock::read`], for pinning `target` (a source's name, `image` or `native`) again: the
    /// entries to be replaced may be invalid, because replacing them is the repair. The usable part
    /// of an invalid archive entry is returned beside the lock.
    pub(crate) fn read_to_repin(path: &Path, target: &str) -> Result<(Self, Remains)> {
        let text = files::text(path)?;
        let error = match Self::parse(&text) {
            Ok(lock) => return Ok((lock, Remains::default())),
            Err(error) => error,
        };
        // If other entries are invalid, the first error is reported.
        let Ok(mut raw) = toml::from_str::<RawLock>(&text) else { return Err(error) };
        let mut remains = Remains::default();
        if target == "image" {
            raw.package.clear();
        } else if target == "native" {
            raw.native.clear();
        } else if let Some(entry) = raw.source.iter().find(|s| s.name.as_deref() == Some(target)) {
            remains = Remains { suite: entry.suite.clone(), path: entry.path.clone(), license: entry.license.clone() };
            raw.source.retain(|s| s.name.as_deref() != Some(target));
        }
        match raw.validate() {
            Ok(lock) => {
                eprintln!("warning: {error}");
                Ok((lock, remains))
            }
            Err(_) => Err(error),
        }
    }

    /// The text of this lock: the same value gives the same bytes.
    pub(crate) fn render(&self) -> Result<String> {
        let body = toml::to_string(&RawLock::from_lock(self))
            .map_err(|e| Error::new("sources.lock cannot be written as TOML").cause(e))?;
        Ok(format!("{HEADER}{body}"))
    }

    /// Replaces the file atomically: a reader sees the old or the new text.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        files::replace(path, self.render()?.as_bytes())
    }

    /// Everything that can be fetched and has one of these roles, in lock order: packages of the
    /// image, of the native PostgreSQL, then archives.
    pub(crate) fn artifacts<'a>(&'a self, roles: &'a [Role]) -> impl Iterator<Item = &'a Artifact> {
        let packages = self.packages.iter().chain(&self.native).map(|p| &p.artifact);
        packages.chain(&self.archives).filter(|a| roles.contains(&a.role))
    }

    /// A package of the build image.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|p| p.artifact.name == name)
    }

    pub(crate) fn archive(&self, name: &str) -> Option<&Artifact> {
        self.archives.iter().find(|a| a.name == name)
    }

    pub(crate) fn toolchain(&self, name: &str) -> Option<&Toolchain> {
        self.toolchains.iter().find(|t| t.name == name)
    }

    /// Brings the lists into the order in which they are written.
    pub(crate) fn sort(&mut self) {
        self.packages.sort_by(|a, b| a.artifact.name.cmp(&b.artifact.name));
        self.native.sort_by(|a, b| a.artifact.name.cmp(&b.artifact.name));
        self.archives.sort_by(|a, b| a.name.cmp(&b.name));
        self.git.sort_by(|a, b| a.name.cmp(&b.name));
        self.toolchains.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// The raw file. Every field is optional here, so that a missing one is reported with the name of
/// its entry.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawLock {
    version: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    toolchain: Vec<RawEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    source: Vec<RawEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    package: Vec<RawEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    native: Vec<RawEntry>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suite: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<String>,
}

impl RawLock {
    fn validate(self) -> Result<Lock> {
        if self.version != Some(SCHEMA_VERSION) {
            let found = self.version.map_or("none".to_owned(), |v| v.to_string());
            return Err(Error::new(format!("sources.lock: version: expected {SCHEMA_VERSION}, found {found}"))
                .repair("use the xtask of the same checkout as the lock"));
        }
        let mut lock = Lock::default();
        for (index, entry) in self.package.iter().enumerate() {
            lock.packages.push(Reader::new("package", index, entry).package(Role::PACKAGE)?);
        }
        for (index, entry) in self.native.iter().enumerate() {
            lock.native.push(Reader::new("native", index, entry).package(Role::NATIVE)?);
        }
        for (index, entry) in self.source.iter().enumerate() {
            let reader = Reader::new("source", index, entry);
            reader.absent(&[("architecture", entry.architecture.is_some())])?;
            match reader.text("kind", &entry.kind)? {
                "archive" => {
                    reader.absent(&[("commit", entry.commit.is_some())])?;
                    lock.archives.push(reader.artifact(Role::ARCHIVE)?);
                }
                "git" => lock.git.push(reader.git()?),
                other => return Err(reader.wrong("kind", "archive or git", other)),
            }
        }
        for (index, entry) in self.toolchain.iter().enumerate() {
            lock.toolchains.push(Reader::new("toolchain", index, entry).toolchain()?);
        }
        unique("package", lock.packages.iter().map(|p| p.artifact.name.as_str()))?;
        unique("native", lock.native.iter().map(|p| p.artifact.name.as_str()))?;
        unique(
            "source",
            lock.archives.iter().map(|a| a.name.as_str()).chain(lock.git.iter().map(|g| g.name.as_str())),
        )?;
        unique("toolchain", lock.toolchains.iter().map(|t| t.name.as_str()))?;
        lock.sort();
        Ok(lock)
    }

    fn from_lock(lock: &Lock) -> Self {
        let packages = |list: &[Package]| {
            let entry = |p: &Package| RawEntry {
                architecture: Some(p.architecture.clone()),
                ..RawEntry::from_artifact(&p.artifact)
            };
            list.iter().map(entry).collect()
        };
        let archive =
            lock.archives.iter().map(|a| RawEntry { kind: Some("archive".to_owned()), ..RawEntry::from_artifact(a) });
        let git = lock.git.iter().map(|g| RawEntry {
            name: Some(g.name.clone()),
            version: Some(g.version.clone()),
            kind: Some("git".to_owned()),
            role: Some(g.role.to_string()),
            path: Some(g.path.clone()),
            commit: Some(g.commit.clone()),
            license: Some(g.license.clone()),
            ..RawEntry::default()
        });
        let toolchain = lock.toolchains.iter().map(|t| RawEntry {
            name: Some(t.name.clone()),
            version: Some(t.version.clone()),
            role: Some(t.role.to_string()),
            ..RawEntry::default()
        });
        Self {
            version: Some(SCHEMA_VERSION),
            toolchain: toolchain.collect(),
            source: archive.chain(git).collect(),
            package: packages(&lock.packages),
            native: packages(&lock.native),
        }
    }
}

impl RawEntry {
    fn from_artifact(a: &Artifact) -> Self {
        Self {
            name: Some(a.name.clone()),
            version: Some(a.version.clone()),
            role: Some(a.role.to_string()),
            suite: Some(a.suite.clone()),
            path: Some(a.path.clone()),
            size: Some(a.size),
            sha256: Some(a.sha256.clone()),
            license: Some(a.license.clone()),
            ..Self::default()
        }
    }
}

/// Reads one entry, with its name for errors.
struct Reader<'a> {
    table: &'static str,
    index: usize,
    entry: &'a RawEntry,
}

impl<'a> Reader<'a> {
    fn new(table: &'static str, index: usize, entry: &'a RawEntry) -> Self {
        Self { table, index, entry }
    }

    fn package(&self, roles: &'static [Role]) -> Result<Package> {
        let entry = self.entry;
        self.absent(&[("kind", entry.kind.is_some()), ("commit", entry.commit.is_some())])?;
        let architecture = self.text("architecture", &entry.architecture)?.to_owned();
        if !["amd64", "all"].contains(&architecture.as_str()) {
            return Err(self.wrong("architecture", "amd64 or all", &architecture));
        }
        Ok(Package { artifact: self.artifact(roles)?, architecture })
    }

    fn artifact(&self, roles: &'static [Role]) -> Result<Artifact> {
        let entry = self.entry;
        let name = self.name()?;
        let size = entry.size.ok_or_else(|| self.missing("size"))?;
        if size == 0 {
            return Err(self.wrong("size", "a number of bytes above zero", "0"));
        }
        Ok(Artifact {
            name,
            version: self.text("version", &entry.version)?.to_owned(),
            suite: self.word("suite", &entry.suite)?,
            path: self.path()?,
            size,
            sha256: self.hex("sha256", &entry.sha256, 64)?,
            license: self.text("license", &entry.license)?.to_owned(),
            role: self.role(roles)?,
        })
    }

    fn git(&self) -> Result<GitSource> {
        let entry = self.entry;
        self.absent(&[
            ("suite", entry.suite.is_some()),
            ("size", entry.size.is_some()),
            ("sha256", entry.sha256.is_some()),
        ])?;
        Ok(GitSource {
            name: self.name()?,
            version: self.text("version", &entry.version)?.to_owned(),
            path: self.path()?,
            commit: self.hex("commit", &entry.commit, 40)?,
            license: self.text("license", &entry.license)?.to_owned(),
            role: self.role(Role::GIT)?,
        })
    }

    fn toolchain(&self) -> Result<Toolchain> {
        let entry = self.entry;
        self.absent(&[
            ("architecture", entry.architecture.is_some()),
            ("kind", entry.kind.is_some()),
            ("suite", entry.suite.is_some()),
            ("path", entry.path.is_some()),
            ("size", entry.size.is_some()),
            ("sha256", entry.sha256.is_some()),
            ("commit", entry.commit.is_some()),
            ("license", entry.license.is_some()),
        ])?;
        Ok(Toolchain {
            name: self.name()?,
            version: self.text("version", &entry.version)?.to_owned(),
            role: self.role(Role::TOOLCHAIN)?,
        })
    }

    fn name(&self) -> Result<String> {
        self.word("name", &self.entry.name)
    }

    fn text(&self, field: &str, value: &'a Option<String>) -> Result<&'a str> {
        match value.as_deref() {
            None => Err(self.missing(field)),
            Some(text) if text.trim().is_empty() || text.chars().any(char::is_control) => {
                Err(self.wrong(field, "one line of text", text))
            }
            Some(text) => Ok(text),
        }
    }

    fn word(&self, field: &str, value: &'a Option<String>) -> Result<String> {
        let text = self.text(field, value)?;
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(known) {
            return Err(self.wrong(field, "lowercase letters, digits, `+`, `-` and `.`", text));
        }
        Ok(text.to_owned())
    }

    /// A path is appended to a mirror's address, so it must not leave the mirror or name another
    /// host.
    fn path(&self) -> Result<String> {
        let path = self.text("path", &self.entry.path)?;
        let expected = "a path below the mirror, without a host";
        if path.contains("://") || path.starts_with('/') {
            return Err(self.wrong("path", expected, path));
        }
        let known = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(known);
        if !path.split('/').all(plain) {
            return Err(self.wrong("path", "plain components without `..`", path));
        }
        Ok(path.to_owned())
    }

    fn hex(&self, field: &str, value: &'a Option<String>, digits: usize) -> Result<String> {
        let text = self.text(field, value)?;
        if !is_hex(text, digits) {
            let expected = format!("{digits} lowercase hexadecimal digits");
            return Err(self.wrong(field, &expected, &format!("{text} ({} characters)", text.chars().count())));
        }
        Ok(text.to_owned())
    }

    fn role(&self, roles: &'static [Role]) -> Result<Role> {
        let text = self.text("role", &self.entry.role)?;
        roles.iter().copied().find(|r| r.as_str() == text).ok_or_else(|| {
            let expected: Vec<_> = roles.iter().map(|r| r.as_str()).collect();
            self.wrong("role", &expected.join(" or "), text)
        })
    }

    fn absent(&self, fields: &[(&str, bool)]) -> Result<()> {
        match fields.iter().find(|(_, present)| *present) {
            None => Ok(()),
            Some((field, _)) => Err(self.wrong(field, "no such field in this kind of entry", "one")),
        }
    }

    fn missing(&self, field: &str) -> Error {
        self.wrong(field, "a value", "none")
    }

    fn wrong(&self, field: &str, expected: &str, found: &str) -> Error {
        let name = match &self.entry.name {
            Some(name) => name.clone(),
            None => format!("number {}", self.index + 1),
        };
        let error =
            Error::new(format!("sources.lock: [[{}]] {name}: {field}: expected {expected}, found {found}", self.table));
        match (self.table, self.entry.kind.as_deref()) {
            ("package", _) => error.repair(repin(&name, Role::Image)),
            ("native", _) => error.repair(repin(&name, Role::Native)),
            ("source", Some("archive")) => error.repair(repin(&name, Role::Guest)),
            _ => error.repair(format!("correct `{field}` of that entry in sources.lock")),
        }
    }
}

/// Whether `text` is exactly `digits` lowercase hexadecimal digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn repin(name: &str, role: Role) -> String {
    let target = match role {
        Role::Image | Role::Sysroot => "image",
        Role::Native => "native",
        _ => name,
    };
    format!("`cargo xtask sources update {target}` pins it again and shows the difference")
}

fn unique<'a>(table: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::new(format!(
                "sources.lock: [[{table}]] {name}: expected one entry of this name, found two"
            ))
            .repair("remove one of them"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
