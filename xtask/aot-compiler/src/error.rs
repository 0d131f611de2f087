//! What can go wrong in the AOT compiler. It owns the wording of failures; `main` maps them to exit
//! codes.

use std::path::{Path, PathBuf};

/// Result of a compiler function.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, or a refusal of the whole target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// This compiler cannot make code for the target as asked; another run with the same arguments
    /// says the same.
    #[error("{target}: {reason}")]
    Refused { target: String, reason: String },
    /// The module is not something the compiler takes.
    #[error("{}: cannot compile: {cause}", module.display())]
    Compile { module: PathBuf, cause: String },
    /// Two inputs would write the same artifact.
    #[error("{} and {}: both would write {name}.aot; rename one of them", first.display(), second.display())]
    SameName { name: String, first: PathBuf, second: PathBuf },
    /// The file name does not give an artifact name.
    #[error("{}: expected a file name like postgres.wasm", .0.display())]
    Name(PathBuf),
    /// Nowhere to write.
    #[error("--out DIR is missing")]
    NoOutput,
    /// The operating system's answer.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
}

impl Error {
    /// For `map_err` on an I/O result.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::Io { action, path, cause }
    }
}
