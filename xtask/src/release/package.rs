//! One `.crate` file: reads it and checks its contents before publication. It builds nothing and
//! moves only its own file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::Crate;
use crate::assets::payload::{MANIFEST, PAYLOAD};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::pipeline::fingerprint::{Fingerprint, Hasher};

/// A crate as `cargo package` made it.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) krate: Crate,
    pub(crate) version: String,
    /// The `.crate` file.
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
    bytes: Vec<u8>,
    files: Files,
}

/// Files by path below the crate's root.
type Files = BTreeMap<String, Vec<u8>>;

impl Package {
    /// Reads the file of a crate from a directory.
    pub(super) fn read(krate: Crate, version: &str, directory: &Path) -> Result<Self> {
        let path = directory.join(format!("{}-{version}.crate", krate.name));
        let bytes = files::read(&path)?;
        let files = unpack(&bytes, &format!("{}-{version}/", krate.name)).map_err(|e| unreadable(&path).cause(e))?;
        Ok(Self {
            sha256: Fingerprint::of_bytes(&bytes).to_string(),
            krate,
            version: version.to_owned(),
            path,
            bytes,
            files,
        })
    }

    pub(crate) fn file_name(&self) -> String {
        format!("{}.crate", self.directory_name())
    }

    /// Name of the directory it unpacks to.
    pub(crate) fn directory_name(&self) -> String {
        format!("{}-{}", self.krate.name, self.version)
    }

    /// Size of the file in bytes.
    pub(crate) fn compressed(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Size of its files in bytes.
    pub(crate) fn unpacked(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Whether its kind has a payload, and then whether the payload is present.
    pub(crate) fn payload(&self) -> Option<bool> {
        let (directory, _) = self.krate.payloads(Path::new("")).into_iter().next()?;
        Some(self.files.contains_key(&format!("{directory}/{PAYLOAD}")))
    }

    /// A text file of the crate.
    pub(crate) fn text(&self, name: &str) -> Result<&str> {
        let bytes = self.files.get(name).ok_or_else(|| self.wrong(&format!("there is no {name}")))?;
        std::str::from_utf8(bytes).context(|| format!("{}: {name} is not text", self.file_name()))
    }

    /// SHA-256 of each file.
    pub(crate) fn checksums(&self) -> BTreeMap<&str, String> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), Fingerprint::of_bytes(bytes).to_string())).collect()
    }

    /// Identifies the inputs of its build: all files, or all but the payload. The commit is not
    /// part of it.
    pub(crate) fn content(&self, with_payload: bool) -> Fingerprint {
        let mut hasher = Hasher::new("crate");
        for (name, bytes) in &self.files {
            let commit = name == ".cargo_vcs_info.json";
            if !commit && (with_payload || !name.starts_with("payload/")) {
                hasher.bytes(name, bytes);
            }
        }
        hasher.finish()
    }

    /// Checks what the registry demands, what the licences demand, and that the payload is the one
    /// in the checkout.
    pub(super) fn check(&self, root: &Path) -> Result<()> {
        self.check_manifest()?;
        let notices = self.krate.kind.has_payload().then_some("THIRD_PARTY_NOTICES.md");
        for name in ["LICENSE-MIT", "LICENSE-APACHE"].into_iter().chain(notices) {
            if self.files.get(name).is_none_or(Vec::is_empty) {
                return Err(self
                    .wrong(&format!("there is no {name}"))
                    .repair("link it into the crate's directory and list it in `include`"));
            }
        }
        let payloads = self.krate.payloads(root);
        let known: Vec<String> = payloads
            .iter()
            .flat_map(|(inside, _)| [PAYLOAD, MANIFEST].map(|name| format!("{inside}/{name}")))
            .collect();
        if let Some(strange) = self.files.keys().find(|name| name.starts_with("payload/") && !known.contains(name)) {
            return Err(self
                .wrong(&format!("{strange} belongs to no payload"))
                .repair("remove the file from the checkout, and run the same command again"));
        }
        let files = payloads.iter().flat_map(|place| [PAYLOAD, MANIFEST].map(|name| (place, name)));
        for ((inside, directory), name) in files {
            let (inside, path) = (format!("{inside}/{name}"), directory.join(name));
            let expected = match fs::read(&path) {
                Ok(bytes) => Some(Fingerprint::of_bytes(&bytes).to_string()),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
                Err(e) => return Err(Error::io("read", &path, e)),
            };
            let found = self.files.get(&inside).map(|bytes| Fingerprint::of_bytes(bytes).to_string());
            if expected != found {
                let say =
                    |hash: Option<String>| hash.map_or("no such file".to_owned(), |hash| format!("SHA-256 {hash}"));
                return Err(self
                    .wrong(&format!("{inside}: expected {}, found {}", say(expected), say(found)))
                    .repair("list `payload/**` in the crate's `include`, and run the same command again"));
            }
        }
        Ok(())
    }

    /// Moves the file into another directory and syncs it.
    pub(super) fn move_to(&mut self, directory: &Path) -> Result<()> {
        let path = directory.join(self.file_name());
        fs::rename(&self.path, &path).map_err(|e| Error::io("move", &self.path, e))?;
        fs::File::open(&path).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync", &path, e))?;
        self.path = path;
        Ok(())
    }

    /// Writes its files into a new directory. They get the present time, not the archive's, so that
    /// Cargo sees that they are new.
    pub(crate) fn unpack_into(&self, directory: &Path) -> Result<()> {
        for (name, bytes) in &self.files {
            let path = directory.join(name);
            if let Some(parent) = path.parent() {
                files::make_directory(parent)?;
            }
            files::write(&path, bytes)?;
        }
        Ok(())
    }

    fn check_manifest(&self) -> Result<()> {
        let manifest: toml::Table = self
            .text("Cargo.toml")?
            .parse()
            .context(|| format!("{}: Cargo.toml does not have the expected form", self.file_name()))?;
        for (key, expected) in [
            ("name", Some(self.krate.name.as_str())),
            ("version", Some(self.version.as_str())),
            ("description", None),
            ("license", None),
        ] {
            let found = manifest.get("package").and_then(|p| p.get(key)).and_then(|v| v.as_str()).unwrap_or_default();
            if found.is_empty() || expected.is_some_and(|expected| found != expected) {
                let expected = expected.unwrap_or("a text");
                return Err(self
                    .wrong(&format!("Cargo.toml: {key}: expected {expected}, found `{found}`"))
                    .repair("correct the crate's Cargo.toml"));
            }
        }
        // A crate of one release works with those of the same release only.
        let exact = format!("={}", self.version);
        for (name, requirement) in requirements(&manifest) {
            if name.starts_with("pglite-oxide") && requirement != exact {
                return Err(self
                    .wrong(&format!("it depends on {name} `{requirement}`, expected `{exact}`"))
                    .repair("correct the version in [workspace.dependencies]"));
            }
        }
        Ok(())
    }

    fn wrong(&self, message: &str) -> Error {
        Error::new(format!("{}: {message}", self.file_name()))
    }
}

/// Dependencies of a packaged manifest by the crate's own name, those of every target included.
pub(crate) fn requirements(manifest: &toml::Table) -> BTreeMap<String, String> {
    let targets = manifest.get("target").and_then(|t| t.as_table()).into_iter().flat_map(|t| t.values());
    let mut requirements = BTreeMap::new();
    for table in std::iter::once(manifest).chain(targets.filter_map(|t| t.as_table())) {
        for (key, setting) in table.get("dependencies").and_then(|d| d.as_table()).into_iter().flatten() {
            let text = |field: &str| setting.get(field).and_then(|v| v.as_str());
            let requirement = setting.as_str().or_else(|| text("version")).unwrap_or_default();
            requirements.insert(text("package").unwrap_or(key).to_owned(), requirement.to_owned());
        }
    }
    requirements
}

fn unpack(bytes: &[u8], prefix: &str) -> Result<Files> {
    let mut files = Files::new();
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    for entry in archive.entries().context(|| "it is no archive".into())? {
        let mut entry = entry.context(|| "it is cut off".into())?;
        let name = entry.path().context(|| "a member has a damaged name".into())?.display().to_string();
        let inside = name.strip_prefix(prefix).ok_or_else(|| Error::new(format!("{name} is outside of {prefix}")))?;
        if inside.split('/').any(|part| part == "..") {
            return Err(Error::new(format!("{name} leads out of the crate")));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).context(|| format!("{name} is cut off"))?;
        files.insert(inside.to_owned(), content);
    }
    Ok(files)
}

fn unreadable(path: &Path) -> Error {
    Error::new(format!("{} cannot be read", path.display())).repair("run the same command again")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Kind;
    use super::*;
    use crate::assets::targets::TARGETS;

    const RUNTIME: &str = r#"
        [package]
        name = "pglite-oxide"
        version = "0.1.0"
        description = "d"
        license = "MIT"
        [dependencies]
        pglite-oxide-assets = "=0.1.0"
        serde = { version = "1", features = ["derive"] }
        [target."cfg(unix)".dependencies.virtual-io]
        version = "=0.7"
        package = "virtual-mio"
    "#;

    pub(in super::super) fn krate(name: &str, kind: Kind) -> Crate {
        Crate { name: name.into(), kind }
    }

    pub(in super::super) fn package(krate: Crate, files: &[(&str, &str)]) -> Package {
        let directory = tempfile::tempdir().unwrap();
        let root = format!("{}-0.1.0", krate.name);
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (name, text) in files {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, format!("{root}/{name}"), text.as_bytes()).unwrap();
        }
        fs::write(directory.path().join(format!("{root}.crate")), archive.into_inner().unwrap().finish().unwrap())
            .unwrap();
        Package::read(krate, "0.1.0", directory.path()).unwrap()
    }

    fn problem(package: &Package, root: &Path) -> String {
        package.check(root).unwrap_err().to_string()
    }

    #[test]
    fn requirements_know_targets_and_renamed_crates() {
        let found = requirements(&RUNTIME.parse().unwrap());
        insta::assert_debug_snapshot!(found, @r#"
        {
            "pglite-oxide-assets": "=0.1.0",
            "serde": "1",
            "virtual-mio": "=0.7",
        }
        "#);
    }

    #[test]
    fn a_sound_crate_passes_and_each_fault_is_named() {
        let root = tempfile::tempdir().unwrap();
        let licences = [("LICENSE-MIT", "m"), ("LICENSE-APACHE", "a")];
        let with = |manifest: &str| {
            let files: Vec<_> = [("Cargo.toml", manifest)].into_iter().chain(licences).collect();
            package(krate("pglite-oxide", Kind::Runtime), &files)
        };
        with(RUNTIME).check(root.path()).unwrap();
        let faults = [
            problem(&with(&RUNTIME.replace("\"=0.1.0\"", "\"0.1.0\"")), root.path()),
            problem(&with(&RUNTIME.replace("license = \"MIT\"", "")), root.path()),
            problem(&with(&RUNTIME.replace("version = \"0.1.0\"", "version = \"0.2.0\"")), root.path()),
            problem(&package(krate("pglite-oxide", Kind::Runtime), &[("Cargo.toml", RUNTIME)]), root.path()),
        ];
        insta::assert_snapshot!(faults.join("\n"));
    }

    #[test]
    fn the_payload_must_be_that_of_the_checkout() {
        let root = tempfile::tempdir().unwrap();
        let aot = krate("pglite-oxide-aot-x", Kind::Aot(TARGETS[0]));
        let directory = aot.payloads(root.path()).remove(0).1;
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(PAYLOAD), "code").unwrap();
        fs::write(directory.join(MANIFEST), "{}").unwrap();
        let manifest =
            "[package]\nname = \"pglite-oxide-aot-x\"\nversion = \"0.1.0\"\ndescription = \"d\"\nlicense = \"MIT\"";
        let files =
            [("Cargo.toml", manifest), ("LICENSE-MIT", "m"), ("LICENSE-APACHE", "a"), ("THIRD_PARTY_NOTICES.md", "n")];
        let with = |payload: &[(&'static str, &'static str)]| {
            let files: Vec<_> = files.iter().copied().chain(payload.iter().copied()).collect();
            package(aot.clone(), &files)
        };
        let sound = with(&[("payload/payload.tar", "code"), ("payload/manifest.json", "{}")]);
        sound.check(root.path()).unwrap();
        assert_eq!(sound.payload(), Some(true));
        assert_eq!(with(&[]).payload(), Some(false));
        let strange = [("payload/payload.tar", "code"), ("payload/manifest.json", "{}"), ("payload/x/payload.tar", "")];
        let faults = [
            problem(&with(&strange), root.path()),
            problem(&with(&[]), root.path()),
            problem(&with(&[("payload/payload.tar", "other"), ("payload/manifest.json", "{}")]), root.path()),
        ];
        insta::assert_snapshot!(faults.join("\n"));
    }

    #[test]
    fn content_changes_with_the_files_but_not_with_the_commit() {
        let with = |source: &str, payload: &str, commit: &str| {
            let files = [("src/lib.rs", source), ("payload/payload.tar", payload), (".cargo_vcs_info.json", commit)];
            package(krate("x", Kind::Assets), &files)
        };
        let first = with("a", "p", "1");
        assert_eq!(first.content(true), with("a", "p", "2").content(true));
        assert_ne!(first.content(true), with("b", "p", "1").content(true));
        assert_ne!(first.content(true), with("a", "q", "1").content(true));
        assert_eq!(first.content(false), with("a", "q", "1").content(false));
        assert_ne!(first.content(false), with("b", "p", "1").content(false));
    }

    #[test]
    fn unpacking_gives_the_files() {
        let directory = tempfile::tempdir().unwrap();
        package(krate("x", Kind::Runtime), &[("Cargo.toml", "[package]"), ("src/lib.rs", "//! x")])
            .unpack_into(directory.path())
            .unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("src/lib.rs")).unwrap(), "//! x");
    }
}
