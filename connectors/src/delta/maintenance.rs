//! The upkeep of one table: log checkpoints, and the removal of [orphans].
//!
//! Log checkpoints are Delta's own summaries of the log, without which opening a table takes longer
//! with each version. One is due by state, not by event: when the last one lies [`INTERVAL`] versions
//! back (or the table's `delta.checkpointInterval`). Whoever notices it writes it; that two workers do
//! is harmless.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use connector_api::Result;
use connector_api::clock::{Clock, Moment, SystemClock};
use connector_api::sink::TableMaintenance;
use object_store::ObjectStoreExt;
use serde_json::Value;

use super::table::{Table, kernel_error};
use super::{log_checkpoint, orphans};

/// Versions between two log checkpoints, if the table does not say.
const INTERVAL: u64 = 100;
/// Between two looks for orphans, which list the whole table. They are looked for when a log
/// checkpoint is due as well.
const ORPHANS_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps the log of one table short, and its folder clean.
#[derive(Debug)]
pub(super) struct DeltaMaintenance {
    table: Table,
    clock: SystemClock,
    due: Mutex<Due>,
    at_work: tokio::sync::Mutex<()>,
}

/// What is due next, as far as we know; the store is only asked from there on.
#[derive(Debug, Clone, Copy, Default)]
struct Due {
    /// The version of the next log checkpoint.
    log_checkpoint: u64,
    /// The next look for orphans.
    orphans: Option<Moment>,
}

impl DeltaMaintenance {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            clock: SystemClock::start(),
            due: Mutex::default(),
            at_work: tokio::sync::Mutex::default(),
        }
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the last log checkpoint (Delta protocol, "Last Checkpoint File").
    async fn last_log_checkpoint(&self) -> Option<u64> {
        let path = self.table.store.object("_delta_log/_last_checkpoint");
        let content = self.table.store.objects.get(&path).await.ok()?.bytes().await.ok()?;
        serde_json::from_slice::<Value>(&content).ok()?["version"].as_u64()
    }

    /// Writes a log checkpoint of the newest version, if one is due.
    async fn write_log_checkpoint(&self) -> Result<Option<u64>> {
        let hinted = self.last_log_checkpoint().await;
        let snapshot = self.table.blocking(Table::load).await?;
        let snapshot = snapshot.map_err(|e| kernel_error("the table cannot be read", e))?;
        // One whose hint was lost is not written over: somebody may be reading it.
        let last = hinted.max(snapshot.log_segment().checkpoint_version).unwrap_or(0);
        let interval =
            snapshot.table_properties().checkpoint_interval.map_or(INTERVAL, |n| n.get());
        if snapshot.version() < last + interval {
            self.due().log_checkpoint = last + interval;
            return Ok(None);
        }
        let version = snapshot.version();
        // The checksum first: it costs little, and readers and committers start from it.
        let with_checksum =
            move |table: &Table| match snapshot.write_checksum(table.engine.as_ref()) {
                Ok((_, snapshot)) => snapshot,
                Err(_) => snapshot,
            };
        let snapshot = self.table.blocking(with_checksum).await?;
        log_checkpoint::write(&self.table, snapshot).await?;
        self.due().log_checkpoint = version + interval;
        Ok(Some(version))
    }

    /// Removes orphans, if a look for them is due. Returns how many there were.
    async fn remove_orphans(&self) -> Result<usize> {
        let now = self.clock.now();
        if self.due().orphans.is_some_and(|due| now < due) {
            return Ok(0);
        }
        self.due().orphans = Some(now + ORPHANS_INTERVAL);
        orphans::sweep(&self.table, orphans::KEPT).await
    }
}

#[async_trait]
impl TableMaintenance for DeltaMaintenance {
    async fn reconcile(&self, version: u64) -> Result<Option<String>> {
        if version < self.due().log_checkpoint {
            return Ok(None);
        }
        // Versions that come while it is at work do not ask for another one.
        let Ok(_at_work) = self.at_work.try_lock() else { return Ok(None) };
        let log_checkpoint = self.write_log_checkpoint().await?;
        let log_checkpoint = log_checkpoint.map(|at| format!("log checkpoint at version {at}"));
        let removed = self.remove_orphans().await?;
        let removed =
            (removed > 0).then(|| format!("{removed} data files of dropped rounds removed"));
        let done: Vec<String> = log_checkpoint.into_iter().chain(removed).collect();
        Ok((!done.is_empty()).then(|| done.join(", ")))
    }
}
