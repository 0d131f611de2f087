//! House rules that no compiler checks: what opens a module, how wide a comment is, which module of
//! the runtime imports which, what is written in one place only. It reads the checkout as text.
//!
//! A rule that a part of the tree does not meet yet has the part in its `NOT_YET`; a part that
//! meets the rule must leave that list.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Columns that a line of a comment or a document may have.
const WIDTH: usize = 100;

/// Files and directories whose comments or documents are wider.
const WIDTH_NOT_YET: &[&str] = &[];

/// Files and directories with modules that do not open with what they own.
const HEADS_NOT_YET: &[&str] = &[];

/// What a test that needs the built PostgreSQL carries.
const NEEDS_PAYLOAD: &str =
    "#[cfg_attr(not(payload), ignore = \"needs the built PostgreSQL: cargo xtask assets build\")]";

/// Tests in `pglite-oxide/tests` that need no payload, `FILE: TEST`.
const WITHOUT_PAYLOAD: &[&str] = &[];

/// What opens a database in a test beside the code.
const OPENS: &[&str] = &["Pglite::", "PgliteServer::", "dev::open(", "dev::template("];

/// Documents that are copies, licences or written by others.
const NOT_OURS: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT", "THIRD_PARTY_NOTICES.md"];

/// Layers of the runtime from the top to the bottom: each imports what stands below it.
const CHAIN: &[&str] = &["programs", "server", "client", "cluster", "backend", "wasm", "fs", "sync", "error"];

/// Modules beside the chain, and what each imports of it or of the others.
const BESIDE: &[(&str, &[&str])] = &[
    ("transport", &["wasm", "protocol"]),
    ("bundle", &["wasm", "fs", "extensions"]),
    ("extensions", &[]),
    ("protocol", &["error"]),
    ("pipeline", &["backend", "wasm", "fs", "protocol", "sync", "error"]),
];

/// What layers of the chain import beside it.
const ALSO: &[(&str, &[&str])] = &[
    ("programs", &["transport", "bundle", "protocol"]),
    ("server", &["transport", "protocol", "bundle"]),
    ("client", &["protocol", "bundle"]),
    ("cluster", &["bundle", "protocol"]),
    ("backend", &["protocol"]),
];

/// Modules above the chain: they import whatever they need, and nothing imports them.
const ABOVE: &[&str] = &["async_connection", "bin", "cli", "dev"];

/// Imports that are not allowed and still there, `FROM -> TO`.
const IMPORTS_NOT_YET: &[&str] = &[];

/// What is written once, and the file that has it; everyone else uses it.
const ONE_DEFINITION: &[(&str, &str)] = &[
    ("fn is_hex(", "xtask/src/sources/lock.rs"),
    ("fn parse_tap(", "xtask/src/regress/report.rs"),
    ("const HOST_PATH", "xtask/src/native/server.rs"),
];

/// What no file names: hosts of package registries, and places of one machine. In pieces, since
/// this is a file as well.
const FORBIDDEN: &[&[&str]] = &[
    &["crates", ".io/"],
    &["static.crates", ".io"],
    &["index.crates", ".io"],
    &["pypi", ".org"],
    &["registry.npmjs", ".org"],
    &["deb.debian", ".org"],
    &[" /ro", "ot/"],
    &["\"/ro", "ot/"],
    &["/ho", "me/"],
    &[" /wo", "rk/"],
    &["\"/wo", "rk/"],
];

#[test]
fn every_module_says_what_it_owns() {
    let missing = rust().into_iter().filter(|file| {
        let text = read(file);
        // A test's or an example's first line is its module's, a target's may be an attribute.
        !text.starts_with("//!") && !text.is_empty()
    });
    judge("does not open with `//!`", missing.map(|file| (file, String::new())).collect(), HEADS_NOT_YET);
}

#[test]
fn comments_and_documents_end_by_column_100() {
    let mut wide = Vec::new();
    for file in files().into_iter().filter(|file| !NOT_OURS.iter().any(|name| file.ends_with(name))) {
        let kind = Path::new(&file).extension().and_then(|e| e.to_str()).unwrap_or_default();
        let mut in_code = false;
        for (number, line) in read(&file).lines().enumerate() {
            let text = line.trim_start();
            in_code ^= kind == "md" && text.starts_with("```");
            let counts = match kind {
                "rs" => text.starts_with("//"),
                // The scripts without an extension among them.
                "toml" | "sh" | "yml" | "" => text.starts_with('#'),
                "md" => !in_code && !text.starts_with('|'),
                _ => false,
            };
            // What cannot be broken: a link, a path, a command.
            let breakable = line.split_whitespace().all(|word| word.chars().count() <= WIDTH / 2);
            if counts && breakable && !line.contains("](") && line.chars().count() > WIDTH {
                wide.push((file.clone(), format!(":{}", number + 1)));
            }
        }
    }
    judge(&format!("is wider than {WIDTH} columns"), wide, WIDTH_NOT_YET);
}

#[test]
fn tests_that_need_the_payload_say_so() {
    let mut found = Vec::new();
    let mut seen = 0;
    for file in rust().into_iter().filter(|file| file.starts_with("pglite-oxide/")) {
        let is_public = file.starts_with("pglite-oxide/tests/");
        for (name, text) in tests(&read(&file)) {
            seen += usize::from(text.contains(NEEDS_PAYLOAD));
            let opens = is_public || OPENS.iter().any(|call| text.contains(call));
            if opens && !text.contains(NEEDS_PAYLOAD) {
                found.push((format!("{file}: {name}"), String::new()));
            }
        }
    }
    assert!(seen > 100, "the tests are not where they were looked for");
    judge(&format!("needs `{NEEDS_PAYLOAD}`"), found, WITHOUT_PAYLOAD);
}

#[test]
fn imports_of_the_runtime_go_down() {
    let allowed = allowed();
    assert_eq!(circle(&allowed), None, "the table of the allowed imports has a circle");
    let mut found = Vec::new();
    for (directory, from, file) in modules() {
        if ABOVE.contains(&from.as_str()) {
            continue;
        }
        assert!(allowed.contains_key(from.as_str()), "{file}: no row says what {from} may import");
        let roots = exports(&directory);
        let text = read(&file);
        // What leads up to the crate's root: once from `mod.rs` and `lib.rs`, and once more for
        // each directory below.
        let inside = &file[directory.len() + 1..];
        let ups =
            inside.matches('/').count() + usize::from(!inside.ends_with("mod.rs")).min(inside.matches('/').count());
        for to in imported(&text).into_iter().chain(above(&text, ups.max(1), &allowed)) {
            let to = roots.get(&to).cloned().unwrap_or(to);
            if to != from && !allowed.get(from.as_str()).is_some_and(|allowed| allowed.contains(to.as_str())) {
                found.push((format!("{from} -> {to}"), format!(" ({file})")));
            }
        }
    }
    judge("is an import that is not allowed", found, IMPORTS_NOT_YET);
}

#[test]
fn what_is_written_once_is_written_once() {
    for (definition, home) in ONE_DEFINITION {
        let found: Vec<_> = rust().into_iter().filter(|file| read(file).contains(definition)).collect();
        let found: Vec<_> = found.iter().filter(|file| *file != "xtask/tests/tidy.rs").collect();
        assert_eq!(found, [home], "`{definition}`");
    }
}

#[test]
fn no_file_names_a_registry_or_a_place_of_one_machine() {
    let mut found = Vec::new();
    for file in files().into_iter().filter(|file| !file.ends_with("Cargo.lock")) {
        let text = read(&file);
        for (number, line) in text.lines().enumerate() {
            if FORBIDDEN.iter().any(|pieces| line.contains(&pieces.concat())) {
                found.push((file.clone(), format!(":{}: {line}", number + 1)));
            }
        }
    }
    judge("names a host or a path of one machine", found, &[]);
}

/// Fails for what no entry of the list excuses, and for entries that excuse nothing.
fn judge(what: &str, found: Vec<(String, String)>, not_yet: &[&str]) {
    let is_below = |file: &str, entry: &str| {
        file.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || entry.ends_with('/'))
    };
    let mut problems: Vec<_> = found
        .iter()
        .filter(|(file, _)| !not_yet.iter().any(|entry| is_below(file, entry)))
        .map(|(file, place)| format!("{file}{place} {what}"))
        .collect();
    let settled = not_yet.iter().filter(|entry| !found.iter().any(|(file, _)| is_below(file, entry)));
    problems.extend(settled.map(|entry| format!("{entry} is settled: take it off the list")));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    String::from_utf8_lossy(&fs::read(root().join(file)).unwrap()).into_owned()
}

/// Files of the checkout that are text of ours, by their path.
fn files() -> Vec<String> {
    fn walk(directory: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_symlink() || ["target", "payload", ".git", "node_modules"].contains(&name.as_str()) {
                continue;
            }
            let name = format!("{prefix}{name}");
            if path.is_dir() {
                if !["fuzz/corpus", "fuzz/artifacts", "fuzz/coverage"].contains(&name.as_str()) {
                    walk(&path, &format!("{name}/"), found);
                }
            } else if [".rs", ".md", ".toml", ".sh", ".yml", ".c", ".h", ".mjs", ".py", ".lock"]
                .iter()
                .any(|end| name.ends_with(end))
                || ["scripts/", ".ci/"].iter().any(|directory| name.starts_with(directory))
            {
                found.push(name);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    found.sort();
    assert!(found.len() > 100, "the checkout is not where it was looked for");
    found
}

fn rust() -> Vec<String> {
    files().into_iter().filter(|file| file.ends_with(".rs")).collect()
}

/// The tests of a file: name, and the text from the test's attribute to the end of its function.
fn tests(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_test =
        |line: &str| line.trim_start().starts_with("#[test]") || line.trim_start().starts_with("#[tokio::test");
    let starts = lines.iter().enumerate().filter(|(_, line)| is_test(line));
    let test = |(start, first): (usize, &&str)| {
        let closing = format!("{}}}", &first[..first.len() - first.trim_start().len()]);
        let all = &lines[start..];
        let end = all.iter().position(|line| *line == closing).map_or(all.len(), |end| end + 1);
        let signature = all.iter().find_map(|line| line.split_once("fn "));
        let name = signature.map_or("", |(_, rest)| rest.split('(').next().unwrap());
        (name.to_owned(), all[..end].join("\n"))
    };
    starts.map(test).collect()
}

/// What each module may import.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut allowed: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (place, layer) in CHAIN.iter().enumerate() {
        allowed.entry(*layer).or_default().extend(&CHAIN[place + 1..]);
    }
    for (module, imports) in BESIDE.iter().chain(ALSO) {
        allowed.entry(module).or_default().extend(*imports);
        allowed.entry(module).or_default().extend(["sync", "error"]);
    }
    allowed
}

/// A module that reaches itself, if there is one.
fn circle(imports: &BTreeMap<&'static str, BTreeSet<&'static str>>) -> Option<&'static str> {
    imports.keys().copied().find(|start| {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![*start];
        while let Some(module) = waiting.pop() {
            for next in imports.get(module).into_iter().flatten() {
                if next == start {
                    return true;
                }
                if seen.insert(*next) {
                    waiting.push(next);
                }
            }
        }
        false
    })
}

/// Files of the runtime's two crates: source directory, top module, file.
fn modules() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for directory in ["pglite-oxide/src", "pglite-oxide/runtime/src"] {
        for file in rust().into_iter().filter(|file| file.starts_with(&format!("{directory}/"))) {
            let rest = &file[directory.len() + 1..];
            let module = rest.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
            let is_test = rest.ends_with("tests.rs") || rest.ends_with("test_support.rs");
            if module != "lib" && !is_test {
                found.push((directory.to_owned(), module, file));
            }
        }
    }
    assert!(found.len() > 30, "the runtime is not where it was looked for");
    found
}

/// Names that a crate exports at its root, and the module each comes from.
fn exports(directory: &str) -> BTreeMap<String, String> {
    let text = read(&format!("{directory}/lib.rs"));
    let mut names = BTreeMap::new();
    for item in text.split("pub use ").skip(1) {
        let path = item.split(';').next().unwrap();
        let module = path.split("::").next().unwrap().trim().to_owned();
        for name in path.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty()) {
            names.insert(name.to_owned(), module.clone());
        }
    }
    names
}

/// What a file names of its crate's root or of the runtime crate, tests at its end apart.
fn imported(text: &str) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
    let mut names = BTreeSet::new();
    for prefix in ["crate::", "pglite_oxide_runtime::"] {
        for (at, _) in code.match_indices(prefix) {
            // `pub(crate)` has no colons; `$crate::` and `my_crate::` are not ours.
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            let first = |text: &str| -> String {
                text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
            };
            match rest.strip_prefix('{') {
                Some(group) => names.extend(top_items(group).iter().map(|item| first(item))),
                None => drop(names.insert(first(rest))),
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Top modules that a file names by so many `super`s.
fn above(text: &str, ups: usize, modules: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let path = "super::".repeat(ups);
    let named = |module: &&&str| {
        let whole = format!("{path}{module}::");
        text.match_indices(&whole).any(|(at, _)| !text[..at].ends_with("super::"))
    };
    modules.keys().filter(named).map(|module| (*module).to_owned()).collect()
}

/// Items of a group that was just opened, up to the brace that closes it.
fn top_items(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    items
}

#[test]
fn imports_are_read_from_every_form() {
    let text = "use crate::{a::X, b::{c, d}, e};\nuse pglite_oxide_runtime::wasm::Y;\n// crate::comment\n\
                fn f() { crate::g::h() }\n$crate::not; my_crate::not;\n#[cfg(test)]\nmod tests { use crate::test; }";
    assert_eq!(imported(text).into_iter().collect::<Vec<_>>(), ["a", "b", "e", "g", "wasm"]);
}

#[test]
fn a_test_ends_where_its_function_does() {
    let text = "fn helper() { Pglite::open() }\n#[test]\n#[ignore]\nfn one() {\n    if a {\n    }\n}\nfn more() {}\n\
                mod inner {\n    #[tokio::test(flavor = \"multi_thread\")]\n    async fn two() {\n        b();\n    }\n}\n";
    let found = tests(text);
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(found[0].1.starts_with("#[test]\n#[ignore]") && found[0].1.ends_with("    }\n}"), "{}", found[0].1);
    assert!(found[1].1.ends_with("        b();\n    }"), "{}", found[1].1);
}

#[test]
fn a_list_of_exceptions_only_shrinks() {
    let judged = |not_yet: &[&str]| {
        let found = vec![("a/b.rs".to_owned(), String::new())];
        let not_yet: Vec<String> = not_yet.iter().map(|entry| (*entry).to_owned()).collect();
        std::panic::catch_unwind(move || {
            judge("is bad", found, &not_yet.iter().map(String::as_str).collect::<Vec<_>>());
        })
    };
    assert!(judged(&[]).is_err());
    assert!(judged(&["a"]).is_ok());
    assert!(judged(&["a/b.rs"]).is_ok());
    assert!(judged(&["a/b"]).is_err(), "another name");
    assert!(judged(&["a", "c"]).is_err(), "c is settled");
}
