//! Ranges of bytes that other threads may read and write at the same time: linear memory that
//! several guests share. It owns copying from and to them.
//!
//! A `&[u8]` requires that nothing writes the bytes, and a `&mut [u8]` that nothing else accesses
//! them; neither holds for the memory of a running guest. So files are read and written through a
//! pointer and a length, and everything else works on a copy.

use std::marker::PhantomData;
use std::ptr::NonNull;

use bytes::{BufMut, BytesMut};

/// Bytes to read.
#[derive(Debug, Clone, Copy)]
pub struct RawSlice<'a> {
    start: NonNull<u8>,
    len: usize,
    memory: PhantomData<&'a u8>,
}

/// Bytes to write.
#[derive(Debug)]
pub struct RawSliceMut<'a> {
    start: NonNull<u8>,
    len: usize,
    memory: PhantomData<&'a mut u8>,
}

impl<'a> RawSlice<'a> {
    /// # Safety
    /// The bytes are allocated, and stay where they are, for `'a`. Other threads may change them
    /// meanwhile: what is copied then is any mixture of old and new bytes.
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len, memory: PhantomData }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first byte. Not to be made a reference of.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// The bytes from `start` on, at most `len`.
    #[must_use]
    pub fn part(&self, start: usize, len: usize) -> Self {
        let start = start.min(self.len);
        // SAFETY: inside the range, which is allocated.
        Self { start: unsafe { self.start.add(start) }, len: len.min(self.len - start), memory: PhantomData }
    }

    /// Copies the bytes into a buffer of the same length.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn copy_to(&self, target: &mut [u8]) {
        assert_eq!(self.len, target.len());
        // SAFETY: both are that long; the target is a Rust buffer that nothing else can reach.
        unsafe { self.start.copy_to_nonoverlapping(NonNull::from(target).cast(), self.len) };
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.copy_to(&mut bytes);
        bytes
    }

    /// Adds a copy of the bytes to a buffer.
    pub fn append_to(&self, buffer: &mut BytesMut) {
        buffer.reserve(self.len);
        // SAFETY: `reserve` made room for `len` bytes after the initialised ones, which are
        // initialised before the length says so.
        unsafe {
            self.start.as_ptr().copy_to_nonoverlapping(buffer.chunk_mut().as_mut_ptr(), self.len);
            buffer.advance_mut(self.len);
        }
    }
}

impl<'a> RawSliceMut<'a> {
    /// # Safety
    /// The bytes are allocated, and stay where they are, for `'a`, and no Rust reference leads to
    /// them. Other threads may read and write them meanwhile.
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len, memory: PhantomData }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first byte. Not to be made a reference of.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The bytes from `start` on, at most `len`.
    #[must_use]
    pub fn part(&mut self, start: usize, len: usize) -> RawSliceMut<'_> {
        let start = start.min(self.len);
        // SAFETY: inside the range, which is allocated.
        RawSliceMut { start: unsafe { self.start.add(start) }, len: len.min(self.len - start), memory: PhantomData }
    }

    /// Overwrites the bytes with those of a buffer of the same length.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn copy_from(&mut self, source: &[u8]) {
        assert_eq!(self.len, source.len());
        // SAFETY: both are that long; the source is a Rust buffer, to which these bytes do not
        // belong.
        unsafe { self.start.copy_from_nonoverlapping(NonNull::from(source).cast(), self.len) };
    }

    /// Overwrites the bytes with zeros.
    pub fn zero(&mut self) {
        // SAFETY: the range is that long.
        unsafe { self.start.write_bytes(0, self.len) };
    }
}

impl<'a> From<&'a [u8]> for RawSlice<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { start: NonNull::from(bytes).cast(), len: bytes.len(), memory: PhantomData }
    }
}

impl<'a> From<&'a mut [u8]> for RawSliceMut<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        let len = bytes.len();
        Self { start: NonNull::from(bytes).cast(), len, memory: PhantomData }
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for RawSlice<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<'a, const N: usize> From<&'a mut [u8; N]> for RawSliceMut<'a> {
    fn from(bytes: &'a mut [u8; N]) -> Self {
        bytes.as_mut_slice().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end_where_the_whole_ends() {
        let mut bytes = *b"0123456789";
        let whole = RawSlice::from(&bytes);
        assert_eq!(whole.part(2, 3).to_vec(), b"234");
        assert_eq!(whole.part(8, 100).to_vec(), b"89");
        assert!(whole.part(100, 1).is_empty());
        let mut buffer = BytesMut::from(&b"x"[..]);
        whole.part(0, 2).append_to(&mut buffer);
        assert_eq!(&buffer[..], b"x01");
        let mut whole = RawSliceMut::from(&mut bytes);
        whole.part(8, 100).copy_from(b"ab");
        whole.part(0, 2).zero();
        assert_eq!(&bytes, b"\x00\x00234567ab");
    }

    /// Two threads have a range of the same bytes, and write one after the other.
    #[test]
    fn a_range_reaches_the_memory_from_any_thread() {
        struct Shared(NonNull<u8>);
        // SAFETY: an address.
        unsafe impl Sync for Shared {}
        let mut bytes = [0u8; 64];
        let shared = Shared(NonNull::from(&mut bytes).cast());
        let shared = &shared;
        std::thread::scope(|scope| {
            // One after the other, so that the test itself has no race to be reported.
            for value in [1u8, 2] {
                scope
                    .spawn(move || {
                        // SAFETY: `bytes` outlives the scope and is not used in it.
                        let mut range = unsafe { RawSliceMut::new(shared.0, 64) };
                        range.copy_from(&[value; 64]);
                    })
                    .join()
                    .unwrap();
            }
        });
        assert_eq!(bytes, [2; 64]);
    }
}
