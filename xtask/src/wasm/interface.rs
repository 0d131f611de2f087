//! Imports and exports of a module, with types. It knows nothing about loading.

use std::collections::BTreeMap;
use std::fmt;

use wasmparser::{ExternalKind, FuncType, GlobalType, MemoryType, Parser, Payload, TableType, TypeRef};

use crate::error::{Context, Error, Result};

/// Imports and exports of one module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interface {
    /// Imports in the order of the module.
    pub(crate) imports: Vec<Import>,
    /// Exports by name.
    pub(crate) exports: BTreeMap<String, ExternType>,
}

/// One import.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) module: String,
    pub(crate) name: String,
    pub(crate) ty: ExternType,
}

/// Type of an import or export, with function types spelled out instead of numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExternType {
    Func(FuncType),
    Table(TableType),
    Memory(MemoryType),
    Global(GlobalType),
    Tag(FuncType),
}

impl Interface {
    /// Reads a module. `name` is the module's name in errors. Functions' bodies are skipped.
    pub(crate) fn parse(name: &str, wasm: &[u8]) -> Result<Self> {
        let context = || format!("{name}: cannot read its imports and exports");
        let mut interface = Self::default();
        let mut index = IndexSpaces::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.context(context)? {
                Payload::TypeSection(types) => {
                    for ty in types.into_iter_err_on_gc_types() {
                        index.types.push(ty.context(context)?);
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import.context(context)?;
                        let ty = index.import(name, import.ty)?;
                        interface.imports.push(Import {
                            module: import.module.to_owned(),
                            name: import.name.to_owned(),
                            ty,
                        });
                    }
                }
                Payload::FunctionSection(functions) => {
                    for ty in functions {
                        index.functions.push(ty.context(context)?);
                    }
                }
                Payload::TableSection(tables) => {
                    for table in tables {
                        index.tables.push(table.context(context)?.ty);
                    }
                }
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        index.memories.push(memory.context(context)?);
                    }
                }
                Payload::TagSection(tags) => {
                    for tag in tags {
                        index.tags.push(tag.context(context)?.func_type_idx);
                    }
                }
                Payload::GlobalSection(globals) => {
                    for global in globals {
                        index.globals.push(global.context(context)?.ty);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.context(context)?;
                        let ty = index.export(name, export.kind, export.index)?;
                        interface.exports.insert(export.name.to_owned(), ty);
                    }
                }
                _ => {}
            }
        }
        Ok(interface)
    }
}

impl fmt::Display for ExternType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Func(ty) => write!(f, "function {}", Signature(ty)),
            Self::Tag(ty) => write!(f, "tag {}", Signature(ty)),
            Self::Global(ty) => {
                let mutability = if ty.mutable { "mutable" } else { "immutable" };
                write!(f, "{mutability} global {}", ty.content_type)
            }
            Self::Table(ty) => {
                write!(f, "table {} of {} to {} slots", ty.element_type, ty.initial, Limit(ty.maximum))
            }
            Self::Memory(ty) => {
                let shared = if ty.shared { "shared" } else { "unshared" };
                write!(f, "{shared} memory of {} to {} pages", ty.initial, Limit(ty.maximum))
            }
        }
    }
}

struct Signature<'a>(&'a FuncType);

impl fmt::Display for Signature<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &[wasmparser::ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "({}) -> ({})", list(self.0.params()), list(self.0.results()))
    }
}

struct Limit(Option<u64>);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) => limit.fmt(f),
            None => f.write_str("unlimited"),
        }
    }
}

/// Index spaces of a module, imports first.
#[derive(Default)]
struct IndexSpaces {
    types: Vec<FuncType>,
    functions: Vec<u32>,
    tables: Vec<TableType>,
    memories: Vec<MemoryType>,
    globals: Vec<GlobalType>,
    tags: Vec<u32>,
}

impl IndexSpaces {
    fn import(&mut self, module: &str, ty: TypeRef) -> Result<ExternType> {
        Ok(match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.functions.push(ty);
                ExternType::Func(self.function_type(module, ty)?)
            }
            TypeRef::Table(ty) => {
                self.tables.push(ty);
                ExternType::Table(ty)
            }
            TypeRef::Memory(ty) => {
                self.memories.push(ty);
                ExternType::Memory(ty)
            }
            TypeRef::Global(ty) => {
                self.globals.push(ty);
                ExternType::Global(ty)
            }
            TypeRef::Tag(ty) => {
                self.tags.push(ty.func_type_idx);
                ExternType::Tag(self.function_type(module, ty.func_type_idx)?)
            }
        })
    }

    fn export(&self, module: &str, kind: ExternalKind, index: u32) -> Result<ExternType> {
        Ok(match kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                ExternType::Func(self.function_type(module, *lookup(module, "function", &self.functions, index)?)?)
            }
            ExternalKind::Table => ExternType::Table(*lookup(module, "table", &self.tables, index)?),
            ExternalKind::Memory => ExternType::Memory(*lookup(module, "memory", &self.memories, index)?),
            ExternalKind::Global => ExternType::Global(*lookup(module, "global", &self.globals, index)?),
            ExternalKind::Tag => {
                ExternType::Tag(self.function_type(module, *lookup(module, "tag", &self.tags, index)?)?)
            }
        })
    }

    fn function_type(&self, module: &str, index: u32) -> Result<FuncType> {
        lookup(module, "type", &self.types, index).cloned()
    }
}

fn lookup<'a, T>(module: &str, kind: &str, space: &'a [T], index: u32) -> Result<&'a T> {
    usize::try_from(index).ok().and_then(|index| space.get(index)).ok_or_else(|| {
        Error::new(format!("{module}: {kind} {index} is used, but the module has only {} of them", space.len()))
    })
}
