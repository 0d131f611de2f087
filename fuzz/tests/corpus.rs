//! Every fuzz target runs over its committed inputs, in `seeds/TARGET`: what was found once is not
//! found again, and a target that no longer works is seen. It owns no input and looks for none:
//! `cargo fuzz run TARGET fuzz/corpus/TARGET fuzz/seeds/TARGET` does that.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a target once with each of its inputs.
fn run(target: &str, program: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries = std::fs::read_dir(&directory).unwrap();
    let inputs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty(), "{} is empty", directory.display());
    let output = Command::new(program).args(&inputs).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{target}: {}\n{said}", output.status);
    let executed = said.lines().filter(|line| line.starts_with("Executed ")).count();
    assert_eq!(executed, inputs.len(), "{target}: not every input was executed:\n{said}");
}

#[test]
fn reading() {
    run("reading", env!("CARGO_BIN_EXE_reading"));
}

#[test]
fn server() {
    run("server", env!("CARGO_BIN_EXE_server"));
}
