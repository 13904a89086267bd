//! Log checkpoints: Delta's own summaries of the log, without which opening a table takes longer with each version.
//!
//! Due by state, not by event: when the last log checkpoint lies [`INTERVAL`] versions back (or the
//! table's `delta.checkpointInterval`). Whoever notices it writes it; that two workers do is harmless.

use std::sync::Mutex;

use async_trait::async_trait;
use connector_api::Result;
use connector_api::sink::TableMaintenance;
use object_store::ObjectStoreExt;
use serde_json::Value;

use super::table::{Table, kernel_error};

/// Versions between two log checkpoints, if the table does not say.
const INTERVAL: u64 = 100;

/// Keeps the log of one table short.
#[derive(Debug)]
pub(super) struct DeltaMaintenance {
    table: Table,
    /// The version that is due next, as far as we know; the store is only asked from there on.
    due: Mutex<u64>,
}

impl DeltaMaintenance {
    pub(super) fn new(table: Table) -> Self {
        Self { table, due: Mutex::new(0) }
    }

    fn due(&self) -> u64 {
        *self.due.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set_due(&self, version: u64) {
        *self.due.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = version;
    }

    /// The version of the last log checkpoint (Delta protocol, "Last Checkpoint File").
    async fn last_log_checkpoint(&self) -> Option<u64> {
        let path = self.table.store.object("_delta_log/_last_checkpoint");
        let content = self.table.store.objects.get(&path).await.ok()?.bytes().await.ok()?;
        serde_json::from_slice::<Value>(&content).ok()?["version"].as_u64()
    }
}

#[async_trait]
impl TableMaintenance for DeltaMaintenance {
    async fn reconcile(&self, version: u64) -> Result<Option<String>> {
        if version < self.due() {
            return Ok(None);
        }
        let last = self.last_log_checkpoint().await.unwrap_or(0);
        let snapshot = self.table.blocking(Table::load).await?;
        let snapshot = snapshot.map_err(|e| kernel_error("the table cannot be read", e))?;
        let interval =
            snapshot.table_properties().checkpoint_interval.map_or(INTERVAL, |n| n.get());
        if snapshot.version() < last + interval {
            self.set_due(last + interval);
            return Ok(None);
        }
        let version = snapshot.version();
        let written = self.table.blocking(move |table| {
            let engine = table.engine.as_ref();
            // The checksum first: it costs little, and readers and committers start from it.
            let snapshot = match snapshot.write_checksum(engine) {
                Ok((_, snapshot)) => snapshot,
                Err(_) => snapshot,
            };
            snapshot.checkpoint(engine, None)
        });
        written.await?.map_err(|e| kernel_error("the log checkpoint cannot be written", e))?;
        self.set_due(version + interval);
        Ok(Some(format!("log checkpoint at version {version}")))
    }
}
