//! What the system refuses to the process around a database, seen through the program `pglite`:
//! each is an error that says what to do, and never the end of the process by a signal or a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

const PGLITE: &str = env!("CARGO_BIN_EXE_pglite");

/// Runs a program of the system's that makes limits and then executes `pglite` with these
/// arguments.
fn limited(limit: &str, args: &[&str]) -> Output {
    let script = format!("{limit} && exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &script, PGLITE]).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let fill = "CREATE TABLE f (b text); \
                INSERT INTO f SELECT repeat(md5(g::text), 50) FROM generate_series(1, 100000) g";
    let output = limited(
        // Blocks of 512 bytes: more than a WAL segment, less than the table.
        "ulimit -f 60000",
        &[
            "psql",
            "--root",
            root,
            "--",
            "-XAtq",
            "-v",
            "VERBOSITY=sqlstate",
            "-c",
            fill,
            "-c",
            "SELECT 'still here'",
            "-c",
            "CHECKPOINT",
        ],
    );
    let (out, err) = (stdout(&output), stderr(&output));
    assert_eq!((output.status.code(), out.trim()), (Some(0), "still here"), "{:?}: {err}", output.status);
    assert!(err.contains("53100"), "{err}");
    // Without the limit it goes on as if nothing had been.
    let output = Command::new(PGLITE).args(["psql", "--root", root, "--", "-XAtqc", "SELECT 1"]).output().unwrap();
    assert_eq!(stdout(&output).trim(), "1", "{}", stderr(&output));
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn too_little_address_space_is_an_error_with_the_repair() {
    // Enough for the program and its code, not for a database's memory.
    for kilobytes in ["3000000", "8500000"] {
        let output = limited(&format!("ulimit -v {kilobytes}"), &["psql", "--temporary", "--", "-XAtqc", "SELECT 1"]);
        let err = stderr(&output);
        assert!(err.contains("8 GiB of address space") && err.contains("ulimit -v"), "{:?}: {err}", output.status);
        assert!(!err.contains("panicked"), "{err}");
        assert_eq!(output.status.code(), Some(1), "{err}");
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn memory_that_may_not_be_executed_is_an_error_with_the_repair() {
    const PR_SET_MDWE: libc::c_int = 65;
    let mut command = Command::new(PGLITE);
    command.args(["psql", "--temporary", "--", "-XAtqc", "SELECT 1"]);
    // SAFETY: prctl is a system call, and nothing else happens between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(PR_SET_MDWE, 1, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let output = command.output().expect("Linux 6.3 or newer");
    let err = stderr(&output);
    assert!(err.contains("may not execute memory") && err.contains("MemoryDenyWriteExecute"), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    assert_eq!(output.status.code(), Some(1), "{err}");
}
