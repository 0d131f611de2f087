//! Helpers that the tests of file systems share, in both crates of the runtime. It owns no test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by it")]

use super::errno::Errno;
use super::{FileSystem, Kind, OpenOptions};

pub const CREATE: OpenOptions =
    OpenOptions { create: true, exclusive: false, truncate: false, directory: false, write: true };

/// Replaces or makes a file.
pub fn write(fs: &dyn FileSystem, path: &str, data: &[u8]) {
    let handle = fs.open(path, OpenOptions { truncate: true, ..CREATE }, 9).unwrap();
    assert_eq!(handle.write_at(0, data, 9), Ok(data.len()));
}

/// Contents of a file.
pub fn read(fs: &dyn FileSystem, path: &str) -> Vec<u8> {
    let handle = fs.open(path, OpenOptions::default(), 9).unwrap();
    let mut bytes = vec![0; handle.stat().unwrap().len as usize];
    assert_eq!(handle.read_at(0, &mut bytes), Ok(bytes.len()));
    bytes
}

/// Every path, parents first, in the order of the names.
pub fn paths(fs: &dyn FileSystem) -> Vec<String> {
    let mut paths = Vec::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs.open(&directory, OpenOptions::default(), 9).unwrap().list().unwrap() {
            let path =
                if directory.is_empty() { entry.name.to_string() } else { format!("{directory}/{}", entry.name) };
            if entry.kind == Kind::Directory {
                directories.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

/// Checks of every file system, on an empty one, which is empty again afterwards.
pub fn behaves_as_posix_says(fs: &dyn FileSystem) {
    let exclusive = OpenOptions { exclusive: true, ..CREATE };
    let directory = OpenOptions { directory: true, ..OpenOptions::default() };
    assert_eq!(fs.open("f", OpenOptions::default(), 9).unwrap_err(), Errno::NOENT);
    assert_eq!(fs.open("no/f", CREATE, 9).unwrap_err(), Errno::NOENT);
    assert_eq!(fs.stat("f").unwrap_err(), Errno::NOENT);

    let f = fs.open("f", exclusive, 9).unwrap();
    assert_eq!(fs.open("f", exclusive, 9).unwrap_err(), Errno::EXIST);
    assert_eq!(fs.open("f", directory, 9).unwrap_err(), Errno::NOTDIR);
    assert_eq!(fs.open("f/g", CREATE, 9).unwrap_err(), Errno::NOTDIR);
    assert_eq!(f.write_at(3, b"abc", 9), Ok(3));
    let mut buf = [9; 8];
    assert_eq!((f.read_at(1, &mut buf), buf), (Ok(5), [0, 0, b'a', b'b', b'c', 9, 9, 9]));
    assert_eq!(f.read_at(6, &mut buf), Ok(0));
    f.set_len(4, 9).unwrap();
    f.set_len(6, 9).unwrap();
    assert_eq!(read(fs, "f"), [0, 0, 0, b'a', 0, 0]);
    f.set_modified(1_234_567_890_000_000_000).unwrap();
    let stat = f.stat().unwrap();
    assert_eq!((stat.kind, stat.len, stat.links, stat.modified_ns), (Kind::File, 6, 1, 1_234_567_890_000_000_000));
    assert_eq!(fs.stat("f"), Ok(stat));
    assert_ne!(stat.ino, 0);
    assert!(f.list().is_err());

    fs.create_directory("d", 9).unwrap();
    assert_eq!(fs.create_directory("d", 9), Err(Errno::EXIST));
    assert_eq!(fs.open("d", OpenOptions { write: true, ..OpenOptions::default() }, 9).unwrap_err(), Errno::ISDIR);
    assert_eq!(fs.stat("d").unwrap().kind, Kind::Directory);
    fs.hard_link("f", "d/g", 9).unwrap();
    assert_eq!(fs.hard_link("f", "d/g", 9), Err(Errno::EXIST));
    assert_eq!((f.stat().unwrap().links, fs.stat("d/g").unwrap().ino), (2, stat.ino));
    assert_eq!(fs.remove_directory("d", 9), Err(Errno::NOTEMPTY));
    assert_eq!(fs.remove_directory("f", 9), Err(Errno::NOTDIR));
    assert_eq!(fs.rename("nothing", "x", 9), Err(Errno::NOENT));
    assert_eq!(fs.rename("d", "d/inside", 9), Err(Errno::INVAL));
    assert_eq!(fs.rename("d", "f", 9), Err(Errno::NOTDIR));
    assert_eq!(fs.rename("f", "d", 9), Err(Errno::ISDIR));

    // Listings do not depend on how the directory was opened before, and a handle outlives the
    // name.
    let d = fs.open("d", directory, 9).unwrap();
    let names = || d.list().unwrap().into_iter().map(|entry| (entry.name.to_string(), entry.kind)).collect::<Vec<_>>();
    assert_eq!((names(), names()), (vec![("g".to_string(), Kind::File)], vec![("g".to_string(), Kind::File)]));
    write(fs, "d/h", b"other");
    fs.rename("d/h", "d/g", 9).unwrap();
    assert_eq!((read(fs, "d/g"), read(fs, "f").len()), (b"other".to_vec(), 6));
    fs.remove_file("f", 9).unwrap();
    assert_eq!((f.stat().unwrap().links, f.write_at(0, b"still", 9)), (0, Ok(5)));
    assert!(fs.remove_file("d", 9).is_err());
    fs.rename("d", "e", 9).unwrap();
    assert_eq!(names().len(), 1);
    fs.remove_file("e/g", 9).unwrap();
    fs.remove_directory("e", 9).unwrap();
    assert_eq!(paths(fs), Vec::<String>::new());
}
