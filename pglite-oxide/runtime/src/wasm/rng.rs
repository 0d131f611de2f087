//! The guest's random numbers: the operating system's, or a sequence for making templates. `wasi`
//! and `abi` pass them to the guest.

/// The source of the guest's random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RngSource {
    /// The operating system.
    #[default]
    Os,
    /// A sequence determined by the seed. For making templates only: it must not generate secrets.
    Seeded(u64),
}

/// The random numbers of one running guest.
#[derive(Debug)]
pub enum Rng {
    /// The operating system's.
    Os,
    /// A sequence, with its state.
    Seeded(SplitMix64),
}

/// A generator of 64-bit numbers (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
/// Generators, 2014).
#[derive(Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl Rng {
    /// Random numbers of a source, from their beginning.
    pub fn new(source: RngSource) -> Self {
        match source {
            RngSource::Os => Self::Os,
            RngSource::Seeded(state) => Self::Seeded(SplitMix64 { state }),
        }
    }

    /// Fills `buf` with random bytes; an error if the system has none.
    pub fn fill(&mut self, buf: &mut [u8]) -> Result<(), getrandom::Error> {
        match self {
            Self::Os => getrandom::fill(buf),
            Self::Seeded(sequence) => {
                for chunk in buf.chunks_mut(8) {
                    chunk.copy_from_slice(&sequence.next().to_le_bytes()[..chunk.len()]);
                }
                Ok(())
            }
        }
    }
}

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_sequence() {
        let fill = |seed, len| {
            let mut buf = vec![0; len];
            Rng::new(RngSource::Seeded(seed)).fill(&mut buf).unwrap();
            buf
        };
        assert_eq!(fill(1, 33), fill(1, 33));
        assert_ne!(fill(1, 33), fill(2, 33));
        // First value of the published sequence for seed 0.
        assert_eq!(fill(0, 8), 0xE220_A839_7B1D_CDAF_u64.to_le_bytes());
    }
}
