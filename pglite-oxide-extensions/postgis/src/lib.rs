//! Payload of pglite-oxide: PostGIS (`LICENSE-GPL-2`) with the libraries in its modules. Their
//! source archives are named by `sources.lock` of the repository, and the scripts that build them
//! are beside it. The crate owns bytes, nothing else; `pglite-oxide` reads them.

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
