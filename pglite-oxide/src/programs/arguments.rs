//! Arguments of `pg_dump` that a caller adds: which of them belong to this crate, in every spelling
//! that the program would take. It owns the list of the program's options (PostgreSQL
//! documentation, `pg_dump`); what the allowed ones mean is the program's.

use crate::error::{Error, ErrorKind, Result};

/// Options of one letter; a colon follows those with a value.
const SHORT: &str = "abBcCd:e:E:f:F:h:j:n:N:Op:RsS:t:T:U:vwWxZ:V?";

/// Long options without a value, and those with one.
const LONG: &[&str] = &[
    "attribute-inserts",
    "binary-upgrade",
    "blobs",
    "clean",
    "column-inserts",
    "create",
    "data-only",
    "disable-dollar-quoting",
    "disable-triggers",
    "enable-row-security",
    "help",
    "if-exists",
    "inserts",
    "large-objects",
    "load-via-partition-root",
    "no-acl",
    "no-blobs",
    "no-comments",
    "no-large-objects",
    "no-owner",
    "no-password",
    "no-privileges",
    "no-publications",
    "no-reconnect",
    "no-security-labels",
    "no-subscriptions",
    "no-sync",
    "no-table-access-method",
    "no-tablespaces",
    "no-toast-compression",
    "no-unlogged-table-data",
    "on-conflict-do-nothing",
    "password",
    "quote-all-identifiers",
    "schema-only",
    "serializable-deferrable",
    "strict-names",
    "use-set-session-authorization",
    "verbose",
    "version",
];
const LONG_WITH_VALUE: &[&str] = &[
    "compress",
    "dbname",
    "encoding",
    "exclude-extension",
    "exclude-schema",
    "exclude-table",
    "exclude-table-and-children",
    "exclude-table-data",
    "exclude-table-data-and-children",
    "extension",
    "extra-float-digits",
    "file",
    "filter",
    "format",
    "host",
    "include-foreign-data",
    "jobs",
    "lock-wait-timeout",
    "port",
    "restrict-key",
    "role",
    "rows-per-insert",
    "schema",
    "section",
    "snapshot",
    "superuser",
    "sync-method",
    "table",
    "table-and-children",
    "username",
];

/// Options that are refused: the long name, the letter, and what to do instead.
const REFUSED: &[(&str, char, &str)] = &[
    ("file", 'f', "the dump is what the function returns; write that to a file"),
    ("format", 'F', "use `PgDumpOptions::format`"),
    ("dbname", 'd', DATABASE),
    ("host", 'h', SESSION),
    ("port", 'p', SESSION),
    ("username", 'U', "the dump is made by the connection's user; connect as another one, or use --role"),
    ("password", 'W', "no password is asked for here"),
    ("no-password", 'w', "no password is asked for here"),
    ("jobs", 'j', "there is one session, and the dump is made in it"),
    ("compress", 'Z', "use `PgDumpOptions::compression`, or `--compression` of pglite"),
    ("filter", NONE, "the program sees none of your files; use `table`, `schema` and the like"),
    ("snapshot", NONE, TRANSACTION),
    ("serializable-deferrable", NONE, TRANSACTION),
    ("help", '?', NO_DUMP),
    ("version", 'V', NO_DUMP),
];
const NONE: char = '\0';
const DATABASE: &str = "the dump is of the database that the connection is to; connect to another one";
const SESSION: &str = "the dump is made by the connection that it is asked of";
const TRANSACTION: &str = "the dump has a transaction of its own already, REPEATABLE READ and READ ONLY";
const NO_DUMP: &str = "that would not be a dump";

/// Checks what a caller has added.
///
/// # Errors
/// [`ErrorKind::Config`] names the first argument that is refused, and says what to do instead.
pub(super) fn check(arguments: &[String]) -> Result<()> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let takes_next = match argument.strip_prefix("--") {
            Some("") => {
                return match arguments.next() {
                    Some(name) => Err(refusal(name, DATABASE)),
                    None => Ok(()),
                };
            }
            Some(long) => check_long(argument, long)?,
            None => match argument.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                Some(letters) => check_letters(argument, letters)?,
                None => return Err(refusal(argument, DATABASE)),
            },
        };
        if takes_next && arguments.next().is_none() {
            return Err(refusal(argument, "its value is missing"));
        }
    }
    Ok(())
}

/// Returns whether the next argument is this one's value. A long name may be cut short as long as
/// no other begins so.
fn check_long(argument: &str, long: &str) -> Result<bool> {
    let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
    let all = || LONG.iter().chain(LONG_WITH_VALUE).copied();
    let found: Vec<&str> = match all().find(|known| *known == name) {
        Some(exact) => vec![exact],
        None => all().filter(|known| known.starts_with(name)).collect(),
    };
    match found[..] {
        [] => Err(refusal(argument, "pg_dump has no such option")),
        [name] => {
            if let Some((long, _, instead)) = REFUSED.iter().find(|(long, ..)| *long == name) {
                return Err(refusal(&spelled(argument, &format!("--{long}")), instead));
            }
            Ok(value.is_none() && LONG_WITH_VALUE.contains(&name))
        }
        [one, other, ..] => {
            Err(refusal(argument, &format!("more than one option begins so, --{one} and --{other} for two")))
        }
    }
}

/// Returns whether the next argument is the last letter's value.
fn check_letters(argument: &str, letters: &str) -> Result<bool> {
    let mut rest = letters.chars();
    while let Some(letter) = rest.next() {
        if let Some((long, _, instead)) = REFUSED.iter().find(|(_, short, _)| *short == letter) {
            return Err(refusal(&spelled(argument, &format!("-{letter}/--{long}")), instead));
        }
        let takes_value = match SHORT.split_once(letter) {
            Some((_, after)) if letter != ':' => after.starts_with(':'),
            _ => return Err(refusal(argument, &format!("pg_dump has no option -{letter}"))),
        };
        if takes_value {
            return Ok(rest.as_str().is_empty());
        }
    }
    Ok(false)
}

fn spelled(argument: &str, option: &str) -> String {
    if option.split('/').any(|spelling| spelling == argument) {
        option.to_string()
    } else {
        format!("{option} (in {argument:?})")
    }
}

fn refusal(what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("pg_dump's argument {what}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
        check(&arguments).map_or_else(|error| error.to_string(), |()| "allowed".to_string())
    }

    #[test]
    fn what_does_not_fight_is_allowed() {
        for arguments in [
            &["-s"][..],
            &["-t", "-f"],
            &["-t-f"],
            &["-st", "file"],
            &["--table", "--file"],
            &["--table=--file", "-Ox"],
            &["--rows-per=10", "--role", "boss"],
            &["--schema", "x"],
            &["--no-sync", "--"],
            &["-v", "-E", "LATIN1"],
        ] {
            assert_eq!(said(arguments), "allowed", "{arguments:?}");
        }
    }

    #[test]
    fn what_fights_is_refused_by_name_in_every_spelling() {
        for (arguments, name) in [
            (&["-f", "x"][..], "-f/--file"),
            (&["-fx"], "-f/--file"),
            (&["-sfx"], "-f/--file"),
            (&["-Osx", "-vf", "x"], "-f/--file"),
            (&["--file=x"], "--file"),
            (&["--file", "x"], "--file"),
            (&["--fil=x"], "--file"),
            (&["--fi", "x"], "begins so, --file and --filter"),
            (&["-Fc"], "-F/--format"),
            (&["--form", "c"], "--format"),
            (&["-h", "x"], "-h/--host"),
            (&["--ho=x"], "--host"),
            (&["-p5"], "-p/--port"),
            (&["--po=5"], "--port"),
            (&["-U", "x"], "-U/--username"),
            (&["--user=x"], "--username"),
            (&["-dx"], "-d/--dbname"),
            (&["--db=x"], "--dbname"),
            (&["-j2"], "-j/--jobs"),
            (&["--j=2"], "--jobs"),
            (&["-W"], "-W/--password"),
            (&["-sw"], "-w/--no-password"),
            (&["-Z0"], "-Z/--compress"),
            (&["--filt=x"], "--filter"),
            (&["--snap=x"], "--snapshot"),
            (&["--help"], "--help"),
            (&["-?"], "-?/--help"),
            (&["-V"], "-V/--version"),
            (&["shop"], "argument shop: the dump is of the database"),
            (&["-s", "shop"], "argument shop: the dump is of the database"),
            (&["--", "-s"], "argument -s: the dump is of the database"),
            (&["-"], "argument -: the dump is of the database"),
            (&["-t"], "its value is missing"),
            (&["--table"], "its value is missing"),
            (&["--nonsense"], "no such option"),
            (&["-sy"], "no option -y"),
            (&["-:"], "no option -:"),
        ] {
            let said = said(arguments);
            assert!(said.contains(name), "{arguments:?}: {said}");
        }
    }

    #[test]
    fn the_options_are_those_of_the_program() {
        for (long, letter, _) in REFUSED {
            assert!(LONG.contains(long) || LONG_WITH_VALUE.contains(long), "{long}");
            assert!(*letter == NONE || SHORT.contains(*letter), "{letter}");
        }
    }
}
