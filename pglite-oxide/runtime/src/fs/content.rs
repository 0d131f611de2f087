//! The contents of one file: an immutable shared base, and the pages written since. It owns bytes,
//! not names or times.

use std::sync::Arc;

use bytes::Bytes;

use super::errno::{Errno, Result};
use super::{RawSlice, RawSliceMut};

/// Bytes of a page: PostgreSQL's block size, so that one block written is one page copied.
pub const PAGE: usize = 8192;

/// Maximum size of a file, in bytes. PostgreSQL splits relations and temporary files at 1 GiB; this
/// only limits a wrong offset.
const LEN_MAX: u64 = 64 << 30;

type Page = Arc<[u8; PAGE]>;

/// What a file shows before anything is written to it, and when that is needed.
pub trait Later: std::fmt::Debug + Send + Sync {
    /// The bytes, the same each time.
    ///
    /// # Errors
    /// They cannot be had: the guest's read fails.
    fn bytes(&self) -> Result<Bytes>;
}

#[derive(Debug, Clone)]
enum Base {
    Now(Bytes),
    Later(Arc<dyn Later>),
}

impl Default for Base {
    fn default() -> Self {
        Self::Now(Bytes::new())
    }
}

impl Base {
    fn bytes(&self) -> Result<Bytes> {
        match self {
            Self::Now(bytes) => Ok(bytes.clone()),
            Self::Later(later) => later.bytes(),
        }
    }
}

/// Bytes of a regular file. A clone shares everything until one of the two is written: first the
/// page table is copied, then each page that changes.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// Contents of the file in its image. Only a prefix is valid: see `base_len`.
    base: Base,
    /// Length of the valid prefix of the base. Truncation lowers it for good: truncated bytes must
    /// read as zeros if the file grows again.
    base_len: usize,
    /// Written pages by page number; `None` shows the base, and zeros after it.
    pages: Arc<Vec<Option<Page>>>,
    len: u64,
}

impl Content {
    /// A file that shows the given bytes without copying them.
    pub fn new(base: Bytes) -> Self {
        Self { base_len: base.len(), len: base.len() as u64, base: Base::Now(base), pages: Arc::default() }
    }

    /// A file of this length whose bytes are asked for when they are read.
    pub fn later(len: usize, base: Arc<dyn Later>) -> Self {
        Self { base_len: len, len: len as u64, base: Base::Later(base), pages: Arc::default() }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes from `offset` on and returns how many there were, at most `buf.len()`.
    pub fn read<'a>(&self, offset: u64, buf: impl Into<RawSliceMut<'a>>) -> Result<usize> {
        let mut buf = buf.into();
        let available = self.len.saturating_sub(offset);
        let count = usize::try_from(available).map_or(buf.len(), |available| available.min(buf.len()));
        let mut done = 0;
        while done < count {
            let position = offset + done as u64;
            let (page, start) = split(position);
            let piece = (PAGE - start).min(count - done);
            let mut target = buf.part(done, piece);
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(bytes) => target.copy_from(&bytes[start..start + piece]),
                None => self.read_base(position, target)?,
            }
            done += piece;
        }
        Ok(count)
    }

    /// Writes all bytes at `offset`, growing the file when needed.
    pub fn write<'a>(&mut self, offset: u64, data: impl Into<RawSlice<'a>>) -> Result<()> {
        let data = data.into();
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= LEN_MAX).ok_or(Errno::FBIG)?;
        let mut done = 0;
        while done < data.len() {
            let (page, start) = split(offset + done as u64);
            let piece = (PAGE - start).min(data.len() - done);
            self.write_page(page, start, data.part(done, piece))?;
            done += piece;
        }
        self.len = self.len.max(end);
        Ok(())
    }

    /// Truncates the file or extends it with zeros.
    pub fn set_len(&mut self, len: u64) -> Result<()> {
        if len > LEN_MAX {
            return Err(Errno::FBIG);
        }
        if len < self.len {
            self.base_len = self.base_len.min(usize::try_from(len).unwrap_or(usize::MAX));
            let (page, start) = split(len);
            let keep = if start == 0 { page } else { page + 1 };
            if page < self.pages.len() {
                let pages = Arc::make_mut(&mut self.pages);
                pages.truncate(keep);
                if start > 0
                    && let Some(Some(last)) = pages.get_mut(page)
                {
                    Arc::make_mut(last)[start..].fill(0);
                }
            }
        }
        self.len = len;
        Ok(())
    }

    /// Fills `target` with what the base shows at `position`, zeros after its end.
    fn read_base(&self, position: u64, mut target: RawSliceMut<'_>) -> Result<()> {
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(self.base_len);
        let piece = target.len().min(self.base_len - start);
        if piece > 0 {
            let base = self.base.bytes()?;
            target.part(0, piece).copy_from(base.get(start..start + piece).ok_or(Errno::IO)?);
        }
        target.part(piece, usize::MAX).zero();
        Ok(())
    }

    fn write_page(&mut self, page: usize, start: usize, data: RawSlice<'_>) -> Result<()> {
        if let Some(Some(_)) = self.pages.get(page)
            && let Some(Some(bytes)) = Arc::make_mut(&mut self.pages).get_mut(page)
        {
            data.copy_to(&mut Arc::make_mut(bytes)[start..start + data.len()]);
            return Ok(());
        }
        // Zeros over a hole stay a hole: PostgreSQL extends relations and fills new WAL segments
        // with them.
        let position = page as u64 * PAGE as u64;
        let mut bytes = [0; PAGE];
        if data.len() < PAGE {
            self.read_base(position, (&mut bytes).into())?;
        }
        data.copy_to(&mut bytes[start..start + data.len()]);
        if position >= self.base_len as u64 && bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= page {
            pages.resize_with(page + 1, || None);
        }
        pages[page] = Some(Arc::new(bytes));
        Ok(())
    }
}

/// Page number and offset inside the page.
fn split(position: u64) -> (usize, usize) {
    ((position / PAGE as u64) as usize, (position % PAGE as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Performs the same operations on a vector and on a `Content`, with sizes around the page
    /// boundary, and compares after every step.
    #[test]
    fn behaves_like_a_vector_of_bytes() {
        let base: Vec<u8> = (0..3 * PAGE + 100).map(|i| (i % 251) as u8 + 1).collect();
        let mut content = Content::new(base.clone().into());
        let mut model = base;
        let mut seed = 7u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        for step in 0..2000 {
            match next(4) {
                0 => {
                    let len = next(5 * PAGE);
                    content.set_len(len as u64).unwrap();
                    model.resize(len, 0);
                }
                1 => {
                    let (offset, len) = (next(5 * PAGE), next(2 * PAGE));
                    let zero = next(3) == 0;
                    let data: Vec<u8> = (0..len).map(|i| if zero { 0 } else { (step + i) as u8 }).collect();
                    content.write(offset as u64, &data[..]).unwrap();
                    if len > 0 {
                        model.resize(model.len().max(offset + len), 0);
                        model[offset..offset + len].copy_from_slice(&data);
                    } else {
                        model.resize(model.len().max(offset), 0);
                    }
                }
                _ => {
                    let (offset, len) = (next(6 * PAGE), next(2 * PAGE));
                    let mut buf = vec![0xAA; len];
                    let count = content.read(offset as u64, &mut buf[..]).unwrap();
                    let expected = model.get(offset..).unwrap_or(&[]);
                    assert_eq!(&buf[..count], &expected[..expected.len().min(len)], "step {step}");
                }
            }
            assert_eq!(content.len(), model.len() as u64);
        }
        assert_eq!(bytes(&content), model);
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let original = Content::new(Bytes::from_static(b"hello"));
        let mut copy = original.clone();
        copy.write(1, b"E").unwrap();
        assert_eq!(bytes(&original), b"hello");
        assert_eq!(bytes(&copy), b"hEllo");
    }

    /// All bytes.
    fn bytes(content: &Content) -> Vec<u8> {
        let mut bytes = vec![0; content.len() as usize];
        content.read(0, &mut bytes[..]).unwrap();
        bytes
    }

    #[test]
    fn a_clone_shares_pages_until_they_are_written() {
        let mut one = Content::default();
        one.write(0, &[1; 3 * PAGE]).unwrap();
        let mut two = one.clone();
        assert!(Arc::ptr_eq(&one.pages, &two.pages));
        two.write(PAGE as u64, &[2; 10]).unwrap();
        one.set_len(100).unwrap();
        let shared = |page: usize| Arc::ptr_eq(one.pages[page].as_ref().unwrap(), two.pages[page].as_ref().unwrap());
        assert!(!shared(0));
        assert_eq!(bytes(&one), [1; 100]);
        assert_eq!((bytes(&two)[PAGE], bytes(&two)[PAGE + 10], two.len()), (2, 1, 3 * PAGE as u64));
    }

    #[derive(Debug, Default)]
    struct Counted(std::sync::atomic::AtomicUsize, bool);

    impl Later for Counted {
        fn bytes(&self) -> Result<Bytes> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if self.1 { Err(Errno::IO) } else { Ok(Bytes::from_static(b"hello")) }
        }
    }

    #[test]
    fn bytes_that_come_later_are_asked_for_when_they_are_read() {
        let base = Arc::new(Counted::default());
        let asked = || base.0.load(std::sync::atomic::Ordering::SeqCst);
        let mut content = Content::later(5, base.clone());
        assert_eq!((content.len(), asked()), (5, 0));
        content.write(1, b"E").unwrap();
        assert_eq!(bytes(&content), b"hEllo");
        content.set_len(0).unwrap();
        let before = asked();
        content.set_len(3).unwrap();
        assert_eq!((bytes(&content), asked()), (vec![0; 3], before));
        let absent = Content::later(5, Arc::new(Counted(Default::default(), true)));
        assert_eq!(absent.read(0, &mut [0; 5][..]), Err(Errno::IO));
    }

    #[test]
    fn zeros_over_a_hole_take_no_page() {
        let mut content = Content::default();
        content.write(0, &[0; 4 * PAGE]).unwrap();
        assert_eq!((content.len(), content.pages.len()), (4 * PAGE as u64, 0));
    }

    #[test]
    fn refuses_a_runaway_offset() {
        let mut content = Content::default();
        assert_eq!(content.write(u64::MAX - 1, b"xy"), Err(Errno::FBIG));
        assert_eq!(content.set_len(LEN_MAX + 1), Err(Errno::FBIG));
        assert_eq!(content.len(), 0);
    }
}
