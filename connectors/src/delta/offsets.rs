//! Where a version of the table stands: the next offsets that its `txn` actions keep.

use std::collections::BTreeSet;

use arrow::array::AsArray;
use connector_api::ids::{ConnectorName, TopicPartition};
use connector_api::offsets::{Offset, OffsetCheckpoint};
use connector_api::{Error, Result};
use delta_kernel::KernelResult;
use delta_kernel::actions::LOG_TXN_SCHEMA;
use delta_kernel::crc::SetTransactionState;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;

use super::orphans;
use super::table::{Table, log_error};

/// Where a version stands.
#[derive(Debug)]
pub(super) struct Standing {
    /// The next offsets of the topic partitions that were asked for.
    pub(super) stored: OffsetCheckpoint,
    /// The version at which a person moved offsets last, if that ever happened: since then they
    /// have only moved forward (OF-2).
    pub(super) reset: Option<u64>,
    /// Up to when files were opened that may be [swept](super::orphans).
    pub(super) swept: Option<i64>,
}

/// Where a version stands for some topic partitions.
pub(super) fn standing(
    table: &Table,
    snapshot: &SnapshotRef,
    connector: &ConnectorName,
    of: BTreeSet<TopicPartition>,
) -> Result<Standing> {
    let stored = stored(table, snapshot, connector, of)?;
    let reset = snapshot
        .get_app_id_version(&reset_identity(connector), table.engine.as_ref())
        .map_err(|e| log_error("the last reset cannot be read", e))?;
    let reset = reset.and_then(|version| u64::try_from(version).ok());
    Ok(Standing { stored, reset, swept: orphans::swept(table, snapshot)? })
}

/// The application id under which a reset keeps its own version. No connector has this name, and no
/// topic partition this [identity](TopicPartition::identity).
pub(super) fn reset_identity(connector: &ConnectorName) -> String {
    format!("{connector}#reset")
}

/// The next offsets of some topic partitions. Those that the table has never seen are absent.
fn stored(
    table: &Table,
    snapshot: &SnapshotRef,
    connector: &ConnectorName,
    of: BTreeSet<TopicPartition>,
) -> Result<OffsetCheckpoint> {
    of.into_iter()
        .filter_map(|tp| next_offset(table, snapshot, connector, tp).transpose())
        .collect()
}

/// The next offsets of all topic partitions that the connector has ever committed.
pub(super) fn checkpoint(
    table: &Table,
    snapshot: &SnapshotRef,
    connector: &ConnectorName,
) -> Result<OffsetCheckpoint> {
    let app_ids =
        app_ids(table, snapshot).map_err(|e| log_error("stored offsets cannot be read", e))?;
    let ours = app_ids.iter().filter_map(|id| TopicPartition::from_identity(connector, id));
    stored(table, snapshot, connector, ours.collect())
}

fn next_offset(
    table: &Table,
    snapshot: &SnapshotRef,
    connector: &ConnectorName,
    topic_partition: TopicPartition,
) -> Result<Option<(TopicPartition, Offset)>> {
    let identity = topic_partition.identity(connector);
    let next = snapshot
        .get_app_id_version(&identity, table.engine.as_ref())
        .map_err(|e| log_error("stored offsets cannot be read", e))?;
    let Some(next) = next else { return Ok(None) };
    match Offset::new(next) {
        Some(next) => Ok(Some((topic_partition, next))),
        None => Err(Error::decision(format!(
            "the table stores offset {next} for `{identity}`, which is none; another writer uses this identity"
        ))),
    }
}

/// The application ids of all `txn` actions, whosever they are: from the checksum file, or by
/// reading the log where there is none.
fn app_ids(table: &Table, snapshot: &SnapshotRef) -> KernelResult<BTreeSet<String>> {
    if let Some(checksum) = snapshot.crc_at_version()
        && let SetTransactionState::Complete(transactions) = &checksum.set_transaction_state
    {
        return Ok(transactions.keys().cloned().collect());
    }
    let mut found = BTreeSet::new();
    let log = snapshot.log_segment();
    for actions in log.read_actions(table.engine.as_ref(), LOG_TXN_SCHEMA.clone())? {
        let actions = actions?;
        let Some(actions) = actions.actions().any_ref().downcast_ref::<ArrowEngineData>() else {
            return Err(delta_kernel::KernelError::generic("the log was not read as Arrow"));
        };
        let transactions = actions.record_batch().column_by_name("txn");
        let ids = transactions
            .and_then(|txn| txn.as_struct_opt())
            .and_then(|txn| txn.column_by_name("appId"))
            .and_then(|ids| ids.as_string_opt::<i32>());
        found.extend(ids.into_iter().flat_map(|ids| ids.iter()).flatten().map(str::to_owned));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use connector_api::Retry;
    use connector_api::contract;

    use super::super::sink_on;
    use super::*;
    use crate::store::store_at;

    /// A restart reads the newest version, which does not need what is gone.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_that_is_cleaned_up_under_a_version_asks_for_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let settings = contract::settings(folder.path().to_str().unwrap());
        let store = store_at("delta", &settings.location, &settings.storage).unwrap();
        let connector = contract::connector();
        sink_on(store.clone(), settings).create(&connector, &contract::schema()).await.unwrap();
        let log = folder.path().join("_delta_log");
        // Without it the log is read.
        std::fs::remove_file(log.join("00000000000000000000.crc")).unwrap();
        let table = Table::new(&store);
        let snapshot = table.blocking(Table::load).await.unwrap().unwrap();
        std::fs::remove_file(log.join("00000000000000000000.json")).unwrap();
        let of = [contract::topic_partition(0)].into();
        let read = move |table: &Table| standing(table, &snapshot, &connector, of);
        let error = table.blocking(read).await.unwrap().unwrap_err();
        assert_eq!(error.retry(), Retry::AfterRefresh, "{error}");
    }
}
