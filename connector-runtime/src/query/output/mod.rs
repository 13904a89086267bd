//! Rows as text: aligned columns for people, JSON and CSV for programs.
//!
//! Rows are written as they come, so JSON and CSV of any size need little memory. Timestamps are
//! ISO 8601 in all formats. A reader that closes the pipe (`| head`) has had enough: no error.

mod csv;
mod json;
mod table;

use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use connector_api::{Error, Result};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

pub(crate) use table::printable;

use super::session::running;
use super::terminal::Look;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns, or one block per row where the terminal is too narrow.
    Table,
    /// One JSON object per line.
    Json,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
}

/// Writes rows in one format.
trait RowWriter: Send {
    /// Writes some rows. Breaks when no more are wanted.
    fn write(&mut self, rows: &RecordBatch, out: &mut dyn Write) -> io::Result<ControlFlow<()>>;

    /// Writes what is left.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Writes the rows of a query.
pub(crate) async fn print(
    mut rows: SendableRecordBatchStream,
    format: Format,
    rows_max: usize,
    look: Look,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let mut writer = writer(format, rows.schema(), rows_max, look);
    while let Some(batch) = rows.next().await {
        match writer.write(&batch.map_err(running)?, out) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(error) => return written(Err(error)),
        }
    }
    written(writer.finish(out).and_then(|()| out.flush()))
}

/// Writes rows that are at hand, all of them.
pub(crate) fn print_batches(
    schema: SchemaRef,
    batches: &[RecordBatch],
    format: Format,
    look: Look,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let mut writer = writer(format, schema, 0, look);
    for batch in batches {
        if let Err(error) = writer.write(batch, out) {
            return written(Err(error));
        }
    }
    written(writer.finish(out).and_then(|()| out.flush()))
}

fn writer(format: Format, schema: SchemaRef, rows_max: usize, look: Look) -> Box<dyn RowWriter> {
    match format {
        Format::Table => Box::new(table::TableWriter::new(schema, rows_max, look)),
        Format::Json => Box::new(json::JsonWriter),
        Format::Csv => Box::new(csv::CsvWriter::new(schema)),
    }
}

/// The end of writing. Who closes the pipe has had enough.
pub(crate) fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|e| Error::external("the rows cannot be written").with_source(e)),
    }
}

/// An error of Arrow's formatters, with the output's own error taken out.
fn io_error(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        other => io::Error::other(other),
    }
}
