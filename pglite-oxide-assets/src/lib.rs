//! Portable payload of pglite-oxide: share files, database template, manifest. It owns
//! bytes, nothing else; `pglite-oxide` reads them.

/// The payload, a tar file that begins with its manifest. `None` in a checkout where `cargo xtask
/// assets build` has not run.
#[cfg(payload)]
pub const PAYLOAD: Option<&[u8]> = Some(include_bytes!("../payload/payload.tar"));
#[cfg(not(payload))]
#[allow(missing_docs)]
pub const PAYLOAD: Option<&[u8]> = None;
