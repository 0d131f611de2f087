//! Provides the image to the steps: fetches the locked files, builds the image and selects the
//! backend, once, when a step first needs it. It owns the layout that jobs see below `/pgl`; what a
//! job does belongs to its step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::backend::{self, Backend, Choice, Job, Mount};
use crate::error::{Error, Result};
use crate::files;
use crate::image::{self, Event, Image};
use crate::paths::Paths;
use crate::pipeline::StepContext;
use crate::pipeline::plan::Need;
use crate::pipeline::progress::Progress;
use crate::sources::recipe::{Recipe, Root};
use crate::sources::{BUILD_ROLES, Lock, fetch};

/// `PATH` of every job: the pinned LLVM before everything else.
const JOB_PATH: &str = "/usr/lib/llvm-22/bin:/usr/bin:/bin";

/// The image and the backend, made on first use.
pub(crate) struct Workshop<'a> {
    paths: &'a Paths,
    lock: &'a Lock,
    recipe: Recipe,
    choice: Choice,
    mirrors: Vec<String>,
    progress: Progress,
    ready: OnceLock<(Image, Box<dyn Backend>)>,
    /// Held while it is made: parallel steps wait for the first one.
    making: Mutex<()>,
}

/// What a job sees besides the image: all of it below `/pgl`.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFiles {
    /// Names below `/pgl` and what is mounted there, read-only: `assets`, `deps/postgresql`,
    /// `sources/pgvector.tar`.
    pub(crate) read_only: BTreeMap<String, PathBuf>,
    /// The same, writable, besides `/pgl/out` and `/pgl/work`.
    pub(crate) writable: BTreeMap<String, PathBuf>,
    /// Added to the environment.
    pub(crate) env: BTreeMap<String, String>,
}

impl JobFiles {
    /// The part of another step's output that a step reads, at the same path below `/pgl` and
    /// `place` as in that output.
    pub(crate) fn add_need(&mut self, context: &StepContext<'_>, place: &str, need: &Need) -> Result<()> {
        let name = need.part.as_ref().map_or_else(|| place.to_owned(), |part| format!("{place}/{part}"));
        self.read_only.insert(name, context.part(need)?);
        Ok(())
    }
}

impl<'a> Workshop<'a> {
    /// Does nothing until a step asks for the image.
    pub(crate) fn new(
        paths: &'a Paths,
        lock: &'a Lock,
        choice: Choice,
        mirrors: Vec<String>,
        progress: Progress,
    ) -> Result<Self> {
        let recipe = Recipe::read(&paths.root, Root::Build)?;
        Ok(Self { paths, lock, recipe, choice, mirrors, progress, ready: OnceLock::new(), making: Mutex::new(()) })
    }

    /// Identifies all inputs of the image, without building it.
    pub(crate) fn image_inputs(&self) -> String {
        image::input_hash(&self.spec())
    }

    /// The image, if it was made before.
    pub(crate) fn unpacked(&self) -> Result<Image> {
        image::open(&self.spec(), &self.paths.images())
    }

    /// A downloaded archive of the lock, verified.
    pub(crate) fn archive(&self, name: &str) -> Result<PathBuf> {
        let archive = self.lock.archive(name).ok_or_else(|| {
            Error::new(format!("sources.lock has no archive {name}"))
                .repair(format!("pin it: `cargo xtask sources update {name}`"))
        })?;
        self.ready()?;
        fetch::verified(self.paths, archive)
    }

    /// Digest of the image's tree.
    pub(crate) fn image_digest(&self) -> Result<&str> {
        Ok(&self.ready()?.0.digest)
    }

    /// Runs a command of a step in the image. `/pgl/out` and `/pgl/work` are the step's
    /// directories.
    pub(crate) fn run(&self, context: &mut StepContext<'_>, argv: &[&str], files: JobFiles) -> Result<()> {
        context.tools.insert("image".into(), self.image_digest()?.to_owned());
        self.run_in(&context.out, &context.work, &context.log, argv, files)
    }

    /// Runs a command in the image that belongs to no step. Its output is below `out` of the result
    /// and is removed with it.
    pub(crate) fn run_alone(&self, argv: &[&str], files: JobFiles) -> Result<tempfile::TempDir> {
        let scratch = tempfile::tempdir().map_err(|e| Error::io("make", &std::env::temp_dir(), e))?;
        let [out, work] = ["out", "work"].map(|name| scratch.path().join(name));
        files::make_directory(&out)?;
        files::make_directory(&work)?;
        self.run_in(&out, &work, &scratch.path().join("log"), argv, files)?;
        Ok(scratch)
    }

    /// Runs a command in the image that belongs to no step, in directories that exist and are
    /// empty, with a log that stays.
    pub(crate) fn run_in(&self, out: &Path, work: &Path, log: &Path, argv: &[&str], files: JobFiles) -> Result<()> {
        let (image, backend) = self.ready()?;
        let mount = |name: &str, source: &Path, writable| Mount {
            source: source.to_path_buf(),
            target: Path::new("/pgl").join(name),
            writable,
        };
        let mut mounts = vec![mount("out", out, true), mount("work", work, true)];
        mounts.extend(files.read_only.iter().map(|(name, source)| mount(name, source, false)));
        mounts.extend(files.writable.iter().map(|(name, source)| mount(name, source, true)));
        let mut env = files.env;
        env.insert("PATH".into(), env.get("PATH").map_or_else(|| JOB_PATH.into(), |p| format!("{p}:{JOB_PATH}")));
        env.insert("JOBS".into(), jobs().to_string());
        backend.run(&Job {
            image,
            mounts,
            env,
            argv: argv.iter().map(|&s| s.to_owned()).collect(),
            workdir: "/pgl/work".into(),
            log: log.to_path_buf(),
        })
    }

    /// Downloads, image and backend.
    pub(crate) fn ready(&self) -> Result<&(Image, Box<dyn Backend>)> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let backend = backend::select(self.choice)?;
        fetch::ensure(self.paths, self.lock, BUILD_ROLES, &self.mirrors)?;
        let image = image::build(&self.spec(), &self.paths.images(), &mut |event| match event {
            Event::Verify => self.progress.say("image: verifying"),
            Event::Rebuild(reason) => self.progress.say(&format!("image: building it again: {reason}")),
            Event::Unpack { index, total, name } if index == 1 || index % 40 == 0 || index == total => {
                self.progress.say(&format!("image: unpacking package {index} of {total} ({name})"));
            }
            Event::Unpack { .. } => {}
            Event::Hash => self.progress.say("image: computing its digest"),
        })?;
        self.progress.say(&format!(
            "image: {} (backend {})",
            &image.digest[..12.min(image.digest.len())],
            backend.name()
        ));
        // Prepares the backend for a new image, once, before jobs run in parallel.
        let log = tempfile::NamedTempFile::new().map_err(|e| Error::new("cannot create a temporary file").cause(e))?;
        backend.run(&Job {
            image: &image,
            mounts: vec![],
            env: BTreeMap::new(),
            argv: vec!["true".to_owned()],
            workdir: "/tmp".into(),
            log: log.path().to_path_buf(),
        })?;
        Ok(self.ready.get_or_init(|| (image, backend)))
    }

    fn spec(&self) -> image::Spec {
        self.recipe.spec(self.lock, &self.paths.downloads())
    }
}

/// Parallel jobs of a build. It changes no byte of a result.
pub(crate) fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}
