//! Aligned columns, as psql writes them; one block per row where the terminal is too narrow.
//!
//! Widths are known only when all rows are, so this format stops at a number of rows and says so.

use std::io::{self, Write};
use std::iter::repeat_n;
use std::ops::ControlFlow;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use console::measure_text_width;

use super::super::terminal::Look;
use super::{RowWriter, io_error};

/// How a null looks: nothing that a string could be mistaken for stands without quotes in capitals.
const NULL: &str = "NULL";

pub(super) struct TableWriter {
    schema: SchemaRef,
    rows_max: Option<usize>,
    look: Look,
    rows: Vec<Vec<Cell>>,
    more: bool,
}

/// One value as lines of text, without characters that a terminal would act on.
struct Cell {
    lines: Vec<String>,
    null: bool,
}

impl TableWriter {
    /// Shows at most `rows_max` rows; 0 shows all.
    pub(super) fn new(schema: SchemaRef, rows_max: usize, look: Look) -> Self {
        let rows_max = (rows_max > 0).then_some(rows_max);
        Self { schema, rows_max, look, rows: Vec::new(), more: false }
    }

    fn names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| printable(field.name())).collect()
    }

    /// Each column as wide as its widest cell.
    fn widths(&self, names: &[String]) -> Vec<usize> {
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let width = |(column, name): (usize, &String)| {
            let widest = cells(column).map(Cell::width).max().unwrap_or_default();
            widest.max(measure_text_width(name))
        };
        names.iter().enumerate().map(width).collect()
    }

    fn aligned(&self, names: &[String], widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
        let header: Vec<_> = names
            .iter()
            .zip(widths)
            .map(|(name, &width)| format!(" {} ", self.look.strong(centred(name, width))))
            .collect();
        writeln!(out, "{}", header.join("|").trim_end())?;
        let rules: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(out, "{}", rules.join("+"))?;
        let numeric: Vec<_> =
            self.schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
        for row in &self.rows {
            for line in 0..row.iter().map(|cell| cell.lines.len()).max().unwrap_or(1) {
                let columns = row.iter().zip(widths).zip(&numeric);
                let cells: Vec<_> = columns
                    .map(|((cell, &width), &right)| {
                        let text = cell.lines.get(line).map_or("", String::as_str);
                        let padding = " ".repeat(width.saturating_sub(measure_text_width(text)));
                        let text = if cell.null { self.look.dim(text) } else { text.to_owned() };
                        if right {
                            format!(" {padding}{text} ")
                        } else {
                            format!(" {text}{padding} ")
                        }
                    })
                    .collect();
                writeln!(out, "{}", cells.join("|").trim_end())?;
            }
        }
        Ok(())
    }

    fn blocks(&self, names: &[String], terminal: usize, out: &mut dyn Write) -> io::Result<()> {
        let widest = names.iter().map(|name| measure_text_width(name)).max().unwrap_or_default();
        for (number, row) in self.rows.iter().enumerate() {
            let title = format!("-[ row {} ]", number + 1);
            let rule: String = repeat_n('-', terminal.saturating_sub(title.len())).collect();
            writeln!(out, "{}", self.look.dim(format!("{title}{rule}")))?;
            for (name, cell) in names.iter().zip(row) {
                let padding = " ".repeat(widest - measure_text_width(name));
                for (line, text) in cell.lines.iter().enumerate() {
                    let text = if cell.null { self.look.dim(text) } else { text.clone() };
                    match line {
                        0 => writeln!(out, "{}{padding} | {text}", self.look.strong(name))?,
                        _ => writeln!(out, "{} | {text}", " ".repeat(widest))?,
                    }
                }
            }
        }
        Ok(())
    }

    fn footer(&self) -> String {
        match (self.more, self.rows.len()) {
            (true, shown) => format!(
                "(the first {shown} rows; there are more: --max-rows 0 shows all, --format json and csv write all)"
            ),
            (false, 1) => "(1 row)".to_owned(),
            (false, shown) => format!("({shown} rows)"),
        }
    }
}

impl RowWriter for TableWriter {
    fn write(&mut self, rows: &RecordBatch, _out: &mut dyn Write) -> io::Result<ControlFlow<()>> {
        let options = FormatOptions::default().with_null(NULL);
        let columns = rows.columns().iter().map(|array| ArrayFormatter::try_new(array, &options));
        let columns: Vec<_> = columns.collect::<Result<_, _>>().map_err(io_error)?;
        for row in 0..rows.num_rows() {
            if self.rows_max == Some(self.rows.len()) {
                self.more = true;
                return Ok(ControlFlow::Break(()));
            }
            let cells = columns.iter().zip(rows.columns()).map(|(column, array)| {
                let text = column.value(row).try_to_string().map_err(io_error)?;
                Ok(Cell::new(&text, array.is_null(row)))
            });
            self.rows.push(cells.collect::<io::Result<_>>()?);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let names = self.names();
        let widths = self.widths(&names);
        let width = widths.iter().map(|width| width + 3).sum::<usize>().saturating_sub(1);
        match self.look.width {
            Some(terminal) if terminal < width && !self.rows.is_empty() => {
                self.blocks(&names, terminal, out)?;
            }
            _ => self.aligned(&names, &widths, out)?,
        }
        writeln!(out, "{}", self.look.dim(self.footer()))
    }
}

impl Cell {
    fn new(text: &str, null: bool) -> Self {
        let lines: Vec<_> = text.lines().map(printable).collect();
        Self { lines: if lines.is_empty() { vec![String::new()] } else { lines }, null }
    }

    fn width(&self) -> usize {
        self.lines.iter().map(|line| measure_text_width(line)).max().unwrap_or_default()
    }
}

/// Control characters as escapes: what a producer wrote must not move our user's cursor.
pub(crate) fn printable(text: &str) -> String {
    match text.contains(char::is_control) {
        true => text
            .chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
            .collect(),
        false => text.to_owned(),
    }
}

fn centred(text: &str, width: usize) -> String {
    let room = width.saturating_sub(measure_text_width(text));
    let left = room / 2;
    format!("{}{text}{}", " ".repeat(left), " ".repeat(room - left))
}
