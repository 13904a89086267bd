//! Aligned columns for people.

use std::io::{self, Write};

use console::measure_text_width;

use crate::query::{Look, printable};

/// Lines of cells under headings. Columns that hold numbers align to the right.
#[derive(Debug)]
pub(super) struct Sheet {
    headings: &'static [Heading],
    lines: Vec<Vec<String>>,
}

/// The head of a column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heading {
    /// Of texts.
    Text(&'static str),
    /// Of numbers.
    Number(&'static str),
}

impl Heading {
    fn text(self) -> &'static str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

impl Sheet {
    pub(super) fn new(headings: &'static [Heading]) -> Self {
        Self { headings, lines: Vec::new() }
    }

    /// Adds a line, one cell a heading.
    pub(super) fn line(&mut self, cells: impl IntoIterator<Item = String>) {
        self.lines.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    pub(super) fn write(&self, look: Look, out: &mut dyn Write) -> io::Result<()> {
        let widths: Vec<usize> =
            (0..self.headings.len()).map(|column| self.width(column)).collect();
        let heads: Vec<String> = self.headings.iter().map(|h| h.text().to_owned()).collect();
        writeln!(out, "{}", look.strong(self.aligned(&heads, &widths)))?;
        self.lines.iter().try_for_each(|line| writeln!(out, "{}", self.aligned(line, &widths)))
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.lines.iter().filter_map(|line| line.get(column));
        let widest = cells.map(|cell| measure_text_width(cell)).max().unwrap_or_default();
        widest.max(self.headings.get(column).map_or(0, |heading| heading.text().len()))
    }

    fn aligned(&self, cells: &[String], widths: &[usize]) -> String {
        let cells = cells.iter().zip(self.headings).zip(widths).map(|((cell, heading), width)| {
            let padding = " ".repeat(width.saturating_sub(measure_text_width(cell)));
            match heading {
                Heading::Text(_) => format!("{cell}{padding}"),
                Heading::Number(_) => format!("{padding}{cell}"),
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_right() {
        let mut sheet = Sheet::new(&[Heading::Text("TOPIC"), Heading::Number("LAG")]);
        sheet.line(["clicks".into(), "7".into()]);
        sheet.line(["o\u{1b}".into(), "1200".into()]);
        let mut text = Vec::new();
        sheet.write(Look::default(), &mut text).unwrap();
        let expected = "TOPIC     LAG\nclicks      7\no\\u{1b}  1200\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
