//! Allows one pipeline run at a time per cache directory. The lock is the operating system's, on an
//! open file, and ends with the process that holds it. The text in the file is for messages only.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{self, Locked};

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct RunLock {
    file: Locked,
}

impl RunLock {
    /// Acquires the lock of a cache directory for a verb such as `assets build`. If another run
    /// holds it, calls `waiting` once with the holder, and waits.
    pub(crate) fn acquire(cache: &Path, verb: &str, waiting: impl FnOnce(&str)) -> Result<Self> {
        files::make_directory(cache)?;
        let path = cache.join("run.lock");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io("open", &path, e))?;
        let failed = |e| Error::io("lock", &path, e);
        let file = match Locked::take(file).map_err(failed)? {
            Ok(file) => file,
            Err(mut file) => {
                let mut holder = String::new();
                // The holder may be writing its name at this moment, so an empty name is possible.
                // Only the lock counts.
                if file.read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                    holder = "another run".to_owned();
                }
                waiting(&format!("waiting for {} (lock {})", holder.trim(), path.display()));
                Locked::wait(file).map_err(failed)?
            }
        };
        let mut lock = Self { file };
        let holder = format!("process {}, `cargo xtask {verb}`\n", std::process::id());
        lock.write(&holder).map_err(|e| Error::io("write", &path, e))?;
        Ok(lock)
    }

    fn write(&mut self, holder: &str) -> std::io::Result<()> {
        let Locked(file) = &mut self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(holder.as_bytes())
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // The next holder writes its own name. A stale name does no harm, because the name is read
        // only while the lock is held.
        let _ = self.file.0.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn the_second_run_says_who_holds_the_lock_and_waits() {
        let cache = tempfile::tempdir().unwrap();
        let first = RunLock::acquire(cache.path(), "assets build", |_| panic!("no other run holds it")).unwrap();
        let (said, heard) = mpsc::channel();
        let path = cache.path().to_path_buf();
        let second = thread::spawn(move || {
            let lock = RunLock::acquire(&path, "assets verify", |message| said.send(message.to_owned()).unwrap());
            lock.map(|_| ())
        });
        let message = heard.recv().unwrap();
        let holder = format!("waiting for process {}, `cargo xtask assets build` (lock ", std::process::id());
        assert!(message.starts_with(&holder), "{message}");
        assert!(!second.is_finished());
        // As a process has it that another thread is just starting.
        let copy = first.file.0.try_clone().unwrap();
        drop(first);
        second.join().unwrap().unwrap();
        RunLock::acquire(cache.path(), "assets build", |_| panic!("the second is done")).unwrap();
        drop(copy);
    }
}
