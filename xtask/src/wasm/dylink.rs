//! The `dylink.0` custom section: reads a module's section and writes that of the main module. The
//! values come from [`super::postlink`] for the main module and from wasm-ld for side modules.

use std::collections::{BTreeMap, BTreeSet};

use wasm_encoder::{CustomSection, Encode, Section};
use wasmparser::{BinaryReader, Dylink0SectionReader, Dylink0Subsection, Parser, Payload, SymbolFlags};

use crate::error::{Context, Error, Result};

/// Name of the section. wasm-ld of LLVM 11 and older wrote one called `dylink`, which the loader
/// does not read.
pub(crate) const SECTION: &str = "dylink.0";

const MEM_INFO: u8 = 1;
const NEEDED: u8 = 2;
const EXPORT_INFO: u8 = 3;

/// The requirements of a dynamically loaded module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dylink {
    /// Bytes of linear memory for the module's data.
    pub(crate) memory_size: u32,
    /// Alignment of that memory as a power of two.
    pub(crate) memory_alignment: u32,
    /// Slots of the function table.
    pub(crate) table_size: u32,
    /// Alignment of those slots as a power of two.
    pub(crate) table_alignment: u32,
    /// Modules that must be loaded first, by file name.
    pub(crate) needed: Vec<String>,
    /// Exported globals whose value is an offset into thread-local storage.
    pub(crate) tls_exports: BTreeSet<String>,
}

impl Dylink {
    /// The section as bytes, header included.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut memory = Vec::new();
        for value in [self.memory_size, self.memory_alignment, self.table_size, self.table_alignment] {
            value.encode(&mut memory);
        }
        subsection(MEM_INFO, &memory, &mut data);
        if !self.needed.is_empty() {
            let mut needed = Vec::new();
            self.needed.len().encode(&mut needed);
            for name in &self.needed {
                name.as_str().encode(&mut needed);
            }
            subsection(NEEDED, &needed, &mut data);
        }
        if !self.tls_exports.is_empty() {
            let mut exports = Vec::new();
            self.tls_exports.len().encode(&mut exports);
            for name in &self.tls_exports {
                name.as_str().encode(&mut exports);
                SymbolFlags::TLS.bits().encode(&mut exports);
            }
            subsection(EXPORT_INFO, &exports, &mut data);
        }
        let mut section = Vec::new();
        CustomSection { name: SECTION.into(), data: data.into() }.append_to(&mut section);
        section
    }
}

/// Reads the section of a module. `name` is the module's name in errors. A module without one gives
/// `None`; more than one is refused, as the loader does.
pub(crate) fn parse(name: &str, wasm: &[u8]) -> Result<Option<Dylink>> {
    let mut found = None;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.context(|| format!("{name} is not a WebAssembly module"))?;
        let Payload::CustomSection(section) = payload else { continue };
        match section.name() {
            SECTION if found.is_some() => {
                return Err(Error::new(format!("{name} has more than one {SECTION} section, expected one"))
                    .repair("link it again; the post-link step must run once, on wasm-ld's own output"));
            }
            SECTION => found = Some(parse_section(name, section.data())?),
            "dylink" => {
                return Err(Error::new(format!("{name} has a section `dylink` of the format before {SECTION}"))
                    .repair("link it with the wasm-ld of the image"));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn parse_section(name: &str, data: &[u8]) -> Result<Dylink> {
    let mut dylink = Dylink::default();
    let mut flags = BTreeMap::new();
    for subsection in Dylink0SectionReader::new(BinaryReader::new(data, 0)) {
        match subsection.context(|| format!("{name}: its {SECTION} section cannot be read"))? {
            Dylink0Subsection::MemInfo(info) => {
                dylink.memory_size = info.memory_size;
                dylink.memory_alignment = info.memory_alignment;
                dylink.table_size = info.table_size;
                dylink.table_alignment = info.table_alignment;
            }
            Dylink0Subsection::Needed(needed) => dylink.needed.extend(needed.into_iter().map(str::to_owned)),
            Dylink0Subsection::ExportInfo(exports) => {
                flags.extend(exports.into_iter().map(|export| (export.name.to_owned(), export.flags)));
            }
            Dylink0Subsection::ImportInfo(_)
            | Dylink0Subsection::RuntimePath(_)
            | Dylink0Subsection::TargetArch(_)
            | Dylink0Subsection::Unknown { .. } => {}
        }
    }
    dylink.tls_exports =
        flags.into_iter().filter(|(_, flags)| flags.contains(SymbolFlags::TLS)).map(|(name, _)| name).collect();
    Ok(dylink)
}

fn subsection(id: u8, data: &[u8], into: &mut Vec<u8>) {
    into.push(id);
    data.encode(into);
}
