//! Path arguments of a guest's system calls, on a directory of the host with links that lead out of
//! it: no operation reaches what is outside.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a target reports a finding")]

use std::fs;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let home = tempfile::tempdir().expect("no temporary directory");
    let (inside, outside) = (home.path().join("inside"), home.path().join("outside"));
    for directory in [&inside, &outside] {
        fs::create_dir(directory).expect("no directory");
    }
    fs::create_dir(inside.join("d")).expect("no directory");
    fs::write(inside.join("f"), "f").expect("no file");
    fs::write(outside.join("kept"), "kept").expect("no file");
    #[cfg(unix)]
    for (link, target) in [("up", "../outside"), ("file", "../outside/kept"), ("d/up", "../..")] {
        std::os::unix::fs::symlink(target, inside.join(link)).expect("no link");
    }
    pglite_oxide::dev::use_paths(input, home.path()).expect("the directory cannot be opened");
    let mut names: Vec<_> = fs::read_dir(home.path()).expect("no listing").flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    let names: Vec<_> = names.iter().map(fs::DirEntry::file_name).collect();
    assert_eq!(names, ["inside", "outside"], "a name was made or removed outside");
    assert_eq!(fs::read_dir(&outside).expect("no listing").count(), 1, "a file was made outside");
    assert_eq!(fs::read(outside.join("kept")).expect("it was removed"), b"kept", "it was written to");
});
