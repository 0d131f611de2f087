//! Every fuzz target runs over its committed inputs, in `seeds/TARGET`: what was found once is not
//! found again, and a target that no longer works is seen. It owns no input and looks for none:
//! `cargo fuzz run TARGET fuzz/corpus/TARGET fuzz/seeds/TARGET` does that.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

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
fn startup() {
    run("startup", env!("CARGO_BIN_EXE_startup"));
}

#[test]
fn messages() {
    run("messages", env!("CARGO_BIN_EXE_messages"));
}

#[test]
fn archive() {
    run("archive", env!("CARGO_BIN_EXE_archive"));
}

/// Otherwise every input would be rejected before it is read.
#[test]
fn a_whole_archive_is_accepted_and_others_are_not() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/archive");
    let accepted = |name: &str| pglite_oxide::dev::load_archive(&std::fs::read(directory.join(name)).unwrap());
    assert!(accepted("good.tar"));
    for name in ["no-end.tar", "outside.tar", "absolute.tar", "link.tar", "twice.tar", "other-format.tar"] {
        assert!(!accepted(name), "{name}");
    }
}

#[test]
fn paths() {
    run("paths", env!("CARGO_BIN_EXE_paths"));
}

#[test]
fn server() {
    run("server", env!("CARGO_BIN_EXE_server"));
}
