//! The table.

use std::fmt;

use crate::scenes::Scene;
use crate::series::{Figures, Series, Unit};
use crate::system::Subject;

/// All samples so far, by row.
#[derive(Debug)]
pub struct Report {
    subjects: Vec<Subject>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    scene: &'static str,
    name: &'static str,
    unit: Unit,
    /// One for each subject.
    samples: Vec<Vec<f64>>,
}

impl Report {
    /// An empty one, with a pair of columns for each of them.
    pub fn new(subjects: &[Subject]) -> Self {
        Self {
            subjects: subjects.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds what one run gave.
    pub fn add(&mut self, scene: &Scene, subject: Subject, series: Vec<Series>) {
        let column = self.subjects.iter().position(|it| *it == subject);
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
                    samples: vec![Vec::new(); self.subjects.len()],
                });
                self.rows.len() - 1
            });
            if let Some(samples) = column.and_then(|it| self.rows[position].samples.get_mut(it)) {
                samples.extend(series.samples);
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| scene | what |")?;
        for subject in &self.subjects {
            write!(f, " {0}, median | {0}, p99 |", subject.name())?;
        }
        let has_ratio = self.subjects.len() == 2;
        if has_ratio {
            write!(f, " ratio of medians |")?;
        }
        write!(f, "\n|---|---|")?;
        for _ in &self.subjects {
            write!(f, "---:|---:|")?;
        }
        writeln!(f, "{}", if has_ratio { "---:|" } else { "" })?;
        for row in &self.rows {
            let figures: Vec<_> = row
                .samples
                .iter()
                .map(|samples| Figures::of(row.unit, samples))
                .collect();
            write!(f, "| {} | {} |", row.scene, row.name)?;
            for figures in &figures {
                match figures {
                    Some(Figures { median, bad }) => {
                        let unit = row.unit.symbol();
                        write!(f, " {median:.2} {unit} | {bad:.2} {unit} |")?;
                    }
                    None => write!(f, " - | - |")?,
                }
            }
            match figures[..] {
                [Some(ours), Some(theirs)] => write!(f, " {:.2} |", ours.median / theirs.median)?,
                _ if has_ratio => write!(f, " - |")?,
                _ => {}
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::SCENES;

    #[test]
    fn rounds_go_into_one_row_and_subjects_into_columns() {
        let mut report = Report::new(&[Subject::Ours, Subject::Reference]);
        let series = |samples| vec![Series::new("echo", Unit::Milliseconds, samples)];
        report.add(&SCENES[0], Subject::Ours, series(vec![1.0, 2.0]));
        report.add(&SCENES[0], Subject::Reference, series(vec![8.0]));
        report.add(&SCENES[0], Subject::Ours, series(vec![3.0]));
        let table = report.to_string();
        let row = table.lines().last().unwrap();
        let name = SCENES[0].name;
        let expected = format!("| {name} | echo | 2.00 ms | 3.00 ms | 8.00 ms | 8.00 ms | 0.25 |");
        assert_eq!(row, expected);
    }

    #[test]
    fn a_row_without_samples_has_all_cells() {
        let mut report = Report::new(&[Subject::Ours, Subject::Reference]);
        let series = vec![Series::new("echo", Unit::Milliseconds, vec![1.0])];
        report.add(&SCENES[0], Subject::Ours, series);
        let table = report.to_string();
        let cells = |line: &str| line.matches('|').count();
        let first = table.lines().next().map(cells);
        assert!(table.lines().all(|line| Some(cells(line)) == first));
    }
}
