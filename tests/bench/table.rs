//! The table: medians of the rounds, a column a version, and the ratio of two.

use std::fmt::{self, Display, Formatter};

use super::lines::Line;

/// One figure of one round.
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    /// NaN if it could not be had.
    pub value: f64,
    /// How it was measured.
    pub how: &'static str,
}

/// The figures of all rounds.
pub struct Table {
    variants: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    line: u8,
    title: &'static str,
    figure: Figure,
    /// The values of every round, for each variant.
    values: Vec<Vec<f64>>,
}

impl Table {
    pub fn new(variants: Vec<String>) -> Table {
        Table { variants, rows: Vec::new() }
    }

    /// Adds the figures of a round.
    pub fn add(&mut self, line: &Line, variant: usize, figures: Vec<Figure>) {
        for figure in figures {
            let value = figure.value;
            let is_same = |row: &Row| row.line == line.number && row.figure.name == figure.name;
            let at = self.rows.iter().position(is_same).unwrap_or_else(|| {
                let values = vec![Vec::new(); self.variants.len()];
                self.rows.push(Row { line: line.number, title: line.title, figure, values });
                self.rows.len() - 1
            });
            self.rows[at].values[variant].push(value);
        }
    }

    fn columns(&self) -> Vec<String> {
        let mut columns = self.variants.clone();
        if let [this, other] = &self.variants[..] {
            columns.push(format!("{this}/{other}"));
        }
        columns
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let medians: Vec<f64> = self.values.iter().map(|values| median(values)).collect();
        let mut cells: Vec<String> = medians.iter().map(|value| number(*value)).collect();
        if let [this, other] = medians[..] {
            cells.push(number(this / other));
        }
        cells
    }
}

impl Display for Table {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let columns = self.columns();
        let widths: Vec<usize> = columns.iter().map(|name| name.len().max(9)).collect();
        let name_width = self.rows.iter().map(|row| row.figure.name.chars().count()).max();
        let name_width = name_width.unwrap_or(0);
        let cells = |out: &mut Formatter<'_>, cells: &[String]| {
            cells.iter().zip(&widths).try_for_each(|(cell, width)| write!(out, "  {cell:>width$}"))
        };
        write!(out, "   {:name_width$}", "")?;
        cells(out, &columns)?;
        writeln!(out, "  {:<13}  how measured (median of {})", "unit", self.rounds())?;
        let mut line = 0;
        for row in &self.rows {
            if row.line != line {
                line = row.line;
                writeln!(out, "{line}. {}", row.title)?;
            }
            write!(out, "   {:name_width$}", row.figure.name)?;
            cells(out, &row.cells())?;
            writeln!(out, "  {:<13}  {}", row.figure.unit, row.figure.how)?;
        }
        Ok(())
    }
}

impl Table {
    fn rounds(&self) -> String {
        let rounds = self.rows.iter().flat_map(|row| &row.values).map(Vec::len);
        match (rounds.clone().min().unwrap_or(0), rounds.max().unwrap_or(0)) {
            (least, most) if least == most => format!("rounds: {most}"),
            (least, most) => format!("rounds: {least} to {most}"),
        }
    }
}

/// The median; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value that the given part of all does not exceed; NaN of none.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Three digits that matter, no more.
fn number(value: f64) -> String {
    match value.abs() {
        size if size.is_nan() => "–".to_owned(),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
