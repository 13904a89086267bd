//! Writes the data files of a Delta table.
//!
//! A file is encoded in memory and put into the store when it is complete, so a reader that lists
//! the table's folder never meets half of one, and a file without a commit is an orphan that no
//! reader of the table sees (WR-1).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use connector_api::batch::{PartitionValues, TableBatch};
use connector_api::clock::{Clock, SystemClock};
use connector_api::config::Compression;
use connector_api::offsets::OffsetDelta;
use connector_api::sink::{FileStatus, TableWriter, TableWriters};
use connector_api::staged::{SinkData, StagedFile};
use connector_api::{Error, Result, check_invariant};
use delta_kernel::FileMeta;
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel::expressions::Scalar;
use delta_kernel::schema::DataType as DeltaType;
use delta_kernel::transaction::{BoundWriteContext, WriteState};
use delta_kernel_default_engine::build_add_file_metadata;
use delta_kernel_default_engine::parquet::DataFileMetadata;
use delta_kernel_default_engine::stats::FileStatsAccumulator;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use url::Url;

use super::encoding;
use super::store::{Store, store_error};
use super::table::kernel_error;

/// Files above this size go up in parts of it.
const PART_BYTES: usize = 16 * 1024 * 1024;
/// Parts of one file that are under way at once.
const PARTS_IN_FLIGHT: usize = 2;

/// Opens data files of one version of a table.
#[derive(Debug)]
pub(super) struct DeltaWriters {
    store: Store,
    write_state: Arc<WriteState>,
    compression: Compression,
    partition_types: HashMap<String, DeltaType>,
}

impl DeltaWriters {
    pub(super) fn new(
        store: Store,
        write_state: Arc<WriteState>,
        compression: Compression,
        partition_types: HashMap<String, DeltaType>,
    ) -> Self {
        Self { store, write_state, compression, partition_types }
    }

    fn write_context(&self, values: &PartitionValues) -> Result<BoundWriteContext> {
        let builder = self.write_state.write_context_builder();
        let builder = match values.0.as_slice() {
            [] => builder,
            values => builder.with_partition_values(
                values.iter().map(|(c, v)| self.scalar(c, v.as_deref())).collect::<Result<_>>()?,
            ),
        };
        builder.build().map_err(|e| kernel_error("the partition values do not fit the table", e))
    }

    fn scalar(&self, column: &str, value: Option<&str>) -> Result<(String, Scalar)> {
        let data_type = self.partition_types.get(column).ok_or_else(|| {
            Error::internal(format!("`{column}` is no partition column of the table"))
        })?;
        let scalar = match (value, data_type) {
            (None, data_type) => Scalar::Null(data_type.clone()),
            (Some(text), DeltaType::Primitive(primitive)) => primitive
                .parse_scalar(text)
                .map_err(|e| kernel_error(&format!("partition column `{column}`"), e))?,
            (Some(_), _) => {
                return Err(Error::user(format!(
                    "partition column `{column}` is not of a simple type"
                )));
            }
        };
        Ok((column.to_owned(), scalar))
    }
}

impl TableWriters for DeltaWriters {
    fn open_file(
        &self,
        name: &str,
        partition_values: &PartitionValues,
    ) -> Result<Box<dyn TableWriter>> {
        let context = self.write_context(partition_values)?;
        let physical = context.physical_data_schema().clone();
        let columns: Schema = physical.as_ref().try_into_arrow().map_err(|e| {
            Error::internal("the table's columns have no Arrow type").with_source(e)
        })?;
        let columns = Arc::new(columns);
        let ending = encoding::file_ending(self.compression);
        let url = context
            .write_dir()
            .join(&format!("part-{name}.{ending}"))
            .map_err(|e| Error::internal("no name for a data file").with_source(e))?;
        let path = Path::from_url_path(url.path())
            .map_err(|e| Error::internal("no path for a data file").with_source(e))?;
        let properties = encoding::properties(columns.fields(), self.compression);
        let statistics = FileStatsAccumulator::new(context.stats_columns(), &physical);
        Ok(Box::new(DeltaWriter {
            store: self.store.clone(),
            path,
            url,
            partition_values: partition_values.clone(),
            delta: OffsetDelta::default(),
            rows: 0,
            state: State::Writing(Box::new(Writing {
                parquet: parquet_writer(&columns, properties)?,
                statistics,
                context,
            })),
            columns,
        }))
    }
}

fn parquet_writer(
    columns: &SchemaRef,
    properties: WriterProperties,
) -> Result<ArrowWriter<Vec<u8>>> {
    // Arrow's own schema is left out: readers take the Parquet types, as from any other writer.
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(Vec::new(), columns.clone(), options).map_err(parquet_error)
}

fn parquet_error(error: parquet::errors::ParquetError) -> Error {
    Error::internal("rows cannot be encoded as Parquet").with_source(error)
}

/// One data file: `Writing` until [`finish`](TableWriter::finish), then `Finished`.
struct DeltaWriter {
    store: Store,
    path: Path,
    url: Url,
    partition_values: PartitionValues,
    delta: OffsetDelta,
    rows: u64,
    columns: SchemaRef,
    state: State,
}

enum State {
    Writing(Box<Writing>),
    Finished(Finished),
    /// Encoding failed: the file can only be dropped.
    Failed,
}

struct Writing {
    parquet: ArrowWriter<Vec<u8>>,
    statistics: FileStatsAccumulator,
    context: BoundWriteContext,
}

struct Finished {
    content: Bytes,
    add: RecordBatch,
}

#[async_trait]
impl TableWriter for DeltaWriter {
    fn write(&mut self, batch: &TableBatch) -> Result<()> {
        let State::Writing(writing) = &mut self.state else {
            return Err(Error::internal("a row came after its file was finished"));
        };
        let rows = with_columns(&self.columns, batch.rows())?;
        writing.parquet.write(&rows).map_err(parquet_error)?;
        writing.statistics.merge(&rows).map_err(|e| kernel_error("statistics of a file", e))?;
        self.rows += rows.num_rows() as u64;
        self.delta.cover(batch.topic_partition(), batch.range());
        Ok(())
    }

    fn status(&self) -> FileStatus {
        let encoded = match &self.state {
            State::Writing(writing) => {
                writing.parquet.bytes_written() + writing.parquet.in_progress_size()
            }
            State::Finished(finished) => finished.content.len(),
            State::Failed => 0,
        };
        FileStatus { rows: self.rows, encoded_bytes: encoded as u64 }
    }

    fn finish(&mut self) -> Result<()> {
        if !matches!(self.state, State::Writing(_)) {
            return Err(Error::internal("a file was finished twice"));
        }
        if let State::Writing(writing) = std::mem::replace(&mut self.state, State::Failed) {
            self.state = State::Finished(self.encode(*writing)?);
        }
        Ok(())
    }

    async fn stage(&mut self) -> Result<StagedFile> {
        let State::Finished(finished) = &self.state else {
            return Err(Error::internal("a file was staged before it was finished"));
        };
        put(&self.store, &self.path, &self.url, finished.content.clone()).await?;
        Ok(StagedFile {
            path: self.path.to_string(),
            rows: self.rows,
            bytes: finished.content.len() as u64,
            partition_values: self.partition_values.clone(),
            delta: self.delta.clone(),
            sink_data: SinkData::new(AddAction(finished.add.clone())),
        })
    }
}

impl DeltaWriter {
    /// Closes the Parquet file. Checks WR-2: the footer counts the rows that were written.
    fn encode(&self, mut writing: Writing) -> Result<Finished> {
        let footer = writing.parquet.finish().map_err(parquet_error)?;
        let in_footer = footer.file_metadata().num_rows();
        check_invariant!(
            Wr2,
            u64::try_from(in_footer) == Ok(self.rows),
            "{}: the footer counts {in_footer} rows, {} were written",
            self.path,
            self.rows
        );
        let content = Bytes::from(std::mem::take(writing.parquet.inner_mut()));
        let statistics =
            writing.statistics.finish().map_err(|e| kernel_error("statistics of a file", e))?;
        let statistics = statistics.ok_or_else(|| Error::internal("a data file without rows"))?;
        let meta =
            FileMeta::new(self.url.clone(), SystemClock::start().wall_ms(), content.len() as u64);
        let add =
            build_add_file_metadata(DataFileMetadata::new(meta, statistics), &writing.context)
                .and_then(EngineDataArrowExt::try_into_record_batch)
                .map_err(|e| kernel_error("the `add` action of a file", e))?;
        Ok(Finished { content, add })
    }
}

/// The same rows under the table's own fields, whose metadata the statistics compare.
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

/// The `add` action of a file, as the kernel takes it.
pub(super) struct AddAction(pub(super) RecordBatch);

/// Puts an object, in equal parts if it is large. A failed multipart upload is given up and cleaned.
async fn put(store: &Store, path: &Path, url: &Url, content: Bytes) -> Result<()> {
    let failed = |e| store_error(format!("failed to put data file `{url}`"), e);
    if content.len() <= PART_BYTES {
        store.objects.put(path, PutPayload::from(content)).await.map_err(failed)?;
        return Ok(());
    }
    let mut upload = store.objects.put_multipart(path).await.map_err(failed)?;
    if let Err(error) = put_parts(upload.as_mut(), &content).await {
        if let Err(left) = upload.abort().await {
            tracing::warn!(%path, error = %left, "parts of a failed upload were left in the store");
        }
        return Err(failed(error));
    }
    Ok(())
}

async fn put_parts(upload: &mut dyn MultipartUpload, content: &Bytes) -> object_store::Result<()> {
    let starts = (0..content.len()).step_by(PART_BYTES);
    let part = |start: usize| content.slice(start..content.len().min(start + PART_BYTES));
    // The order of the calls is the order of the parts; their requests run when they are polled.
    let parts: Vec<_> = starts.map(|start| upload.put_part(part(start).into())).collect();
    let mut put = stream::iter(parts).buffer_unordered(PARTS_IN_FLIGHT);
    put.try_next().await?;
    fail::fail_point!("w2_file_half_written", |_| std::process::abort());
    put.try_collect::<()>().await?;
    upload.complete().await?;
    Ok(())
}
