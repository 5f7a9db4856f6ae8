//! Ours beside the others, as a picture: one group of bars for each row that has somebody beside us.

use std::fmt::Write as _;

use crate::report::{Report, Row};
use crate::subject::Subject;

impl Report {
    /// An SVG. Bars are as long as the median is by that of the slowest or the largest in its group.
    ///
    /// # Errors
    ///
    /// None in practice: text is written to memory.
    pub fn plot(&self) -> Result<String, std::fmt::Error> {
        let rows: Vec<_> = self.rows.iter().filter(|row| bars(row).len() > 1).collect();
        let height = rows.iter().map(|row| group_height(row)).sum::<u32>() + MARGIN;
        let mut svg = String::new();
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
        )?;
        let mut top = MARGIN;
        for row in rows {
            group(&mut svg, row, top)?;
            top += group_height(row);
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

fn group(svg: &mut String, row: &Row, top: u32) -> std::fmt::Result {
    let better = if row.unit.less_is_better() {
        "shorter is better"
    } else {
        "longer is better"
    };
    let title = row.name.replace('`', "");
    writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"{}\" font-weight=\"bold\">{title} ({}, {better})</text>",
        top + 12,
        row.unit.symbol()
    )?;
    let bars = bars(row);
    let longest = bars.iter().map(|(_, median)| *median).fold(0.0, f64::max);
    for ((subject, median), line) in bars.iter().zip(0_u32..) {
        let y = top + 18 + line * BAR;
        let length = (median / longest * BAR_WIDTH).max(1.0);
        writeln!(
            svg,
            "<text x=\"{LABEL}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{median:.2}</text>",
            y + 12,
            subject.name(),
            LABEL + 6,
            BAR - 4,
            color(*subject),
            f64::from(LABEL) + 10.0 + length,
            y + 12,
        )?;
    }
    Ok(())
}

fn bars(row: &Row) -> Vec<(Subject, f64)> {
    let all = [
        Subject::Ours,
        Subject::Reference,
        Subject::Ssh,
        Subject::Machine,
    ];
    let bar = |subject| Some((subject, row.figures(subject)?.median));
    all.into_iter().filter_map(bar).collect()
}

fn group_height(row: &Row) -> u32 {
    let bars = u32::try_from(bars(row).len()).unwrap_or_default();
    bars * BAR + 32
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
    use crate::series::{Series, Unit};

    #[test]
    fn rows_with_somebody_beside_us_have_a_bar_each() {
        let mut report = Report::new(&[Subject::Ours, Subject::Reference]);
        let series = |name, value| vec![Series::new(name, Unit::Milliseconds, vec![value])];
        report.add(&SCENES[0], Subject::Ours, series("both", 1.0));
        report.add(&SCENES[0], Subject::Reference, series("both", 4.0));
        report.add(&SCENES[0], Subject::Ours, series("alone", 1.0));
        let svg = report.plot().unwrap();
        assert!(svg.contains("width=\"540.0\"") && svg.contains("width=\"135.0\""));
        assert!(svg.contains("both") && !svg.contains("alone"));
    }
}
