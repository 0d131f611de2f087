//! AOT artifacts of pglite-oxide for `aarch64-unknown-linux-gnu`. It owns bytes, nothing else;
//! `pglite-oxide` checks and loads them.

/// The payload, a tar file that begins with its manifest. `None` in a checkout where `cargo xtask
/// assets build` has not run.
#[cfg(payload)]
pub const PAYLOAD: Option<&[u8]> = Some(include_bytes!("../payload/payload.tar"));
#[cfg(not(payload))]
#[allow(missing_docs)]
pub const PAYLOAD: Option<&[u8]> = None;
