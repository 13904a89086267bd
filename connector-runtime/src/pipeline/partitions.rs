//! The topic partitions of a worker and where each of them stands: pure bookkeeping.
//!
//! | position | moves when |
//! |---|---|
//! | `settled` | a round with the topic partition is in the table |
//! | `next` | a batch was collected into a round, or offsets without records were passed over |
//! | both back to the table's | a round was dropped |
//! | `dead_letters` | dead letters of the topic partition are in their table |

use std::collections::{BTreeMap, BTreeSet};

use connector_api::clock::Moment;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint, OffsetDelta, OffsetRange};
use connector_api::staged::{Loss, StagedFile};
use connector_api::{Error, Result};

use crate::commit::round::StagedDeadLetters;
use crate::source::Start;

/// One topic partition that this worker reads.
#[derive(Debug, Clone)]
pub struct Partition {
    /// The turn of owning or seeking that records must carry.
    pub epoch: u64,
    /// Where the table stands, as far as we know.
    pub settled: Offset,
    /// The next offset to collect.
    pub next: Offset,
    /// Where a start position was decided, until the table has seen the topic partition.
    pub begin: Option<Offset>,
    /// Where the dead-letter table stands, if it has ever seen the topic partition.
    pub dead_letters: Option<Offset>,
    /// What is passed over by beginning there: it stands in the first commit.
    pub loss: Option<Loss>,
    /// When the last batch came.
    pub seen: Moment,
}

/// The topic partitions that this worker owns.
#[derive(Debug, Default)]
pub struct Partitions {
    owned: BTreeMap<TopicPartition, Partition>,
    epoch: u64,
}

impl Partitions {
    /// Takes a topic partition over and says where to read it from.
    pub fn take(
        &mut self,
        topic_partition: TopicPartition,
        at: Offset,
        new: bool,
        now: Moment,
    ) -> Start {
        self.epoch += 1;
        let partition = Partition {
            epoch: self.epoch,
            settled: at,
            next: at,
            begin: new.then_some(at),
            dead_letters: None,
            loss: None,
            seen: now,
        };
        self.owned.insert(topic_partition.clone(), partition);
        Start { topic_partition, offset: at, epoch: self.epoch }
    }

    /// Hands topic partitions back. Positions that the table has come back, for the group: what is
    /// noted there and not in the table would read as a table that lost it.
    pub fn release(&mut self, revoked: &[TopicPartition]) -> OffsetCheckpoint {
        let gone = revoked.iter().filter_map(|tp| Some((tp.clone(), self.owned.remove(tp)?)));
        let in_table = gone.filter(|(_, partition)| partition.begin.is_none());
        in_table.map(|(tp, partition)| (tp, partition.settled)).collect()
    }

    /// The state of a topic partition, if it is ours.
    pub fn get(&self, topic_partition: &TopicPartition) -> Option<&Partition> {
        self.owned.get(topic_partition)
    }

    /// All topic partitions that are ours.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Partition)> {
        self.owned.iter()
    }

    /// True if a batch of this epoch and start continues what was collected. Anything else was read
    /// before a seek or a revoke, and is dropped.
    pub fn continues(&self, topic_partition: &TopicPartition, epoch: u64, start: Offset) -> bool {
        self.owned.get(topic_partition).is_some_and(|p| p.epoch == epoch && p.next == start)
    }

    /// Moves `next` over a range that is collected now. Says if the table has not seen the topic
    /// partition yet and this range is the first that it will see.
    pub fn collected(
        &mut self,
        topic_partition: &TopicPartition,
        range: OffsetRange,
        now: Moment,
    ) -> bool {
        let Some(partition) = self.owned.get_mut(topic_partition) else { return false };
        partition.next = range.end();
        partition.seen = now;
        partition.begin == Some(range.start())
    }

    /// Moves `settled` to the ends of a round that is in the table.
    pub fn settled(&mut self, delta: &OffsetDelta) -> OffsetCheckpoint {
        let mut positions = OffsetCheckpoint::default();
        for (topic_partition, range) in delta.iter() {
            if let Some(partition) = self.owned.get_mut(topic_partition) {
                partition.settled = range.end();
                partition.begin = None;
                partition.loss = None;
                positions.set(topic_partition.clone(), range.end());
            }
        }
        positions
    }

    /// Goes back to the end of the round `ahead` that is on its way, else to where the table stands:
    /// `stored` where it is known, else what was settled last.
    pub fn rewind(&mut self, stored: &OffsetCheckpoint, ahead: Option<&OffsetDelta>) -> Vec<Start> {
        let mut starts = Vec::new();
        for (topic_partition, partition) in &mut self.owned {
            if let Some(stored) = stored.next(topic_partition) {
                partition.settled = stored;
                partition.begin = None;
            }
            self.epoch += 1;
            partition.epoch = self.epoch;
            let on_its_way = ahead.and_then(|ahead| ahead.range(topic_partition));
            partition.next = on_its_way.map_or(partition.settled, OffsetRange::end);
            starts.push(Start {
                topic_partition: topic_partition.clone(),
                offset: partition.next,
                epoch: self.epoch,
            });
        }
        starts
    }

    /// Keeps what is passed over by where a topic partition begins.
    pub fn note_loss(&mut self, topic_partition: &TopicPartition, loss: Loss) {
        if let Some(partition) = self.owned.get_mut(topic_partition) {
            partition.loss = Some(loss);
        }
    }

    /// Rejected records of a topic partition before this offset are in the dead-letter table already.
    pub fn dead_letters_from(&self, topic_partition: &TopicPartition) -> Offset {
        let stored = self.owned.get(topic_partition).and_then(|partition| partition.dead_letters);
        stored.unwrap_or(Offset::ZERO)
    }

    /// Takes over where the dead-letter table stands.
    pub fn dead_letters_stored(&mut self, stored: &OffsetCheckpoint) {
        for (topic_partition, next) in stored.iter() {
            if let Some(partition) = self.owned.get_mut(topic_partition) {
                partition.dead_letters = Some(next);
            }
        }
    }

    /// Joins the staged dead letters of a round with what they account for in their table: all
    /// offsets of their topic partitions from where it stands to the end of the round.
    pub fn dead_letters(
        &self,
        files: Vec<StagedFile>,
        round: &OffsetDelta,
    ) -> Result<StagedDeadLetters> {
        let mut delta = OffsetDelta::default();
        let mut new_topic_partitions = BTreeSet::new();
        let named: BTreeSet<_> = files.iter().flat_map(|f| f.delta.topic_partitions()).collect();
        for topic_partition in named {
            let lost = || Error::internal(format!("dead letters of {topic_partition} came late"));
            let of_round = round.range(topic_partition).ok_or_else(lost)?;
            let stored = self.owned.get(topic_partition).and_then(|p| p.dead_letters);
            if stored.is_none() {
                new_topic_partitions.insert(topic_partition.clone());
            }
            let start = stored.unwrap_or_else(|| of_round.start());
            let range = OffsetRange::new(start, of_round.end()).ok_or_else(lost)?;
            delta.append(topic_partition, range).map_err(|e| {
                Error::internal("dead letters do not continue their table").with_source(e)
            })?;
        }
        Ok(StagedDeadLetters { files, delta, new_topic_partitions })
    }

    /// Jumps over a range that is known to hold no record, and says where to read on.
    pub fn skip(
        &mut self,
        topic_partition: &TopicPartition,
        to: Offset,
        now: Moment,
    ) -> Option<(Start, bool)> {
        let partition = self.owned.get_mut(topic_partition)?;
        let new = partition.begin == Some(partition.next);
        self.epoch += 1;
        partition.epoch = self.epoch;
        partition.next = to;
        partition.seen = now;
        let start =
            Start { topic_partition: topic_partition.clone(), offset: to, epoch: self.epoch };
        Some((start, new))
    }

    /// Notes that a topic partition was looked at, although nothing was collected.
    pub fn saw(&mut self, topic_partition: &TopicPartition, now: Moment) {
        if let Some(partition) = self.owned.get_mut(topic_partition) {
            partition.seen = now;
        }
    }

    /// True if a delta names only topic partitions that are ours (FN-1).
    pub fn may_commit(&self, delta: &OffsetDelta) -> bool {
        delta.topic_partitions().all(|tp| self.owned.contains_key(tp))
    }
}

#[cfg(test)]
mod tests {
    use connector_api::ids::TopicId;

    use super::*;

    fn orders(partition: i32) -> TopicPartition {
        TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition }
    }

    fn at(offset: i64) -> Offset {
        Offset::new(offset).unwrap()
    }

    fn range(start: i64, end: i64) -> OffsetRange {
        OffsetRange::new(at(start), at(end)).unwrap()
    }

    #[test]
    fn a_batch_from_before_a_rewind_is_not_taken() {
        let mut partitions = Partitions::default();
        let start = partitions.take(orders(0), at(10), false, Moment::default());
        assert!(partitions.continues(&orders(0), start.epoch, at(10)));
        partitions.collected(&orders(0), range(10, 20), Moment::default());
        assert!(!partitions.continues(&orders(0), start.epoch, at(10)), "it is collected already");
        let again = partitions.rewind(&OffsetCheckpoint::default(), None);
        assert_eq!(again[0].offset, at(10));
        assert!(!partitions.continues(&orders(0), start.epoch, at(10)), "it is of another epoch");
        assert!(partitions.continues(&orders(0), again[0].epoch, at(10)));
    }

    #[test]
    fn a_rewind_goes_to_what_the_table_holds_and_not_to_what_was_collected() {
        let mut partitions = Partitions::default();
        partitions.take(orders(0), at(10), false, Moment::default());
        partitions.take(orders(1), at(5), false, Moment::default());
        partitions.collected(&orders(0), range(10, 20), Moment::default());
        let stored = [(orders(0), at(15))].into_iter().collect();
        let starts: Vec<i64> =
            partitions.rewind(&stored, None).iter().map(|s| s.offset.get()).collect();
        assert_eq!(starts, [15, 5]);
    }

    #[test]
    fn a_rewind_behind_a_running_commit_goes_to_its_end() {
        let mut partitions = Partitions::default();
        partitions.take(orders(0), at(10), false, Moment::default());
        partitions.collected(&orders(0), range(10, 30), Moment::default());
        let mut ahead = OffsetDelta::default();
        ahead.append(&orders(0), range(10, 20)).unwrap();
        let starts = partitions.rewind(&OffsetCheckpoint::default(), Some(&ahead));
        assert_eq!(starts[0].offset, at(20));
        assert_eq!(partitions.rewind(&OffsetCheckpoint::default(), None)[0].offset, at(10));
    }

    #[test]
    fn a_start_that_the_table_has_not_seen_is_not_noted_for_the_group() {
        let mut partitions = Partitions::default();
        partitions.take(orders(0), at(10), true, Moment::default());
        partitions.take(orders(1), at(5), false, Moment::default());
        let noted = partitions.release(&[orders(0), orders(1)]);
        assert_eq!(noted.iter().collect::<Vec<_>>(), [(&orders(1), at(5))]);
    }

    #[test]
    fn only_the_first_range_of_an_unseen_topic_partition_is_new() {
        let mut partitions = Partitions::default();
        partitions.take(orders(0), at(10), true, Moment::default());
        assert!(partitions.collected(&orders(0), range(10, 20), Moment::default()));
        assert!(!partitions.collected(&orders(0), range(20, 30), Moment::default()));
        partitions.rewind(&OffsetCheckpoint::default(), None);
        assert!(partitions.collected(&orders(0), range(10, 12), Moment::default()), "still unseen");
    }
}
