//! The closure of wanted packages over Depends and Pre-Depends in one suite. A pure function of the
//! index: the same index and the same wanted packages give the same set in any order. Recommends,
//! Conflicts and the host's packages are ignored: the image is unpacked, not installed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::index::Binary;
use super::version::{self, Constraint};
use crate::error::{Error, Result};

/// A suite's packages, newest version of each, and the providers of virtual names.
#[derive(Debug)]
pub(crate) struct Universe<'a> {
    suite: &'a str,
    packages: HashMap<&'a str, Binary<'a>>,
    /// Virtual name to providers, each with the version it provides, if it says one.
    providers: HashMap<&'a str, BTreeMap<&'a str, Option<&'a str>>>,
}

impl<'a> Universe<'a> {
    pub(crate) fn new(suite: &'a str, binaries: Vec<Binary<'a>>) -> Self {
        let mut packages: HashMap<&str, Binary<'a>> = HashMap::new();
        for binary in binaries {
            match packages.get(binary.name) {
                Some(known) if version::compare(known.version, binary.version).is_ge() => {}
                _ => _ = packages.insert(binary.name, binary),
            }
        }
        let mut providers: HashMap<&str, BTreeMap<&str, Option<&str>>> = HashMap::new();
        for binary in packages.values() {
            for provided in alternatives_of(binary.provides).flatten() {
                let version = provided.constraint.map(|c| c.version);
                providers.entry(provided.name).or_default().insert(binary.name, version);
            }
        }
        Self { suite, packages, providers }
    }

    /// The newest version of a package.
    pub(crate) fn get(&self, name: &str) -> Result<&Binary<'a>> {
        self.packages.get(name).ok_or_else(|| {
            Error::new(format!("package {name}: expected one in suite {}, found none", self.suite))
                .repair("correct the name or the suite in the recipe")
        })
    }

    /// The wanted packages and everything they need, sorted by name.
    ///
    /// Of several alternatives the first that can be satisfied is taken, unless one of them is in
    /// the set already; a package of the name itself goes before a provider, a more important
    /// provider before a lesser one.
    pub(crate) fn closure(&self, wanted: &[&str]) -> Result<Vec<&Binary<'a>>> {
        // All wanted packages come first, so that they satisfy alternatives regardless of their
        // order.
        let mut chosen: BTreeSet<&str> = BTreeSet::new();
        for name in wanted {
            chosen.insert(self.get(name)?.name);
        }
        let mut queue: VecDeque<&str> = chosen.iter().copied().collect();
        while let Some(name) = queue.pop_front() {
            let package = self.get(name)?;
            for field in [package.pre_depends, package.depends] {
                for group in alternatives_of(field) {
                    if let Some(next) = self.choose(package, &group, &chosen)? {
                        chosen.insert(next);
                        queue.push_back(next);
                    }
                }
            }
        }
        chosen.into_iter().map(|name| self.get(name)).collect()
    }

    /// The package that has to be added to satisfy one group of alternatives; none when it is
    /// satisfied.
    fn choose(
        &self,
        package: &Binary<'_>,
        group: &[Alternative<'a>],
        chosen: &BTreeSet<&str>,
    ) -> Result<Option<&'a str>> {
        let mut first = None;
        for alternative in group {
            for candidate in self.candidates(alternative) {
                if chosen.contains(candidate) {
                    return Ok(None);
                }
                first = first.or(Some(candidate));
            }
        }
        match first {
            Some(name) => Ok(Some(name)),
            None => {
                let wanted: Vec<_> = group.iter().map(|a| a.text).collect();
                Err(Error::new(format!(
                    "package {} {} needs `{}`: expected a package of suite {} that satisfies it, found none",
                    package.name,
                    package.version,
                    wanted.join(" | "),
                    self.suite
                ))
                .repair("remove the package from the recipe or take it from another suite"))
            }
        }
    }

    /// Packages that satisfy an alternative, best first.
    fn candidates(&self, alternative: &Alternative<'_>) -> Vec<&'a str> {
        let mut found = Vec::new();
        if alternative.unreadable {
            return found;
        }
        if let Some(package) = self.packages.get(alternative.name)
            && alternative.constraint.is_none_or(|c| c.accepts(package.version))
        {
            found.push(package.name);
        }
        let mut provided: Vec<_> = self
            .providers
            .get(alternative.name)
            .into_iter()
            .flatten()
            // Only a versioned Provides satisfies a versioned dependency (Debian Policy 7.5).
            .filter(|(_, version)| alternative.constraint.is_none_or(|c| version.is_some_and(|v| c.accepts(v))))
            .filter_map(|(name, _)| self.packages.get(name))
            .collect();
        provided.sort_by_key(|p| (importance(p.priority), p.name));
        found.extend(provided.into_iter().map(|p| p.name));
        found
    }
}

/// One of several packages a dependency accepts.
#[derive(Debug, Clone, Copy)]
struct Alternative<'a> {
    /// As it is written, for messages.
    text: &'a str,
    name: &'a str,
    constraint: Option<Constraint<'a>>,
    /// It has an unknown relation; nothing satisfies it.
    unreadable: bool,
}

/// The groups of a dependency field: all groups are needed, of each group one.
fn alternatives_of(field: &str) -> impl Iterator<Item = Vec<Alternative<'_>>> {
    let groups = field.split(',').map(str::trim).filter(|g| !g.is_empty());
    groups.map(|group| group.split('|').map(parse_alternative).collect())
}

fn parse_alternative(text: &str) -> Alternative<'_> {
    let text = text.trim();
    let name = text.split(['(', '[', '<']).next().unwrap_or_default().trim();
    let relation =
        text.split_once('(').map(|(_, rest)| rest.split_once(')').and_then(|(inner, _)| Constraint::parse(inner)));
    Alternative {
        text,
        // `:any` and the like concern other architectures; this image has one.
        name: name.split(':').next().unwrap_or_default(),
        constraint: relation.flatten(),
        unreadable: relation == Some(None),
    }
}

fn importance(priority: &str) -> usize {
    ["required", "important", "standard", "optional"].iter().position(|p| *p == priority).unwrap_or(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name version; Field: value; ...`
    fn universe(lines: &'static str) -> Universe<'static> {
        let binaries = lines.trim().lines().map(|line| {
            let mut parts = line.split(';').map(str::trim);
            let (name, version) = parts.next().and_then(|p| p.split_once(' ')).expect("name and version");
            let mut binary = Binary {
                name,
                version,
                architecture: "amd64",
                priority: "optional",
                path: "pool/x.deb",
                size: 1,
                sha256: "",
                depends: "",
                pre_depends: "",
                provides: "",
            };
            for part in parts.filter(|p| !p.is_empty()) {
                match part.split_once(": ").expect("field") {
                    ("Depends", value) => binary.depends = value,
                    ("Pre-Depends", value) => binary.pre_depends = value,
                    ("Provides", value) => binary.provides = value,
                    ("Priority", value) => binary.priority = value,
                    (other, _) => panic!("unknown field {other}"),
                }
            }
            binary
        });
        Universe::new("trixie", binaries.collect())
    }

    fn names(universe: &Universe<'_>, wanted: &[&str]) -> String {
        match universe.closure(wanted) {
            Ok(found) => found.iter().map(|b| format!("{}={}", b.name, b.version)).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn dependencies_are_followed_and_the_newest_version_wins() {
        let u = universe(
            "app 1; Depends: lib (>= 2), tool:any; Pre-Depends: base\nlib 1\nlib 2+b1; Depends: lib-data (= 2)\nlib-data 2\ntool 1\nbase 1\nunused 1",
        );
        assert_eq!(names(&u, &["app"]), "app=1 base=1 lib=2+b1 lib-data=2 tool=1");
    }

    #[test]
    fn first_alternative_unless_another_is_there_already() {
        let u = universe("app 1; Depends: absent | one | two\none 1\ntwo 1");
        assert_eq!(names(&u, &["app"]), "app=1 one=1");
        assert_eq!(names(&u, &["app", "two"]), "app=1 two=1");
        assert_eq!(names(&u, &["two", "app"]), "app=1 two=1");
    }

    #[test]
    fn providers_by_importance_then_name_and_a_wanted_one_first() {
        let u = universe(
            "base 1; Pre-Depends: awk\nmawk 1; Provides: awk; Priority: required\ngawk 1; Provides: awk\naawk 1; Provides: awk",
        );
        assert_eq!(names(&u, &["base"]), "base=1 mawk=1");
        assert_eq!(names(&u, &["base", "gawk"]), "base=1 gawk=1");
    }

    #[test]
    fn only_a_versioned_provides_satisfies_a_versioned_dependency() {
        let u = universe(
            "app 1; Depends: api (>= 5)\na 1; Provides: api\nb 1; Provides: api (= 4)\nc 1; Provides: api (= 5.1), other",
        );
        assert_eq!(names(&u, &["app"]), "app=1 c=1");
    }

    #[test]
    fn cycles_end() {
        let u = universe("libc 1; Depends: libgcc\nlibgcc 1; Depends: libc");
        assert_eq!(names(&u, &["libc"]), "libc=1 libgcc=1");
    }

    #[test]
    fn what_cannot_be_satisfied_is_named() {
        let u = universe("app 1; Depends: lib (>= 3) | other\nlib 2");
        insta::assert_snapshot!(names(&u, &["app"]), @r"
        package app 1 needs `lib (>= 3) | other`: expected a package of suite trixie that satisfies it, found none
          repair: remove the package from the recipe or take it from another suite
        ");
        insta::assert_snapshot!(names(&u, &["nothing"]), @r"
        package nothing: expected one in suite trixie, found none
          repair: correct the name or the suite in the recipe
        ");
        assert!(names(&universe("app 1; Depends: lib (~ 3)\nlib 3"), &["app"]).contains("lib (~ 3)"));
    }
}
