//! Data directories that have extensions, so that a process creates those of a set once and not in
//! each of its temporary databases. It owns what is kept, and when it is made: at the second
//! request, because a process that opens one database would create them twice.

use std::sync::{Arc, Mutex, PoisonError};

use super::pglite::Pglite;
use crate::bundle::Payload;
use crate::cluster::options::{Durability, Options};
use crate::cluster::{Cluster, Data};
use crate::error::Result;
use crate::fs::ImageFs;

/// Directories that are kept at most, those of the last requests.
const KEPT: usize = 16;

/// What a directory depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    /// The address of the payload, which lives as long as the process.
    payload: usize,
    extensions: Vec<String>,
    settings: Vec<(String, String)>,
}

/// A directory: `None` until its second request. The lock is held while it is made, so others wait
/// for it.
type Slot = Arc<Mutex<Option<ImageFs>>>;

/// Directories by what they depend on; those that were requested last come last.
#[derive(Debug)]
struct Slots(Mutex<Vec<(Key, Slot)>>);

/// Those of this process.
static SLOTS: Slots = Slots::new();

/// A copy of the directory of a new database that has the extensions of these options, or `None` if
/// they are to be created in the new database itself. PostgreSQL has shut down cleanly on it.
///
/// # Errors
/// Those of creating the extensions; the next request tries again.
pub(super) fn directory(payload: &'static Payload, options: &Options) -> Result<Option<ImageFs>> {
    let created = options.extensions.iter().any(|name| payload.is_created(name));
    let usual = Options::default();
    // Another database does not exist yet, and another role cannot create them.
    if !created || options.database != usual.database || options.user != usual.user {
        return Ok(None);
    }
    let key = Key {
        payload: std::ptr::from_ref(payload).addr(),
        extensions: options.extensions.clone(),
        settings: options.settings.clone(),
    };
    let Some(slot) = SLOTS.requested_before(key) else { return Ok(None) };
    let mut directory = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = &*directory {
        return Ok(Some(directory.copy()));
    }
    let made = make(payload, options)?;
    let copy = made.copy();
    *directory = Some(made);
    Ok(Some(copy))
}

impl Slots {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The slot of the directory, unless this is the first request.
    fn requested_before(&self, key: Key) -> Option<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = slots.iter().position(|(other, _)| *other == key).map(|at| slots.remove(at).1);
        let slot = found.clone().unwrap_or_default();
        slots.push((key, slot));
        if slots.len() > KEPT {
            slots.remove(0);
        }
        found
    }
}

fn make(payload: &'static Payload, options: &Options) -> Result<ImageFs> {
    let data = ImageFs::new(payload.template()?);
    let options = Options { durability: Durability::None, ..options.clone() };
    Pglite::start(Cluster::new(payload, Data::Image(data.clone()), options, None))?.close()?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle;
    use crate::cluster::control_file;
    use crate::fs::FileSystem;

    #[test]
    #[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
    fn a_directory_is_made_at_the_second_request_and_was_shut_down() {
        let payload = bundle::embedded().unwrap();
        let settings = vec![("prepared.test".to_string(), "1".to_string())];
        let options = Options { extensions: vec!["plpgsql".to_string()], settings, ..Options::default() };
        assert!(directory(payload, &options).unwrap().is_none());
        let one = directory(payload, &options).unwrap().unwrap();
        let two = directory(payload, &options).unwrap().unwrap();
        assert!(control_file::is_shut_down(&one).unwrap(), "opening it would perform crash recovery");
        one.remove_file("PG_VERSION", 0).unwrap();
        assert!(control_file::is_shut_down(&two).unwrap() && two.stat("PG_VERSION").is_ok());
        let other = Options { database: "template1".to_string(), ..options.clone() };
        let none = Options { extensions: vec![], ..options };
        for options in [&other, &other, &none, &none] {
            assert!(directory(payload, options).unwrap().is_none());
        }
    }

    #[test]
    fn the_last_requests_are_kept() {
        let slots = Slots::new();
        let key = |payload: usize| Key { payload, extensions: vec!["a".to_string()], settings: vec![] };
        assert!(slots.requested_before(key(1)).is_none());
        let slot = slots.requested_before(key(1)).unwrap();
        assert!(Arc::ptr_eq(&slot, &slots.requested_before(key(1)).unwrap()));
        let settings = vec![("search_path".to_string(), "x".to_string())];
        assert!(slots.requested_before(Key { settings, ..key(1) }).is_none());
        for other in 2..2 + KEPT {
            slots.requested_before(key(other));
        }
        assert!(slots.requested_before(key(1)).is_none(), "the oldest is gone");
    }
}
