//! Hashes named, typed inputs. A fingerprint changes exactly when a name, a kind or a content
//! changes, and never with a time, an owner or the path of the checkout. It does not decide what
//! the inputs of a step are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files;

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Plain SHA-256 of bytes.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Plain SHA-256 of a file's contents.
    pub(crate) fn of_file(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        Self::of_open_file(&mut file, path)
    }

    /// Plain SHA-256 of the rest of an open file. `path` is for errors.
    pub(crate) fn of_open_file(file: &mut File, path: &Path) -> Result<Self> {
        Self::of_reader(file).map_err(|e| Error::io("read", path, e))
    }

    /// Plain SHA-256 of everything that a reader gives.
    pub(crate) fn of_reader(mut reader: impl Read) -> std::io::Result<Self> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Self(hash.finalize().into())),
                Ok(n) => hash.update(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The first 12 digits, for messages.
    pub(crate) fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if hex::encode(bytes) == text => Ok(Self(bytes)),
            _ => Err(Error::new(format!("`{text}` is not a SHA-256: expected 64 lowercase hexadecimal digits"))),
        }
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// Canonical hashing: every value goes in with its kind, its name and its length, so that no two
/// different sequences give the same bytes.
#[derive(Debug, Clone)]
pub(crate) struct Hasher(Sha256);

/// Kind of a hashed value. The numbers are part of every fingerprint.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Domain = 0,
    Bytes = 1,
    Text = 2,
    Number = 3,
    Fingerprint = 4,
    File = 5,
    ExecutableFile = 6,
    Link = 7,
    Directory = 8,
    Tokens = 9,
}

impl Hasher {
    /// A hasher for one kind of thing, so that things of different kinds never share a fingerprint.
    pub(crate) fn new(domain: &str) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.value(Kind::Domain, domain, &[]);
        hasher
    }

    pub(crate) fn bytes(&mut self, name: &str, value: &[u8]) {
        self.value(Kind::Bytes, name, value);
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.value(Kind::Text, name, value.as_bytes());
    }

    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.value(Kind::Number, name, &value.to_le_bytes());
    }

    pub(crate) fn fingerprint(&mut self, name: &str, value: &Fingerprint) {
        self.value(Kind::Fingerprint, name, &value.0);
    }

    pub(crate) fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finalize().into())
    }

    fn value(&mut self, kind: Kind, name: &str, value: &[u8]) {
        self.0.update([kind as u8]);
        for part in [name.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// Like [`Self::entry`], with the tokens of Rust sources in the place of their bytes.
    fn rust_entry(&mut self, path: &Path, name: &str) -> Result<()> {
        if path.is_dir() && !path.is_symlink() {
            self.value(Kind::Directory, name, &[]);
            return children(path)?
                .into_iter()
                .try_for_each(|(child, path)| self.rust_entry(&path, &format!("{name}/{child}")));
        }
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = files::text(path)?;
            // The compiler reports a source that is not valid Rust.
            if let Ok(tokens) = TokenStream::from_str(&text) {
                self.value(Kind::Tokens, name, &[]);
                self.tokens(tokens);
                return Ok(());
            }
        }
        self.entry(path, name)
    }

    /// Every token but those of documentation.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(hash) if hash.as_char() == '#' => {
                    let inner = tokens.next_if(|next| matches!(next, TokenTree::Punct(p) if p.as_char() == '!'));
                    if tokens.next_if(is_documentation).is_none() {
                        self.text("punct", if inner.is_some() { "#!" } else { "#" });
                    }
                }
                TokenTree::Group(group) => {
                    self.text("open", &format!("{:?}", group.delimiter()));
                    self.tokens(group.stream());
                    self.text("close", "");
                }
                TokenTree::Ident(ident) => self.text("ident", &ident.to_string()),
                TokenTree::Literal(literal) => self.text("literal", &literal.to_string()),
                TokenTree::Punct(punct) => {
                    let joint = if punct.spacing() == Spacing::Joint { "joint" } else { "punct" };
                    self.text(joint, &punct.as_char().to_string());
                }
            }
        }
    }

    /// One file, link or directory with all below it, under the given relative path.
    fn entry(&mut self, path: &Path, name: &str) -> Result<()> {
        let metadata = path.symlink_metadata().map_err(|e| Error::io("read", path, e))?;
        if metadata.is_dir() {
            self.value(Kind::Directory, name, &[]);
            for (child, path) in children(path)? {
                self.entry(&path, &if name.is_empty() { child } else { format!("{name}/{child}") })?;
            }
        } else if metadata.is_symlink() {
            let target = path.read_link().map_err(|e| Error::io("read the link", path, e))?;
            self.value(Kind::Link, name, target.as_os_str().as_encoded_bytes());
        } else if metadata.is_file() {
            let kind = if is_executable(&metadata) { Kind::ExecutableFile } else { Kind::File };
            let content = Fingerprint::of_file(path)?;
            self.value(kind, name, &content.0);
        } else {
            return Err(not_a_file(path));
        }
        Ok(())
    }
}

/// Whether a token is the group of an attribute `#[doc …]`, the compiler's form of documentation
/// comments.
fn is_documentation(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    let first = group.stream().into_iter().next();
    group.delimiter() == Delimiter::Bracket && matches!(first, Some(TokenTree::Ident(name)) if name == "doc")
}

/// The named inputs of a step. Their order does not matter; two of one name are an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inputs {
    digests: BTreeMap<String, Fingerprint>,
    /// Whether one of them is a file, which may change while the step reads it.
    files: bool,
}

impl Inputs {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A setting: a flag list, a version.
    pub(crate) fn text(self, name: &str, value: &str) -> Result<Self> {
        self.with(name, |hasher| {
            hasher.text("", value);
            Ok(())
        })
    }

    /// A list in which the order matters, such as compiler flags.
    pub(crate) fn list<S: AsRef<str>>(self, name: &str, values: impl IntoIterator<Item = S>) -> Result<Self> {
        self.with(name, |hasher| {
            values.into_iter().for_each(|value| hasher.text("", value.as_ref()));
            Ok(())
        })
    }

    /// A file or a directory with all below it: relative paths, contents, link targets and the
    /// executable bit. Where it lies does not count.
    pub(crate) fn tree(mut self, name: &str, path: &Path) -> Result<Self> {
        self.files = true;
        self.with(name, |hasher| hasher.entry(path, ""))
    }

    /// Some files below a root, by relative path; their order does not matter.
    pub(crate) fn files<P: AsRef<Path>>(
        mut self,
        name: &str,
        root: &Path,
        files: impl IntoIterator<Item = P>,
    ) -> Result<Self> {
        self.files = true;
        let mut sorted = BTreeMap::new();
        for file in files {
            sorted.insert(utf8(file.as_ref())?.to_owned(), root.join(file));
        }
        self.with(name, |hasher| sorted.iter().try_for_each(|(name, path)| hasher.entry(path, name)))
    }

    /// Like [`Self::files`], but only the tokens of Rust sources count: comments, documentation and
    /// layout do not.
    pub(crate) fn rust<P: AsRef<Path>>(
        mut self,
        name: &str,
        root: &Path,
        files: impl IntoIterator<Item = P>,
    ) -> Result<Self> {
        self.files = true;
        let mut sorted = BTreeMap::new();
        for file in files {
            sorted.insert(utf8(file.as_ref())?.to_owned(), root.join(file));
        }
        self.with(name, |hasher| sorted.iter().try_for_each(|(name, path)| hasher.rust_entry(path, name)))
    }

    /// Inputs by name.
    pub(crate) fn digests(&self) -> &BTreeMap<String, Fingerprint> {
        &self.digests
    }

    /// Whether one of them is a file.
    pub(crate) fn are_files(&self) -> bool {
        self.files
    }

    fn with(mut self, name: &str, hash: impl FnOnce(&mut Hasher) -> Result<()>) -> Result<Self> {
        let mut hasher = Hasher::new("input");
        hash(&mut hasher).map_err(|e| Error::new(format!("input `{name}` cannot be hashed")).cause(e))?;
        if self.digests.insert(name.to_owned(), hasher.finish()).is_some() {
            return Err(Error::new(format!("input `{name}` is given twice")));
        }
        Ok(self)
    }
}

/// Entries of a directory by name, sorted.
pub(crate) fn children(directory: &Path) -> Result<BTreeMap<String, std::path::PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(|e| Error::io("list", directory, e))? {
        let entry = entry.map_err(|e| Error::io("list", directory, e))?;
        let name = entry.file_name();
        found.insert(utf8(Path::new(&name))?.to_owned(), entry.path());
    }
    Ok(found)
}

/// Whether a file's owner may execute it; the only part of a mode that counts.
pub(crate) fn is_executable(metadata: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0;
    #[cfg(not(unix))]
    return false;
}

/// The error for a device, socket or pipe where a file was expected.
pub(crate) fn not_a_file(path: &Path) -> Error {
    Error::new(format!("{} is neither a file nor a directory nor a link", path.display())).repair("remove it")
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::new(format!("the name {} is not UTF-8", path.display())).repair("rename it"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn of(root: &Path) -> Inputs {
        Inputs::new().tree("tree", root).unwrap()
    }

    #[test]
    fn a_tree_is_its_paths_contents_and_modes() {
        let files = [("a", "1"), ("sub/b", "2"), ("sub/c", "")];
        let root = tree(&files);
        let same = tree(&[("sub/c", ""), ("sub/b", "2"), ("a", "1")]);
        assert_eq!(of(root.path()), of(same.path()), "place and order of creation do not count");

        let content = tree(&[("a", "1"), ("sub/b", "3"), ("sub/c", "")]);
        let renamed = tree(&[("a", "1"), ("sub/d", "2"), ("sub/c", "")]);
        let moved = tree(&[("a", "1"), ("b", "2"), ("sub/c", "")]);
        let more = tree(&[("a", "1"), ("sub/b", "2"), ("sub/c", ""), ("sub/d", "")]);
        let fewer = tree(&[("a", "1"), ("sub/b", "2")]);
        let boundary = tree(&[("a", "1sub/b"), ("2", ""), ("sub/c", "")]);
        let empty_directory = tree(&files);
        fs::create_dir(empty_directory.path().join("empty")).unwrap();
        for other in [&content, &renamed, &moved, &more, &fewer, &boundary, &empty_directory] {
            assert_ne!(of(root.path()), of(other.path()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_executable_bit_and_link_targets_count() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tree(&[("a", "1")]);
        let plain = of(root.path());
        fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(plain, of(root.path()), "the rest of the mode does not count");
        fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        let executable = of(root.path());
        assert_ne!(plain, executable);

        symlink("a", root.path().join("l")).unwrap();
        let to_a = of(root.path());
        fs::remove_file(root.path().join("l")).unwrap();
        symlink("b", root.path().join("l")).unwrap();
        assert_ne!(to_a, of(root.path()));
    }

    #[test]
    fn names_kinds_and_values_count_and_the_order_of_inputs_does_not() {
        let inputs = || Inputs::new().text("a", "x").unwrap().list("b", ["y", "z"]).unwrap();
        assert_eq!(inputs(), Inputs::new().list("b", ["y", "z"]).unwrap().text("a", "x").unwrap());
        for other in [
            Inputs::new().text("A", "x").unwrap().list("b", ["y", "z"]).unwrap(),
            Inputs::new().text("a", "X").unwrap().list("b", ["y", "z"]).unwrap(),
            Inputs::new().text("c", "x").unwrap().list("b", ["y", "z"]).unwrap(),
            Inputs::new().text("a", "x").unwrap().list("b", ["z", "y"]).unwrap(),
            Inputs::new().text("a", "x").unwrap().list("b", ["yz"]).unwrap(),
            Inputs::new().text("a", "x").unwrap().list("b", ["y", "z", ""]).unwrap(),
        ] {
            assert_ne!(inputs(), other);
        }
        assert!(inputs().text("a", "x").is_err(), "one name, two inputs");
    }

    #[test]
    fn chosen_files_are_named_by_their_relative_path() {
        let root = tree(&[("a", "1"), ("sub/b", "2"), ("other", "3")]);
        let files = |names: &[&str]| Inputs::new().files("f", root.path(), names).unwrap();
        let before = files(&["a", "sub/b"]);
        assert_eq!(before, files(&["sub/b", "a"]));
        fs::write(root.path().join("other"), "4").unwrap();
        assert_eq!(before, files(&["a", "sub/b"]));
        fs::write(root.path().join("a"), "2").unwrap();
        assert_ne!(before, files(&["a", "sub/b"]));

        let missing = Inputs::new().files("patches", root.path(), ["gone"]).unwrap_err().to_string();
        assert!(missing.contains("input `patches`") && missing.contains("gone"), "{missing}");
    }

    #[test]
    fn of_rust_sources_only_what_the_compiler_sees_counts() {
        let of = |text: &str| {
            let root = tree(&[("src/deep/a.rs", text), ("src/b.toml", "b = 1 # b")]);
            Inputs::new().rust("rust", root.path(), ["src"]).unwrap()
        };
        let plain = of("#![warn(x)]\nfn f<'a>(s: &'a str) -> char { if s == \"// no comment\" { '\"' } else { r } }");
        for same in [
            "//! What it is.\n#![warn(x)]\n\n/// What f does.\nfn f<'a>(s: &'a str) -> char {\n    // Why.\n    if s == \"// no comment\" {\n        '\"'\n    } else {\n        r\n    }\n}\n",
            "#![warn(x)] #![doc = \"x\"] #[doc(hidden)] fn f<'a>(s: &'a str) -> char { /* /* */ */ if s == \"// no comment\" { '\"' } else { r } }",
        ] {
            assert_eq!(plain, of(same), "{same}");
        }
        for other in [
            "#![warn(y)]\nfn f<'a>(s: &'a str) -> char { if s == \"// no comment\" { '\"' } else { r } }",
            "#[warn(x)]\nfn f<'a>(s: &'a str) -> char { if s == \"// no comment\" { '\"' } else { r } }",
            "#![warn(x)]\nfn f<'a>(s: &'a str) -> char { if s == \"// a comment\" { '\"' } else { r } }",
            "#![warn(x)]\nfn f<'a>(s: &'a str) -> char { if s = = \"// no comment\" { '\"' } else { r } }",
            "#![warn(x)]\nfn f<'a>(s: &'a str) -> char { if s == \"// no comment\" { '\"' } else (r) }",
        ] {
            assert_ne!(plain, of(other), "{other}");
        }
        assert_ne!(of("fn f() { \" }"), of("fn f() { \"  }"), "what is no Rust counts byte by byte");
    }

    #[test]
    fn fingerprints_are_written_and_read_as_hexadecimal() {
        let empty = Fingerprint::of_bytes(b"");
        assert_eq!(empty.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(empty.to_string().parse::<Fingerprint>().unwrap(), empty);
        for bad in ["", "e3", &"g".repeat(64), &"E".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
