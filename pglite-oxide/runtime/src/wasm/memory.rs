//! Checked access to guest memory during a host call. It owns the bounds checks.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::AtomicI32;

use wasmer::{AsStoreRef, Memory, StoreRef};

use crate::fs::errno::{Errno, Result};
use crate::fs::{RawSlice, RawSliceMut};

/// Most bytes of a text that a guest passes.
const TEXT_MAX: u32 = 64 * 1024;

/// Guest memory for the length of one host call. The guest's own thread is in the call, but other
/// threads may write the memory meanwhile: the interrupt flags, and what several guests share. So
/// nothing here is a slice.
pub struct GuestMemory<'a> {
    memory: Memory,
    store: StoreRef<'a>,
    range: Cell<Range>,
}

/// Where a guest's memory is in the host's. It never moves, because all of its address space is
/// reserved from the start, and it only grows: what was seen once stays true, and asking for it
/// anew, which costs more than most host calls, is for accesses beyond it.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: it is an address; only `GuestMemory` reads or writes there, and it borrows the store.
unsafe impl Send for Range {}
// SAFETY: as above; it is never changed in place.
unsafe impl Sync for Range {}

impl Range {
    /// The memory as large as it is now.
    fn of(memory: &Memory, store: &impl AsStoreRef) -> Self {
        let view = memory.view(store);
        Self { base: NonNull::new(view.data_ptr()).unwrap_or(NonNull::dangling()), len: view.data_size() as usize }
    }
}

impl std::fmt::Debug for GuestMemory<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestMemory").field("range", &self.range).finish_non_exhaustive()
    }
}

impl<'a> GuestMemory<'a> {
    /// The memory of the guest in `store`, which stays borrowed, so that nothing can run or grow it
    /// meanwhile. `seen` is what an earlier call saw of this very memory.
    pub fn new(memory: &Memory, store: &'a impl AsStoreRef, seen: Option<Range>) -> Self {
        let range = Cell::new(seen.unwrap_or_else(|| Range::of(memory, store)));
        Self { memory: memory.clone(), store: store.as_store_ref(), range }
    }

    /// What was seen of the memory, for the next call.
    pub fn seen(&self) -> Range {
        self.range.get()
    }

    /// Bytes to read from.
    pub fn range(&self, address: u32, len: u32) -> Result<RawSlice<'_>> {
        let start = self.check(address, len)?;
        // SAFETY: `check` found the range inside the memory, which nothing frees or moves while the
        // store is borrowed.
        Ok(unsafe { RawSlice::new(start, len as usize) })
    }

    /// Bytes to write into.
    pub fn range_mut(&self, address: u32, len: u32) -> Result<RawSliceMut<'_>> {
        let start = self.check(address, len)?;
        // SAFETY: as in `range`; no reference is ever made of guest memory but to atomics.
        Ok(unsafe { RawSliceMut::new(start, len as usize) })
    }

    /// A path or other text.
    pub fn text(&self, address: u32, len: u32) -> Result<String> {
        // The longest path that PostgreSQL and the file system take is far below.
        if len > TEXT_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        String::from_utf8(self.range(address, len)?.to_vec()).map_err(|_| Errno::INVAL)
    }

    /// A little-endian 32-bit number.
    pub fn read_u32(&self, address: u32) -> Result<u32> {
        let mut bytes = [0; 4];
        self.range(address, 4)?.copy_to(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes bytes.
    pub fn write(&self, address: u32, data: &[u8]) -> Result<()> {
        let len = u32::try_from(data.len()).map_err(|_| Errno::FAULT)?;
        self.range_mut(address, len)?.copy_from(data);
        Ok(())
    }

    /// Fills bytes with what `fill` makes, a piece at a time.
    pub fn fill(&self, address: u32, len: u32, mut fill: impl FnMut(&mut [u8]) -> Result<()>) -> Result<()> {
        let mut range = self.range_mut(address, len)?;
        let mut piece = [0; 256];
        let mut done = 0;
        while done < range.len() {
            let mut target = range.part(done, piece.len());
            let piece = &mut piece[..target.len()];
            fill(piece)?;
            target.copy_from(piece);
            done += piece.len();
        }
        Ok(())
    }

    /// Aligned numbers that other threads may change.
    pub fn atomics<const N: usize>(&self, address: u32) -> Result<&'a [AtomicI32; N]> {
        let start = self.check(address, u32::try_from(size_of::<[AtomicI32; N]>()).map_err(|_| Errno::FAULT)?)?;
        if !(start.as_ptr() as usize).is_multiple_of(align_of::<AtomicI32>()) {
            return Err(Errno::FAULT);
        }
        // SAFETY: in bounds and aligned; the guest accesses it with atomic instructions, and the
        // memory outlives the store's borrow.
        Ok(unsafe { start.cast::<[AtomicI32; N]>().as_ref() })
    }

    fn check(&self, address: u32, len: u32) -> Result<NonNull<u8>> {
        let end = (address as usize).checked_add(len as usize).ok_or(Errno::FAULT)?;
        if end > self.range.get().len {
            self.range.set(Range::of(&self.memory, &self.store));
        }
        let Range { base, len } = self.range.get();
        if end > len {
            return Err(Errno::FAULT);
        }
        // SAFETY: the offset is inside the memory.
        Ok(unsafe { base.add(address as usize) })
    }
}
