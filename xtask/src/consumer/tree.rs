//! The crates of a program as `cargo tree` prints them, and which of them a user's program must not
//! have. Pure functions over text.

use crate::error::{Error, Result};

/// How `cargo tree` is told to print a crate: name and version, features, repository.
pub(super) const FORMAT: &str = "{p}|{f}|{r}";

/// A crate in the tree of a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) features: Vec<String>,
    pub(super) repository: String,
}

/// What no user's program may have, by name, and what it is. A star stands for any ending.
const DENIED: &[(&str, &str)] = &[
    ("cranelift*", "a compiler"),
    ("dynasm*", "an assembler"),
    ("inkwell*", "LLVM"),
    ("llvm-sys", "LLVM"),
    ("wasmer-compiler-*", "a compiler"),
    ("wasmtime*", "another engine"),
    ("attohttpc", "an HTTP client"),
    ("curl*", "an HTTP client"),
    ("h2", "HTTP"),
    ("h3", "HTTP"),
    ("http-body*", "HTTP"),
    ("hyper*", "HTTP"),
    ("isahc", "an HTTP client"),
    ("minreq", "an HTTP client"),
    ("quinn*", "HTTP"),
    ("reqwest*", "an HTTP client"),
    ("surf", "an HTTP client"),
    ("tungstenite", "HTTP"),
    ("ureq*", "an HTTP client"),
    ("aws-lc-*", "TLS"),
    ("boring*", "TLS"),
    ("native-tls", "TLS"),
    ("openssl*", "TLS"),
    ("ring", "TLS"),
    ("rustls*", "TLS"),
    ("schannel", "TLS"),
    ("security-framework*", "TLS"),
    ("tokio-rustls", "TLS"),
    ("webpki*", "TLS"),
];

/// Features that turn a crate which loads compiled modules into one that compiles them.
const DENIED_FEATURES: &[(&str, &str)] =
    &[("wasmer-compiler", "compiler"), ("wasmer-compiler", "translator"), ("wasmer", "compiler")];

/// Reads the output of `cargo tree --prefix none --format FORMAT`, each crate once.
pub(super) fn parse(text: &str) -> Result<Vec<Node>> {
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

/// What must not be there, one line each.
pub(super) fn denied(nodes: &[Node]) -> Vec<String> {
    let mut lines = Vec::new();
    for node in nodes {
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(beginning) => node.name.starts_with(beginning),
            None => node.name == pattern,
        };
        if let Some((_, what)) = DENIED.iter().find(|(pattern, _)| matches(pattern)) {
            lines.push(format!("{} {}: {what}", node.name, node.version));
        }
        for (_, feature) in DENIED_FEATURES.iter().filter(|(name, _)| *name == node.name) {
            if node.features.iter().any(|f| f == feature) {
                lines.push(format!("{} {} with feature `{feature}`: a compiler", node.name, node.version));
            }
        }
    }
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const TREE: &str = "\
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
    fn a_headless_program_passes() {
        let nodes = parse(TREE).unwrap();
        assert_eq!(nodes.len(), 7);
        assert_eq!(denied(&nodes), Vec::<String>::new());
    }

    #[test]
    fn what_must_not_be_there_is_named() {
        let text = format!(
            "{TREE}reqwest v0.12.1||x\nwasmer-compiler-llvm v7.4.2||x\nwasmer-compiler v7.4.2|compiler,std|x\nrustls-webpki v0.103.0||x\n"
        );
        insta::assert_snapshot!(denied(&parse(&text).unwrap()).join("\n"), @r"
        reqwest 0.12.1: an HTTP client
        rustls-webpki 0.103.0: TLS
        wasmer-compiler 7.4.2 with feature `compiler`: a compiler
        wasmer-compiler-llvm 7.4.2: a compiler
        ");
    }

    #[test]
    fn another_form_of_output_is_an_error() {
        insta::assert_snapshot!(parse("wasmer v7.4.2").unwrap_err(), @"cargo tree printed `wasmer v7.4.2`, expected NAME vVERSION|FEATURES|REPOSITORY");
    }
}
