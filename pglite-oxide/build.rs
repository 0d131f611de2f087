//! Sets `cfg(payload)` if the checkout contains the built PostgreSQL for the target. Otherwise the
//! tests that need it are ignored, by name. The published crate does not contain this script.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(payload)");
    let (Some(package), Ok(target)) = (std::env::var_os("CARGO_MANIFEST_DIR"), std::env::var("TARGET")) else {
        return;
    };
    // The checkout is above every package that uses this script.
    let package = PathBuf::from(package);
    let Some(checkout) = package.ancestors().find(|directory| directory.join("pglite-oxide-assets").is_dir()) else {
        return;
    };
    let crates = ["pglite-oxide-assets".to_string(), format!("pglite-oxide-aot/{target}")];
    let crates = crates.map(|name| checkout.join(name));
    for directory in crates.iter().filter(|directory| directory.is_dir()) {
        println!("cargo::rerun-if-changed={}", directory.display());
    }
    let has_payload = |directory: &Path| directory.join("payload/payload.tar").is_file();
    if crates.iter().all(|directory| has_payload(directory)) {
        println!("cargo::rustc-cfg=payload");
    }
}
