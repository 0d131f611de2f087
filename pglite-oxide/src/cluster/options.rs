//! What a session starts with, whatever its files are: names, server settings, durability. It owns which settings a caller may make.

use crate::error::{Error, ErrorKind, Result};

/// How far a committed transaction is from being lost.
///
/// | | `Full` | `Relaxed` | `None` |
/// |---|---|---|---|
/// | the program is killed | nothing is lost | the commits of the last moments can be lost | the last commits can be lost |
/// | the machine loses power | nothing is lost | the commits of the last moments can be lost | everything can be lost: the files can be unusable |
/// | settings | `fsync`, `synchronous_commit` on | `synchronous_commit` off | `fsync`, `full_page_writes`, `synchronous_commit` off |
///
/// What is lost is the newest: never a transaction without those committed after it, and never a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// A commit has reached the disk when it returns. The default for databases with a path.
    #[default]
    Full,
    /// A commit returns at once and reaches the disk about 200 ms later, together with those that came after it.
    Relaxed,
    /// Nothing waits for the disk. The default for temporary databases, which nobody opens again.
    None,
}

/// What a session starts with.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) durability: Durability,
    /// Names and values, the later ones first in effect.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) extensions: Vec<String>,
    /// Bytes of the guest's memory at most.
    pub(crate) memory_limit: Option<u64>,
}

/// Settings that this crate makes itself, with what to do instead.
const OWNED: [(&str, &str); 22] = [
    ("fsync", "use `durability`"),
    ("full_page_writes", "use `durability`"),
    ("synchronous_commit", "use `durability`, or SET it in a session or transaction"),
    ("wal_sync_method", "the host syncs files; use `durability`"),
    ("data_directory", "use `path`"),
    ("config_file", NO_FILES),
    ("hba_file", NO_FILES),
    ("ident_file", NO_FILES),
    ("external_pid_file", NO_FILES),
    ("listen_addresses", NO_NETWORK),
    ("port", NO_NETWORK),
    ("unix_socket_directories", NO_NETWORK),
    ("ssl", NO_NETWORK),
    ("dynamic_shared_memory_type", NO_MEMORY),
    ("shared_memory_type", NO_MEMORY),
    ("min_dynamic_shared_memory", NO_MEMORY),
    ("huge_pages", NO_MEMORY),
    ("io_method", NO_MEMORY),
    ("archive_mode", NO_PROCESSES),
    ("logging_collector", NO_PROCESSES),
    ("hot_standby", NO_PROCESSES),
    ("shared_preload_libraries", "use `extension`"),
];
const NO_FILES: &str = "an embedded database has no such file; use `setting`";
const NO_NETWORK: &str = "an embedded database listens to nobody";
const NO_MEMORY: &str = "the host lays memory out";
const NO_PROCESSES: &str = "an embedded database has no other processes";

impl Default for Options {
    fn default() -> Self {
        Self {
            database: "postgres".to_string(),
            user: "postgres".to_string(),
            durability: Durability::Full,
            settings: Vec::new(),
            extensions: Vec::new(),
            memory_limit: None,
        }
    }
}

impl Options {
    /// Refuses what PostgreSQL should not even be asked for.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in &self.settings {
            let refuse = |why: &str| Err(Error::new(ErrorKind::Config, format!("setting {name:?}: {why}")));
            if !is_setting_name(name) {
                return refuse("not the name of a setting");
            }
            if value.contains('\0') {
                return refuse("its value has a zero byte");
            }
            if let Some((_, repair)) = OWNED.iter().find(|(owned, _)| name.eq_ignore_ascii_case(owned)) {
                return refuse(repair);
            }
        }
        let names = [("database", &self.database), ("user", &self.user)].into_iter();
        for (what, name) in names.chain(self.extensions.iter().map(|name| ("extension", name))) {
            if name.is_empty() || name.contains('\0') {
                return Err(Error::new(ErrorKind::Config, format!("{name:?} is no name of a {what}")));
            }
        }
        Ok(())
    }

    /// PostgreSQL's arguments, the program's name first.
    pub(crate) fn args(&self, data: &str) -> Vec<String> {
        let durability: &[(&str, &str)] = match self.durability {
            Durability::Full => &[("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")],
            Durability::Relaxed => &[("fsync", "on"), ("synchronous_commit", "off"), ("full_page_writes", "on")],
            Durability::None => &[("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")],
        };
        let mut args = ["postgres", "--single", "-D", data].map(String::from).to_vec();
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in settings.chain(durability.iter().copied()) {
            args.extend(["-c".to_string(), format!("{name}={value}")]);
        }
        args
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
        assert_eq!(refusal("port", "1"), "setting \"port\": an embedded database listens to nobody");
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
        assert_eq!(
            options.args("/d").join("|"),
            "postgres|--single|-D|/d|-c|work_mem=8 MB|-c|my.own=a=b|-c|fsync=off|-c|synchronous_commit=off|-c|full_page_writes=off"
        );
    }

    #[test]
    fn names_must_be_names() {
        let options = Options { database: String::new(), ..Options::default() };
        assert_eq!(options.check().unwrap_err().to_string(), "\"\" is no name of a database");
        let options = Options { extensions: vec!["a\0".to_string()], ..Options::default() };
        assert_eq!(options.check().unwrap_err().kind(), ErrorKind::Config);
    }
}
