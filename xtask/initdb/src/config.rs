//! The texts of a new data directory: the bootstrap input and the configuration files, from
//! PostgreSQL's samples. Pure functions; nothing here reads or writes a file.

use crate::Error;

/// Directories of an empty data directory; parents stand before their children.
pub(crate) const DIRECTORIES: &[&str] = &[
    "global",
    "pg_wal",
    "pg_wal/archive_status",
    "pg_wal/summaries",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_subtrans",
    "pg_twophase",
    "pg_multixact",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "base",
    "base/1",
    "pg_replslot",
    "pg_tblspc",
    "pg_stat",
    "pg_stat_tmp",
    "pg_xact",
    "pg_logical",
    "pg_logical/snapshots",
    "pg_logical/mappings",
];

/// Settings that differ from the sample's, for a PostgreSQL server that is started on the
/// directory. What is better for a session of the embedding program is no part of the file: the
/// program passes it. `initdb` also writes the defaults of `max_wal_size` and `min_wal_size`, which
/// would outrank what the program passes.
///
/// Such a server accepts connections over a socket in the directory itself, which only its owner
/// can reach, and none over TCP.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "''"),
    ("unix_socket_directories", "'.'"),
    ("max_connections", "100"),
    ("shared_buffers", "128MB"),
    ("dynamic_shared_memory_type", "posix"),
    ("log_timezone", "UTC"),
    ("datestyle", "'iso, mdy'"),
    ("timezone", "UTC"),
    // Locale settings of the C library are C; text is UTF-8, sorted and classified by PostgreSQL's
    // builtin provider.
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("default_text_search_config", "'pg_catalog.english'"),
];

/// Values of the placeholders in `postgres.bki`: those of a 64-bit PostgreSQL, with UTF-8 databases
/// and the builtin provider's `C.UTF-8`.
const BKI_TOKENS: &[(&str, &str)] = &[
    ("NAMEDATALEN", "64"),
    // Of a Datum, which has the size of a pointer on other machines.
    ("SIZEOF_POINTER", "8"),
    ("ALIGNOF_POINTER", "d"),
    ("FLOAT8PASSBYVAL", "true"),
    ("POSTGRES", "'postgres'"),
    ("ENCODING", "6"),
    ("LC_COLLATE", "'C'"),
    ("LC_CTYPE", "'C'"),
    ("DATLOCALE", "'C.UTF-8'"),
    ("ICU_RULES", "_null_"),
    ("LOCALE_PROVIDER", "b"),
];

/// The bootstrap input for PostgreSQL of this major version ("17"), with every placeholder
/// replaced.
pub(crate) fn bootstrap_input(bki: &str, major: &str) -> Result<String, Error> {
    let header = format!("# PostgreSQL {major}\n");
    if !bki.starts_with(&header) {
        let found = bki.lines().next().unwrap_or_default().to_owned();
        return Err(Error::Share {
            file: "postgres.bki",
            problem: format!("expected the first line to be {header:?}, found {found:?}"),
        });
    }
    let mut out = String::with_capacity(bki.len());
    for line in bki.lines() {
        let words = line
            .split(' ')
            .map(|word| BKI_TOKENS.iter().find(|(token, _)| *token == word).map_or(word, |(_, value)| value));
        for (i, word) in words.enumerate() {
            if i > 0 {
                out.push(' ');
            }
            out.push_str(word);
        }
        out.push('\n');
    }
    Ok(out)
}

/// `postgresql.conf`: the sample with our settings in their places.
pub(crate) fn postgresql_conf(sample: &str) -> Result<String, Error> {
    let mut lines: Vec<String> = sample.lines().map(str::to_owned).collect();
    for (name, value) in SETTINGS {
        let place = lines.iter_mut().find(|line| setting_name(line) == Some(name)).ok_or_else(|| Error::Share {
            file: "postgresql.conf.sample",
            problem: format!("it has no line for the setting {name}"),
        })?;
        let comment = place.trim_start_matches('#').find('#').map(|at| {
            let body = place.trim_start_matches('#');
            body[at..].to_owned()
        });
        *place = match comment {
            Some(comment) => format!("{name} = {value}\t{comment}"),
            None => format!("{name} = {value}"),
        };
    }
    Ok(lines.join("\n") + "\n")
}

/// `pg_hba.conf`: the sample. The embedding program does not read it. Over the socket, which only
/// the directory's owner can reach, a server asks for no password; over TCP, which is off, it does.
pub(crate) fn pg_hba_conf(sample: &str) -> String {
    sample
        .replace("@remove-line-for-nolocal@", "")
        .replace("@authmethodhost@", "scram-sha-256")
        .replace("@authmethodlocal@", "trust")
        .replace("@authcomment@", HBA_COMMENT)
        .replace("@default_username@", "postgres")
}

const HBA_COMMENT: &str = "\
# A server that is started on this directory listens at a Unix socket in the directory itself, which
# nobody but its owner can enter (unix_socket_directories in postgresql.conf): no password is asked
# for there. It does not listen at TCP ports (listen_addresses). Before you change either of them,
# give the role postgres a password, and change \"trust\" below to \"peer\" or \"scram-sha-256\".
";

/// The setting of a line of the sample, whether commented out or not.
fn setting_name(line: &str) -> Option<&str> {
    let body = line.strip_prefix('#').unwrap_or(line);
    let (name, _) = body.split_once(" = ")?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_as_whole_words() {
        let bki = "# PostgreSQL 17\ninsert ( 2281 internal 11 10 SIZEOF_POINTER t p ALIGNOF_POINTER ENCODINGS )\ninsert ( 10 POSTGRES t )\n";
        assert_eq!(
            bootstrap_input(bki, "17").unwrap(),
            "# PostgreSQL 17\ninsert ( 2281 internal 11 10 8 t p d ENCODINGS )\ninsert ( 10 'postgres' t )\n"
        );
    }

    #[test]
    fn bootstrap_input_of_another_version_is_refused() {
        let error = bootstrap_input("# PostgreSQL 16\n", "17").unwrap_err().to_string();
        assert!(error.contains("postgres.bki") && error.contains("PostgreSQL 16"), "{error}");
    }

    #[test]
    fn settings_land_in_their_lines_and_keep_the_comment() {
        let sample: String =
            SETTINGS.iter().map(|(name, _)| format!("#{name} = something\t\t# (change requires restart)\n")).collect();
        let conf = postgresql_conf(&sample).unwrap();
        assert!(conf.contains("timezone = UTC\t# (change requires restart)\n"), "{conf}");
        assert_eq!(conf.lines().count(), SETTINGS.len());
        assert!(!conf.contains("something"));
    }

    #[test]
    fn a_missing_setting_is_named() {
        let error = postgresql_conf("#port = 5432\n").unwrap_err().to_string();
        assert!(error.contains(SETTINGS[0].0), "{error}");
    }
}
