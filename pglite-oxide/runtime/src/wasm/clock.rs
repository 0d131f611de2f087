//! The guest's clock and random numbers. It owns both sources; `wasi` and `abi` pass them to the
//! guest.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Sources of time and randomness of one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct World {
    /// The clock.
    pub clock: Clock,
    /// The random numbers.
    pub random: Random,
}

/// The source of the guest's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The system's clocks.
    #[default]
    System,
    /// A clock that starts at a time, in microseconds since 1970, and moves on by `step_us` each
    /// time it is read.
    Fixed {
        /// First reading, in microseconds since 1970.
        unix_us: u64,
        /// Difference between readings, in microseconds.
        step_us: u64,
    },
}

/// The source of the guest's random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Random {
    /// The operating system.
    #[default]
    Os,
    /// A sequence determined by the seed. For making templates only: it must not generate secrets.
    Seeded(u64),
}

/// The sources of one running guest.
#[derive(Debug)]
pub struct Sources {
    world: World,
    /// Reading of a fixed clock, in nanoseconds.
    fixed_ns: u64,
    /// State of a seeded sequence.
    state: u64,
}

impl Sources {
    /// Sources in their initial state.
    pub fn new(world: World) -> Self {
        let fixed_ns = match world.clock {
            Clock::Fixed { unix_us, .. } => unix_us.saturating_mul(1000),
            Clock::System => 0,
        };
        let state = match world.random {
            Random::Seeded(seed) => seed,
            Random::Os => 0,
        };
        Self { world, fixed_ns, state }
    }

    /// Reads the wall clock, in nanoseconds since 1970.
    pub fn realtime_ns(&mut self) -> u64 {
        self.advance().unwrap_or_else(realtime_ns)
    }

    /// Reads a monotonic clock, in nanoseconds since an arbitrary moment.
    pub fn monotonic_ns(&mut self) -> u64 {
        self.advance().unwrap_or_else(monotonic_ns)
    }

    /// The time for file timestamps. It does not advance a fixed clock, so that the clock does not
    /// depend on the number of file changes.
    pub fn stamp_ns(&self) -> u64 {
        match self.world.clock {
            Clock::Fixed { .. } => self.fixed_ns,
            Clock::System => realtime_ns(),
        }
    }

    /// Fills `buf` with random bytes; an error if the system has none.
    pub fn fill(&mut self, buf: &mut [u8]) -> Result<(), getrandom::Error> {
        match self.world.random {
            Random::Os => getrandom::fill(buf),
            Random::Seeded(_) => {
                for chunk in buf.chunks_mut(8) {
                    chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
                }
                Ok(())
            }
        }
    }

    fn advance(&mut self) -> Option<u64> {
        let Clock::Fixed { step_us, .. } = self.world.clock else { return None };
        let reading = self.fixed_ns;
        self.fixed_ns = reading.saturating_add(step_us.saturating_mul(1000));
        Some(reading)
    }

    /// Next number of the SplitMix64 sequence (Steele, Lea, Flood: Fast Splittable Pseudorandom
    /// Number Generators, 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn realtime_ns() -> u64 {
    nanoseconds(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn monotonic_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // Readings begin above zero: a zero time means "never" to some programs.
    nanoseconds(START.get_or_init(Instant::now).elapsed() + Duration::from_secs(1))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_steps_by_its_readings_only() {
        let clock = Clock::Fixed { unix_us: 1_000, step_us: 2 };
        let mut sources = Sources::new(World { clock, random: Random::Os });
        assert_eq!(
            (sources.realtime_ns(), sources.stamp_ns(), sources.monotonic_ns()),
            (1_000_000, 1_002_000, 1_002_000)
        );
    }

    #[test]
    fn a_seed_determines_the_sequence() {
        let fill = |seed, len| {
            let mut buf = vec![0; len];
            Sources::new(World { random: Random::Seeded(seed), ..World::default() }).fill(&mut buf).unwrap();
            buf
        };
        assert_eq!(fill(1, 33), fill(1, 33));
        assert_ne!(fill(1, 33), fill(2, 33));
        // First value of the published sequence for seed 0.
        assert_eq!(fill(0, 8), 0xE220_A839_7B1D_CDAF_u64.to_le_bytes());
    }
}
