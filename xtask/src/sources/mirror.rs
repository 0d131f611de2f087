//! The Debian mirrors to use: those of the command line, else of the environment, else of the
//! machine's apt configuration. It reads configuration only; it opens no connection.

use std::path::{Path, PathBuf};

use deb822_fast::borrowed::BorrowedParagraphIter;

use crate::error::{Error, Result};

/// Environment variable with one or more mirrors, separated by white space or commas.
pub(crate) const MIRROR_VARIABLE: &str = "PGLITE_OXIDE_DEBIAN_MIRROR";

const KEYRING_NAME: &str = "debian-archive-keyring";

/// Addresses of mirrors in the order in which they are tried; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirrors(Vec<String>);

impl Mirrors {
    /// `given` are the values of `--debian-mirror`; only when there are none the environment and
    /// apt are asked.
    pub(crate) fn discover(given: &[String]) -> Result<Self> {
        let variable = std::env::var(MIRROR_VARIABLE).unwrap_or_default();
        let from_variable: Vec<_> = variable.split([' ', ',', '\n', '\t']).filter(|m| !m.is_empty()).collect();
        if !given.is_empty() {
            Self::checked("--debian-mirror", given.iter().map(String::as_str))
        } else if !from_variable.is_empty() {
            Self::checked(MIRROR_VARIABLE, from_variable.into_iter())
        } else {
            let directory = Path::new("/etc/apt");
            let found = from_apt(&read_apt(directory)?);
            if found.is_empty() {
                return Err(Error::new(format!(
                    "no Debian mirror: expected an http entry for the main archive in {}, found none",
                    directory.display()
                ))
                .repair(format!("pass `--debian-mirror URL` or set {MIRROR_VARIABLE}")));
            }
            Ok(Self(found))
        }
    }

    /// The addresses of a file on each mirror.
    pub(crate) fn urls<'a>(&'a self, path: &'a str) -> impl Iterator<Item = String> + 'a {
        self.0.iter().map(move |base| format!("{base}/{path}"))
    }

    fn checked<'a>(origin: &str, mirrors: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut list = Vec::new();
        for mirror in mirrors {
            if !is_http(mirror) {
                return Err(Error::new(format!(
                    "{origin}: expected an address that starts with http:// or https://, found {mirror}"
                ))
                .repair("give the directory that contains `dists` and `pool`"));
            }
            push_new(&mut list, mirror);
        }
        Ok(Self(list))
    }
}

/// One configuration file of apt.
#[derive(Debug)]
struct AptFile {
    /// deb822 (`.sources`) rather than one line per entry (`.list`).
    deb822: bool,
    text: String,
}

fn read_apt(directory: &Path) -> Result<Vec<AptFile>> {
    let mut names = vec![directory.join("sources.list")];
    let parts = directory.join("sources.list.d");
    if parts.is_dir() {
        let mut found: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(&parts).map_err(|e| Error::io("list", &parts, e))? {
            found.push(entry.map_err(|e| Error::io("list", &parts, e))?.path());
        }
        found.sort();
        names.extend(found);
    }
    let mut files = Vec::new();
    for name in names {
        let deb822 = match name.extension().and_then(|e| e.to_str()) {
            Some("list") => false,
            Some("sources") => true,
            _ => continue,
        };
        if name.is_file() {
            // An unreadable file is not an error: another one may name the mirror.
            if let Ok(text) = std::fs::read_to_string(&name) {
                files.push(AptFile { deb822, text });
            }
        }
    }
    Ok(files)
}

fn from_apt(files: &[AptFile]) -> Vec<String> {
    let mut mirrors = Vec::new();
    for file in files {
        let entries = if file.deb822 { deb822_entries(&file.text) } else { list_entries(&file.text) };
        for entry in entries.iter().filter(|e| e.is_main_archive()) {
            for uri in entry.uris.iter().filter(|u| is_http(u) && !is_security(u)) {
                if entry.signed_by_debian || path_ends_in_debian(uri) {
                    push_new(&mut mirrors, uri);
                }
            }
        }
    }
    mirrors
}

#[derive(Debug, Default)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by_debian: bool,
}

impl Entry {
    /// Suites of the security archive live on another tree of the same mirror.
    fn is_main_archive(&self) -> bool {
        self.components.iter().any(|c| c == "main") && self.suites.iter().any(|s| !is_security(s))
    }
}

fn list_entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb ").or_else(|| line.strip_prefix("deb\t")) else { continue };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        entries.push(Entry {
            uris: vec![uri],
            suites: vec![suite],
            components: words.collect(),
            signed_by_debian: options.contains(KEYRING_NAME),
        });
    }
    entries
}

fn deb822_entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    // A stanza that cannot be read is not an error: another one may name the mirror.
    for stanza in BorrowedParagraphIter::new(text).map_while(|stanza| stanza.ok()) {
        let lines = |field: &str| stanza.get(field).unwrap_or_default().iter().copied();
        let words = |field: &str| lines(field).flat_map(str::split_whitespace).map(str::to_owned);
        let enabled = !lines("Enabled").any(|v| ["no", "false", "0", "off"].contains(&v.trim()));
        if enabled && words("Types").any(|t| t == "deb") {
            entries.push(Entry {
                uris: words("URIs").collect(),
                suites: words("Suites").collect(),
                components: words("Components").collect(),
                signed_by_debian: lines("Signed-By").any(|v| v.contains(KEYRING_NAME)),
            });
        }
    }
    entries
}

fn is_http(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

fn is_security(text: &str) -> bool {
    text.trim_end_matches('/').ends_with("-security") || text.contains("/updates")
}

fn path_ends_in_debian(uri: &str) -> bool {
    uri.trim_end_matches('/').rsplit('/').next() == Some("debian")
}

fn push_new(list: &mut Vec<String>, mirror: &str) {
    let mirror = mirror.trim_end_matches('/').to_owned();
    if !list.contains(&mirror) {
        list.push(mirror);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AptFile {
        AptFile { deb822: false, text: text.to_owned() }
    }

    fn sources(text: &str) -> AptFile {
        AptFile { deb822: true, text: text.to_owned() }
    }

    #[test]
    fn third_party_and_security_entries_are_not_mirrors() {
        let files = [
            list("# deb http://commented.example/debian trixie main\ndeb https://packages.example/apt cloud main\n"),
            sources(
                "Types: deb\n# an older snapshot\nURIs: http://mirror.example/debian/\nSuites: bookworm bookworm-updates\n\
                 Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
                 Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
            ),
            sources(
                "Types: deb\nURIs: https://node.example/node_20.x\nSuites: nodistro\nComponents: main\nSigned-By: /usr/share/keyrings/node.gpg\n",
            ),
        ];
        assert_eq!(from_apt(&files), ["http://mirror.example/debian"]);
    }

    #[test]
    fn one_line_entries_with_options_and_a_mirror_below_another_path() {
        let files = [list(
            "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://proxy.example/repo/deb-all trixie main contrib\n\
             deb\thttp://second.example/debian trixie main # note\n\
             deb http://second.example/debian trixie-updates main\n\
             deb-src http://third.example/debian trixie main\n\
             deb cdrom:[Debian]/ trixie main\n\
             deb http://fourth.example/debian trixie non-free\n",
        )];
        assert_eq!(from_apt(&files), ["https://proxy.example/repo/deb-all", "http://second.example/debian"]);
    }

    #[test]
    fn disabled_and_multiple_uris() {
        let files = [sources(
            "Types: deb deb-src\nURIs: http://a.example/debian\n https://b.example/debian\nSuites: trixie\nComponents: main\n\n\
             Enabled: no\nTypes: deb\nURIs: http://c.example/debian\nSuites: trixie\nComponents: main\n",
        )];
        assert_eq!(from_apt(&files), ["http://a.example/debian", "https://b.example/debian"]);
    }

    #[test]
    fn given_mirrors_are_checked() {
        let error = Mirrors::discover(&["ftp://a.example/debian".to_owned()]).unwrap_err();
        insta::assert_snapshot!(error, @r"
        --debian-mirror: expected an address that starts with http:// or https://, found ftp://a.example/debian
          repair: give the directory that contains `dists` and `pool`
        ");
        let mirrors = Mirrors::discover(&["https://a.example/debian/".to_owned()]).unwrap();
        assert_eq!(mirrors.urls("pool/x.deb").collect::<Vec<_>>(), ["https://a.example/debian/pool/x.deb"]);
    }
}
