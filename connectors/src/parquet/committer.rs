//! Commits to a ledger, and brings what is decided to its end.

use async_trait::async_trait;
use connector_api::clock::{Clock, Moment, SystemClock};
use connector_api::ids::CommitToken;
use connector_api::offsets::OffsetCheckpoint;
use connector_api::outcome::{
    CommitError, CommitOutcome, CommitReceipt, Conflict, TokenLookup, Verdict,
};
use connector_api::reset::OffsetReset;
use connector_api::sink::TableCommitter;
use connector_api::staged::StagedCommit;
use connector_api::{Error, Result};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::{Error as StoreError, ObjectStoreExt};

use super::ledger::{Held, Ledger, PublishedFile, State, Swap, receipt};
use super::table::TableFile;
use crate::store::{Store, store_error};

/// Files that are renamed at once.
const RENAMES_AT_ONCE: usize = 16;

/// The one that commits for a connector.
#[derive(Debug)]
pub(super) struct ParquetCommitter {
    ledger: Ledger,
    clock: SystemClock,
    /// The ledger as we saw it last; `None` if it has to be read.
    held: Option<Held>,
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
        Self { ledger, clock: SystemClock::start(), held: None }
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
    /// commit, or of all, also of workers that are gone.
    async fn publish(&mut self, only: Option<&CommitToken>) -> Result<()> {
        let Some(held) = self.held.clone() else { return Ok(()) };
        let mut decided = held.state.publishing;
        decided.retain(|publishing| only.is_none_or(|token| publishing.token == token.0));
        if decided.is_empty() {
            return Ok(());
        }
        let files = decided.iter().flat_map(|publishing| publishing.files.clone());
        let renames: Vec<_> =
            files.map(|file| rename(self.ledger.store.clone(), file).boxed()).collect();
        let renamed: Vec<Option<PublishedFile>> =
            stream::iter(renames).buffer_unordered(RENAMES_AT_ONCE).try_collect().await?;
        fail::fail_point!("w5_published_not_noted", |_| std::process::abort());
        if let Some(file) = renamed.into_iter().flatten().next() {
            return self.missing(&file).await;
        }
        // That they are published is seen by the files themselves: nothing depends on this.
        let done = self
            .write(|state| {
                let next = state.without(&decided);
                Ok(next.map_or(Answer::There(state.version), |next| Answer::Write(Box::new(next))))
            })
            .await;
        if let Err(CommitError::NotSent(error) | CommitError::Unknown(error)) = done {
            tracing::debug!(table = %self.ledger.store.url, %error, "the ledger still names published files");
        }
        Ok(())
    }

    /// A file that is neither staged nor published: somebody has published and then removed it, or
    /// it is lost.
    async fn missing(&mut self, file: &PublishedFile) -> Result<()> {
        let state = &self.newest().await?.state;
        if state.publishing.iter().any(|publishing| publishing.files.contains(file)) {
            return Err(Error::decision(format!(
                "`{}` was committed and is gone, and so is `{}`, which it was made of: somebody has removed it. \
                 Its rows are lost to the table; to read them again, run `alluvium offsets reset`",
                file.path, file.staged
            )));
        }
        Ok(())
    }

    /// Publishes what a commit has decided. Until that is done, its outcome is unknown to readers.
    async fn published(
        &mut self,
        commit: &StagedCommit,
        outcome: CommitOutcome,
    ) -> Result<CommitOutcome, CommitError> {
        fail::fail_point!("w4_decided_not_published", |_| std::process::abort());
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

    async fn fingerprint(&mut self) -> Result<Option<String>> {
        Ok(self.newest().await?.state.fingerprint())
    }

    async fn conflict(&mut self) -> Result<Option<Conflict>> {
        Ok(self.refresh().await?.1)
    }

    async fn commit(&mut self, commit: &StagedCommit) -> Result<CommitOutcome, CommitError> {
        let (connector, now) = (self.ledger.connector.clone(), self.clock.wall_ms());
        let written = self.write(|state| {
            if let Some(version) = state.version_of(commit.token()) {
                return Ok(Answer::There(version));
            }
            // Its files may be gone: they have to be written anew.
            if state.has_swept(commit) {
                let cause = Conflict::TableAltered;
                return Ok(Answer::Refused(CommitOutcome::Conflicted { cause }));
            }
            let stored = state.stored(&connector, commit.delta().topic_partitions());
            match commit.judge(stored) {
                Verdict::Refused(outcome) => Ok(Answer::Refused(outcome)),
                Verdict::Admitted => {
                    Ok(Answer::Write(Box::new(state.with_commit(&connector, commit, now)?)))
                }
            }
        });
        match written.await? {
            Ok((version, true)) => {
                self.published(commit, CommitOutcome::Committed(receipt(version, commit))).await
            }
            Ok((version, false)) => {
                self.published(commit, CommitOutcome::AlreadyCommitted(receipt(version, commit)))
                    .await
            }
            Err(outcome) => Ok(outcome),
        }
    }

    async fn find(&mut self, commit: &StagedCommit) -> Result<TokenLookup> {
        let connector = self.ledger.connector.clone();
        let found = self.newest().await?.state.look_up(&connector, commit);
        if let TokenLookup::Found(_) = found {
            self.publish(None).await?;
        }
        Ok(found)
    }

    async fn reset(&mut self, reset: &OffsetReset) -> Result<CommitOutcome, CommitError> {
        let (connector, now) = (self.ledger.connector.clone(), self.clock.wall_ms());
        let written = self.write(|state| {
            if let Some(version) = state.version_of(&reset.token) {
                return Ok(Answer::There(version));
            }
            Ok(match reset.judge(state.stored(&connector, reset.moves.keys())) {
                Verdict::Refused(outcome) => Answer::Refused(outcome),
                Verdict::Admitted => {
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

/// Gives a file its final name. Returns it if it has neither name.
async fn rename(store: Store, file: PublishedFile) -> Result<Option<PublishedFile>> {
    let (from, to) = (store.exact(&file.staged)?, store.exact(&file.path)?);
    match store.answer(store.objects.rename(&from, &to)).await {
        Ok(()) => return Ok(None),
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => {
            return Err(store_error(format!("`{}` cannot be published", file.path), error));
        }
    }
    // Somebody else was here before, or we were, and the answer was lost.
    match store.answer(store.objects.head(&to)).await {
        Ok(_) => Ok(None),
        Err(StoreError::NotFound { .. }) => Ok(Some(file)),
        Err(error) => Err(store_error(format!("`{}` cannot be looked up", file.path), error)),
    }
}
