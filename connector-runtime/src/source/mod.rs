//! 3 · Kafka source: batches of bytes per topic partition, and the events around them.
//!
//! One OS thread per consumer polls librdkafka ([`kafka`]) and never waits for storage. It hands
//! over [`SourceBatch`]es through a bounded queue and pauses its topic partitions when that is full
//! or too many bytes are under way. Assignment and revocation are [`SourceEvent`]s whose sender
//! waits for the pipeline's answer, since only the pipeline knows where the table stands.

mod client;
mod glimpse;
mod group;
mod headers;
mod kafka;
mod rebalance;
mod tail;
mod topic_id;
mod witness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use connector_api::Error;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint};
use connector_api::record::RawRecords;

pub use glimpse::{Glimpse, Stretch, glimpse};
pub use kafka::{KafkaSource, Prepared, Topics};
pub use tail::{Tail, tail};
pub use witness::{Question, TopicWitness};

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
#[derive(Debug, Clone, Default)]
pub struct ByteGauge(Arc<AtomicUsize>);

impl ByteGauge {
    /// Counts bytes until the returned value is dropped.
    pub fn hold(&self, bytes: usize) -> InFlight {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        InFlight { gauge: self.clone(), bytes }
    }

    /// Bytes that are counted now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes counted by a [`ByteGauge`].
#[derive(Debug)]
pub struct InFlight {
    gauge: ByteGauge,
    bytes: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
