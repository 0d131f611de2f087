//! The guest's conversions between text and floating point numbers (`pgl_strtod.c`,
//! `pgl_decimal.c` and `pgl_dtoa.c` in `assets/guest/overlay/src/backend/port`), compiled for this
//! machine: their table of powers is computed anew, and their results are compared with those of
//! the machine's C library. What the guest's compiler makes of them is tested by
//! `pglite-oxide/tests/numbers.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use num_bigint::BigUint;

/// Powers of ten that the table covers.
const POWERS: std::ops::RangeInclusive<i32> = -342..=308;
/// Rounds of the comparison, of a dozen numbers each.
const ROUNDS: &str = "100000";
/// Writes the table in the place of a comparison.
const UPDATE: &str = "PGLITE_UPDATE_TABLES";

fn port() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/guest/overlay/src/backend/port")
}

/// Runs a program that has to succeed and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

#[test]
fn results_are_those_of_the_machines_c_library() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let compile = || {
        let mut command = Command::new(&cc);
        command.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"]);
        command.arg(port().join("../../include"));
        command
    };
    let renamed = ["-Dstrtod=guest_strtod", "-Dstrtof=guest_strtof"];
    let files = ["pgl_strtod", "pgl_decimal", "pgl_dtoa"];
    for file in files {
        let source = port().join(format!("{file}.c"));
        run(compile().args(renamed).arg("-c").arg(source).arg("-o").arg(place(file)));
    }
    let compare = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest_numbers/compare.c");
    let objects = files.map(place);
    let program = place("compare");
    run(compile().arg(compare).args(objects).arg("-o").arg(&program).arg("-lm"));
    let compared: u64 = run(Command::new(&program).args([ROUNDS, "20261126"])).trim().parse().unwrap();
    assert!(compared > 1_000_000, "only {compared} numbers were compared");
}

/// 5^power, times the power of two with which it has 128 bits, rounded down.
fn row(power: i32) -> u128 {
    let five = BigUint::from(5u32).pow(power.unsigned_abs());
    let bits = five.bits();
    let significand = if power < 0 {
        // 1/five is between 2^-bits and 2^(1-bits).
        (BigUint::from(1u32) << (127 + bits)) / five
    } else if bits <= 128 {
        five << (128 - bits)
    } else {
        five >> (bits - 128)
    };
    u128::try_from(significand).unwrap()
}

#[test]
fn table_of_powers_is_what_its_head_says() {
    let path = port().join("pgl_pow5.h");
    let found = std::fs::read_to_string(&path).unwrap();
    let begin = found.find("\t{").unwrap();
    let end = found.find("};").unwrap();
    let mut rows = String::new();
    for power in POWERS {
        let row = row(power);
        let comma = if power == *POWERS.end() { "" } else { "," };
        let (high, low) = ((row >> 64) as u64, row as u64);
        writeln!(rows, "\t{{UINT64_C({high:#018x}), UINT64_C({low:#018x})}}{comma}").unwrap();
    }
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, format!("{}{rows}{}", &found[..begin], &found[end..])).unwrap();
        return;
    }
    assert!(found[..begin].contains(&format!("#define PGL_POW5_FIRST ({})\n", POWERS.start())));
    assert!(found[..begin].ends_with(&format!("pgl_pow5[{}][2] = {{\n", POWERS.count())));
    assert_eq!(&found[begin..end], rows, "write it anew with {UPDATE}=1");
}
