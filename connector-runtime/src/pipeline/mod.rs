//! The pipeline of one connector: one task, one `select!`, one short handler per event.
//!
//! It owns everything that decides about records: which topic partitions are ours, which round
//! collects and which one is on its way into the table. CPU work and I/O are [`jobs`]; what it
//! decides is in [`partitions`], [`commit::round`](crate::commit::round),
//! [`commit::settle`](crate::commit::settle) and [`commit::recover`](crate::commit::recover).
//!
//! At most two rounds are alive: one collects while the one `ahead` of it is sealed and committed.
//! A round that fails takes the one behind it along, since that starts where the first would have
//! ended. While a round has to wait for the one ahead, no further record is taken, the source's
//! queue fills, and it pauses reading.
//!
//! Concurrency: not cancel-safe; it is driven to its end, and a dropped pipeline loses nothing,
//! since the table alone says where to go on.

mod jobs;
pub mod partitions;
mod revoke;
mod table;
mod until_end;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use connector_api::clock::{Clock, Moment};
use connector_api::ids::{CommitToken, TopicPartition};
use connector_api::invariants::violations;
use connector_api::offsets::{OffsetCheckpoint, OffsetDelta};
use connector_api::outcome::CommitError;
use connector_api::sink::{OpenTable, TableCommitter, TableMaintenance};
use connector_api::staged::Accounting;
use connector_api::{Context, Error, Result, Retry};
use tokio::sync::watch;

use self::jobs::{BatchResult, Done, Jobs, Purpose};
use self::partitions::Partitions;
use self::revoke::Revoking;
use self::until_end::UntilEnd;
use crate::commit::recover::{PartitionFacts, Recovery, recover};
use crate::commit::round::{Action, CommitRound, Event, SealReason};
use crate::commit::settle::Settle;
use crate::config::{ConnectorPlan, OnBadRecord};
use crate::observe::progress::Progress;
use crate::source::{
    AssignedPartition, Command, KafkaSource, SourceBatch, SourceEvent, Start, Topics,
};
use crate::write::{Lane, LaneSettings};

/// Batches that one job of the lane takes at once.
const BATCHES_PER_JOB: usize = 16;
/// How long the first records wait for others before a schema is inferred from them.
const SAMPLE_AGE: Duration = Duration::from_secs(2);
/// The longest time between two looks at what is due.
const TICK: Duration = Duration::from_millis(250);

/// What a pipeline is given.
#[derive(Debug)]
pub struct PipelineSettings {
    /// What it is to do.
    pub plan: Arc<ConnectorPlan>,
    /// Unique among all workers and runs: part of tokens and file names.
    pub run: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counters to keep.
    pub progress: Arc<Progress>,
    /// Becomes true when the worker is to drain.
    pub drain: watch::Receiver<bool>,
    /// Stop when everything is read that was there at the start.
    pub until_end: bool,
}

/// The state of one connector.
pub struct Pipeline {
    settings: PipelineSettings,
    source: KafkaSource,
    partitions: Partitions,
    jobs: Jobs,
    /// `None` while a job uses it, or while there is no table.
    lane: Option<Box<Lane>>,
    /// `None` while a job uses it, or while there is no table.
    committer: Option<Box<dyn TableCommitter>>,
    maintenance: Option<Arc<dyn TableMaintenance>>,
    table: Table,
    /// Batches that wait for the lane.
    queue: VecDeque<SourceBatch>,
    /// The round that collects.
    round: CommitRound,
    rounds: u64,
    /// The round that is on its way into the table.
    ahead: Option<Ahead>,
    seal_due: Option<SealReason>,
    /// Counts dropped rounds: a job that was started before one brings nothing back.
    generation: u64,
    lane_generation: u64,
    assigning: Option<Assigning>,
    /// The table is looked for.
    opening: bool,
    revoking: Option<Revoking>,
    until_end: Option<UntilEnd>,
    leaving: bool,
    closed: bool,
    warned_of_drops: BTreeSet<&'static str>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pipeline({}, {:?})", self.settings.plan.name, self.partitions)
    }
}

/// A round that is sealed, with what is to be done for it next.
struct Ahead {
    round: CommitRound,
    accounting: Accounting,
    delta: OffsetDelta,
    /// Waits for the committer.
    todo: Option<Action>,
    wake_at: Option<Moment>,
    /// Answers to jobs carry it, so that a late one of a dropped round is not taken for this one's.
    number: u64,
}

/// An assignment that waits for the table's offsets.
struct Assigning {
    partitions: Vec<AssignedPartition>,
    asked: bool,
    reply: SyncSender<Vec<Start>>,
}

#[derive(Debug)]
enum Table {
    /// There is none yet. The first records wait here until there are enough to infer its columns.
    Absent {
        since: Option<Moment>,
        records: usize,
    },
    Creating,
    Open,
}

impl Pipeline {
    /// A pipeline over a source that was just started.
    pub fn new(
        settings: PipelineSettings,
        source: KafkaSource,
        table: Option<OpenTable>,
        topics: &Topics,
    ) -> Result<Self> {
        let until_end = settings.until_end.then(|| UntilEnd::new(topics));
        let round = new_round(&settings, 1);
        let mut pipeline = Self {
            settings,
            source,
            partitions: Partitions::default(),
            jobs: Jobs::default(),
            lane: None,
            committer: None,
            maintenance: None,
            table: Table::Absent { since: None, records: 0 },
            queue: VecDeque::new(),
            round,
            rounds: 1,
            ahead: None,
            seal_due: None,
            generation: 0,
            lane_generation: 0,
            assigning: None,
            opening: false,
            revoking: None,
            until_end,
            leaving: false,
            closed: false,
            warned_of_drops: BTreeSet::new(),
        };
        if let Some(table) = table {
            pipeline.adopt(table)?;
        }
        Ok(pipeline)
    }

    /// Runs until it is drained, or fails. The group is left in any case.
    pub async fn run(mut self) -> Result<()> {
        let outcome = self.turn_until_closed().await;
        // The source may wait for one of these answers in a callback: nobody will give it any more.
        self.assigning = None;
        self.revoking = None;
        self.source.close().await;
        outcome
    }

    async fn turn_until_closed(&mut self) -> Result<()> {
        let mut drain = self.settings.drain.clone();
        loop {
            self.advance()?;
            if self.closed && self.jobs.is_empty() {
                return Ok(());
            }
            let takes_records = self.takes_records();
            tokio::select! {
                biased;
                _ = drain.wait_for(|drain| *drain), if !self.leaving => self.leave(),
                event = self.source.events.recv(), if !self.closed => match event {
                    Some(event) => self.on_source(event)?,
                    None => return Err(Error::internal("the consumer thread ended by itself")),
                },
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.on_done(done?)?,
                Some(batch) = self.source.batches.recv(), if takes_records => self.on_batch(batch),
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Leaves the group. The revoke that follows seals and commits what was read.
    fn leave(&mut self) {
        if !self.leaving {
            self.leaving = true;
            self.command(Command::Leave);
        }
    }

    fn command(&self, command: Command) {
        if let Err(error) = self.source.commands.try_send(command) {
            // The thread ended, or does not listen since a callback waits for us: its events tell.
            tracing::warn!(%error, "the source did not take a command");
        }
    }

    fn now(&self) -> Moment {
        self.settings.clock.now()
    }

    fn takes_records(&self) -> bool {
        let room = match self.table {
            Table::Absent { records, .. } => records < table::SAMPLE_RECORDS_MAX,
            Table::Creating => false,
            Table::Open => self.queue.len() < BATCHES_PER_JOB && self.seal_due.is_none(),
        };
        room && !self.closed
    }

    // ---- Starting what can start -------------------------------------------------------------

    /// Starts every job whose time has come. Called before each wait.
    fn advance(&mut self) -> Result<()> {
        if let Some((id, _)) = violations().first() {
            return Err(Error::internal(format!("invariant {id} was violated; see the log")));
        }
        let now = self.now();
        self.advance_table(now)?;
        self.advance_assignment()?;
        self.advance_ahead(now)?;
        self.advance_revoke(now)?;
        self.advance_until_end(now)?;
        self.advance_collecting(now)
    }

    /// Creates the table once there is a schema for it.
    fn advance_table(&mut self, now: Moment) -> Result<()> {
        let Table::Absent { since: Some(since), records } = self.table else { return Ok(()) };
        if self.opening {
            return Ok(());
        }
        let due = records >= table::SAMPLE_RECORDS_MAX
            || now.since(since) >= SAMPLE_AGE
            || self.settings.plan.schema.columns.is_some()
            || self.revoking.is_some();
        if due {
            let schema = table::schema_for_new(&self.settings.plan, self.queue.make_contiguous())?;
            self.table = Table::Creating;
            self.jobs.create(self.settings.plan.clone(), schema);
        }
        Ok(())
    }

    /// Asks the table where to begin in the topic partitions of the waiting assignment. If there was
    /// no table, another worker may have created it meanwhile.
    fn advance_assignment(&mut self) -> Result<()> {
        let Some(assigning) = self.assigning.as_mut().filter(|assigning| !assigning.asked) else {
            return Ok(());
        };
        if let Table::Absent { .. } = self.table {
            if !self.opening {
                self.opening = true;
                self.jobs.open(self.settings.plan.clone());
            }
        } else if let Some(committer) = self.committer.take() {
            assigning.asked = true;
            self.jobs.checkpoint(committer, Purpose::Assignment);
        }
        Ok(())
    }

    /// Does what the round ahead waits for.
    fn advance_ahead(&mut self, now: Moment) -> Result<()> {
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        if ahead.wake_at.is_some_and(|at| at <= now) {
            ahead.wake_at = None;
            return self.ahead_event(Event::Wake);
        }
        let Some(todo) = ahead.todo.take() else { return Ok(()) };
        let Some(committer) = self.committer.take() else {
            ahead.todo = Some(todo);
            return Ok(());
        };
        let round = ahead.number;
        match todo {
            Action::Commit(commit) => self.jobs.commit(round, committer, commit),
            Action::Find(commit) => self.jobs.find(round, committer, commit),
            _ => self.committer = Some(committer),
        }
        Ok(())
    }

    /// Seals the collecting round if it is due and its turn has come, else feeds the lane.
    fn advance_collecting(&mut self, now: Moment) -> Result<()> {
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
        if self.seal_due.is_none() && lane.encoded_bytes() >= plan.write.file_size_bytes {
            self.seal_due = Some(SealReason::Bytes);
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
    fn next_batches(&mut self) -> Vec<SourceBatch> {
        let mut following = std::collections::BTreeMap::new();
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
                batches.push(batch);
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

    // ---- What happened -----------------------------------------------------------------------

    fn on_batch(&mut self, batch: SourceBatch) {
        let now = self.now();
        if let Table::Absent { since, records } = &mut self.table
            && !batch.records.is_empty()
        {
            since.get_or_insert(now);
            *records += batch.records.len();
        }
        self.queue.push_back(batch);
    }

    fn on_source(&mut self, event: SourceEvent) -> Result<()> {
        match event {
            SourceEvent::Assigned { partitions, reply } => {
                self.end_overdue_revoke()?;
                self.assigning = Some(Assigning { partitions, asked: false, reply });
                Ok(())
            }
            SourceEvent::Revoked { partitions, lost, reply } => {
                self.on_revoked(partitions, lost, reply)
            }
            SourceEvent::Failed(error) => Err(error),
            SourceEvent::Closed => {
                self.closed = true;
                Ok(())
            }
        }
    }

    fn on_done(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Processed { lane, results } => {
                let current = self.take_back(lane);
                let results = results?;
                if current { self.collect(results) } else { Ok(()) }
            }
            Done::Sealed { lane, files } => {
                let current = self.take_back(lane);
                let files = files?;
                if current {
                    self.jobs.stage(self.ahead_number(), files);
                }
                Ok(())
            }
            Done::Staged { round, files } => self.answer(
                round,
                match files {
                    Ok(files) => Event::Staged(files),
                    Err(error) => Event::StagingFailed(error),
                },
            ),
            Done::Committed { round, committer, answer } => {
                self.committer = Some(committer);
                let connector = &self.settings.plan.name;
                let event = match answer {
                    Ok(outcome) => Event::Answered(outcome),
                    Err(CommitError::NotSent(error)) => {
                        tracing::warn!(%connector, %error, "commit not sent");
                        Event::NotSent(error)
                    }
                    Err(CommitError::Unknown(error)) => {
                        tracing::warn!(%connector, %error, "commit without an answer, looking for it");
                        Event::Unanswered(error)
                    }
                };
                self.answer(round, event)
            }
            Done::Looked { round, committer, answer } => {
                self.committer = Some(committer);
                let event = match answer {
                    Ok(lookup) => Event::Looked(lookup),
                    Err(error) => Event::LookupFailed(error),
                };
                self.answer(round, event)
            }
            Done::Checkpoint { committer, stored, purpose } => {
                self.committer = Some(committer);
                let stored = stored.context(|| "failed to read the table's offsets")?;
                match purpose {
                    Purpose::Assignment => self.assign(&stored),
                    Purpose::Elsewhere => self.on_elsewhere(&stored),
                    Purpose::Creation => self.on_first_checkpoint(&stored),
                }
            }
            Done::Tail { topic_partition, range, empty } => {
                self.on_tail(&topic_partition, range, empty)
            }
            Done::Created(table) => {
                self.adopt(table?)?;
                self.check_creation();
                Ok(())
            }
            Done::Opened(table) => {
                self.opening = false;
                match table? {
                    // By `create` we may have got there first.
                    _ if !matches!(self.table, Table::Absent { .. }) => Ok(()),
                    Some(table) => self.adopt(table),
                    None => self.assign(&OffsetCheckpoint::default()),
                }
            }
        }
    }

    /// If another worker was first to create the table, it may have committed records already that
    /// we have begun to read. Asks the table before anything is committed there.
    fn check_creation(&mut self) {
        if let Some(committer) = self.committer.take() {
            self.jobs.checkpoint(committer, Purpose::Creation);
        }
    }

    fn on_first_checkpoint(&mut self, stored: &OffsetCheckpoint) -> Result<()> {
        if stored.iter().next().is_some() {
            self.drop_rounds(stored);
        }
        Ok(())
    }

    /// Takes the lane back. False if the round that the job worked for was dropped meanwhile.
    fn take_back(&mut self, mut lane: Box<Lane>) -> bool {
        let current = self.lane_generation == self.generation;
        if !current {
            lane.abandon();
            self.lane_generation = self.generation;
        }
        self.lane = Some(lane);
        current
    }

    /// Uses an open table from here on.
    fn adopt(&mut self, table: OpenTable) -> Result<()> {
        let plan = &self.settings.plan;
        let request = table::decode_request(plan, &table)?;
        let decoder = plan.decoder.decoder(&request)?;
        let settings = LaneSettings {
            schema: table.schema,
            file_bytes_target: plan.write.file_size_bytes,
            run: self.settings.run.clone(),
            clock: self.settings.clock.clone(),
        };
        self.lane = Some(Box::new(Lane::new(decoder, table.writers, settings)));
        self.committer = Some(table.committer);
        self.maintenance = table.maintenance;
        self.table = Table::Open;
        Ok(())
    }

    /// Decides where to begin in the topic partitions of the waiting assignment.
    fn assign(&mut self, stored: &OffsetCheckpoint) -> Result<()> {
        let Some(Assigning { partitions, reply, .. }) = self.assigning.take() else {
            return Ok(());
        };
        let now = self.now();
        let starts = partitions
            .into_iter()
            .map(|assigned| self.begin(assigned, stored, now))
            .collect::<Result<Vec<Start>>>()?;
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
        let AssignedPartition { topic_partition, log_start, log_end, at_timestamp } = assigned;
        let [ours, without_id] = identities(&topic_partition);
        let next = stored.next(&ours);
        if next.is_none() && ours != without_id && stored.next(&without_id).is_some() {
            return Err(Error::decision(format!(
                "the table knows {topic_partition} from a broker that gave no topic ids, and this one does: \
                 whether it is the same topic cannot be told"
            )));
        }
        let facts = PartitionFacts { stored: next, log_start, log_end, at_timestamp };
        let start_at = &self.settings.plan.source.start_at;
        match recover(&facts, start_at, &topic_partition.topic, topic_partition.partition) {
            Recovery::Resume(at) => Ok(self.partitions.take(topic_partition, at, false, now)),
            Recovery::Begin(at) => Ok(self.partitions.take(topic_partition, at, true, now)),
            Recovery::Gap { stored, log_start } => Err(Error::decision(format!(
                "{topic_partition}: the table stands at offset {stored}, and Kafka's first record is {log_start}: \
                 {} offsets were removed before they were read. Nothing was skipped",
                log_start.get() - stored.get()
            ))),
            Recovery::BeyondEnd { stored, log_end } => Err(Error::decision(format!(
                "{topic_partition}: the table stands at offset {stored}, and Kafka's log ends at {log_end}: \
                 the topic is not the one that the table was filled from"
            ))),
        }
    }

    /// Accounts for batches that are written into the round's files.
    fn collect(&mut self, results: Vec<BatchResult>) -> Result<()> {
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
        if self.settings.plan.on_bad_record == OnBadRecord::Stop {
            return Err(Error::user(format!(
                "record at {} cannot become a row: {}; \
                 correct the producer or the schema, or set `on_bad_record: drop` to leave such records out",
                rejected.origin, rejected.cause
            )));
        }
        for rejected in &result.rejected {
            if self.warned_of_drops.insert(rejected.cause.code) {
                tracing::warn!(
                    connector = %self.settings.plan.name,
                    origin = %rejected.origin,
                    cause = %rejected.cause,
                    "record dropped (further ones of this cause are only counted)"
                );
            }
        }
        Ok(())
    }

    // ---- The round ahead ---------------------------------------------------------------------

    fn ahead_number(&self) -> u64 {
        self.ahead.as_ref().map_or(0, |ahead| ahead.number)
    }

    /// Takes the answer to a job of a round; that of a dropped round changes nothing.
    fn answer(&mut self, round: u64, event: Event) -> Result<()> {
        if round == self.ahead_number() { self.ahead_event(event) } else { Ok(()) }
    }

    /// Feeds an event to the round ahead and does what follows.
    fn ahead_event(&mut self, event: Event) -> Result<()> {
        let now = self.now();
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        let action = ahead.round.on(event, now);
        match action {
            None => Ok(()),
            Some(Action::End(end)) => self.end(end),
            Some(Action::WakeAt(at)) => {
                ahead.wake_at = Some(at);
                Ok(())
            }
            Some(todo) => {
                if let Action::Commit(commit) = &todo {
                    connector_api::check_invariant!(
                        Fn1,
                        self.partitions.may_commit(commit.delta(), &BTreeSet::new()),
                        "commit {} names topic partitions that were handed back",
                        commit.token()
                    );
                }
                ahead.todo = Some(todo);
                Ok(())
            }
        }
    }

    /// Ends the round ahead.
    fn end(&mut self, end: Settle) -> Result<()> {
        let Some(ahead) = self.ahead.take() else { return Ok(()) };
        match end {
            Settle::Settled(receipt) => {
                fail::fail_point!("w5_committed_not_settled", |_| std::process::abort());
                let positions = self.partitions.settled(&ahead.delta);
                let offsets = ahead.delta.iter().map(|(_, range)| range.len()).sum();
                self.settings.progress.settled(&ahead.accounting, offsets);
                tracing::info!(
                    connector = %self.settings.plan.name,
                    version = receipt.version,
                    rows = ahead.accounting.written,
                    rejected = ahead.accounting.rejected,
                    tombstones = ahead.accounting.tombstones,
                    "round settled"
                );
                // Advice may be left out; the room is for what must be heard.
                if self.source.commands.capacity() > self.source.commands.max_capacity() / 2 {
                    self.command(Command::NoteGroupOffsets(positions));
                }
                self.nudge_maintenance(receipt.version);
                Ok(())
            }
            Settle::Reseek { stored, why } => {
                tracing::warn!(
                    connector = %self.settings.plan.name,
                    why,
                    dropped = %ahead.delta,
                    "round dropped, reading again from where the table stands"
                );
                self.drop_rounds(&stored);
                Ok(())
            }
            Settle::Reopen(conflict) => {
                Err(Error::external(conflict.to_string()).with_retry(Retry::AfterRefresh))
            }
            Settle::Stop(error) => Err(error),
        }
    }

    /// Drops both rounds and reads again from where the table stands.
    fn drop_rounds(&mut self, stored: &OffsetCheckpoint) {
        self.ahead = None;
        self.drop_collecting(stored);
    }

    /// Drops the round that collects, with everything that was read for it, and reads again from
    /// where the round ahead ends, or else from where the table stands.
    fn drop_collecting(&mut self, stored: &OffsetCheckpoint) {
        self.generation += 1;
        self.seal_due = None;
        self.rounds += 1;
        self.round = new_round(&self.settings, self.rounds);
        self.queue.clear();
        self.recount_sample();
        if let Some(lane) = &mut self.lane {
            lane.abandon();
            self.lane_generation = self.generation;
        }
        let starts = self.partitions.rewind(stored, self.ahead.as_ref().map(|ahead| &ahead.delta));
        if !starts.is_empty() {
            self.command(Command::Seek(starts));
        }
    }

    /// Counts the records that wait for a table, after some were dropped.
    fn recount_sample(&mut self) {
        if let Table::Absent { since, records } = &mut self.table {
            *records = self.queue.iter().map(|batch| batch.records.len()).sum();
            *since = since.filter(|_| *records > 0);
        }
    }

    fn nudge_maintenance(&self, version: u64) {
        let Some(maintenance) = self.maintenance.clone() else { return };
        let connector = self.settings.plan.name.clone();
        tokio::spawn(async move {
            match maintenance.reconcile(version).await {
                Ok(Some(done)) => tracing::info!(%connector, done, "table maintained"),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%connector, %error, "the table was not maintained, tried again later")
                }
            }
        });
    }
}

fn new_round(settings: &PipelineSettings, number: u64) -> CommitRound {
    let token = CommitToken(format!("{}-{number}", settings.run));
    CommitRound::new(token, settings.plan.fingerprint())
}

/// The identities under which a table may know a topic partition: its own, and the one that it
/// would have at a broker without topic ids.
fn identities(topic_partition: &TopicPartition) -> [TopicPartition; 2] {
    let without_id = TopicPartition {
        topic_id: connector_api::ids::TopicId::Unavailable,
        ..topic_partition.clone()
    };
    [topic_partition.clone(), without_id]
}
