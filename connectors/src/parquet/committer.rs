//! Commits to a ledger, and brings what is decided to its end.

use async_trait::async_trait;
use connector_api::clock::{Clock, Moment, SystemClock};
use connector_api::ids::{CommitToken, TopicPartition};
use connector_api::offsets::OffsetCheckpoint;
use connector_api::outcome::{
    CommitError, CommitOutcome, CommitReceipt, Conflict, TokenLookup, Verdict,
};
use connector_api::reset::OffsetReset;
use connector_api::sink::TableCommitter;
use connector_api::staged::StagedCommit;
use connector_api::{Error, Result};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};

use super::ledger::{Held, Ledger, PublishedFile, Publishing, State, Swap, published, receipt};
use super::table::TableFile;
use crate::is_planted;
use crate::store::{Store, store_error};

/// Files that are put in their places at once.
const MOVES_AT_ONCE: usize = 16;

/// The one that commits for a connector.
#[derive(Debug)]
pub(super) struct ParquetCommitter {
    ledger: Ledger,
    clock: SystemClock,
    /// The ledger as we saw it last; `None` if it has to be read.
    held: Option<Held>,
    /// Commits that are published although the ledger may not say so yet.
    published: Vec<Publishing>,
}

/// What a newest state says to a change, before it is written.
enum Answer {
    /// The change is in the ledger already.
    There(u64),
    Refused(CommitOutcome),
    Write(Box<State>),
}

impl ParquetCommitter {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger, clock: SystemClock::start(), held: None, published: Vec::new() }
    }

    /// Reads the ledger, and whether the table is still the one that was opened.
    async fn refresh(&mut self) -> Result<(&Held, Option<Conflict>)> {
        self.held = None;
        let table = TableFile::load(&self.ledger.store).await?;
        let table = table.ok_or_else(|| {
            Error::decision("the table was dropped: its `_alluvium/table.json` is gone")
        })?;
        let conflict = (*table.id() != self.ledger.table).then_some(Conflict::TableReplaced);
        let held = match conflict {
            None => self.ledger.load().await?,
            // Its ledger would be another one.
            Some(_) => Held::empty(&self.ledger),
        };
        Ok((self.held.insert(held), conflict))
    }

    /// The newest state, for questions that the table must be there for.
    async fn newest(&mut self) -> Result<&Held> {
        match self.refresh().await? {
            (_, Some(conflict)) => {
                Err(Error::decision(format!("{conflict}; its rows and offsets are gone")))
            }
            (held, None) => Ok(held),
        }
    }

    /// Writes what `change` makes of the newest state. The version, or why it is not written.
    async fn write(
        &mut self,
        change: impl Fn(&State) -> Result<Answer>,
    ) -> Result<Result<(u64, bool), CommitOutcome>, CommitError> {
        let give_up = self.clock.now() + self.ledger.store.deadline;
        let mut sent = false;
        // After the first request every failure leaves a doubt.
        let failed = |sent: bool, error: Error| match sent {
            true => CommitError::Unknown(error),
            false => CommitError::NotSent(error),
        };
        let mut newest = false;
        loop {
            // A ledger that nobody has written yet may be one that was removed.
            if self.held.as_ref().is_none_or(|held| !held.is_written()) {
                let (_, conflict) = self.refresh().await.map_err(|e| failed(sent, e))?;
                if let Some(cause) = conflict {
                    return Ok(Err(CommitOutcome::Conflicted { cause }));
                }
                newest = true;
            }
            let Some(held) = self.held.clone() else { continue };
            match change(&held.state).map_err(|e| failed(sent, e))? {
                Answer::There(version) => return Ok(Ok((version, false))),
                Answer::Refused(outcome) if newest => return Ok(Err(outcome)),
                // Somebody else may have moved the offsets to where this change begins.
                Answer::Refused(_) => self.held = None,
                Answer::Write(next) => {
                    self.expired(give_up, sent)?;
                    let version = next.version;
                    match self.ledger.swap(&held, *next).await.map_err(|e| failed(sent, e))? {
                        Swap::Done(held) => {
                            self.held = Some(*held);
                            return Ok(Ok((version, true)));
                        }
                        Swap::Lost => self.held = None,
                        Swap::Unknown(error) => {
                            self.held = None;
                            return Err(CommitError::Unknown(error));
                        }
                    }
                    (sent, newest) = (true, false);
                }
            }
        }
    }

    fn expired(&self, give_up: Moment, sent: bool) -> Result<(), CommitError> {
        match sent && self.clock.now() > give_up {
            true => Err(CommitError::Unknown(Error::external(
                "other writers of the ledger were faster each time",
            ))),
            false => Ok(()),
        }
    }

    /// Gives the files of decided commits their final names, and tells the ledger. Those of one
    /// commit that was just decided, or of all, also of workers that are gone.
    async fn publish(&mut self, only: Option<&CommitToken>) -> Result<()> {
        let Some(held) = self.held.clone() else { return Ok(()) };
        let mut decided = held.state.publishing;
        self.published.retain(|published| decided.contains(published));
        decided.retain(|publishing| only.is_none_or(|token| publishing.token == token.0));
        if decided.is_empty() {
            return Ok(());
        }
        let files = decided.iter().flat_map(|publishing| publishing.files.clone());
        let (store, resumed) = (&self.ledger.store, only.is_none());
        let moves: Vec<_> =
            files.map(|file| put_in_place(store.clone(), file, resumed).boxed()).collect();
        let moved: Vec<Option<PublishedFile>> =
            stream::iter(moves).buffer_unordered(MOVES_AT_ONCE).try_collect().await?;
        fail::fail_point!("w5_published_not_noted", |_| std::process::abort());
        let missing: Vec<PublishedFile> = moved.into_iter().flatten().collect();
        if !missing.is_empty() {
            self.check_missing(&missing).await?;
        }
        self.published.extend(decided.clone());
        let done = self
            .write(|state| {
                let next = state.without(&decided);
                Ok(next.map_or(Answer::There(state.version), |next| Answer::Write(Box::new(next))))
            })
            .await;
        // The files themselves show that they are published, and the next commit says so again.
        if let Err(CommitError::NotSent(error) | CommitError::Unknown(error)) = done {
            tracing::debug!(table = %self.ledger.store.url, %error, "the ledger still names published files");
        }
        Ok(())
    }

    /// Looks into files that are neither staged nor published: either somebody has published and
    /// then removed them, which the ledger says, or they are lost.
    async fn check_missing(&mut self, missing: &[PublishedFile]) -> Result<()> {
        let state = &self.newest().await?.state;
        let mut named = state.publishing.iter().flat_map(|publishing| &publishing.files);
        let Some(file) = named.find(|file| missing.contains(file)) else { return Ok(()) };
        Err(Error::decision(format!(
            "`{}` was committed and is gone, and so is `{}`, which it was made of: somebody has removed it. \
             Its rows are lost to the table; to read them again, run `alluvium offsets reset`",
            file.path, file.staged
        )))
    }

    /// Publishes what a commit has decided. Until that is done, its outcome is unknown to readers.
    async fn publish_own(
        &mut self,
        commit: &StagedCommit,
        outcome: CommitOutcome,
    ) -> Result<CommitOutcome, CommitError> {
        fail::fail_point!("w4_decided_not_published", |_| std::process::abort());
        if is_planted("mistake_offsets_before_files") {
            for file in commit.files() {
                let file = published(file).map_err(CommitError::Unknown)?;
                let moved = put_in_place(self.ledger.store.clone(), file, false).await;
                moved.map_err(CommitError::Unknown)?;
            }
        }
        self.publish(Some(commit.token())).await.map_err(CommitError::Unknown)?;
        Ok(outcome)
    }
}

#[async_trait]
impl TableCommitter for ParquetCommitter {
    async fn checkpoint(&mut self) -> Result<OffsetCheckpoint> {
        let connector = self.ledger.connector.clone();
        let checkpoint = self.newest().await?.state.checkpoint(&connector);
        self.publish(None).await?;
        Ok(checkpoint)
    }

    async fn fingerprint(&mut self, of: &TopicPartition) -> Result<Option<String>> {
        let identity = of.identity(&self.ledger.connector);
        Ok(self.newest().await?.state.fingerprint(&identity))
    }

    async fn conflict(&mut self) -> Result<Option<Conflict>> {
        Ok(self.refresh().await?.1)
    }

    async fn commit(&mut self, commit: &StagedCommit) -> Result<CommitOutcome, CommitError> {
        let (connector, now) = (self.ledger.connector.clone(), self.clock.wall_ms());
        let published = self.published.clone();
        let written = self.write(|state| {
            if let Some(version) = state.version_of(commit.token()) {
                return Ok(Answer::There(version));
            }
            let stored = state.stored(&connector, commit.delta().topic_partitions());
            match commit.judge(stored) {
                Verdict::Refused(_)
                    if is_planted("mistake_offset_unchecked")
                        || is_planted("mistake_token_not_looked_for") =>
                {
                    Ok(Answer::Write(Box::new(state.with_commit(&connector, commit, now)?)))
                }
                Verdict::Refused(outcome) => Ok(Answer::Refused(outcome)),
                // Its files may be gone: they have to be written anew.
                Verdict::Admitted if state.has_swept(commit) => {
                    let cause = Conflict::TableAltered;
                    Ok(Answer::Refused(CommitOutcome::Conflicted { cause }))
                }
                Verdict::Admitted => {
                    let state = state.without(&published).unwrap_or_else(|| state.clone());
                    Ok(Answer::Write(Box::new(state.with_commit(&connector, commit, now)?)))
                }
            }
        });
        match written.await? {
            Ok((version, true)) => {
                self.publish_own(commit, CommitOutcome::Committed(receipt(version, commit))).await
            }
            Ok((version, false)) => {
                self.publish_own(commit, CommitOutcome::AlreadyCommitted(receipt(version, commit)))
                    .await
            }
            Err(outcome) => {
                // Who was ahead may not live to publish: rows before those to come must be seen.
                if let CommitOutcome::Fenced { .. } = outcome {
                    self.publish(None).await.map_err(CommitError::NotSent)?;
                }
                Ok(outcome)
            }
        }
    }

    async fn find(&mut self, commit: &StagedCommit) -> Result<TokenLookup> {
        let connector = self.ledger.connector.clone();
        let found = self.newest().await?.state.look_up(&connector, commit);
        self.publish(None).await?;
        Ok(found)
    }

    async fn reset(&mut self, reset: &OffsetReset) -> Result<CommitOutcome, CommitError> {
        let (connector, now) = (self.ledger.connector.clone(), self.clock.wall_ms());
        let decided = self.newest().await.map_err(CommitError::NotSent)?.state.publishing.clone();
        match self.publish(None).await {
            Ok(()) => {}
            // Files that are lost are what the reset is for.
            Err(error) if error.needs_decision() => {
                tracing::warn!(%connector, %error, "the reset leaves them behind");
            }
            Err(error) => return Err(CommitError::NotSent(error)),
        }
        let written = self.write(|state| {
            if let Some(version) = state.version_of(&reset.token) {
                return Ok(Answer::There(version));
            }
            Ok(match reset.judge(state.stored(&connector, reset.moves.keys())) {
                Verdict::Refused(outcome) => Answer::Refused(outcome),
                Verdict::Admitted => {
                    let state = state.without(&decided).unwrap_or_else(|| state.clone());
                    Answer::Write(Box::new(state.with_reset(&connector, reset, now)))
                }
            })
        });
        let receipt = |version| CommitReceipt { version, checkpoint: reset.positions() };
        Ok(match written.await? {
            Ok((version, true)) => CommitOutcome::Committed(receipt(version)),
            Ok((version, false)) => CommitOutcome::AlreadyCommitted(receipt(version)),
            Err(outcome) => outcome,
        })
    }
}

/// Gives a file its final name, by steps that may each have been done before. Returns it if it has
/// neither name.
///
/// A store that copies on its own may answer before the copy is whole (Azure: "Copy Blob", status
/// 202), so the staged file goes only when the other one has its size. One that is there already
/// is not made again: somebody may have removed or rewritten it by the time.
async fn put_in_place(
    store: Store,
    file: PublishedFile,
    resumed: bool,
) -> Result<Option<PublishedFile>> {
    let (from, to) = (store.exact(&file.staged)?, store.exact(&file.path)?);
    let failed = |e| store_error(format!("`{}` cannot be published", file.path), e);
    if !resumed || !is_whole(&store, &to, &file).await? {
        let moved = match store.is_local() {
            true => store.answer(store.objects.rename(&from, &to)).await,
            false => store.answer(store.objects.copy(&from, &to)).await,
        };
        match moved {
            Ok(()) => {}
            // Somebody else was here before, or we were, and the answer was lost.
            Err(StoreError::NotFound { .. }) => {
                let whole = is_whole(&store, &to, &file).await?;
                return Ok((!whole).then_some(file));
            }
            Err(error) => return Err(failed(error)),
        }
        if !is_whole(&store, &to, &file).await? {
            return Err(Error::external(format!("`{}` is not copied to its end yet", file.path)));
        }
    }
    match store.answer(store.objects.delete(&from)).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

async fn is_whole(store: &Store, path: &Path, file: &PublishedFile) -> Result<bool> {
    match store.answer(store.objects.head(path)).await {
        Ok(found) => Ok(found.size == file.bytes),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(store_error(format!("`{}` cannot be looked up", file.path), error)),
    }
}
