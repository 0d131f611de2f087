//! The guest's clocks: the system's, or a fixed one for making templates. `wasi` passes the
//! readings to the guest.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The source of the guest's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockSource {
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

/// The clock of one running guest.
#[derive(Debug)]
pub struct Clock {
    source: ClockSource,
    /// Next reading of a fixed clock, in nanoseconds.
    fixed_ns: u64,
}

impl Clock {
    /// A clock that has not been read.
    pub fn new(source: ClockSource) -> Self {
        let fixed_ns = match source {
            ClockSource::Fixed { unix_us, .. } => unix_us.saturating_mul(1000),
            ClockSource::System => 0,
        };
        Self { source, fixed_ns }
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
        match self.source {
            ClockSource::Fixed { .. } => self.fixed_ns,
            ClockSource::System => realtime_ns(),
        }
    }

    fn advance(&mut self) -> Option<u64> {
        let ClockSource::Fixed { step_us, .. } = self.source else { return None };
        let reading = self.fixed_ns;
        self.fixed_ns = reading.saturating_add(step_us.saturating_mul(1000));
        Some(reading)
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
        let mut clock = Clock::new(ClockSource::Fixed { unix_us: 1_000, step_us: 2 });
        assert_eq!((clock.realtime_ns(), clock.stamp_ns(), clock.monotonic_ns()), (1_000_000, 1_002_000, 1_002_000));
    }
}
