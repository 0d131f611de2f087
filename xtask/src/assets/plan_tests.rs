//! Tests which steps an edit repeats, for the files of this checkout.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::assets::reproduce::copy_checkout;
use crate::pipeline::fingerprint::Fingerprint;

type AllInputs = BTreeMap<StepId, BTreeMap<String, Fingerprint>>;

/// A copy of the checkout.
struct Checkout {
    copy: tempfile::TempDir,
    /// Before any edit.
    before: OnceCell<AllInputs>,
}

impl Checkout {
    fn new() -> Self {
        let copy = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        copy_checkout(root, copy.path()).unwrap();
        Self { copy, before: OnceCell::new() }
    }

    fn plan(&self) -> Plan {
        let root = self.copy.path().to_path_buf();
        let paths = Paths { root: root.clone(), cache: PathBuf::from("cache") };
        let host = Host {
            sysroot: PathBuf::from("rust"),
            triple: "x86_64-unknown-linux-gnu".into(),
            rust: "1.0.0".into(),
            cargo_home: PathBuf::from("cargo"),
        };
        let lock = Lock::read(&paths.lock()).unwrap();
        let extensions = Extension::all(&root).unwrap();
        let image_inputs = "image".to_owned();
        let (paths, lock, host, extensions) = (&paths, &lock, &host, &extensions);
        plan(&Wanted { paths, lock, image_inputs, host, extensions, targets: targets::TARGETS }).unwrap()
    }

    fn inputs(&self) -> AllInputs {
        self.plan().steps.into_iter().map(|step| (step.id, step.inputs)).collect()
    }

    /// The steps whose own inputs an edit changes; the edit is undone.
    fn steps_of(&self, file: &str, edit: impl Fn(&str) -> String) -> String {
        let path = self.copy.path().join(file);
        let before = self.before.get_or_init(|| self.inputs());
        let text = fs::read_to_string(&path).ok();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let edited = edit(text.as_deref().unwrap_or_default());
        assert_ne!(Some(&edited), text.as_ref(), "{file}");
        fs::write(&path, edited).unwrap();
        let after = self.inputs();
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => {
                fs::remove_file(&path).unwrap();
                // A directory that the edit has made goes as well; one with other files stays.
                let _ = path.parent().map(fs::remove_dir);
            }
        }
        let changed = after.iter().filter(|(id, inputs)| before.get(id) != Some(inputs));
        let changed: Vec<String> = changed.map(|(id, _)| id.to_string()).collect();
        if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") }
    }
}

/// The steps of an edit, without the names of all extensions.
fn briefly(steps: &str) -> &str {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let extensions = Extension::all(root).unwrap();
    let compiled = extensions.iter().filter(|e| !e.is_server()).map(|e| format!("guest/{}", e.name));
    let libraries = libraries(&extensions).into_iter().map(|name| format!("library/{name}"));
    let others = ["guest/modules", "guest/postgresql", "guest/programs"].map(str::to_owned);
    let all: BTreeSet<String> = compiled.chain(libraries).chain(others).collect();
    if steps.split(", ").map(str::to_owned).collect::<BTreeSet<_>>() == all {
        "all that compile for the guest"
    } else {
        steps
    }
}

#[test]
fn an_edit_re_makes_what_is_made_of_the_file_and_nothing_else() {
    let checkout = Checkout::new();
    let append = |text: &'static str| move |before: &str| format!("{before}{text}");
    let rust = append("\n// A comment.\n");
    let code = append("\nfn more() {}\n");
    let c = append("\n/* A comment. */\n");
    let edits: Vec<(&str, String)> = vec![
        ("README.md", checkout.steps_of("README.md", append("more"))),
        ("a comment of the runtime", checkout.steps_of("xtask/initdb/src/config.rs", rust)),
        ("the program of the template", checkout.steps_of("xtask/initdb/src/config.rs", code)),
        ("the AOT compiler", checkout.steps_of("xtask/aot-compiler/src/unwind.rs", code)),
        ("a comment of the AOT compiler", checkout.steps_of("xtask/aot-compiler/src/unwind.rs", rust)),
        ("a test of the runtime", checkout.steps_of("pglite-oxide/tests/new.rs", code)),
        ("a benchmark", checkout.steps_of("xtask/bench/src/main.rs", code)),
        ("the list of checks", checkout.steps_of("xtask/src/test.rs", code)),
        ("the reader of control files", checkout.steps_of("xtask/src/assets/control.rs", code)),
        ("the post-link step", checkout.steps_of("xtask/src/wasm/postlink.rs", code)),
        ("C of the port", checkout.steps_of("assets/guest/overlay/src/backend/port/pgl_libc.c", c)),
        ("C of the client programs", checkout.steps_of("assets/guest/programs/pgl_channel.c", c)),
        ("a patch of PostgreSQL", checkout.steps_of("assets/patches/postgresql/9999-new.patch", c)),
        ("a patch of an extension", checkout.steps_of("assets/patches/pgvector/9999-new.patch", c)),
        ("a patch of an extension of the tree", checkout.steps_of("assets/patches/pg_trgm/9999-new.patch", c)),
        (
            "the family of an extension",
            checkout.steps_of("assets/extensions/vector.toml", |before| {
                before.replace("family = \"vector\"", "family = \"community\"")
            }),
        ),
        ("a comment about an extension", checkout.steps_of("assets/extensions/vector.toml", append("# x\n"))),
        (
            "a flag of an extension",
            checkout.steps_of("assets/extensions/vector.toml", |text| text.replace("-msimd128", "-O3")),
        ),
        (
            "the smoke test of an extension",
            checkout.steps_of("assets/extensions/vector.toml", |text| text.replace("smoke = [\"", "smoke = [\" ")),
        ),
        (
            "a new extension",
            checkout.steps_of("assets/extensions/new.toml", |_| {
                "license = \"PostgreSQL\"\nfamily = \"contrib\"\nmodules = [\"new\"]\nsmoke = []\n[source]\ncontrib = \"new\"\n".to_owned()
            }),
        ),
        ("the link of the client programs", checkout.steps_of("assets/build/programs.sh", append("\n"))),
        ("the check of the format of C", checkout.steps_of("assets/build/format.sh", append("\n"))),
        ("the names of types, for that check", checkout.steps_of("assets/guest/typedefs.list", append("x\n"))),
        ("the C compiler's flags", checkout.steps_of("assets/build/flags.sh", append("\n"))),
    ];
    let lines: String = edits.into_iter().map(|(what, steps)| format!("{what}: {}\n", briefly(&steps))).collect();
    insta::assert_snapshot!(lines, @"
    README.md: nothing
    a comment of the runtime: nothing
    the program of the template: template/program
    the AOT compiler: aot/compiler
    a comment of the AOT compiler: nothing
    a test of the runtime: nothing
    a benchmark: nothing
    the list of checks: nothing
    the reader of control files: payload/assets
    the post-link step: guest/modules, guest/programs
    C of the port: guest/postgresql
    C of the client programs: guest/programs
    a patch of PostgreSQL: guest/postgresql
    a patch of an extension: guest/vector
    a patch of an extension of the tree: guest/pg_trgm
    the family of an extension: payload/aarch64-apple-darwin, payload/aarch64-unknown-linux-gnu, payload/assets, payload/x86_64-pc-windows-msvc, payload/x86_64-unknown-linux-gnu
    a comment about an extension: nothing
    a flag of an extension: guest/vector
    the smoke test of an extension: nothing
    a new extension: aot/aarch64-apple-darwin/new, aot/aarch64-unknown-linux-gnu/new, aot/x86_64-pc-windows-msvc/new, aot/x86_64-unknown-linux-gnu/new, guest/modules, guest/new, payload/aarch64-apple-darwin, payload/aarch64-unknown-linux-gnu, payload/assets, payload/x86_64-pc-windows-msvc, payload/x86_64-unknown-linux-gnu, test/suites
    the link of the client programs: guest/programs
    the check of the format of C: nothing
    the names of types, for that check: nothing
    the C compiler's flags: all that compile for the guest
    ");
}

#[test]
fn a_module_is_compiled_by_a_step_that_reads_it_and_nothing_else() {
    let plan = Checkout::new().plan();
    let of = |id: StepId| {
        let needs = plan.step(&id).unwrap().after.iter().map(|need| format!("{need}\n"));
        needs.collect::<String>()
    };
    insta::assert_snapshot!(of(id::aot("aarch64-unknown-linux-gnu", "vector").unwrap()), @"
    aot/compiler
    guest/modules:shipped/vector.wasm
    image
    ");
    insta::assert_snapshot!(of(id::template().unwrap()), @"
    aot/x86_64-unknown-linux-gnu/conversions
    aot/x86_64-unknown-linux-gnu/dict_snowball
    aot/x86_64-unknown-linux-gnu/pgoutput
    aot/x86_64-unknown-linux-gnu/plpgsql
    aot/x86_64-unknown-linux-gnu/postgres
    guest/postgresql:install/usr/share/postgresql
    template/program
    ");
}
