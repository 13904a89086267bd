//! Somebody else who writes to the same Delta table: rewrites small files as one, and appends rows.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::World;
use crate::judge::{FOREIGN, Judge, TABLE};
use crate::store::SimulatedStore;
use crate::time::EPOCH_MS;

/// Replaces some files by one with the same rows, as an engine's OPTIMIZE does.
pub(crate) async fn optimize(world: &World, store: &SimulatedStore, judge: &Judge) {
    let (version, mut files) = judge.live();
    files.truncate(world.between(1, 6) as usize);
    if files.is_empty() {
        return;
    }
    let batches: Vec<RecordBatch> =
        files.iter().flat_map(|(_, content)| read(content.clone())).collect();
    let whole = concat_batches(&batches[0].schema(), &batches).unwrap();
    let name = format!("part-00000-optimized-{version}.parquet");
    let content = write(&whole);
    let mut actions: Vec<Value> = files
        .iter()
        .map(|(path, _)| json!({"remove": {"path": path, "deletionTimestamp": EPOCH_MS, "dataChange": false}}))
        .collect();
    actions.push(added(&name, content.len(), whole.num_rows(), false));
    let done = commit(store, version + 1, &name, content, "OPTIMIZE", actions).await;
    world.note(format_args!("{} files are rewritten as one: {done}", files.len()));
}

/// Appends rows that no record stands behind.
pub(crate) async fn append(world: &World, store: &SimulatedStore, judge: &Judge) {
    let (version, files) = judge.live();
    if files.is_empty() {
        return;
    }
    let columns = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
    let ids = Arc::new(Int64Array::from(vec![-1, -2, -3]));
    let rows = RecordBatch::try_new(Arc::new(columns), vec![ids]).unwrap();
    let name = format!("{FOREIGN}{version}.parquet");
    let content = write(&rows);
    let actions = vec![added(&name, content.len(), rows.num_rows(), true)];
    let done = commit(store, version + 1, &name, content, "WRITE", actions).await;
    world.note(format_args!("somebody appends: {done}"));
}

fn added(name: &str, size: usize, rows: usize, data_change: bool) -> Value {
    json!({"add": {
        "path": name,
        "partitionValues": {},
        "size": size,
        "modificationTime": EPOCH_MS,
        "dataChange": data_change,
        "stats": json!({"numRecords": rows}).to_string(),
    }})
}

async fn commit(
    store: &SimulatedStore,
    version: u64,
    name: &str,
    content: Bytes,
    operation: &str,
    mut actions: Vec<Value>,
) -> bool {
    let info = json!({"timestamp": EPOCH_MS, "operation": operation, "operationParameters": {}});
    actions.insert(0, json!({"commitInfo": info}));
    let entry: String = actions.iter().map(|action| format!("{action}\n")).collect();
    store.create(&Path::from(format!("{TABLE}/{name}")), content).await;
    let path = Path::from(format!("{TABLE}/_delta_log/{version:020}.json"));
    store.create(&path, entry.into()).await
}

fn read(content: Bytes) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(content).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

fn write(rows: &RecordBatch) -> Bytes {
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.into_inner().unwrap().into()
}
