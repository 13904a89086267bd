//! Topic partitions that bring no record: their ends may hold offsets that no record will ever fill.
//!
//! Markers of transactions, aborted records and compacted ones have offsets and are never delivered.
//! Once a topic partition is silent for `idle_commit_interval`, its end is looked at, and such
//! offsets are accounted for. Else a position that falls behind retention would look like a loss.
//! The same look notices a topic that was deleted and created again while nobody wrote to it.

use connector_api::clock::Moment;
use connector_api::ids::TopicPartition;
use connector_api::offsets::OffsetRange;
use connector_api::{Result, Retry};

use super::{Pipeline, Table};
use crate::source::{Command, Tail};

impl Pipeline {
    /// Looks at one topic partition that has been silent for long enough.
    pub(super) fn advance_idle(&mut self, now: Moment) {
        let open = matches!(self.table, Table::Open);
        let busy = self.leaving || self.looking || self.revoking.is_some();
        if !open || self.until_end.is_some() || busy {
            return;
        }
        let interval = self.settings.plan.write.idle_commit_interval;
        let silent = self.partitions.iter().find(|(_, p)| now.since(p.seen) >= interval);
        let Some((topic_partition, partition)) = silent else { return };
        let tail =
            Tail { topic_partition: topic_partition.clone(), next: partition.next, end: None };
        self.partitions.saw(&tail.topic_partition, now);
        self.looking = true;
        self.jobs.tail(self.witness.clone(), tail);
    }

    /// Moves over the end of a log that holds no record.
    pub(super) fn on_tail(
        &mut self,
        topic_partition: &TopicPartition,
        empty: Result<Option<OffsetRange>>,
    ) -> Result<()> {
        self.looking = false;
        self.asked(topic_partition);
        let now = self.now();
        let empty = match empty {
            // The topic is another one, or somebody waits for the end.
            Err(error) if error.retry() == Retry::AfterRefresh || self.until_end.is_some() => {
                return Err(error);
            }
            Err(error) => {
                tracing::debug!(%topic_partition, %error, "the end of a log was not looked at");
                None
            }
            Ok(empty) => empty,
        };
        // What the lane works on may begin in this stretch, and end behind it.
        let busy =
            self.revoking.is_some() || (matches!(self.table, Table::Open) && self.lane.is_none());
        let stands_at = self.partitions.get(topic_partition).map(|partition| partition.next);
        let Some(range) = empty.filter(|range| !busy && stands_at == Some(range.start())) else {
            // Not asked again before it was idle for a while again.
            self.partitions.saw(topic_partition, now);
            return Ok(());
        };
        if let Some((start, new)) = self.partitions.skip(topic_partition, range.end(), now) {
            self.collect_offsets(topic_partition, range.start(), range.end(), new, now)?;
            self.command(Command::Seek(vec![start]));
        }
        Ok(())
    }
}
