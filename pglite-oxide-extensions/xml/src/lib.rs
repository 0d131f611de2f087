//! Payload of pglite-oxide: XML. It owns bytes,
//! nothing else; `pglite-oxide` reads them.

/// The files, a tar file that begins with its manifest. `None` in a checkout where `cargo xtask
/// assets build` has not run.
#[cfg(files)]
pub const FILES: Option<&[u8]> = Some(include_bytes!("../payload/files/payload.tar"));
#[cfg(not(files))]
#[allow(missing_docs)]
pub const FILES: Option<&[u8]> = None;

/// The modules, compiled for this target. `None` where no release has artifacts.
#[cfg(code)]
pub const CODE: Option<&[u8]> = Some(include_bytes!(concat!("../payload/", env!("PAYLOAD_TARGET"), "/payload.tar")));
#[cfg(not(code))]
#[allow(missing_docs)]
pub const CODE: Option<&[u8]> = None;
