//! Downloads by hash: a file is stored as `<downloads>/<sha256>`, complete and verified, or not at
//! all. An interrupted transfer is continued. It knows no packages and no indexes, only files with
//! a size and a hash.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::lock::{Artifact, Lock, Role};
use super::mirror::Mirrors;
use super::progress::Progress;
use crate::error::{Error, Result};
use crate::files::{self, Locked};
use crate::paths::Paths;
use crate::pipeline::fingerprint::Fingerprint;

/// Parallel transfers. More do not help a mirror, and hashing one saturates a core.
const PARALLEL: usize = 4;

/// Attempts per mirror that may end without one new byte; an attempt that made progress is not
/// counted.
const FRUITLESS_ATTEMPTS: u32 = 3;

/// Time limit for a body. A longer transfer is interrupted and continued by the next attempt, which
/// ends stalled connections.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

const CHUNK: usize = 128 * 1024;

/// A file to download.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Its name in messages.
    pub(crate) name: String,
    /// Path below a mirror.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// What to do when the mirrors have other bytes or none.
    pub(crate) repair: String,
}

impl From<&Artifact> for Wanted {
    fn from(artifact: &Artifact) -> Self {
        Self {
            name: format!("{} {}", artifact.name, artifact.version),
            path: artifact.path.clone(),
            size: artifact.size,
            sha256: artifact.sha256.clone(),
            repair: format!(
                "{}; `--debian-mirror URL` (or {}) names another mirror, for example a snapshot that still has the file",
                artifact.repin(),
                super::mirror::MIRROR_VARIABLE
            ),
        }
    }
}

/// Makes every file of the lock with one of these roles present and verified. `mirrors` are the
/// values of `--debian-mirror`; mirrors are looked up only if a file is missing.
pub(crate) fn ensure(paths: &Paths, lock: &Lock, roles: &[Role], mirrors: &[String]) -> Result<()> {
    let wanted: Vec<_> = lock.artifacts(roles).map(Wanted::from).collect();
    ensure_files(&paths.downloads(), &wanted, || Mirrors::discover(mirrors))
}

/// The path of a downloaded entry, after hashing it. A file with another hash is deleted.
pub(crate) fn verified(paths: &Paths, artifact: &Artifact) -> Result<PathBuf> {
    let path = paths.downloads().join(&artifact.sha256);
    let repair = "`cargo xtask sources fetch` downloads it";
    match cached(&path, &artifact.sha256)? {
        Cached::Good => Ok(path),
        Cached::Missing => Err(Error::new(format!(
            "{} {}: expected a download at {}, found none",
            artifact.name,
            artifact.version,
            path.display()
        ))
        .repair(repair)),
        Cached::Deleted { found } => Err(Error::new(format!(
            "{} {}: the download has changed: expected sha256 {}, found {found}; it was deleted",
            artifact.name, artifact.version, artifact.sha256
        ))
        .repair(repair)),
    }
}

/// As [`ensure`], for single files.
pub(crate) fn ensure_files(
    downloads: &Path,
    wanted: &[Wanted],
    mirrors: impl FnOnce() -> Result<Mirrors>,
) -> Result<()> {
    files::make_directory(downloads)?;
    let _guard = guard(downloads)?;
    let missing = Mutex::new(Vec::new());
    parallel(wanted, |file| {
        match cached(&downloads.join(&file.sha256), &file.sha256)? {
            Cached::Good => return Ok(()),
            Cached::Missing => {}
            Cached::Deleted { found } => eprintln!(
                "warning: {}: the download has changed: expected sha256 {}, found {found}; it was deleted and is fetched again",
                file.name, file.sha256
            ),
        }
        missing.lock().unwrap_or_else(|e| e.into_inner()).push(file.clone());
        Ok(())
    })?;
    let mut missing = missing.into_inner().unwrap_or_else(|e| e.into_inner());
    if missing.is_empty() {
        return Ok(());
    }
    // Largest first: the last transfers are then small ones, and no thread waits long for another.
    missing.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    missing.dedup_by(|a, b| a.sha256 == b.sha256);
    let mirrors = mirrors()?;
    let client = client();
    let progress = Progress::new(missing.len(), missing.iter().map(|f| f.size).sum());
    parallel(&missing, |file| {
        download(&client, downloads, file, &mirrors, &progress)?;
        progress.file_done(&file.name);
        Ok(())
    })?;
    progress.finish();
    sync_directory(downloads)
}

/// The HTTP client: proxies from the environment, certificates from the machine.
pub(crate) fn client() -> ureq::Agent {
    use ureq::tls::{RootCerts, TlsConfig};
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(CONNECT_TIMEOUT))
        .timeout_recv_body(Some(BODY_TIMEOUT))
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .user_agent("pglite-oxide-xtask")
        .build()
        .new_agent()
}

/// Calls `work` for each item on a few threads; the first failure stops what has not begun.
pub(crate) fn parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(items.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                    if let Err(error) = work(item) {
                        stop.store(true, Ordering::Relaxed);
                        failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

enum Cached {
    Good,
    Missing,
    Deleted { found: String },
}

fn cached(path: &Path, sha256: &str) -> Result<Cached> {
    if !path.exists() {
        return Ok(Cached::Missing);
    }
    let found = Fingerprint::of_file(path)?.to_string();
    if found == sha256 {
        return Ok(Cached::Good);
    }
    std::fs::remove_file(path).map_err(|e| Error::io("delete", path, e))?;
    Ok(Cached::Deleted { found })
}

/// One fetching process at a time: two would write to the same unfinished file.
fn guard(downloads: &Path) -> Result<Locked> {
    let path = downloads.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| Error::io("open", &path, e))?;
    let failed = |e| Error::io("lock", &path, e);
    match Locked::take(file).map_err(failed)? {
        Ok(locked) => Ok(locked),
        Err(file) => {
            eprintln!("sources: waiting for another process that downloads to {}", downloads.display());
            Locked::wait(file).map_err(failed)
        }
    }
}

/// Why one mirror did not give a file.
enum Failure {
    /// The transfer was interrupted. What arrived is kept, and another attempt may continue.
    Interrupted(String),
    /// The mirror does not have the file, or has another one. Another attempt is useless.
    Refused(String),
    /// A local error, for example a full disk.
    Local(Error),
}

fn download(
    client: &ureq::Agent,
    downloads: &Path,
    file: &Wanted,
    mirrors: &Mirrors,
    progress: &Progress,
) -> Result<()> {
    let part = downloads.join(format!("{}.part", file.sha256));
    let mut reasons = Vec::new();
    let mut answered = false;
    for url in mirrors.urls(&file.path) {
        let mut fruitless = 0;
        let mut restarted = false;
        loop {
            let before = length(&part);
            let resumed = before > 0;
            match transfer(client, &url, &part, file, progress) {
                Ok(()) => {
                    let target = downloads.join(&file.sha256);
                    return std::fs::rename(&part, &target).map_err(|e| Error::io("rename to", &target, e));
                }
                Err(Failure::Local(error)) => return Err(error),
                // The first part may be wrong: it came from an earlier run or another mirror.
                Err(Failure::Refused(_)) if resumed && !restarted && !part.exists() => restarted = true,
                Err(Failure::Refused(reason)) => {
                    answered = true;
                    reasons.push(format!("{url}: {reason}"));
                    break;
                }
                Err(Failure::Interrupted(reason)) => {
                    fruitless = if length(&part) > before { 0 } else { fruitless + 1 };
                    if fruitless == FRUITLESS_ATTEMPTS {
                        reasons.push(format!("{url}: {reason}"));
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(500) * fruitless);
                }
            }
        }
    }
    Err(Error::new(format!(
        "{}: expected {} bytes with sha256 {}, no mirror gives them:\n    {}",
        file.name,
        file.size,
        file.sha256,
        reasons.join("\n    ")
    ))
    .repair(if answered {
        file.repair.clone()
    } else {
        "check the network and the mirror and run the same command again: what has arrived is kept; `--debian-mirror URL` names another mirror".to_owned()
    }))
}

/// Completes the unfinished file from one address. On success its hash is right and it is synced.
fn transfer(
    client: &ureq::Agent,
    url: &str,
    part: &Path,
    file: &Wanted,
    progress: &Progress,
) -> std::result::Result<(), Failure> {
    let local = |action: &'static str| move |e| Failure::Local(Error::io(action, part, e));
    let mut output =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(part).map_err(local("open"))?;
    let mut hasher = Sha256::new();
    let mut have = copy_hashing(&mut output, &mut hasher).map_err(local("read"))?;
    let restart = |output: &mut File, hasher: &mut Sha256| {
        *hasher = Sha256::new();
        output.set_len(0).and_then(|()| output.seek(SeekFrom::Start(0))).map(|_| 0)
    };
    if have > file.size {
        have = restart(&mut output, &mut hasher).map_err(local("truncate"))?;
    }
    if have < file.size {
        let mut request = client.get(url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = request.call().map_err(|e| Failure::Interrupted(e.to_string()))?;
        match response.status().as_u16() {
            200 if have > 0 => have = restart(&mut output, &mut hasher).map_err(local("truncate"))?,
            200 => {}
            206 if continues_at(&response, have) => {}
            // The rest is not available: discard the first part, so that the next attempt requests
            // the whole file.
            206 | 416 if have > 0 => {
                restart(&mut output, &mut hasher).map_err(local("truncate"))?;
                return Err(Failure::Interrupted(
                    "the mirror did not continue where the transfer had ended".to_owned(),
                ));
            }
            404 | 410 => return Err(Failure::Refused("the mirror does not have this file (404)".to_owned())),
            status if (400..500).contains(&status) && status != 408 && status != 429 => {
                return Err(Failure::Refused(format!("the mirror answered {status}")));
            }
            status => return Err(Failure::Interrupted(format!("the mirror answered {status}"))),
        }
        progress.file_at(&file.sha256, have);
        let mut body = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        while have <= file.size {
            let n = body.read(&mut chunk).map_err(|e| Failure::Interrupted(e.to_string()))?;
            if n == 0 {
                break;
            }
            output.write_all(&chunk[..n]).map_err(local("write"))?;
            hasher.update(&chunk[..n]);
            have += n as u64;
            progress.file_at(&file.sha256, have);
        }
        if have < file.size {
            return Err(Failure::Interrupted(format!("the transfer ended after {have} of {} bytes", file.size)));
        }
    }
    let found = hex::encode(hasher.finalize());
    if have > file.size || found != file.sha256 {
        drop(output);
        std::fs::remove_file(part).map_err(local("delete"))?;
        progress.file_at(&file.sha256, 0);
        return Err(Failure::Refused(if have > file.size {
            format!("the mirror has a different file: it is longer than {} bytes", file.size)
        } else {
            format!("the mirror has a different file: sha256 {found}")
        }));
    }
    output.sync_all().map_err(local("sync"))
}

fn continues_at(response: &ureq::http::Response<ureq::Body>, position: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|v| v.to_str().ok());
    range.and_then(|r| r.strip_prefix("bytes ")).and_then(|r| r.split_once('-')).and_then(|(from, _)| from.parse().ok())
        == Some(position)
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map(|m| m.len()).unwrap_or(0)
}

/// Feeds the rest of a reader to the hasher and counts it.
fn copy_hashing(reader: &mut impl Read, hasher: &mut Sha256) -> std::io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut count = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(count),
            n => {
                hasher.update(&buffer[..n]);
                count += n as u64;
            }
        }
    }
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync", path, e))
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
