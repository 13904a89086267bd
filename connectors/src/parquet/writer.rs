//! Writes the data files of a folder of Parquet files.
//!
//! A file is encoded in memory and put below `_alluvium`, where no reader of the table looks
//! (WR-1). Its footer says where its rows come from:
//!
//! | key in the footer | value |
//! |---|---|
//! | `alluvium.connector` | the connector's name |
//! | `alluvium.fingerprint` | that of the configuration which made the rows (CF-1) |
//! | `alluvium.offsets` | the ranges that its records lie in, `{"orders@ID/0": [0, 100]}`, the end not included |

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use connector_api::batch::{PartitionValues, TableBatch, TableSchema};
use connector_api::config::Compression;
use connector_api::ids::ConnectorName;
use connector_api::offsets::OffsetDelta;
use connector_api::sink::{FileStatus, TableWriter, TableWriters};
use connector_api::staged::{SinkData, StagedFile};
use connector_api::{Error, Result};
use serde_json::json;

use super::folders;
use super::ledger::{StagedAt, staged_folder};
use crate::data_file::{self, Encoder};
use crate::store::{Store, upload};

/// Opens data files of one connector.
#[derive(Debug)]
pub(super) struct ParquetWriters {
    store: Store,
    connector: ConnectorName,
    /// The table's columns without its partition columns: those stand in the folder's name.
    columns: SchemaRef,
    compression: Compression,
}

impl ParquetWriters {
    pub(super) fn new(
        store: &Store,
        schema: &TableSchema,
        connector: &ConnectorName,
        compression: Compression,
    ) -> Self {
        let fields = schema.columns.fields().iter();
        let in_files = fields.filter(|field| !schema.partition_columns.contains(field.name()));
        Self {
            store: store.clone(),
            connector: connector.clone(),
            columns: Arc::new(Schema::new(in_files.cloned().collect::<Vec<_>>())),
            compression,
        }
    }
}

impl TableWriters for ParquetWriters {
    fn open_file(
        &self,
        name: &str,
        partition_values: &PartitionValues,
        fingerprint: &str,
    ) -> Result<Box<dyn TableWriter>> {
        let ending = data_file::file_ending(self.compression);
        let folder = folders::folder(partition_values);
        Ok(Box::new(ParquetWriter {
            store: self.store.clone(),
            connector: self.connector.clone(),
            fingerprint: fingerprint.to_owned(),
            path: format!("{folder}part-{name}.{ending}"),
            // Longer than the final name: a store that cannot take that says so before a commit.
            staged: format!("{}/{folder}part-{name}", staged_folder(&self.connector)),
            partition_values: partition_values.clone(),
            delta: OffsetDelta::default(),
            rows: 0,
            state: State::Writing(Box::new(Encoder::new(self.columns.clone(), self.compression)?)),
        }))
    }
}

/// One data file: `Writing` until [`finish`](TableWriter::finish), then `Finished`.
struct ParquetWriter {
    store: Store,
    connector: ConnectorName,
    fingerprint: String,
    path: String,
    staged: String,
    partition_values: PartitionValues,
    delta: OffsetDelta,
    rows: u64,
    state: State,
}

enum State {
    Writing(Box<Encoder>),
    Finished(Bytes),
    /// Encoding failed: the file can only be dropped.
    Failed,
}

#[async_trait]
impl TableWriter for ParquetWriter {
    fn write(&mut self, batch: &TableBatch) -> Result<()> {
        let State::Writing(file) = &mut self.state else {
            return Err(Error::internal("a row came after its file was finished"));
        };
        file.write(batch.rows())?;
        self.rows += batch.rows().num_rows() as u64;
        self.delta.cover(batch.topic_partition(), batch.range());
        Ok(())
    }

    fn status(&self) -> FileStatus {
        match &self.state {
            State::Writing(file) => file.status(),
            State::Finished(content) => data_file::finished_status(self.rows, content),
            State::Failed => FileStatus { rows: self.rows, ..FileStatus::default() },
        }
    }

    fn finish(&mut self) -> Result<()> {
        if !matches!(self.state, State::Writing(_)) {
            return Err(Error::internal("a file was finished twice"));
        }
        if let State::Writing(mut file) = std::mem::replace(&mut self.state, State::Failed) {
            file.note("alluvium.connector", self.connector.to_string());
            file.note("alluvium.fingerprint", self.fingerprint.clone());
            file.note("alluvium.offsets", self.offsets());
            let (content, _) = file.finish()?;
            self.state = State::Finished(content);
        }
        Ok(())
    }

    async fn stage(&mut self) -> Result<StagedFile> {
        let State::Finished(content) = &self.state else {
            return Err(Error::internal("a file was staged before it was finished"));
        };
        upload::put(&self.store, &self.store.exact(&self.staged)?, content.clone()).await?;
        Ok(StagedFile {
            path: self.path.clone(),
            rows: self.rows,
            bytes: content.len() as u64,
            partition_values: self.partition_values.clone(),
            delta: self.delta.clone(),
            sink_data: SinkData::new(StagedAt(self.staged.clone())),
        })
    }
}

impl ParquetWriter {
    fn offsets(&self) -> String {
        let ranges: BTreeMap<String, [i64; 2]> = self
            .delta
            .iter()
            .map(|(tp, range)| {
                let name = format!("{}@{}/{}", tp.topic, tp.topic_id, tp.partition);
                (name, [range.start().get(), range.end().get()])
            })
            .collect();
        json!(ranges).to_string()
    }
}
