//! The error numbers of WASI preview 1 that this file system returns, and the conversion of the
//! host's errors to them.

use std::io;

/// A WASI `errno`, as the guest's libc sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u16);

/// Result of a file operation.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

impl Errno {
    pub const ACCES: Self = Self(2);
    pub const AGAIN: Self = Self(6);
    pub const BADF: Self = Self(8);
    pub const BUSY: Self = Self(10);
    pub const CONNREFUSED: Self = Self(14);
    pub const CONNRESET: Self = Self(15);
    pub const DQUOT: Self = Self(19);
    pub const EXIST: Self = Self(20);
    pub const FAULT: Self = Self(21);
    pub const FBIG: Self = Self(22);
    pub const INTR: Self = Self(27);
    pub const INVAL: Self = Self(28);
    pub const IO: Self = Self(29);
    pub const ISDIR: Self = Self(31);
    pub const LOOP: Self = Self(32);
    pub const MFILE: Self = Self(33);
    pub const MLINK: Self = Self(34);
    pub const NAMETOOLONG: Self = Self(37);
    pub const NFILE: Self = Self(41);
    pub const NOENT: Self = Self(44);
    pub const NOMEM: Self = Self(48);
    pub const NOSPC: Self = Self(51);
    pub const NOSYS: Self = Self(52);
    pub const NOTDIR: Self = Self(54);
    pub const NOTEMPTY: Self = Self(55);
    pub const NOTSUP: Self = Self(58);
    #[cfg(unix)]
    pub const PERM: Self = Self(63);
    pub const PIPE: Self = Self(64);
    pub const RANGE: Self = Self(68);
    pub const ROFS: Self = Self(69);
    pub const SPIPE: Self = Self(70);
    pub const XDEV: Self = Self(75);
}

impl From<&io::Error> for Errno {
    /// Converts an error of the host. An error without a number here becomes an input/output error,
    /// so that PostgreSQL does not treat it as harmless.
    fn from(error: &io::Error) -> Self {
        #[cfg(unix)]
        if let Some(errno) = rustix::io::Errno::from_io_error(error) {
            use rustix::io::Errno as Host;
            match errno {
                Host::MFILE => return Self::MFILE,
                Host::NFILE => return Self::NFILE,
                Host::LOOP => return Self::LOOP,
                Host::PERM => return Self::PERM,
                Host::BADF => return Self::BADF,
                _ => (),
            }
        }
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::ACCES,
            io::ErrorKind::NotFound => Self::NOENT,
            io::ErrorKind::AlreadyExists => Self::EXIST,
            io::ErrorKind::InvalidInput => Self::INVAL,
            io::ErrorKind::Interrupted => Self::INTR,
            io::ErrorKind::Unsupported => Self::NOTSUP,
            io::ErrorKind::OutOfMemory => Self::NOMEM,
            io::ErrorKind::StorageFull => Self::NOSPC,
            io::ErrorKind::QuotaExceeded => Self::DQUOT,
            io::ErrorKind::FileTooLarge => Self::FBIG,
            io::ErrorKind::ReadOnlyFilesystem => Self::ROFS,
            io::ErrorKind::NotADirectory => Self::NOTDIR,
            io::ErrorKind::IsADirectory => Self::ISDIR,
            io::ErrorKind::DirectoryNotEmpty => Self::NOTEMPTY,
            io::ErrorKind::CrossesDevices => Self::XDEV,
            io::ErrorKind::TooManyLinks => Self::MLINK,
            io::ErrorKind::InvalidFilename => Self::NAMETOOLONG,
            io::ErrorKind::ResourceBusy | io::ErrorKind::ExecutableFileBusy => Self::BUSY,
            io::ErrorKind::NotSeekable => Self::SPIPE,
            io::ErrorKind::BrokenPipe => Self::PIPE,
            io::ErrorKind::ConnectionRefused => Self::CONNREFUSED,
            io::ErrorKind::ConnectionReset => Self::CONNRESET,
            _ => Self::IO,
        }
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // As the C library's strerror says it.
        f.write_str(match *self {
            Self::ACCES => "Permission denied",
            Self::AGAIN => "Resource temporarily unavailable",
            Self::BADF => "Bad file descriptor",
            Self::BUSY => "Device or resource busy",
            Self::CONNREFUSED => "Connection refused",
            Self::CONNRESET => "Connection reset by peer",
            Self::DQUOT => "Disk quota exceeded",
            Self::EXIST => "File exists",
            Self::FAULT => "Bad address",
            Self::FBIG => "File too large",
            Self::INTR => "Interrupted system call",
            Self::INVAL => "Invalid argument",
            Self::IO => "Input/output error",
            Self::ISDIR => "Is a directory",
            Self::LOOP => "Too many levels of symbolic links",
            Self::MFILE => "Too many open files",
            Self::MLINK => "Too many links",
            Self::NAMETOOLONG => "File name too long",
            Self::NFILE => "Too many open files in system",
            Self::NOENT => "No such file or directory",
            Self::NOMEM => "Cannot allocate memory",
            Self::NOSPC => "No space left on device",
            Self::NOSYS => "Function not implemented",
            Self::NOTDIR => "Not a directory",
            Self::NOTEMPTY => "Directory not empty",
            Self::NOTSUP => "Operation not supported",
            #[cfg(unix)]
            Self::PERM => "Operation not permitted",
            Self::PIPE => "Broken pipe",
            Self::RANGE => "Result too large",
            Self::ROFS => "Read-only file system",
            Self::SPIPE => "Illegal seek",
            Self::XDEV => "Invalid cross-device link",
            Self(number) => return write!(f, "WASI error {number}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_systems_text() {
        assert_eq!(Errno::NOSPC.to_string(), "No space left on device");
        assert_eq!(Errno(9999).to_string(), "WASI error 9999");
    }

    #[cfg(unix)]
    #[test]
    fn what_a_disk_says_reaches_the_guest_as_it_is() {
        use rustix::io::Errno as Host;
        for (host, guest) in [
            (Host::NOSPC, Errno::NOSPC),
            (Host::DQUOT, Errno::DQUOT),
            (Host::IO, Errno::IO),
            (Host::ROFS, Errno::ROFS),
            (Host::ACCESS, Errno::ACCES),
            (Host::PERM, Errno::PERM),
            (Host::MFILE, Errno::MFILE),
            (Host::NFILE, Errno::NFILE),
            (Host::NOENT, Errno::NOENT),
            (Host::EXIST, Errno::EXIST),
            (Host::NOTEMPTY, Errno::NOTEMPTY),
            (Host::NOTDIR, Errno::NOTDIR),
            (Host::ISDIR, Errno::ISDIR),
            (Host::XDEV, Errno::XDEV),
            (Host::LOOP, Errno::LOOP),
            (Host::FBIG, Errno::FBIG),
            (Host::NAMETOOLONG, Errno::NAMETOOLONG),
            (Host::NODEV, Errno::IO),
        ] {
            assert_eq!(Errno::from(io::Error::from(host)), guest, "{host}");
        }
    }
}
