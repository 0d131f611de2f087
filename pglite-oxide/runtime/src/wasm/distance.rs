//! Distances between arrays of floating point numbers in guest memory, for extensions that search
//! by them. WebAssembly has vectors of 128 bits, no fused multiplication and no half-precision
//! numbers; a processor has more, and each has something else. It owns these loops, and which of
//! them this processor runs; the import that calls them is `abi`'s.

use std::sync::LazyLock;

use crate::fs::RawSlice;

/// What is computed of two arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The sum of the squares of differences.
    L2Squared,
    /// The sum of products.
    InnerProduct,
    /// The inner product, divided by the product of both norms.
    CosineSimilarity,
    /// The sum of the absolute differences.
    L1,
}

/// The type of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32 bits: PostgreSQL's `float4`.
    Single,
    /// 16 bits: IEEE 754's binary16.
    Half,
}

impl Metric {
    /// The metric with this number in `pgl_distance.h`.
    pub fn of(number: u32) -> Option<Self> {
        [Self::L2Squared, Self::InnerProduct, Self::CosineSimilarity, Self::L1].get(number as usize).copied()
    }
}

impl Element {
    /// The type with this number in `pgl_distance.h`.
    pub fn of(number: u32) -> Option<Self> {
        [Self::Single, Self::Half].get(number as usize).copied()
    }

    /// Bytes of one number.
    pub const fn size(self) -> u32 {
        match self {
            Self::Single => 4,
            Self::Half => 2,
        }
    }
}

/// Computes with single precision, as pgvector does. Numbers of the longer array that the other
/// one does not have are left out.
pub fn distance(metric: Metric, element: Element, a: RawSlice<'_>, b: RawSlice<'_>) -> f64 {
    let len = a.len().min(b.len());
    let (a, b) = (a.part(0, len), b.part(0, len));
    let sums = match element {
        Element::Single => sums::<false>(metric, a, b),
        Element::Half => sums::<true>(metric, a, b),
    };
    match metric {
        Metric::CosineSimilarity => f64::from(sums[0]) / (f64::from(sums[1]) * f64::from(sums[2])).sqrt(),
        _ => f64::from(sums[0]),
    }
}

/// The metric's sum; and those of both arrays' squares, if the metric needs them.
type Sums = [f32; 3];

/// Loops for one type of numbers, by metric.
type Loops = [fn(RawSlice<'_>, RawSlice<'_>) -> Sums; 4];

fn sums<const HALF: bool>(metric: Metric, a: RawSlice<'_>, b: RawSlice<'_>) -> Sums {
    static SINGLE: LazyLock<Loops> = LazyLock::new(loops::<false>);
    static HALVES: LazyLock<Loops> = LazyLock::new(loops::<true>);
    (if HALF { &HALVES } else { &SINGLE })[metric as usize](a, b)
}

/// The fastest loops that this processor can run.
fn loops<const HALF: bool>() -> Loops {
    #[cfg(target_arch = "x86_64")]
    if x86::supported() {
        return [x86::sums::<HALF, 0>, x86::sums::<HALF, 1>, x86::sums::<HALF, 2>, x86::sums::<HALF, 3>];
    }
    [any::sums::<HALF, 0>, any::sums::<HALF, 1>, any::sums::<HALF, 2>, any::sums::<HALF, 3>]
}

/// Loops for any processor, in a form that compilers turn into vectors.
mod any {
    use super::{Metric, RawSlice, Sums};

    /// Numbers that are added side by side.
    const LANES: usize = 8;

    pub(super) fn sums<const HALF: bool, const METRIC: usize>(a: RawSlice<'_>, b: RawSlice<'_>) -> Sums {
        let width = LANES * if HALF { 2 } else { 4 };
        let mut lanes = [[0f32; LANES]; 3];
        for start in (0..a.len()).step_by(width) {
            let (x, y) = (load::<HALF>(a.part(start, width)), load::<HALF>(b.part(start, width)));
            for i in 0..LANES {
                let (x, y) = (x[i], y[i]);
                lanes[0][i] += match METRIC {
                    L2_SQUARED => (x - y) * (x - y),
                    L1 => (x - y).abs(),
                    _ => x * y,
                };
                if METRIC == COSINE_SIMILARITY {
                    lanes[1][i] += x * x;
                    lanes[2][i] += y * y;
                }
            }
        }
        lanes.map(|lanes| lanes.iter().sum())
    }

    const L2_SQUARED: usize = Metric::L2Squared as usize;
    const COSINE_SIMILARITY: usize = Metric::CosineSimilarity as usize;
    const L1: usize = Metric::L1 as usize;

    /// The numbers of a part, and zeros after them.
    fn load<const HALF: bool>(part: RawSlice<'_>) -> [f32; LANES] {
        let mut bytes = [0; LANES * 4];
        if let Some(bytes) = bytes.get_mut(..part.len()) {
            part.copy_to(bytes);
        }
        std::array::from_fn(|i| {
            if HALF {
                single(u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
            } else {
                f32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
            }
        })
    }

    /// A half-precision number. Its bits without the sign, moved to the place of a float's, are a
    /// float that is too small by 2^112, also for subnormal numbers.
    pub(super) fn single(half: u16) -> f32 {
        let bits = u32::from(half);
        let scaled = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        f32::from_bits(scaled.to_bits() | special | (bits & 0x8000) << 16)
    }
}

/// Loops for x86-64 processors with AVX2, FMA and F16C: all since 2015.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, _mm_loadu_si128, _mm256_add_ps, _mm256_andnot_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_sub_ps,
    };

    use super::{Metric, RawSlice, Sums};

    /// Numbers in a register.
    const LANES: usize = 8;
    /// Registers that are added to in turn, because an addition has to wait for the one before it
    /// in the same register.
    const ACCUMULATORS: usize = 4;

    pub(super) fn supported() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    }

    pub(super) fn sums<const HALF: bool, const METRIC: usize>(a: RawSlice<'_>, b: RawSlice<'_>) -> Sums {
        assert_eq!(a.len(), b.len());
        // SAFETY: `loops` hands this function out only if `supported`. Both ranges are allocated
        // and of the same length.
        unsafe { inner::<HALF, METRIC>(a, b) }
    }

    /// # Safety
    /// The processor has the features. Both ranges are equally long.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn inner<const HALF: bool, const METRIC: usize>(a: RawSlice<'_>, b: RawSlice<'_>) -> Sums {
        let width = LANES * if HALF { 2 } else { 4 };
        let mut sums = [[_mm256_setzero_ps(); 3]; ACCUMULATORS];
        let whole = a.len() / width;
        let mut vector = 0;
        while vector + ACCUMULATORS <= whole {
            for (i, sums) in sums.iter_mut().enumerate() {
                let at = (vector + i) * width;
                // SAFETY: a whole vector begins at `at` in both ranges.
                unsafe { add::<HALF, METRIC>(sums, a.as_ptr().add(at), b.as_ptr().add(at)) };
            }
            vector += ACCUMULATORS;
        }
        while vector < whole {
            let at = vector * width;
            // SAFETY: as above.
            unsafe { add::<HALF, METRIC>(&mut sums[0], a.as_ptr().add(at), b.as_ptr().add(at)) };
            vector += 1;
        }
        let (a, b) = (a.part(whole * width, width), b.part(whole * width, width));
        if !a.is_empty() {
            // Zeros after the last numbers add nothing to any sum.
            let mut rest = [[0u8; LANES * 4]; 2];
            a.copy_to(&mut rest[0][..a.len()]);
            b.copy_to(&mut rest[1][..b.len()]);
            // SAFETY: both buffers have a whole vector.
            unsafe { add::<HALF, METRIC>(&mut sums[0], rest[0].as_ptr(), rest[1].as_ptr()) };
        }
        let [first, second, third, fourth] = sums;
        std::array::from_fn(|i| {
            let sum = _mm256_add_ps(_mm256_add_ps(first[i], second[i]), _mm256_add_ps(third[i], fourth[i]));
            let mut lanes = [0f32; LANES];
            // SAFETY: the buffer has the size of a register.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
            lanes.iter().sum()
        })
    }

    /// # Safety
    /// A whole vector can be read at both addresses, which need not be aligned.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn add<const HALF: bool, const METRIC: usize>(sums: &mut [__m256; 3], a: *const u8, b: *const u8) {
        // SAFETY: of the caller.
        let (x, y) = unsafe { (load::<HALF>(a), load::<HALF>(b)) };
        match METRIC {
            L2_SQUARED => {
                let difference = _mm256_sub_ps(x, y);
                sums[0] = _mm256_fmadd_ps(difference, difference, sums[0]);
            }
            L1 => {
                let difference = _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_sub_ps(x, y));
                sums[0] = _mm256_add_ps(difference, sums[0]);
            }
            COSINE_SIMILARITY => {
                sums[0] = _mm256_fmadd_ps(x, y, sums[0]);
                sums[1] = _mm256_fmadd_ps(x, x, sums[1]);
                sums[2] = _mm256_fmadd_ps(y, y, sums[2]);
            }
            _ => sums[0] = _mm256_fmadd_ps(x, y, sums[0]),
        }
    }

    const L2_SQUARED: usize = Metric::L2Squared as usize;
    const COSINE_SIMILARITY: usize = Metric::CosineSimilarity as usize;
    const L1: usize = Metric::L1 as usize;

    /// # Safety
    /// As of `add`.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn load<const HALF: bool>(address: *const u8) -> __m256 {
        // SAFETY: of the caller. Nothing is made a reference of, since another thread may write
        // there.
        unsafe { if HALF { _mm256_cvtph_ps(_mm_loadu_si128(address.cast())) } else { _mm256_loadu_ps(address.cast()) } }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;

    use super::*;

    const METRICS: [Metric; 4] = [Metric::L2Squared, Metric::InnerProduct, Metric::CosineSimilarity, Metric::L1];

    fn raw(bytes: &[u8]) -> RawSlice<'_> {
        // SAFETY: the bytes are borrowed as long, and nothing writes them.
        unsafe { RawSlice::new(NonNull::from(bytes).cast(), bytes.len()) }
    }

    /// Small whole numbers, which both types have and whose sums are exact.
    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7 + seed * 3) % 13) as f32 - 6.0).collect()
    }

    fn bytes(element: Element, numbers: &[f32]) -> Vec<u8> {
        let half = |number: f32| match number.to_bits() {
            0 => 0,
            bits => (bits >> 16 & 0x8000 | ((bits >> 23 & 0xff) - 112) << 10 | bits >> 13 & 0x3ff) as u16,
        };
        match element {
            Element::Single => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
            Element::Half => numbers.iter().flat_map(|n| half(*n).to_le_bytes()).collect(),
        }
    }

    fn expected(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
        let sum = |of: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| of((*a).into(), (*b).into())).sum::<f64>();
        match metric {
            Metric::L2Squared => sum(|a, b| (a - b) * (a - b)),
            Metric::InnerProduct => sum(|a, b| a * b),
            Metric::L1 => sum(|a, b| (a - b).abs()),
            Metric::CosineSimilarity => sum(|a, b| a * b) / (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt(),
        }
    }

    /// Every length about one and several vectors, at odd addresses, by both kinds of loops.
    #[test]
    fn distances_are_those_of_a_plain_loop() {
        for element in [Element::Single, Element::Half] {
            for len in (0..80).chain([767, 768, 769, 2000]) {
                let (a, b) = (numbers(len, 1), numbers(len, 2));
                let shifted = |numbers: &[f32]| [vec![0xff], bytes(element, numbers)].concat();
                let (a_bytes, b_bytes) = (shifted(&a), shifted(&b));
                let (a_raw, b_raw) = (raw(&a_bytes[1..]), raw(&b_bytes[1..]));
                for metric in METRICS {
                    let expected = expected(metric, &a, &b);
                    let found = distance(metric, element, a_raw, b_raw);
                    assert!(found == expected || found.is_nan() && expected.is_nan(), "{metric:?} {element:?} {len}");
                    let slow: Loops = match element {
                        Element::Single => {
                            [any::sums::<false, 0>, any::sums::<false, 1>, any::sums::<false, 2>, any::sums::<false, 3>]
                        }
                        Element::Half => {
                            [any::sums::<true, 0>, any::sums::<true, 1>, any::sums::<true, 2>, any::sums::<true, 3>]
                        }
                    };
                    let fast = if element == Element::Half {
                        sums::<true>(metric, a_raw, b_raw)
                    } else {
                        sums::<false>(metric, a_raw, b_raw)
                    };
                    assert_eq!(slow[metric as usize](a_raw, b_raw), fast, "{metric:?} {element:?} {len}");
                }
            }
        }
    }

    /// Every half-precision number, as the processor converts it, too.
    #[test]
    fn every_half_is_converted() {
        let one = bytes(Element::Half, &[1.0]);
        for bits in 0..=u16::MAX {
            let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
            let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
            let expected = match exponent {
                0 => sign * mantissa * 2f32.powi(-24),
                31 if mantissa == 0.0 => sign * f32::INFINITY,
                31 => f32::NAN,
                exponent => sign * (1024.0 + mantissa) * 2f32.powi(exponent - 25),
            };
            let same = |found: f32| found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same(any::single(bits)), "{bits:#x}");
            let product = distance(Metric::InnerProduct, Element::Half, raw(&bits.to_le_bytes()), raw(&one)) as f32;
            // A sum that begins with zero has no negative zero.
            assert!(same(product) || product == 0.0 && expected == 0.0, "{bits:#x}");
        }
    }

    #[test]
    fn arrays_of_different_lengths_are_as_long_as_the_shorter_one() {
        let (long, short) = (bytes(Element::Single, &[1.0, 2.0, 3.0]), bytes(Element::Single, &[1.0, 2.0]));
        for (a, b) in [(&long, &short), (&short, &long)] {
            assert_eq!(distance(Metric::InnerProduct, Element::Single, raw(a), raw(b)), 5.0);
        }
    }

    #[test]
    fn other_numbers_name_nothing() {
        assert_eq!(Metric::of(3), Some(Metric::L1));
        assert_eq!(Metric::of(4), None);
        assert_eq!(Element::of(1), Some(Element::Half));
        assert_eq!(Element::of(2), None);
    }
}
