//! 3 · Kafka source: batches of bytes per topic partition, and the events around them.
//!
//! One OS thread per consumer polls librdkafka ([`kafka`]) and never waits for storage. It hands
//! over [`SourceBatch`]es through a bounded queue and takes no more records while that is full or
//! too many bytes are under way. Assignment and revocation are [`SourceEvent`]s whose sender
//! waits for the pipeline's answer, since only the pipeline knows where the table stands.
//!
//! The engine knows Kafka by three things, so that a simulation can stand in for it: a [`Cluster`] to
//! connect to, the [`Source`] of a member of the group, and a [`Witness`] to ask.

mod client;
mod data_queue;
mod glimpse;
mod group;
mod headers;
mod kafka;
mod rebalance;
mod tail;
mod topic_id;
mod witness;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use connector_api::clock::Clock;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint, OffsetRange};
use connector_api::record::RawRecords;
use connector_api::{Error, Result};
use tokio::sync::mpsc;

use crate::config::ConnectorPlan;
use crate::memory::{Held, MemoryShare};

pub use data_queue::{Batch, DataQueue, Taken};
pub use glimpse::{Glimpse, Stretch, glimpse};
pub use kafka::{Kafka, Prepared};

/// How long leaving the group may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(60);

/// The topics of a connector, with the ends of their logs when they were asked for.
pub type Topics = Vec<AssignedPartition>;

/// The brokers that a connector reads from.
#[async_trait]
pub trait Cluster: fmt::Debug + Send + Sync {
    /// Connects, and checks that the brokers answer and the topics are there. Joins no group yet.
    async fn connect(
        &self,
        plan: &Arc<ConnectorPlan>,
        clock: Arc<dyn Clock>,
        memory: &MemoryShare,
    ) -> Result<Connected>;
}

/// A connection that has not joined its group yet.
pub struct Connected {
    /// What there is to read.
    pub topics: Topics,
    /// Whom to ask meanwhile.
    pub witness: Arc<dyn Witness>,
    /// Joins the group and starts to read.
    pub join: Box<dyn FnOnce() -> Result<Source> + Send>,
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connected({:?})", self.topics)
    }
}

/// Answers questions beside the group. They block.
pub trait Witness: fmt::Debug + Send + Sync {
    /// An error if one of these topics is another one now: deleted, and created again. No answer is no
    /// error.
    fn same_topics(&self, read_from: Vec<TopicPartition>) -> Result<()>;

    /// The offset behind the last readable record.
    fn log_end(&self, of: &TopicPartition) -> Result<Offset>;

    /// Looks behind our position. The stretch up to the end, if it holds no readable record.
    ///
    /// An open transaction ends the log for a reader of committed records, so nothing that may still
    /// be committed is passed over.
    fn tail(&self, tail: &Tail) -> Result<Option<OffsetRange>>;
}

/// A topic partition that brings nothing, and where we stand in it.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Where.
    pub topic_partition: TopicPartition,
    /// The next offset to read.
    pub next: Offset,
    /// How far to look; `None` looks up to the end of the log.
    pub end: Option<Offset>,
}

/// A member of a group, as the pipeline sees it.
#[derive(Debug)]
pub struct Source {
    /// Records, in the order of their offsets per topic partition.
    pub batches: mpsc::Receiver<SourceBatch>,
    /// What happens to the group.
    pub events: mpsc::Receiver<SourceEvent>,
    /// What the source is asked to do. Never waits: the queue is longer than what is ever asked at once.
    pub commands: mpsc::Sender<Command>,
    /// Where it runs, if that is a thread.
    pub thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Leaves the group, if that has not happened yet, and waits for the thread to end.
    pub async fn close(mut self) {
        let Some(thread) = self.thread.take() else { return };
        // Without its commands the thread leaves by itself, without its events nobody is asked.
        drop(self);
        let joined = tokio::task::spawn_blocking(move || thread.join());
        match tokio::time::timeout(LEAVE_TIMEOUT, joined).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => tracing::error!("the consumer thread ended by a panic"),
            Err(_) => tracing::warn!("the consumer did not close in time"),
        }
    }
}

/// Records of one topic partition, from one turn of owning it.
#[derive(Debug)]
pub struct SourceBatch {
    /// The records.
    pub records: RawRecords,
    /// The turn: see [`Start::epoch`]. A batch of an earlier turn must be dropped.
    pub epoch: u64,
    /// Counts the batch's bytes until it is dropped.
    pub held: InFlight,
}

/// What the pipeline has to know of the group.
#[derive(Debug)]
pub enum SourceEvent {
    /// Topic partitions are ours. Reading begins where the answer says; no answer refuses them.
    Assigned {
        /// The topic partitions, never empty.
        partitions: Vec<AssignedPartition>,
        /// Takes one [`Start`] for each of them.
        reply: SyncSender<Vec<Start>>,
    },
    /// Topic partitions are handed back. The group goes on after the answer (FN-1).
    Revoked {
        /// The topic partitions, never empty.
        partitions: Vec<TopicPartition>,
        /// True if they were taken away without notice: somebody else may own them already.
        lost: bool,
        /// Takes the positions to note down for the group.
        reply: SyncSender<OffsetCheckpoint>,
    },
    /// The source cannot go on.
    Failed(Error),
    /// The group was left and the consumer is closed: the last event.
    Closed,
}

/// A topic partition that was assigned, with what Kafka says of its log.
#[derive(Debug, Clone)]
pub struct AssignedPartition {
    /// The topic partition.
    pub topic_partition: TopicPartition,
    /// The first offset that Kafka still has.
    pub log_start: Offset,
    /// The offset behind the last readable record.
    pub log_end: Offset,
    /// The first offset at the configured start timestamp, if there is one of both.
    pub at_timestamp: Option<Offset>,
    /// What was noted down for the group.
    pub noted: Option<Noted>,
    /// When the first record that Kafka still has was made, where it was worth a look: milliseconds
    /// since 1970 UTC.
    pub log_start_ms: Option<i64>,
}

/// A position that was noted down for the group after a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The next offset.
    pub next: Offset,
    /// When it was noted, if that was us: milliseconds since 1970 UTC.
    pub wall_ms: Option<i64>,
}

/// Where to read a topic partition from.
#[derive(Debug, Clone)]
pub struct Start {
    /// The topic partition.
    pub topic_partition: TopicPartition,
    /// The next offset to read.
    pub offset: Offset,
    /// A number that grows with each start; batches carry it, so that those from before a seek or
    /// a revoke can be told from those behind it.
    pub epoch: u64,
}

/// What the pipeline asks of the source.
#[derive(Debug)]
pub enum Command {
    /// Read these topic partitions from elsewhere.
    Seek(Vec<Start>),
    /// Note positions down for the group: for lag tools, and as an alarm (docs/decisions/007).
    NoteGroupOffsets(OffsetCheckpoint),
    /// Leave the group and close.
    Leave,
}

/// The bytes of batches that are under way, shared by the source and its batches.
#[derive(Debug, Clone)]
pub struct ByteGauge {
    in_flight: Arc<AtomicUsize>,
    memory: MemoryShare,
}

impl ByteGauge {
    /// Counts batches of this connector.
    pub fn new(memory: &MemoryShare) -> Self {
        Self { in_flight: Arc::default(), memory: memory.clone() }
    }

    /// Counts bytes until the returned value is dropped.
    pub fn hold(&self, bytes: usize) -> InFlight {
        self.in_flight.fetch_add(bytes, Ordering::Relaxed);
        InFlight { in_flight: self.in_flight.clone(), held: self.memory.hold(bytes) }
    }

    /// Bytes under way at which no more should be taken.
    pub fn most(&self) -> usize {
        self.memory.in_flight_bytes_max()
    }

    /// False while no more should be taken: enough is under way, or the connector has no room for more.
    pub fn has_room(&self) -> bool {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        in_flight < self.memory.in_flight_bytes_max() && self.memory.has_room()
    }
}

/// Bytes counted by a [`ByteGauge`].
#[derive(Debug)]
pub struct InFlight {
    in_flight: Arc<AtomicUsize>,
    held: Held,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.held.bytes(), Ordering::Relaxed);
    }
}
