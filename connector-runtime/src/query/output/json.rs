//! One JSON object per line, nulls included, so that each line has all columns.

use std::io::{self, Write};
use std::ops::ControlFlow;

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;

use super::{RowWriter, io_error};

pub(super) struct JsonWriter;

impl RowWriter for JsonWriter {
    fn write(&mut self, rows: &RecordBatch, out: &mut dyn Write) -> io::Result<ControlFlow<()>> {
        let mut writer =
            WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out);
        writer.write(rows).and_then(|()| writer.finish()).map_err(io_error)?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
