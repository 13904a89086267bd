//! Handing topic partitions back (FN-1).
//!
//! | a revoke | what happens before the answer |
//! |---|---|
//! | announced | the round is sealed and committed; after `revoke_timeout` it is dropped, a running commit is waited for |
//! | `lost` | nothing is waited for: somebody else may own them; rounds that have not been sent are dropped |
//!
//! The topic partitions that stay are read again from the table only if a round was dropped.

use std::sync::mpsc::SyncSender;

use connector_api::clock::Moment;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{OffsetCheckpoint, OffsetDelta};
use connector_api::{Error, Result};

use super::ahead::{Ahead, Todo};
use super::{Pipeline, Table};
use crate::commit::round::{Action, Event, SealReason};
use crate::is_planted;

/// A revoke that waits for the rounds that name its topic partitions.
pub(super) struct Revoking {
    partitions: Vec<TopicPartition>,
    reply: SyncSender<OffsetCheckpoint>,
    deadline: Moment,
    fence_closed: bool,
}

impl Revoking {
    /// True if this topic partition is handed back.
    pub(super) fn names(&self, topic_partition: &TopicPartition) -> bool {
        self.partitions.contains(topic_partition)
    }
}

impl Pipeline {
    pub(super) fn on_revoked(
        &mut self,
        partitions: Vec<TopicPartition>,
        lost: bool,
        reply: SyncSender<OffsetCheckpoint>,
    ) -> Result<()> {
        tracing::info!(
            connector = %self.settings.plan.name,
            topic_partitions = partitions.len(),
            lost,
            "topic partitions revoked"
        );
        self.end_overdue_revoke()?;
        let deadline = self.now() + self.settings.plan.write.revoke_timeout;
        let revoking = Revoking { partitions, reply, deadline, fence_closed: false };
        if lost {
            self.revoking = Some(revoking);
            self.close_fence()?;
            return self.answer_revoke();
        }
        self.revoking = Some(revoking);
        Ok(())
    }

    /// Answers a revoke as soon as no round names its topic partitions any more.
    pub(super) fn advance_revoke(&mut self, now: Moment) -> Result<()> {
        let Some(revoking) = &self.revoking else { return Ok(()) };
        if is_planted("mistake_fence_answered_early") {
            return self.answer_revoke();
        }
        let names_one = |delta: &OffsetDelta| {
            revoking.partitions.iter().any(|topic_partition| delta.range(topic_partition).is_some())
        };
        let ahead = self.ahead.as_ref().is_some_and(|ahead| names_one(&ahead.delta));
        let collecting = names_one(&self.round.delta());
        // Records that came before the revoke are on their way through the lane or not decoded yet.
        let under_way = match self.table {
            Table::Absent { records, .. } => records > 0,
            Table::Creating => true,
            Table::Open => {
                self.lane.is_none()
                    || self.queue.iter().any(|batch| {
                        revoking.partitions.contains(batch.records.topic_partition())
                            && self
                                .partitions
                                .get(batch.records.topic_partition())
                                .is_some_and(|p| p.epoch == batch.epoch)
                    })
            }
        };
        if !ahead && !collecting && !under_way {
            return self.answer_revoke();
        }
        // Offsets without records were collected, and there is no table that could take them.
        let hopeless = matches!(self.table, Table::Absent { .. }) && !under_way;
        if (now >= revoking.deadline || hopeless) && !revoking.fence_closed {
            return self.close_fence();
        }
        if !under_way && collecting {
            self.seal_due.get_or_insert(SealReason::Revoke);
        }
        Ok(())
    }

    /// Ends a revoke that the source has stopped waiting for: it has gone on to the next rebalance,
    /// and the same topic partitions may come back with it.
    pub(super) fn end_overdue_revoke(&mut self) -> Result<()> {
        match &self.revoking {
            None => return Ok(()),
            Some(revoking) if !revoking.fence_closed => self.close_fence()?,
            Some(_) => {}
        }
        self.answer_revoke()
    }

    /// Drops every round that has not been sent. One that has been sent is waited for.
    fn close_fence(&mut self) -> Result<()> {
        if let Some(revoking) = &mut self.revoking {
            revoking.fence_closed = true;
        }
        let generation = self.generation;
        self.ahead_event(Event::CloseFence)?;
        // A commit that was asked for and waits for the table has not been sent (FN-1).
        let waits = |ahead: &mut Ahead| {
            matches!(ahead.todo, Some(Todo::Ask(Action::Commit(..)))).then(|| ahead.todo.take())
        };
        if self.ahead.as_mut().and_then(waits).is_some() {
            self.ahead_event(Event::NotSent(Error::external("its fence was closed first")))?;
        }
        if self.generation == generation {
            // No round ahead, or one that was sent: what was read behind it is dropped.
            self.drop_collecting(&OffsetCheckpoint::default())?;
        }
        Ok(())
    }

    fn answer_revoke(&mut self) -> Result<()> {
        let Some(revoking) = self.revoking.take() else { return Ok(()) };
        self.fences.clear();
        let positions = self.partitions.release(&revoking.partitions);
        self.queue.retain(|batch| !revoking.partitions.contains(batch.records.topic_partition()));
        self.recount_sample();
        if revoking.reply.send(positions).is_err() {
            tracing::warn!("a revoke was answered too late; the table decides what counts");
        }
        Ok(())
    }
}
