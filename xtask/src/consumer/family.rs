//! Which crates belong to Wasmer's family, and whether `pglite-oxide-runtime` pins each exactly.
//! Pure functions over the tree and the packaged manifest.

use std::collections::BTreeMap;

use super::tree::Node;

/// Owner of the family's repositories.
const OWNER: &str = "wasmerio";
/// Beginnings of its crates' names, for those that name no repository.
const NAMES: &[&str] = &["wasmer", "virtual-fs", "virtual-mio", "virtual-net", "webc", "wai-"];

/// Crates of the family that are not pinned to the version in the tree, one line each. `pins` are
/// the requirements of `pglite-oxide-runtime` by crate.
pub(super) fn unpinned(nodes: &[Node], pins: &BTreeMap<String, String>) -> Vec<String> {
    let mut lines = Vec::new();
    for node in nodes.iter().filter(|node| belongs(node)) {
        let expected = format!("={}", node.version);
        match pins.get(&node.name) {
            None => lines.push(format!("{}: expected `{expected}`, found no such dependency", node.name)),
            Some(found) if *found != expected => {
                lines.push(format!("{}: expected `{expected}`, found `{found}`", node.name))
            }
            Some(_) => {}
        }
    }
    lines
}

fn belongs(node: &Node) -> bool {
    node.repository.split('/').any(|part| part == OWNER)
        || NAMES.iter().any(|beginning| node.name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    fn pins(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, requirement)| ((*name).to_owned(), (*requirement).to_owned())).collect()
    }

    #[test]
    fn every_member_must_be_pinned_to_what_is_there() {
        let nodes = tree::parse(tree::tests::TREE).unwrap();
        let mut all = pins(&[
            ("wasmer", "=7.4.2"),
            ("wasmer-compiler", "=7.4.2"),
            ("shared-buffer", "=0.1.4"),
            ("webc", "=12.0.1"),
        ]);
        assert_eq!(unpinned(&nodes, &all), Vec::<String>::new());
        all.remove("shared-buffer");
        all.insert("webc".into(), "12.0.1".into());
        insta::assert_snapshot!(unpinned(&nodes, &all).join("\n"), @r"
        shared-buffer: expected `=0.1.4`, found no such dependency
        webc: expected `=12.0.1`, found `12.0.1`
        ");
    }

    #[test]
    fn a_member_without_a_repository_is_known_by_its_name() {
        let nodes = tree::parse("wasmer-new v1.0.0||\nother v1.0.0||\n").unwrap();
        assert_eq!(unpinned(&nodes, &BTreeMap::new()), ["wasmer-new: expected `=1.0.0`, found no such dependency"]);
    }
}
