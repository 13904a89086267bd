//! What is complete but not yet visible: files, and the commit that will name them.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;

use crate::batch::PartitionValues;
use crate::check_invariant;
use crate::ids::{CommitToken, TopicId, TopicPartition};
use crate::offsets::{Offset, OffsetDelta, OffsetRange};

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
    losses: Vec<Loss>,
}

/// Records that could not be read any more and that a person allowed to be passed over. It stands
/// in the commit that passes them over, so that nobody takes their absence for ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Retention removed the records of this range before they were read.
    Gap {
        /// Where.
        topic_partition: TopicPartition,
        /// The offsets that Kafka no longer had.
        range: OffsetRange,
    },
    /// The topic was deleted and created again. What the old one held behind `stored` was not read.
    TopicRecreated {
        /// The topic partition of the new topic.
        topic_partition: TopicPartition,
        /// The old topic's id.
        was: TopicId,
        /// Where the table stood in the old topic.
        stored: Offset,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { topic_partition, range } => {
                write!(f, "gap: {topic_partition} {range} was removed before it was read")
            }
            Self::TopicRecreated { topic_partition, was, stored } => write!(
                f,
                "topic recreated: {topic_partition} was read up to {stored} under the id {was}"
            ),
        }
    }
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
    /// What was passed over since Kafka no longer has it.
    pub losses: Vec<Loss>,
}

impl StagedCommit {
    /// Joins files and offsets.
    ///
    /// Checks CM-4 (each record accounted for), WR-2 (the files hold exactly the rows that were
    /// written) and CM-1 (no file holds a row whose offset stays behind).
    pub fn new(parts: StagedParts) -> Self {
        let StagedParts {
            token,
            fingerprint,
            files,
            delta,
            new_topic_partitions,
            accounting,
            losses,
        } = parts;
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
        Self { token, fingerprint, files, delta, new_topic_partitions, accounting, losses }
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

    /// What was passed over since Kafka no longer has it. A sink keeps it with the commit, for people.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TopicId;
    use crate::offsets::{Offset, OffsetRange};

    fn delta(start: i64, end: i64) -> OffsetDelta {
        let orders =
            TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition: 0 };
        let at = |offset| Offset::new(offset).unwrap();
        let mut delta = OffsetDelta::default();
        delta.append(&orders, OffsetRange::new(at(start), at(end)).unwrap()).unwrap();
        delta
    }

    fn file(rows: u64, delta: OffsetDelta) -> StagedFile {
        StagedFile {
            path: "part-1.parquet".into(),
            rows,
            bytes: 1,
            partition_values: PartitionValues::default(),
            delta,
            sink_data: SinkData::new(()),
        }
    }

    fn commit(files: Vec<StagedFile>, accounting: Accounting) -> StagedCommit {
        StagedCommit::new(StagedParts {
            token: CommitToken("t-1".into()),
            fingerprint: String::new(),
            files,
            delta: delta(10, 20),
            new_topic_partitions: BTreeSet::new(),
            accounting,
            losses: Vec::new(),
        })
    }

    fn written(rows: u64) -> Accounting {
        Accounting { consumed: rows, written: rows, ..Accounting::default() }
    }

    #[test]
    fn cm_4_each_consumed_record_is_accounted_for() {
        let account =
            Accounting { consumed: 10, written: 6, rejected: 3, filtered: 0, tombstones: 1 };
        assert!(account.balances());
        assert_eq!(commit(vec![file(6, delta(10, 20))], account).accounting(), &account);
    }

    #[test]
    #[should_panic(expected = "CM-4")]
    fn cm_4_a_record_that_became_nothing_is_noticed() {
        drop(commit(vec![file(9, delta(10, 20))], Accounting { consumed: 10, ..written(9) }));
    }

    #[test]
    #[should_panic(expected = "WR-2")]
    fn wr_2_files_with_other_rows_than_were_written_are_noticed() {
        drop(commit(vec![file(9, delta(10, 20))], written(10)));
    }

    #[test]
    #[should_panic(expected = "CM-1")]
    fn cm_1_a_row_whose_offset_would_stay_behind_is_noticed() {
        drop(commit(vec![file(10, delta(10, 21))], written(10)));
    }
}
