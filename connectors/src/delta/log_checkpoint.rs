//! Writes log checkpoints: the actions of a version in one Parquet file, from which readers start (Delta protocol,
//! Checkpoints).
//!
//! The kernel says what is in it. We encode it in row groups, compressed: by the kernel's own writer it would have
//! seven times as many bytes, of which a million files at a time are in memory.
//!
//! First the file is put, then the hint that points to it. Whoever dies in between leaves a file that readers
//! find by listing, and a put shows all of it or nothing.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use connector_api::{Error, Result};
use delta_kernel::KernelError;
use delta_kernel::checkpoint::{CheckpointWriter, LastCheckpointHintStats};
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel::snapshot::SnapshotRef;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::table::{Table, kernel_error};
use crate::data_file::CREATED_BY;
use crate::store::upload;

/// Encoded bytes at which a row group is closed.
const ROW_GROUP_BYTES: usize = 8 * 1024 * 1024;
/// For reading the actions of all files and encoding them: 7 CPU seconds for a million.
const ENCODING_MAX: Duration = Duration::from_secs(15 * 60);

/// Writes a log checkpoint of a version, and the hint that points to it.
pub(super) async fn write(table: &Table, snapshot: SnapshotRef) -> Result<()> {
    let encode = |table: &Table| encode(table, snapshot, ROW_GROUP_BYTES);
    let LogCheckpoint { writer, hint, content } =
        table.blocking_within(ENCODING_MAX, encode).await??;
    let url = writer.checkpoint_path().map_err(failed)?;
    let path = Path::from_url_path(url.path())
        .map_err(|e| Error::internal("no path for a log checkpoint").with_source(e))?;
    upload::put(&table.store, &path, content).await?;
    let finalize = move |table: &Table| writer.finalize(table.engine.as_ref(), &hint);
    table.blocking(finalize).await?.map_err(failed)
}

/// One that is encoded, and not written yet.
struct LogCheckpoint {
    writer: CheckpointWriter,
    hint: LastCheckpointHintStats,
    content: Bytes,
}

fn encode(table: &Table, snapshot: SnapshotRef, row_group_bytes: usize) -> Result<LogCheckpoint> {
    let engine = table.engine.as_ref();
    let writer = snapshot.create_checkpoint_writer(engine).map_err(failed)?;
    let mut batches = writer.checkpoint_data(engine).map_err(failed)?;
    let state = batches.state();
    let mut file = None;
    for batch in batches.by_ref() {
        let batch = batch.and_then(|actions| actions.apply_selection_vector());
        let batch = batch.and_then(EngineDataArrowExt::try_into_record_batch).map_err(failed)?;
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(new_file(&batch, row_group_bytes).map_err(parquet_failed)?),
        };
        file.write(&batch).map_err(parquet_failed)?;
    }
    drop(batches);
    let file = file.ok_or_else(|| Error::internal("a version without actions"))?;
    let content = Bytes::from(file.into_inner().map_err(parquet_failed)?);
    let state = Arc::into_inner(state)
        .ok_or_else(|| Error::internal("the actions of a log checkpoint are still read"))?;
    let hint = LastCheckpointHintStats::from_reconciliation_state(state, content.len() as u64, 0)
        .map_err(failed)?;
    Ok(LogCheckpoint { writer, hint, content })
}

/// A file for batches like this one, in the encodings that all readers know.
fn new_file(
    batch: &RecordBatch,
    row_group_bytes: usize,
) -> Result<ArrowWriter<Vec<u8>>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_bytes(Some(row_group_bytes))
        .build();
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options)
}

fn failed(error: KernelError) -> Error {
    kernel_error("the log checkpoint cannot be written", error)
}

fn parquet_failed(error: ParquetError) -> Error {
    Error::internal("the log checkpoint cannot be encoded").with_source(error)
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;
    use connector_api::contract;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use serde_json::json;

    use super::super::sink_on;
    use super::*;
    use crate::store::store_at;

    /// The rows of a log checkpoint, and its row groups.
    fn read(content: Bytes) -> (RecordBatch, usize) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(content).unwrap();
        let row_groups = reader.metadata().num_row_groups();
        let schema = reader.schema().clone();
        let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        (concat_batches(&schema, &batches).unwrap(), row_groups)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn row_groups_are_bounded_and_hold_what_the_kernel_s_own_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = contract::settings(folder.path().to_str().unwrap());
        let as_struct = "delta.checkpoint.writeStatsAsStruct";
        settings.properties.insert(as_struct.into(), "true".into());
        let store = store_at("delta", &settings.location, &settings.storage).unwrap();
        let sink = sink_on(store.clone(), settings);
        sink.create(&contract::connector(), &contract::schema()).await.unwrap();
        let log = folder.path().join("_delta_log");
        let add = |file: u64| {
            let least = json!({"kafka_offset": file * 10, "text": format!("text {file}")});
            let statistics = json!({"numRecords": 10, "minValues": least, "nullCount": {}});
            json!({"add": {
                "path": format!("file-{file}.parquet"), "partitionValues": {}, "size": 1000 + file,
                "modificationTime": 1_790_000_000_000 + file, "dataChange": true,
                "stats": statistics.to_string(),
            }})
        };
        let (files, now_ms) = (0..5000, 1_790_000_000_000_u64 * 2);
        let gone = json!({"remove": {
            "path": "file-7.parquet", "deletionTimestamp": now_ms, "dataChange": true,
        }});
        let transaction = json!({"txn": {"appId": "somebody", "version": 3}});
        let entries = [files.map(add).collect(), vec![gone, transaction]];
        for (version, actions) in entries.iter().enumerate() {
            let lines: Vec<String> = actions.iter().map(ToString::to_string).collect();
            let name = format!("{:020}.json", version + 1);
            std::fs::write(log.join(name), lines.join("\n")).unwrap();
        }

        let table = Table::new(&store);
        let snapshot = table.blocking(Table::load).await.unwrap().unwrap();
        let encoded = |row_group_bytes| {
            let snapshot = snapshot.clone();
            table.blocking(move |table| encode(table, snapshot, row_group_bytes))
        };
        let (many, one) = (encoded(16 * 1024).await, encoded(ROW_GROUP_BYTES).await);
        let [many, one] = [many, one].map(|encoded| read(encoded.unwrap().unwrap().content));
        let by_kernel = snapshot.clone();
        let write = move |table: &Table| by_kernel.checkpoint(table.engine.as_ref(), None);
        table.blocking(write).await.unwrap().unwrap();
        let kernel = std::fs::read(log.join("00000000000000000002.checkpoint.parquet")).unwrap();
        let kernel = read(kernel.into());
        assert!(many.1 > 3 && one.1 == 1, "{} and {} row groups", many.1, one.1);
        assert_eq!(many.0.num_rows(), 5000 + 1 + 3 - 1);
        assert!(many.0 == kernel.0 && one.0 == kernel.0);
    }
}
