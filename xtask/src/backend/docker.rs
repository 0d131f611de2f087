//! Runs jobs as containers of a Docker daemon. It owns the import of the image, the containers and
//! their removal, including containers that a killed run left behind. The daemon must be on this
//! machine, because jobs mount host directories.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount as DockerMount, MountBindOptions, MountType,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::sync::mpsc;

use super::interrupt::Interrupt;
use super::{Backend, HOSTNAME, Job, Unavailable};
use crate::error::{Context, Error, Result};
use crate::files::Locked;
use crate::image::{self, Image, SOURCE_DATE_EPOCH};

/// Repository of the imported images in the daemon; the tag is the head of the digest.
const REPOSITORY: &str = "pglite-oxide-build";
/// Label of an imported image: the whole digest of its tree.
const DIGEST_LABEL: &str = "pglite-oxide.digest";
/// Label of a container: its job's log, which the running job keeps locked.
const LOG_LABEL: &str = "pglite-oxide.log";
/// A running daemon answers a ping in milliseconds.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Import responds after unpacking more than a gigabyte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1800);
/// Limit on the bytes of an image in flight to the daemon: this many chunks of this size.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_WAITING: usize = 16;
/// `/dev/shm`; Docker's own 64 MiB are less than a parallel compiler run may take.
const SHM_BYTES: i64 = 1 << 30;

/// The Docker backend.
#[derive(Debug)]
pub(crate) struct Docker(());

impl Docker {
    /// The backend, after the daemon has answered. Containers of ours whose run was killed are
    /// removed.
    pub(super) fn connect() -> Result<Self, Unavailable> {
        let runtime = runtime().map_err(Unavailable::Failing)?;
        let client = runtime.block_on(client())?;
        runtime.block_on(remove_stale(&client)).map_err(Unavailable::Failing)?;
        Ok(Self(()))
    }
}

impl Backend for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn run(&self, job: &Job<'_>) -> Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        job.check()?;
        let log = job.create_log()?;
        let name = format!("pglite-oxide-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let status = runtime()?.block_on(async {
            let mut interrupt = Interrupt::listen()?;
            let client = client().await?;
            let outcome =
                match select(pin!(run_container(&client, job, &name, &log.0)), pin!(interrupt.received())).await {
                    Either::Left((outcome, _)) => outcome,
                    Either::Right((signal, _)) => {
                        Err(Error::new(format!("the job `{}` was ended by {signal}", job.argv.join(" "))))
                    }
                };
            // Removed in every case; a container that was never created needs no removal.
            match (outcome, remove(&client, &name).await) {
                (Ok(_), Err(error)) => Err(error),
                (outcome, _) => outcome,
            }
        })?;
        if status == 0 { Ok(()) } else { Err(job.failed(self.name(), status)) }
    }
}

/// Runs the container to its end and gives its exit status.
async fn run_container(client: &bollard::Docker, job: &Job<'_>, name: &str, mut log: &File) -> Result<i64> {
    let image = ensure_image(client, job.image).await?;
    let in_docker = |what: &'static str| move || format!("Docker cannot {what} the container {name}");
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    client.create_container(Some(options), container(job, &image)?).await.context(in_docker("create"))?;

    // Attached before the start, so that no output is missed.
    let options = AttachContainerOptionsBuilder::new().stdout(true).stderr(true).stream(true).build();
    let mut output = client.attach_container(name, Some(options)).await.context(in_docker("attach to"))?.output;
    client.start_container(name, None::<StartContainerOptions>).await.context(in_docker("start"))?;
    while let Some(chunk) = output.next().await {
        let chunk = chunk.context(in_docker("read the output of"))?;
        log.write_all(chunk.as_ref()).map_err(|e| Error::io("write the log", &job.log, e))?;
    }
    match client.wait_container(name, None::<WaitContainerOptions>).next().await {
        Some(Ok(end)) => Ok(end.status_code),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(error).context(in_docker("wait for")),
        None => Err(Error::new(in_docker("say how it ended:")())),
    }
}

/// The container's configuration. The job's environment and directory are part of its command line,
/// because Docker would add variables to them.
fn container(job: &Job<'_>, image: &str) -> Result<ContainerCreateBody> {
    let log = fs::canonicalize(&job.log).map_err(|e| Error::io("find", &job.log, e))?;
    let mounts = job.mounts_in_order().into_iter().map(|mount| DockerMount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.display().to_string()),
        target: Some(mount.target.display().to_string()),
        read_only: Some(!mount.writable),
        bind_options: Some(MountBindOptions { create_mountpoint: Some(false), ..Default::default() }),
        ..Default::default()
    });
    // Docker transfers stdout and stderr in two pipes and loses their order, which a log must keep.
    let mut command: Vec<String> = ["/bin/sh", "-c", "exec \"$@\" 2>&1", "sh"].map(String::from).into();
    command.extend(job.command());
    Ok(ContainerCreateBody {
        image: Some(image.into()),
        cmd: Some(command),
        hostname: Some(HOSTNAME.into()),
        user: Some("0:0".into()),
        network_disabled: Some(true),
        labels: Some(HashMap::from([(LOG_LABEL.into(), log.display().to_string())])),
        host_config: Some(HostConfig {
            mounts: Some(mounts.collect()),
            network_mode: Some("none".into()),
            readonly_rootfs: Some(true),
            tmpfs: Some(HashMap::from([("/tmp".into(), "rw,exec,nosuid,nodev,mode=1777".into())])),
            shm_size: Some(SHM_BYTES),
            // The output is attached; the daemon need not keep a copy.
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            // Relabelling host directories for SELinux would outlive the job.
            security_opt: Some(vec!["label=disable".into()]),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// The name, in the daemon, of the image; imported if it is not there.
async fn ensure_image(client: &bollard::Docker, image: &Image) -> Result<String> {
    let tag = image.digest.get(..12).unwrap_or(&image.digest);
    let reference = format!("{REPOSITORY}:{tag}");
    match client.inspect_image(&reference).await {
        Ok(found) => {
            let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
            if labels.get(DIGEST_LABEL) == Some(&image.digest) {
                return Ok(reference);
            }
        }
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error).context(|| format!("Docker cannot look for the image {reference}")),
    }
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(REPOSITORY)
        .tag(tag)
        .changes(vec![format!("LABEL {DIGEST_LABEL}={}", image.digest)])
        .build();
    let body = bollard::body_try_stream(tar_stream(&image.rootfs)?);
    let mut progress = client.create_image(Some(options), Some(body), None);
    while let Some(step) = progress.next().await {
        step.context(|| format!("Docker cannot import {} as {reference}", image.rootfs.display()))?;
    }
    Ok(reference)
}

/// The tree as a stream of tar bytes, packed on a thread of its own.
fn tar_stream(rootfs: &Path) -> Result<impl futures_util::Stream<Item = io::Result<Bytes>> + Send + use<>> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_WAITING);
    let rootfs = rootfs.to_path_buf();
    std::thread::Builder::new()
        .name("image-tar".into())
        .spawn(move || {
            let mut out = BufWriter::with_capacity(CHUNK_BYTES, ChunkWriter(sender.clone()));
            let packed = image::scan(&rootfs)
                .and_then(|entries| image::write_tar(&rootfs, &entries, SOURCE_DATE_EPOCH, &mut out))
                .and_then(|()| out.flush().context(|| "cannot send the image".into()));
            if let Err(error) = packed {
                // An error in the stream keeps the daemon from importing an incomplete tree. The
                // receiver may be gone already.
                let _ = sender.blocking_send(Err(io::Error::other(error)));
            }
        })
        .context(|| "cannot start a thread that packs the image".into())?;
    Ok(futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    }))
}

/// Sends what is written as chunks of a stream.
struct ChunkWriter(mpsc::Sender<io::Result<Bytes>>);

impl Write for ChunkWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let chunk = Ok(Bytes::copy_from_slice(buffer));
        self.0.blocking_send(chunk).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes containers of jobs whose process has ended: the lock on their log is free.
async fn remove_stale(client: &bollard::Docker) -> Result<()> {
    let filters = HashMap::from([("label", vec![LOG_LABEL])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers =
        client.list_containers(Some(options)).await.context(|| "Docker cannot list its containers".into())?;
    for container in containers {
        let log = container.labels.unwrap_or_default().remove(LOG_LABEL).unwrap_or_default();
        let is_stale = match File::open(&log) {
            Ok(file) => matches!(Locked::take(file), Ok(Ok(_))),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if let (true, Some(id)) = (is_stale, container.id) {
            remove(client, &id).await?;
        }
    }
    Ok(())
}

/// Number of containers of a job, by its log.
#[cfg(test)]
pub(super) fn containers(log: &Path) -> usize {
    let label = format!("{LOG_LABEL}={}", log.display());
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = runtime().unwrap().block_on(async { client().await.unwrap().list_containers(Some(options)).await });
    found.unwrap().len()
}

/// Removes a container, running or not, if it exists.
async fn remove(client: &bollard::Docker, name: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match client.remove_container(name, Some(options)).await {
        Err(error) if !is_not_found(&error) => {
            Err(Error::new(format!("Docker cannot remove the container {name}")).cause(error))
                .map_err(|e| e.repair(format!("run `docker rm -f {name}`")))
        }
        _ => Ok(()),
    }
}

/// A client for a daemon that has just answered, at the protocol version that both support.
async fn client() -> Result<bollard::Docker, Unavailable> {
    let unreachable = |cause: bollard::errors::Error| {
        let named = std::env::var("DOCKER_HOST");
        // A daemon that was named explicitly is expected to run.
        let absent = named.is_err() && nothing_listens(&cause);
        let host = named.unwrap_or_else(|_| "its default socket".into());
        let error = Error::new(format!("no Docker daemon answers at {host}"))
            .cause(cause)
            .repair("start Docker (as root on Debian, scripts/ci-setup does it), or use --backend sandbox");
        if absent { Unavailable::Absent(error) } else { Unavailable::Failing(error) }
    };
    let client = bollard::Docker::connect_with_defaults().map_err(unreachable)?;
    let client = tokio::time::timeout(PING_TIMEOUT, client.negotiate_version())
        .await
        .unwrap_or(Err(bollard::errors::Error::RequestTimeoutError))
        .map_err(unreachable)?;
    Ok(client.with_timeout(REQUEST_TIMEOUT))
}

/// Whether the socket or the daemon is absent, rather than failing.
fn nothing_listens(error: &bollard::errors::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    if matches!(error, bollard::errors::Error::SocketNotFoundError(_)) {
        return true;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), ConnectionRefused | NotFound)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "cannot start the runtime that talks to Docker".into())
}

fn is_not_found(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{described_image, full_job};
    use super::*;

    /// The error of a client at a socket in an empty directory; `listen` determines what is there.
    fn told(listen: impl FnOnce(&Path)) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        listen(&socket);
        let address = format!("unix://{}", socket.display());
        let client = bollard::Docker::connect_with_unix(&address, 5, bollard::API_DEFAULT_VERSION);
        let error = match client {
            Err(error) => error,
            Ok(client) => runtime().unwrap().block_on(client.ping()).unwrap_err(),
        };
        nothing_listens(&error)
    }

    #[test]
    fn a_missing_daemon_is_told_from_one_that_fails() {
        use std::os::unix::net::UnixListener;
        assert!(told(|_| ()), "there is no socket");
        assert!(told(|socket| drop(UnixListener::bind(socket).unwrap())), "the daemon is gone");
        let closes_at_once = |socket: &Path| {
            let listener = UnixListener::bind(socket).unwrap();
            std::thread::spawn(move || drop(listener.accept()));
        };
        assert!(!told(closes_at_once), "something is there, and it does not answer");
    }

    #[test]
    fn a_container_is_cut_off_from_the_machine() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let image = described_image();
        let body = container(&full_job(&image, log.path()), "pglite-oxide-build:0123456789ab").unwrap();
        let text = serde_json::to_string_pretty(&body).unwrap();
        insta::assert_snapshot!("container", text.replace(&log.path().display().to_string(), "[LOG]"));
    }
}
