//! The entries of the log: one object for each version of the table, created once and never changed.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use connector_api::Result;
use connector_api::ids::{CommitToken, ConnectorName};
use connector_api::offsets::OffsetCheckpoint;
use connector_api::outcome::{CommitReceipt, TokenLookup};
use connector_api::staged::StagedCommit;
use delta_kernel::committer::{CommitMetadata, CommitResponse, Committer, PublishMetadata};
use delta_kernel::engine::arrow_utils::to_json_bytes;
use delta_kernel::{
    Engine, FileMeta, FilteredEngineData, KernelError, KernelResult, KernelResultIterator,
};
use futures::{FutureExt, Stream, StreamExt, stream};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};
use serde_json::Value;
use tokio::runtime::Handle;

use super::offsets::Standing;
use crate::store::{Store, store_error};

/// The key of `commitInfo.operationParameters` that holds the commit's token.
pub(super) const TOKEN: &str = "alluvium.token";

/// The key that holds the connector's name.
pub(super) const CONNECTOR: &str = "alluvium.connector";

/// The key that holds the fingerprint of the configuration that a commit came from.
pub(super) const FINGERPRINT: &str = "alluvium.fingerprint";

/// How many entries a look-up reads before it calls the history too long to tell.
const LOOK_BACK_MAX: u64 = 1000;
/// Entries that a look-up reads at once.
const READS_AT_ONCE: usize = 8;

/// Tells an entry from any other that ever had its name: a table that was dropped and created
/// again, or put back from a copy, has other entries under the same versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryTag(String);

/// The tag of a version's entry, or `None` if the entry is not in the store.
pub(super) async fn tag(store: &Store, version: u64) -> Result<Option<EntryTag>> {
    match store.answer(store.objects.head(&path(store, version))).await {
        Ok(found) => {
            let other = || format!("{} {}", found.size, found.last_modified);
            Ok(Some(EntryTag(found.e_tag.clone().unwrap_or_else(other))))
        }
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(store_error(unreadable(version), error)),
    }
}

/// A version's entry as the store lists it.
pub(super) async fn written(store: &Store, version: u64) -> Result<ObjectMeta> {
    let found = store.answer(store.objects.head(&path(store, version))).await;
    found.map_err(|e| store_error(unreadable(version), e))
}

/// The content of a version's entry, or `None` if the entry is not in the store.
async fn content(store: &Store, version: u64) -> Result<Option<Bytes>> {
    let path = path(store, version);
    match store.answer(async { store.objects.get(&path).await?.bytes().await }).await {
        Ok(content) => Ok(Some(content)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(store_error(unreadable(version), error)),
    }
}

fn path(store: &Store, version: u64) -> Path {
    store.object(&format!("_delta_log/{version:020}.json"))
}

fn unreadable(version: u64) -> String {
    format!("version {version} of the table cannot be read")
}

/// Looks for a commit in the log up to version `newest`, where the table stands at `standing`.
///
/// Offsets move back only by a reset (OF-2). Since the last one, a commit moves each of its topic
/// partitions from the start of its range to the end at once, and nothing moves them back. So one
/// that stands before its end proves that the commit did not come since, and no entry has to be
/// read. Otherwise entries are read from the newest back to the reset:
///
/// | the entry | answer |
/// |---|---|
/// | holds the token | `Found` |
/// | sets one of the commit's topic partitions to its end or to less | not since the reset: the commit would be this entry or a later one |
/// | is no longer there, or [`LOOK_BACK_MAX`] others are newer | `Pruned` |
/// | anything else | the one before it is read |
///
/// If there never was a reset, "not since" is `NotFound`. If there was, offsets from before it say
/// nothing: where the table stands was a person's choice, before the commit's end although it is
/// there, or behind it although it is not. Then only tokens count, and all older entries are read:
///
/// | the older entries | answer |
/// |---|---|
/// | one holds the token | `Found` |
/// | all were read, to the table's creation | `NotFound` |
/// | one is no longer there, or [`LOOK_BACK_MAX`] are newer | `Pruned`, after which the stored offsets decide |
pub(super) async fn look_up(
    store: &Store,
    connector: &ConnectorName,
    commit: &StagedCommit,
    newest: u64,
    standing: Standing,
) -> Result<TokenLookup> {
    let Standing { stored, reset, .. } = standing;
    let token = commit.token();
    let oldest = newest.saturating_sub(LOOK_BACK_MAX);
    let since = reset.map_or(0, |reset| reset + 1);
    let not_since = commit.delta().iter().any(|(tp, range)| stored.next(tp) < Some(range.end()));
    if !not_since {
        let ends: Vec<(String, i64)> = commit
            .delta()
            .iter()
            .map(|(tp, range)| (tp.identity(connector), range.end().get()))
            .collect();
        match search(store, since.max(oldest)..=newest, token, &ends).await? {
            Search::Found(version) => return Ok(TokenLookup::Found(receipt(version, commit))),
            Search::Precedes => {}
            Search::Nothing if oldest <= since => {}
            Search::Nothing | Search::Gone => return Ok(TokenLookup::Pruned { stored }),
        }
    }
    let Some(reset) = reset else { return Ok(TokenLookup::NotFound) };
    match search(store, oldest..=reset, token, &[]).await? {
        Search::Found(version) => Ok(TokenLookup::Found(receipt(version, commit))),
        Search::Nothing if oldest == 0 => Ok(TokenLookup::NotFound),
        Search::Nothing | Search::Precedes | Search::Gone => Ok(TokenLookup::Pruned { stored }),
    }
}

/// The version with this token, among as many up to `newest` as can be read.
pub(super) async fn find_token(
    store: &Store,
    token: &CommitToken,
    newest: u64,
) -> Result<Option<u64>> {
    let within_reach = newest.saturating_sub(LOOK_BACK_MAX)..=newest;
    match search(store, within_reach, token, &[]).await? {
        Search::Found(version) => Ok(Some(version)),
        Search::Precedes | Search::Nothing | Search::Gone => Ok(None),
    }
}

/// What a stretch of the log says about a commit.
enum Search {
    /// This version is the commit.
    Found(u64),
    /// The commit is not there, and not before, as far back as offsets only moved forward.
    Precedes,
    /// The commit is not there.
    Nothing,
    /// An entry is missing before anything was said.
    Gone,
}

/// Reads entries from the newest back, until one says something.
async fn search(
    store: &Store,
    versions: RangeInclusive<u64>,
    token: &CommitToken,
    ends: &[(String, i64)],
) -> Result<Search> {
    let mut entries = entries(store, versions);
    while let Some((version, entry)) = entries.next().await {
        let Some(entry) = entry? else { return Ok(Search::Gone) };
        match testimony(&entry, &token.0, ends) {
            Testimony::Holds => return Ok(Search::Found(version)),
            Testimony::Precedes => return Ok(Search::Precedes),
            Testimony::Nothing => {}
        }
    }
    Ok(Search::Nothing)
}

/// The newest version that put the table back to one before the connector's own last commit, if
/// that was after `since`: rows that it had confirmed are gone, while the stored offsets stay as
/// they were (Spark's RESTORE leaves `txn` actions alone).
///
/// | the entry, from the newest back | answer |
/// |---|---|
/// | ours, and no RESTORE behind it, or one to this version or a later one | none |
/// | ours, and a RESTORE to an older version behind it | that RESTORE |
/// | any other | the one before it is read |
/// | no longer there, or [`LOOK_BACK_MAX`] others are newer | the RESTORE that was found, if one was |
pub(super) async fn restored(
    store: &Store,
    connector: &ConnectorName,
    newest: u64,
    since: u64,
) -> Result<Option<u64>> {
    let oldest = newest.saturating_sub(LOOK_BACK_MAX).max(since + 1);
    let mut entries = entries(store, oldest..=newest);
    // The RESTORE that goes back furthest, with the version that it goes back to.
    let mut found: Option<(u64, Option<u64>)> = None;
    while let Some((version, entry)) = entries.next().await {
        let Some(entry) = entry? else { break };
        match by_whom(&entry, connector) {
            By::Us => return Ok(found.filter(|(_, to)| *to < Some(version)).map(|(by, _)| by)),
            By::Restore { to } if found.is_none_or(|(_, earlier)| to < earlier) => {
                found = Some((version, to));
            }
            By::Restore { .. } | By::Others => {}
        }
    }
    // Our last commit is not behind `since`, or out of reach.
    let harms = |to: Option<u64>| since == 0 || to.is_none_or(|to| to < since);
    Ok(found.filter(|(_, to)| harms(*to)).map(|(by, _)| by))
}

/// The fingerprint in the newest entry up to `newest` with a `txn` of this identity, if that one is
/// within reach.
pub(super) async fn fingerprint(
    store: &Store,
    identity: &str,
    newest: u64,
) -> Result<Option<String>> {
    let mut entries = entries(store, newest.saturating_sub(LOOK_BACK_MAX)..=newest);
    while let Some((_, entry)) = entries.next().await {
        let Some(entry) = entry? else { break };
        if moves(&entry, identity) {
            let info = commit_info(&entry);
            let fingerprint = info["operationParameters"][FINGERPRINT].as_str();
            return Ok(fingerprint.map(str::to_owned));
        }
    }
    Ok(None)
}

/// True if the entry has a `txn` of this identity.
fn moves(entry: &[u8], identity: &str) -> bool {
    let lines = entry.split(|byte| *byte == b'\n').filter(|line| mentions(line, "\"txn\""));
    let mut actions = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    actions.any(|action| action["txn"]["appId"] == identity)
}

/// The entries of these versions, from the newest back.
fn entries(
    store: &Store,
    versions: RangeInclusive<u64>,
) -> impl Stream<Item = (u64, Result<Option<Bytes>>)> + Unpin {
    stream::iter(versions.rev())
        .map(move |version| async move { (version, content(store, version).await) }.boxed())
        .buffered(READS_AT_ONCE)
}

/// What an entry says of itself; null if it says nothing.
fn commit_info(entry: &[u8]) -> Value {
    let line = entry.split(|byte| *byte == b'\n').find(|line| mentions(line, "\"commitInfo\""));
    let mut info: Value =
        line.and_then(|line| serde_json::from_slice(line).ok()).unwrap_or_default();
    info["commitInfo"].take()
}

fn is_ours(info: &Value, connector: &ConnectorName) -> bool {
    info["operationParameters"][CONNECTOR] == connector.as_str()
}

/// Who wrote an entry.
#[derive(Debug, PartialEq, Eq)]
enum By {
    Us,
    /// Somebody who put the table back to an older version.
    Restore {
        /// The version, if the entry says so.
        to: Option<u64>,
    },
    Others,
}

fn by_whom(entry: &[u8], connector: &ConnectorName) -> By {
    let info = commit_info(entry);
    if is_ours(&info, connector) {
        return By::Us;
    }
    if info["operation"] != "RESTORE" {
        return By::Others;
    }
    let version = &info["operationParameters"]["version"];
    let to = version.as_u64().or_else(|| version.as_str()?.trim_matches('"').parse().ok());
    By::Restore { to }
}

/// Proof that this version holds the commit.
pub(super) fn receipt(version: u64, commit: &StagedCommit) -> CommitReceipt {
    let mut checkpoint = OffsetCheckpoint::default();
    checkpoint.advance(commit.delta());
    CommitReceipt { version, checkpoint }
}

/// What one entry says about a commit.
#[derive(Debug, PartialEq, Eq)]
enum Testimony {
    /// It is the commit.
    Holds,
    /// The commit is in no entry before it.
    Precedes,
    Nothing,
}

/// Reads the actions that may speak of a commit: `commitInfo` with the token, and `txn`.
fn testimony(entry: &[u8], token: &str, ends: &[(String, i64)]) -> Testimony {
    let mut precedes = false;
    for line in entry.split(|byte| *byte == b'\n') {
        if !mentions(line, TOKEN) && !mentions(line, "\"txn\"") {
            continue;
        }
        let Ok(action) = serde_json::from_slice::<Value>(line) else { continue };
        if action["commitInfo"]["operationParameters"][TOKEN] == token {
            return Testimony::Holds;
        }
        let next = |identity: &str| {
            (action["txn"]["appId"] == identity).then(|| action["txn"]["version"].as_i64())
        };
        precedes |= ends
            .iter()
            .any(|(identity, end)| next(identity).flatten().is_some_and(|next| next <= *end));
    }
    if precedes { Testimony::Precedes } else { Testimony::Nothing }
}

fn mentions(line: &[u8], word: &str) -> bool {
    line.windows(word.len()).any(|window| window == word.as_bytes())
}

/// What became of the request to create an entry.
#[derive(Debug)]
pub(super) enum Answer {
    /// It was never sent.
    NotSent,
    /// It created the entry.
    Created(Option<EntryTag>),
    /// The entry is there already, which may be our own work. Also S3's answer 409, after which it may be absent.
    Exists,
    /// Nobody knows.
    Lost(StoreError),
}

/// Creates the entry of a kernel's transaction, and keeps the store's very answer: the kernel
/// turns some answers into errors that no longer tell if anything was sent.
pub(super) struct CreateEntry {
    store: Store,
    runtime: Handle,
    answer: Arc<Mutex<Answer>>,
}

impl CreateEntry {
    /// Must be called within a runtime; the transaction must be committed on a thread that may wait.
    pub(super) fn new(store: &Store) -> (Self, Arc<Mutex<Answer>>) {
        let answer = Arc::new(Mutex::new(Answer::NotSent));
        let (store, runtime) = (store.clone(), Handle::current());
        (Self { store, runtime, answer: answer.clone() }, answer)
    }
}

/// Takes the answer out.
pub(super) fn take(answer: &Mutex<Answer>) -> Answer {
    std::mem::replace(&mut *answer.lock().unwrap_or_else(PoisonError::into_inner), Answer::NotSent)
}

impl Committer for CreateEntry {
    fn commit(
        &self,
        _: &dyn Engine,
        actions: KernelResultIterator<'_, FilteredEngineData>,
        commit: CommitMetadata,
    ) -> KernelResult<CommitResponse> {
        let entry = commit.published_commit_path()?;
        let content = to_json_bytes(actions)?;
        let size = content.len() as u64;
        let path = Path::from_url_path(entry.path())?;
        let put = self.store.objects.put_opts(&path, content.into(), PutMode::Create.into());
        let (answer, response) = match self.runtime.block_on(self.store.answer(put)) {
            Ok(done) => {
                let entry = FileMeta::new(entry, commit.in_commit_timestamp(), size);
                (
                    Answer::Created(done.e_tag.map(EntryTag)),
                    Ok(CommitResponse::Committed { file_meta: entry }),
                )
            }
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                (Answer::Exists, Ok(CommitResponse::Conflict { version: commit.version() }))
            }
            Err(error) => {
                (Answer::Lost(error), Err(KernelError::generic("the store gave no answer")))
            }
        };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        response
    }

    fn is_catalog_committer(&self) -> bool {
        false
    }

    fn publish(&self, _: &dyn Engine, _: PublishMetadata) -> KernelResult<()> {
        Err(KernelError::unsupported("the table is not managed by a catalog"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entry: &str, expected: Testimony) {
        let ends = [("c/orders@id/0".to_owned(), 20)];
        assert_eq!(testimony(entry.as_bytes(), "t-1", &ends), expected, "{entry}");
    }

    #[test]
    fn cm_3_a_token_is_found_in_the_commit_info_and_nowhere_else() {
        check(
            r#"{"commitInfo":{"operationParameters":{"alluvium.token":"t-1"}}}"#,
            Testimony::Holds,
        );
        check(
            r#"{"commitInfo":{"operationParameters":{"alluvium.token":"t-11"}}}"#,
            Testimony::Nothing,
        );
        check(r#"{"add":{"path":"t-1","tags":{"alluvium.token":"t-1"}}}"#, Testimony::Nothing);
        check(
            r#"{"commitInfo":{"operationParameters":{"alluvium.token":"t-1"}"#,
            Testimony::Nothing,
        );
    }

    #[test]
    fn an_offset_at_or_before_the_end_precedes_the_commit() {
        let entry = |id: &str, next: i64| {
            format!("{{}}\n{{ \"txn\": {{\"appId\":\"{id}\",\"version\":{next}}} }}\n")
        };
        check(&entry("c/orders@id/0", 19), Testimony::Precedes);
        check(&entry("c/orders@id/0", 20), Testimony::Precedes);
        check(&entry("c/orders@id/0", 21), Testimony::Nothing);
        check(&entry("c/orders@id/1", 5), Testimony::Nothing);
        let token = r#"{"commitInfo":{"operationParameters":{"alluvium.token":"t-1"}}}"#;
        check(&format!("{}{token}", entry("c/orders@id/0", 20)), Testimony::Holds);
    }
}
