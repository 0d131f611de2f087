//! Fetches a suite's Release file and its indexes from a mirror and verifies them: the signature
//! where gpgv and Debian's keyring are present, every index by the hash in its Release file. It
//! does not interpret packages.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fetch::{self, Wanted};
use super::index::Release;
use super::mirror::Mirrors;
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::paths::Paths;

const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// The index of source packages of a suite's component that the lock's archives come from.
pub(crate) const SOURCES: &str = "main/source/Sources.xz";

/// A Release file is some hundred kilobytes; more is not read.
const RELEASE_LIMIT: u64 = 16 << 20;

/// A suite with a verified Release file.
#[derive(Debug)]
pub(crate) struct Suite<'a> {
    name: String,
    release: String,
    paths: &'a Paths,
    mirrors: &'a Mirrors,
}

impl<'a> Suite<'a> {
    /// Fetches and verifies the Release file of a suite. Prints its date, and a missing signature
    /// check, to stderr. Valid-Until is not enforced: a snapshot mirror serves expired Release
    /// files, and the printed difference shows what would change.
    pub(crate) fn open(paths: &'a Paths, mirrors: &'a Mirrors, name: &str) -> Result<Self> {
        let signed = fetch_release(mirrors, &format!("dists/{name}/InRelease"))?;
        let keyring = KEYRINGS.iter().map(Path::new).find(|k| k.is_file());
        let release = match (keyring, find_program("gpgv")) {
            (Some(keyring), Some(gpgv)) => verify(&gpgv, keyring, name, &signed)?,
            (keyring, _) => {
                let lacking = if keyring.is_none() { "Debian's archive keyring" } else { "gpgv" };
                eprintln!(
                    "WARNING: suite {name}: the signature of its Release file is NOT checked: this machine has no {lacking}.\n\
                     WARNING: so the mirror decides what gets pinned. Install gpgv and debian-archive-keyring."
                );
                signed_text(&signed)?.to_owned()
            }
        };
        let parsed = Release::parse(&release)?;
        if parsed.codename != name {
            return Err(Error::new(format!(
                "suite {name}: its Release file says it is another one: expected codename {name}, found {}",
                parsed.codename
            ))
            .repair("name suites by codename, or use another mirror with `--debian-mirror`"));
        }
        eprintln!("sources: suite {name} of {}", parsed.date);
        Ok(Self { name: name.to_owned(), release, paths, mirrors })
    }

    /// The text of an index, for example `main/binary-amd64/Packages.xz`.
    pub(crate) fn index(&self, path: &str) -> Result<String> {
        let Some(file) = Release::parse(&self.release)?.file(path) else {
            return Err(Error::new(format!("suite {}: its Release file does not name {path}", self.name))
                .repair("use another mirror with `--debian-mirror`"));
        };
        let wanted = Wanted {
            name: format!("index {path} of {}", self.name),
            path: format!("dists/{}/{path}", self.name),
            size: file.size,
            sha256: file.sha256.clone(),
            repair:
                "the mirror may be in the middle of an update: try again later, or another one with `--debian-mirror`"
                    .to_owned(),
        };
        let downloads = self.paths.downloads();
        fetch::ensure_files(&downloads, &[wanted], || Ok(self.mirrors.clone()))?;
        let stored = downloads.join(&file.sha256);
        let compressed = std::fs::File::open(&stored).map_err(|e| Error::io("open", &stored, e))?;
        let mut text = String::new();
        lzma_rust2::XzReader::new(std::io::BufReader::new(compressed), true)
            .read_to_string(&mut text)
            .context(|| format!("cannot decompress the index {path} of suite {}", self.name))?;
        Ok(text)
    }
}

fn fetch_release(mirrors: &Mirrors, path: &str) -> Result<Vec<u8>> {
    let client = fetch::client();
    let mut reasons = Vec::new();
    for url in mirrors.urls(path) {
        let response = match client.get(&url).call() {
            Ok(response) if response.status().is_success() => response,
            Ok(response) => {
                reasons.push(format!("{url}: the mirror answered {}", response.status().as_u16()));
                continue;
            }
            Err(error) => {
                reasons.push(format!("{url}: {error}"));
                continue;
            }
        };
        match response.into_body().with_config().limit(RELEASE_LIMIT).read_to_vec() {
            Ok(bytes) => return Ok(bytes),
            Err(error) => reasons.push(format!("{url}: {error}")),
        }
    }
    Err(Error::new(format!("no mirror gives {path}:\n    {}", reasons.join("\n    ")))
        .repair("check the suite's name and the network, or name another mirror with `--debian-mirror`"))
}

/// Has gpgv check a clear-signed text and returns the signed part as gpgv wrote it.
fn verify(gpgv: &Path, keyring: &Path, suite: &str, signed: &[u8]) -> Result<String> {
    let directory = tempfile::tempdir().context(|| "cannot make a temporary directory".to_owned())?;
    let (input, output) = (directory.path().join("InRelease"), directory.path().join("Release"));
    files::write(&input, signed)?;
    let result = Command::new(gpgv)
        .args(["--status-fd", "1", "--keyring"])
        .arg(keyring)
        .arg("--output")
        .arg(&output)
        .arg(&input)
        .output()
        .map_err(|e| Error::io("run", gpgv, e))?;
    let status = String::from_utf8_lossy(&result.stdout);
    let has = |word: &str| status.lines().any(|l| l.strip_prefix("[GNUPG:] ").is_some_and(|l| l.starts_with(word)));
    // A suite is signed with several keys and an older keyring lacks the newest; one valid
    // signature is enough, a bad one never.
    if !has("VALIDSIG ") || !has("GOODSIG ") || has("BADSIG ") {
        let said = String::from_utf8_lossy(&result.stderr).trim_end().to_owned();
        return Err(Error::new(format!(
            "suite {suite}: expected a Release file signed with a key of {}, found no valid signature",
            keyring.display()
        ))
        .cause(said)
        .repair("upgrade the package debian-archive-keyring, or use another mirror with `--debian-mirror`"));
    }
    files::text(&output)
}

/// The text between the header and the signature of a clear-signed message.
fn signed_text(signed: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(signed).context(|| "the Release file is not text".to_owned())?;
    let body = text
        .strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----\n")
        .and_then(|rest| rest.split_once("\n\n"))
        .and_then(|(_, rest)| rest.split_once("\n-----BEGIN PGP SIGNATURE-----"));
    body.map(|(body, _)| body).ok_or_else(|| {
        Error::new("the Release file: expected a clear-signed text, found something else")
            .repair("use another mirror with `--debian-mirror`")
    })
}

fn find_program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join(name)).find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_part_of_a_message() {
        let message = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nCodename: trixie\nDate: now\n-----BEGIN PGP SIGNATURE-----\n\nx\n";
        assert_eq!(signed_text(message).unwrap(), "Codename: trixie\nDate: now");
        insta::assert_snapshot!(signed_text(b"<html>").unwrap_err(), @r"
        the Release file: expected a clear-signed text, found something else
          repair: use another mirror with `--debian-mirror`
        ");
    }

    #[test]
    fn an_unsigned_release_file_is_refused_by_gpgv() {
        let (Some(gpgv), Some(keyring)) = (find_program("gpgv"), KEYRINGS.iter().map(Path::new).find(|k| k.is_file()))
        else {
            eprintln!("SKIPPED: this machine has no gpgv or no Debian keyring");
            return;
        };
        let error = verify(&gpgv, keyring, "trixie", b"Codename: trixie\n").unwrap_err().to_string();
        assert!(error.contains("found no valid signature"), "{error}");
    }
}
