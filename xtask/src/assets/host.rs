//! The Rust installation that runs this pipeline: its location, target and version. It owns finding
//! it and installs nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Error, Result};

/// What `rustc` reports about itself.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Directory of the toolchain, as `rustc --print sysroot` names it.
    pub(crate) sysroot: PathBuf,
    /// Target triple of this machine.
    pub(crate) triple: String,
    /// Version, such as `1.95.0`.
    pub(crate) rust: String,
    /// Cargo's home, with the downloaded crates.
    pub(crate) cargo_home: PathBuf,
}

impl Host {
    /// Asks `rustc`.
    pub(crate) fn find(root: &Path) -> Result<Self> {
        let ask = |args: &[&str]| -> Result<String> {
            let output =
                Command::new("rustc").args(args).current_dir(root).output().context(|| "cannot start rustc".into())?;
            if !output.status.success() {
                return Err(Error::new(format!("rustc {} failed: {}", args.join(" "), output.status)));
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let verbose = ask(&["-vV"])?;
        let field = |name: &str| {
            verbose.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned()).ok_or_else(
                || {
                    Error::new(format!("rustc -vV printed no line `{name}`"))
                        .repair("use a rustc that rustup installed")
                },
            )
        };
        let cargo_home = match std::env::var_os("CARGO_HOME").filter(|v| !v.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => {
                PathBuf::from(std::env::var_os("HOME").ok_or_else(|| Error::new("HOME is not set"))?).join(".cargo")
            }
        };
        Ok(Self {
            sysroot: PathBuf::from(ask(&["--print", "sysroot"])?.trim()),
            triple: field("host:")?,
            rust: field("release:")?,
            cargo_home,
        })
    }
}
