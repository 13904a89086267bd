//! Writes log checkpoints: the actions of a version in one Parquet file, from which readers start (Delta protocol,
//! Checkpoints).
//!
//! The kernel says what is in it. Its own writer would hold the whole file in memory as one row group, half a
//! KiB for each file of the table.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use connector_api::{Error, Result};
use delta_kernel::checkpoint::{CheckpointWriter, LastCheckpointHintStats};
use delta_kernel::engine::arrow_data::EngineDataArrowExt;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{Engine, KernelError};
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::table::{Table, kernel_error};
use crate::store::upload;

/// What is held of a log checkpoint before it is compressed.
const ROW_GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Writes a log checkpoint of a version, and the hint that points to it.
pub(super) async fn write(table: &Table, snapshot: SnapshotRef) -> Result<()> {
    let failed = |e| kernel_error("the log checkpoint cannot be written", e);
    let encode = move |table: &Table| Encoded::new(table.engine.as_ref(), snapshot);
    let Encoded { writer, hint, content } = table.blocking(encode).await?.map_err(failed)?;
    let url = writer.checkpoint_path().map_err(failed)?;
    let path = Path::from_url_path(url.path())
        .map_err(|e| Error::internal("no path for a log checkpoint").with_source(e))?;
    upload::put(&table.store, &path, content).await?;
    let finalize = move |table: &Table| writer.finalize(table.engine.as_ref(), &hint);
    table.blocking(finalize).await?.map_err(failed)
}

struct Encoded {
    writer: CheckpointWriter,
    hint: LastCheckpointHintStats,
    content: Bytes,
}

impl Encoded {
    fn new(engine: &dyn Engine, snapshot: SnapshotRef) -> Result<Self, KernelError> {
        let writer = snapshot.create_checkpoint_writer(engine)?;
        let mut actions = writer.checkpoint_data(engine)?;
        let state = actions.state();
        let mut file = None;
        for batch in actions.by_ref() {
            let batch = batch?.apply_selection_vector()?.try_into_record_batch()?;
            let file = match &mut file {
                Some(file) => file,
                None => file.insert(new_file(&batch)?),
            };
            file.write(&batch)?;
        }
        drop(actions);
        let file = file.ok_or_else(|| KernelError::generic("a version without actions"))?;
        let content = Bytes::from(file.into_inner()?);
        let state = Arc::into_inner(state)
            .ok_or_else(|| KernelError::generic("the log checkpoint's actions are still read"))?;
        let hint =
            LastCheckpointHintStats::from_reconciliation_state(state, content.len() as u64, 0)?;
        Ok(Self { writer, hint, content })
    }
}

/// A file for batches like this one, in the encodings that all readers know.
fn new_file(batch: &RecordBatch) -> Result<ArrowWriter<Vec<u8>>, KernelError> {
    let properties = WriterProperties::builder()
        .set_created_by(super::table::ENGINE_INFO.to_owned())
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .build();
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    Ok(ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options)?)
}
