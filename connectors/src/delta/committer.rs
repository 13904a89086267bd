//! Commits files and offsets to a Delta table in one version.
//!
//! One attempt is: judge the commit on version V, then create version V+1 if it is not there yet.
//! Nothing happens between the two that V+1 would not show, so this is the compare-and-swap of
//! CM-2.
//!
//! | the store's answer to "create V+1" | what it may mean | what we do |
//! |---|---|---|
//! | created | it is ours | done |
//! | exists already | somebody else's, or our own whose first answer was lost | read V+1: our token there means done; else judge again on the newest version |
//! | error, time-out | nothing, or created | unknown: [`find`](TableCommitter::find) reads V+1 |
//!
//! A request that arrives late can only create the V+1 that it names. We move on to V+2 only after
//! V+1 was seen to exist, so it loses.
//!
//! Crash consistency: nothing is held that a restart needs; the table tells where it stands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connector_api::clock::{Clock, Moment, SystemClock};
use connector_api::ids::{ConnectorName, TopicPartition};
use connector_api::offsets::{Offset, OffsetCheckpoint};
use connector_api::outcome::{CommitError, CommitOutcome, CommitReceipt, Conflict, TokenLookup, Verdict};
use connector_api::sink::TableCommitter;
use connector_api::staged::StagedCommit;
use connector_api::{Error, Result, check_invariant};
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{KernelError, KernelResult};
use object_store::ObjectStoreExt;

use super::table::{ENGINE_INFO, Table, blocking, kernel_error};
use super::writer::AddAction;

/// The keys of `commitInfo.operationParameters` that are ours.
const TOKEN: &str = "alluvium.token";
const FINGERPRINT: &str = "alluvium.fingerprint";
const CONNECTOR: &str = "alluvium.connector";

/// How often a commit is tried against other writers before the round starts over.
const ATTEMPTS_MAX: usize = 20;
/// A version that is older than this may have been followed by others whose log entries are cleaned
/// up already, so that V+1 would be free again. It is read anew first.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// The one that commits for a connector.
#[derive(Debug)]
pub(super) struct DeltaCommitter {
    table: Table,
    connector: ConnectorName,
    snapshot: SnapshotRef,
    loaded: Moment,
    clock: SystemClock,
    /// The versions that requests for the commit in hand may have created.
    attempted: Attempts,
}

/// Which versions may hold the commit with this token.
#[derive(Debug, Clone, Default)]
struct Attempts {
    token: String,
    versions: BTreeSet<u64>,
}

/// What one attempt came to.
enum Attempt {
    Committed(SnapshotRef),
    Exists(u64),
    Failed { version: u64, error: KernelError },
}

impl DeltaCommitter {
    pub(super) fn new(table: Table, snapshot: SnapshotRef, connector: ConnectorName) -> Self {
        let clock = SystemClock::start();
        let loaded = clock.now();
        Self { table, connector, snapshot, loaded, clock, attempted: Attempts::default() }
    }

    /// Reads the newest version. Says if the table is no longer the one that files were written for.
    async fn refresh(&mut self) -> Result<Option<Conflict>> {
        let (table, known) = (self.table.clone(), self.snapshot.clone());
        let newest = blocking(move || table.refresh(known)).await?;
        let newest = newest.map_err(|e| kernel_error("the table's newest version cannot be read", e))?;
        let conflict = altered(&self.snapshot, &newest);
        if conflict.is_none() {
            self.adopt(newest);
        }
        Ok(conflict)
    }

    fn adopt(&mut self, snapshot: SnapshotRef) {
        self.snapshot = snapshot;
        self.loaded = self.clock.now();
    }

    /// Where this version stands for some topic partitions.
    async fn stored(&self, of: Vec<TopicPartition>) -> Result<OffsetCheckpoint> {
        let (table, snapshot) = (self.table.clone(), self.snapshot.clone());
        let connector = self.connector.clone();
        blocking(move || {
            let read = |topic_partition: TopicPartition| {
                let identity = topic_partition.identity(&connector);
                let next = snapshot
                    .get_app_id_version(&identity, table.engine.as_ref())
                    .map_err(|e| kernel_error("stored offsets cannot be read", e))?;
                next.map(|next| match Offset::new(next) {
                    Some(next) => Ok((topic_partition, next)),
                    None => Err(Error::decision(format!(
                        "the table stores offset {next} for `{identity}`, which is none; \
                         another writer uses this identity"
                    ))),
                })
                .transpose()
            };
            of.into_iter().filter_map(|tp| read(tp).transpose()).collect()
        })
        .await?
    }

    async fn stored_for(&self, commit: &StagedCommit) -> Result<OffsetCheckpoint> {
        self.stored(commit.delta().topic_partitions().cloned().collect()).await
    }

    /// Creates the version after this one, or learns that it exists.
    async fn attempt(&self, commit: &StagedCommit) -> Result<Attempt> {
        let version = self.snapshot.version() + 1;
        let (table, snapshot) = (self.table.clone(), self.snapshot.clone());
        let (connector, commit) = (self.connector.clone(), commit.clone());
        blocking(move || match write_version(&table, snapshot, &connector, &commit) {
            Ok(CommitResult::Committed(done)) => match done.post_commit_snapshot() {
                Some(snapshot) => Ok(Attempt::Committed(snapshot.clone())),
                None => Err(Error::internal("the kernel gave no snapshot after a commit")),
            },
            Ok(CommitResult::Conflicted(_)) => Ok(Attempt::Exists(version)),
            Ok(CommitResult::Retryable(failed)) => Ok(Attempt::Failed { version, error: failed.error }),
            Err(error) => Ok(Attempt::Failed { version, error }),
        })
        .await?
    }

    /// True if this version of the log holds the commit; `None` if the version is not in the store.
    async fn holds(&self, version: u64, commit: &StagedCommit) -> Result<Option<bool>> {
        let path = self.table.store.object(&format!("_delta_log/{version:020}.json"));
        let unreadable = |e: object_store::Error| {
            Error::external(format!("version {version} of the table cannot be read")).with_source(e)
        };
        let content = match self.table.store.objects.get(&path).await {
            Ok(found) => found.bytes().await.map_err(unreadable)?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        Ok(Some(has_token(&content, &commit.token().0)))
    }

    fn receipt(&self, version: u64, commit: &StagedCommit) -> CommitReceipt {
        let mut checkpoint = OffsetCheckpoint::default();
        checkpoint.advance(commit.delta());
        CommitReceipt { version, checkpoint }
    }

    /// Judges and attempts until the commit is in the table, refused, or without an answer.
    async fn commit_on_newest(&mut self, commit: &StagedCommit) -> Result<CommitOutcome, CommitError> {
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.stored_for(commit).await.map_err(CommitError::NotSent)?;
            if let Verdict::Refused(outcome) = commit.judge(stored) {
                return Ok(outcome);
            }
            match self.attempt(commit).await.map_err(CommitError::Unknown)? {
                Attempt::Committed(snapshot) => {
                    let version = snapshot.version();
                    self.adopt(snapshot);
                    return Ok(CommitOutcome::Committed(self.receipt(version, commit)));
                }
                Attempt::Exists(version) => {
                    self.attempted.versions.insert(version);
                    let ours = self.holds(version, commit).await.map_err(CommitError::Unknown)?;
                    if ours == Some(true) {
                        return Ok(CommitOutcome::AlreadyCommitted(self.receipt(version, commit)));
                    }
                    if let Some(cause) = self.refresh().await.map_err(CommitError::NotSent)? {
                        return Ok(CommitOutcome::Conflicted { cause });
                    }
                }
                Attempt::Failed { version, error } => {
                    self.attempted.versions.insert(version);
                    let doing = format!("the answer to writing version {version} was lost");
                    return Err(CommitError::Unknown(kernel_error(&doing, error)));
                }
            }
        }
        Err(CommitError::NotSent(Error::external(format!(
            "{ATTEMPTS_MAX} attempts to commit lost against other writers of the table"
        ))))
    }
}

#[async_trait]
impl TableCommitter for DeltaCommitter {
    async fn checkpoint(&mut self, of: &[TopicPartition]) -> Result<OffsetCheckpoint> {
        if let Some(conflict) = self.refresh().await? {
            return Err(altered_error(&conflict));
        }
        self.stored(of.to_vec()).await
    }

    async fn commit(&mut self, commit: &StagedCommit) -> Result<CommitOutcome, CommitError> {
        if self.attempted.token == commit.token().0 {
            // Tried before: it may have landed since. CM-3: look before anything else.
            match self.find(commit).await.map_err(CommitError::NotSent)? {
                TokenLookup::Found(receipt) => return Ok(CommitOutcome::AlreadyCommitted(receipt)),
                TokenLookup::NotFound | TokenLookup::Pruned { .. } => {}
            }
        } else {
            self.attempted = Attempts { token: commit.token().0.clone(), versions: BTreeSet::new() };
        }
        let outdated = self.clock.now().since(self.loaded) > SNAPSHOT_AGE_MAX;
        if outdated && let Some(cause) = self.refresh().await.map_err(CommitError::NotSent)? {
            return Ok(CommitOutcome::Conflicted { cause });
        }
        let outcome = self.commit_on_newest(commit).await?;
        let refused = matches!(outcome, CommitOutcome::Fenced { .. } | CommitOutcome::RolledBack { .. });
        if !refused {
            return Ok(outcome);
        }
        // The version at hand may be behind what the table holds: judge on the newest before we say so.
        if let Some(cause) = self.refresh().await.map_err(CommitError::NotSent)? {
            return Ok(CommitOutcome::Conflicted { cause });
        }
        if let TokenLookup::Found(receipt) = self.find(commit).await.map_err(CommitError::NotSent)? {
            return Ok(CommitOutcome::AlreadyCommitted(receipt));
        }
        self.commit_on_newest(commit).await
    }

    async fn find(&mut self, commit: &StagedCommit) -> Result<TokenLookup> {
        if let Some(conflict) = self.refresh().await? {
            return Err(altered_error(&conflict));
        }
        let newest = self.snapshot.version();
        let stored = self.stored_for(commit).await?;
        let mut candidates = self.attempted.versions.clone();
        if self.attempted.token != commit.token().0 {
            candidates = (newest.saturating_sub(ATTEMPTS_MAX as u64)..=newest).collect();
        }
        let mut pruned = false;
        for version in candidates {
            match self.holds(version, commit).await? {
                Some(true) => return Ok(TokenLookup::Found(self.receipt(version, commit))),
                Some(false) => {}
                None => pruned |= version <= newest,
            }
        }
        // Committed offsets whose token is nowhere to be seen: not this commit, or its entry is gone.
        let moved = commit.delta().iter().any(|(tp, range)| stored.next(tp) == Some(range.end()));
        match pruned || (moved && self.attempted.token != commit.token().0) {
            true => Ok(TokenLookup::Pruned { stored }),
            false => Ok(TokenLookup::NotFound),
        }
    }
}

/// Builds the transaction on `snapshot` and creates the next version.
fn write_version(
    table: &Table,
    snapshot: SnapshotRef,
    connector: &ConnectorName,
    commit: &StagedCommit,
) -> KernelResult<CommitResult> {
    let mut parameters = vec![
        (TOKEN, Some(commit.token().0.clone())),
        (FINGERPRINT, Some(commit.fingerprint().to_owned())),
        (CONNECTOR, Some(connector.to_string())),
    ];
    let account = commit.accounting();
    let counts = [("alluvium.consumed", account.consumed), ("alluvium.rejected", account.rejected)];
    parameters.extend(counts.map(|(key, count)| (key, Some(count.to_string()))));
    let mut builder = snapshot
        .update_table(UpdateTableOperation::StreamingUpdate, ENGINE_INFO, true)
        .with_operation_parameters(parameters);
    if !commit.files().is_empty() {
        builder = builder.with_blind_append();
    }
    for (topic_partition, range) in commit.delta().iter() {
        builder = builder.with_transaction_id(topic_partition.identity(connector), range.end().get());
    }
    let mut transaction = builder.build(table.engine.as_ref(), Box::new(FileSystemCommitter::new()))?;
    let mut rows = 0;
    for file in commit.files() {
        let Some(AddAction(add)) = file.sink_data.get() else {
            return Err(KernelError::generic(format!("`{}` was not written by this sink", file.path)));
        };
        rows += file.rows;
        transaction.add_files(Box::new(ArrowEngineData::new(add.clone())));
    }
    check_invariant!(
        Wr2,
        rows == account.written,
        "{rows} rows go into the commit, {} were written",
        account.written
    );
    transaction.commit(table.engine.as_ref())
}

/// Compares what files depend on: the table's id, columns, partitioning, protocol and properties.
fn altered(known: &SnapshotRef, newest: &SnapshotRef) -> Option<Conflict> {
    if Arc::ptr_eq(known, newest) {
        return None;
    }
    let (old, new) = (known.table_configuration(), newest.table_configuration());
    if old.metadata().id() != new.metadata().id() {
        return Some(Conflict::TableReplaced);
    }
    let same = old.metadata() == new.metadata() && old.protocol() == new.protocol();
    (!same).then_some(Conflict::TableAltered)
}

fn altered_error(conflict: &Conflict) -> Error {
    match conflict {
        Conflict::TableReplaced => Error::decision(format!(
            "{conflict}; its rows and offsets are gone. To fill the new table from the start position, restart the connector"
        )),
        Conflict::TableAltered => {
            Error::external(conflict.to_string()).with_retry(connector_api::Retry::AfterRefresh)
        }
    }
}

/// Looks for our token in the `commitInfo` of one log entry (Delta protocol, "Commit Provenance Information").
fn has_token(entry: &[u8], token: &str) -> bool {
    entry.split(|byte| *byte == b'\n').any(|line| {
        let action: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        action.is_some_and(|action| action["commitInfo"]["operationParameters"][TOKEN] == token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cm_3_a_token_is_found_in_the_commit_info_and_nowhere_else() {
        let entry = br#"{"commitInfo":{"operationParameters":{"alluvium.token":"t-1"}}}
{"add":{"path":"t-2","tags":{"alluvium.token":"t-2"}}}"#;
        assert!(has_token(entry, "t-1"));
        assert!(!has_token(entry, "t-2"));
        assert!(!has_token(b"half a line {", "t-1"));
    }
}
