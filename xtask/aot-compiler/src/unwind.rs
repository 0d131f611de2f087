//! Joins an artifact's unwind tables into one. Wasmer's LLVM backend compiles each function by
//! itself and ends each one's `.eh_frame` with a terminator, so that a loader on Linux registers
//! thousands of tables with libgcc, which up to GCC 12 keeps them in a list that it walks for every
//! frame of every exception. Measured on PostgreSQL, whose every SQL error is an exception: 9,000
//! tables cost 540 ms at the first error and 8 ms at each later one. One table of all functions is
//! what a linker would have made, and is searched in logarithmic time.
//!
//! It owns this one change of the artifact: terminators are taken out, relocations behind them move
//! up, nothing else differs.

use wasmer_compiler::ArtifactBuild;
use wasmer_compiler::serialize::{MetadataHeader, SerializableCompilation, SerializableModule};
use wasmer_compiler::types::relocation::{Relocation, RelocationTarget};
use wasmer_compiler::types::section::{CustomSectionLike, SectionBody};
use wasmer_types::{DeserializeError, SerializeError};

/// Bytes of a record's length field, which is all there is of a terminator.
const LENGTH: usize = 4;

/// Bytes before an artifact's serialized module.
const HEAD: usize = ArtifactBuild::MAGIC_HEADER.len() + MetadataHeader::LEN;

/// Why tables cannot be joined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnwindError {
    #[error("the artifact cannot be read back: {0}")]
    Read(#[from] DeserializeError),
    #[error("the artifact cannot be written: {0}")]
    Write(#[from] SerializeError),
    #[error("the artifact is not of the format that was asked for")]
    Format,
    #[error("the unwind table is cut off at byte {0}")]
    CutOff(usize),
    #[error("relocation at byte {0} of the unwind table is inside a terminator")]
    Relocation(u32),
    #[error("something refers to a place in the unwind table")]
    Referenced,
}

/// Reads an artifact back.
pub(crate) fn read(artifact: &[u8]) -> Result<SerializableModule, UnwindError> {
    let module = artifact.get(HEAD..).ok_or(UnwindError::Format)?;
    // rkyv reads in place and wants the alignment that the loader gives it.
    let mut aligned = rkyv::util::AlignedVec::<{ MetadataHeader::ALIGN }>::with_capacity(module.len());
    aligned.extend_from_slice(module);
    // SAFETY: the bytes come from the compiler of this very process, and are validated on top of
    // that.
    Ok(unsafe { SerializableModule::deserialize(&aligned)? })
}

/// The artifact with one unwind table in the place of one for each function.
pub(crate) fn join_tables(artifact: &[u8]) -> Result<Vec<u8>, UnwindError> {
    let mut module = read(artifact)?;
    let SerializableCompilation::Rkyv(compilation) = &mut module.compilation else { return Err(UnwindError::Format) };
    // Mach-O has compact unwind tables, which are joined already.
    let Some(index) = compilation.unwind_info.eh_frame else { return Ok(artifact.to_vec()) };

    let to_table = RelocationTarget::CustomSection(index);
    let functions = compilation.function_relocations.values();
    if functions.chain(compilation.custom_section_relocations.values()).flatten().any(|r| r.reloc_target == to_table) {
        return Err(UnwindError::Referenced);
    }
    let section = &mut compilation.custom_sections[index];
    let terminators = terminators(section.bytes())?;
    let joined = without(section.bytes(), &terminators);
    section.bytes = SectionBody::new_with_vec(joined);
    move_up(&mut section.relocations, &terminators)?;
    move_up(&mut compilation.custom_section_relocations[index], &terminators)?;

    let module = module.serialize()?;
    let mut joined = ArtifactBuild::MAGIC_HEADER.to_vec();
    joined.extend(MetadataHeader::new(module.len()).into_bytes());
    joined.extend(module);
    Ok(joined)
}

/// Offsets of all terminators but the last one.
fn terminators(table: &[u8]) -> Result<Vec<u32>, UnwindError> {
    let mut terminators = Vec::new();
    let mut at = 0;
    while at < table.len() {
        let length = table.get(at..at + LENGTH).ok_or(UnwindError::CutOff(at))?;
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        if length == 0 {
            terminators.push(u32::try_from(at).map_err(|_| UnwindError::CutOff(at))?);
        }
        at += LENGTH + length as usize;
    }
    let ends_terminated = at == table.len() && terminators.pop().is_some_and(|last| last as usize + LENGTH == at);
    if ends_terminated { Ok(terminators) } else { Err(UnwindError::CutOff(at)) }
}

fn without(table: &[u8], terminators: &[u32]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(table.len());
    let mut at = 0;
    for terminator in terminators {
        joined.extend_from_slice(&table[at..*terminator as usize]);
        at = *terminator as usize + LENGTH;
    }
    joined.extend_from_slice(&table[at..]);
    joined
}

fn move_up(relocations: &mut [Relocation], terminators: &[u32]) -> Result<(), UnwindError> {
    for relocation in relocations {
        let before = terminators.partition_point(|terminator| *terminator <= relocation.offset);
        let nearest = before.checked_sub(1).map(|last| terminators[last]);
        if nearest.is_some_and(|terminator| relocation.offset < terminator + LENGTH as u32) {
            return Err(UnwindError::Relocation(relocation.offset));
        }
        relocation.offset -= (before * LENGTH) as u32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasmer_compiler::types::relocation::RelocationKind;
    use wasmer_types::LocalFunctionIndex;

    use super::*;

    /// Records of the given lengths; 0 is a terminator.
    fn table(lengths: &[u32]) -> Vec<u8> {
        let record = |length: &u32| [&length.to_le_bytes()[..], &vec![7; *length as usize]].concat();
        lengths.iter().flat_map(record).collect()
    }

    fn relocations(offsets: &[u32]) -> Vec<Relocation> {
        let relocation = |offset: &u32| Relocation {
            kind: RelocationKind::Abs8,
            reloc_target: RelocationTarget::LocalFunc(LocalFunctionIndex::from_u32(0)),
            offset: *offset,
            addend: 0,
        };
        offsets.iter().map(relocation).collect()
    }

    #[test]
    fn only_the_last_terminator_stays() {
        let table_of_two = table(&[8, 12, 0, 8, 16, 0]);
        let found = terminators(&table_of_two).unwrap();
        assert_eq!(found, [28]);
        assert_eq!(without(&table_of_two, &found), table(&[8, 12, 8, 16, 0]));
        assert_eq!(terminators(&table(&[8, 0])).unwrap(), Vec::<u32>::new());
    }

    #[test]
    fn relocations_follow_their_records() {
        let mut moved = relocations(&[20, 32, 60]);
        move_up(&mut moved, &[28, 56]).unwrap();
        assert_eq!(moved, relocations(&[20, 28, 52]));
        assert!(matches!(move_up(&mut relocations(&[30]), &[28]), Err(UnwindError::Relocation(30))));
    }

    #[test]
    fn a_table_that_does_not_end_is_refused() {
        assert!(matches!(terminators(&table(&[8, 0])[..10]), Err(UnwindError::CutOff(_))));
        assert!(matches!(terminators(&table(&[8])), Err(UnwindError::CutOff(12))));
        assert!(matches!(terminators(&[1, 0]), Err(UnwindError::CutOff(0))));
    }
}
