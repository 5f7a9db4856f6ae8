//! What is promised of a row, and whether it is kept.

use std::fmt;

use crate::series::{Figures, Unit};
use crate::subject::Subject;

/// A bound on our figures, most of them relative to others of the same run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Promise {
    /// Our median is at most so many times that of another.
    AtMostTimes(f64, Subject),
    /// Our median is at least so many times that of another.
    AtLeastTimes(f64, Subject),
    /// Our median is at most that of another and so much, in the unit of the row.
    AtMostAbove(f64, Subject),
    /// Our median is at most this, in the unit of the row.
    AtMost(f64),
    /// Our median is at least this, in the unit of the row.
    AtLeast(f64),
    /// The 99th percentile is at most this, in the unit of the row.
    P99AtMost(f64),
}

impl Promise {
    /// Whether it is kept, `None` if what it is held against was not measured.
    pub(crate) fn kept(self, figures: impl Fn(Subject) -> Option<Figures>) -> Option<bool> {
        let ours = figures(Subject::Ours)?;
        let other = |subject| figures(subject).map(|figures| figures.median);
        Some(match self {
            Self::AtMostTimes(times, subject) => ours.median <= times * other(subject)?,
            Self::AtLeastTimes(times, subject) => ours.median >= times * other(subject)?,
            Self::AtMostAbove(more, subject) => ours.median <= more + other(subject)?,
            Self::AtMost(bound) => ours.median <= bound,
            Self::AtLeast(bound) => ours.median >= bound,
            Self::P99AtMost(bound) => ours.bad <= bound,
        })
    }

    /// As it is written in a report.
    pub(crate) fn describe(self, unit: Unit) -> impl fmt::Display {
        struct Words(Promise, Unit);
        impl fmt::Display for Words {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let unit = self.1.symbol();
                match self.0 {
                    Promise::AtMostTimes(times, subject) => {
                        write!(f, "<= {times:.2} x {}", subject.name())
                    }
                    Promise::AtLeastTimes(times, subject) => {
                        write!(f, ">= {times:.2} x {}", subject.name())
                    }
                    Promise::AtMostAbove(more, subject) => {
                        write!(f, "<= {} + {more} {unit}", subject.name())
                    }
                    Promise::AtMost(bound) => write!(f, "<= {bound} {unit}"),
                    Promise::AtLeast(bound) => write!(f, ">= {bound} {unit}"),
                    Promise::P99AtMost(bound) => write!(f, "p99 <= {bound} {unit}"),
                }
            }
        }
        Words(self, unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_kept_at_its_bound_and_broken_beyond_it() {
        let figures = |subject| match subject {
            Subject::Ours => Some(Figures {
                median: 10.0,
                bad: 20.0,
            }),
            Subject::Reference => Some(Figures {
                median: 40.0,
                bad: 50.0,
            }),
            Subject::Ssh | Subject::Machine => None,
        };
        use Promise::{AtLeast, AtLeastTimes, AtMost, AtMostAbove, AtMostTimes, P99AtMost};
        for (kept, broken) in [
            (
                AtMostTimes(0.25, Subject::Reference),
                AtMostTimes(0.24, Subject::Reference),
            ),
            (
                AtLeastTimes(0.25, Subject::Reference),
                AtLeastTimes(0.26, Subject::Reference),
            ),
            (
                AtMostAbove(-30.0, Subject::Reference),
                AtMostAbove(-31.0, Subject::Reference),
            ),
            (AtMost(10.0), AtMost(9.0)),
            (AtLeast(10.0), AtLeast(11.0)),
            (P99AtMost(20.0), P99AtMost(19.0)),
        ] {
            assert_eq!(kept.kept(figures), Some(true), "{kept:?}");
            assert_eq!(broken.kept(figures), Some(false), "{broken:?}");
        }
        assert_eq!(AtMostTimes(1.0, Subject::Ssh).kept(figures), None);
    }
}
