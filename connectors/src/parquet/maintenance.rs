//! Removes staged files that were dropped with their rounds.
//!
//! Before any is deleted the ledger is told up to which name files are swept, and from then on no
//! commit can name one of them: it would be refused in the very swap that it needs (MN-1). Names
//! begin with the time at which a file was opened, so a round that is under way is newer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use connector_api::clock::{Clock, SystemClock};
use connector_api::sink::TableMaintenance;
use connector_api::{Error, Result};
use futures::TryStreamExt;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};

use super::ledger::{Ledger, Swap, base_name};
use crate::store::store_error;

/// How long a staged file is left alone: three times as long as the longest round.
const KEPT: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// Versions between two looks.
const INTERVAL: u64 = 100;
/// How often the ledger may change while we are about to change it.
const ATTEMPTS: usize = 10;

/// Keeps the staged files of one connector few.
#[derive(Debug)]
pub(super) struct ParquetMaintenance {
    ledger: Ledger,
    /// The version that is due next.
    due: Mutex<u64>,
}

impl ParquetMaintenance {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger, due: Mutex::new(0) }
    }
}

#[async_trait]
impl TableMaintenance for ParquetMaintenance {
    async fn reconcile(&self, version: u64) -> Result<Option<String>> {
        {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            if version < *due {
                return Ok(None);
            }
            *due = version.saturating_add(INTERVAL);
        }
        let removed = sweep(&self.ledger, KEPT).await?;
        Ok((removed > 0).then(|| format!("{removed} staged files of dropped rounds removed")))
    }
}

/// Removes staged files that are older than this, and returns how many.
async fn sweep(ledger: &Ledger, kept: Duration) -> Result<usize> {
    let store = &ledger.store;
    let folder = store.object(&ledger.staged_folder());
    let listed = store.objects.list(Some(&folder)).try_collect::<Vec<_>>();
    let listed =
        store.answer(listed).await.map_err(|e| store_error("staged files cannot be listed", e))?;
    let latest = SystemClock::start().wall_ms().saturating_sub(kept.as_millis() as i64);
    let mut old: Vec<_> = listed
        .into_iter()
        .filter(|object| object.last_modified.timestamp_millis() <= latest)
        .map(|object| (store.relative(&object.location), object))
        .collect();
    old.sort_unstable_by(|a, b| base_name(&a.0).cmp(base_name(&b.0)));
    let Some((newest, _)) = old.last() else { return Ok(0) };
    // Not behind the store's own time: a worker's clock may have been in the future.
    let times = old.iter().map(|(_, object)| object.last_modified);
    let stored = times.max().map(|time| format!("part-{}~", time.format("%Y%m%dT%H%M%SZ")));
    let newest = stored.into_iter().chain([base_name(newest).to_owned()]).min();
    let state = fence(ledger, &newest.unwrap_or_default()).await?;
    let publishing: Vec<&String> = state
        .publishing
        .iter()
        .flat_map(|publishing| publishing.files.iter().map(|file| &file.staged))
        .collect();
    let mut removed = 0;
    let swept = old.iter().filter(|(name, _)| state.is_swept(name) && !publishing.contains(&name));
    for (name, object) in swept {
        match store.answer(store.objects.delete(&object.location)).await {
            Ok(()) => removed += 1,
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(store_error(format!("`{name}` cannot be removed"), error)),
        }
    }
    Ok(removed)
}

/// Tells the ledger that staged files up to this name are swept. Returns the ledger that says so.
async fn fence(ledger: &Ledger, newest: &str) -> Result<super::ledger::State> {
    for _ in 0..ATTEMPTS {
        let held = ledger.load().await?;
        if held.state.is_swept(newest) {
            return Ok(held.state);
        }
        match ledger.swap(&held, held.state.with_swept(newest)).await? {
            Swap::Done(held) => return Ok(held.state),
            Swap::Lost => {}
            Swap::Unknown(error) => return Err(error),
        }
    }
    Err(Error::external("the ledger changed each time that files were to be swept"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_api::ids::{ConnectorName, TableId};
    use object_store::memory::InMemory;

    use super::*;
    use crate::store::{Store, store_at};

    async fn staged(store: &Store, names: &[&str]) -> Ledger {
        let connector = ConnectorName::parse("orders").unwrap();
        let ledger = Ledger::new(store, TableId("t".into()), &connector);
        for name in names {
            let path = store.exact(&format!("{}/{name}", ledger.staged_folder())).unwrap();
            store.objects.put(&path, "rows".into()).await.unwrap();
        }
        ledger
    }

    fn in_memory() -> Store {
        let mut store = store_at("parquet", "/lake/orders", &[].into()).unwrap();
        store.objects = Arc::new(InMemory::new());
        store
    }

    #[tokio::test]
    async fn mn_1_what_is_swept_can_be_named_by_no_commit_and_what_is_young_stays() {
        let store = in_memory();
        let ledger =
            staged(&store, &["part-20261124T000000Z-a-0", "part-20261124T000001Z-a-0"]).await;
        assert_eq!(sweep(&ledger, KEPT).await.unwrap(), 0);
        assert!(!ledger.load().await.unwrap().is_written(), "nothing to say, nothing written");

        assert_eq!(sweep(&ledger, Duration::ZERO).await.unwrap(), 2);
        let state = ledger.load().await.unwrap().state;
        let name = |name: &str| format!("{}/{name}", ledger.staged_folder());
        assert!(state.is_swept(&name("part-20251124T000000Z-b-7")));
        assert!(state.is_swept(&name("part-20251124T000001Z-a-0")));
        assert!(!state.is_swept(&name("part-29991231T000000Z-a-0")), "nor is all until then");
        assert_eq!(
            sweep(&ledger, Duration::ZERO).await.unwrap(),
            0,
            "what is left is of no known age"
        );
    }
}
