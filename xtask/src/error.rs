//! The error type of the pipeline: what went wrong, with which entry, file or target, and how to
//! repair it. It owns the form of messages, not where they are printed.

use std::fmt;
use std::path::Path;

/// Result of a pipeline function.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An error for a maintainer: a message that names what failed, optionally with its cause and its
/// repair.
pub(crate) struct Error {
    message: String,
    repair: Option<String>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with this message, which names the entry, file, hash or target concerned.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), repair: None, cause: None }
    }

    /// Adds the command or action that repairs it.
    #[must_use]
    pub(crate) fn repair(mut self, repair: impl Into<String>) -> Self {
        self.repair = Some(repair.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// An I/O error on a path. A full disk has its own message, because its repair differs.
    pub(crate) fn io(action: &str, path: &Path, cause: std::io::Error) -> Self {
        let full = cause.kind() == std::io::ErrorKind::StorageFull;
        let error = Self::new(format!("cannot {action} {}", path.display())).cause(cause);
        if full {
            error.repair("free disk space and run the same command again: finished steps are kept")
        } else {
            error
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.cause.as_deref().map(|c| c as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        if let Some(repair) = &self.repair {
            write!(f, "\n  repair: {repair}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Adds a message to a lower error.
pub(crate) trait Context<T> {
    /// Wraps the error in one that names the operation.
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::new(message()).cause(cause))
    }
}
