//! The offset algebra: what "exactly once" comes down to, without I/O and without Kafka.
//!
//! A [`OffsetDelta`] says which records a commit accounts for, an [`OffsetCheckpoint`] how far a
//! table has come, and [`OffsetCheckpoint::admit`] whether the one may follow the other.
//!
//! Invariants: OF-1 (a delta grows by contiguous ranges only), OF-2 (a checkpoint never moves
//! back; a table's may by a person's word, see [`reset`](crate::reset)), CM-2 (a commit starts where the table stands).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::TopicPartition;

/// A position in a topic partition: the number of one record, or the next one to read. Never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(i64);

impl Offset {
    /// The first position of every topic partition.
    pub const ZERO: Self = Self(0);

    /// An offset, or `None` for a negative number (Kafka's own markers for "end" and the like are no offsets).
    pub fn new(offset: i64) -> Option<Self> {
        (offset >= 0).then_some(Self(offset))
    }

    /// The position as Kafka writes it.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The position behind this record.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The half-open range `[start, end)`: `end` is the next offset to read.
///
/// It may hold fewer records than offsets: compaction and transaction markers leave holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    start: Offset,
    end: Offset,
}

impl OffsetRange {
    /// A range, or `None` if `end` lies before `start`.
    pub fn new(start: Offset, end: Offset) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The first offset that the range accounts for.
    pub fn start(self) -> Offset {
        self.start
    }

    /// The next offset to read.
    pub fn end(self) -> Offset {
        self.end
    }

    /// True if the range accounts for nothing.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// How many offsets the range spans.
    pub fn len(self) -> u64 {
        self.end.0.abs_diff(self.start.0)
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// A range that does not continue what a delta already accounts for (OF-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotContiguous {
    /// Where it happened.
    pub topic_partition: TopicPartition,
    /// The only start that would have continued the delta.
    pub expected: Offset,
    /// The range that was offered.
    pub found: OffsetRange,
}

impl fmt::Display for NotContiguous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic_partition, expected, found } = self;
        write!(f, "range {found} of {topic_partition} does not continue at offset {expected}")
    }
}

impl std::error::Error for NotContiguous {}

/// The offsets that a round, a file or a commit accounts for: one contiguous range per topic partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetDelta {
    ranges: BTreeMap<TopicPartition, OffsetRange>,
}

impl OffsetDelta {
    /// Appends a range. It must start where the delta's range of that topic partition ends (OF-1).
    ///
    /// An empty range accounts for no record and says where the topic partition stands: a start
    /// position that was decided is committed by it.
    pub fn append(
        &mut self,
        topic_partition: &TopicPartition,
        range: OffsetRange,
    ) -> Result<(), NotContiguous> {
        match self.ranges.entry(topic_partition.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(range);
                Ok(())
            }
            Entry::Occupied(mut entry) if entry.get().end == range.start => {
                entry.get_mut().end = range.end;
                Ok(())
            }
            Entry::Occupied(entry) => Err(NotContiguous {
                topic_partition: topic_partition.clone(),
                expected: entry.get().end,
                found: range,
            }),
        }
    }

    /// Widens the delta so that it spans this range too. For files, which hold some of a round's
    /// rows and account for none of its offsets.
    pub fn cover(&mut self, topic_partition: &TopicPartition, range: OffsetRange) {
        let spanned = self.ranges.entry(topic_partition.clone()).or_insert(range);
        spanned.start = spanned.start.min(range.start);
        spanned.end = spanned.end.max(range.end);
    }

    /// True if each range of `other` lies within this delta.
    pub fn spans(&self, other: &Self) -> bool {
        other.iter().all(|(topic_partition, inner)| {
            self.range(topic_partition)
                .is_some_and(|outer| outer.start <= inner.start && inner.end <= outer.end)
        })
    }

    /// The range of one topic partition, if the delta names it.
    pub fn range(&self, topic_partition: &TopicPartition) -> Option<OffsetRange> {
        self.ranges.get(topic_partition).copied()
    }

    /// All ranges, in the order of their topic partitions.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, OffsetRange)> {
        self.ranges.iter().map(|(topic_partition, range)| (topic_partition, *range))
    }

    /// The topic partitions that the delta names.
    pub fn topic_partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.ranges.keys()
    }

    /// True if the delta names no topic partition.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl fmt::Display for OffsetDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (topic_partition, range)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{topic_partition} {range}")?;
        }
        Ok(())
    }
}

/// How far a table has come: the next offset to read per topic partition, as stored in the table.
///
/// A topic partition that the table has never seen is absent; zero would say that it has been seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetCheckpoint {
    next: BTreeMap<TopicPartition, Offset>,
}

impl OffsetCheckpoint {
    /// The next offset of a topic partition, or `None` if the table has never seen it.
    pub fn next(&self, topic_partition: &TopicPartition) -> Option<Offset> {
        self.next.get(topic_partition).copied()
    }

    /// All stored positions, in the order of their topic partitions.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.next.iter().map(|(topic_partition, next)| (topic_partition, *next))
    }

    /// Decides whether a commit with this delta may follow, all topic partitions or none (CM-2).
    ///
    /// Per topic partition, with `stored` out of the checkpoint and `start` out of the delta:
    ///
    /// | stored | admission | what it means | what the caller does |
    /// |---|---|---|---|
    /// | `== start` | [`Admission::Next`] | the delta continues the table | commit |
    /// | `> start` | [`Admission::Overlap`] | another worker is ahead: we are fenced | drop the buffers, read on from `stored` |
    /// | `< start` | [`Admission::Behind`] | the table lost commits: restored or recreated | stop, a person must decide |
    /// | absent | [`Admission::Unknown`] | never seen | commit only where a start position was decided for it |
    ///
    /// Where topic partitions differ, the answer is the gravest: `Behind`, then `Overlap`, then
    /// `Unknown`, then `Next`. An empty delta is `Next`.
    pub fn admit(&self, delta: &OffsetDelta) -> Admission {
        let mut admission = Admission::Next;
        for (topic_partition, range) in delta.iter() {
            let one = self.admit_one(topic_partition, range.start);
            if one.gravity() > admission.gravity() {
                admission = one;
            }
        }
        admission
    }

    fn admit_one(&self, topic_partition: &TopicPartition, start: Offset) -> Admission {
        let topic_partition = topic_partition.clone();
        match self.next(&topic_partition) {
            None => Admission::Unknown { topic_partition, start },
            Some(stored) if stored == start => Admission::Next,
            Some(stored) if stored > start => Admission::Overlap { topic_partition, stored, start },
            Some(stored) => Admission::Behind { topic_partition, stored, start },
        }
    }

    /// Moves the checkpoint to the delta's ends. Positions never move back (OF-2): an end before
    /// the stored position changes nothing.
    pub fn advance(&mut self, delta: &OffsetDelta) {
        for (topic_partition, range) in delta.iter() {
            self.set(topic_partition.clone(), range.end);
        }
    }

    /// Records a position that was read from a table. It never moves back (OF-2).
    pub fn set(&mut self, topic_partition: TopicPartition, next: Offset) {
        let stored = self.next.entry(topic_partition).or_insert(next);
        *stored = next.max(*stored);
    }
}

impl FromIterator<(TopicPartition, Offset)> for OffsetCheckpoint {
    fn from_iter<I: IntoIterator<Item = (TopicPartition, Offset)>>(positions: I) -> Self {
        let mut checkpoint = Self::default();
        for (topic_partition, next) in positions {
            checkpoint.set(topic_partition, next);
        }
        checkpoint
    }
}

/// The answer of [`OffsetCheckpoint::admit`]. See the table there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// The delta starts exactly where the table stands.
    Next,
    /// The table has never seen this topic partition.
    Unknown {
        /// The topic partition in question.
        topic_partition: TopicPartition,
        /// Where the delta starts.
        start: Offset,
    },
    /// The table is ahead of the delta.
    Overlap {
        /// The topic partition in question.
        topic_partition: TopicPartition,
        /// The table's next offset.
        stored: Offset,
        /// Where the delta starts.
        start: Offset,
    },
    /// The table is behind the delta.
    Behind {
        /// The topic partition in question.
        topic_partition: TopicPartition,
        /// The table's next offset.
        stored: Offset,
        /// Where the delta starts.
        start: Offset,
    },
}

impl Admission {
    fn gravity(&self) -> u8 {
        match self {
            Self::Next => 0,
            Self::Unknown { .. } => 1,
            Self::Overlap { .. } => 2,
            Self::Behind { .. } => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::TopicId;

    fn orders(partition: i32) -> TopicPartition {
        TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition }
    }

    fn range(start: i64, end: i64) -> OffsetRange {
        OffsetRange::new(Offset(start), Offset(end)).unwrap()
    }

    fn delta(ranges: &[(i32, i64, i64)]) -> OffsetDelta {
        let mut delta = OffsetDelta::default();
        for (partition, start, end) in ranges {
            delta.append(&orders(*partition), range(*start, *end)).unwrap();
        }
        delta
    }

    fn checkpoint(positions: &[(i32, i64)]) -> OffsetCheckpoint {
        positions.iter().map(|(partition, next)| (orders(*partition), Offset(*next))).collect()
    }

    #[track_caller]
    fn check(stored: &[(i32, i64)], offered: &[(i32, i64, i64)], expected: &Admission) {
        assert_eq!(&checkpoint(stored).admit(&delta(offered)), expected);
    }

    #[test]
    fn a_delta_is_admitted_only_where_the_table_stands() {
        let (topic_partition, start) = (orders(0), Offset(10));
        check(&[(0, 10)], &[(0, 10, 20)], &Admission::Next);
        check(&[], &[], &Admission::Next);
        check(
            &[],
            &[(0, 10, 20)],
            &Admission::Unknown { topic_partition: topic_partition.clone(), start },
        );
        let (stored, start) = (Offset(11), Offset(10));
        check(
            &[(0, 11)],
            &[(0, 10, 20)],
            &Admission::Overlap { topic_partition: topic_partition.clone(), stored, start },
        );
        let stored = Offset(9);
        check(&[(0, 9)], &[(0, 10, 20)], &Admission::Behind { topic_partition, stored, start });
    }

    #[test]
    fn one_topic_partition_that_does_not_fit_refuses_the_whole_delta() {
        let overlap =
            Admission::Overlap { topic_partition: orders(1), stored: Offset(6), start: Offset(5) };
        check(&[(0, 10), (1, 6)], &[(0, 10, 20), (1, 5, 7)], &overlap);
        let behind =
            Admission::Behind { topic_partition: orders(2), stored: Offset(0), start: Offset(1) };
        check(&[(0, 10), (1, 6), (2, 0)], &[(0, 10, 20), (1, 5, 7), (2, 1, 2)], &behind);
    }

    #[test]
    fn offset_zero_is_a_position_and_not_an_absence() {
        check(&[(0, 0)], &[(0, 0, 1)], &Admission::Next);
        assert_eq!(checkpoint(&[(0, 0)]).next(&orders(0)), Some(Offset::ZERO));
        assert_eq!(checkpoint(&[]).next(&orders(0)), None);
    }

    #[test]
    fn of_1_a_delta_refuses_a_hole_an_overlap_and_a_step_back() {
        for (start, end) in [(21, 30), (19, 30), (0, 5)] {
            let mut delta = delta(&[(0, 10, 20)]);
            let refused = delta.append(&orders(0), range(start, end)).unwrap_err();
            assert_eq!(refused.expected, Offset(20));
            assert_eq!(delta.range(&orders(0)), Some(range(10, 20)), "a refusal changes nothing");
        }
    }

    #[test]
    fn a_file_spans_the_ranges_of_its_rows_in_any_order() {
        let mut file = OffsetDelta::default();
        file.cover(&orders(0), range(15, 20));
        file.cover(&orders(0), range(10, 12));
        assert_eq!(file.range(&orders(0)), Some(range(10, 20)));
        assert!(delta(&[(0, 10, 20), (1, 0, 1)]).spans(&file));
        assert!(!delta(&[(0, 11, 20)]).spans(&file));
        assert!(!delta(&[(1, 10, 20)]).spans(&file));
    }

    #[test]
    fn a_negative_number_is_no_offset_and_a_range_does_not_run_backwards() {
        assert_eq!(Offset::new(-1001), None);
        assert_eq!(OffsetRange::new(Offset(5), Offset(4)), None);
    }

    proptest! {
        /// Whatever two workers offer, in whatever order: each offset is committed at most once,
        /// and the checkpoint never moves back (OF-2, CM-2).
        #[test]
        fn of_2_cm_2_no_order_of_commits_covers_an_offset_twice(
            offers in prop::collection::vec((0..3i32, 0..40i64, 1..10i64), 0..60)
        ) {
            let mut table = checkpoint(&[(0, 0), (1, 0), (2, 0)]);
            let mut committed = [0i64; 3];
            for (partition, start, len) in offers {
                let before = table.clone();
                let offered = delta(&[(partition, start, start + len)]);
                if table.admit(&offered) == Admission::Next {
                    prop_assert_eq!(committed[partition as usize], start);
                    table.advance(&offered);
                    committed[partition as usize] = start + len;
                }
                for (topic_partition, next) in before.iter() {
                    prop_assert!(table.next(topic_partition) >= Some(next));
                }
            }
        }

        /// Appending in pieces accounts for the same offsets as appending at once (OF-1).
        #[test]
        fn of_1_a_delta_is_the_sum_of_its_pieces(cuts in prop::collection::vec(0..1000i64, 2..20)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = OffsetDelta::default();
            for pair in cuts.windows(2) {
                pieces.append(&orders(0), range(pair[0], pair[1])).unwrap();
            }
            let whole = range(cuts[0], cuts[cuts.len() - 1]);
            prop_assert_eq!(pieces.range(&orders(0)), Some(whole));
        }

        /// A checkpoint only ever grows, whatever is written to it (OF-2).
        #[test]
        fn of_2_a_checkpoint_never_moves_back(positions in prop::collection::vec(0..100i64, 1..50)) {
            let mut table = OffsetCheckpoint::default();
            let mut highest = 0;
            for position in positions {
                table.set(orders(0), Offset(position));
                highest = highest.max(position);
                prop_assert_eq!(table.next(&orders(0)), Some(Offset(highest)));
            }
        }
    }
}
