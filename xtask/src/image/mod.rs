//! The build image: a root file system that is a pure function of the lock. It owns the place, the
//! validity and the digest of an image. It neither fetches packages nor runs jobs.

mod deb;
#[cfg(test)]
mod fixture;
mod tree;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Result};
use crate::files::{self, Locked};
use crate::pipeline::fingerprint::Fingerprint;
pub(crate) use tree::{scan, write_tar};

/// The modification time of everything that the pipeline makes: 2026-01-01 00:00:00 UTC, in seconds
/// since 1970.
pub(crate) const SOURCE_DATE_EPOCH: u64 = 1_767_225_600;

/// Incremented when the same inputs give another tree.
const FORMAT: u32 = 1;
/// Directories every job needs in the image, whether a package ships them or not.
const DIRECTORIES: [(&str, u32); 4] = [("dev", 0o755), ("pgl", 0o755), ("proc", 0o755), ("tmp", 0o1777)];
/// Prefix of directories under construction; the holder of the lock may remove them.
const UNFINISHED: &str = ".unfinished-";

/// What an image is made of, in order.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Packages in the order of the lock. `base-files`, which brings the merged-/usr links, is
    /// moved to the front.
    pub(crate) packages: Vec<Package>,
    /// Symbolic links that maintainer scripts would have made.
    pub(crate) links: Vec<Link>,
    /// Files that maintainer scripts would have made.
    pub(crate) files: Vec<TextFile>,
}

/// A locked package.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// Name in messages.
    pub(crate) name: String,
    /// The downloaded file.
    pub(crate) path: PathBuf,
    /// Expected SHA-256 of that file, lower-case hexadecimal.
    pub(crate) sha256: String,
}

/// A symbolic link of the image.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Path below the root.
    pub(crate) path: String,
    /// Where it points.
    pub(crate) target: String,
}

/// A small file of the image.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    /// Path below the root.
    pub(crate) path: String,
    /// The whole content.
    pub(crate) content: String,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// A finished, verified image.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// SHA-256 of the tree's canonical listing.
    pub(crate) digest: String,
    /// The tree. It is never written to.
    pub(crate) rootfs: PathBuf,
    /// An empty directory beside it, over which a job may mount in its own namespace.
    pub(crate) mount_point: PathBuf,
}

/// The next action of a build.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// Hashes an image that is there.
    Verify,
    /// Builds anew, for this reason.
    Rebuild(&'a Error),
    /// Unpacks the package, number `index` (from 1) of `total`.
    Unpack { index: usize, total: usize, name: &'a str },
    /// Hashes the new image.
    Hash,
}

/// The verified image of the spec: the one below `images` if it is intact, a new one otherwise.
/// Another process that builds is waited for.
pub(crate) fn build(spec: &Spec, images: &Path, report: &mut dyn FnMut(Event<'_>)) -> Result<Image> {
    files::make_directory(images)?;
    let images = &absolute(images)?;
    let lock_path = images.join("lock");
    let lock = File::create(&lock_path).map_err(|e| Error::io("create", &lock_path, e))?;
    let lock = Locked::wait(lock).map_err(|e| Error::io("lock", &lock_path, e))?;
    remove_unfinished(images)?;

    let home = images.join(input_hash(spec));
    if home.exists() {
        report(Event::Verify);
        match open_at(&home) {
            Ok(image) => return Ok(image),
            Err(reason) => report(Event::Rebuild(&reason)),
        }
    }
    let unfinished = files::scratch(UNFINISHED, images)?;
    write_image(spec, unfinished.path(), report)?;
    // One sync for all files, before the rename makes them visible.
    rustix::fs::syncfs(&lock.0).map_err(|e| Error::io("flush", images, e.into()))?;
    if home.exists() {
        let broken = unfinished.path().with_extension("broken");
        fs::rename(&home, &broken).map_err(|e| Error::io("move away", &home, e))?;
    }
    fs::rename(unfinished.path(), &home).map_err(|e| Error::io("move into place", &home, e))?;
    // The directory was renamed; the guard must not remove it.
    let _ = unfinished.keep();
    File::open(images).and_then(|d| d.sync_all()).map_err(|e| Error::io("flush", images, e))?;
    remove_unfinished(images)?;
    let record = read_record(&home)?;
    Ok(image_at(&home, record.digest))
}

/// The image of the spec, if it was built and every byte is unchanged.
pub(crate) fn open(spec: &Spec, images: &Path) -> Result<Image> {
    open_at(&absolute(images)?.join(input_hash(spec)))
}

/// The hash that names an image: everything its tree depends on.
pub(crate) fn input_hash(spec: &Spec) -> String {
    let mut hasher = Sha256::new();
    // Each field is preceded by its length, so that no two specs give the same bytes.
    let mut field = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    field(&format!("image {FORMAT} {SOURCE_DATE_EPOCH} {:?} {DIRECTORIES:?}", deb::OMITTED));
    for package in in_order(spec) {
        field("package");
        field(&package.sha256);
    }
    for link in &spec.links {
        field("link");
        field(&link.path);
        field(&link.target);
    }
    for file in &spec.files {
        field("file");
        field(&file.path);
        field(&file.content);
        field(&format!("{:o}", file.mode));
    }
    hex::encode(hasher.finalize())
}

/// The description of a finished image: `image.toml` beside its tree.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    digest: String,
    packages: usize,
    entries: usize,
}

fn in_order(spec: &Spec) -> impl Iterator<Item = &Package> {
    let is_base = |package: &&Package| package.name == "base-files";
    spec.packages.iter().filter(is_base).chain(spec.packages.iter().filter(move |p| !is_base(p)))
}

fn write_image(spec: &Spec, home: &Path, report: &mut dyn FnMut(Event<'_>)) -> Result<()> {
    let rootfs = home.join("rootfs");
    for directory in [&rootfs, &home.join("mnt")] {
        fs::create_dir(directory).map_err(|e| Error::io("make the directory", directory, e))?;
    }
    let mut tree = tree::TreeWriter::new(&rootfs, SOURCE_DATE_EPOCH);
    for (index, package) in in_order(spec).enumerate() {
        report(Event::Unpack { index: index + 1, total: spec.packages.len(), name: &package.name });
        deb::unpack(package, &mut tree)?;
    }
    for (path, mode) in DIRECTORIES {
        tree.directory(Path::new(path), mode)?;
    }
    for link in &spec.links {
        expect_free(&mut tree, &link.path)?;
        tree.symlink(Path::new(&link.path), Path::new(&link.target))?;
    }
    for file in &spec.files {
        expect_free(&mut tree, &file.path)?;
        tree.file(Path::new(&file.path), file.mode, &mut file.content.as_bytes())?;
    }
    tree.finish()?;

    report(Event::Hash);
    let entries = scan(&rootfs)?;
    let listing = tree::listing(&rootfs, &entries)?;
    let record = Record {
        digest: Fingerprint::of_bytes(listing.as_bytes()).to_string(),
        packages: spec.packages.len(),
        entries: entries.len(),
    };
    let text = toml::to_string(&record).context(|| "cannot write the image's record".into())?;
    for (name, content) in [("listing", listing), ("image.toml", text)] {
        let path = home.join(name);
        files::write(&path, content)?;
    }
    Ok(())
}

/// A link or file of the recipe never hides a file of a package: an update of the package may have
/// made it unnecessary or wrong.
fn expect_free(tree: &mut tree::TreeWriter, path: &str) -> Result<()> {
    if tree.holds(Path::new(path))? {
        return Err(Error::new(format!("a package of the image ships {path}, which the image's recipe adds too"))
            .repair(format!("remove the entry {path} from the recipe (assets/image.toml or assets/native.toml)")));
    }
    Ok(())
}

fn open_at(home: &Path) -> Result<Image> {
    let record = read_record(home)?;
    let rootfs = home.join("rootfs");
    let listing = tree::listing(&rootfs, &scan(&rootfs)?)?;
    let digest = Fingerprint::of_bytes(listing.as_bytes()).to_string();
    if digest != record.digest {
        let expected = fs::read_to_string(home.join("listing")).unwrap_or_default();
        return Err(Error::new(format!(
            "the image {} has changed: expected the digest {}, found {digest}; {}",
            home.display(),
            record.digest,
            first_difference(&expected, &listing)
        ))
        .repair("run `cargo xtask assets build`: it builds the image again"));
    }
    let mount_point = home.join("mnt");
    files::make_directory(&mount_point)?;
    Ok(image_at(home, digest))
}

fn image_at(home: &Path, digest: String) -> Image {
    Image { digest, rootfs: home.join("rootfs"), mount_point: home.join("mnt") }
}

/// Jobs resolve the path of the image from another working directory than this process.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("find", path, e))
}

fn read_record(home: &Path) -> Result<Record> {
    let path = home.join("image.toml");
    let build = "run `cargo xtask assets build`: it builds the image";
    let text = fs::read_to_string(&path).map_err(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            Error::new(format!("the image {} is not built", home.display())).repair(build)
        } else {
            Error::io("read", &path, e)
        }
    })?;
    toml::from_str(&text).map_err(|e| Error::new(format!("{} is damaged", path.display())).cause(e).repair(build))
}

fn first_difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return "its listing does not say where".into(),
            (e, f) if e == f => {}
            (e, f) => {
                let [e, f] = [e, f].map(|line| line.unwrap_or("nothing").replace('\t', " "));
                return format!("the first difference: expected {e}, found {f}");
            }
        }
    }
}

/// Removes what a killed build left behind. Called under the lock only.
fn remove_unfinished(images: &Path) -> Result<()> {
    let read = |e| Error::io("read the directory", images, e);
    for item in fs::read_dir(images).map_err(read)? {
        let item = item.map_err(read)?;
        if item.file_name().to_string_lossy().starts_with(UNFINISHED) {
            files::remove_directory(&item.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
