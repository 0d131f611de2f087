//! Forbidden dependencies of the published crates: the list, and the check of the workspace's own
//! tree. It owns reading the list, which `cargo deny` reads too; `consumer` checks the tree of a
//! user's program.

use serde::Deserialize;

use crate::consumer::tree::{self, Node};
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::release;

/// The list, in the checkout.
const FILE: &str = "xtask/consumer/deny.toml";

/// Crates and features that no user's program may have.
#[derive(Debug, Deserialize)]
pub(crate) struct Policy {
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
    #[serde(default)]
    features: Vec<FeatureBan>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// What the crate is.
    reason: String,
}

#[derive(Debug, Deserialize)]
struct FeatureBan {
    #[serde(rename = "crate")]
    name: String,
    deny: Vec<String>,
    /// What the features make of the crate.
    reason: String,
}

impl Policy {
    /// The list of the checkout.
    pub(crate) fn read(paths: &Paths) -> Result<Self> {
        let path = paths.root.join(FILE);
        let text = files::text(&path)?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let policy: Self = toml::from_str(text).context(|| format!("{FILE} does not have the expected form"))?;
        match policy.bans.deny.iter().find(|ban| ban.reason.is_empty() || ban.name.contains(['@', ':'])) {
            None => Ok(policy),
            // A version would be read as part of the name, and match nothing.
            Some(ban) => Err(Error::new(format!("{FILE}: {}: expected a name and a reason", ban.name))),
        }
    }

    /// Fails if a tree contains forbidden crates or features, with a line for each.
    pub(crate) fn check(&self, nodes: &[Node]) -> Result<()> {
        let mut lines = Vec::new();
        for node in nodes {
            let of_crate = self.bans.deny.iter().filter(|ban| ban.name == node.name);
            lines.extend(of_crate.map(|ban| format!("{} {}: {}", node.name, node.version, ban.reason)));
            for ban in self.bans.features.iter().filter(|ban| ban.name == node.name) {
                let found = ban.deny.iter().filter(|feature| node.features.contains(feature));
                lines.extend(
                    found.map(|feature| {
                        format!("{} {} with feature `{feature}`: {}", node.name, node.version, ban.reason)
                    }),
                );
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        Err(Error::new(format!("a user's program would have what {FILE} forbids:\n  {}", lines.join("\n  "))).repair(
            "turn off the feature that brings it: `cargo tree -p pglite-oxide --target all -i CRATE` shows the way",
        ))
    }
}

/// Checks the tree of a user's program with the workspace's versions and every feature.
pub(crate) fn check_workspace(paths: &Paths, policy: &Policy) -> Result<()> {
    let mut cargo = crate::cargo::command();
    cargo.args(["tree", "--locked", "-p", "pglite-oxide", "--all-features"]).args(tree::ARGUMENTS);
    policy.check(&tree::parse(&release::run_cargo(cargo.current_dir(&paths.root))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Policy {
        Policy::read(&Paths::find().unwrap()).unwrap()
    }

    #[test]
    fn a_headless_program_passes() {
        committed().check(&tree::parse(tree::tests::TREE).unwrap()).unwrap();
    }

    #[test]
    fn what_must_not_be_there_is_named() {
        let text = format!(
            "{}reqwest v0.12.1||x\nwasmer-compiler-llvm v7.4.2||x\nwasmer-compiler v7.4.2|compiler,std|x\nrustls-webpki v0.103.0||x\n",
            tree::tests::TREE
        );
        insta::assert_snapshot!(committed().check(&tree::parse(&text).unwrap()).unwrap_err(), @r"
        a user's program would have what xtask/consumer/deny.toml forbids:
          reqwest 0.12.1: an HTTP client
          rustls-webpki 0.103.0: TLS
          wasmer-compiler 7.4.2 with feature `compiler`: a compiler
          wasmer-compiler-llvm 7.4.2: a compiler
          repair: turn off the feature that brings it: `cargo tree -p pglite-oxide --target all -i CRATE` shows the way
        ");
    }

    #[test]
    fn an_entry_that_would_match_nothing_is_refused() {
        let with = |entry: &str| Policy::parse(&format!("[bans]\ndeny = [{entry}]\n")).map(|_| ());
        with("{ crate = \"ring\", reason = \"TLS\" }").unwrap();
        assert!(with("{ crate = \"ring@0.17\", reason = \"TLS\" }").is_err());
        assert!(with("{ crate = \"ring\" }").is_err());
    }
}
