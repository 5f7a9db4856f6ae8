//! Ours beside the others, as a picture: one group of bars for each row that has somebody beside us.

use std::fmt::Write as _;

use crate::report::{Report, Row};
use crate::series::Unit;
use crate::subject::Subject;

/// What is drawn with one scale.
struct Group {
    title: String,
    bars: Vec<Bar>,
    /// Of the longest bar.
    width: f64,
}

struct Bar {
    /// Left of it.
    label: &'static str,
    color: &'static str,
    median: f64,
    /// Behind its value.
    note: String,
}

impl Report {
    /// An SVG. Bars are as long as the median is by that of the slowest or the largest in its group.
    /// What has somebody beside us is a group, and so are the rows of a scene that we are alone in.
    ///
    /// # Errors
    ///
    /// None in practice: text is written to memory.
    pub fn plot(&self) -> Result<String, std::fmt::Error> {
        let alone = |row: &Row| medians(row).len() == 1;
        let of_one_scene =
            |a: &Row, b: &Row| alone(a) && alone(b) && (a.scene, a.unit) == (b.scene, b.unit);
        let groups = self
            .rows
            .chunk_by(of_one_scene)
            .filter_map(|rows| match rows {
                [row] if alone(row) => None,
                [row] => Some(Group::compared(row)),
                rows => Group::alone(rows),
            });
        let groups: Vec<_> = groups.collect();
        let height = groups.iter().map(Group::height).sum::<u32>() + MARGIN;
        let mut svg = String::new();
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
        )?;
        let mut top = MARGIN;
        for group in groups {
            group.draw(&mut svg, top)?;
            top += group.height();
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

impl Group {
    /// One quantity of everybody.
    fn compared(row: &Row) -> Self {
        let bar = |(subject, median): (Subject, f64)| Bar {
            label: subject.name(),
            color: color(subject),
            median,
            note: String::new(),
        };
        Self {
            title: title(&row.name, row.unit),
            bars: medians(row).into_iter().map(bar).collect(),
            width: BAR_WIDTH,
        }
    }

    /// Several quantities of ours.
    fn alone(rows: &[Row]) -> Option<Self> {
        let first = rows.first()?;
        let bar = |row: &Row| Bar {
            label: Subject::Ours.name(),
            color: color(Subject::Ours),
            median: medians(row).first().map_or(0.0, |(_, median)| *median),
            note: format!(" {}", row.name.replace('`', "")),
        };
        Some(Self {
            title: title(first.scene, first.unit),
            bars: rows.iter().map(bar).collect(),
            width: BAR_WIDTH / 2.0,
        })
    }

    fn height(&self) -> u32 {
        let bars = u32::try_from(self.bars.len()).unwrap_or_default();
        bars * BAR + 32
    }

    fn draw(&self, svg: &mut String, top: u32) -> std::fmt::Result {
        let title = &self.title;
        writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{}\" font-weight=\"bold\">{title}</text>",
            top + 12,
        )?;
        let longest = self.bars.iter().map(|bar| bar.median).fold(0.0, f64::max);
        for (bar, line) in self.bars.iter().zip(0_u32..) {
            let y = top + 18 + line * BAR;
            let length = (bar.median / longest * self.width).max(1.0);
            writeln!(
                svg,
                "<text x=\"{LABEL}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
                 <rect x=\"{}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>\n\
                 <text x=\"{:.1}\" y=\"{}\">{:.2}{}</text>",
                y + 12,
                bar.label,
                LABEL + 6,
                BAR - 4,
                bar.color,
                f64::from(LABEL) + 10.0 + length,
                y + 12,
                bar.median,
                bar.note,
            )?;
        }
        Ok(())
    }
}

fn title(what: &str, unit: Unit) -> String {
    let better = if unit.less_is_better() {
        "shorter is better"
    } else {
        "longer is better"
    };
    format!("{} ({}, {better})", what.replace('`', ""), unit.symbol())
}

fn medians(row: &Row) -> Vec<(Subject, f64)> {
    let all = [
        Subject::Ours,
        Subject::Reference,
        Subject::Ssh,
        Subject::Machine,
    ];
    let median = |subject| Some((subject, row.figures(subject)?.median));
    all.into_iter().filter_map(median).collect()
}

/// Told apart by everybody (Okabe and Ito).
fn color(subject: Subject) -> &'static str {
    match subject {
        Subject::Ours => "#0072b2",
        Subject::Reference => "#e69f00",
        Subject::Ssh => "#009e73",
        Subject::Machine => "#999999",
    }
}

const WIDTH: u32 = 760;
const MARGIN: u32 = 12;
const LABEL: u32 = 110;
const BAR: u32 = 18;
const BAR_WIDTH: f64 = 540.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::SCENES;
    use crate::series::Series;

    #[test]
    fn rows_with_somebody_beside_us_have_a_bar_each() {
        let mut report = Report::new(&[Subject::Ours, Subject::Reference]);
        let series = |name, value| vec![Series::new(name, Unit::Milliseconds, vec![value])];
        report.add(&SCENES[0], Subject::Ours, series("both", 1.0));
        report.add(&SCENES[0], Subject::Reference, series("both", 4.0));
        report.add(&SCENES[0], Subject::Ours, series("alone", 1.0));
        report.add(&SCENES[1], Subject::Ours, series("few", 1.0));
        report.add(&SCENES[1], Subject::Ours, series("many", 2.0));
        let svg = report.plot().unwrap();
        assert!(svg.contains("1.00 few") && svg.contains("2.00 many"));
        assert!(svg.contains("width=\"540.0\"") && svg.contains("width=\"135.0\""));
        assert!(svg.contains("both") && !svg.contains("alone"));
    }
}
