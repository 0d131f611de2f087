//! The options of a session: names, server settings, durability. It owns the list of settings that
//! callers may not make.

use crate::bundle::PGDATA;
use crate::error::{Error, ErrorKind, Result};

/// When a committed transaction is durable.
///
/// | | after a kill of the program | after a loss of power |
/// |---|---|---|
/// | `Full` | nothing is lost | nothing is lost |
/// | `Relaxed` | the last commits can be lost | the last commits can be lost |
/// | `None` | the last commits can be lost | everything can be lost |
///
/// `Full` is PostgreSQL's `fsync`, `full_page_writes` and `synchronous_commit` on. `Relaxed` has
/// `synchronous_commit` off; a commit can be lost for about 200 ms. `None` has all three off; after
/// a loss of power the files can be unusable.
///
/// Lost commits are always the newest: never a transaction without those committed after it, and
/// never a part of a transaction.
///
/// Nothing that the database stores with ALTER SYSTEM changes this. `synchronous_commit` remains
/// each session's own choice: SET, ALTER ROLE … SET and ALTER DATABASE … SET apply to the commits
/// of the sessions concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// A commit is durable when it returns. The default for databases with a path.
    #[default]
    Full,
    /// A commit returns at once and becomes durable about 200 ms later, together with later ones.
    Relaxed,
    /// Commits never wait for the disk. The default for temporary databases, which are not opened
    /// again. A database that was opened so is synced as a whole by the next open with another
    /// durability; until then a loss of power can destroy it.
    None,
}

/// What a session starts with.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) durability: Durability,
    /// Names and values; later ones override earlier ones.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) extensions: Vec<String>,
    /// Bytes of the guest's memory at most.
    pub(crate) memory_limit: Option<u64>,
    /// Start without the settings that the database stores.
    pub(crate) ignore_stored_settings: bool,
}

/// Where the shared memory segment begins in the guest's memory, in bytes: `PGL_SHMEM_BASE`.
pub(crate) const SEGMENT_START: u64 = 64 << 20;

/// What a session needs above the segment to start and to run small statements, in bytes.
pub(crate) const ABOVE_SEGMENT: u64 = 24 << 20;

/// The memory that PostgreSQL needs besides its shared memory, in bytes.
const MEMORY_MIN: u64 = SEGMENT_START + ABOVE_SEGMENT;

/// A setting that this crate makes itself.
#[derive(Debug)]
struct Reserved {
    name: &'static str,
    /// What it is passed as; `None` if no place but the command line can set it, or this version of
    /// PostgreSQL does not have it.
    value: Option<&'static str>,
    /// What to do instead of setting it.
    repair: &'static str,
}

const fn reserved(name: &'static str, value: &'static str, repair: &'static str) -> Reserved {
    Reserved { name, value: Some(value), repair }
}

/// Settings that this crate makes itself, and those of [`Durability`] besides. All are passed on
/// the command line, which outranks `postgresql.conf` and ALTER SYSTEM: nothing that a database
/// stores can change them. None of them is one that ALTER ROLE, ALTER DATABASE or a client could
/// set, with the exception of `synchronous_commit`, which is a session's own choice: it concerns no
/// commits but its own.
const RESERVED_SETTINGS: [Reserved; 23] = [
    reserved("wal_sync_method", "fdatasync", "the host syncs files; use `durability`"),
    reserved("data_sync_retry", "off", "a sync that failed must not be taken for one that succeeded"),
    // A commit would wait for a standby, which there cannot be.
    reserved("synchronous_standby_names", "", NO_REPLICATION),
    reserved("data_directory", PGDATA, "use `path`"),
    Reserved { name: "config_file", value: None, repair: NO_FILES },
    reserved("hba_file", HBA_FILE, NO_FILES),
    reserved("ident_file", IDENT_FILE, NO_FILES),
    reserved("external_pid_file", "", NO_FILES),
    reserved("listen_addresses", "", NO_NETWORK),
    reserved("port", "5432", NO_NETWORK),
    reserved("unix_socket_directories", "", NO_NETWORK),
    reserved("ssl", "off", NO_NETWORK),
    reserved("dynamic_shared_memory_type", "mmap", NO_MEMORY),
    reserved("shared_memory_type", "mmap", NO_MEMORY),
    reserved("min_dynamic_shared_memory", "0", NO_MEMORY),
    reserved("huge_pages", "off", NO_MEMORY),
    reserved("huge_page_size", "0", NO_MEMORY),
    Reserved { name: "io_method", value: None, repair: NO_MEMORY },
    reserved("archive_mode", "off", NO_PROCESSES),
    reserved("logging_collector", "off", NO_PROCESSES),
    reserved("hot_standby", "on", NO_PROCESSES),
    reserved("restart_after_crash", "off", NO_PROCESSES),
    // Its value is that of the extensions.
    Reserved { name: PRELOAD, value: None, repair: "use `extension`" },
];

/// The modules that PostgreSQL loads before it starts.
const PRELOAD: &str = "shared_preload_libraries";

/// Settings that suit a session of an embedding program better than PostgreSQL's defaults. They
/// rank below `postgresql.conf`, which a PostgreSQL server reads as well.
const DEFAULTS: [(&str, &str); 7] = [
    // Recovery delays the start of the embedding program, so it is kept short.
    ("max_wal_size", "128MB"),
    ("min_wal_size", "32MB"),
    // There is no replication, and bulk loads into new tables write less WAL.
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    // The default follows shared_buffers; every start would fill four times as much memory with
    // zeros.
    ("wal_buffers", "1MB"),
    // A parallel plan costs more without workers.
    ("max_parallel_workers_per_gather", "0"),
    // No other session runs beside a vacuum, so it need not pause.
    ("autovacuum_vacuum_cost_delay", "0"),
];

/// The environment variable with the defaults (`pgl_session.h`).
const DEFAULTS_VARIABLE: &str = "PGL_DEFAULTS";

/// Settings that make PostgreSQL ignore damage. They are for a repair, and should not outlast it:
/// they can be set with `setting`, with SET, and by a superuser for a role or a database, but a
/// value that ALTER SYSTEM stored does not count.
const REPAIRS: [&str; 5] = [
    "zero_damaged_pages",
    "ignore_checksum_failure",
    "ignore_invalid_pages",
    "ignore_system_indexes",
    "allow_system_table_mods",
];

/// The settings of a durability. Their values are its own.
const DURABILITY: [(&str, &str); 3] = [
    ("fsync", "use `durability`"),
    ("synchronous_commit", "use `durability`, or SET it in a session or transaction"),
    ("full_page_writes", "use `durability`"),
];

const HBA_FILE: &str = "/pgdata/pg_hba.conf";
const IDENT_FILE: &str = "/pgdata/pg_ident.conf";

const NO_FILES: &str = "an embedded database has no such file; use `setting`";
const NO_NETWORK: &str = "an embedded database accepts no connections by itself";
const NO_MEMORY: &str = "the host decides where memory is";
const NO_PROCESSES: &str = "an embedded database has no other processes";
const NO_REPLICATION: &str = "an embedded database has no standbys";

impl Default for Options {
    fn default() -> Self {
        Self {
            database: "postgres".to_string(),
            user: "postgres".to_string(),
            durability: Durability::Full,
            settings: Vec::new(),
            extensions: Vec::new(),
            memory_limit: None,
            ignore_stored_settings: false,
        }
    }
}

impl Options {
    /// Rejects options before PostgreSQL is started.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in &self.settings {
            let refuse = |why: &str| Err(Error::new(ErrorKind::Config, format!("setting {name:?}: {why}")));
            if !is_setting_name(name) {
                return refuse("not the name of a setting");
            }
            if value.contains('\0') {
                return refuse("its value has a zero byte");
            }
            let reserved = RESERVED_SETTINGS.iter().map(|reserved| (reserved.name, reserved.repair));
            if let Some((_, repair)) = reserved.chain(DURABILITY).find(|(found, _)| name.eq_ignore_ascii_case(found)) {
                return refuse(repair);
            }
        }
        if let Some(limit) = self.memory_limit.filter(|limit| *limit < MEMORY_MIN) {
            let (limit, least) = (limit >> 20, MEMORY_MIN >> 20);
            let message = format!(
                "memory_limit of {limit} MiB is too small: PostgreSQL needs at least {least} MiB and its shared memory \
                 (`shared_buffers`, 128 MiB by default)"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        let names = [("database", &self.database), ("user", &self.user)].into_iter();
        for (what, name) in names.chain(self.extensions.iter().map(|name| ("extension", name))) {
            if name.is_empty() || name.contains('\0') {
                return Err(Error::new(ErrorKind::Config, format!("{name:?} is not a valid name of a {what}")));
            }
        }
        Ok(())
    }

    /// The environment variable with the settings that rank below `postgresql.conf`. A replication
    /// slot that a server left needs the WAL of one.
    pub(crate) fn defaults(has_slots: bool) -> (String, String) {
        let value = |name, value| if name == "wal_level" && has_slots { "logical" } else { value };
        let lines = DEFAULTS.map(|(name, default)| format!("{name}={}\n", value(name, default)));
        (DEFAULTS_VARIABLE.to_string(), lines.concat())
    }

    /// PostgreSQL's arguments, the program's name first. `preload` are the modules that it loads
    /// before it starts.
    pub(crate) fn args(&self, data: &str, preload: &[&str]) -> Vec<String> {
        let values = match self.durability {
            Durability::Full => ["on", "on", "on"],
            Durability::Relaxed => ["on", "off", "on"],
            Durability::None => ["off", "off", "off"],
        };
        let repairs = REPAIRS.iter().map(|name| (*name, "off"));
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let reserved = RESERVED_SETTINGS.iter().filter_map(|reserved| Some((reserved.name, reserved.value?)));
        let durability = DURABILITY.iter().map(|(name, _)| *name).zip(values);
        let preload = preload.join(",");
        // Of two values for one setting, the later one counts.
        let all = repairs.chain(settings).chain(reserved).chain([(PRELOAD, preload.as_str())]).chain(durability);
        let args = ["postgres", "--single", "-D", data].into_iter().map(String::from);
        args.chain(all.flat_map(|(name, value)| ["-c".to_string(), format!("{name}={value}")])).collect()
    }
}

/// A name as PostgreSQL takes it, with at most one prefix: `work_mem`, `plpgsql.variable_conflict`.
fn is_setting_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let mut bytes = part.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$')
    };
    name.len() <= 128 && name.split('.').count() <= 2 && name.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, value: &str) -> String {
        let settings = vec![(name.to_string(), value.to_string())];
        let error = Options { settings, ..Options::default() }.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn settings_of_this_crate_are_refused_with_the_repair() {
        assert_eq!(refusal("fsync", "off"), "setting \"fsync\": use `durability`");
        assert_eq!(refusal("FSync", "off"), "setting \"FSync\": use `durability`");
        assert_eq!(refusal("port", "1"), "setting \"port\": an embedded database accepts no connections by itself");
        for name in ["", "a=b", "a b", "-c", "a.b.c", "1a", ".a", "work-mem", "a\0"] {
            assert!(refusal(name, "x").ends_with("not the name of a setting"), "{name}");
        }
        assert!(refusal("work_mem", "1\0").ends_with("zero byte"));
    }

    #[test]
    fn settings_become_arguments_and_durability_comes_last() {
        let settings = vec![("work_mem".to_string(), "8 MB".to_string()), ("my.own".to_string(), "a=b".to_string())];
        let options = Options { settings, durability: Durability::None, ..Options::default() };
        options.check().unwrap();
        let args = options.args("/d", &["one", "two"]);
        assert_eq!(args[..4], ["postgres", "--single", "-D", "/d"]);
        let at = |value: &str| args.iter().position(|arg| arg == value).unwrap_or_else(|| panic!("{value}"));
        assert!(at("zero_damaged_pages=off") < at("work_mem=8 MB"));
        assert!(at("my.own=a=b") < at("wal_sync_method=fdatasync"));
        assert!(at("port=5432") < at("shared_preload_libraries=one,two"));
        assert_eq!(args[args.len() - 6..].join("|"), "-c|fsync=off|-c|synchronous_commit=off|-c|full_page_writes=off");
    }

    #[test]
    fn memory_that_can_never_suffice_is_refused_with_the_least() {
        let check = |limit| Options { memory_limit: Some(limit), ..Options::default() }.check();
        let error = check(10 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("at least 88 MiB"), "{error}");
        check(MEMORY_MIN).unwrap();
    }

    #[test]
    fn names_must_be_names() {
        let options = Options { database: String::new(), ..Options::default() };
        assert_eq!(options.check().unwrap_err().to_string(), "\"\" is not a valid name of a database");
        let options = Options { extensions: vec!["a\0".to_string()], ..Options::default() };
        assert_eq!(options.check().unwrap_err().kind(), ErrorKind::Config);
    }
}
