//! The targets of AOT artifacts and the CPU features their code may use. CPU features are named
//! only here.

use crate::error::{Error, Result};

/// A target of the AOT compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Rust's name of it.
    pub(crate) triple: &'static str,
    /// CPU features the code may need, beyond the generic CPU of the architecture; by Wasmer's
    /// names.
    pub(crate) cpu_features: &'static [&'static str],
}

/// x86-64-v2: every 64-bit CPU since about 2009.
const X86_64_V2: &[&str] = &["popcnt", "sse3", "sse4.1", "sse4.2", "ssse3"];

/// All targets. NEON is part of the generic AArch64 CPU and need not be named.
pub(crate) const TARGETS: &[Target] = &[
    Target { triple: "x86_64-unknown-linux-gnu", cpu_features: X86_64_V2 },
    Target { triple: "aarch64-unknown-linux-gnu", cpu_features: &[] },
    Target { triple: "aarch64-apple-darwin", cpu_features: &[] },
    Target { triple: "x86_64-pc-windows-msvc", cpu_features: X86_64_V2 },
];

/// The target of a name.
pub(crate) fn find(triple: &str) -> Result<Target> {
    TARGETS.iter().copied().find(|t| t.triple == triple).ok_or_else(|| {
        let known = TARGETS.iter().map(|t| t.triple).collect::<Vec<_>>().join(", ");
        Error::new(format!("{triple} is not a supported target")).repair(format!("name one of: {known}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_target_is_named_with_the_known_ones() {
        let error = find("riscv64gc-unknown-linux-gnu").unwrap_err();
        insta::assert_snapshot!(error, @r"
        riscv64gc-unknown-linux-gnu is not a supported target
          repair: name one of: x86_64-unknown-linux-gnu, aarch64-unknown-linux-gnu, aarch64-apple-darwin, x86_64-pc-windows-msvc
        ");
    }

    #[test]
    fn features_are_sorted_so_that_they_print_as_the_artifacts_record_them() {
        for target in TARGETS {
            assert!(target.cpu_features.is_sorted(), "{}", target.triple);
        }
    }
}
