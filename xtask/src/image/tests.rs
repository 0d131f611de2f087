//! Tests of images built from small packages: what is written, rejected and verified.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::fixture::{Compression, Item, archive, deb, package, spec};
use super::*;

const BASE: [Item<'_>; 5] = [
    Item::Directory("./", 0o755),
    Item::Directory("./usr/lib/", 0o755),
    Item::Symlink("./lib", "usr/lib"),
    Item::Symlink("./outside", "../.."),
    Item::Symlink("./absolute", "/usr/lib"),
];

/// Builds an image of `base-files` and one more package below a fresh directory.
fn build_with(items: &[Item<'_>]) -> Result<(tempfile::TempDir, Image)> {
    let home = tempfile::tempdir().unwrap();
    let other = package(home.path(), "other", &deb(items, Compression::Xz));
    let base = package(home.path(), "base-files", &deb(&BASE, Compression::Gzip));
    let image = build(&spec(vec![other, base]), &home.path().join("images"), &mut |_| ())?;
    Ok((home, image))
}

/// The error of building with these entries, without the paths of the test.
fn refusal(items: &[Item<'_>]) -> String {
    let text = build_with(items).unwrap_err().to_string();
    text.lines().last().unwrap().trim().to_string()
}

fn listing_of(image: &Image) -> String {
    tree::listing(&image.rootfs, &scan(&image.rootfs).unwrap()).unwrap()
}

#[test]
fn a_tree_depends_on_the_packages_alone() {
    let items = [
        Item::Directory("./usr/bin/", 0o755),
        Item::File("./usr/bin/su", 0o4755, "root"),
        Item::File("./lib/file with\ttab", 0o640, "content"),
        Item::HardLink("./usr/bin/hard", "./usr/bin/su"),
        Item::Symlink("./usr/bin/soft", "su"),
        Item::Directory("./usr/closed/", 0o555),
        Item::File("./usr/closed/file", 0o200, ""),
        Item::Directory("./usr/share/doc/other/", 0o755),
        Item::File("./usr/share/doc/other/copyright", 0o644, "MIT"),
        Item::File("./usr/share/doc/other/changelog.gz", 0o644, "left out"),
        Item::Symlink("./usr/share/doc/another", "other"),
        Item::File("./usr/share/man/man1/su.1.gz", 0o644, "left out"),
    ];
    let (_home, image) = build_with(&items).unwrap();
    insta::assert_snapshot!("listing", listing_of(&image));
    insta::assert_snapshot!("digest", image.digest);

    let at = |path: &str| fs::symlink_metadata(image.rootfs.join(path)).unwrap();
    assert_eq!(at("usr/bin/su").ino(), at("usr/bin/hard").ino());
    for path in ["", "usr/bin", "usr/bin/su", "usr/bin/soft", "usr/lib/file with\ttab", "proc"] {
        assert_eq!(at(path).mtime(), i64::try_from(SOURCE_DATE_EPOCH).unwrap(), "{path}");
    }

    let (_home, again) = build_with(&items).unwrap();
    assert_eq!(again.digest, image.digest);
    let pack = |image: &Image| {
        let mut bytes = Vec::new();
        write_tar(&image.rootfs, &scan(&image.rootfs).unwrap(), SOURCE_DATE_EPOCH, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(pack(&again), pack(&image));
}

#[test]
fn every_compression_gives_the_same_tree() {
    let items = [Item::File("./etc/name", 0o644, "content")];
    let digest = |compression| {
        let home = tempfile::tempdir().unwrap();
        let only = package(home.path(), "only", &deb(&items, compression));
        build(&spec(vec![only]), home.path(), &mut |_| ()).unwrap().digest
    };
    let expected = digest(Compression::None);
    for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
        assert_eq!(digest(compression), expected, "{compression:?}");
    }
}

#[test]
fn a_later_package_replaces_a_file_but_not_its_hard_links() {
    let home = tempfile::tempdir().unwrap();
    let first = [Item::File("./a", 0o644, "first"), Item::HardLink("./b", "./a")];
    let first = package(home.path(), "first", &deb(&first, Compression::None));
    let second = package(home.path(), "second", &deb(&[Item::File("./a", 0o600, "second")], Compression::None));
    let image = build(&spec(vec![first.clone(), second.clone()]), home.path(), &mut |_| ()).unwrap();
    let read = |image: &Image, name: &str| fs::read_to_string(image.rootfs.join(name)).unwrap();
    assert_eq!((read(&image, "a"), read(&image, "b")), ("second".into(), "first".into()));
    let reversed = build(&spec(vec![second, first]), home.path(), &mut |_| ()).unwrap();
    assert_eq!((read(&reversed, "a"), read(&reversed, "b")), ("first".into(), "first".into()));
}

#[test]
fn links_are_followed_inside_the_tree() {
    let (_home, image) = build_with(&[Item::File("./absolute/x", 0o644, "x")]).unwrap();
    assert_eq!(fs::read_to_string(image.rootfs.join("usr/lib/x")).unwrap(), "x");
}

#[test]
fn what_would_leave_the_tree_is_refused() {
    insta::assert_snapshot!(refusal(&[Item::File("../evil", 0o644, "")]), @r#"because: "../evil" would leave the tree: expected a relative path without "..""#);
    insta::assert_snapshot!(refusal(&[Item::File("usr/../../evil", 0o644, "")]), @r#"because: "usr/../../evil" would leave the tree: expected a relative path without "..""#);
    insta::assert_snapshot!(refusal(&[Item::Symlink("/evil", "x")]), @r#"because: "/evil" would leave the tree: expected a relative path without "..""#);
    insta::assert_snapshot!(refusal(&[Item::File("./outside/evil", 0o644, "")]), @"because: ./outside/evil leaves the tree through a symbolic link");
    insta::assert_snapshot!(refusal(&[Item::Directory("./outside", 0o755)]), @"because: ./outside leaves the tree through a symbolic link");
    insta::assert_snapshot!(refusal(&[Item::HardLink("./evil", "../../etc/passwd")]), @r#"because: "../../etc/passwd" would leave the tree: expected a relative path without "..""#);
    insta::assert_snapshot!(refusal(&[Item::HardLink("./evil", "outside/etc/passwd")]), @"because: outside/etc/passwd leaves the tree through a symbolic link");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let loops = [Item::Symlink("./l1", "l2"), Item::Symlink("./l2", "l1"), Item::File("./l1/file", 0o644, "")];
    insta::assert_snapshot!(refusal(&loops), @"because: ./l1/file passes through a loop of links");
    let under_file = [Item::File("./f", 0o644, ""), Item::File("./f/g", 0o644, "")];
    insta::assert_snapshot!(refusal(&under_file), @"because: ./f/g needs a directory at f, which is a file");
    insta::assert_snapshot!(refusal(&[Item::Symlink("./usr", "x")]), @"because: ./usr is a directory; it cannot become a file or link");
    insta::assert_snapshot!(refusal(&[Item::HardLink("./a", "./b")]), @"because: ./a is a hard link to ./b, which is no file of the tree");
    insta::assert_snapshot!(refusal(&[Item::Fifo("./dev/pipe")]), @"because: the entry ./dev/pipe is a Fifo; expected a file, a directory or a link");
}

#[test]
fn only_the_locked_package_is_unpacked() {
    let home = tempfile::tempdir().unwrap();
    let attempt = |change: &dyn Fn(&mut Package), bytes: &[u8]| {
        let mut one = package(home.path(), "one", bytes);
        change(&mut one);
        let error = build(&spec(vec![one]), &home.path().join("images"), &mut |_| ()).unwrap_err();
        error.to_string().replace(&home.path().display().to_string(), "[HOME]")
    };
    let good = deb(&[], Compression::None);
    insta::assert_snapshot!("other_hash", attempt(&|p| p.sha256 = "0".repeat(64), &good));
    insta::assert_snapshot!("no_file", attempt(&|p| p.path.set_extension("gone").then_some(()).unwrap(), &good));
    insta::assert_snapshot!("no_archive", attempt(&|_| (), b"not a package"));
    insta::assert_snapshot!("no_package", attempt(&|_| (), &archive(&[("something", b"2.0\n")])));
    insta::assert_snapshot!("no_data", attempt(&|_| (), &archive(&[("debian-binary", b"2.0\n")])));
    let cut = [("debian-binary", &b"2.0\n"[..]), ("data.tar.xz", &b"\xfd7zXZ\0cut short"[..])];
    assert!(attempt(&|_| (), &archive(&cut)).contains("cannot read its data.tar"));
    let left: Vec<_> = fs::read_dir(home.path().join("images")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "a failed build leaves nothing");
}

#[test]
fn an_image_is_built_once_and_again_when_it_has_changed() {
    let home = tempfile::tempdir().unwrap();
    let images = home.path().join("images");
    let one = package(home.path(), "one", &deb(&[Item::File("./etc/name", 0o644, "content")], Compression::Zstd));
    let spec = spec(vec![one]);
    let build = || {
        let mut events = Vec::new();
        let image = build(&spec, &images, &mut |event| {
            events.push(match event {
                Event::Verify => "verify",
                Event::Rebuild(_) => "rebuild",
                Event::Unpack { .. } => "unpack",
                Event::Hash => "hash",
            });
        });
        (image.unwrap(), events)
    };
    assert!(open(&spec, &images).unwrap_err().to_string().contains("is not built"));
    let (image, events) = build();
    assert_eq!(events, ["unpack", "hash"]);
    assert_eq!(open(&spec, &images).unwrap().digest, image.digest);
    assert_eq!(build().1, ["verify"]);

    // A killed build: its directory is removed.
    fs::create_dir(images.join(".unfinished-killed")).unwrap();
    assert_eq!(build().1, ["verify"]);
    assert!(!images.join(".unfinished-killed").exists());

    let name = image.rootfs.join("etc/name");
    let changes: [(&dyn Fn(), &str); 4] = [
        (&|| fs::write(&name, "Content").unwrap(), "expected etc/name file 0644 7 "),
        (&|| fs::set_permissions(&name, PermissionsExt::from_mode(0o755)).unwrap(), "found etc/name file 0755 7 "),
        (&|| fs::write(image.rootfs.join("etc/more"), "").unwrap(), "found etc/more file "),
        (&|| fs::remove_file(&name).unwrap(), "expected etc/name file "),
    ];
    for (change, expected) in changes {
        change();
        let error = open(&spec, &images).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(build().1, ["verify", "rebuild", "unpack", "hash"]);
        assert_eq!(open(&spec, &images).unwrap().digest, image.digest);
    }
    fs::remove_file(image.rootfs.parent().unwrap().join("image.toml")).unwrap();
    assert_eq!(build().1, ["verify", "rebuild", "unpack", "hash"]);
}

#[test]
fn links_and_files_are_added_but_hide_nothing() {
    let home = tempfile::tempdir().unwrap();
    let one = package(home.path(), "one", &deb(&[Item::File("./usr/bin/gawk", 0o755, "")], Compression::None));
    let mut spec = spec(vec![one]);
    spec.links.push(Link { path: "usr/bin/awk".into(), target: "gawk".into() });
    spec.files.push(TextFile { path: "etc/passwd".into(), content: "root\n".into(), mode: 0o640 });
    let image = build(&spec, home.path(), &mut |_| ()).unwrap();
    assert_eq!(fs::read_link(image.rootfs.join("usr/bin/awk")).unwrap(), Path::new("gawk"));
    assert_eq!(fs::metadata(image.rootfs.join("etc/passwd")).unwrap().mode() & 0o7777, 0o640);
    spec.links.push(Link { path: "usr/bin/gawk".into(), target: "mawk".into() });
    let error = build(&spec, home.path(), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("ships usr/bin/gawk"), "{error}");
}

#[test]
fn the_input_hash_changes_exactly_when_an_input_does() {
    let package = |name: &str, sha256: &str| Package { name: name.into(), path: name.into(), sha256: sha256.into() };
    let base = Spec {
        packages: vec![package("a", "1"), package("b", "2")],
        links: vec![Link { path: "p".into(), target: "t".into() }],
        files: vec![TextFile { path: "f".into(), content: "c".into(), mode: 0o644 }],
    };
    let hash_with = |change: &dyn Fn(&mut Spec)| {
        let mut spec = base.clone();
        change(&mut spec);
        input_hash(&spec)
    };
    let same = input_hash(&base);
    assert_eq!(hash_with(&|s| s.packages[0].path = "elsewhere".into()), same);
    let changes: [&dyn Fn(&mut Spec); 8] = [
        &|s| s.packages[0].sha256 = "3".into(),
        &|s| s.packages.swap(0, 1),
        &|s| s.packages.truncate(1),
        &|s| s.links[0].path = "pt".into(),
        &|s| (s.links[0].path, s.links[0].target) = ("pt".into(), String::new()),
        &|s| s.files[0].content = "d".into(),
        &|s| s.files[0].mode = 0o600,
        &|s| s.files.clear(),
    ];
    let mut hashes: Vec<_> = changes.iter().map(|change| hash_with(change)).collect();
    hashes.push(same);
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), changes.len() + 1);
}
