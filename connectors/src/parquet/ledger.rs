//! The ledger of one connector: one object that is only changed by compare-and-swap.
//!
//! It is small, complete in itself and JSON, so that a person can read it on a bad night:
//! where the connector stands, what it committed of late, and what is still being published.

use std::collections::BTreeMap;

use connector_api::ids::{CommitToken, ConnectorName, TableId, TopicPartition};
use connector_api::offsets::{Offset, OffsetCheckpoint};
use connector_api::outcome::{CommitReceipt, TokenLookup};
use connector_api::reset::OffsetReset;
use connector_api::staged::{StagedCommit, StagedFile};
use connector_api::{Error, Result};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt, PutMode, UpdateVersion};
use serde::{Deserialize, Serialize};

use super::table::{FOLDER, FORM, read_form};
use crate::is_planted;
use crate::store::{Store, store_error};

/// Commits whose tokens are kept. Older ones are told by the offsets alone.
const HISTORY_MAX: usize = 100;
/// Commits that are kept whatever they name.
const HISTORY_MIN: usize = 10;
/// Positions that kept commits name together, about 100 bytes each: a hundred commits of a
/// thousand topic partitions would be megabytes, which every swap writes.
const POSITIONS_MAX: usize = 2000;

/// Where a ledger's object is.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    pub(super) store: Store,
    pub(super) table: TableId,
    pub(super) connector: ConnectorName,
    path: Path,
}

/// A ledger as it was read or written last, and the tag that a swap needs.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) state: State,
    tag: Option<UpdateVersion>,
}

/// What the object says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    form: u32,
    table: TableId,
    connector: String,
    /// Commits and resets so far.
    pub(super) version: u64,
    /// The next offset by [`TopicPartition::identity`].
    offsets: BTreeMap<String, i64>,
    /// Commits that are decided and whose files may not all have their final names yet.
    pub(super) publishing: Vec<Publishing>,
    /// The version of the last reset.
    reset: Option<u64>,
    /// The name up to which staged files are swept: none of them can be committed any more (MN-1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    swept: Option<String>,
    /// The last commits and resets, oldest first.
    history: Vec<Entry>,
}

/// Files of one commit on their way to the names that readers see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Publishing {
    pub(super) token: String,
    pub(super) files: Vec<PublishedFile>,
}

/// One of them. Paths are below the table's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PublishedFile {
    pub(super) staged: String,
    pub(super) path: String,
    pub(super) bytes: u64,
}

/// One commit or reset, for people and for who has lost an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    version: u64,
    token: String,
    /// Milliseconds since 1970, by the clock of the worker.
    timestamp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// Of a reset: whose word it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// `[from, to]` by identity; `from` is null where the table knew nothing.
    offsets: BTreeMap<String, (Option<i64>, i64)>,
    files: usize,
    consumed: u64,
    rejected: u64,
    tombstones: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    losses: Vec<String>,
}

/// Where the staged files of a connector are, below the table's root.
pub(super) fn staged_folder(connector: &ConnectorName) -> String {
    format!("{FOLDER}/{connector}.staged")
}

/// What a writer of the table hands to its committer.
#[derive(Debug, Clone)]
pub(super) struct StagedAt(pub(super) String);

/// The answer to a compare-and-swap.
pub(super) enum Swap {
    Done(Box<Held>),
    /// Somebody has changed or removed the ledger since it was read.
    Lost,
    /// Nobody knows.
    Unknown(Error),
}

impl Ledger {
    pub(super) fn new(store: &Store, table: TableId, connector: &ConnectorName) -> Self {
        let path = store.object(&format!("{FOLDER}/{connector}.ledger.json"));
        Self { store: store.clone(), table, connector: connector.clone(), path }
    }

    /// Where its staged files are, below the table's root.
    pub(super) fn staged_folder(&self) -> String {
        staged_folder(&self.connector)
    }

    /// Reads the ledger. One that was never written is empty.
    pub(super) async fn load(&self) -> Result<Held> {
        let get = async {
            let found = self.store.objects.get(&self.path).await?;
            let tag = UpdateVersion {
                e_tag: found.meta.e_tag.clone(),
                version: found.meta.version.clone(),
            };
            Ok((tag, found.bytes().await?))
        };
        match self.store.answer(get).await {
            Ok((tag, content)) => {
                let name = format!("{}.ledger.json", self.connector);
                let state: State = read_form(&content, &name)?;
                if state.table != self.table {
                    return Err(Error::decision(format!(
                        "`{FOLDER}/{name}` is of another table than `{FOLDER}/table.json`: the folder was put together from parts; \
                         remove it as a whole, or bring the right one back"
                    )));
                }
                Ok(Held { state, tag: Some(tag) })
            }
            Err(StoreError::NotFound { .. }) => Ok(Held::empty(self)),
            Err(error) => Err(store_error("the ledger cannot be read", error)),
        }
    }

    /// Writes the next state, if the ledger is still as it is held.
    pub(super) async fn swap(&self, held: &Held, next: State) -> Result<Swap> {
        let content = serde_json::to_vec_pretty(&next)
            .map_err(|e| Error::internal("the ledger cannot be written").with_source(e))?;
        let mode = held.tag.clone().map_or(PutMode::Create, PutMode::Update);
        let put = self.store.objects.put_opts(&self.path, content.into(), mode.into());
        let answer = self.store.answer(put).await;
        fail::fail_point!("ledger_answer_lost", |_| {
            Ok(Swap::Unknown(Error::external("the answer to writing the ledger was lost")))
        });
        Ok(match answer {
            Ok(done) => {
                let tag = UpdateVersion { e_tag: done.e_tag, version: done.version };
                Swap::Done(Box::new(Held { state: next, tag: Some(tag) }))
            }
            Err(
                StoreError::Precondition { .. }
                | StoreError::AlreadyExists { .. }
                | StoreError::NotFound { .. },
            ) => Swap::Lost,
            Err(error) => {
                Swap::Unknown(store_error("the answer to writing the ledger was lost", error))
            }
        })
    }
}

impl Held {
    /// The ledger of a table that has none.
    pub(super) fn empty(ledger: &Ledger) -> Self {
        let state = State {
            form: FORM,
            table: ledger.table.clone(),
            connector: ledger.connector.to_string(),
            version: 0,
            offsets: BTreeMap::new(),
            publishing: Vec::new(),
            reset: None,
            swept: None,
            history: Vec::new(),
        };
        Self { state, tag: None }
    }

    /// False for a ledger that is yet to be created.
    pub(super) fn is_written(&self) -> bool {
        self.tag.is_some()
    }
}

impl State {
    /// Where the connector stands.
    pub(super) fn checkpoint(&self, connector: &ConnectorName) -> OffsetCheckpoint {
        let known = |(identity, next): (&String, &i64)| {
            Some((TopicPartition::from_identity(connector, identity)?, Offset::new(*next)?))
        };
        self.offsets.iter().filter_map(known).collect()
    }

    /// Where the connector stands in some topic partitions.
    pub(super) fn stored<'a>(
        &self,
        connector: &ConnectorName,
        of: impl Iterator<Item = &'a TopicPartition>,
    ) -> OffsetCheckpoint {
        let next = |tp: &TopicPartition| Offset::new(*self.offsets.get(&tp.identity(connector))?);
        of.filter_map(|tp| Some((tp.clone(), next(tp)?))).collect()
    }

    /// The state after a commit, whose files are then to be published.
    pub(super) fn with_commit(
        &self,
        connector: &ConnectorName,
        commit: &StagedCommit,
        timestamp: i64,
    ) -> Result<Self> {
        let account = commit.accounting();
        let moved = commit.delta().iter().map(|(tp, range)| {
            let identity = tp.identity(connector);
            let from = self.offsets.get(&identity).copied();
            (identity, (from, range.end().get()))
        });
        let mut next = self.with(Entry {
            version: self.version + 1,
            token: commit.token().0.clone(),
            timestamp,
            fingerprint: Some(commit.fingerprint().to_owned()),
            by: None,
            offsets: moved.collect(),
            files: commit.files().len(),
            consumed: account.consumed,
            rejected: account.rejected,
            tombstones: account.tombstones,
            losses: commit.losses().iter().map(ToString::to_string).collect(),
        });
        if !commit.files().is_empty() && !is_planted("mistake_offsets_before_files") {
            let files = commit.files().iter().map(published).collect::<Result<_>>()?;
            next.publishing.push(Publishing { token: commit.token().0.clone(), files });
        }
        Ok(next)
    }

    /// The state after a reset.
    pub(super) fn with_reset(
        &self,
        connector: &ConnectorName,
        reset: &OffsetReset,
        timestamp: i64,
    ) -> Self {
        let moved = reset.moves.iter().map(|(tp, moved)| {
            (tp.identity(connector), (moved.from.map(Offset::get), moved.to.get()))
        });
        let mut next = self.with(Entry {
            version: self.version + 1,
            token: reset.token.0.clone(),
            timestamp,
            fingerprint: None,
            by: Some(reset.by.clone()),
            offsets: moved.collect(),
            files: 0,
            consumed: 0,
            rejected: 0,
            tombstones: 0,
            losses: Vec::new(),
        });
        next.reset = Some(next.version);
        next
    }

    fn with(&self, entry: Entry) -> Self {
        let mut next = self.clone();
        next.version = entry.version;
        next.offsets.extend(entry.offsets.iter().map(|(id, (_, to))| (id.clone(), *to)));
        next.history.push(entry);
        let surplus = next.history.len() - kept(next.history.iter().map(|e| e.offsets.len()));
        next.history.drain(..surplus);
        next
    }

    /// The state without the commits that are published. `None` if it names none of them.
    pub(super) fn without(&self, published: &[Publishing]) -> Option<Self> {
        let mut next = self.clone();
        next.publishing.retain(|publishing| !published.contains(publishing));
        (next.publishing.len() < self.publishing.len()).then_some(next)
    }

    /// True if the staged file may be gone, since it is no newer than one that is swept.
    pub(super) fn is_swept(&self, staged: &str) -> bool {
        self.swept.as_deref().is_some_and(|swept| base_name(staged) <= swept)
    }

    /// The state after which no staged file up to this one can be committed.
    pub(super) fn with_swept(&self, staged: &str) -> Self {
        Self { swept: Some(base_name(staged).to_owned()), ..self.clone() }
    }

    /// True if a file of the commit may be swept.
    pub(super) fn has_swept(&self, commit: &StagedCommit) -> bool {
        let staged = commit.files().iter().filter_map(|file| file.sink_data.get());
        staged.into_iter().any(|StagedAt(staged)| self.is_swept(staged))
    }

    /// The version with this token, if it is within the history.
    pub(super) fn version_of(&self, token: &CommitToken) -> Option<u64> {
        self.history.iter().rev().find(|entry| entry.token == token.0).map(|entry| entry.version)
    }

    /// What the ledger knows of a commit.
    ///
    /// | the token | the history | answer |
    /// |---|---|---|
    /// | is in it, or being published | | `Found` |
    /// | is not | reaches back to the first commit | `NotFound` |
    /// | is not | is cut, there never was a reset, and a topic partition stands before the commit's end | `NotFound` |
    /// | is not | is cut, otherwise | `Pruned` |
    pub(super) fn look_up(&self, connector: &ConnectorName, commit: &StagedCommit) -> TokenLookup {
        if let Some(version) = self.version_of(commit.token()) {
            return TokenLookup::Found(receipt(version, commit));
        }
        if self.publishing.iter().any(|publishing| publishing.token == commit.token().0) {
            return TokenLookup::Found(receipt(self.version, commit));
        }
        let stored = self.stored(connector, commit.delta().topic_partitions());
        let complete = self.history.len() as u64 == self.version;
        let before =
            || commit.delta().iter().any(|(tp, range)| stored.next(tp) < Some(range.end()));
        match complete || (self.reset.is_none() && before()) {
            true => TokenLookup::NotFound,
            false => TokenLookup::Pruned { stored },
        }
    }

    /// The fingerprint of the newest commit that moved this topic partition, if that is within the
    /// history and was no reset.
    pub(super) fn fingerprint(&self, identity: &str) -> Option<String> {
        let mut newest = self.history.iter().rev();
        newest.find(|entry| entry.offsets.contains_key(identity))?.fingerprint.clone()
    }
}

/// How many of the last commits are kept, by the number of positions that each names.
fn kept(positions: impl DoubleEndedIterator<Item = usize>) -> usize {
    let mut named = 0;
    let mut within = |named_by: usize| {
        named += named_by;
        named <= POSITIONS_MAX
    };
    let newest = positions.rev().take(HISTORY_MAX).enumerate();
    newest.take_while(|(index, named_by)| within(*named_by) || *index < HISTORY_MIN).count()
}

/// The name of a file without its folders: it begins with the time at which the file was opened.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

pub(super) fn published(file: &StagedFile) -> Result<PublishedFile> {
    let StagedAt(staged) = file
        .sink_data
        .get()
        .cloned()
        .ok_or_else(|| Error::internal(format!("{} is a file of another sink", file.path)))?;
    Ok(PublishedFile { staged, path: file.path.clone(), bytes: file.bytes })
}

/// Proof that this version holds the commit.
pub(super) fn receipt(version: u64, commit: &StagedCommit) -> CommitReceipt {
    let mut checkpoint = OffsetCheckpoint::default();
    checkpoint.advance(commit.delta());
    CommitReceipt { version, checkpoint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_bounded_by_commits_and_by_what_they_name() {
        assert_eq!(kept([1; 500].into_iter()), 100);
        assert_eq!(kept([100; 50].into_iter()), 20);
        assert_eq!(kept([1000; 50].into_iter()), 10);
        assert_eq!(kept([5000].into_iter()), 1);
    }
}
