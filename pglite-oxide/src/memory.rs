//! Checked access to guest memory during a host call. It owns bounds checks; what lies where is its callers' knowledge.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::AtomicI32;

use wasmer::{AsStoreRef, Memory};

use crate::fs::errno::{Errno, Result};

/// Guest memory for the length of one host call. While it lasts the guest stands still: each instance runs on one thread, and that
/// thread is in the call. Other threads touch nothing but the interrupt flags, with atomics.
#[derive(Debug)]
pub(crate) struct GuestMemory<'a> {
    base: NonNull<u8>,
    len: usize,
    lifetime: PhantomData<&'a mut [u8]>,
}

impl<'a> GuestMemory<'a> {
    /// The memory as large as it is now. `store` stays borrowed, so nothing can run or grow it meanwhile.
    pub(crate) fn new(memory: &Memory, store: &'a impl AsStoreRef) -> Self {
        let view = memory.view(store);
        let base = NonNull::new(view.data_ptr()).unwrap_or(NonNull::dangling());
        Self { base, len: view.data_size() as usize, lifetime: PhantomData }
    }

    /// Bytes to read from.
    pub(crate) fn bytes(&self, address: u32, len: u32) -> Result<&[u8]> {
        let start = self.check(address, len)?;
        // SAFETY: `check` found the range inside the memory, which nothing frees or moves while the store is borrowed; nobody writes it
        // meanwhile, because the guest stands still and `bytes_mut` needs `&mut self`.
        Ok(unsafe { std::slice::from_raw_parts(start.as_ptr(), len as usize) })
    }

    /// Bytes to write into.
    pub(crate) fn bytes_mut(&mut self, address: u32, len: u32) -> Result<&mut [u8]> {
        let start = self.check(address, len)?;
        // SAFETY: as in `bytes`; `&mut self` makes it the only slice.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len as usize) })
    }

    /// A path or other text.
    pub(crate) fn text(&self, address: u32, len: u32) -> Result<&str> {
        std::str::from_utf8(self.bytes(address, len)?).map_err(|_| Errno::INVAL)
    }

    /// A little-endian 32-bit number.
    pub(crate) fn read_u32(&self, address: u32) -> Result<u32> {
        let bytes = self.bytes(address, 4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Writes bytes.
    pub(crate) fn write(&mut self, address: u32, data: &[u8]) -> Result<()> {
        let len = u32::try_from(data.len()).map_err(|_| Errno::FAULT)?;
        self.bytes_mut(address, len)?.copy_from_slice(data);
        Ok(())
    }

    /// Aligned numbers that other threads may change.
    pub(crate) fn atomics<const N: usize>(&self, address: u32) -> Result<&'a [AtomicI32; N]> {
        let start = self.check(address, u32::try_from(size_of::<[AtomicI32; N]>()).map_err(|_| Errno::FAULT)?)?;
        if !(start.as_ptr() as usize).is_multiple_of(align_of::<AtomicI32>()) {
            return Err(Errno::FAULT);
        }
        // SAFETY: in bounds and aligned; the guest accesses it with atomic instructions, and the memory outlives the store's borrow.
        Ok(unsafe { start.cast::<[AtomicI32; N]>().as_ref() })
    }

    fn check(&self, address: u32, len: u32) -> Result<NonNull<u8>> {
        let end = (address as usize).checked_add(len as usize).ok_or(Errno::FAULT)?;
        if end > self.len {
            return Err(Errno::FAULT);
        }
        // SAFETY: the offset is inside the memory.
        Ok(unsafe { self.base.add(address as usize) })
    }
}
