//! The round that collects: batches become files, until it is sealed or dropped.

use std::collections::BTreeMap;

use connector_api::clock::Moment;
use connector_api::offsets::OffsetCheckpoint;
use connector_api::{Error, Result};

use super::ahead::Ahead;
use super::jobs::{BatchResult, NextBatch};
use super::{BATCHES_PER_JOB, Pipeline, new_round};
use crate::commit::round::{Action, Event, SealReason};
use crate::config::OnBadRecord;
use crate::memory::Held;
use crate::source::Command;
use crate::write::Lane;

impl Pipeline {
    /// Seals the collecting round if it is due and its turn has come, else feeds the lane.
    pub(super) fn advance_collecting(&mut self, now: Moment) -> Result<()> {
        let plan = self.settings.plan.clone();
        if self.seal_due.is_none()
            && let Some(since) = self.round.collecting_since()
        {
            let interval = match self.round.has_rows() {
                true => plan.write.commit_interval,
                false => plan.write.idle_commit_interval,
            };
            self.seal_due = (now.since(since) >= interval).then_some(SealReason::Interval);
        }
        let Some(mut lane) = self.lane.take() else { return Ok(()) };
        if self.seal_due.is_none() && lane.is_full() {
            self.seal_due = Some(SealReason::Bytes);
        }
        // While a round is ahead, its end makes room first.
        let is_short = self.ahead.is_none() && !self.settings.memory.has_room();
        if self.seal_due.is_none() && is_short && self.collecting_memory.bytes() > 0 {
            self.seal_due = Some(SealReason::Memory);
        }
        match self.seal_due {
            Some(reason) if self.ahead.is_none() => {
                self.seal_due = None;
                self.seal(lane, reason)
            }
            None if !self.queue.is_empty() => {
                let batches = self.next_batches();
                self.lane_generation = self.generation;
                if batches.is_empty() {
                    self.lane = Some(lane)
                } else {
                    self.jobs.process(lane, batches)
                }
                Ok(())
            }
            _ => {
                if self.generation != self.lane_generation {
                    lane.abandon();
                    self.lane_generation = self.generation;
                }
                self.lane = Some(lane);
                Ok(())
            }
        }
    }

    /// The next batches that continue what was collected; others were read before a seek or a revoke.
    fn next_batches(&mut self) -> Vec<NextBatch> {
        let mut following = BTreeMap::new();
        let mut batches = Vec::new();
        while batches.len() < BATCHES_PER_JOB
            && let Some(batch) = self.queue.pop_front()
        {
            let (topic_partition, range) = (batch.records.topic_partition(), batch.records.range());
            let continues = match following.get(topic_partition) {
                Some((epoch, next)) => *epoch == batch.epoch && *next == range.start(),
                None => self.partitions.continues(topic_partition, batch.epoch, range.start()),
            };
            if continues && !self.is_past_end(topic_partition, range.start()) {
                following.insert(topic_partition.clone(), (batch.epoch, range.end()));
                let dead_letters_from = self.partitions.dead_letters_from(topic_partition);
                let in_place = self.settings.in_place.within(topic_partition, range);
                batches.push(NextBatch { batch, dead_letters_from, in_place });
            }
        }
        batches
    }

    /// Closes the collecting round and starts the next one.
    fn seal(&mut self, mut lane: Box<Lane>, reason: SealReason) -> Result<()> {
        let now = self.now();
        match self.round.on(Event::Seal(reason), now) {
            Some(Action::FinishFiles) => {
                tracing::debug!(connector = %self.settings.plan.name, ?reason, "round sealed");
                self.rounds += 1;
                let following = new_round(&self.settings, self.rounds);
                let round = std::mem::replace(&mut self.round, following);
                self.ahead = Some(Ahead {
                    delta: round.delta(),
                    accounting: round.accounting(),
                    round,
                    todo: None,
                    wake_at: None,
                    number: self.rounds,
                    causes: std::mem::take(&mut self.causes),
                    letters: std::mem::take(&mut self.letters),
                    _memory: std::mem::replace(
                        &mut self.collecting_memory,
                        Held::none(&self.settings.memory),
                    ),
                });
                self.lane_generation = self.generation;
                self.jobs.seal(lane);
            }
            _ => {
                lane.abandon();
                self.lane = Some(lane);
            }
        }
        Ok(())
    }

    /// Takes the lane back. False if the round that the job worked for was dropped meanwhile.
    pub(super) fn take_back(&mut self, mut lane: Box<Lane>) -> bool {
        let current = self.lane_generation == self.generation;
        if !current {
            lane.abandon();
            self.lane_generation = self.generation;
        }
        self.collecting_memory.resize(lane.memory_bytes());
        self.lane = Some(lane);
        current
    }

    /// Accounts for batches that are written into the round's files.
    pub(super) fn collect(&mut self, results: Vec<BatchResult>) -> Result<()> {
        let now = self.now();
        for result in results {
            self.judge_rejected(&result)?;
            let BatchResult { topic_partition, range, accounting, bytes, .. } = result;
            let new = self.partitions.collected(&topic_partition, range, now);
            self.round
                .collect(&topic_partition, range, accounting, new, now)
                .map_err(|e| Error::internal("records do not continue the round").with_source(e))?;
            self.settings.progress.read(accounting.consumed, bytes);
        }
        Ok(())
    }

    fn judge_rejected(&mut self, result: &BatchResult) -> Result<()> {
        let Some(rejected) = result.rejected.first() else { return Ok(()) };
        let what = match self.settings.plan.on_bad_record {
            OnBadRecord::Stop => {
                return Err(Error::user(format!(
                    "record at {} cannot become a row: {}; correct the producer or the schema, or set \
                     `on_bad_record: dead_letter` to keep such records in a table of their own",
                    rejected.origin, rejected.cause
                )));
            }
            OnBadRecord::DeadLetter(_) => {
                let letters = self.letters.entry(result.topic_partition.clone()).or_default();
                letters.extend(result.rejected.iter().map(|one| one.origin.offset.get()));
                "dead letter"
            }
            OnBadRecord::Drop => "record dropped",
        };
        for rejected in &result.rejected {
            *self.causes.entry(rejected.cause.code).or_default() += 1;
            if self.warned_of.insert(rejected.cause.code) {
                tracing::warn!(
                    connector = %self.settings.plan.name,
                    origin = %rejected.origin,
                    cause = %rejected.cause,
                    "{what} (further ones of this cause are only counted)"
                );
            }
        }
        Ok(())
    }

    /// Drops both rounds and reads again from where the table stands.
    pub(super) fn drop_rounds(&mut self, stored: &OffsetCheckpoint) -> Result<()> {
        self.ahead = None;
        self.drop_collecting(stored)
    }

    /// Drops the round that collects, with everything that was read for it, and reads again from
    /// where the round ahead ends, or else from where the table stands.
    pub(super) fn drop_collecting(&mut self, stored: &OffsetCheckpoint) -> Result<()> {
        self.generation += 1;
        self.seal_due = None;
        self.rounds += 1;
        self.round = new_round(&self.settings, self.rounds);
        self.causes.clear();
        self.letters.clear();
        self.queue.clear();
        self.recount_sample();
        if let Some(lane) = &mut self.lane {
            lane.abandon();
            self.collecting_memory.resize(0);
            self.lane_generation = self.generation;
        }
        let starts = self.partitions.rewind(stored, self.ahead.as_ref().map(|ahead| &ahead.delta));
        if !starts.is_empty() {
            self.command(Command::Seek(starts));
        }
        self.collect_begins()
    }
}
