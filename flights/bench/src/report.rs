//! The figures: a table for people, JSON for machines, progress while it runs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use crossterm::cursor::MoveToColumn;
use crossterm::queue;
use crossterm::style::Print;
use crossterm::terminal::{Clear, ClearType};
use serde::Serialize;

use crate::samples::Samples;

/// What a figure is compared with.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

impl Baseline {
    pub(crate) fn new(name: &'static str, value: f64) -> Self {
        Self { name, value }
    }
}

/// One figure.
#[derive(Clone, PartialEq, Debug)]
struct Row {
    name: String,
    unit: &'static str,
    samples: Samples,
    baseline: Baseline,
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    quick: bool,
    rows: Vec<Row>,
    notes: Vec<String>,
    live: bool,
}

impl Report {
    pub(crate) fn new(quick: bool) -> Self {
        Self {
            quick,
            rows: Vec::new(),
            notes: Vec::new(),
            live: io::stderr().is_terminal(),
        }
    }

    /// Whether less is to be measured.
    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    /// `quick` or `full`, whichever the run is.
    pub(crate) fn effort<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Says on standard error what goes on now.
    pub(crate) fn progress(&self, what: &str) {
        let mut out = io::stderr().lock();
        // Who does not read it misses nothing but this.
        let _ = if self.live {
            queue!(
                out,
                MoveToColumn(0),
                Clear(ClearType::CurrentLine),
                Print(what)
            )
            .and_then(|()| out.flush())
        } else {
            writeln!(out, "{what}")
        };
    }

    /// Clears the line that shows progress.
    pub(crate) fn done(&self) {
        if self.live {
            self.progress("");
        }
    }

    /// Adds a figure: what was sampled in `unit`, beside `baseline`.
    pub(crate) fn row(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        samples: Samples,
        baseline: Baseline,
    ) {
        self.rows.push(Row {
            name: name.into(),
            unit,
            samples,
            baseline,
        });
    }

    /// Adds a line below the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn table(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let head = ["what", "median", "", "from", "to", "beside", "", "ratio"];
        let mut lines = vec![head.map(str::to_owned)];
        for row in &self.rows {
            let median = row.samples.median();
            lines.push([
                row.name.clone(),
                short(median),
                row.unit.to_owned(),
                short(row.samples.min()),
                short(row.samples.max()),
                row.baseline.name.to_owned(),
                short(row.baseline.value),
                format!("{:.2}", median / row.baseline.value),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<usize> = (0..head.len()).filter_map(width).collect();
        // Words to the left, figures to the right.
        let left = [true, false, true, false, false, true, false, false];
        let mut out = String::new();
        for line in &lines {
            let mut text = String::new();
            for ((cell, width), left) in line.iter().zip(&widths).zip(left) {
                if !text.is_empty() {
                    text.push_str("  ");
                }
                // To a string it cannot fail.
                let _ = if left {
                    write!(text, "{cell:width$}")
                } else {
                    write!(text, "{cell:>width$}")
                };
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        for note in &self.notes {
            out.push_str(note);
            out.push('\n');
        }
        out
    }

    pub(crate) fn json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Figure<'a> {
            name: &'a str,
            value: f64,
            unit: &'a str,
            baseline: &'a str,
            baseline_value: f64,
            ratio: f64,
            min: f64,
            max: f64,
            samples: usize,
        }
        let figures: Vec<_> = self
            .rows
            .iter()
            .map(|row| Figure {
                name: &row.name,
                value: row.samples.median(),
                unit: row.unit,
                baseline: row.baseline.name,
                baseline_value: row.baseline.value,
                ratio: row.samples.median() / row.baseline.value,
                min: row.samples.min(),
                max: row.samples.max(),
                samples: row.samples.len(),
            })
            .collect();
        Ok(serde_json::to_string_pretty(&figures)? + "\n")
    }
}

/// Three digits that matter, and thousands apart.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (i, digit) in whole.char_indices() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let figures = [0.5, 12.34, 123.4, 1234.5, 5_900_000.0].map(short);
        assert_eq!(figures, ["0.50", "12.3", "123", "1,234", "5,900,000"]);
    }

    #[test]
    fn a_row_is_its_median_beside_its_baseline() {
        let mut report = Report::new(true);
        let samples = Samples::new([90.0, 80.0, 100.0]);
        report.row("core", "ns", samples, Baseline::new("masks", 10.0));
        assert_eq!(
            report.table().lines().last(),
            Some("core    90.0  ns  80.0  100  masks   10.0   9.00")
        );
        let json: serde_json::Value =
            serde_json::from_str(&report.json().expect("plain figures")).expect("JSON");
        assert_eq!(json[0]["ratio"], 9.0);
        assert_eq!(json[0]["baseline_value"], 10.0);
    }
}
