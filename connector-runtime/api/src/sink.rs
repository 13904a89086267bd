//! The contract for sinks: one table format each.
//!
//! A sink opens a table into owners that cannot get into each other's way: [`TableWriters`] is
//! shared and writes files that nobody sees yet, the one [`TableCommitter`] makes them visible, and
//! [`TableMaintenance`] keeps the table healthy beside them. The exported functions in
//! [`contract`](crate::contract) check what is written here.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::batch::{PartitionValues, TableBatch, TableSchema};
use crate::error::Result;
use crate::ids::{ConnectorName, TableId, TopicPartition};
use crate::offsets::OffsetCheckpoint;
use crate::outcome::{CommitError, CommitOutcome, Conflict, TokenLookup};
use crate::reset::OffsetReset;
use crate::staged::{StagedCommit, StagedFile};

/// A table at a location, existing or not.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// The table's location, for messages. Must not hold credentials.
    fn location(&self) -> &str;

    /// Opens the table for a connector, or returns `None` if there is none at the location.
    ///
    /// Must refuse, by name and before the first byte is written, a table with a feature that the
    /// sink cannot honour when writing, and a location that holds something else.
    async fn open(&self, connector: &ConnectorName) -> Result<Option<OpenTable>>;

    /// Creates the table and opens it. If somebody else creates it first, must open theirs.
    async fn create(&self, connector: &ConnectorName, schema: &TableSchema) -> Result<OpenTable>;

    /// Opens the newest version for queries, or returns `None` if there is no table at the location.
    async fn read(&self) -> Result<Option<Arc<dyn TableReader>>>;
}

/// An open table, split into its owners.
#[derive(Debug)]
pub struct OpenTable {
    /// The table's id.
    pub id: TableId,
    /// Its columns when it was opened. A change shows as [`Conflict::TableAltered`](crate::outcome::Conflict) at the next commit.
    pub schema: TableSchema,
    /// Opens data files. May be used from many threads.
    pub writers: Arc<dyn TableWriters>,
    /// Commits. Exclusive: the borrow checker allows one commit at a time.
    pub committer: Box<dyn TableCommitter>,
    /// Keeps the table healthy, where the format needs it.
    pub maintenance: Option<Arc<dyn TableMaintenance>>,
}

/// Opens data files of one table.
pub trait TableWriters: Send + Sync + fmt::Debug {
    /// Opens a file for rows of one set of partition values. Must not touch the store yet.
    ///
    /// `name` is unique among all workers and runs; the sink adds folder and ending. `fingerprint`
    /// is that of the configuration which makes the rows (CF-1), for files that have to stand alone.
    fn open_file(
        &self,
        name: &str,
        partition_values: &PartitionValues,
        fingerprint: &str,
    ) -> Result<Box<dyn TableWriter>>;
}

/// What the rolling policy and the memory budget look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// Rows written.
    pub rows: u64,
    /// Size that the file would have if it were closed now, estimated.
    pub encoded_bytes: u64,
    /// Memory that it takes, estimated.
    pub memory_bytes: u64,
}

/// One data file that is being written. When to close it is the runtime's decision.
///
/// Dropping a writer aborts the file; nothing of it may become visible to a reader (WR-1).
#[async_trait]
pub trait TableWriter: Send {
    /// Encodes rows. May take milliseconds of CPU, must not wait for the store.
    fn write(&mut self, batch: &TableBatch) -> Result<()>;

    /// Rows and bytes so far.
    fn status(&self) -> FileStatus;

    /// Encodes what is left. CPU work like [`write`](Self::write); no row may follow.
    fn finish(&mut self) -> Result<()>;

    /// Puts the finished file into the store. On success it is durable there, and no reader of
    /// the table sees it (WR-1). May be called again after an error.
    async fn stage(&mut self) -> Result<StagedFile>;
}

/// Makes files and offsets visible, in one atomic step (CM-1).
#[async_trait]
pub trait TableCommitter: Send + fmt::Debug {
    /// Reads from the store where the table stands: each topic partition that this connector has
    /// ever committed, also under the ids that its topic had before it was created anew. Those
    /// that the table has never seen are absent.
    async fn checkpoint(&mut self) -> Result<OffsetCheckpoint>;

    /// The fingerprint of this connector's newest commit that moved a topic partition, as far back
    /// as the table's history is kept; `None` if that was a reset. Reads the store.
    async fn fingerprint(&mut self, of: &TopicPartition) -> Result<Option<String>>;

    /// Looks in the store whether somebody has changed the table since it was opened, so that a
    /// commit would be answered with this conflict. For what has to be known before a commit to
    /// another table.
    async fn conflict(&mut self) -> Result<Option<Conflict>>;

    /// Commits files and offsets.
    ///
    /// Must judge the commit ([`StagedCommit::judge`]) and write it in one compare-and-swap (CM-2):
    /// if anything was committed in between, judge again. Must answer `AlreadyCommitted` to a
    /// commit whose token is in the table. A conflict with a foreign commit that changes neither
    /// schema nor offsets is resolved inside. Must bound its time, and must return
    /// [`CommitError::Unknown`] whenever the request may have reached the store unanswered.
    ///
    /// Not cancel-safe: the runtime drives it to its end.
    async fn commit(&mut self, commit: &StagedCommit) -> Result<CommitOutcome, CommitError>;

    /// Looks a commit up after its outcome was unknown (CM-3). Reads the store, not a memory.
    ///
    /// Must tell the truth also if positions were moved by a [`reset`](Self::reset) since.
    async fn find(&mut self, commit: &StagedCommit) -> Result<TokenLookup>;

    /// Moves positions by a person's word: the one exception to OF-2.
    ///
    /// Must judge the reset ([`OffsetReset::judge`]) and write it in one compare-and-swap, as one
    /// version that tells in the table's history who moved what from where to where. Must answer
    /// `AlreadyCommitted` to a reset whose token is in the table, so that after
    /// [`CommitError::Unknown`] it may be sent again. Afterwards a commit that starts where a moved
    /// topic partition stood before must be refused, and one that was sent before the reset must
    /// not be written a second time, also if the table stands where it starts.
    ///
    /// Bounded in time and not cancel-safe, like [`commit`](Self::commit).
    async fn reset(&mut self, reset: &OffsetReset) -> Result<CommitOutcome, CommitError>;
}

/// Keeps a table healthy: a reconciler without input that looks at the table's state, does what is
/// due and may be called at any time, also twice.
#[async_trait]
pub trait TableMaintenance: Send + Sync + fmt::Debug {
    /// Does what is due at this version and says what was done; `None` if nothing was due. What waits
    /// for some versions to go by waits no longer at `u64::MAX`.
    async fn reconcile(&self, version: u64) -> Result<Option<String>>;
}

/// One version of a table, for who only looks. Must not write anything, not even beside the table.
pub trait TableReader: Send + Sync + fmt::Debug {
    /// All columns, partition columns included.
    fn schema(&self) -> SchemaRef;

    /// Where this version stands for a connector, as [`TableCommitter::checkpoint`] tells it.
    ///
    /// Waits for the store: use it on a thread that may wait.
    fn checkpoint(&self, connector: &ConnectorName) -> Result<OffsetCheckpoint>;

    /// Reads some of the columns, by their indices in [`schema`](Self::schema) and in that order.
    ///
    /// The iterator waits for the store: use it on a thread that may wait.
    fn scan(&self, columns: &[usize]) -> Result<RecordBatches>;
}

/// Rows of a scan, batch by batch.
pub type RecordBatches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;
