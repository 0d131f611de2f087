//! Proves at build time that the loader will find every import: those of each side module in the
//! main module, and those of the main module in the host. It checks kind and type, and changes
//! nothing.
//!
//! The loader is more lenient: it replaces a missing function by a stub that ends the process at
//! its first call, and it also searches other side modules, in the order in which they were loaded.
//! Here an import of a side module must be satisfied by the main module, by the side module itself
//! (wasm-ld routes the address of a symbol that a side module defines and exports through `GOT.*`),
//! by a module that its `dylink.0` section names as needed, or by the loader.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use wasmparser::{RefType, ValType};

use super::dylink::{self, Dylink};
use super::host::HostProvided;
use super::interface::{ExternType, Import, Interface};
use super::{ABSOLUTE_EXPORTS, MEMORY_ALIGNMENT_LOG2};
use crate::error::{Error, Result};

/// Names of the main module in reports and errors.
pub(crate) const MAIN: &str = "main";

/// The provider of each import of each module, and the unsatisfied imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkReport {
    /// The main module first, then the side modules by name.
    pub(crate) modules: Vec<ModuleReport>,
}

/// One module's imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModuleReport {
    pub(crate) name: String,
    /// Number of exports.
    pub(crate) exports: usize,
    /// Satisfied imports as `module.symbol`, by provider: `host`, `loader`, `main`, the module
    /// itself or one that it needs.
    pub(crate) imports: BTreeMap<String, BTreeSet<String>>,
    pub(crate) unresolved: Vec<Unresolved>,
}

/// An unsatisfied import.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Unresolved {
    /// Import as `module.symbol`.
    pub(crate) symbol: String,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl LinkReport {
    /// Rejects a set with unsatisfied imports, naming each with its types.
    pub(crate) fn verify(&self) -> Result<()> {
        let mut text = String::new();
        let mut count = 0;
        for module in &self.modules {
            for import in &module.unresolved {
                count += 1;
                let Unresolved { symbol, expected, found } = import;
                // Writing into a String cannot fail.
                let _ = write!(text, "\n  {}: {symbol}: expected {expected}, found {found}", module.name);
            }
        }
        if count == 0 {
            return Ok(());
        }
        Err(Error::new(format!("{count} imports are not satisfied:{text}")).repair(
            "define and export each symbol with that type in the main module, or leave the module that imports it out",
        ))
    }
}

/// Checks a main module, as the post-link step left it, and its side modules. An unsatisfied import
/// is part of the report, see [`LinkReport::verify`]; an error is a module that cannot be read or
/// loaded at all.
pub(crate) fn linkcheck(main: &[u8], sides: &[(String, Vec<u8>)], provided: &HostProvided) -> Result<LinkReport> {
    let main = Module::parse(MAIN, main)?;
    if main.dylink.memory_alignment != MEMORY_ALIGNMENT_LOG2 {
        return Err(Error::new(format!(
            "the main module's memory alignment is 2^{}, expected 2^{MEMORY_ALIGNMENT_LOG2}",
            main.dylink.memory_alignment
        ))
        .repair("run the post-link step of this pipeline on it"));
    }
    let mut modules = BTreeMap::new();
    for (name, wasm) in sides {
        if name == MAIN || modules.insert(name.as_str(), Module::parse(name, wasm)?).is_some() {
            return Err(Error::new(format!("two modules are named {name}")));
        }
    }
    let mut reports = vec![report(&main, |import| resolve_main(import, provided))];
    for side in modules.values() {
        reports.push(report(side, |import| resolve_side(import, side, &main, &modules, provided)));
    }
    Ok(LinkReport { modules: reports })
}

/// Symbols the main module has to export for these side modules: functions they call, and functions
/// and data they take the address of.
pub(crate) fn needed_exports(sides: &[(String, Vec<u8>)]) -> Result<BTreeSet<String>> {
    let mut modules = BTreeMap::new();
    for (name, wasm) in sides {
        modules.insert(name.as_str(), Module::parse(name, wasm)?);
    }
    let mut needed = BTreeSet::new();
    for side in modules.values() {
        for import in &side.interface.imports {
            let from_main = match import.module.as_str() {
                "env" => matches!(import.ty, ExternType::Func(_)),
                "GOT.func" | "GOT.mem" => !side.interface.exports.contains_key(&import.name),
                _ => false,
            };
            let elsewhere = side.needed_from(&modules).any(|other| other.interface.exports.contains_key(&import.name));
            if from_main && !elsewhere {
                needed.insert(import.name.clone());
            }
        }
    }
    Ok(needed)
}

struct Module {
    name: String,
    interface: Interface,
    dylink: Dylink,
}

impl Module {
    fn parse(name: &str, wasm: &[u8]) -> Result<Self> {
        let Some(dylink) = dylink::parse(name, wasm)? else {
            return Err(Error::new(format!(
                "{name} has no {} section, expected a module the loader can load",
                dylink::SECTION
            ))
            .repair("link side modules with --experimental-pic -shared; run the post-link step on the main module"));
        };
        Ok(Self { name: name.to_owned(), interface: Interface::parse(name, wasm)?, dylink })
    }

    fn needed_from<'a>(&'a self, modules: &'a BTreeMap<&str, Module>) -> impl Iterator<Item = &'a Module> {
        self.dylink.needed.iter().filter_map(|name| modules.get(name.as_str()))
    }
}

/// The provider of an import, or what was expected and found.
type Resolution = std::result::Result<String, (String, String)>;

fn report(module: &Module, resolve: impl Fn(&Import) -> Resolution) -> ModuleReport {
    let mut report = ModuleReport {
        name: module.name.clone(),
        exports: module.interface.exports.len(),
        imports: BTreeMap::new(),
        unresolved: Vec::new(),
    };
    for import in &module.interface.imports {
        let symbol = format!("{}.{}", import.module, import.name);
        match resolve(import) {
            Ok(by) => {
                report.imports.entry(by).or_default().insert(symbol);
            }
            Err((expected, found)) => report.unresolved.push(Unresolved { symbol, expected, found }),
        }
    }
    report.unresolved.sort();
    report
}

/// An import of the main module: from the loader or the host, never from a side module.
fn resolve_main(import: &Import, provided: &HostProvided) -> Resolution {
    if let Some(resolution) = resolve_loader(import, None) {
        return resolution;
    }
    match provided.resolve(&import.module, &import.name, &import.ty) {
        Ok(()) => Ok("host".to_owned()),
        Err(found) => Err((import.ty.to_string(), found)),
    }
}

/// An import of a side module.
fn resolve_side(
    import: &Import,
    side: &Module,
    main: &Module,
    modules: &BTreeMap<&str, Module>,
    provided: &HostProvided,
) -> Resolution {
    if let Some(resolution) = resolve_loader(import, Some(main)) {
        return resolution;
    }
    let needed = || side.needed_from(modules).find(|other| other.interface.exports.contains_key(&import.name));
    let in_main = main.interface.exports.get(&import.name);
    match import.module.as_str() {
        "env" => {
            if let Some(export) = in_main {
                return same(&import.ty, export, MAIN);
            }
            match needed() {
                Some(other) => same(&import.ty, &other.interface.exports[&import.name], &other.name),
                None => Err((import.ty.to_string(), "no such export of main".to_owned())),
            }
        }
        "GOT.func" | "GOT.mem" => {
            let own = side.interface.exports.get(&import.name);
            // The loader searches modules that are already loaded before the importing one.
            if let (Some(own), Some(export)) = (own, in_main) {
                return Err((
                    format!("its own {own}"),
                    format!("{export} of main, which has the same name and comes first (link with -Bsymbolic)"),
                ));
            }
            if own.is_some()
                && let Some(other) =
                    modules.values().find(|m| m.name != side.name && m.interface.exports.contains_key(&import.name))
            {
                let export = &other.interface.exports[&import.name];
                return Err((
                    "one definition".to_owned(),
                    format!(
                        "another in {} ({export}), so the order of loading decides (link with -Bsymbolic)",
                        other.name
                    ),
                ));
            }
            let (by, export) = match (in_main, own, needed()) {
                (Some(export), _, _) => (MAIN, export),
                (None, Some(own), _) => (side.name.as_str(), own),
                (None, None, Some(other)) => (other.name.as_str(), &other.interface.exports[&import.name]),
                (None, None, None) => {
                    let kind = if import.module == "GOT.func" { "a function" } else { "an address" };
                    return Err((kind.to_owned(), "no such export of main".to_owned()));
                }
            };
            address_of(import, export, by)
        }
        // The main module has no C++, so it has no function that throws its exceptions.
        "pgl_host" if import.name == "throw" => resolve_main(import, provided),
        // The loader offers the host's modules to side modules too, but a side module that imports
        // them contains a libc of its own.
        _ => Err((import.ty.to_string(), "nothing: side modules import from main only".to_owned())),
    }
}

/// What the loader fills in by itself. `main` is the main module if the import is a side module's.
fn resolve_loader(import: &Import, main: Option<&Module>) -> Option<Resolution> {
    let by_loader = |matches: bool, expected: &str| {
        Some(if matches { Ok("loader".to_owned()) } else { Err((import.ty.to_string(), expected.to_owned())) })
    };
    let is_global = |mutable: Option<bool>| {
        matches!(&import.ty, ExternType::Global(ty)
            if ty.content_type == ValType::I32 && mutable.is_none_or(|mutable| mutable == ty.mutable))
    };
    match (import.module.as_str(), import.name.as_str()) {
        ("env", "memory") => {
            let limit = main.and_then(|main| memory_limit(&main.interface));
            let fits = match &import.ty {
                ExternType::Memory(ty) => {
                    ty.shared && !ty.memory64 && limit.is_none_or(|limit| ty.maximum.is_some_and(|max| max >= limit))
                }
                _ => false,
            };
            let limit = limit.map_or_else(String::new, |limit| format!(" of up to {limit} pages"));
            by_loader(fits, &format!("a shared 32-bit memory{limit}"))
        }
        ("env", "__indirect_function_table") => {
            let fits = matches!(&import.ty, ExternType::Table(ty)
                if ty.element_type == RefType::FUNCREF && ty.maximum.is_none() && !ty.table64);
            by_loader(fits, "an unlimited table of funcref")
        }
        ("env", "__stack_pointer") => by_loader(is_global(Some(true)), "a mutable global i32"),
        ("env", "__memory_base" | "__table_base") => by_loader(is_global(None), "a global i32"),
        ("env", "__c_longjmp" | "__cpp_exception") => {
            let fits =
                matches!(&import.ty, ExternType::Tag(ty) if ty.params() == [ValType::I32] && ty.results().is_empty());
            by_loader(fits, "a tag (i32) -> ()")
        }
        ("GOT.mem", "__stack_low" | "__stack_high" | "__heap_base") if main.is_none() => {
            by_loader(is_global(None), "a global i32")
        }
        _ => None,
    }
}

fn memory_limit(main: &Interface) -> Option<u64> {
    main.imports.iter().find_map(|import| match &import.ty {
        ExternType::Memory(ty) if import.module == "env" && import.name == "memory" => ty.maximum,
        _ => None,
    })
}

fn same(expected: &ExternType, found: &ExternType, by: &str) -> Resolution {
    if expected == found { Ok(by.to_owned()) } else { Err((expected.to_string(), format!("{found} of {by}"))) }
}

/// An import through the global offset table: a table slot for a function, an address for data.
fn address_of(import: &Import, export: &ExternType, by: &str) -> Resolution {
    if !matches!(&import.ty, ExternType::Global(ty) if ty.content_type == ValType::I32) {
        return Err((import.ty.to_string(), "a global i32, the only kind of address the loader fills in".to_owned()));
    }
    match export {
        ExternType::Func(_) if import.module == "GOT.func" => Ok(by.to_owned()),
        ExternType::Global(ty) if import.module == "GOT.mem" && !ty.mutable && ty.content_type == ValType::I32 => {
            if ABSOLUTE_EXPORTS.contains(&import.name.as_str()) {
                return Err((
                    "an address".to_owned(),
                    "a value to which the loader would add the memory base".to_owned(),
                ));
            }
            Ok(by.to_owned())
        }
        _ if import.module == "GOT.func" => Err(("a function".to_owned(), format!("{export} of {by}"))),
        _ => Err(("an address".to_owned(), format!("{export} of {by}"))),
    }
}
