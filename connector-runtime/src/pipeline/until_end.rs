//! `--until-end`: the ends of the logs are taken at the start, and the connector stops when the
//! table holds everything before them.
//!
//! What other workers of the connector own counts too, as far as the table says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use connector_api::Result;
use connector_api::clock::Moment;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint};

use super::jobs::Purpose;
use super::{Pipeline, Table};
use crate::commit::round::SealReason;
use crate::source::{Tail, Topics};

/// A topic partition that brings nothing for this long is asked whether there is anything left.
const IDLE: Duration = Duration::from_secs(1);
/// Between two looks at what other workers have done.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is to be read.
#[derive(Debug)]
pub(super) struct UntilEnd {
    ends: BTreeMap<TopicPartition, Offset>,
    /// Topic partitions whose end is reached in the table, by whomever.
    reached: BTreeSet<TopicPartition>,
    asked: BTreeSet<TopicPartition>,
    looked: Moment,
}

impl UntilEnd {
    pub(super) fn new(topics: &Topics) -> Self {
        let ends = topics
            .iter()
            .filter(|topic| topic.log_start != topic.log_end)
            .map(|topic| (topic.topic_partition.clone(), topic.log_end))
            .collect();
        Self { ends, reached: BTreeSet::new(), asked: BTreeSet::new(), looked: Moment::default() }
    }

    fn note(&mut self, stored: &OffsetCheckpoint) {
        for (topic_partition, end) in &self.ends {
            if stored.next(topic_partition).is_some_and(|next| next >= *end) {
                self.reached.insert(topic_partition.clone());
            }
        }
    }

    fn left(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.ends.iter().filter(|(tp, _)| !self.reached.contains(*tp)).map(|(tp, end)| (tp, *end))
    }
}

impl Pipeline {
    /// True for records behind the end that was taken at the start.
    pub(super) fn is_past_end(&self, topic_partition: &TopicPartition, start: Offset) -> bool {
        let end = self.until_end.as_ref().and_then(|until_end| until_end.ends.get(topic_partition));
        end.is_some_and(|end| start >= *end)
    }

    /// Seals when everything of ours is read, and leaves when everything is in the table.
    pub(super) fn advance_until_end(&mut self, now: Moment) -> Result<()> {
        let Some(until_end) = &mut self.until_end else { return Ok(()) };
        if self.leaving {
            return Ok(());
        }
        // What is ours and settled needs no look at the table.
        let settled: OffsetCheckpoint =
            self.partitions.iter().map(|(tp, p)| (tp.clone(), p.settled)).collect();
        until_end.note(&settled);
        let mut read = true;
        let mut idle = None;
        let mut elsewhere = Vec::new();
        for (topic_partition, end) in until_end.left() {
            match self.partitions.get(topic_partition) {
                None => elsewhere.push(topic_partition.clone()),
                Some(partition) if partition.next < end => {
                    read = false;
                    if now.since(partition.seen) >= IDLE
                        && !until_end.asked.contains(topic_partition)
                    {
                        idle = Some(Tail {
                            topic_partition: topic_partition.clone(),
                            next: partition.next,
                            end: Some(end),
                        });
                    }
                }
                Some(_) => {}
            }
        }
        if until_end.reached.len() == until_end.ends.len() {
            self.leave();
            return Ok(());
        }
        if let Some(tail) = idle {
            until_end.asked.insert(tail.topic_partition.clone());
            self.jobs.tail(self.witness.clone(), tail);
        }
        if read && matches!(self.table, Table::Open) && self.round.collecting_since().is_some() {
            self.seal_due.get_or_insert(SealReason::End);
        }
        if read {
            self.look_elsewhere(elsewhere, now);
        }
        Ok(())
    }

    /// Everything of ours is read: looks at what other workers have done with the rest.
    fn look_elsewhere(&mut self, elsewhere: Vec<TopicPartition>, now: Moment) {
        let absent = match self.table {
            Table::Absent { records, .. } => records == 0,
            _ => false,
        };
        if absent && elsewhere.is_empty() {
            // Nothing was read, so there is nothing to commit and no table to commit it to.
            return self.leave();
        }
        let Some(until_end) = &mut self.until_end else { return };
        if elsewhere.is_empty() || now.since(until_end.looked) < LOOK_AGAIN {
            return;
        }
        until_end.looked = now;
        if absent {
            if !self.opening {
                self.opening = true;
                self.jobs.open(self.settings.plan.clone());
            }
        } else if let Some(tables) = self.tables.take() {
            self.jobs.checkpoint(tables, Purpose::Elsewhere);
        }
    }

    /// A topic partition was looked at and may be asked about again.
    pub(super) fn asked(&mut self, topic_partition: &TopicPartition) {
        if let Some(until_end) = &mut self.until_end {
            until_end.asked.remove(topic_partition);
        }
    }

    pub(super) fn on_elsewhere(&mut self, stored: &OffsetCheckpoint) -> Result<()> {
        if let Some(until_end) = &mut self.until_end {
            until_end.note(stored);
        }
        Ok(())
    }
}
