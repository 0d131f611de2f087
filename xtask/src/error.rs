//! The one error type of the pipeline: what went wrong, with which entry, file or target, and what
//! repairs it. It owns the shape of messages; it does not decide which verb prints them.

use std::fmt;
use std::path::Path;

/// Result of a pipeline function.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure a maintainer reads: a message that names the thing, optionally the cause below it and
/// the repair.
pub(crate) struct Error {
    message: String,
    repair: Option<String>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error that says what went wrong. The message names the entry, file, hash or target
    /// concerned.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), repair: None, cause: None }
    }

    /// Adds the command or action that repairs it.
    #[must_use]
    pub(crate) fn repair(mut self, repair: impl Into<String>) -> Self {
        self.repair = Some(repair.into());
        self
    }

    /// Adds the error below this one.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// An I/O failure on a path. A full disk is said as such, since its repair differs from every
    /// other one's.
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

/// Puts a message above a lower error.
pub(crate) trait Context<T> {
    /// Wraps the error in one that says what was being done.
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::new(message()).cause(cause))
    }
}
