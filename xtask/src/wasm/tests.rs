//! Hand-made modules through the post-link step and the link check.

use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use super::dylink::{self, Dylink};
use super::host::HostProvided;
use super::linkcheck::{LinkReport, linkcheck, needed_exports};
use super::postlink::postlink;

/// The output of wasm-ld for a small program with the flags of the guest build: 4 bytes of
/// thread-local data at 1024, data up to 1472, two table slots.
const MAIN: &str = r#"(module
    (type $unary (func (param i32) (result i32)))
    (import "env" "memory" (memory 130 65536 shared))
    (import "env" "__indirect_function_table" (table 2 funcref))
    (import "env" "__c_longjmp" (tag (param i32)))
    (import "pgl_host" "wait" (func $wait (param i32) (result i32)))
    (global $__stack_pointer (mut i32) (i32.const 8391104))
    (global $__tls_base (mut i32) (i32.const 0))
    (global $__tls_size i32 (i32.const 4))
    (global $__tls_align i32 (i32.const 4))
    (global $answer i32 (i32.const 1036))
    (global $tls_value i32 (i32.const 0))
    (global $low i32 (i32.const 1472))
    (global $high i32 (i32.const 8391104))
    (global $base i32 (i32.const 1024))
    (global $heap i32 (i32.const 8391104))
    (export "__tls_base" (global $__tls_base))
    (export "__tls_size" (global $__tls_size))
    (export "__tls_align" (global $__tls_align))
    (export "answer" (global $answer))
    (export "tls_value" (global $tls_value))
    (export "__stack_low" (global $low))
    (export "__stack_high" (global $high))
    (export "__global_base" (global $base))
    (export "__heap_base" (global $heap))
    (export "call_me" (func $call_me))
    (elem (i32.const 1) func $call_me)
    (func $call_me (type $unary)
        (global.set $__stack_pointer (i32.sub (global.get $__stack_pointer) (i32.const 16)))
        (i32.add (call $wait (local.get 0)) (global.get $__tls_size)))
    (data "seven\00")
    (@custom "producers" (after data) "\00")
)"#;

/// The output of wasm-ld for a side module that uses it.
const SIDE: &str = r#"(module
    (@dylink.0 (mem-info (memory 24 2) (table 1 0)))
    (import "env" "memory" (memory 0 65536 shared))
    (import "env" "__indirect_function_table" (table 1 funcref))
    (import "env" "__stack_pointer" (global (mut i32)))
    (import "env" "__memory_base" (global i32))
    (import "env" "__table_base" (global i32))
    (import "GOT.mem" "answer" (global (mut i32)))
    (import "GOT.func" "call_me" (global (mut i32)))
    (import "GOT.mem" "own_data" (global (mut i32)))
    (import "env" "__c_longjmp" (tag (param i32)))
    (import "env" "call_me" (func (param i32) (result i32)))
    (global $own_data i32 (i32.const 8))
    (export "own_data" (global $own_data))
)"#;

#[test]
fn postlink_changes_dylink_imports_and_globals_only() {
    let before = assemble(MAIN);
    let after = postlink(&before).unwrap();
    validate(&after);
    insta::assert_snapshot!(sections(&before), @"
    type: 10 bytes
    import: 88 bytes
    function: 2 bytes
    global: 63 bytes
    export: 131 bytes
    element: 7 bytes
    code: 18 bytes
    data: 9 bytes
    producers: 11 bytes
    name: 132 bytes
    ");
    insta::assert_snapshot!(sections(&after), @"
    dylink.0: 31 bytes
    type: 10 bytes
    import: 111 bytes
    function: 2 bytes
    global: 53 bytes
    export: 131 bytes
    element: 7 bytes
    code: 18 bytes
    data: 9 bytes
    producers: 11 bytes
    name: 132 bytes
    ");
    insta::assert_debug_snapshot!(dylink::parse("main", &after).unwrap(), @r#"
    Some(
        Dylink {
            memory_size: 448,
            memory_alignment: 10,
            table_size: 1,
            table_alignment: 0,
            needed: [],
            tls_exports: {
                "tls_value",
            },
        },
    )
    "#);
    insta::assert_snapshot!(globals(&after), @"
    import env.__stack_pointer mutable=true
    1 mutable=true I32Const { value: 0 }
    2 mutable=false I32Const { value: 4 }
    3 mutable=false I32Const { value: 4 }
    4 mutable=false I32Const { value: 12 }
    5 mutable=false I32Const { value: 0 }
    6 mutable=false I32Const { value: 1472 }
    7 mutable=false I32Const { value: 8391104 }
    8 mutable=false I32Const { value: 0 }
    9 mutable=false I32Const { value: 8390080 }
    ");
    for (id, contents) in contents(&before) {
        if !matches!(id, 2 | 6) {
            assert!(contents_of(&after, id).contains(&contents), "section {id} changed");
        }
    }
}

#[test]
fn postlink_refuses_what_the_loader_would_place_elsewhere() {
    let cases = [
        ("unshared memory", "(memory 130 65536 shared)", "(memory 130 65536)"),
        ("no memory", r#"(import "env" "memory" (memory 130 65536 shared))"#, ""),
        ("other table", r#""__indirect_function_table""#, r#""table""#),
        ("limited table", "(table 2 funcref)", "(table 2 2 funcref)"),
        ("slot 0 is used", "(elem (i32.const 1)", "(elem (i32.const 0)"),
        ("slot behind the table", "(elem (i32.const 1)", "(elem (i32.const 2)"),
        (
            "immutable stack pointer",
            "(global $__stack_pointer (mut i32) (i32.const 8391104))",
            "(global $__stack_pointer i32 (i32.const 8391104))",
        ),
        (
            "wide stack pointer",
            "(global $__stack_pointer (mut i32) (i32.const 8391104))",
            "(global $__stack_pointer (mut i64) (i64.const 8391104))",
        ),
        (
            "stack pointer elsewhere",
            "(global $__stack_pointer (mut i32) (i32.const 8391104))",
            "(global $__stack_pointer (mut i32) (i32.const 4096))",
        ),
        (
            "imported global",
            "(global $__stack_pointer (mut i32)",
            r#"(global (import "env" "x") i32) (global $__stack_pointer (mut i32)"#,
        ),
        ("other base", "(global $base i32 (i32.const 1024))", "(global $base i32 (i32.const 0))"),
        ("data below the base", r#"(data "seven\00")"#, r#"(data (i32.const 1000) "seven\00")"#),
        ("stack too small", "(global $low i32 (i32.const 1472))", "(global $low i32 (i32.const 2560))"),
        ("stack first", "(global $low i32 (i32.const 1472))", "(global $low i32 (i32.const 0))"),
        ("heap inside the stack", "(global $heap i32 (i32.const 8391104))", "(global $heap i32 (i32.const 8391000))"),
        ("no __stack_low", r#"(export "__stack_low" (global $low))"#, ""),
        ("no address", "(global $answer i32 (i32.const 1036))", "(global $answer i32 (i32.const 900))"),
        ("wide address", "(global $answer i32 (i32.const 1036))", "(global $answer i64 (i64.const 1036))"),
        ("address or offset", "(global $__tls_size i32 (i32.const 4))", "(global $__tls_size i32 (i32.const 1100))"),
        ("thread-local without base", r#"(export "__tls_base" (global $__tls_base))"#, ""),
        ("one global, two meanings", r#"(export "answer" (global $answer))"#, r#"(export "answer" (global $low))"#),
        ("read by code", "(global.get $__tls_size)", "(global.get $answer)"),
        (
            "constructors at each call",
            "(func $call_me (type",
            r#"(func $call_me (@name "call_me.command_export") (type"#,
        ),
        ("linked as PIE", "(type $unary (func", "(@dylink.0 (mem-info (memory 24 2))) (type $unary (func"),
    ];
    let mut errors = String::new();
    for (case, from, to) in cases {
        assert!(MAIN.contains(from), "{case}");
        let error = postlink(&assemble(&MAIN.replace(from, to))).expect_err(case);
        errors += &format!("{case}:\n  {}\n", error.to_string().replace('\n', "\n  "));
    }
    insta::assert_snapshot!(errors, @"
    unshared memory:
      the linked main module imports an unshared or 64-bit memory, expected shared 32-bit
        repair: link with --shared-memory --max-memory=4294967296 for wasm32
    no memory:
      the linked main module does not import env.memory
        repair: link with --import-memory --shared-memory
    other table:
      the linked main module does not import env.__indirect_function_table
        repair: link with --import-table --growable-table
    limited table:
      the linked main module imports a table of funcref with at most 2 slots, expected funcref without a limit, since every side module adds to it
        repair: link with --import-table --growable-table
    slot 0 is used:
      the linked main module fills table slots 0 to 1, expected slots from 1 to 2
        repair: link without --table-base
    slot behind the table:
      the linked main module fills table slots 1 to 3, expected slots from 1 to 2
        repair: link without --table-base
    immutable stack pointer:
      global 0 of the linked main module is not __stack_pointer: expected a mutable i32 global that begins at __stack_high = 8391104, found an immutable i32 global that begins at 8391104
        repair: link with the wasm-ld of the image, which defines the stack pointer first
    wide stack pointer:
      global 0 of the linked main module is not __stack_pointer: expected a mutable i32 global that begins at __stack_high = 8391104, found a global that is not an i32 constant
        repair: link with the wasm-ld of the image, which defines the stack pointer first
    stack pointer elsewhere:
      global 0 of the linked main module is not __stack_pointer: expected a mutable i32 global that begins at __stack_high = 8391104, found a mutable i32 global that begins at 4096
        repair: link with the wasm-ld of the image, which defines the stack pointer first
    imported global:
      the linked main module imports 1 globals, expected none: the stack pointer must stay global 0
        repair: link without -pie, -shared and --unresolved-symbols=import-dynamic
    other base:
      in the linked main module the data begins at 0, expected the memory base 1024
        repair: link with --no-stack-first --global-base=1024
    data below the base:
      in the linked main module a data segment begins at 1000, expected the memory base 1024
        repair: link with --no-stack-first --global-base=1024
    stack too small:
      the linked main module has its stack at 2560 to 8391104 and its heap at 8391104; expected a stack after the data that reaches to 8391680, where the loader puts its end, and a heap above it
        repair: link with --no-stack-first -z stack-size=8389632
    stack first:
      the linked main module has its stack at 0 to 8391104 and its heap at 8391104; expected a stack after the data that reaches to 8388608, where the loader puts its end, and a heap above it
        repair: link with --no-stack-first -z stack-size=8389632
    heap inside the stack:
      the linked main module has its stack at 1472 to 8391104 and its heap at 8391000; expected a stack after the data that reaches to 8390656, where the loader puts its end, and a heap above it
        repair: link with --no-stack-first -z stack-size=8389632
    no __stack_low:
      the linked main module does not export __stack_low
        repair: link with --export=__stack_low
    no address:
      export answer of the linked main module is 900: below the memory base 1024 and outside the 4 thread-local bytes, so it is no address
        repair: do not export it
    wide address:
      export answer of the linked main module is a constant global, but no i32: it cannot be an address
        repair: do not export it
    address or offset:
      export answer of the linked main module is 1036: that may be an address or a thread-local offset, since 1100 bytes are thread-local
        repair: keep the thread-local data below 1024 bytes
    thread-local without base:
      export tls_value of the linked main module is thread-local, but the module exports no mutable __tls_base
        repair: link with --export=__tls_base
    one global, two meanings:
      exports __stack_low and answer of the linked main module are one global, but only answer is relocated
    read by code:
      defined function 0 of the linked main module reads the exported address answer, which the post-link step has to change
        repair: do not export answer
    constructors at each call:
      the linked main module runs its constructors at each call of its export call_me: nothing in it calls __wasm_call_ctors
        repair: link crt1-reactor.o, or call __wasm_call_ctors once from code of ours
    linked as PIE:
      the linked main module already has a dylink.0 section, expected wasm-ld's output of a non-PIC link
        repair: link without -pie and -shared, and run the post-link step once
    ");
}

#[test]
fn postlink_refuses_cut_and_foreign_bytes() {
    let whole = assemble(MAIN);
    for length in 0..whole.len() {
        let cut = &whole[..length];
        let is_module = Validator::new_with_features(WasmFeatures::all()).validate_all(cut).is_ok();
        assert!(is_module || postlink(cut).is_err(), "{length} of {} bytes", whole.len());
    }
    assert!(postlink(b"\x7fELF\x02\x01\x01\0\0\0").is_err());
}

#[test]
fn a_stack_that_just_fits_is_taken() {
    // 1472 rounds up to 2048; 8 MiB on top of that must be inside the linked stack.
    let fits = MAIN.replace("8391104", "8390656");
    validate(&postlink(&assemble(&fits)).unwrap());
    let short = MAIN.replace("8391104", "8390640");
    assert!(postlink(&assemble(&short)).is_err());
}

#[test]
fn dylink_section_survives_a_round_trip() {
    let dylink = Dylink {
        memory_size: 1 << 24,
        memory_alignment: 4,
        table_size: 300,
        table_alignment: 0,
        needed: vec!["liba.so".to_owned(), "libb.so".to_owned()],
        tls_exports: ["errno".to_owned()].into(),
    };
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module.extend(dylink.encode());
    validate(&module);
    assert_eq!(dylink::parse("m", &module).unwrap(), Some(dylink.clone()));
    module.extend(dylink.encode());
    insta::assert_snapshot!(dylink::parse("m", &module).unwrap_err(), @"
    m has more than one dylink.0 section, expected one
      repair: link it again; the post-link step must run once, on wasm-ld's own output
    ");
}

#[test]
fn linkcheck_names_who_satisfies_each_import() {
    let report = check(MAIN, &[("side.so", SIDE)]);
    report.verify().unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap(), @r#"
    {
      "modules": [
        {
          "name": "main",
          "exports": 10,
          "imports": {
            "host": [
              "pgl_host.wait"
            ],
            "loader": [
              "env.__c_longjmp",
              "env.__indirect_function_table",
              "env.__stack_pointer",
              "env.memory"
            ]
          },
          "unresolved": []
        },
        {
          "name": "side.so",
          "exports": 1,
          "imports": {
            "loader": [
              "env.__c_longjmp",
              "env.__indirect_function_table",
              "env.__memory_base",
              "env.__stack_pointer",
              "env.__table_base",
              "env.memory"
            ],
            "main": [
              "GOT.func.call_me",
              "GOT.mem.answer",
              "env.call_me"
            ],
            "side.so": [
              "GOT.mem.own_data"
            ]
          },
          "unresolved": []
        }
      ]
    }
    "#);
}

#[test]
fn linkcheck_names_each_import_that_nothing_satisfies() {
    let undefined =
        MAIN.replace("(type $unary (func", r#"(import "env" "fork" (func (result i32))) (type $unary (func"#);
    let other_type = r#"(import "pgl_host" "wait" (func $wait (param i32 i64) (result i32)))"#;
    let other_type = MAIN
        .replace(r#"(import "pgl_host" "wait" (func $wait (param i32) (result i32)))"#, other_type)
        .replace("(call $wait (local.get 0))", "(call $wait (local.get 0) (i64.const 0))");
    let missing = MAIN.replace(r#"(import "pgl_host" "wait""#, r#"(import "pgl_host" "weight""#);
    let cases = [
        (undefined.as_str(), SIDE.to_owned()),
        (other_type.as_str(), SIDE.to_owned()),
        (missing.as_str(), SIDE.to_owned()),
        (MAIN, SIDE.replace(r#"(import "env" "call_me""#, r#"(import "env" "call_you""#)),
        (MAIN, SIDE.replace("(func (param i32) (result i32))", "(func (param i32 i32) (result i32))")),
        (MAIN, SIDE.replace(r#""GOT.mem" "answer""#, r#""GOT.mem" "question""#)),
        (MAIN, SIDE.replace(r#""GOT.mem" "answer""#, r#""GOT.mem" "call_me""#)),
        (MAIN, SIDE.replace(r#""GOT.mem" "answer""#, r#""GOT.mem" "__stack_low""#)),
        (MAIN, SIDE.replace(r#""GOT.func" "call_me""#, r#""GOT.func" "answer""#)),
        (
            MAIN,
            SIDE.replace(r#""GOT.func" "call_me" (global (mut i32))"#, r#""GOT.func" "call_me" (global (mut i64))"#),
        ),
        (MAIN, SIDE.replace(r#""own_data""#, r#""answer""#)),
        (MAIN, SIDE.replace("(memory 0 65536 shared)", "(memory 0 16384 shared)")),
        (MAIN, SIDE.replace("(memory 0 65536 shared)", "(memory 0 65536)")),
        (MAIN, SIDE.replace("(table 1 funcref)", "(table 1 8 funcref)")),
        (MAIN, SIDE.replace(r#""__stack_pointer" (global (mut i32))"#, r#""__stack_pointer" (global i32)"#)),
        (MAIN, SIDE.replace("(tag (param i32))", "(tag (param i64))")),
        (MAIN, SIDE.replace(r#"(import "env" "call_me""#, r#"(import "wasi_snapshot_preview1" "call_me""#)),
    ];
    let mut errors = String::new();
    for (main, side) in cases {
        assert!(main != MAIN || side != SIDE);
        errors += &format!("{}\n", check(main, &[("side.so", &side)]).verify().unwrap_err());
    }
    insta::assert_snapshot!(errors, @"
    1 imports are not satisfied:
      main: env.fork: expected function () -> (i32), found nothing: the symbol is undefined
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      main: pgl_host.wait: expected function (i32, i64) -> (i32), found function (i32) -> (i32) of the host
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      main: pgl_host.weight: expected function (i32) -> (i32), found no such function in that module of the host
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: env.call_you: expected function (i32) -> (i32), found no such export of main
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: env.call_me: expected function (i32, i32) -> (i32), found function (i32) -> (i32) of main
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: GOT.mem.question: expected an address, found no such export of main
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: GOT.mem.call_me: expected an address, found function (i32) -> (i32) of main
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: GOT.mem.__stack_low: expected an address, found a value to which the loader would add the memory base
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: GOT.func.answer: expected a function, found immutable global i32 of main
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: GOT.func.call_me: expected mutable global i64, found a global i32, the only kind of address the loader fills in
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    2 imports are not satisfied:
      side.so: GOT.mem.answer: expected its own immutable global i32, found immutable global i32 of main, which has the same name and comes first (link with -Bsymbolic)
      side.so: GOT.mem.answer: expected its own immutable global i32, found immutable global i32 of main, which has the same name and comes first (link with -Bsymbolic)
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: env.memory: expected shared memory of 0 to 16384 pages, found a shared 32-bit memory of up to 65536 pages
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: env.memory: expected unshared memory of 0 to 65536 pages, found a shared 32-bit memory of up to 65536 pages
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: env.__indirect_function_table: expected table funcref of 1 to 8 slots, found an unlimited table of funcref
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: env.__stack_pointer: expected immutable global i32, found a mutable global i32
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: env.__c_longjmp: expected tag (i64) -> (), found a tag (i32) -> ()
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    1 imports are not satisfied:
      side.so: wasi_snapshot_preview1.call_me: expected function (i32) -> (i32), found nothing: side modules import from main only
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    ");
}

#[test]
fn linkcheck_takes_what_a_needed_module_exports_and_refuses_what_depends_on_load_order() {
    let library = r#"(module
        (@dylink.0 (mem-info (memory 0 0) (table 0 0)))
        (func (export "distance") (param f64) (result f64) (local.get 0)))"#;
    let user = r#"(module
        (@dylink.0 (mem-info (memory 0 0) (table 0 0)) (needed "lib.so"))
        (import "env" "distance" (func (param f64) (result f64))))"#;
    check(MAIN, &[("lib.so", library), ("user.so", user)]).verify().unwrap();
    let without = user.replace(r#" (needed "lib.so")"#, "");
    assert!(check(MAIN, &[("lib.so", library), ("user.so", &without)]).verify().is_err());

    let twice = check(MAIN, &[("a.so", SIDE), ("b.so", SIDE)]).verify().unwrap_err();
    insta::assert_snapshot!(twice, @"
    2 imports are not satisfied:
      a.so: GOT.mem.own_data: expected one definition, found another in b.so (immutable global i32), so the order of loading decides (link with -Bsymbolic)
      b.so: GOT.mem.own_data: expected one definition, found another in a.so (immutable global i32), so the order of loading decides (link with -Bsymbolic)
      repair: define and export each symbol with that type in the main module, or leave the module that imports it out
    ");
}

#[test]
fn linkcheck_lets_a_side_module_throw_through_the_host_and_call_nothing_else_there() {
    let caller = |name: &str| {
        format!(
            r#"(module
                (@dylink.0 (mem-info (memory 0 0) (table 0 0)))
                (import "pgl_host" "{name}" (func (param i32))))"#
        )
    };
    check(MAIN, &[("side.so", &caller("throw"))]).verify().unwrap();
    assert!(check(MAIN, &[("side.so", &caller("longjmp"))]).verify().is_err());
}

#[test]
fn linkcheck_refuses_modules_the_loader_cannot_load() {
    let plain = ("plain.so".to_owned(), assemble("(module)"));
    let main = postlink(&assemble(MAIN)).unwrap();
    insta::assert_snapshot!(linkcheck(&main, &[plain], &HostProvided::pglite()).unwrap_err(), @"
    plain.so has no dylink.0 section, expected a module the loader can load
      repair: link side modules with --experimental-pic -shared; run the post-link step on the main module
    ");
    insta::assert_snapshot!(linkcheck(&assemble(SIDE), &[], &HostProvided::pglite()).unwrap_err(), @"
    the main module's memory alignment is 2^2, expected 2^10
      repair: run the post-link step of this pipeline on it
    ");
}

#[test]
fn needed_exports_are_the_symbols_sides_do_not_define() {
    let sides = [("side.so".to_owned(), assemble(SIDE))];
    assert_eq!(needed_exports(&sides).unwrap().into_iter().collect::<Vec<_>>(), ["answer", "call_me"]);
}

fn check(main: &str, sides: &[(&str, &str)]) -> LinkReport {
    let main = postlink(&assemble(main)).unwrap();
    let sides: Vec<_> = sides.iter().map(|(name, text)| ((*name).to_owned(), assemble(text))).collect();
    linkcheck(&main, &sides, &HostProvided::pglite()).unwrap()
}

fn assemble(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn validate(wasm: &[u8]) {
    Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).unwrap();
}

fn contents(wasm: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let payloads = Parser::new(0).parse_all(wasm).map(Result::unwrap);
    let found = payloads.filter_map(|payload| payload.as_section());
    found.map(|(id, range)| (id, wasm[range.start as usize..range.end as usize].to_vec())).collect()
}

fn contents_of(wasm: &[u8], id: u8) -> Vec<Vec<u8>> {
    contents(wasm).into_iter().filter(|(found, _)| *found == id).map(|(_, contents)| contents).collect()
}

fn sections(wasm: &[u8]) -> String {
    let mut text = String::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.unwrap();
        let Some((id, range)) = payload.as_section() else { continue };
        let name = match &payload {
            Payload::CustomSection(section) => section.name().to_owned(),
            _ => [
                "",
                "type",
                "import",
                "function",
                "table",
                "memory",
                "global",
                "export",
                "start",
                "element",
                "code",
                "data",
                "data count",
                "tag",
            ][usize::from(id)]
            .to_owned(),
        };
        text += &format!("{name}: {} bytes\n", range.end - range.start);
    }
    text
}

fn globals(wasm: &[u8]) -> String {
    let mut text = String::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.unwrap() {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.unwrap();
                    if let wasmparser::TypeRef::Global(ty) = import.ty {
                        text += &format!("import {}.{} mutable={}\n", import.module, import.name, ty.mutable);
                    }
                }
            }
            Payload::GlobalSection(globals) => {
                for (index, global) in globals.into_iter().enumerate() {
                    let global = global.unwrap();
                    let value = global.init_expr.get_operators_reader().read().unwrap();
                    text += &format!("{} mutable={} {value:?}\n", index + 1, global.ty.mutable);
                }
            }
            _ => {}
        }
    }
    text
}
