//! Tests of reading a payload: what is found in one, and what is refused.

use super::*;
use crate::bundle::manifest;

/// A payload under construction.
#[derive(Clone)]
struct Parts {
    assets: AssetsManifest,
    aot: AotManifest,
    members: Vec<(String, Vec<u8>)>,
    code: Vec<(String, Vec<u8>)>,
}

fn tar(entries: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, contents) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(if contents.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory });
        header.set_size(contents.map_or(0, |contents| contents.len() as u64));
        builder.append_data(&mut header, path, contents.unwrap_or_default()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn parts() -> Parts {
    let files = tar(&[("base", None), ("base/1", Some(b"relation"))]);
    let frame = zstd::bulk::compress(&files, 1).unwrap();
    let module = |name: &str, path: Option<&str>| manifest::Module {
        name: name.to_string(),
        path: path.map(str::to_string),
        wasm_sha256: format!("{name}-wasm"),
        extension: None,
    };
    let artifact = |name: &str| manifest::Artifact {
        name: name.to_string(),
        wasm_sha256: format!("{name}-wasm"),
        member: format!("{name}.aot.zst"),
        sha256: artifact::sha256(b"code"),
        size: 4,
    };
    let archive = Archive {
        name: TEMPLATE.to_string(),
        member: "template.tar.zst".to_string(),
        sha256: artifact::sha256(&frame),
        unpacked: files.len() as u64,
        files: vec![],
    };
    let engine = manifest::Engine {
        wasmer: crate::wasm::engine::WASMER_VERSION.to_string(),
        artifact_version: 24,
        cpu_features: Vec::new(),
        settings: BTreeMap::new(),
    };
    Parts {
        assets: AssetsManifest {
            format: FORMAT,
            build: "b".to_string(),
            postgresql: "17.11".to_string(),
            abi: abi::VERSION as u32,
            image: "i".to_string(),
            toolchain: BTreeMap::new(),
            modules: vec![module("postgres", None), module("plpgsql", Some("usr/lib/postgresql/plpgsql.so"))],
            programs: vec![],
            extensions: vec![],
            archives: vec![archive],
        },
        aot: AotManifest {
            format: FORMAT,
            build: "b".to_string(),
            target: "t".to_string(),
            engine,
            artifacts: vec![artifact("postgres"), artifact("plpgsql")],
        },
        members: vec![("template.tar.zst".to_string(), frame)],
        code: ["postgres.aot.zst", "plpgsql.aot.zst"]
            .map(|name| (name.to_string(), zstd::bulk::compress(b"code", 1).unwrap()))
            .to_vec(),
    }
}

fn packed(parts: &Parts) -> (&'static [u8], &'static [u8]) {
    let pack = |manifest: Vec<u8>, members: &[(String, Vec<u8>)]| -> &'static [u8] {
        let mut entries = vec![(MANIFEST, Some(&manifest[..]))];
        entries.extend(members.iter().map(|(name, bytes)| (name.as_str(), Some(&bytes[..]))));
        tar(&entries).leak()
    };
    let assets = pack(serde_json::to_vec(&parts.assets).unwrap(), &parts.members);
    (assets, pack(serde_json::to_vec(&parts.aot).unwrap(), &parts.code))
}

fn payload(parts: &Parts) -> Result<Payload> {
    of(&[packed(parts)])
}

fn of(parts: &[(&'static [u8], &'static [u8])]) -> Result<Payload> {
    Ok(Payload::new(parts)?)
}

/// The hash of a module, as far as anybody can tell.
const CUBE: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// The same build's part with one extension, `cube`, in the place of PostgreSQL.
fn extensions() -> Parts {
    let mut parts = parts();
    let module = &mut parts.assets.modules[1];
    (module.name, module.path) = ("cube".to_string(), Some("usr/lib/postgresql/cube.so".to_string()));
    module.extension = Some("cube".to_string());
    module.wasm_sha256 = CUBE.to_string();
    (parts.aot.artifacts[1].name, parts.aot.artifacts[1].wasm_sha256) = ("cube".to_string(), CUBE.to_string());
    parts.assets.modules.remove(0);
    parts.aot.artifacts.remove(0);
    parts.assets.archives.clear();
    parts.members.clear();
    parts
}

fn refusal(change: impl FnOnce(&mut Parts)) -> String {
    let mut parts = parts();
    change(&mut parts);
    let error = match payload(&parts) {
        Ok(payload) => payload.template().map(drop).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Payload);
    error.to_string().trim_start_matches("the PostgreSQL in this program is damaged: ").to_string()
}

#[test]
fn a_whole_payload_gives_modules_and_files() {
    let payload = payload(&parts()).unwrap();
    let names: Vec<&str> = payload.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, ["postgres", "plpgsql"]);
    assert_eq!(payload.artifacts[1].verified_bytes().unwrap(), b"code");
    let volume = payload.volume(Arc::new(ImageFs::new(payload.template().unwrap()))).unwrap();
    let contents = |path| {
        let place = volume.place(path).unwrap();
        crate::fs::test_support::read(&**place.fs, place.path)
    };
    assert_eq!(contents("/pgdata/base/1"), b"relation");
    assert_eq!(contents("/usr/lib/postgresql/plpgsql.so"), b"pglite-oxide module sha256:plpgsql-wasm\n");
    assert!(Arc::ptr_eq(&payload.template().unwrap(), &payload.template().unwrap()));
}

/// A checkout without a build, and a target for which nothing was compiled.
#[test]
fn a_build_without_files_or_without_modules_for_the_machine_names_the_repair() {
    let whole: &[u8] = b"";
    for (feature, what) in [("", "no PostgreSQL"), ("extensions-x", "no extensions of the feature `extensions-x`")] {
        for (files, code) in [(None, None), (Some(whole), None), (None, Some(whole))] {
            let error = Payload::of_parts(&[Part { feature, files, code }]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Payload);
            assert!(error.to_string().contains(&format!("{what} for this machine")), "{error}");
            assert!(error.to_string().contains("cargo xtask assets build"), "{error}");
        }
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    assert_eq!(
        refusal(|p| p.aot.build = "c".to_string()),
        "files of build b and compiled modules of build c do not belong together"
    );
    assert_eq!(refusal(|p| p.assets.format = 9), format!("the assets have format 9, this crate reads {FORMAT}"));
    assert_eq!(
        refusal(|p| p.assets.abi = 9),
        format!("PostgreSQL was built for host interface version 9, this crate has {}", abi::VERSION)
    );
    assert_eq!(
        refusal(|p| p.aot.artifacts[1].wasm_sha256 = "x".to_string()),
        "artifact plpgsql: compiled from x, expected plpgsql-wasm"
    );
    assert_eq!(refusal(|p| drop(p.aot.artifacts.pop())), "module plpgsql was not compiled for this machine");
}

#[test]
fn parts_of_one_build_are_one_payload() {
    let (server, mut more) = (packed(&parts()), extensions());
    let payload = of(&[server, packed(&more)]).unwrap();
    let names: Vec<&str> = payload.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, ["postgres", "plpgsql", "cube"]);
    (more.assets.build, more.aot.build) = ("c".to_string(), "c".to_string());
    let error = of(&[server, packed(&more)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Payload);
    assert!(error.to_string().ends_with("PostgreSQL of build b and extensions of build c do not belong together"));
}

/// A bundle of the parts, with the code for this machine, and then changed.
fn bundle(parts: &Parts, change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> &'static [u8] {
    let (files, code) = packed(parts);
    let triple = crate::wasm::engine::host_triple();
    let mut members = vec![("files.tar".to_string(), files.to_vec()), (format!("{triple}.tar"), code.to_vec())];
    change(&mut members);
    let entries: Vec<(&str, Option<&[u8]>)> =
        members.iter().map(|(name, bytes)| (name.as_str(), Some(&bytes[..]))).collect();
    tar(&entries).leak()
}

/// The same with an archive of one file.
fn with_files() -> Parts {
    let mut parts = extensions();
    let files = tar(&[("extension/cube.control", Some(b"control"))]);
    let frame = zstd::bulk::compress(&files, 1).unwrap();
    parts.assets.archives.push(Archive {
        name: "extension/cube".to_string(),
        member: "extension-cube.tar.zst".to_string(),
        sha256: artifact::sha256(&frame),
        unpacked: files.len() as u64,
        files: vec![manifest::File("extension/cube.control".to_string(), 512, 7)],
    });
    parts.members.push(("extension-cube.tar.zst".to_string(), frame));
    parts
}

#[test]
fn a_bundle_is_one_more_part() {
    let mut payload = payload(&parts()).unwrap();
    user::add(&mut payload, bundle(&with_files(), |_| ())).unwrap();
    let names: Vec<&str> = payload.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, ["postgres", "plpgsql", "cube"]);
    let volume = payload.volume(Arc::new(ImageFs::new(payload.template().unwrap()))).unwrap();
    let place = volume.place("/usr/lib/postgresql/cube.so").unwrap();
    assert_eq!(
        crate::fs::test_support::read(&**place.fs, place.path),
        format!("pglite-oxide module sha256:{CUBE}\n").as_bytes(),
        "not the placeholder of the feature that has one of this name"
    );
}

#[test]
fn a_bundle_that_cannot_be_used_is_refused_before_anything_starts() {
    let triple = crate::wasm::engine::host_triple();
    let refused = |base: &Parts, bytes: &'static [u8]| {
        let mut payload = payload(base).unwrap();
        user::add(&mut payload, bytes).unwrap_err().of("the bundle x cannot be used").to_string()
    };
    let changed = |change: fn(&mut Parts)| {
        let mut parts = extensions();
        change(&mut parts);
        refused(&self::parts(), bundle(&parts, |_| ()))
    };
    let other = changed(|parts| (parts.assets.build, parts.aot.build) = ("c".to_string(), "c".to_string()));
    assert!(other.contains("made for build c, and this program has build b; build the bundle with `cargo"), "{other}");
    let twice = changed(|parts| parts.assets.modules[0].name = "plpgsql".to_string());
    assert!(twice.contains("module plpgsql was not compiled"), "{twice}");
    let elsewhere = changed(|parts| parts.assets.modules[0].path = Some("etc/cube.so".to_string()));
    assert!(elsewhere.contains("its module cube is not where modules are; build"), "{elsewhere}");
    let archive = changed(|parts| parts.assets.archives = self::parts().assets.archives);
    assert!(archive.contains("its archive template has no list of files"), "{archive}");

    // Code of another module, sizes that nothing has, and damage that only unpacking finds.
    let same = changed(|parts| {
        (parts.assets.modules[0].wasm_sha256, parts.aot.artifacts[0].wasm_sha256) =
            ("plpgsql-wasm".to_string(), "plpgsql-wasm".to_string());
    });
    assert!(same.contains("has the code of the module cube, under another name already"), "{same}");
    let hash = changed(|parts| {
        (parts.assets.modules[0].wasm_sha256, parts.aot.artifacts[0].wasm_sha256) = ("x".to_string(), "x".to_string());
    });
    assert!(hash.contains("its module cube has no hash"), "{hash}");
    let large = changed(|parts| parts.aot.artifacts[0].size = u64::MAX);
    assert!(large.contains("its artifact cube is too large"), "{large}");
    let code = changed(|parts| parts.code[1].1[5] ^= 1);
    assert!(code.contains("artifact cube: "), "{code}");
    let files = |change: fn(&mut Parts)| {
        let mut parts = with_files();
        change(&mut parts);
        refused(&self::parts(), bundle(&parts, |_| ()))
    };
    let unpacked = files(|parts| parts.assets.archives[0].unpacked = u64::MAX);
    assert!(unpacked.contains("its archive extension/cube has no list of files, or no size"), "{unpacked}");
    let flipped = files(|parts| parts.members[0].1[9] ^= 1);
    assert!(flipped.contains("archive extension/cube: expected SHA-256"), "{flipped}");

    // What is there already, in the program or in another bundle.
    let mut base = parts();
    base.assets.modules[1] = extensions().assets.modules[0].clone();
    base.aot.artifacts[1] = extensions().aot.artifacts[0].clone();
    let module = refused(&base, bundle(&extensions(), |_| ()));
    assert!(module.contains("another bundle has a module cube already; leave one"), "{module}");
    let (mut base, mut more) = (parts(), extensions());
    let created = manifest::Created {
        name: "cube".to_string(),
        version: "1".to_string(),
        comment: String::new(),
        requires: vec![],
    };
    let extension = |name: &str| manifest::Extension {
        name: name.to_string(),
        license: "MIT".to_string(),
        creates: vec![created.clone()],
        preload: vec![],
    };
    (base.assets.extensions, more.assets.extensions) = (vec![extension("a")], vec![extension("b")]);
    let extension = refused(&base, bundle(&more, |_| ()));
    assert!(extension.contains("another bundle has an extension cube already"), "{extension}");

    // Files that are no bundle, of another machine, cut off.
    let whole = bundle(&extensions(), |_| ());
    for bytes in [b"".as_slice(), b"PGDMP", &[b'x'; 2048], bundle(&extensions(), |members| drop(members.remove(0)))] {
        let error = refused(&parts(), bytes);
        assert!(error.contains("it is no bundle; build the bundle with `cargo xtask extension build`"), "{error}");
    }
    let machine = refused(&parts(), bundle(&extensions(), |members| members[1].0 = "other-machine.tar".to_string()));
    let expected = format!("it has code for other-machine and not for {triple}; build it with `--target {triple}` too");
    assert!(machine.ends_with(&expected), "{machine}");
    // The end is zeros.
    for len in (0..whole.len() - 1024).step_by(97) {
        refused(&parts(), &whole[..len]);
    }
}

#[test]
#[cfg(all(feature = "extensions", feature = "extensions-gpl", feature = "extensions-postgis"))]
fn every_feature_of_the_catalog_has_a_part() {
    let parts: std::collections::BTreeSet<&str> = PARTS.iter().skip(1).map(|part| part.feature).collect();
    let known = crate::extensions::ALL.iter().map(|known| known.feature()).collect();
    assert_eq!(parts, known);
}

/// A database may need a module that this program was built without.
#[test]
fn a_module_of_a_missing_feature_is_a_file_whose_code_names_the_feature() {
    let payload = payload(&parts()).unwrap();
    let volume = payload.volume(Arc::new(ImageFs::new(payload.template().unwrap()))).unwrap();
    let place = volume.place("/usr/lib/postgresql/hstore.so").unwrap();
    let placeholder = crate::fs::test_support::read(&**place.fs, place.path);
    assert_eq!(placeholder, b"pglite-oxide module sha256:none, hstore is not in this program\n");
    let error = payload.require_extension("hstore").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().ends_with("hstore: add the feature `extensions-contrib` of pglite-oxide"), "{error}");
}

#[test]
fn code_whose_hash_is_not_the_described_one_is_refused() {
    let mut parts = parts();
    parts.code[1].1 = zstd::bulk::compress(b"Code", 1).unwrap();
    let error = payload(&parts).unwrap().artifacts[1].verified_bytes().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Payload);
    assert!(error.to_string().starts_with("artifact plpgsql: expected 4 bytes with SHA-256 "), "{error}");
}

#[test]
fn the_format_is_judged_before_the_fields_that_it_defines() {
    let whole = parts();
    let aot = tar(&[(MANIFEST, Some(&serde_json::to_vec(&whole.aot).unwrap()))]).leak();
    for json in [r#"{"format":9,"added":1}"#, r#"{"format":1}"#] {
        let error = of(&[(tar(&[(MANIFEST, Some(json.as_bytes()))]).leak(), aot)]).unwrap_err().to_string();
        assert!(error.contains(&format!("this crate reads {FORMAT}")), "{error}");
    }
    let assets = tar(&[(MANIFEST, Some(&serde_json::to_vec(&whole.assets).unwrap()))]).leak();
    let error = of(&[(assets, tar(&[(MANIFEST, Some(br#"{"format":9}"#))]).leak())]).unwrap_err().to_string();
    assert!(error.contains("the compiled modules have format 9"), "{error}");
}

#[test]
fn damage_is_named() {
    assert_eq!(refusal(|p| drop(p.code.pop())), "artifact plpgsql: there is no member plpgsql.aot.zst");
    assert_eq!(refusal(|p| p.members.clear()), "archive template: there is no member template.tar.zst");
    let flipped = refusal(|p| p.members[0].1[8] ^= 1);
    assert!(flipped.starts_with("archive template: expected SHA-256 "), "{flipped}");
    let short = refusal(|p| p.assets.archives[0].unpacked = 10);
    assert!(short.starts_with("archive template: cannot unpack it"), "{short}");
    assert!(of(&[(b"", b"")]).unwrap_err().to_string().contains("the assets have no manifest.json"));
}

#[test]
fn an_archive_with_a_list_of_its_files_is_unpacked_when_one_is_read() {
    let tar = tar(&[("extension/one.control", Some(b"one")), ("extension/two.sql", Some(b"second"))]);
    let start = |text: &[u8]| tar.windows(text.len()).position(|found| found == text).unwrap() as u64;
    let files = vec![
        manifest::File("extension/one.control".to_string(), start(b"one\0"), 3),
        manifest::File("extension/two.sql".to_string(), start(b"second"), 6),
    ];
    let frame = zstd::bulk::compress(&tar, 1).unwrap();
    let archive = Archive {
        name: "extension/one".to_string(),
        member: "extension-one.tar.zst".to_string(),
        sha256: artifact::sha256(&frame),
        unpacked: tar.len() as u64,
        files,
    };
    let read = |change: fn(&mut Parts)| {
        let mut parts = parts();
        parts.members.push((archive.member.clone(), frame.clone()));
        parts.assets.archives.push(archive.clone());
        change(&mut parts);
        let payload = payload(&parts)?;
        let fs = ImageFs::new(payload.system()?);
        let file = fs.open("usr/share/postgresql/extension/two.sql", Default::default(), 0).unwrap();
        let mut bytes = vec![0; file.stat().unwrap().len as usize];
        Ok::<_, Error>(file.read_at(0, &mut bytes).map(|_| bytes))
    };
    assert_eq!(read(|_| ()).unwrap().unwrap(), b"second");
    // What is damaged is found by the first read, and what cannot be right at once.
    assert_eq!(read(|parts| parts.assets.archives[1].sha256 = "0".to_string()).unwrap(), Err(Errno::IO));
    let error = read(|parts| parts.assets.archives[1].files[0].2 = u64::MAX).unwrap_err();
    assert!(error.to_string().contains("is cut off in extension/one.control"), "{error}");
    let error = read(|parts| drop(parts.members.pop())).unwrap_err();
    assert!(error.to_string().contains("there is no member extension-one.tar.zst"), "{error}");
}

#[test]
fn extensions_are_found_by_name_and_by_part_and_preload_what_they_require() {
    let created = |name: &str, requires: &[&str]| manifest::Created {
        name: name.to_string(),
        version: "1".to_string(),
        comment: String::new(),
        requires: requires.iter().map(|name| name.to_string()).collect(),
    };
    let extension = |name: &str, creates: Vec<manifest::Created>, preload: &[&str]| manifest::Extension {
        name: name.to_string(),
        license: "MIT".to_string(),
        creates,
        preload: preload.iter().map(|name| name.to_string()).collect(),
    };
    let mut parts = parts();
    parts.assets.extensions = vec![
        extension("early", vec![created("early", &["upper"])], &["early"]),
        extension("family", vec![created("one", &["early"]), created("two", &[])], &[]),
        extension("loaded", vec![], &["loaded"]),
        extension("upper", vec![created("upper", &["early"])], &["early", "other"]),
    ];
    let mut payload = payload(&parts).unwrap();
    payload.features = vec!["extensions-contrib"];
    let preload = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        payload.preload(&names).join(" ")
    };
    assert_eq!(preload(&["loaded", "upper", "loaded"]), "loaded early other");
    assert_eq!(preload(&["one"]), "early other");
    assert_eq!(preload(&["unknown"]), "");
    let created = ["two", "plpgsql", "loaded", "family"].map(|name| payload.is_created(name));
    assert_eq!(created, [true, true, false, false]);
    payload.require_extension("two").unwrap();
    payload.require_extension("plpgsql").unwrap();
    let error = payload.require_extension("age").unwrap_err();
    assert!(error.to_string().contains("extension age: the mirrors do not serve its source; if you"), "{error}");
    let error = payload.require_extension("TWO").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    // Of the catalog, but not in this payload.
    let error = payload.require_extension("citext").unwrap_err();
    assert!(error.to_string().starts_with("this build does not contain the extension citext; "), "{error}");
}
