//! Statistics of several rounds: median, spread, and the ratio of two sides measured in turn. Pure
//! functions.

use serde::Serialize;

/// Samples and their statistics.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// One for each round, in the order of the rounds.
    pub(crate) samples: Vec<f64>,
}

impl Summary {
    /// `None` without samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, min, max, samples: samples.to_vec() })
    }

    /// The ratio of the two sides in each round. A slower machine slows both sides of a round, so
    /// the ratio varies less than the times.
    pub(crate) fn ratio(&self, theirs: &Self) -> Option<Self> {
        let pairs = self.samples.iter().zip(&theirs.samples).filter(|(_, theirs)| **theirs > 0.0);
        Self::of(&pairs.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
    }
}

/// The median; `None` without samples.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    Summary::of(samples).map(|summary| summary.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        let odd = Summary::of(&[3.0, 1.0, 200.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (3.0, 1.0, 200.0));
        assert_eq!(odd.samples, [3.0, 1.0, 200.0], "rounds keep their order");
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_ratio_pairs_the_rounds() {
        // The second round ran on a machine that was half as fast; the ratio is not affected.
        let ours = Summary::of(&[10.0, 20.0, 12.0]).unwrap();
        let theirs = Summary::of(&[5.0, 10.0, 6.0]).unwrap();
        let ratio = ours.ratio(&theirs).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 2.0, 2.0));
        assert_eq!(ours.ratio(&Summary::of(&[0.0, 0.0, 0.0]).unwrap()), None);
    }
}
