//! CSV with a header. Null is empty, an empty string is `""`; structs, lists and maps are JSON.

use std::io::{self, Write};
use std::ops::ControlFlow;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{RowWriter, io_error};

pub(super) struct CsvWriter {
    schema: SchemaRef,
    header_written: bool,
}

impl CsvWriter {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, header_written: false }
    }

    fn header(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if std::mem::replace(&mut self.header_written, true) {
            return Ok(());
        }
        let names: Vec<_> = self.schema.fields().iter().map(|field| quoted(field.name())).collect();
        writeln!(out, "{}", names.join(","))
    }
}

impl RowWriter for CsvWriter {
    fn write(&mut self, rows: &RecordBatch, out: &mut dyn Write) -> io::Result<ControlFlow<()>> {
        self.header(out)?;
        let schema = rows.schema();
        let (text, json) =
            (FormatOptions::default(), EncoderOptions::default().with_explicit_nulls(true));
        let columns = schema.fields().iter().zip(rows.columns());
        let columns = columns.map(|(field, array)| Column::new(field, array, &text, &json));
        let mut columns: Vec<_> = columns.collect::<io::Result<_>>()?;
        for row in 0..rows.num_rows() {
            for (index, column) in columns.iter_mut().enumerate() {
                let separator = if index == 0 { "" } else { "," };
                write!(out, "{separator}{}", column.cell(row)?)?;
            }
            writeln!(out)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.header(out)
    }
}

/// How one column becomes text.
enum Column<'a> {
    Simple(&'a dyn Array, ArrayFormatter<'a>),
    Nested(NullableEncoder<'a>),
}

impl<'a> Column<'a> {
    fn new(
        field: &'a FieldRef,
        array: &'a dyn Array,
        text: &'a FormatOptions<'a>,
        json: &'a EncoderOptions,
    ) -> io::Result<Self> {
        match field.data_type().is_nested() {
            true => make_encoder(field, array, json).map(Self::Nested).map_err(io_error),
            false => {
                let formatter = ArrayFormatter::try_new(array, text).map_err(io_error)?;
                Ok(Self::Simple(array, formatter))
            }
        }
    }

    fn cell(&mut self, row: usize) -> io::Result<String> {
        match self {
            Self::Simple(array, _) if array.is_null(row) => Ok(String::new()),
            Self::Simple(_, formatter) => {
                Ok(quoted(&formatter.value(row).try_to_string().map_err(io_error)?))
            }
            Self::Nested(encoder) if encoder.is_null(row) => Ok(String::new()),
            Self::Nested(encoder) => {
                let mut json = Vec::new();
                encoder.encode(row, &mut json);
                Ok(quoted(&String::from_utf8_lossy(&json)))
            }
        }
    }
}

/// Quotes where CSV needs them, and around the empty string, which is not null.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && !text.contains([',', '"', '\n', '\r']);
    match plain {
        true => text.to_owned(),
        false => format!("\"{}\"", text.replace('"', "\"\"")),
    }
}
