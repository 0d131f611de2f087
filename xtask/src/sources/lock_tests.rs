//! Tests of reading and writing sources.lock: a valid lock comes back unchanged, and each invalid
//! one gives its own error.

use super::*;

const GOOD: &str = r#"version = 1

[[toolchain]]
name = "wasmer"
version = "7.4.2"
role = "engine"

[[source]]
name = "postgresql"
version = "17.11"
kind = "archive"
role = "guest"
suite = "trixie"
path = "pool/main/p/postgresql-17/postgresql-17_17.11.orig.tar.bz2"
size = 21787224
sha256 = "dd27f2b3c59e73ed14aa3324901242bf69a032a6347805f274e6260322d42979"
license = "PostgreSQL"

[[source]]
name = "postgres-pglite"
version = "REL_17_5-pglite"
kind = "git"
role = "audit"
path = "electric-sql/postgres-pglite"
commit = "01792c31a62b7045eb22e93d7dad022bb64b1184"
license = "PostgreSQL"

[[package]]
name = "gawk"
version = "1:5.2.1-2+b1"
architecture = "amd64"
role = "image"
suite = "trixie"
path = "pool/main/g/gawk/gawk_5.2.1-2+b1_amd64.deb"
size = 674160
sha256 = "7e1ea3d4d59d2b4e4bd42ccfd0ae4b4ef5ed4dbd2dd3a7d2b0a9a0f5a5e0e0a1"
license = "GPL-3+"

[[package]]
name = "wasix-libc"
version = "2025.12.24.1+ds-1"
architecture = "amd64"
role = "sysroot"
suite = "forky"
path = "pool/main/w/wasix-libc/wasix-libc_2025.12.24.1+ds-1_amd64.deb"
size = 535340
sha256 = "f16b844194b248fbd402e48b38cfc3fe37fd6093d15e3a8b8692bd3e53c2b890"
license = "MIT"
"#;

#[test]
fn a_written_lock_reads_back() {
    let lock = Lock::parse(GOOD).unwrap();
    assert_eq!(lock.render().unwrap(), format!("{HEADER}{GOOD}"));
    assert_eq!(Lock::parse(&lock.render().unwrap()).unwrap(), lock);
    let names = |roles| lock.artifacts(roles).map(|a| a.name.as_str()).collect::<Vec<_>>().join(" ");
    assert_eq!(names(&[Role::Image, Role::Sysroot, Role::Guest]), "gawk wasix-libc postgresql");
    assert_eq!(names(&[Role::Sysroot]), "wasix-libc");
    assert_eq!(lock.archive("postgresql").unwrap().version, "17.11");
}

#[test]
fn the_order_of_entries_does_not_matter() {
    let (head, wasix) = GOOD.split_at(GOOD.rfind("[[package]]").unwrap());
    let (head, gawk) = head.split_at(head.rfind("[[package]]").unwrap());
    let swapped = format!("{head}{wasix}\n{gawk}");
    assert_ne!(swapped, GOOD);
    assert_eq!(Lock::parse(&swapped).unwrap(), Lock::parse(GOOD).unwrap());
}

#[test]
fn a_lock_is_replaced_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sources.lock");
    let lock = Lock::parse(GOOD).unwrap();
    std::fs::write(&path, "old").unwrap();
    lock.write(&path).unwrap();
    assert_eq!(Lock::read(&path).unwrap(), lock);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn the_checkouts_own_lock_is_as_it_would_be_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sources.lock");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(Lock::parse(&text).unwrap().render().unwrap(), text);
}

#[test]
fn what_is_pinned_again_may_be_wrong_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sources.lock");
    let with = |from: &str, to: &str| std::fs::write(&path, GOOD.replacen(from, to, 1)).unwrap();

    with("size = 674160", "size = 0");
    let (lock, _) = Lock::read_to_repin(&path, "image").unwrap();
    assert_eq!((lock.packages.len(), lock.archives.len(), lock.toolchains.len()), (0, 1, 1));
    let error = Lock::read_to_repin(&path, "postgresql").unwrap_err().to_string();
    assert!(error.contains("gawk: size"), "{error}");

    with("dd27f2b3c59e73ed", "");
    let (lock, remains) = Lock::read_to_repin(&path, "postgresql").unwrap();
    assert_eq!((lock.packages.len(), lock.archives.len()), (2, 0));
    assert_eq!(remains.suite.as_deref(), Some("trixie"));
    assert!(Lock::read_to_repin(&path, "image").unwrap_err().to_string().contains("postgresql: sha256"));

    with("", "");
    assert_eq!(Lock::read_to_repin(&path, "image").unwrap(), (Lock::parse(GOOD).unwrap(), Remains::default()));
}

/// Each invalid lock is the valid one with one change; the snapshot lists the errors.
#[test]
fn every_bad_lock_is_named() {
    let sha = "dd27f2b3c59e73ed14aa3324901242bf69a032a6347805f274e6260322d42979";
    let gawk_path = "pool/main/g/gawk/gawk_5.2.1-2+b1_amd64.deb";
    let cases: &[(&str, &str, &str)] = &[
        ("not TOML", "size = 21787224", "size = "),
        ("unknown field", "size = 674160", "size = 674160\nmd5 = \"x\""),
        ("unknown table", "[[toolchain]]", "[[tool]]"),
        ("wrong type", "size = 674160", "size = \"674160\""),
        ("negative size", "size = 674160", "size = -1"),
        ("another schema", "version = 1\n", "version = 2\n"),
        ("no schema", "version = 1\n", ""),
        ("no hash", &format!("sha256 = \"{sha}\"\n"), ""),
        ("short hash", sha, "dd27f2b3"),
        ("uppercase hash", sha, &sha.to_uppercase()),
        ("no name", "name = \"gawk\"\n", ""),
        ("odd name", "name = \"gawk\"", "name = \"../gawk\""),
        ("no version", "version = \"17.11\"\n", ""),
        ("empty license", "license = \"GPL-3+\"", "license = \" \""),
        ("zero size", "size = 674160", "size = 0"),
        ("no size", "size = 674160\n", ""),
        ("a host in the path", gawk_path, "https://mirror.example/gawk.deb"),
        ("an absolute path", gawk_path, "/pool/gawk.deb"),
        ("a path that leaves the mirror", gawk_path, "pool/../../gawk.deb"),
        ("a path with a query", gawk_path, "pool/gawk.deb?x"),
        ("unknown role", "role = \"image\"", "role = \"everything\""),
        ("a role of another table", "role = \"image\"", "role = \"guest\""),
        ("no role", "role = \"image\"\n", ""),
        ("architecture", "architecture = \"amd64\"\nrole = \"image\"", "architecture = \"arm64\"\nrole = \"image\""),
        ("unknown kind", "kind = \"archive\"", "kind = \"zip\""),
        ("a commit in an archive", "kind = \"archive\"", "kind = \"archive\"\ncommit = \"01\""),
        ("a hash in a git source", "kind = \"git\"", "kind = \"git\"\nsha256 = \"01\""),
        ("short commit", "01792c31a62b7045eb22e93d7dad022bb64b1184", "01792c31"),
        ("a path in a toolchain", "role = \"engine\"", "role = \"engine\"\npath = \"pool/x\""),
        ("a package twice", "name = \"wasix-libc\"", "name = \"gawk\""),
        ("a source twice", "name = \"postgres-pglite\"", "name = \"postgresql\""),
    ];
    let mut said = String::new();
    for (what, from, to) in cases {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{what}: the case changes nothing");
        let error = Lock::parse(&text).err().unwrap_or_else(|| panic!("{what} was accepted"));
        said.push_str(&format!("== {what}\n{error}\n"));
    }
    insta::assert_snapshot!(said);
}
