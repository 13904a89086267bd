//! A Delta table in a folder of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use async_trait::async_trait;
use connector_api::config::TableSettings;
use connector_api::contract::{Subject, Visible, settings};
use connector_api::sink::Sink;
use connectors::delta::sink_on;
use connectors::store::{Store, store_at};
use serde_json::Value;
use tempfile::TempDir;

use super::log::Log;
use crate::faults::answers::Faulty;
use crate::faults::{Fault, Faults};

/// A folder for one table, reached through a store that misbehaves on demand.
pub(super) struct Place {
    folder: TempDir,
    pub(super) store: Store,
    pub(super) faults: Arc<Faults>,
    pub(super) settings: TableSettings,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("table");
        let settings = settings(location.to_str().unwrap());
        let mut store = store_at("delta", &settings.location, &settings.storage).unwrap();
        let faults = Faults::on(store.objects.clone());
        store.objects = faults.clone();
        Self { folder, store, faults, settings }
    }

    pub(super) fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("table")
    }

    /// The table's log, read by hand.
    pub(super) fn log(&self) -> Log {
        Log::read(&self.root()).unwrap()
    }

    /// The path of a version's entry in the log.
    pub(super) fn entry(&self, version: u64) -> std::path::PathBuf {
        self.root().join(format!("_delta_log/{version:020}.json"))
    }

    /// Writes an entry of the log, as another program would.
    pub(super) fn write_entry(&self, version: u64, actions: &[Value]) {
        write_entry(&self.root(), version, actions);
    }

    /// Adds a property to the table, as another program would.
    pub(super) fn alter(&self, version: u64) {
        let mut metadata = self.log().actions("metaData").last().unwrap().clone();
        metadata["configuration"]["their.key"] = "x".into();
        self.write_entry(version, &[serde_json::json!({ "metaData": metadata })]);
    }
}

pub(super) fn write_entry(root: &Path, version: u64, actions: &[Value]) {
    let log = root.join("_delta_log");
    std::fs::create_dir_all(&log).unwrap();
    let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
    std::fs::write(log.join(format!("{version:020}.json")), lines.join("\n")).unwrap();
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
        let log = Log::read(&self.root())?;
        let files = log.files(&self.root());
        let mut rows: Vec<_> = files.iter().flat_map(|file| &file.batches).flat_map(rows).collect();
        rows.sort_unstable();
        let files = files.iter().map(|file| (file.rows, file.bytes)).collect();
        Some(Visible { version: log.version(), rows, files })
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
