//! The crates of a program as `cargo tree` prints them. Pure functions over text; `dependencies`
//! owns the list of forbidden crates.

use crate::error::{Error, Result};

/// How `cargo tree` is told to print a crate, for every target: name and version, features,
/// repository.
pub(crate) const ARGUMENTS: [&str; 9] =
    ["--offline", "--target", "all", "--edges", "normal,build", "--prefix", "none", "--format", "{p}|{f}|{r}"];

/// A crate in the tree of a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) features: Vec<String>,
    pub(crate) repository: String,
}

/// Reads the output of `cargo tree` with `ARGUMENTS`, each crate once.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for line in text.lines().map(|line| line.strip_suffix(" (*)").unwrap_or(line)).filter(|line| !line.is_empty()) {
        let unexpected =
            || Error::new(format!("cargo tree printed `{line}`, expected NAME vVERSION|FEATURES|REPOSITORY"));
        let mut fields = line.splitn(3, '|');
        let (package, features) = (fields.next().unwrap_or_default(), fields.next().ok_or_else(unexpected)?);
        let repository = fields.next().ok_or_else(unexpected)?;
        let mut words = package.split(' ');
        let name = words.next().unwrap_or_default();
        let version = words.next().and_then(|word| word.strip_prefix('v')).ok_or_else(unexpected)?;
        nodes.push(Node {
            name: name.to_owned(),
            version: version.to_owned(),
            features: features.split(',').filter(|f| !f.is_empty()).map(str::to_owned).collect(),
            repository: repository.to_owned(),
        });
    }
    nodes.sort();
    nodes.dedup();
    Ok(nodes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const TREE: &str = "\
program v0.0.0 (/somewhere/program)||
pglite-oxide v0.1.0||
wasmer v7.4.2|headless,sys|forge/wasmerio/wasmer
wasmer-compiler v7.4.2|default,wasmer-artifact-load|forge/wasmerio/wasmer
http v1.5.0|default,std|forge/hyperium/http
shared-buffer v0.1.4||forge/wasmerio/shared-buffer.git
wasmer v7.4.2|headless,sys|forge/wasmerio/wasmer (*)
webc v12.0.1||forge/wasmerio/pirita

";

    #[test]
    fn every_crate_is_there_once() {
        let nodes = parse(TREE).unwrap();
        assert_eq!(nodes.len(), 7);
        assert!(nodes.iter().any(|node| node.name == "wasmer" && node.features == ["headless", "sys"]));
    }

    #[test]
    fn another_form_of_output_is_an_error() {
        insta::assert_snapshot!(parse("wasmer v7.4.2").unwrap_err(), @"cargo tree printed `wasmer v7.4.2`, expected NAME vVERSION|FEATURES|REPOSITORY");
    }
}
