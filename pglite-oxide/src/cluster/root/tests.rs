//! Tests of making, opening and locking a root.

use super::*;
use crate::fs::test_support::{read, write};

fn layout() -> Layout {
    Layout {
        postgresql: "17".to_string(),
        control_version: 1700,
        catalog_version: 202_406_281,
        max_align: 8,
        block_size: 8192,
        segment_blocks: 131_072,
        wal_block_size: 8192,
        float8_by_value: true,
    }
}

fn open(path: &Path) -> Result<Root> {
    Root::open(path, &layout(), true, |_, data| {
        write(data, "file", b"contents");
        Ok(())
    })
}

#[test]
fn a_root_that_was_opened_without_durability_is_synced_by_the_next_open_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let open = |durable| drop(Root::open(&path, &layout(), durable, |_, _| Ok(())).unwrap());
    for _ in 0..2 {
        open(false);
        assert!(path.join(UNSYNCED).exists());
        open(false);
        assert!(path.join(UNSYNCED).exists());
        open(true);
        assert!(!path.join(UNSYNCED).exists());
        open(true);
        assert!(!path.join(UNSYNCED).exists());
    }
}

#[test]
fn a_root_that_must_be_new_is_never_another_process_s() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let new = |path: &Path, during: &dyn Fn()| {
        Root::create_new(path, &layout(), false, |_, data| {
            write(data, "file", b"of the archive");
            during();
            Ok(())
        })
    };
    // Another process makes it meanwhile.
    let error = new(&path, &|| drop(open(&path).unwrap())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(new(&path, &|| ()).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(read(&open(&path).unwrap().data().unwrap(), "file"), b"contents");
    assert_eq!(names(dir.path()), ["db"]);
    drop(new(&dir.path().join("other"), &|| ()).unwrap());
}

fn refusal(path: &Path) -> String {
    let error = open(path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    error.to_string()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_root_is_made_once_and_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/db");
    let root = open(&path).unwrap();
    assert_eq!(read(&root.data().unwrap(), "file"), b"contents");
    assert_eq!(
        (names(&path), names(path.parent().unwrap())),
        (["lock", "pgdata", VERSION].map(String::from).to_vec(), vec!["db".to_string()])
    );
    assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::InUse);
    drop(root);
    let again = Root::open(&path, &layout(), true, |_, _| panic!("it is there")).unwrap();
    assert_eq!(names(&path.join(DATA)), ["file", "postmaster.pid"]);
    drop(again);
}

#[test]
fn an_empty_directory_is_a_place_for_one() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    assert!(dir.path().join(VERSION).is_file());
}

#[test]
fn what_is_something_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photos");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("cat.jpg"), "").unwrap();
    assert!(refusal(&path).contains("photos: not empty and not a database"), "{}", refusal(&path));
    assert_eq!((names(&path), names(dir.path())), (vec!["cat.jpg".to_string()], vec!["photos".to_string()]));
    fs::write(path.join("PG_VERSION"), "17").unwrap();
    assert!(refusal(&path).contains("data directory of a PostgreSQL server"));
    assert!(refusal(&path.join("cat.jpg")).contains("not a directory"));
}

#[test]
fn other_versions_are_refused_with_both_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    drop(open(&path).unwrap());
    let version = path.join(VERSION);
    let text = fs::read_to_string(&version).unwrap();
    let refused = |from: &str, to: &str| {
        fs::write(&version, text.replace(from, to)).unwrap();
        refusal(&path)
    };
    let old = refused("\"format\": 2", "\"format\": 1");
    assert!(old.contains("format 1, but this version opens format 2; dump it (`pglite dump`) with the ver"), "{old}");
    let new = refused("\"format\": 2", "\"format\": 3");
    assert!(new.contains("format 3, but this version opens format 2; use the version"), "{new}");
    let major = refused("\"17\"", "\"18\"");
    assert!(major.contains("made by PostgreSQL 18 (") && major.contains("but this is PostgreSQL 17 ("), "{major}");
    assert!(refused("\"float8_by_value\": true", "\"float8_by_value\": false").contains("32 bit"));
    assert!(refused("{", "").contains("not a version file"));
}

#[test]
fn a_failed_creation_leaves_nothing_and_leftovers_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let error = Root::open(&path, &layout(), false, |_, data| {
        write(data, "half", b"");
        Err(Error::new(ErrorKind::Io, "full"))
    });
    assert_eq!((error.unwrap_err().to_string(), names(dir.path())), ("full".to_string(), Vec::<String>::new()));

    // One whose creator is gone, one whose creator is at work, one that is somebody else's.
    let leftover = dir.path().join(".db.new-1-0");
    fs::create_dir_all(leftover.join(DATA)).unwrap();
    fs::write(leftover.join(crate::cluster::lock::LOCK), "").unwrap();
    let busy = dir.path().join(".db.new-1-1");
    fs::create_dir(&busy).unwrap();
    let lock = Lock::take(&busy).unwrap();
    fs::create_dir(dir.path().join(".db2.new-1-0")).unwrap();
    drop(open(&path).unwrap());
    assert_eq!(names(dir.path()), [".db.new-1-1", ".db2.new-1-0", "db"]);
    drop(lock);
}

#[test]
fn of_two_creators_one_wins_and_the_other_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    // The second one comes while the first fills.
    let mut other = None;
    let first = Root::open(&path, &layout(), false, |_, _| {
        other.get_or_insert_with(|| open(&path).unwrap());
        Ok(())
    });
    assert_eq!(first.unwrap_err().kind(), ErrorKind::InUse);
    assert_eq!(names(dir.path()), ["db"]);
    assert_eq!(read(&other.unwrap().data().unwrap(), "file"), b"contents");
}

#[cfg(unix)]
#[test]
fn a_link_leads_to_the_place() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let (disk, link) = (dir.path().join("disk"), dir.path().join("link"));
    fs::create_dir(&disk).unwrap();
    symlink("disk", &link).unwrap();
    let root = open(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && disk.join(VERSION).is_file());
    assert_eq!(names(dir.path()), ["disk", "link"]);
    // By either name it is the same one.
    assert_eq!(open(&disk).unwrap_err().kind(), ErrorKind::InUse);
    drop(root);
    let again = Root::open(&link, &layout(), true, |_, _| panic!("it is there")).unwrap();
    drop(again);
    // A link of links to where nothing is yet.
    symlink("disk/new", dir.path().join("one")).unwrap();
    symlink(dir.path().join("one"), dir.path().join("two")).unwrap();
    drop(open(&dir.path().join("two")).unwrap());
    assert!(disk.join("new").join(VERSION).is_file());
    symlink("round", dir.path().join("round")).unwrap();
    assert!(refusal(&dir.path().join("round")).contains("too many symbolic links"));
}

#[test]
fn places_that_cannot_be_replaced_are_refused_with_one_that_can() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("top of a file system") && message.contains("/database"), "{message}");
    assert_eq!(names(dir.path()), ["lost+found"]);
    #[cfg(target_os = "linux")]
    {
        let message = check_place(Path::new("/proc"), Path::new("/")).unwrap_err().to_string();
        assert!(message.contains("a mount point") && message.contains("/proc/database"), "{message}");
    }
}
