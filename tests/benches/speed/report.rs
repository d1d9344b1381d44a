//! What came out: a table for people, JSON for programs.

use std::{fs, ops::RangeInclusive, path::Path};

use serde::Serialize;

use crate::{
    Failure,
    line::Line,
    machine::Machine,
    options::Scale,
    reading::Reading,
    row::Row,
    statistics::{median, range},
};

/// The heads of the table's columns.
const HEADS: [&str; 7] = ["row", "what", "figure", "limit", "ratio", "target", ""];

/// Those of them that hold figures.
const FIGURE_COLUMNS: RangeInclusive<usize> = 2..=4;

/// All runs of some rows.
pub struct Report {
    machine: Machine,
    scale: Scale,
    rows: Vec<Row>,
    runs: Vec<Reading>,
}

/// A figure over all runs, beside its limit.
struct Measured {
    row: String,
    line: &'static Line,
    figures: Vec<f64>,
    limits: Vec<f64>,
    ratios: Vec<f64>,
}

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Machine,
    counts: &'static str,
    lines: Vec<DocumentLine>,
    runs: &'a [Reading],
}

#[derive(Serialize)]
struct DocumentLine {
    row: String,
    what: &'static str,
    figure: &'static str,
    median: f64,
    spread: (f64, f64),
    limit: Option<&'static str>,
    limit_median: Option<f64>,
    ratio_median: Option<f64>,
    target: String,
    met: Option<bool>,
}

impl Report {
    /// A report without runs.
    pub fn new(machine: Machine, scale: Scale, rows: Vec<Row>) -> Self {
        Self { machine, scale, rows, runs: Vec::new() }
    }

    /// Adds a run.
    pub fn add(&mut self, run: Reading) {
        self.runs.push(run);
    }

    /// The table, with a line on the machine above it.
    pub fn table(&self) -> String {
        let mut text = format!("{}\nmedians of {} run(s){}\n\n", self.machine.describe(), self.runs.len(), self.scale.warning());
        let lines = self.measured();
        let heads = HEADS.map(String::from).to_vec();
        let cells: Vec<_> = std::iter::once(heads).chain(lines.iter().map(Measured::cells)).collect();
        text.push_str(&aligned(&cells, FIGURE_COLUMNS));
        text
    }

    /// Writes all of it as JSON.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let lines = self.measured().into_iter().map(Measured::document).collect();
        write_json(path, &Document { machine: &self.machine, counts: self.scale.of("full", "quick"), lines, runs: &self.runs })
    }

    fn measured(&self) -> Vec<Measured> {
        let of_row = |row: &Row| {
            let name = row.name();
            row.lines().iter().map(move |line| (name.clone(), line))
        };
        self.rows.iter().flat_map(of_row).map(|(row, line)| self.measured_line(row, line)).collect()
    }

    fn measured_line(&self, row: String, line: &'static Line) -> Measured {
        let of_run = |run: &Reading| {
            let figure = *run.figures.get(line.figure)?;
            let limit = line.limit().and_then(|limit| run.figures.get(limit).copied());
            Some((figure, limit))
        };
        let pairs: Vec<(f64, Option<f64>)> = self.runs.iter().filter_map(of_run).collect();
        Measured {
            row,
            line,
            figures: pairs.iter().map(|(figure, _)| *figure).collect(),
            limits: pairs.iter().filter_map(|(_, limit)| *limit).collect(),
            ratios: pairs.iter().filter_map(|(figure, limit)| Some(figure / (*limit)?)).collect(),
        }
    }
}

impl Measured {
    fn cells(&self) -> Vec<String> {
        let show = |figure: f64| self.line.unit.show(figure);
        let spread = |shown: String, all: &[f64], show: &dyn Fn(f64) -> String| match all {
            [] => String::new(),
            [_] => shown,
            all => format!("{shown} ({}–{})", show(range(all).0), show(range(all).1)),
        };
        let ratio = |ratio: f64| format!("{ratio:.2} ×");
        let verdict = match self.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "SHORT",
        };
        vec![
            self.row.clone(),
            self.line.what.to_owned(),
            spread(show(median(&self.figures)), &self.figures, &show),
            if self.limits.is_empty() { String::new() } else { show(median(&self.limits)) },
            spread(ratio(median(&self.ratios)), &self.ratios, &ratio),
            self.line.target_text(),
            verdict.to_owned(),
        ]
    }

    fn is_met(&self) -> Option<bool> {
        self.line.is_met(median(&self.figures), known(&self.ratios))
    }

    fn document(self) -> DocumentLine {
        DocumentLine {
            met: self.is_met(),
            row: self.row,
            what: self.line.what,
            figure: self.line.figure,
            median: median(&self.figures),
            spread: range(&self.figures),
            limit: self.line.limit(),
            limit_median: known(&self.limits),
            ratio_median: known(&self.ratios),
            target: self.line.target_text(),
        }
    }
}

/// The median, if there are samples.
fn known(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| median(samples))
}

/// Writes a document as JSON into a directory that is made if need be, and says where.
pub fn write_json(path: &Path, document: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_vec_pretty(document)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(path, json));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

/// Columns as wide as their widest cell: words to the left, and to the right those columns that hold figures.
pub fn aligned(rows: &[Vec<String>], figures: RangeInclusive<usize>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let length = |cells: &Vec<String>, column: usize| cells.get(column).map_or(0, |cell| cell.chars().count());
    let width = |column| rows.iter().map(|cells| length(cells, column)).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for cells in rows {
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let space = " ".repeat(width - cell.chars().count());
            let (before, after) = if figures.contains(&column) { (space, String::new()) } else { (String::new(), space) };
            text.extend([&before, cell, &after, "  "]);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
