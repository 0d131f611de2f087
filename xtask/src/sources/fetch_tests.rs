//! Fetching from a small HTTP server of this test: continuing, other bytes, missing files, changed
//! cache.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use super::*;

/// What the server does with the bytes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Plain,
    /// Answers the first request for a file with this many bytes of it, then closes the connection.
    CutFirst(usize),
    /// Sends the whole file for every request.
    IgnoresRanges,
    /// Refuses every request for a part.
    RefusesRanges,
    /// Answers every request with this status.
    Status(u16),
}

struct Server {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn new(manner: Manner, files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files: Vec<(String, Vec<u8>)> = files.iter().map(|(p, b)| ((*p).to_owned(), b.to_vec())).collect();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped) = (requests.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                // The client may close the connection first, which is not an error of the server.
                _ = answer(stream.unwrap(), manner, &files, &log);
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}/debian", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn answer(
    stream: TcpStream,
    manner: Manner,
    files: &[(String, Vec<u8>)],
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches("/debian/").to_owned();
    let mut from = None;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let header = header.trim().to_lowercase();
        if let Some(range) = header.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let first = {
        let mut log = log.lock().unwrap();
        let first = !log.iter().any(|r| r.starts_with(&path));
        log.push(from.map_or(path.clone(), |from| format!("{path} from {from}")));
        first
    };
    let mut stream = stream;
    let mut reply = |status: &str, headers: &str, length: usize, body: &[u8]| {
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n")?;
        stream.write_all(body)
    };
    let Some((_, body)) = files.iter().find(|(p, _)| *p == path) else {
        return reply("404 Not Found", "", 0, b"");
    };
    match (manner, from) {
        (Manner::Status(status), _) => reply(&format!("{status} Said"), "", 0, b""),
        (Manner::CutFirst(bytes), None) if first => reply("200 OK", "", body.len(), &body[..bytes]),
        (Manner::RefusesRanges, Some(_)) => reply("416 Range Not Satisfiable", "", 0, b""),
        (Manner::Plain | Manner::CutFirst(_), Some(from)) if from < body.len() => {
            let range = format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
            reply("206 Partial Content", &range, body.len() - from, &body[from..])
        }
        _ => reply("200 OK", "", body.len(), body),
    }
}

fn sha256(bytes: &[u8]) -> String {
    Fingerprint::of_bytes(bytes).to_string()
}

/// Bytes without a period, so that misplaced chunks are detected.
fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn wanted(name: &str, bytes: &[u8]) -> Wanted {
    Wanted {
        name: format!("{name} 1.0"),
        path: format!("pool/{name}"),
        size: bytes.len() as u64,
        sha256: sha256(bytes),
        repair: "pin it again".to_owned(),
    }
}

fn fetch_from(servers: &[&Server], downloads: &Path, files: &[Wanted]) -> Result<()> {
    let mirrors: Vec<_> = servers.iter().map(|s| s.url()).collect();
    ensure_files(downloads, files, || Mirrors::discover(&mirrors))
}

/// The message with the port of the test's server replaced.
fn message(error: Error, server: &Server) -> String {
    error.to_string().replace(&server.address.to_string(), "SERVER")
}

fn names(downloads: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(downloads).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|n| n != ".lock").collect();
    names.sort();
    names
}

#[test]
fn files_are_fetched_once() {
    let directory = tempfile::tempdir().unwrap();
    let bodies: Vec<_> = (0..9).map(|i| content(1000 * i + 1)).collect();
    let paths: Vec<_> = (0..9).map(|i| format!("pool/f{i}")).collect();
    let files: Vec<_> = paths.iter().map(String::as_str).zip(bodies.iter().map(Vec::as_slice)).collect();
    let server = Server::new(Manner::Plain, &files);
    let wanted: Vec<_> = bodies.iter().enumerate().map(|(i, b)| wanted(&format!("f{i}"), b)).collect();
    fetch_from(&[&server], directory.path(), &wanted).unwrap();
    assert_eq!(server.requests().len(), 9);
    for (file, body) in wanted.iter().zip(&bodies) {
        assert_eq!(&std::fs::read(directory.path().join(&file.sha256)).unwrap(), body);
    }
    ensure_files(directory.path(), &wanted, || Err(Error::new("no mirror is needed for what is there"))).unwrap();
    assert_eq!(server.requests().len(), 9);
}

#[test]
fn a_broken_off_transfer_is_continued() {
    let directory = tempfile::tempdir().unwrap();
    let body = content(300_000);
    let server = Server::new(Manner::CutFirst(100_000), &[("pool/a", &body)]);
    fetch_from(&[&server], directory.path(), &[wanted("a", &body)]).unwrap();
    assert_eq!(server.requests(), ["pool/a", "pool/a from 100000"]);
    assert_eq!(names(directory.path()), [sha256(&body)]);
}

#[test]
fn what_an_earlier_run_left_is_continued() {
    for (manner, requests) in [
        (Manner::Plain, vec!["pool/a from 1234"]),
        (Manner::IgnoresRanges, vec!["pool/a from 1234"]),
        (Manner::RefusesRanges, vec!["pool/a from 1234", "pool/a"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let body = content(5000);
        let part = directory.path().join(format!("{}.part", sha256(&body)));
        std::fs::write(part, &body[..1234]).unwrap();
        let server = Server::new(manner, &[("pool/a", &body)]);
        fetch_from(&[&server], directory.path(), &[wanted("a", &body)]).unwrap();
        assert_eq!(server.requests(), requests, "{manner:?}");
        assert_eq!(names(directory.path()), [sha256(&body)], "{manner:?}");
    }
}

#[test]
fn a_complete_or_wrong_rest_of_an_earlier_run() {
    let body = content(5000);
    let longer = content(6000);
    let mut wrong = body[..1234].to_vec();
    wrong[7] ^= 1;
    for (left, requests) in [
        (body.as_slice(), vec![]),
        (longer.as_slice(), vec!["pool/a"]),
        (wrong.as_slice(), vec!["pool/a from 1234", "pool/a"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(format!("{}.part", sha256(&body))), left).unwrap();
        let server = Server::new(Manner::Plain, &[("pool/a", &body)]);
        fetch_from(&[&server], directory.path(), &[wanted("a", &body)]).unwrap();
        assert_eq!(server.requests(), requests);
        assert_eq!(names(directory.path()), [sha256(&body)]);
    }
}

#[test]
fn other_bytes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let body = content(5000);
    let mut changed = body.clone();
    changed[4321] ^= 1;
    let server = Server::new(Manner::Plain, &[("pool/a", &changed)]);
    let error = fetch_from(&[&server], directory.path(), &[wanted("a", &body)]).unwrap_err();
    insta::assert_snapshot!(message(error, &server), @r"
    a 1.0: expected 5000 bytes with sha256 3d5901ce5517e014b375947415296b1f23f4142f3d510d73baa0440675bbd97f, no mirror gives them:
        http://SERVER/debian/pool/a: the mirror has a different file: sha256 cf12dc9c0ad2019af708cd8487dadb140d916e044612a8a20b720a891015d1ad
      repair: pin it again
    ");
    assert!(names(directory.path()).is_empty(), "nothing of it is kept");

    let longer = content(5001);
    let server = Server::new(Manner::Plain, &[("pool/a", &longer)]);
    let error = fetch_from(&[&server], directory.path(), &[wanted("a", &body)]).unwrap_err();
    insta::assert_snapshot!(message(error, &server), @r"
    a 1.0: expected 5000 bytes with sha256 3d5901ce5517e014b375947415296b1f23f4142f3d510d73baa0440675bbd97f, no mirror gives them:
        http://SERVER/debian/pool/a: the mirror has a different file: it is longer than 5000 bytes
      repair: pin it again
    ");
    assert!(names(directory.path()).is_empty(), "nothing of it is kept");
}

#[test]
fn a_file_the_mirror_does_not_have() {
    let directory = tempfile::tempdir().unwrap();
    let body = content(50);
    let without = Server::new(Manner::Plain, &[]);
    let artifact = Artifact {
        name: "clang".to_owned(),
        version: "22".to_owned(),
        suite: "trixie".to_owned(),
        path: "pool/a".to_owned(),
        size: 50,
        sha256: sha256(&body),
        license: "MIT".to_owned(),
        role: Role::Image,
    };
    let files = [Wanted::from(&artifact)];
    let error = fetch_from(&[&without], directory.path(), &files).unwrap_err();
    insta::assert_snapshot!(message(error, &without), @r"
    clang 22: expected 50 bytes with sha256 bd9b54cea6b27efcf0701d49667b6dd210f0a6e176cf38c23bf1d21b365dcb8f, no mirror gives them:
        http://SERVER/debian/pool/a: the mirror does not have this file (404)
      repair: `cargo xtask sources update image` pins it again and shows the difference; `--debian-mirror URL` (or PGLITE_OXIDE_DEBIAN_MIRROR) names another mirror, for example a snapshot that still has the file
    ");

    // The next mirror has it.
    let with = Server::new(Manner::Plain, &[("pool/a", &body)]);
    fetch_from(&[&without, &with], directory.path(), &files).unwrap();
    assert_eq!(without.requests(), ["pool/a", "pool/a"]);
    assert_eq!(names(directory.path()), [sha256(&body)]);
}

#[test]
fn a_mirror_in_trouble_is_asked_a_bounded_number_of_times() {
    let directory = tempfile::tempdir().unwrap();
    let body = content(50);
    let server = Server::new(Manner::Status(503), &[("pool/a", &body)]);
    let error = fetch_from(&[&server], directory.path(), &[wanted("a", &body)]).unwrap_err();
    insta::assert_snapshot!(message(error, &server), @r"
    a 1.0: expected 50 bytes with sha256 bd9b54cea6b27efcf0701d49667b6dd210f0a6e176cf38c23bf1d21b365dcb8f, no mirror gives them:
        http://SERVER/debian/pool/a: the mirror answered 503
      repair: check the network and the mirror and run the same command again: what has arrived is kept; `--debian-mirror URL` names another mirror
    ");
    assert_eq!(server.requests().len(), FRUITLESS_ATTEMPTS as usize);
}

#[test]
fn a_changed_download_is_deleted_and_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths { root: directory.path().to_path_buf(), cache: directory.path().to_path_buf() };
    let body = content(5000);
    let artifact = Artifact {
        name: "clang".to_owned(),
        version: "22".to_owned(),
        suite: "trixie".to_owned(),
        path: "pool/a".to_owned(),
        size: 5000,
        sha256: sha256(&body),
        license: "MIT".to_owned(),
        role: Role::Image,
    };
    let readable = |error: Error| error.to_string().replace(&directory.path().display().to_string(), "CACHE");
    insta::assert_snapshot!(readable(verified(&paths, &artifact).unwrap_err()), @r"
    clang 22: expected a download at CACHE/downloads/3d5901ce5517e014b375947415296b1f23f4142f3d510d73baa0440675bbd97f, found none
      repair: `cargo xtask sources fetch` downloads it
    ");

    let server = Server::new(Manner::Plain, &[("pool/a", &body)]);
    let lock = Lock {
        packages: vec![crate::sources::lock::Package { artifact: artifact.clone(), architecture: "amd64".to_owned() }],
        ..Lock::default()
    };
    let ensure_all = || ensure(&paths, &lock, &[Role::Image], &[server.url()]);
    ensure_all().unwrap();
    let file = verified(&paths, &artifact).unwrap();

    let mut changed = body.clone();
    changed[99] ^= 0x80;
    std::fs::write(&file, &changed).unwrap();
    insta::assert_snapshot!(readable(verified(&paths, &artifact).unwrap_err()), @r"
    clang 22: the download has changed: expected sha256 3d5901ce5517e014b375947415296b1f23f4142f3d510d73baa0440675bbd97f, found ad3f7893ce87c4d2729286e88be3a9ae638f22f8b4eaff712cb97fa451620a6b; it was deleted
      repair: `cargo xtask sources fetch` downloads it
    ");
    assert!(!file.exists());

    std::fs::write(&file, &changed).unwrap();
    ensure_all().unwrap();
    assert_eq!(std::fs::read(verified(&paths, &artifact).unwrap()).unwrap(), body);
    ensure(&paths, &lock, &[Role::Guest], &["not an address".to_owned()]).unwrap();
}
