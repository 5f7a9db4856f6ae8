//! The table.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::promise::Promise;
use crate::scenes::Scene;
use crate::series::{Figures, Series, Unit};
use crate::subject::Subject;

/// All samples so far, by row.
#[derive(Debug)]
pub struct Report {
    subjects: Vec<Subject>,
    pub(crate) rows: Vec<Row>,
}

/// One line: the same quantity of everybody.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scene: &'static str,
    pub(crate) name: Cow<'static, str>,
    pub(crate) unit: Unit,
    promises: &'static [Promise],
    samples: Vec<(Subject, Vec<f64>)>,
}

impl Row {
    /// What stands for the samples of one of them.
    pub(crate) fn figures(&self, subject: Subject) -> Option<Figures> {
        let (_, samples) = self.samples.iter().find(|(it, _)| *it == subject)?;
        Figures::of(self.unit, samples)
    }

    /// Our median by the other's.
    fn ratio(&self, other: Subject) -> Option<f64> {
        Some(self.figures(Subject::Ours)?.median / self.figures(other)?.median)
    }
}

impl Report {
    /// An empty one, with columns for each of them.
    pub fn new(subjects: &[Subject]) -> Self {
        Self {
            subjects: subjects.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds what one run gave.
    pub fn add(&mut self, scene: &Scene, subject: Subject, series: Vec<Series>) {
        for series in series {
            let position = self
                .rows
                .iter()
                .position(|row| row.scene == scene.name && row.name == series.name);
            let position = position.unwrap_or_else(|| {
                self.rows.push(Row {
                    scene: scene.name,
                    name: series.name,
                    unit: series.unit,
                    promises: series.promises,
                    samples: Vec::new(),
                });
                self.rows.len() - 1
            });
            let Some(row) = self.rows.get_mut(position) else {
                continue;
            };
            match row.samples.iter_mut().find(|(it, _)| *it == subject) {
                Some((_, samples)) => samples.extend(series.samples),
                None => row.samples.push((subject, series.samples)),
            }
        }
    }

    fn has(&self, subject: Subject) -> bool {
        self.subjects.contains(&subject)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = "| scene | what | ours | p99 |".to_owned();
        for subject in self.subjects.iter().filter(|it| **it != Subject::Ours) {
            write!(head, " {0} |", subject.name())?;
            if *subject == Subject::Reference {
                head.push_str(" p99 | ratio |");
            }
        }
        head.push_str(" promised |");
        writeln!(f, "{head}")?;
        writeln!(
            f,
            "|---|---|{}---|",
            "---:|".repeat(head.matches('|').count() - 4)
        )?;
        for row in &self.rows {
            let unit = row.unit.symbol();
            let write_both = |f: &mut fmt::Formatter<'_>, subject| match row.figures(subject) {
                Some(Figures { median, bad }) => {
                    write!(f, " {} {unit} | {} {unit} |", Number(median), Number(bad))
                }
                None => write!(f, " | |"),
            };
            write!(f, "| {} | {} |", row.scene, row.name)?;
            write_both(f, Subject::Ours)?;
            if self.has(Subject::Reference) {
                write_both(f, Subject::Reference)?;
                match row.ratio(Subject::Reference) {
                    Some(ratio) => write!(f, " {ratio:.2} |")?,
                    None => write!(f, " |")?,
                }
            }
            for subject in [Subject::Ssh, Subject::Machine] {
                if self.has(subject) {
                    match row.figures(subject) {
                        Some(Figures { median, .. }) => write!(f, " {} {unit} |", Number(median))?,
                        None => write!(f, " |")?,
                    }
                }
            }
            let promises = row.promises.iter().map(|promise| {
                let kept = match promise.kept(|subject| row.figures(subject)) {
                    Some(true) => "kept",
                    Some(false) => "BROKEN",
                    None => "not compared",
                };
                format!("{}: {kept}", promise.describe(row.unit))
            });
            writeln!(f, " {} |", promises.collect::<Vec<_>>().join("; "))?;
        }
        Ok(())
    }
}

/// With as many digits as mean something.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0 {
            small if small < 10.0 => 2,
            medium if medium < 100.0 => 1,
            _ => 0,
        };
        write!(f, "{:.digits$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::SCENES;

    #[test]
    fn rounds_go_into_one_row_and_subjects_into_columns() {
        let mut report = Report::new(&[Subject::Ours, Subject::Reference, Subject::Ssh]);
        let series = |samples| {
            let series = Series::new("echo", Unit::Milliseconds, samples);
            vec![series.promised(&[Promise::AtMostTimes(0.2, Subject::Reference)])]
        };
        report.add(&SCENES[0], Subject::Ours, series(vec![1.0, 2.0]));
        report.add(&SCENES[0], Subject::Reference, series(vec![8.0]));
        report.add(&SCENES[0], Subject::Ours, series(vec![3.0]));
        let table = report.to_string();
        let row = table.lines().last().unwrap();
        let name = SCENES[0].name;
        let expected = format!(
            "| {name} | echo | 2.00 ms | 3.00 ms | 8.00 ms | 8.00 ms | 0.25 | | \
             <= 0.20 x Codex 0.169: BROKEN |"
        );
        assert_eq!(row, expected);
    }

    #[test]
    fn a_row_without_samples_has_all_cells() {
        let all = [
            Subject::Ours,
            Subject::Reference,
            Subject::Ssh,
            Subject::Machine,
        ];
        let mut report = Report::new(&all);
        let series = vec![Series::new("echo", Unit::Milliseconds, vec![1.0])];
        report.add(&SCENES[0], Subject::Ours, series);
        let table = report.to_string();
        let cells = |line: &str| line.matches('|').count();
        let first = table.lines().next().map(cells);
        assert!(table.lines().all(|line| Some(cells(line)) == first));
    }
}
