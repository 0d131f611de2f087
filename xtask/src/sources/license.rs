//! The licenses of a Debian package, read from its copyright file. The result is an inventory (the
//! short names of every license in the file), not an expression: which file is under which license
//! is in the copyright file, which the image keeps.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use deb822_fast::borrowed::BorrowedParagraphIter;

use crate::error::{Context as _, Error, Result};

/// A copyright file is some kilobytes; more is not read.
const COPYRIGHT_LIMIT: u64 = 4 << 20;

/// A package's statement about its copyright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Copyright {
    /// The short names, joined.
    Licenses(String),
    /// Its documentation is that of another package.
    SameAs(String),
    /// It ships no copyright file.
    None,
}

/// Reads the copyright file of a package from its .deb.
pub(crate) fn of_package(name: &str, deb: &Path) -> Result<Copyright> {
    let wanted = format!("usr/share/doc/{name}");
    let reading = || format!("cannot read the copyright file of package {name} from {}", deb.display());
    let file = File::open(deb).map_err(|e| Error::io("open", deb, e))?;
    let mut archive = ar::Archive::new(BufReader::new(file));
    while let Some(member) = archive.next_entry() {
        let member = member.context(reading)?;
        let kind = String::from_utf8_lossy(member.header().identifier()).trim_end_matches('/').to_owned();
        let data: Box<dyn Read> = match kind.as_str() {
            "data.tar.xz" => Box::new(lzma_rust2::XzReader::new(member, true)),
            "data.tar.zst" => Box::new(zstd::Decoder::new(member).context(reading)?),
            "data.tar" => Box::new(member),
            _ => continue,
        };
        return find(&wanted, data).context(reading);
    }
    Err(Error::new("it has no data.tar that is compressed as xz, zst or not at all")).context(reading)
}

/// The short names of the licenses a copyright file names, sorted.
pub(crate) fn short_names(text: &str) -> String {
    let mut names = BTreeSet::new();
    let mut stanzas = BorrowedParagraphIter::new(text).peekable();
    if stanzas.peek().is_some_and(|s| s.as_ref().is_ok_and(|s| s.get("Format").is_some())) {
        for stanza in stanzas {
            let Ok(stanza) = stanza else {
                // Nothing is known about the rest of the file.
                names.insert("see copyright file".to_owned());
                break;
            };
            // What follows the first line is the license's text.
            let expression = stanza.get("License").and_then(|lines| lines.first()).copied().unwrap_or_default();
            names.extend(expression.split([',', '(', ')']).flat_map(split_words).filter(|n| !n.is_empty()));
        }
        if !names.is_empty() {
            return names.into_iter().collect::<Vec<_>>().join(", ");
        }
    }
    // Free text: the standard licenses it refers to.
    for (at, marker) in text.match_indices("/usr/share/common-licenses/") {
        let rest = &text[at + marker.len()..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.')).unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches(['.', '-']);
        if !name.is_empty() {
            names.insert(name.to_owned());
        }
    }
    names.insert("see copyright file".to_owned());
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn split_words(expression: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    for word in expression.split_whitespace() {
        match (word, names.last_mut()) {
            ("and" | "or" | "and/or", _) => names.push(String::new()),
            (_, Some(last)) if last.is_empty() => last.push_str(word),
            (_, Some(last)) => {
                last.push(' ');
                last.push_str(word);
            }
            (_, None) => {}
        }
    }
    names
}

fn find(directory: &str, data: Box<dyn Read + '_>) -> Result<Copyright> {
    let file = format!("{directory}/copyright");
    let mut archive = tar::Archive::new(data);
    for entry in archive.entries().context(|| "its data.tar has no entries".to_owned())? {
        let entry = entry.context(|| "its data.tar is damaged".to_owned())?;
        let path = entry.path().context(|| "an entry has no usable path".to_owned())?;
        let path = path.strip_prefix(".").unwrap_or(&path);
        let is_link = entry.header().entry_type().is_symlink();
        if is_link && (path == Path::new(directory) || path == Path::new(&file)) {
            let target = entry.link_name().context(|| "a link has no usable target".to_owned())?;
            // `../other/copyright` or `other`: either way the component before an optional
            // `copyright` is a package.
            let target = target.unwrap_or_default().to_string_lossy().into_owned();
            let package = target.trim_end_matches("/copyright").rsplit('/').next().unwrap_or_default();
            return Ok(Copyright::SameAs(package.to_owned()));
        }
        if path == Path::new(&file) {
            let mut bytes = Vec::new();
            entry
                .take(COPYRIGHT_LIMIT)
                .read_to_end(&mut bytes)
                .context(|| "its copyright file is damaged".to_owned())?;
            return Ok(Copyright::Licenses(short_names(&String::from_utf8_lossy(&bytes))));
        }
    }
    Ok(Copyright::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_of_a_machine_readable_file() {
        let text = "Format: 1.0\nUpstream-Name: x\n\n\
                    Files: *\nLicense: GPL-2+ or Artistic\n\nFiles: a\nLicense: GPL-3+ with Bison exception and BSD-3-clause\n text\n\n\
                    License: GPL-2+\n On Debian systems see /usr/share/common-licenses/GPL-2\n";
        assert_eq!(short_names(text), "Artistic, BSD-3-clause, GPL-2+, GPL-3+ with Bison exception");
    }

    #[test]
    fn standard_licenses_of_a_free_text() {
        let text = "This is free. See /usr/share/common-licenses/GPL-3.\nAlso `/usr/share/common-licenses/LGPL-2.1'.";
        assert_eq!(short_names(text), "GPL-3, LGPL-2.1, see copyright file");
        assert_eq!(short_names("Do what you want."), "see copyright file");
    }

    #[test]
    fn the_copyright_of_a_package() {
        let of = |build: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
            let mut builder = tar::Builder::new(Vec::new());
            build(&mut builder);
            let data = builder.into_inner().unwrap();
            let mut deb = tempfile::NamedTempFile::new().unwrap();
            let mut archive = ar::Builder::new(deb.as_file_mut());
            archive.append(&ar::Header::new(b"debian-binary".to_vec(), 4), &b"2.0\n"[..]).unwrap();
            archive.append(&ar::Header::new(b"data.tar".to_vec(), data.len() as u64), &data[..]).unwrap();
            of_package("g++", deb.path()).unwrap()
        };
        let file = of(&|builder| {
            let text = b"Format: x\n\nFiles: *\nLicense: MIT\n";
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, "./usr/share/doc/g++/copyright", &text[..]).unwrap();
        });
        assert_eq!(file, Copyright::Licenses("MIT".to_owned()));
        let link = of(&|builder| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, "./usr/share/doc/g++", "gcc-base").unwrap();
        });
        assert_eq!(link, Copyright::SameAs("gcc-base".to_owned()));
        assert_eq!(of(&|_| {}), Copyright::None);
    }
}
