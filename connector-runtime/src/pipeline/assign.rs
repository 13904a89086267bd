//! Topic partitions that are given to us: where to begin in each, or why not.

use std::sync::mpsc::SyncSender;

use connector_api::Result;
use connector_api::clock::Moment;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint, OffsetRange};
use connector_api::staged::{Accounting, Loss};
use connector_api::{Context, Error};

use super::jobs::Purpose;
use super::{Pipeline, Table};
use crate::commit::recover::{PartitionFacts, Recovery, recover};
use crate::commit::refusals;
use crate::commit::round::SealReason;
use crate::commit::tables::Checkpoints;
use crate::config::{OnLoss, StartAt};
use crate::source::{AssignedPartition, Start};

/// An assignment that waits for the table's offsets.
pub(super) struct Assigning {
    pub(super) partitions: Vec<AssignedPartition>,
    pub(super) asked: bool,
    /// The ends of logs were looked at again, behind which the table stands.
    pub(super) looked_again: bool,
    pub(super) reply: SyncSender<Vec<Start>>,
}

impl Pipeline {
    /// Asks the tables where to begin in the topic partitions of the waiting assignment. If there was
    /// no table, another worker may have created it meanwhile.
    pub(super) fn advance_assignment(&mut self) -> Result<()> {
        let Some(assigning) = self.assigning.as_mut().filter(|assigning| !assigning.asked) else {
            return Ok(());
        };
        if let Table::Absent { .. } = self.table {
            if !self.opening {
                self.opening = true;
                assigning.asked = true;
                self.jobs.open(self.settings.plan.clone());
            }
        } else if let Some(tables) = self.tables.take() {
            assigning.asked = true;
            self.jobs.checkpoint(tables, Purpose::Assignment);
        }
        Ok(())
    }

    /// Looks once more at logs that end before where the table stands. They were looked at before the
    /// table was read: another worker may have read and committed further between.
    pub(super) fn look_again(&mut self, stored: Checkpoints) -> Result<()> {
        let Some(assigning) = &mut self.assigning else { return Ok(()) };
        let is_behind = |one: &&AssignedPartition| {
            stored.anchor.next(&one.topic_partition).is_some_and(|next| next > one.log_end)
        };
        let behind: Vec<TopicPartition> = assigning
            .partitions
            .iter()
            .filter(is_behind)
            .map(|one| one.topic_partition.clone())
            .collect();
        if behind.is_empty() {
            return self.assign(&stored);
        }
        assigning.looked_again = true;
        self.jobs.log_ends(self.witness.clone(), behind, stored);
        Ok(())
    }

    /// Decides by the ends of logs as they are now.
    pub(super) fn on_log_ends(
        &mut self,
        ends: Result<Vec<(TopicPartition, Offset)>>,
        stored: &Checkpoints,
    ) -> Result<()> {
        // Another assignment may have come, and will look for itself.
        let Some(assigning) = self.assigning.as_mut().filter(|waiting| waiting.looked_again) else {
            return Ok(());
        };
        for (topic_partition, end) in ends? {
            let mut partitions = assigning.partitions.iter_mut();
            if let Some(one) = partitions.find(|one| one.topic_partition == topic_partition) {
                one.log_end = end;
            }
        }
        self.assign(stored)
    }

    /// Decides where to begin in the topic partitions of the waiting assignment.
    pub(super) fn assign(&mut self, stored: &Checkpoints) -> Result<()> {
        let Some(Assigning { partitions, reply, .. }) = self.assigning.take() else {
            return Ok(());
        };
        self.fences.clear();
        let now = self.now();
        let starts = partitions
            .into_iter()
            .map(|assigned| self.begin(assigned, &stored.anchor, now))
            .collect::<Result<Vec<Start>>>()?;
        // Those that stay know better: a commit of ours may have moved them since.
        for Start { topic_partition: tp, .. } in &starts {
            let (anchor, dead_letters) = (stored.anchor.next(tp), stored.dead_letters.next(tp));
            self.settings.in_place.assigned(tp, anchor, dead_letters);
        }
        let given = |tp: &TopicPartition| starts.iter().any(|start| start.topic_partition == *tp);
        let dead_letters = stored.dead_letters.iter().filter(|(tp, _)| given(tp));
        let dead_letters = dead_letters.map(|(tp, next)| (tp.clone(), next)).collect();
        self.partitions.dead_letters_stored(&dead_letters);
        if let Some(first) = starts.first() {
            tracing::info!(
                connector = %self.settings.plan.name,
                topic_partitions = starts.len(),
                first = %first.topic_partition,
                offset = first.offset.get(),
                "topic partitions assigned"
            );
        }
        if reply.send(starts).is_err() {
            tracing::debug!("the source did not wait for its start offsets");
        }
        Ok(())
    }

    fn begin(
        &mut self,
        assigned: AssignedPartition,
        stored: &OffsetCheckpoint,
        now: Moment,
    ) -> Result<Start> {
        let added = !self.settings.known_at_start.contains(&assigned.topic_partition);
        let facts = PartitionFacts::of(&assigned, stored, added);
        let plan = self.settings.plan.clone();
        let topic_partition = assigned.topic_partition.clone();
        match recover(&facts, &plan.source.start_at) {
            Recovery::Resume(at) => Ok(self.partitions.take(topic_partition, at, false, now)),
            Recovery::Begin(at) => self.begin_new(topic_partition, at, now),
            Recovery::Gap { stored, log_start } if plan.source.on_gap == OnLoss::Continue => {
                self.pass_over(topic_partition, stored, log_start, now)
            }
            Recovery::Recreated { was, stored }
                if plan.source.on_topic_recreated == OnLoss::Continue =>
            {
                let loss = Loss::TopicRecreated { topic_partition, was, stored };
                tracing::warn!(connector = %plan.name, %loss, "reading on in the new topic");
                let topic_partition = assigned.topic_partition;
                let at = facts.log_start;
                let start = self.partitions.take(topic_partition.clone(), at, true, now);
                self.partitions.note_loss(&topic_partition, loss);
                self.collect_begin(&topic_partition, at, now)?;
                Ok(start)
            }
            refused => Err(refusals::explain(&plan, &assigned, refused)),
        }
    }

    /// Begins in a topic partition that the table has never seen. A position that would be another
    /// one after a crash is committed at once; where columns have to be inferred first, with the
    /// first records.
    fn begin_new(
        &mut self,
        topic_partition: TopicPartition,
        at: Offset,
        now: Moment,
    ) -> Result<Start> {
        let start = self.partitions.take(topic_partition.clone(), at, true, now);
        if self.start_moves() {
            self.collect_begin(&topic_partition, at, now)?;
        }
        Ok(start)
    }

    /// True if `start_at` is another place when it is asked for again.
    fn start_moves(&self) -> bool {
        match self.settings.plan.source.start_at {
            StartAt::Latest | StartAt::Timestamp { .. } => true,
            StartAt::Earliest | StartAt::Offsets(_) => false,
        }
    }

    /// Puts a start position into the round, and what is passed over by it.
    fn collect_begin(
        &mut self,
        topic_partition: &TopicPartition,
        at: Offset,
        now: Moment,
    ) -> Result<()> {
        self.collect_offsets(topic_partition, at, at, true, now)?;
        let partition = self.partitions.get(topic_partition);
        if let Some(loss) = partition.and_then(|partition| partition.loss.clone()) {
            self.round.note_loss(loss);
        }
        self.seal_due.get_or_insert(SealReason::Begin);
        if let Table::Absent { since, .. } = &mut self.table
            && self.settings.plan.schema.columns.is_some()
        {
            // The table need not wait for records.
            since.get_or_insert(now);
        }
        Ok(())
    }

    /// Puts the start positions that went with a dropped round into the new one.
    pub(super) fn collect_begins(&mut self) -> Result<()> {
        let (now, moves) = (self.now(), self.start_moves());
        let begins: Vec<(TopicPartition, Offset)> = self
            .partitions
            .iter()
            .filter(|(_, p)| p.begin == Some(p.next) && (moves || p.loss.is_some()))
            .filter(|(tp, _)| !self.revoking.as_ref().is_some_and(|revoking| revoking.names(tp)))
            .map(|(tp, p)| (tp.clone(), p.next))
            .collect();
        begins.into_iter().try_for_each(|(tp, at)| self.collect_begin(&tp, at, now))
    }

    /// Reads on behind records that Kafka no longer has. The commit says so.
    fn pass_over(
        &mut self,
        topic_partition: TopicPartition,
        from: Offset,
        to: Offset,
        now: Moment,
    ) -> Result<Start> {
        self.partitions.take(topic_partition.clone(), from, false, now);
        self.collect_offsets(&topic_partition, from, to, false, now)?;
        if let Some(range) = OffsetRange::new(from, to) {
            let loss = Loss::Gap { topic_partition: topic_partition.clone(), range };
            tracing::warn!(connector = %self.settings.plan.name, %loss, "reading on behind a gap");
            self.round.note_loss(loss);
        }
        let skipped = self.partitions.skip(&topic_partition, to, now);
        skipped.map(|(start, _)| start).ok_or_else(|| Error::internal("a topic partition got lost"))
    }

    /// Accounts for offsets without records.
    pub(super) fn collect_offsets(
        &mut self,
        topic_partition: &TopicPartition,
        from: Offset,
        to: Offset,
        new: bool,
        now: Moment,
    ) -> Result<()> {
        let Some(range) = OffsetRange::new(from, to) else { return Ok(()) };
        self.round
            .collect(topic_partition, range, Accounting::default(), new, now)
            .map_err(|e| Error::internal("offsets do not continue the round").with_source(e))
            .context(|| topic_partition)
    }
}
