//! Tells the crate which parts of its payload are there: a checkout without one still builds, and
//! so does a target without artifacts.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(files, code)");
    println!("cargo::rerun-if-changed=payload");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=PAYLOAD_TARGET={target}");
    for (cfg, directory) in [("files", "files"), ("code", &target)] {
        if Path::new("payload").join(directory).join("payload.tar").exists() {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}
