//! The reference sink: a table in memory, small enough to be seen to be right.
//!
//! It says what the contract means where the words of [`sink`](crate::sink) leave a doubt, and
//! stands in for a table format in the runtime's own tests.
//!
//! A version holds everything that one commit made visible, so a commit is one `push` (CM-1). It is
//! judged on the versions that were there before, and pushed only if none came in between (CM-2).

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::batch::{PartitionValues, TableBatch, TableSchema};
use crate::error::{Error, Result};
use crate::ids::{CommitToken, ConnectorName, TableId, TopicPartition};
use crate::offsets::{Offset, OffsetCheckpoint, OffsetDelta};
use crate::outcome::{CommitError, CommitOutcome, CommitReceipt, Conflict, TokenLookup, Verdict};
use crate::reset::OffsetReset;
use crate::sink::{
    FileStatus, OpenTable, Sink, TableCommitter, TableReader, TableWriter, TableWriters,
};
use crate::staged::{SinkData, StagedCommit, StagedFile};

/// A place in memory where a table may be. Clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct InMemoryTable(Arc<Mutex<Place>>);

#[derive(Debug, Default)]
struct Place {
    table: Option<Table>,
    /// How many tables have been created here: the next table's id.
    created: u64,
    /// The next commit gets no answer; `true` if it is carried out nevertheless.
    lose_answer: Option<bool>,
}

#[derive(Debug, Clone)]
struct Table {
    id: TableId,
    schema: TableSchema,
    /// The first is the creation of the table.
    versions: Vec<Version>,
}

/// What one commit made visible.
#[derive(Debug, Clone, Default)]
struct Version {
    token: Option<CommitToken>,
    files: Vec<RecordBatch>,
    /// The next offset by [`TopicPartition::identity`].
    offsets: BTreeMap<String, Offset>,
    /// Of a commit's configuration.
    fingerprint: Option<String>,
}

impl InMemoryTable {
    /// A place without a table.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sink that writes to this place.
    pub fn sink(&self) -> InMemorySink {
        InMemorySink { place: self.clone() }
    }

    /// The files that readers see, as their rows; `None` if there is no table.
    pub fn files(&self) -> Option<Vec<RecordBatch>> {
        let place = self.lock();
        let versions = place.table.as_ref()?.versions.iter();
        Some(versions.flat_map(|version| version.files.clone()).collect())
    }

    /// The newest version; `None` if there is no table.
    pub fn version(&self) -> Option<u64> {
        self.lock().table.as_ref().map(Table::newest)
    }

    /// Makes the next commit that would be carried out end without an answer: `landed` says if it
    /// is carried out all the same.
    pub fn lose_next_answer(&self, landed: bool) {
        self.lock().lose_answer = Some(landed);
    }

    /// Drops the table.
    pub fn drop_table(&self) {
        self.lock().table = None;
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table that was opened, or what stands in its stead.
    fn table(&self, id: &TableId) -> Result<Table, Conflict> {
        self.lock().table.clone().filter(|table| table.id == *id).ok_or(Conflict::TableReplaced)
    }
}

impl Table {
    fn newest(&self) -> u64 {
        self.versions.len() as u64 - 1
    }

    fn stored<'a>(
        &self,
        connector: &ConnectorName,
        of: impl Iterator<Item = &'a TopicPartition>,
    ) -> OffsetCheckpoint {
        let next = |tp: &TopicPartition| {
            let identity = tp.identity(connector);
            self.versions.iter().rev().find_map(|version| version.offsets.get(&identity).copied())
        };
        of.filter_map(|tp| Some((tp.clone(), next(tp)?))).collect()
    }

    fn checkpoint(&self, connector: &ConnectorName) -> OffsetCheckpoint {
        let identities = self.versions.iter().flat_map(|version| version.offsets.keys());
        let of: BTreeSet<_> = identities
            .filter_map(|identity| TopicPartition::from_identity(connector, identity))
            .collect();
        self.stored(connector, of.iter())
    }

    fn fingerprint(&self, identity: &str) -> Option<String> {
        let mut newest = self.versions.iter().rev();
        newest.find(|version| version.offsets.contains_key(identity))?.fingerprint.clone()
    }

    fn find(&self, commit: &StagedCommit) -> Option<CommitReceipt> {
        Some(receipt(self.position(commit.token())?, commit))
    }

    /// The version with this token.
    fn position(&self, token: &CommitToken) -> Option<u64> {
        let found = self.versions.iter().position(|v| v.token.as_ref() == Some(token));
        found.map(|version| version as u64)
    }
}

fn receipt(version: u64, commit: &StagedCommit) -> CommitReceipt {
    let mut checkpoint = OffsetCheckpoint::default();
    checkpoint.advance(commit.delta());
    CommitReceipt { version, checkpoint }
}

/// The sink of an [`InMemoryTable`].
#[derive(Debug, Clone)]
pub struct InMemorySink {
    place: InMemoryTable,
}

impl InMemorySink {
    fn split(&self, table: &Table, connector: &ConnectorName) -> OpenTable {
        let (place, id, connector) = (self.place.clone(), table.id.clone(), connector.clone());
        OpenTable {
            id: id.clone(),
            schema: table.schema.clone(),
            writers: Arc::new(Writers { columns: table.schema.columns.clone() }),
            committer: Box::new(Committer { place, id, connector }),
            maintenance: None,
        }
    }
}

#[async_trait]
impl Sink for InMemorySink {
    fn location(&self) -> &str {
        "memory"
    }

    async fn open(&self, connector: &ConnectorName) -> Result<Option<OpenTable>> {
        let table = self.place.lock().table.clone();
        Ok(table.map(|table| self.split(&table, connector)))
    }

    async fn create(&self, connector: &ConnectorName, schema: &TableSchema) -> Result<OpenTable> {
        let mut place = self.place.lock();
        let id = TableId(format!("table-{}", place.created));
        place.created += u64::from(place.table.is_none());
        let table = place.table.get_or_insert_with(|| Table {
            id,
            schema: schema.clone(),
            versions: vec![Version::default()],
        });
        Ok(self.split(table, connector))
    }

    async fn read(&self) -> Result<Option<Arc<dyn TableReader>>> {
        Err(Error::user("a table in memory has no reader"))
    }
}

#[derive(Debug)]
struct Writers {
    columns: SchemaRef,
}

impl TableWriters for Writers {
    fn open_file(
        &self,
        name: &str,
        values: &PartitionValues,
        _: &str,
    ) -> Result<Box<dyn TableWriter>> {
        Ok(Box::new(Writer {
            columns: self.columns.clone(),
            name: name.to_owned(),
            partition_values: values.clone(),
            delta: OffsetDelta::default(),
            rows: Vec::new(),
            finished: None,
        }))
    }
}

struct Writer {
    columns: SchemaRef,
    name: String,
    partition_values: PartitionValues,
    delta: OffsetDelta,
    rows: Vec<RecordBatch>,
    finished: Option<RecordBatch>,
}

#[async_trait]
impl TableWriter for Writer {
    fn write(&mut self, batch: &TableBatch) -> Result<()> {
        if self.finished.is_some() {
            return Err(Error::internal("a row came after its file was finished"));
        }
        if batch.rows().schema_ref() != &self.columns {
            return Err(Error::internal("rows do not have the table's columns"));
        }
        self.delta.cover(batch.topic_partition(), batch.range());
        self.rows.push(batch.rows().clone());
        Ok(())
    }

    fn status(&self) -> FileStatus {
        let rows = self.rows.iter().map(|batch| batch.num_rows() as u64).sum();
        let bytes = |batch: &RecordBatch| batch.get_array_memory_size() as u64;
        let unfinished = || self.rows.iter().map(bytes).sum();
        let memory_bytes = self.finished.as_ref().map_or_else(unfinished, bytes);
        FileStatus { rows, encoded_bytes: memory_bytes, memory_bytes }
    }

    fn finish(&mut self) -> Result<()> {
        if self.finished.is_some() {
            return Err(Error::internal("a file was finished twice"));
        }
        let whole = arrow::compute::concat_batches(&self.columns, &self.rows)
            .map_err(|e| Error::internal("rows do not have the table's columns").with_source(e))?;
        self.finished = Some(whole);
        Ok(())
    }

    async fn stage(&mut self) -> Result<StagedFile> {
        let Some(content) = &self.finished else {
            return Err(Error::internal("a file was staged before it was finished"));
        };
        Ok(StagedFile {
            path: self.name.clone(),
            rows: content.num_rows() as u64,
            bytes: content.get_array_memory_size() as u64,
            partition_values: self.partition_values.clone(),
            delta: self.delta.clone(),
            sink_data: SinkData::new(content.clone()),
        })
    }
}

#[derive(Debug)]
struct Committer {
    place: InMemoryTable,
    id: TableId,
    connector: ConnectorName,
}

impl Committer {
    fn version(&self, commit: &StagedCommit) -> Result<Version> {
        let content = |file: &StagedFile| {
            let foreign =
                || Error::internal(format!("`{}` was not written by this sink", file.path));
            file.sink_data.get::<RecordBatch>().cloned().ok_or_else(foreign)
        };
        let identity = |tp: &TopicPartition| tp.identity(&self.connector);
        Ok(Version {
            token: Some(commit.token().clone()),
            files: commit.files().iter().map(content).collect::<Result<_>>()?,
            offsets: commit.delta().iter().map(|(tp, range)| (identity(tp), range.end())).collect(),
            fingerprint: Some(commit.fingerprint().to_owned()),
        })
    }

    /// The compare-and-swap: appends `next` if `seen` still is the newest version.
    fn swap(&self, seen: u64, next: Version) -> Swap {
        let mut place = self.place.lock();
        let unchanged = |table: &&mut Table| table.id == self.id && table.newest() == seen;
        if place.table.as_mut().filter(unchanged).is_none() {
            return Swap::Lost;
        }
        let lost = place.lose_answer.take();
        if lost != Some(false)
            && let Some(table) = &mut place.table
        {
            table.versions.push(next);
        }
        if lost.is_some() { Swap::NoAnswer } else { Swap::Done(seen + 1) }
    }
}

enum Swap {
    Done(u64),
    Lost,
    NoAnswer,
}

#[async_trait]
impl TableCommitter for Committer {
    async fn checkpoint(&mut self) -> Result<OffsetCheckpoint> {
        let table = self.place.table(&self.id).map_err(|e| Error::decision(e.to_string()))?;
        Ok(table.checkpoint(&self.connector))
    }

    async fn fingerprint(&mut self, of: &TopicPartition) -> Result<Option<String>> {
        let table = self.place.table(&self.id).map_err(|e| Error::decision(e.to_string()))?;
        Ok(table.fingerprint(&of.identity(&self.connector)))
    }

    async fn conflict(&mut self) -> Result<Option<Conflict>> {
        Ok(self.place.table(&self.id).err())
    }

    async fn commit(&mut self, commit: &StagedCommit) -> Result<CommitOutcome, CommitError> {
        let next = self.version(commit).map_err(CommitError::NotSent)?;
        loop {
            let table = match self.place.table(&self.id) {
                Ok(table) => table,
                Err(cause) => return Ok(CommitOutcome::Conflicted { cause }),
            };
            if let Some(receipt) = table.find(commit) {
                return Ok(CommitOutcome::AlreadyCommitted(receipt));
            }
            let stored = table.stored(&self.connector, commit.delta().topic_partitions());
            if let Verdict::Refused(outcome) = commit.judge(stored) {
                return Ok(outcome);
            }
            others_run().await;
            match self.swap(table.newest(), next.clone()) {
                Swap::Done(version) => {
                    return Ok(CommitOutcome::Committed(receipt(version, commit)));
                }
                Swap::Lost => {}
                Swap::NoAnswer => {
                    return Err(CommitError::Unknown(Error::external("the answer was lost")));
                }
            }
        }
    }

    async fn reset(&mut self, reset: &OffsetReset) -> Result<CommitOutcome, CommitError> {
        loop {
            let table = match self.place.table(&self.id) {
                Ok(table) => table,
                Err(cause) => return Ok(CommitOutcome::Conflicted { cause }),
            };
            let receipt = |version| CommitReceipt { version, checkpoint: reset.positions() };
            if let Some(version) = table.position(&reset.token) {
                return Ok(CommitOutcome::AlreadyCommitted(receipt(version)));
            }
            let stored = table.stored(&self.connector, reset.moves.keys());
            if let Verdict::Refused(outcome) = reset.judge(stored) {
                return Ok(outcome);
            }
            let moved =
                reset.moves.iter().map(|(tp, moved)| (tp.identity(&self.connector), moved.to));
            let next = Version {
                token: Some(reset.token.clone()),
                files: Vec::new(),
                offsets: moved.collect(),
                fingerprint: None,
            };
            match self.swap(table.newest(), next) {
                Swap::Done(version) => return Ok(CommitOutcome::Committed(receipt(version))),
                Swap::Lost => {}
                Swap::NoAnswer => {
                    return Err(CommitError::Unknown(Error::external("the answer was lost")));
                }
            }
        }
    }

    async fn find(&mut self, commit: &StagedCommit) -> Result<TokenLookup> {
        let table = self.place.table(&self.id).map_err(|e| Error::decision(e.to_string()))?;
        Ok(table.find(commit).map_or(TokenLookup::NotFound, TokenLookup::Found))
    }
}

/// Lets other tasks run once, so that committers on one thread get in each other's way.
async fn others_run() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
