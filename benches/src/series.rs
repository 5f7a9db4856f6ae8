//! Samples of one quantity, and the figures that stand for them.

use std::borrow::Cow;
use std::time::Duration;

use crate::promise::Promise;

/// Samples that were taken in one run.
#[derive(Clone, Debug)]
pub struct Series {
    /// What was measured.
    pub name: Cow<'static, str>,
    /// Of the samples.
    pub unit: Unit,
    /// In the order in which they were taken.
    pub samples: Vec<f64>,
    /// What is promised of ours.
    pub promises: &'static [Promise],
}

/// What the samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Time.
    Milliseconds,
    /// Throughput of bytes.
    MegabytesPerSecond,
    /// Size, millions of bytes.
    Megabytes,
    /// Size, for small things.
    Kibibytes,
    /// Processor time for a billion bytes.
    SecondsPerGigabyte,
    /// Throughput of things.
    PerSecond,
}

impl Unit {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::MegabytesPerSecond => "MB/s",
            Self::Megabytes => "MB",
            Self::Kibibytes => "KiB",
            Self::SecondsPerGigabyte => "s/GB",
            Self::PerSecond => "/s",
        }
    }

    /// Whether the interesting extreme is the large one.
    pub(crate) fn less_is_better(self) -> bool {
        !matches!(self, Self::MegabytesPerSecond | Self::PerSecond)
    }
}

impl Series {
    /// Samples as they are.
    pub fn new(name: impl Into<Cow<'static, str>>, unit: Unit, samples: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            unit,
            samples,
            promises: &[],
        }
    }

    /// Samples of time.
    pub fn times(name: &'static str, times: Vec<Duration>) -> Self {
        let samples = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        Self::new(name, Unit::Milliseconds, samples)
    }

    /// One sample of throughput: so many bytes in so much time.
    pub fn rate(name: &'static str, bytes: u64, time: Duration) -> Self {
        let rate = megabytes_per_second(bytes, time);
        Self::new(name, Unit::MegabytesPerSecond, vec![rate])
    }

    /// One sample of a size.
    #[expect(clippy::cast_precision_loss, reason = "a size")]
    pub fn megabytes(name: &'static str, bytes: u64) -> Self {
        Self::new(name, Unit::Megabytes, vec![bytes as f64 / 1e6])
    }

    /// The same with what is promised.
    #[must_use]
    pub fn promised(mut self, promises: &'static [Promise]) -> Self {
        self.promises = promises;
        self
    }
}

/// A sample of throughput.
#[expect(clippy::cast_precision_loss, reason = "a rate")]
pub(crate) fn megabytes_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e6
}

/// What stands for many samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Half of the samples are not above it.
    pub median: f64,
    /// The 99th percentile of times, the first of rates: how bad it gets.
    pub bad: f64,
}

impl Figures {
    /// `None` without samples.
    pub fn of(unit: Unit, samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let bad = if unit.less_is_better() { 99 } else { 1 };
        Some(Self {
            median: *at(&sorted, 50)?,
            bad: *at(&sorted, bad)?,
        })
    }
}

/// The smallest sample that so many percent are not above (nearest rank).
fn at(sorted: &[f64], percent: usize) -> Option<&f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let figures = Figures::of(Unit::Milliseconds, &samples).unwrap();
        assert_eq!((figures.median, figures.bad), (100.0, 198.0));
        let figures = Figures::of(Unit::MegabytesPerSecond, &samples).unwrap();
        assert_eq!((figures.median, figures.bad), (100.0, 2.0));
        let figures = Figures::of(Unit::Milliseconds, &[7.0]).unwrap();
        assert_eq!((figures.median, figures.bad), (7.0, 7.0));
        assert_eq!(Figures::of(Unit::Milliseconds, &[]), None);
    }
}
