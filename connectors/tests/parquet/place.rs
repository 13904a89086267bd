//! A folder of Parquet files of its own.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use async_trait::async_trait;
use connector_api::config::TableSettings;
use connector_api::contract::{Subject, Visible, connector, settings};
use connector_api::sink::Sink;
use connectors::parquet::sink_on;
use connectors::store::{Store, store_at};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tempfile::TempDir;

use crate::faults::answers::Faulty;
use crate::faults::{Fault, Faults};

/// A place for one table, reached through a store that misbehaves on demand.
pub(super) struct Place {
    _folder: TempDir,
    pub(super) store: Store,
    pub(super) faults: Arc<Faults>,
    settings: TableSettings,
}

/// One data file as a reader finds it.
pub(super) struct DataFile {
    /// Its name below the table's root.
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) batches: Vec<RecordBatch>,
    /// The notes in its footer.
    pub(super) notes: Vec<(String, String)>,
}

impl Place {
    pub(super) fn in_memory() -> Self {
        let mut place = Self::on(|_| Arc::new(InMemory::new()));
        // As a bucket, where files are copied and not renamed.
        place.store.url = "s3://lake/table/".parse().unwrap();
        place
    }

    pub(super) fn on_disk() -> Self {
        Self::on(|disk| disk)
    }

    fn on(objects: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("table");
        let settings = settings(location.to_str().unwrap());
        let mut store = store_at("parquet", &settings.location, &settings.storage).unwrap();
        let faults = Faults::on(objects(store.objects.clone()));
        store.objects = faults.clone();
        Self { _folder: folder, store, faults, settings }
    }

    /// The names of all objects below the table's root, in order.
    pub(super) async fn names(&self) -> Vec<String> {
        let root = self.store.object("");
        let all: Vec<_> = self.store.objects.list(Some(&root)).try_collect().await.unwrap();
        let name = |path: &Path| {
            path.as_ref().strip_prefix(root.as_ref()).unwrap().trim_start_matches('/').to_owned()
        };
        let mut names: Vec<String> = all.iter().map(|object| name(&object.location)).collect();
        names.sort_unstable();
        names
    }

    pub(super) async fn object(&self, name: &str) -> Option<bytes::Bytes> {
        let path = Path::parse(format!("{}/{name}", self.store.object(""))).unwrap();
        match self.store.objects.get(&path).await {
            Ok(found) => Some(found.bytes().await.unwrap()),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) async fn delete(&self, name: &str) {
        let path = Path::parse(format!("{}/{name}", self.store.object(""))).unwrap();
        self.store.objects.delete(&path).await.unwrap();
    }

    pub(super) async fn put(&self, name: &str, content: String) {
        let path = Path::parse(format!("{}/{name}", self.store.object(""))).unwrap();
        self.store.objects.put(&path, content.into()).await.unwrap();
    }

    /// What is said if the table cannot be opened.
    pub(super) async fn sink_error(&self) -> String {
        self.sink().open(&connector()).await.unwrap_err().to_string()
    }

    /// The ledger, as a person reads it.
    pub(super) async fn ledger(&self) -> Option<Value> {
        let name = format!("_alluvium/{}.ledger.json", connector());
        Some(serde_json::from_slice(&self.object(&name).await?).unwrap())
    }

    /// What a reader finds that knows nothing of us: all Parquet files whose names it does not leave out.
    pub(super) async fn data_files(&self) -> Vec<DataFile> {
        let mut files = Vec::new();
        for name in self.names().await {
            if !name.ends_with(".parquet") || name.split('/').any(|p| p.starts_with(['_', '.'])) {
                continue;
            }
            let content = self.object(&name).await.unwrap();
            let bytes = content.len() as u64;
            let reader = ParquetRecordBatchReaderBuilder::try_new(content).unwrap();
            let notes = reader.metadata().file_metadata().key_value_metadata().cloned();
            let notes =
                notes.into_iter().flatten().filter_map(|note| Some((note.key, note.value?)));
            let notes = notes.collect();
            let batches = reader.build().unwrap().map(Result::unwrap).collect();
            files.push(DataFile { name, bytes, batches, notes });
        }
        files
    }
}

impl Faulty for Place {
    fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    fn with_deadline(mut self, deadline: Duration) -> Self {
        self.store.deadline = deadline;
        self
    }
}

#[async_trait]
impl Subject for Place {
    fn sink(&self) -> Arc<dyn Sink> {
        sink_on(self.store.clone(), self.settings.clone())
    }

    async fn visible(&self) -> Option<Visible> {
        self.object("_alluvium/table.json").await?;
        let version = self.ledger().await.map_or(0, |ledger| ledger["version"].as_u64().unwrap());
        let files = self.data_files().await;
        let mut rows: Vec<_> = files.iter().flat_map(|file| &file.batches).flat_map(rows).collect();
        rows.sort_unstable();
        let count = |file: &DataFile| file.batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        let files = files.iter().map(|file| (count(file) as u64, file.bytes)).collect();
        Some(Visible { version, rows, files })
    }

    fn lose_next_answer(&self, landed: bool) {
        self.faults.inject([if landed { Fault::AppliedThenError } else { Fault::Lost }]);
    }
}

fn rows(batch: &RecordBatch) -> Vec<(i32, i64)> {
    let partitions = batch.column_by_name("kafka_partition").unwrap().as_primitive::<Int32Type>();
    let offsets = batch.column_by_name("kafka_offset").unwrap().as_primitive::<Int64Type>();
    partitions.values().iter().copied().zip(offsets.values().iter().copied()).collect()
}
