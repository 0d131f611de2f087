//! The Rust installation that runs this pipeline: its location, target and version. It owns finding
//! it and installs nothing.

use std::path::{Path, PathBuf};

use xshell::cmd;

use crate::error::{Context, Error, Result};
use crate::shell;

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
        let shell = shell::at(root)?;
        let ask = |args: &[&str]| {
            cmd!(shell, "rustc {args...}").quiet().read().context(|| format!("rustc {} failed", args.join(" ")))
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
