//! What is complete but not yet visible: files, and the commit that will name them.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;

use crate::batch::PartitionValues;
use crate::check_invariant;
use crate::ids::{CommitToken, TopicPartition};
use crate::offsets::OffsetDelta;

/// What became of the records of a range: `consumed = written + rejected + filtered + tombstones` (CM-4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Records read from Kafka.
    pub consumed: u64,
    /// Records that are rows of the table.
    pub written: u64,
    /// Records that could not become a row.
    pub rejected: u64,
    /// Records that the configuration leaves out.
    pub filtered: u64,
    /// Records without a value.
    pub tombstones: u64,
}

impl Accounting {
    /// True if each record is accounted for (CM-4).
    pub fn balances(&self) -> bool {
        self.consumed == self.written + self.rejected + self.filtered + self.tombstones
    }
}

impl AddAssign for Accounting {
    fn add_assign(&mut self, other: Self) {
        self.consumed += other.consumed;
        self.written += other.written;
        self.rejected += other.rejected;
        self.filtered += other.filtered;
        self.tombstones += other.tombstones;
    }
}

/// A data file that is complete in the store and that no commit names yet (WR-1).
#[derive(Clone)]
pub struct StagedFile {
    /// Object name, relative to the table's root.
    pub path: String,
    /// Rows in the file, counted when it was closed (WR-2).
    pub rows: u64,
    /// Size of the object.
    pub bytes: u64,
    /// The folder of the table that it belongs to.
    pub partition_values: PartitionValues,
    /// The records whose rows are in the file lie within this delta.
    pub delta: OffsetDelta,
    /// What the sink's writer hands to the same sink's committer, such as column statistics.
    pub sink_data: SinkData,
}

impl fmt::Debug for StagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StagedFile({}, {} rows, {} bytes)", self.path, self.rows, self.bytes)
    }
}

/// A value that only the sink which made it can read.
#[derive(Clone)]
pub struct SinkData(Arc<dyn Any + Send + Sync>);

impl SinkData {
    /// Wraps a value of the sink's own type.
    pub fn new<T: Any + Send + Sync>(data: T) -> Self {
        Self(Arc::new(data))
    }

    /// The value, if it is of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for SinkData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkData")
    }
}

/// Files and offsets that become visible in one atomic step, or not at all (CM-1).
#[derive(Debug, Clone)]
pub struct StagedCommit {
    token: CommitToken,
    fingerprint: String,
    files: Vec<StagedFile>,
    delta: OffsetDelta,
    new_topic_partitions: BTreeSet<TopicPartition>,
    accounting: Accounting,
}

/// The parts of a [`StagedCommit`], by name.
#[derive(Debug)]
pub struct StagedParts {
    /// Marks the commit in the table.
    pub token: CommitToken,
    /// The fingerprint of the validated configuration that produced the commit (CF-1).
    pub fingerprint: String,
    /// All files of the round.
    pub files: Vec<StagedFile>,
    /// The offsets that the round accounts for.
    pub delta: OffsetDelta,
    /// The topic partitions of the delta for which a start position was decided since the table
    /// had never seen them: the only ones that may be unknown to the table.
    pub new_topic_partitions: BTreeSet<TopicPartition>,
    /// What became of the records.
    pub accounting: Accounting,
}

impl StagedCommit {
    /// Joins files and offsets.
    ///
    /// Checks CM-4 (each record accounted for), WR-2 (the files hold exactly the rows that were
    /// written) and CM-1 (no file holds a row whose offset stays behind).
    pub fn new(parts: StagedParts) -> Self {
        let StagedParts { token, fingerprint, files, delta, new_topic_partitions, accounting } =
            parts;
        check_invariant!(Cm4, accounting.balances(), "commit {token}: {accounting:?}");
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        check_invariant!(
            Wr2,
            rows == accounting.written,
            "commit {token}: files hold {rows} rows, {} were written",
            accounting.written
        );
        check_invariant!(
            Cm1,
            files.iter().all(|file| delta.spans(&file.delta)),
            "commit {token}: a file holds rows of records outside of [{delta}]"
        );
        Self { token, fingerprint, files, delta, new_topic_partitions, accounting }
    }

    /// Marks the commit in the table.
    pub fn token(&self) -> &CommitToken {
        &self.token
    }

    /// The fingerprint of the configuration that produced the commit (CF-1).
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The files that become visible.
    pub fn files(&self) -> &[StagedFile] {
        &self.files
    }

    /// The offsets that become visible with them.
    pub fn delta(&self) -> &OffsetDelta {
        &self.delta
    }

    /// The topic partitions that the table may not know yet.
    pub fn new_topic_partitions(&self) -> &BTreeSet<TopicPartition> {
        &self.new_topic_partitions
    }

    /// What became of the records.
    pub fn accounting(&self) -> &Accounting {
        &self.accounting
    }
}
