//! Writes the data files of a Delta table.
//!
//! A file is encoded in memory and put into the store when it is complete, so a reader that lists
//! the table's folder never meets half of one, and a file without a commit is an orphan that no
//! reader of the table sees (WR-1).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use async_trait::async_trait;
use bytes::Bytes;
use connector_api::batch::{PartitionValues, TableBatch};
use connector_api::clock::{Clock, SystemClock};
use connector_api::config::Compression;
use connector_api::offsets::OffsetDelta;
use connector_api::sink::{FileStatus, TableWriter, TableWriters};
use connector_api::staged::{SinkData, StagedFile};
use connector_api::{Error, Result};
use delta_kernel::FileMeta;
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel::expressions::Scalar;
use delta_kernel::schema::DataType as DeltaType;
use delta_kernel::transaction::{BoundWriteContext, WriteState};
use delta_kernel_default_engine::build_add_file_metadata;
use delta_kernel_default_engine::parquet::DataFileMetadata;
use object_store::path::Path;
use url::Url;

use super::statistics::FileStatistics;
use super::table::kernel_error;
use crate::data_file::{self, Encoder};
use crate::store::{Store, upload};

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
        _fingerprint: &str,
    ) -> Result<Box<dyn TableWriter>> {
        let context = self.write_context(partition_values)?;
        let physical = context.physical_data_schema().clone();
        let columns: Schema = physical.as_ref().try_into_arrow().map_err(|e| {
            Error::internal("the table's columns have no Arrow type").with_source(e)
        })?;
        let ending = data_file::file_ending(self.compression);
        let url = context
            .write_dir()
            .join(&format!("part-{name}.{ending}"))
            .map_err(|e| Error::internal("no name for a data file").with_source(e))?;
        let path = Path::from_url_path(url.path())
            .map_err(|e| Error::internal("no path for a data file").with_source(e))?;
        let columns = Arc::new(columns);
        let statistics = FileStatistics::new(context.stats_columns(), &physical, columns.clone());
        Ok(Box::new(DeltaWriter {
            store: self.store.clone(),
            path,
            url,
            partition_values: partition_values.clone(),
            delta: OffsetDelta::default(),
            rows: 0,
            state: State::Writing(Box::new(Writing {
                file: Encoder::new(columns, self.compression)?,
                statistics,
                context,
            })),
        }))
    }
}

/// One data file: `Writing` until [`finish`](TableWriter::finish), then `Finished`.
struct DeltaWriter {
    store: Store,
    path: Path,
    url: Url,
    partition_values: PartitionValues,
    delta: OffsetDelta,
    rows: u64,
    state: State,
}

enum State {
    Writing(Box<Writing>),
    Finished(Finished),
    /// Encoding failed: the file can only be dropped.
    Failed,
}

struct Writing {
    file: Encoder,
    statistics: FileStatistics,
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
        let rows = writing.file.write(batch.rows())?;
        writing.statistics.merge(&rows)?;
        self.rows += rows.num_rows() as u64;
        self.delta.cover(batch.topic_partition(), batch.range());
        Ok(())
    }

    fn status(&self) -> FileStatus {
        match &self.state {
            State::Writing(writing) => writing.file.status(),
            State::Finished(finished) => data_file::finished_status(self.rows, &finished.content),
            State::Failed => FileStatus { rows: self.rows, ..FileStatus::default() },
        }
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
        upload::put(&self.store, &self.path, finished.content.clone()).await?;
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
    fn encode(&self, writing: Writing) -> Result<Finished> {
        let (content, footer) = writing.file.finish()?;
        let (columns, physical) =
            (writing.context.stats_columns(), writing.context.physical_data_schema());
        let statistics = writing.statistics.finish(columns, physical, &footer)?;
        let meta =
            FileMeta::new(self.url.clone(), SystemClock::start().wall_ms(), content.len() as u64);
        let add =
            build_add_file_metadata(DataFileMetadata::new(meta, statistics), &writing.context)
                .and_then(EngineDataArrowExt::try_into_record_batch)
                .map_err(|e| kernel_error("the `add` action of a file", e))?;
        Ok(Finished { content, add: shrunk(add)? })
    }
}

/// The same without the room that its builders left: a round may hold thousands of small files.
fn shrunk(add: RecordBatch) -> Result<RecordBatch> {
    let (schema, mut columns, _) = add.into_parts();
    columns.iter_mut().for_each(Array::shrink_to_fit);
    RecordBatch::try_new(schema, columns)
        .map_err(|e| Error::internal("the `add` action of a file").with_source(e))
}

/// The `add` action of a file, as the kernel takes it.
pub(super) struct AddAction(pub(super) RecordBatch);
