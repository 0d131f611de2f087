//! Tests that README.md quotes the marked lines of the examples exactly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

const BEGIN: &str = "README: begin";
const END: &str = "README: end";

#[test]
fn the_readme_quotes_what_runs() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = read(&examples.join("../README.md"));
    let blocks = blocks(&readme);
    let mut quoted = Vec::new();
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() || path.extension().is_some_and(|extension| extension == "toml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(lines) = marked(&read(&path)) else { continue };
        assert!(blocks.contains(&lines), "README.md does not quote the marked lines of examples/{name}:\n{lines}");
        quoted.push(name.to_owned());
    }
    quoted.sort();
    assert_eq!(quoted, ["node-pg.mjs", "sqlx.rs", "with_psycopg.py"]);
}

/// The lines between the marks, without their common indentation.
fn marked(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let find = |mark: &str| lines.iter().position(|line| line.trim_end().ends_with(mark));
    let lines = &lines[find(BEGIN)? + 1..find(END)?];
    let indentation =
        lines.iter().filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len()).min();
    let lines: Vec<&str> = lines.iter().map(|line| line.get(indentation.unwrap_or(0)..).unwrap_or("")).collect();
    Some(lines.join("\n"))
}

/// The contents of all code blocks.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

fn read(path: &Path) -> String {
    let text = std::fs::read_to_string(path);
    assert!(text.is_ok(), "{}: {text:?}", path.display());
    text.unwrap_or_default()
}
