//! Figures, what they are held against, and how they are printed.

use std::fmt::Write as _;

use serde::Serialize;

/// Something that was measured several times.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The part of the benchmark.
    pub part: &'static str,
    /// What was measured.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// One row of values for each server, in the order of rounds.
    pub series: Vec<Series>,
    /// What must hold.
    pub targets: Vec<Target>,
}

/// Values of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// The server.
    pub name: String,
    /// One value a round.
    pub values: Vec<f64>,
}

/// What a value is held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// It may not be less.
    AtLeast(f64),
    /// It may not be more.
    AtMost(f64),
}

/// A requirement. Its median counts.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// What is compared: a series, or `A / B` for the ratio of two within each round.
    pub what: String,
    /// One value a round.
    pub values: Vec<f64>,
    /// The requirement; none where the value is only reported.
    pub bound: Option<Bound>,
    /// Whether the median keeps it.
    pub met: Option<bool>,
}

impl Figure {
    /// A figure without values.
    pub(super) fn new(part: &'static str, what: impl Into<String>, unit: &'static str) -> Figure {
        Figure {
            part,
            what: what.into(),
            unit,
            series: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Adds a round's value of a server.
    pub(super) fn add(&mut self, name: &str, value: f64) {
        match self.series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.values.push(value),
            None => self.series.push(Series {
                name: name.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// Holds a server's values against a bound.
    pub(super) fn require(mut self, name: &str, bound: Bound) -> Figure {
        let values = self.values(name).to_vec();
        self.targets
            .push(Target::new(name.to_owned(), values, Some(bound)));
        self
    }

    /// Holds the ratio of two servers' values against a bound, or reports it.
    pub(super) fn ratio(mut self, one: &str, other: &str, bound: Option<Bound>) -> Figure {
        let pairs = self.values(one).iter().zip(self.values(other));
        let values = pairs.map(|(one, other)| one / other).collect();
        let what = format!("{one} / {other}");
        self.targets.push(Target::new(what, values, bound));
        self
    }

    fn values(&self, name: &str) -> &[f64] {
        let series = self.series.iter().find(|series| series.name == name);
        series.map_or(&[], |series| series.values.as_slice())
    }
}

impl Target {
    fn new(what: String, values: Vec<f64>, bound: Option<Bound>) -> Target {
        let median = spread(&values).map(|spread| spread.median);
        let met = bound.map(|bound| match (bound, median) {
            (Bound::AtLeast(least), Some(median)) => median >= least,
            (Bound::AtMost(most), Some(median)) => median <= most,
            // what was not measured was not met
            (_, None) => false,
        });
        Target {
            what,
            values,
            bound,
            met,
        }
    }
}

/// Everything that was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether contents were small, so that the figures say nothing.
    pub smoke: bool,
    /// Processors of the machine.
    pub processors: usize,
    /// The figures.
    pub figures: Vec<Figure>,
}

impl Report {
    /// Whether every target is met.
    pub fn met(&self) -> bool {
        let mut targets = self.figures.iter().flat_map(|figure| &figure.targets);
        targets.all(|target| target.met != Some(false))
    }

    /// The report as tables of Markdown.
    pub fn tables(&self) -> String {
        let mut out = String::new();
        let mut part = "";
        for figure in &self.figures {
            if figure.part != part {
                part = figure.part;
                // writing to a string can't fail
                let _ = writeln!(
                    out,
                    "\n## {part}\n\n| | min | median | max | target | |\n|---|--:|--:|--:|--:|---|"
                );
            }
            let _ = writeln!(out, "| **{}**, {} | | | | | |", figure.what, figure.unit);
            for series in &figure.series {
                let _ = writeln!(out, "| {} | {} | | |", series.name, cells(&series.values));
            }
            for target in &figure.targets {
                let bound = match target.bound {
                    Some(Bound::AtLeast(least)) => format!("≥ {}", number(least)),
                    Some(Bound::AtMost(most)) => format!("≤ {}", number(most)),
                    None => String::new(),
                };
                let met = match target.met {
                    Some(true) => "met",
                    Some(false) => "**missed**",
                    None => "",
                };
                let _ = writeln!(
                    out,
                    "| *{}* | {} | {bound} | {met} |",
                    target.what,
                    cells(&target.values)
                );
            }
        }
        out
    }
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Spread {
        min: *sorted.first()?,
        median: *sorted.get(sorted.len() / 2)?,
        max: *sorted.last()?,
    })
}

fn cells(values: &[f64]) -> String {
    match spread(values) {
        Some(Spread { min, median, max }) => {
            format!("{} | {} | {}", number(min), number(median), number(max))
        }
        None => " | | ".to_owned(),
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        let mut figure = Figure::new("part", "what", "unit");
        for (ours, theirs) in [(30.0, 1.0), (10.0, 1.0), (50.0, 2.0)] {
            figure.add("ours", ours);
            figure.add("theirs", theirs);
        }
        figure
    }

    #[test]
    fn ratios_are_those_of_a_round_and_their_median_counts() {
        let met = |bound| {
            let figure = figure().ratio("ours", "theirs", Some(bound));
            let target = figure.targets.first().unwrap().clone();
            assert_eq!(target.values, [30.0, 10.0, 25.0]);
            target.met
        };
        assert_eq!(met(Bound::AtLeast(25.0)), Some(true));
        assert_eq!(met(Bound::AtLeast(25.1)), Some(false));
        assert_eq!(met(Bound::AtMost(24.9)), Some(false));
    }

    #[test]
    fn what_was_not_measured_is_missed_and_said_so() {
        let figure = figure().require("nobody", Bound::AtMost(1.0));
        let report = Report {
            smoke: false,
            processors: 2,
            figures: vec![figure],
        };
        assert!(!report.met());
        assert!(
            report
                .tables()
                .contains("| *nobody* |  | |  | ≤ 1.00 | **missed** |")
        );
    }

    #[test]
    fn a_table_has_a_row_for_each_server_and_ratio() {
        let report = Report {
            smoke: false,
            processors: 2,
            figures: vec![figure().ratio("ours", "theirs", None)],
        };
        let tables = report.tables();
        assert!(
            tables.contains("| ours | 10.0 | 30.0 | 50.0 | | |"),
            "{tables}"
        );
        assert!(
            tables.contains("| *ours / theirs* | 10.0 | 25.0 | 30.0 |  |  |"),
            "{tables}"
        );
        assert!(report.met());
    }
}
