//! Makes the linked main module loadable. wasm-ld links it without PIC at a fixed base; this step
//! turns it into a module that the dynamic loader accepts as a main module. It changes four things
//! and copies every other byte:
//!
//! 1. a [`dylink`] section is put in front: memory from the base to the stack, alignment 2^10, the
//!    table's slots but slot 0;
//! 2. the defined global 0, the stack pointer, becomes the import `env.__stack_pointer`: every
//!    global keeps its index, so no code changes;
//! 3. each exported data address becomes an offset from the memory base, since the loader adds the
//!    base to it;
//! 4. exported thread-local symbols are flagged as such, since wasm-ld exports their offset from
//!    `__tls_base`.
//!
//! The rules are the loader's, see [`super`]. The module's addresses are constants in its code, so
//! everything that would make the loader choose other addresses is rejected here. Imports are
//! checked by [`super::linkcheck`].

use std::collections::BTreeMap;
use std::ops::Range;

use wasm_encoder::{Encode, EntityType, GlobalType, RawSection, Section, SectionId, ValType};
use wasmparser::{
    ConstExpr, DataKind, ElementItems, ElementKind, ExternalKind, FunctionBody, Global, KnownCustom, Name,
    NameSectionReader, Operator, Parser, Payload, RefType, TypeRef, Validator, WasmFeatures,
};

use super::dylink::{self, Dylink};
use super::{
    ABSOLUTE_EXPORTS, LINKED_STACK_SIZE, LOADER_STACK_ALIGNMENT, LOADER_STACK_SIZE, MEMORY_ALIGNMENT_LOG2, MEMORY_BASE,
    TABLE_BASE,
};
use crate::error::{Context, Error, Result};

/// Turns wasm-ld's output into the main module for the loader.
pub(crate) fn postlink(wasm: &[u8]) -> Result<Vec<u8>> {
    let module = Linked::read(wasm)?;
    let layout = module.check_layout()?;
    let addresses = module.exported_addresses(&layout)?;
    module.refuse_reads_of(&addresses)?;
    let dylink = Dylink {
        memory_size: layout.stack_low - MEMORY_BASE,
        memory_alignment: MEMORY_ALIGNMENT_LOG2,
        table_size: module.table_slots - TABLE_BASE,
        table_alignment: 0,
        needed: Vec::new(),
        tls_exports: addresses.tls.keys().cloned().collect(),
    };
    let out = module.rewrite(&dylink, &addresses)?;
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(&out)
        .context(|| "the main module is not valid WebAssembly after the post-link step".to_owned())?;
    Ok(out)
}

/// Addresses wasm-ld chose.
struct Layout {
    stack_low: u32,
    tls_size: u32,
}

/// Exported constants that the loader takes for addresses.
#[derive(Default)]
struct Addresses {
    /// Global index to export name and offset from the memory base.
    data: BTreeMap<u32, (String, u32)>,
    /// Export name to global index.
    tls: BTreeMap<String, u32>,
}

/// A linked module, split into the parts that this step reads.
struct Linked<'a> {
    wasm: &'a [u8],
    /// Every section in order: its id and the range of its contents.
    sections: Vec<(u8, Range<usize>)>,
    imports: Entries,
    imported_globals: u32,
    memory: Option<wasmparser::MemoryType>,
    table: Option<wasmparser::TableType>,
    table_slots: u32,
    globals: Entries,
    global_values: Vec<GlobalValue>,
    exported_globals: BTreeMap<String, u32>,
    bodies: Vec<FunctionBody<'a>>,
}

/// Where the entries of a section are, its count left out.
#[derive(Default)]
struct Entries {
    starts: Vec<usize>,
    end: usize,
}

struct GlobalValue {
    mutable: bool,
    /// Initial value if it is an i32 constant.
    constant: Option<u32>,
}

impl<'a> Linked<'a> {
    fn read(wasm: &'a [u8]) -> Result<Self> {
        let context = || "the linked main module cannot be read".to_owned();
        if dylink::parse("the linked main module", wasm)?.is_some() {
            return Err(Error::new(format!(
                "the linked main module already has a {} section, expected wasm-ld's output of a non-PIC link",
                dylink::SECTION
            ))
            .repair("link without -pie and -shared, and run the post-link step once"));
        }
        let mut module = Linked {
            wasm,
            sections: Vec::new(),
            imports: Entries::default(),
            imported_globals: 0,
            memory: None,
            table: None,
            table_slots: 0,
            globals: Entries::default(),
            global_values: Vec::new(),
            exported_globals: BTreeMap::new(),
            bodies: Vec::new(),
        };
        let mut used_slots = TABLE_BASE..TABLE_BASE;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.context(context)?;
            if let Some((id, range)) = payload.as_section() {
                module.sections.push((id, offsets(&range)));
            }
            match payload {
                Payload::Version { encoding: wasmparser::Encoding::Component, .. } => {
                    return Err(Error::new("the linked main module is a component, expected a core module"));
                }
                Payload::ImportSection(imports) => {
                    module.imports.end = offset(imports.range().end);
                    for group in imports.clone().into_iter_with_offsets() {
                        module.imports.starts.push(offset(group.context(context)?.0));
                    }
                    for import in imports.into_imports() {
                        let import = import.context(context)?;
                        match (import.module, import.name, import.ty) {
                            ("env", "memory", TypeRef::Memory(ty)) => module.memory = Some(ty),
                            ("env", "__indirect_function_table", TypeRef::Table(ty)) => module.table = Some(ty),
                            (_, _, TypeRef::Global(_)) => module.imported_globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::GlobalSection(globals) => {
                    module.globals.end = offset(globals.range().end);
                    for global in globals.into_iter_with_offsets() {
                        let (start, global) = global.context(context)?;
                        module.globals.starts.push(offset(start));
                        module.global_values.push(GlobalValue::of(&global).context(context)?);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.context(context)?;
                        if export.kind == ExternalKind::Global {
                            module.exported_globals.insert(export.name.to_owned(), export.index);
                        }
                    }
                }
                Payload::ElementSection(elements) => {
                    for element in elements {
                        let element = element.context(context)?;
                        let ElementKind::Active { offset_expr, .. } = element.kind else { continue };
                        let count = match element.items {
                            ElementItems::Functions(functions) => functions.count(),
                            ElementItems::Expressions(_, expressions) => expressions.count(),
                        };
                        let start = constant(&offset_expr).context(context)?.ok_or_else(not_fixed)?;
                        used_slots.start = used_slots.start.min(start);
                        used_slots.end = used_slots.end.max(start.saturating_add(count));
                    }
                }
                Payload::DataSection(segments) => {
                    for segment in segments {
                        let DataKind::Active { offset_expr, .. } = segment.context(context)?.kind else { continue };
                        let start = constant(&offset_expr).context(context)?.ok_or_else(not_fixed)?;
                        if start < MEMORY_BASE {
                            return Err(wrong_base("a data segment begins", start));
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        refuse_command_wrappers(names).context(context)??;
                    }
                }
                _ => {}
            }
        }
        module.check_table(&used_slots)?;
        Ok(module)
    }

    /// Checks the function table and takes the number of its slots.
    fn check_table(&mut self, used: &Range<u32>) -> Result<()> {
        let repair = "link with --import-table --growable-table";
        let Some(table) = self.table else {
            return Err(
                Error::new("the linked main module does not import env.__indirect_function_table").repair(repair)
            );
        };
        if table.element_type != RefType::FUNCREF || table.maximum.is_some() {
            return Err(Error::new(format!(
                "the linked main module imports a table of {} with at most {} slots, expected funcref without a limit, \
                 since every side module adds to it",
                table.element_type,
                table.maximum.map_or_else(|| "any number of".to_owned(), |maximum| maximum.to_string())
            ))
            .repair(repair));
        }
        let slots = u32::try_from(table.initial).unwrap_or(u32::MAX);
        if used.start < TABLE_BASE || used.end > slots {
            return Err(Error::new(format!(
                "the linked main module fills table slots {} to {}, expected slots from {TABLE_BASE} to {slots}",
                used.start, used.end
            ))
            .repair("link without --table-base"));
        }
        self.table_slots = slots.max(TABLE_BASE);
        Ok(())
    }

    /// Checks that the loader will choose the addresses wasm-ld chose.
    fn check_layout(&self) -> Result<Layout> {
        match self.memory {
            Some(memory) if memory.shared && !memory.memory64 => {}
            Some(_) => {
                return Err(Error::new(
                    "the linked main module imports an unshared or 64-bit memory, expected shared 32-bit",
                )
                .repair("link with --shared-memory --max-memory=4294967296 for wasm32"));
            }
            None => {
                return Err(Error::new("the linked main module does not import env.memory")
                    .repair("link with --import-memory --shared-memory"));
            }
        }
        if self.imported_globals > 0 {
            return Err(Error::new(format!(
                "the linked main module imports {} globals, expected none: the stack pointer must stay global 0",
                self.imported_globals
            ))
            .repair("link without -pie, -shared and --unresolved-symbols=import-dynamic"));
        }
        let base = self.address("__global_base")?;
        if base != MEMORY_BASE {
            return Err(wrong_base("the data begins", base));
        }
        let stack_low = self.address("__stack_low")?;
        let stack_high = self.address("__stack_high")?;
        let heap_base = self.address("__heap_base")?;
        let tls_size = self.address("__tls_size")?;
        let stack_pointer = self.global_values.first();
        if !stack_pointer.is_some_and(|global| global.mutable && global.constant == Some(stack_high)) {
            let found = match stack_pointer {
                None => "no global".to_owned(),
                Some(GlobalValue { mutable, constant: Some(value) }) => {
                    format!("{} i32 global that begins at {value}", if *mutable { "a mutable" } else { "an immutable" })
                }
                Some(GlobalValue { constant: None, .. }) => "a global that is not an i32 constant".to_owned(),
            };
            return Err(Error::new(format!(
                "global 0 of the linked main module is not __stack_pointer: expected a mutable i32 global that begins at \
                 __stack_high = {stack_high}, found {found}"
            ))
            .repair("link with the wasm-ld of the image, which defines the stack pointer first"));
        }
        // The loader's stack: from the end of the data, rounded up. It must end inside the linked
        // one, and the heap begins after both.
        let loader_high =
            u64::from(stack_low).next_multiple_of(u64::from(LOADER_STACK_ALIGNMENT)) + u64::from(LOADER_STACK_SIZE);
        if stack_low < MEMORY_BASE || loader_high > u64::from(stack_high) || stack_high > heap_base {
            return Err(Error::new(format!(
                "the linked main module has its stack at {stack_low} to {stack_high} and its heap at {heap_base}; expected a stack \
                 after the data that reaches to {loader_high}, where the loader puts its end, and a heap above it"
            ))
            .repair(format!("link with --no-stack-first -z stack-size={LINKED_STACK_SIZE}")));
        }
        Ok(Layout { stack_low, tls_size })
    }

    /// Value of a constant that wasm-ld defines.
    fn address(&self, name: &str) -> Result<u32> {
        let global = self.exported_globals.get(name).and_then(|index| self.global_values.get(position(*index)));
        match global {
            Some(GlobalValue { mutable: false, constant: Some(value) }) => Ok(*value),
            Some(_) => Err(Error::new(format!("the linked main module exports {name}, but not as an i32 constant"))),
            None => Err(Error::new(format!("the linked main module does not export {name}"))
                .repair(format!("link with --export={name}"))),
        }
    }

    /// Sorts the exported constants into data addresses and thread-local offsets.
    fn exported_addresses(&self, layout: &Layout) -> Result<Addresses> {
        let mut addresses = Addresses::default();
        for (name, index) in &self.exported_globals {
            if ABSOLUTE_EXPORTS.contains(&name.as_str()) {
                continue;
            }
            let value = match self.global_values.get(position(*index)) {
                Some(GlobalValue { mutable: true, .. }) => continue,
                Some(GlobalValue { constant: Some(value), .. }) => *value,
                _ => {
                    return Err(Error::new(format!(
                        "export {name} of the linked main module is a constant global, but no i32: it cannot be an address"
                    ))
                    .repair("do not export it"));
                }
            };
            match (value >= MEMORY_BASE, value < layout.tls_size) {
                (true, false) => {
                    addresses.data.insert(*index, (name.clone(), value - MEMORY_BASE));
                }
                (false, true) => {
                    addresses.tls.insert(name.clone(), *index);
                }
                (true, true) if name == "__global_base" || name == "__dso_handle" => {
                    addresses.data.insert(*index, (name.clone(), value - MEMORY_BASE));
                }
                (true, true) => {
                    return Err(Error::new(format!(
                        "export {name} of the linked main module is {value}: that may be an address or a thread-local offset, \
                         since {} bytes are thread-local",
                        layout.tls_size
                    ))
                    .repair(format!("keep the thread-local data below {MEMORY_BASE} bytes")));
                }
                (false, false) => {
                    return Err(Error::new(format!(
                        "export {name} of the linked main module is {value}: below the memory base {MEMORY_BASE} and outside \
                         the {} thread-local bytes, so it is no address",
                        layout.tls_size
                    ))
                    .repair("do not export it"));
                }
            }
        }
        for name in ABSOLUTE_EXPORTS {
            if let Some(index) = self.exported_globals.get(name)
                && let Some((other, _)) = addresses.data.get(index)
            {
                return Err(Error::new(format!(
                    "exports {name} and {other} of the linked main module are one global, but only {other} is relocated"
                )));
            }
        }
        let tls_base =
            self.exported_globals.get("__tls_base").and_then(|index| self.global_values.get(position(*index)));
        if let Some(name) = addresses.tls.keys().next()
            && !tls_base.is_some_and(|global| global.mutable)
        {
            return Err(Error::new(format!(
                "export {name} of the linked main module is thread-local, but the module exports no mutable __tls_base"
            ))
            .repair("link with --export=__tls_base"));
        }
        Ok(addresses)
    }

    /// A relocated constant must be used by its export only: code that reads it needs the address.
    fn refuse_reads_of(&self, addresses: &Addresses) -> Result<()> {
        let context = || "the code of the linked main module cannot be read".to_owned();
        for (index, body) in self.bodies.iter().enumerate() {
            let mut operators = body.get_operators_reader().context(context)?;
            while !operators.eof() {
                if let Operator::GlobalGet { global_index } = operators.read().context(context)?
                    && let Some((name, _)) = addresses.data.get(&global_index)
                {
                    return Err(Error::new(format!(
                        "defined function {index} of the linked main module reads the exported address {name}, which the post-link \
                         step has to change"
                    ))
                    .repair(format!("do not export {name}")));
                }
            }
        }
        Ok(())
    }

    fn rewrite(&self, dylink: &Dylink, addresses: &Addresses) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.wasm.len() + 1024);
        let mut copied = HEADER_LEN;
        out.extend_from_slice(self.slice(0..copied)?);
        out.extend_from_slice(&dylink.encode());
        for (id, range) in &self.sections {
            if *id == SectionId::Import as u8 {
                let mut data = Vec::new();
                (self.imports.starts.len() + 1).encode(&mut data);
                data.extend_from_slice(self.slice(self.imports.all())?);
                "env".encode(&mut data);
                "__stack_pointer".encode(&mut data);
                EntityType::Global(GlobalType { val_type: ValType::I32, mutable: true, shared: false })
                    .encode(&mut data);
                RawSection { id: *id, data: &data }.append_to(&mut out);
            } else if *id == SectionId::Global as u8 {
                let mut data = Vec::new();
                (self.globals.starts.len() - 1).encode(&mut data);
                for index in 1..self.globals.starts.len() {
                    match addresses.data.get(&u32::try_from(index).unwrap_or(u32::MAX)) {
                        None => data.extend_from_slice(self.slice(self.globals.one(index))?),
                        Some((_, offset)) => {
                            let ty = GlobalType { val_type: ValType::I32, mutable: false, shared: false };
                            ty.encode(&mut data);
                            wasm_encoder::ConstExpr::i32_const(offset.cast_signed()).encode(&mut data);
                        }
                    }
                }
                RawSection { id: *id, data: &data }.append_to(&mut out);
            } else {
                out.extend_from_slice(self.slice(copied..range.end)?);
            }
            copied = range.end;
        }
        Ok(out)
    }

    fn slice(&self, range: Range<usize>) -> Result<&'a [u8]> {
        let found = format!("bytes {range:?} of {}", self.wasm.len());
        self.wasm
            .get(range)
            .ok_or_else(|| Error::new(format!("the linked main module is cut short: {found} are missing")))
    }
}

/// Magic number and version.
const HEADER_LEN: usize = 8;

impl Entries {
    fn all(&self) -> Range<usize> {
        self.starts.first().copied().unwrap_or(self.end)..self.end
    }

    fn one(&self, index: usize) -> Range<usize> {
        let start = self.starts.get(index).copied().unwrap_or(self.end);
        start..self.starts.get(index + 1).copied().unwrap_or(self.end)
    }
}

impl GlobalValue {
    fn of(global: &Global<'_>) -> wasmparser::Result<Self> {
        Ok(Self { mutable: global.ty.mutable, constant: constant(&global.init_expr)? })
    }
}

/// Value of a constant expression that is one `i32.const`.
fn constant(expression: &ConstExpr<'_>) -> wasmparser::Result<Option<u32>> {
    let mut operators = expression.get_operators_reader();
    let Operator::I32Const { value } = operators.read()? else { return Ok(None) };
    Ok(matches!(operators.read()?, Operator::End).then_some(value.cast_unsigned()))
}

/// wasm-ld takes a module in which nothing calls `__wasm_call_ctors` for a command, and wraps every
/// exported function into one that runs all constructors before and all destructors after each
/// call.
fn refuse_command_wrappers(names: NameSectionReader<'_>) -> wasmparser::Result<Result<()>> {
    for name in names {
        let Name::Function(functions) = name? else { continue };
        for function in functions {
            if let Some(export) = function?.name.strip_suffix(".command_export") {
                return Ok(Err(Error::new(format!(
                    "the linked main module runs its constructors at each call of its export {export}: nothing in it calls \
                     __wasm_call_ctors"
                ))
                .repair("link crt1-reactor.o, or call __wasm_call_ctors once from code of ours")));
            }
        }
    }
    Ok(Ok(()))
}

fn not_fixed() -> Error {
    Error::new("a segment of the linked main module has no fixed address, expected an i32 constant")
        .repair("link without -pie and -shared")
}

fn wrong_base(what: &str, found: u32) -> Error {
    Error::new(format!("in the linked main module {what} at {found}, expected the memory base {MEMORY_BASE}"))
        .repair(format!("link with --no-stack-first --global-base={MEMORY_BASE}"))
}

fn offsets(range: &Range<u64>) -> Range<usize> {
    offset(range.start)..offset(range.end)
}

/// Offsets inside a slice fit usize; one that did not would be caught by [`Linked::slice`].
fn offset(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn position(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
