//! Commits files and offsets to a Delta table in one version.
//!
//! The compare-and-swap of CM-2: a commit is judged on version V, and written as V+1 if no V+1 is
//! there yet. Both use the same snapshot of V, so whatever V does not show is in V+1 and makes the
//! write fail. V may be old; a verdict against the commit counts only on the newest version.
//!
//! | the store's answer to "create V+1" | what it may mean | what we do |
//! |---|---|---|
//! | created | it is ours | `Committed` |
//! | exists already | somebody else's; our own, whose first answer was lost (S3: 412); nobody's (S3: 409) | read the newest version and judge again |
//! | error, or none in time | nothing, or created | `Unknown`: the caller looks with [`find`](TableCommitter::find) |
//!
//! # A commit is never in the table twice
//!
//! Once it has landed, the stored offsets are past the starts of its ranges, so it is refused on
//! every version that shows it; and then its token tells `AlreadyCommitted` from `Fenced`. The
//! table is all that is asked, so it makes no difference who asks, or if he was told to ask first.
//!
//! A request without an answer may still be under way when `find` says `NotFound` and the commit
//! is sent again. It names V+1 and nothing else. If V+1 is free, both requests are for V+1, and
//! the store takes one of them. If V+1 is taken, by whomever, the late one fails. V+1 becomes free
//! again only when the log is cleaned up, which needs a log checkpoint behind it: an entry below
//! that is read by nobody.
//!
//! # Resets
//!
//! All that holds as long as offsets only move forward. A [reset](reset) moves them where a person
//! says, and with them the table tells at which version that was. A commit that this committer was
//! given before that version may lie in the log behind offsets that admit it once more: so before
//! it is written, the log is searched for its token. One that came later was never sent before
//! the reset. Every other commit is refused by its own starts, since the reset has moved them.
//!
//! # V must still be the table's
//!
//! "V+1 is not there" says nothing if V is not there either: the table may have been dropped, put
//! back from a copy, or cleaned up beyond V. So before each write the entry of V is looked at, and
//! [compared](super::log::EntryTag) with the one that was read or written. If it is another, the
//! table is read from scratch. Who stood still for an hour between the look and the write does
//! not trust the answer.
//!
//! # Cancellation and crashes
//!
//! Nothing is held that a restart needs. A dropped future leaves its request under way, like one
//! without an answer.

mod reset;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connector_api::clock::{Clock, Moment};
use connector_api::ids::{CommitToken, ConnectorName, TopicPartition};
use connector_api::offsets::OffsetCheckpoint;
use connector_api::outcome::{
    CommitError, CommitOutcome, CommitReceipt, Conflict, TokenLookup, Verdict,
};
use connector_api::reset::OffsetReset;
use connector_api::sink::TableCommitter;
use connector_api::staged::StagedCommit;
use connector_api::{Error, Result, Retry};
use delta_kernel::KernelResult;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::CommitResult;

use super::log::{self, EntryTag};
use super::offsets::{self, Standing};
use super::orphans;
use super::table::{Table, load_if_present, log_error};
use super::version::{self, Content, Written};
use crate::is_planted;

/// The keys of `commitInfo.operationParameters` that are ours, beside those that `log` reads.
const CONSUMED: &str = "alluvium.consumed";
const REJECTED: &str = "alluvium.rejected";
const TOMBSTONES: &str = "alluvium.tombstones";
const LOSSES: &str = "alluvium.losses";

/// A write that began longer than this after its version was seen may have met a cleaned-up log.
const STANDSTILL_MAX: Duration = Duration::from_secs(60 * 60);
/// Commits after which the log is listed again: log checkpoints shorten what a snapshot carries.
const COMMITS_UNLISTED_MAX: u64 = 100;
/// How long to wait when a version "exists already" and is not there.
const NOBODY_PAUSE: Duration = Duration::from_millis(50);

/// The one that commits for a connector.
#[derive(Debug)]
pub(super) struct DeltaCommitter {
    table: Table,
    connector: ConnectorName,
    clock: Arc<dyn Clock>,
    base: Base,
    /// Up to this version nobody has put the table back behind our last commit.
    unrestored: u64,
    /// The commit that was given last, and the version at hand when it was given first.
    given: Option<(CommitToken, u64)>,
}

/// The version that the next commit builds on.
#[derive(Debug)]
struct Base {
    snapshot: SnapshotRef,
    /// The version's entry in the log, if it was there.
    entry: Option<EntryTag>,
    /// When the entry was last seen in the store.
    seen: Moment,
    /// The version at which the log was last listed.
    listed: u64,
}

impl DeltaCommitter {
    pub(super) fn new(
        table: Table,
        snapshot: SnapshotRef,
        entry: Option<EntryTag>,
        connector: ConnectorName,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let listed = snapshot.version();
        let base = Base { snapshot, entry, seen: clock.now(), listed };
        Self { table, connector, clock, base, unrestored: 0, given: None }
    }

    /// True if the entry of the version at hand is in the store as we know it.
    async fn is_in_place(&self) -> Result<bool> {
        let Some(known) = &self.base.entry else { return Ok(false) };
        let found = log::tag(&self.table.store, self.base.snapshot.version()).await?;
        Ok(found.as_ref() == Some(known))
    }

    /// True if the version at hand is still the table's, and not worth reading anew.
    async fn base_holds(&mut self) -> Result<bool> {
        let asked = self.clock.now();
        if !self.is_in_place().await? {
            return Ok(false);
        }
        self.base.seen = asked;
        Ok(self.base.snapshot.version() - self.base.listed < COMMITS_UNLISTED_MAX)
    }

    /// Reads the newest version. It becomes the base, unless files were written for another table than it shows.
    async fn refresh(&mut self) -> Result<(SnapshotRef, Option<Conflict>)> {
        let seen = self.clock.now();
        let (snapshot, entry) = match self.continued().await? {
            Some(continued) => continued,
            None => {
                let loaded = load_if_present(&self.table).await?.ok_or_else(gone)?;
                let entry = log::tag(&self.table.store, loaded.version()).await?;
                (loaded, entry)
            }
        };
        let mut conflict = altered(&self.base.snapshot, &snapshot);
        if conflict.is_none() && snapshot.version() > self.base.snapshot.version() {
            let since = self.base.snapshot.version();
            conflict = self.restored(&snapshot, since).await?;
        }
        if conflict.is_none() {
            let listed = snapshot.version();
            self.base = Base { snapshot: snapshot.clone(), entry, seen, listed };
        }
        Ok((snapshot, conflict))
    }

    /// The newest version and its entry, read on from the base; `None` if the base is no longer the table's.
    async fn continued(&self) -> Result<Option<(SnapshotRef, Option<EntryTag>)>> {
        let known = self.base.snapshot.clone();
        let newer = self.table.blocking(move |table| table.refresh(known)).await?;
        let entry = match &newer {
            Ok(newer) => log::tag(&self.table.store, newer.version()).await?,
            Err(_) => None,
        };
        // Last: if the base is in its place now, all that was read before continues it.
        if !self.is_in_place().await? {
            return Ok(None);
        }
        let newer = newer.map_err(|e| log_error("the newest version cannot be read", e))?;
        Ok(Some((newer, entry)))
    }

    /// Whether somebody put the table back to an older version since, and since our last commit.
    async fn restored(&self, newest: &SnapshotRef, since: u64) -> Result<Option<Conflict>> {
        let (store, newest) = (&self.table.store, newest.version());
        let restored = log::restored(store, &self.connector, newest, since).await?;
        Ok(restored.map(|version| Conflict::TableRestored { version }))
    }

    /// The newest version, for questions that no alteration of the table touches.
    async fn newest(&mut self) -> Result<SnapshotRef> {
        match self.refresh().await? {
            (_, Some(conflict @ Conflict::TableReplaced)) => {
                Err(Error::decision(format!("{conflict}; its rows and offsets are gone")))
            }
            (newest, _) => Ok(newest),
        }
    }

    /// Where a version stands for some topic partitions.
    async fn standing(
        &self,
        snapshot: &SnapshotRef,
        of: BTreeSet<TopicPartition>,
    ) -> Result<Standing> {
        let (snapshot, connector) = (snapshot.clone(), self.connector.clone());
        let read = move |table: &Table| offsets::standing(table, &snapshot, &connector, of);
        self.table.blocking(read).await?
    }

    async fn standing_for(
        &self,
        snapshot: &SnapshotRef,
        commit: &StagedCommit,
    ) -> Result<Standing> {
        self.standing(snapshot, commit.delta().topic_partitions().cloned().collect()).await
    }

    async fn look_up(&self, newest: &SnapshotRef, commit: &StagedCommit) -> Result<TokenLookup> {
        let standing = self.standing_for(newest, commit).await?;
        log::look_up(&self.table.store, &self.connector, commit, newest.version(), standing).await
    }

    /// The outcome of a commit that the newest version refuses: it may be there already.
    async fn refused(
        &self,
        newest: &SnapshotRef,
        commit: &StagedCommit,
        outcome: CommitOutcome,
    ) -> Result<CommitOutcome> {
        Ok(match self.look_up(newest, commit).await? {
            TokenLookup::Found(receipt) => CommitOutcome::AlreadyCommitted(receipt),
            TokenLookup::NotFound | TokenLookup::Pruned { .. } => outcome,
        })
    }

    /// Judges the commit on the base and, if it may be written, writes the version after it.
    async fn attempt(&mut self, commit: &StagedCommit) -> Result<Attempt, CommitError> {
        let snapshot = self.base.snapshot.clone();
        let standing = self.standing_for(&snapshot, commit).await.map_err(CommitError::NotSent)?;
        let (reset, swept) = (standing.reset, standing.swept);
        if let Verdict::Refused(outcome) = commit.judge(standing.stored)
            && !is_planted("mistake_offset_unchecked")
        {
            return Ok(Attempt::Refused(outcome));
        }
        if orphans::has_swept(commit, swept) {
            // Its files may be gone: they have to be written anew.
            let cause = Conflict::TableAltered;
            return Ok(Attempt::Refused(CommitOutcome::Conflicted { cause }));
        }
        if reset.is_some_and(|reset| self.was_given_before(commit.token(), reset))
            && let TokenLookup::Found(receipt) =
                self.look_up(&snapshot, commit).await.map_err(CommitError::NotSent)?
        {
            return Ok(Attempt::Found(receipt));
        }
        let version = snapshot.version() + 1;
        match version::create_next(&self.table, snapshot, commit_content(&self.connector, commit))
            .await?
        {
            Written::Created { entry, result } => self.created(version, entry, *result, commit),
            Written::Exists => Ok(Attempt::Exists),
        }
    }

    /// True if the commit was given to this committer before that version was at hand.
    fn was_given_before(&self, token: &CommitToken, version: u64) -> bool {
        self.given.as_ref().is_some_and(|(given, at)| given == token && *at < version)
    }

    fn created(
        &mut self,
        version: u64,
        entry: Option<EntryTag>,
        written: KernelResult<CommitResult>,
        commit: &StagedCommit,
    ) -> Result<Attempt, CommitError> {
        let now = self.check_standstill(self.base.seen, version)?;
        // The kernel may fail over its own next snapshot. The version is there, and the base, now
        // outdated, is read anew when it refuses the next commit.
        if let Ok(CommitResult::Committed(done)) = written
            && let Some(snapshot) = done.post_commit_snapshot().cloned()
        {
            self.base = Base { snapshot, entry, seen: now, listed: self.base.listed };
        }
        Ok(Attempt::Committed(log::receipt(version, commit)))
    }

    /// Refuses to trust a write that came long after its version was seen. Brings the time.
    fn check_standstill(&self, seen: Moment, version: u64) -> Result<Moment, CommitError> {
        let now = self.clock.now();
        if now.since(seen) > STANDSTILL_MAX {
            return Err(CommitError::Unknown(Error::external(format!(
                "version {version} was written so late that the log may have been cleaned up before"
            ))));
        }
        Ok(now)
    }
}

/// What became of one attempt that got an answer.
enum Attempt {
    Committed(CommitReceipt),
    Refused(CommitOutcome),
    /// It is there already: it was sent before somebody moved the offsets back to its start.
    Found(CommitReceipt),
    /// The version to write exists, or is said to.
    Exists,
}

#[async_trait]
impl TableCommitter for DeltaCommitter {
    async fn checkpoint(&mut self) -> Result<OffsetCheckpoint> {
        let newest = self.newest().await?;
        let (snapshot, connector) = (newest.clone(), self.connector.clone());
        let read = move |table: &Table| offsets::checkpoint(table, &snapshot, &connector);
        let stored = self.table.blocking(read).await??;
        // Who has no rows in the table has none to lose.
        if stored.iter().next().is_some() {
            if let Some(conflict) = self.restored(&newest, self.unrestored).await? {
                let what_now = connector_api::outcome::AFTER_RESTORE;
                return Err(Error::decision(format!("{conflict}; {what_now}")));
            }
            self.unrestored = newest.version();
        }
        Ok(stored)
    }

    async fn fingerprint(&mut self, of: &TopicPartition) -> Result<Option<String>> {
        let newest = self.newest().await?;
        let identity = of.identity(&self.connector);
        log::fingerprint(&self.table.store, &identity, newest.version()).await
    }

    async fn conflict(&mut self) -> Result<Option<Conflict>> {
        Ok(self.refresh().await?.1)
    }

    /// Tries until the commit is in the table, refused by the newest version, or without an answer.
    async fn commit(&mut self, commit: &StagedCommit) -> Result<CommitOutcome, CommitError> {
        let give_up = self.clock.now() + self.table.store.deadline;
        if self.given.as_ref().is_none_or(|(token, _)| token != commit.token()) {
            self.given = Some((commit.token().clone(), self.base.snapshot.version()));
        }
        let mut outdated = !self.base_holds().await.map_err(CommitError::NotSent)?;
        let mut newest = false;
        let mut anew = false;
        let mut sent = false;
        // After the first request every failure leaves a doubt: its "exists already" may be about itself.
        let failed = |sent: bool, error: Error| match sent {
            true => CommitError::Unknown(error),
            false => CommitError::NotSent(error),
        };
        loop {
            if outdated {
                let before = self.base.snapshot.version();
                let (snapshot, conflict) = self.refresh().await.map_err(|e| failed(sent, e))?;
                if let Some(cause) = conflict {
                    let outcome = CommitOutcome::Conflicted { cause };
                    return self
                        .refused(&snapshot, commit, outcome)
                        .await
                        .map_err(|e| failed(sent, e));
                }
                if sent && snapshot.version() == before {
                    tokio::time::sleep(NOBODY_PAUSE).await;
                }
                newest = true;
            }
            if sent && self.clock.now() > give_up {
                let lost = Error::external("other writers of the table were faster each time");
                return Err(failed(sent, lost));
            }
            match self.attempt(commit).await {
                Ok(Attempt::Committed(receipt)) => return Ok(CommitOutcome::Committed(receipt)),
                Ok(Attempt::Refused(outcome)) if newest => {
                    let snapshot = &self.base.snapshot;
                    return self
                        .refused(snapshot, commit, outcome)
                        .await
                        .map_err(|e| failed(sent, e));
                }
                Ok(Attempt::Refused(_)) => {}
                Ok(Attempt::Found(receipt)) => {
                    return Ok(CommitOutcome::AlreadyCommitted(receipt));
                }
                Ok(Attempt::Exists) => sent = true,
                // What the base goes on from was cleaned up: all is read anew, once.
                Err(CommitError::NotSent(error))
                    if !anew && error.retry() == Retry::AfterRefresh =>
                {
                    self.base.entry = None;
                    anew = true;
                }
                Err(CommitError::NotSent(error)) => return Err(failed(sent, error)),
                Err(unknown) => return Err(unknown),
            }
            outdated = true;
        }
    }

    async fn find(&mut self, commit: &StagedCommit) -> Result<TokenLookup> {
        let newest = self.newest().await?;
        self.look_up(&newest, commit).await
    }

    async fn reset(&mut self, reset: &OffsetReset) -> Result<CommitOutcome, CommitError> {
        self.move_positions(reset).await
    }
}

/// The version that holds a commit.
fn commit_content(connector: &ConnectorName, commit: &StagedCommit) -> Content {
    let account = commit.accounting();
    let numbers = commit.delta().iter();
    let mut parameters = vec![
        (log::TOKEN, commit.token().0.clone()),
        (log::FINGERPRINT, commit.fingerprint().to_owned()),
        (log::CONNECTOR, connector.to_string()),
        (CONSUMED, account.consumed.to_string()),
        (REJECTED, account.rejected.to_string()),
        (TOMBSTONES, account.tombstones.to_string()),
    ];
    if !commit.losses().is_empty() {
        let losses: Vec<String> = commit.losses().iter().map(ToString::to_string).collect();
        parameters.push((LOSSES, losses.join("; ")));
    }
    Content {
        parameters,
        numbers: numbers.map(|(tp, range)| (tp.identity(connector), range.end().get())).collect(),
        files: commit.files().to_vec(),
    }
}

/// Compares what files depend on: the table's id, columns, partitioning, protocol and properties.
fn altered(known: &SnapshotRef, newest: &SnapshotRef) -> Option<Conflict> {
    let (old, new) = (known.table_configuration(), newest.table_configuration());
    if old.metadata().id() != new.metadata().id() {
        return Some(Conflict::TableReplaced);
    }
    let same = old.metadata() == new.metadata() && old.protocol() == new.protocol();
    (!same).then_some(Conflict::TableAltered)
}

fn gone() -> Error {
    Error::decision(
        "the table is no longer there; its rows and offsets are gone. To begin a new one, run `alluvium offsets reset`",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use connector_api::batch::TableSchema;
    use connector_api::contract;
    use delta_kernel::Snapshot;

    use super::super::sink_on;
    use super::*;
    use crate::store::store_at;

    /// A clock on which minutes pass between any two looks.
    #[derive(Debug)]
    struct Leaps {
        step: Duration,
        looks: AtomicU64,
    }

    impl Clock for Leaps {
        fn now(&self) -> Moment {
            let looks = self.looks.fetch_add(1, Ordering::Relaxed);
            Moment(self.step * u32::try_from(looks).unwrap())
        }

        fn wall_ms(&self) -> i64 {
            0
        }
    }

    async fn commit_with_steps_of(minutes: u64) -> Result<CommitOutcome, CommitError> {
        let folder = tempfile::tempdir().unwrap();
        let settings = contract::settings(folder.path().to_str().unwrap());
        let store = store_at("delta", &settings.location, &settings.storage).unwrap();
        let schema: TableSchema = contract::schema();
        let sink = sink_on(store.clone(), settings);
        let opened = sink.create(&contract::connector(), &schema).await.unwrap();
        let staged = contract::Round::new("t-1").new_range(0, 0, 3).staged(&opened).await;
        let table = Table::new(&store);
        let load = |table: &Table| {
            Snapshot::builder_for(table.store.url.as_str()).build(table.engine.as_ref())
        };
        let snapshot = table.blocking(load).await.unwrap().unwrap();
        let entry = log::tag(&store, 0).await.unwrap();
        let clock =
            Arc::new(Leaps { step: Duration::from_secs(60 * minutes), looks: AtomicU64::new(0) });
        let mut committer =
            DeltaCommitter::new(table, snapshot, entry, contract::connector(), clock);
        committer.commit(&staged).await
    }

    /// In between, the log may have been cleaned up beyond the version that was written.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_stood_still_before_the_write_does_not_trust_its_answer() {
        let soon = commit_with_steps_of(1).await;
        assert!(matches!(soon, Ok(CommitOutcome::Committed(_))), "{soon:?}");
        let late = commit_with_steps_of(61).await;
        assert!(matches!(late, Err(CommitError::Unknown(_))), "{late:?}");
    }
}
