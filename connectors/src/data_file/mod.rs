//! A data file in Parquet, encoded in memory: the same for every table format.

mod encoding;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use connector_api::config::Compression;
use connector_api::sink::FileStatus;
use connector_api::{Error, Result, check_invariant};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};

pub use encoding::properties;
pub(crate) use encoding::{CREATED_BY, file_ending};

/// A file that takes rows.
pub(crate) struct Encoder {
    parquet: ArrowWriter<Vec<u8>>,
    columns: SchemaRef,
    rows: u64,
}

impl Encoder {
    /// A file with these columns.
    pub(crate) fn new(columns: SchemaRef, compression: Compression) -> Result<Self> {
        let properties = encoding::properties(columns.fields(), compression);
        // Arrow's own schema is left out: readers take the Parquet types, as from any other writer.
        let options =
            ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let parquet = ArrowWriter::try_new_with_options(Vec::new(), columns.clone(), options)
            .map_err(parquet_error)?;
        Ok(Self { parquet, columns, rows: 0 })
    }

    /// Encodes rows, and returns them under the file's own fields.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<RecordBatch> {
        let rows = with_columns(&self.columns, rows)?;
        self.parquet.write(&rows).map_err(parquet_error)?;
        self.rows += rows.num_rows() as u64;
        Ok(rows)
    }

    /// Puts a note into the footer.
    pub(crate) fn note(&mut self, key: &str, value: String) {
        self.parquet.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }

    /// Rows and bytes so far.
    pub(crate) fn status(&self) -> FileStatus {
        let encoded = self.parquet.bytes_written() + self.parquet.in_progress_size();
        let memory = self.parquet.bytes_written() + self.parquet.memory_size();
        FileStatus { rows: self.rows, encoded_bytes: encoded as u64, memory_bytes: memory as u64 }
    }

    /// Closes the file, and returns it and what its footer says. Checks WR-2: the footer counts the rows that
    /// were written.
    pub(crate) fn finish(mut self) -> Result<(Bytes, ParquetMetaData)> {
        let footer = self.parquet.finish().map_err(parquet_error)?;
        let in_footer = footer.file_metadata().num_rows();
        check_invariant!(
            Wr2,
            u64::try_from(in_footer) == Ok(self.rows),
            "the footer counts {in_footer} rows, {} were written",
            self.rows
        );
        Ok((Bytes::from(std::mem::take(self.parquet.inner_mut())), footer))
    }
}

/// Of a file that is complete, and waits in memory to be stored.
pub(crate) fn finished_status(rows: u64, content: &Bytes) -> FileStatus {
    let bytes = content.len() as u64;
    FileStatus { rows, encoded_bytes: bytes, memory_bytes: bytes }
}

fn parquet_error(error: ParquetError) -> Error {
    Error::internal("rows cannot be encoded as Parquet").with_source(error)
}

/// The same rows under the table's own fields, whose metadata statistics compare.
fn with_columns(columns: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    let mut pairs = rows.schema_ref().fields().iter().zip(columns.fields());
    if let Some((given, own)) = pairs.find(|(given, own)| given.name() != own.name()) {
        let (given, own) = (given.name(), own.name());
        return Err(Error::internal(format!(
            "rows have the column `{given}` in the place of `{own}`"
        )));
    }
    RecordBatch::try_new(columns.clone(), rows.columns().to_vec())
        .map_err(|e| Error::internal("rows do not have the table's columns").with_source(e))
}
