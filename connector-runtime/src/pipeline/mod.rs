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
//! queue fills, and it takes no more.
//!
//! Concurrency: not cancel-safe; it is driven to its end, and a dropped pipeline loses nothing,
//! since the table alone says where to go on.

mod ahead;
mod assign;
mod collecting;
mod idle;
pub(crate) mod in_place;
mod jobs;
pub mod partitions;
mod revoke;
pub(crate) mod table;
mod until_end;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use connector_api::clock::{Clock, Moment};
use connector_api::ids::{CommitToken, TopicPartition};
use connector_api::invariants::violations;
use connector_api::offsets::OffsetCheckpoint;
use connector_api::outcome::{CommitError, CommitOutcome, TokenLookup};
use connector_api::sink::{OpenTable, TableMaintenance};
use connector_api::{Context, Error, Result, Retry};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;

use self::ahead::{Ahead, Todo};
use self::assign::Assigning;
use self::in_place::{InPlace, Letters};
use self::jobs::{Done, Jobs, Purpose};
use self::partitions::Partitions;
use self::revoke::Revoking;
use self::until_end::UntilEnd;
use crate::blocking::blocking;
use crate::commit::round::{CommitRound, Event, SealReason};
use crate::commit::settle::TableRole;
use crate::commit::tables::{Checkpoints, DeadLetterTable, Tables};
use crate::config::{ConnectorPlan, OnBadRecord};
use crate::cores::Cores;
use crate::memory::{Held, MemoryShare};
use crate::observe::progress::Progress;
use crate::source::{Command, Source, SourceBatch, SourceEvent, Topics, Witness};
use crate::write::{Lane, LaneSettings};

/// Batches that one job of the lane takes at once.
const BATCHES_PER_JOB: usize = 16;
/// How long the first records wait for others before a schema is inferred from them.
const SAMPLE_AGE: Duration = Duration::from_secs(2);
/// How long jobs may go on when the pipeline has ended.
const JOBS_END: Duration = Duration::from_secs(10);
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
    /// The topic partitions that there were when the worker started.
    pub known_at_start: BTreeSet<TopicPartition>,
    /// Dead letters that the anchor does not know of yet, also by an earlier start of the connector.
    pub in_place: Arc<InPlace>,
    /// What the connector may hold.
    pub memory: MemoryShare,
    /// What it decodes and encodes on.
    pub cores: Cores,
}

/// The state of one connector.
pub struct Pipeline {
    settings: PipelineSettings,
    source: Source,
    partitions: Partitions,
    jobs: Jobs,
    /// `None` while a job uses it, or while there is no table.
    lane: Option<Box<Lane>>,
    /// `None` while a job uses them, or while there is no table.
    tables: Option<Tables>,
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
    /// What its files take.
    collecting_memory: Held,
    /// How often a record of the collecting round was rejected, by the code of the cause.
    causes: BTreeMap<&'static str, u64>,
    /// The dead letters of the collecting round.
    letters: Letters,
    /// Counts dropped rounds: a job that was started before one brings nothing back.
    generation: u64,
    lane_generation: u64,
    assigning: Option<Assigning>,
    witness: Arc<dyn Witness>,
    /// When the table was ahead of us since the last rebalance.
    fences: Vec<Moment>,
    /// The table is looked for.
    opening: bool,
    revoking: Option<Revoking>,
    until_end: Option<UntilEnd>,
    /// The end of a silent topic partition is looked at.
    looking: bool,
    /// A command was not taken.
    unheard: bool,
    leaving: bool,
    closed: bool,
    warned_of: BTreeSet<&'static str>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pipeline({}, {:?})", self.settings.plan.name, self.partitions)
    }
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
        source: Source,
        witness: Arc<dyn Witness>,
        table: Option<OpenTable>,
        topics: &Topics,
    ) -> Result<Self> {
        let until_end = settings.until_end.then(|| UntilEnd::new(topics));
        let round = new_round(&settings, 1);
        let collecting_memory = Held::none(&settings.memory);
        let jobs = Jobs::new(settings.cores.clone());
        let mut pipeline = Self {
            settings,
            source,
            partitions: Partitions::default(),
            jobs,
            lane: None,
            tables: None,
            maintenance: None,
            table: Table::Absent { since: None, records: 0 },
            queue: VecDeque::new(),
            round,
            rounds: 1,
            ahead: None,
            seal_due: None,
            collecting_memory,
            causes: BTreeMap::new(),
            letters: Letters::new(),
            generation: 0,
            lane_generation: 0,
            assigning: None,
            witness,
            fences: Vec::new(),
            opening: false,
            revoking: None,
            until_end,
            looking: false,
            unheard: false,
            leaving: false,
            closed: false,
            warned_of: BTreeSet::new(),
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
        let Self { source, mut jobs, witness, .. } = self;
        // What was sent goes on meanwhile, and the upkeep of tables, but not for long.
        let going_on = tokio::time::timeout(JOBS_END, jobs.finish());
        drop(futures::future::join(source.close(), going_on).await);
        drop(jobs);
        // Closing a client waits.
        drop(blocking(move || drop(witness)).await);
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
                done = self.jobs.next() => self.on_done(done?)?,
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

    fn command(&mut self, command: Command) {
        match self.source.commands.try_send(command) {
            Ok(()) => {}
            // Its events tell.
            Err(TrySendError::Closed(_)) => tracing::debug!("the source has ended"),
            // A seek that is not heard would leave its topic partition silent for ever.
            Err(TrySendError::Full(command)) => {
                tracing::warn!(?command, "the source does not take commands");
                self.unheard = true;
            }
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
        if self.unheard {
            return Err(Error::external("the consumer thread does not take commands")
                .with_retry(Retry::AfterRefresh));
        }
        let now = self.now();
        self.advance_table(now)?;
        self.advance_assignment()?;
        self.advance_ahead(now)?;
        self.advance_revoke(now)?;
        self.advance_until_end(now)?;
        self.advance_idle(now);
        self.advance_collecting(now)
    }

    /// Creates the table once there is a schema for it.
    fn advance_table(&mut self, now: Moment) -> Result<()> {
        let Table::Absent { since: Some(since), records } = self.table else { return Ok(()) };
        if self.opening {
            return Ok(());
        }
        let is_full = records >= table::SAMPLE_RECORDS_MAX || self.sample_fills_memory();
        let due = is_full
            || now.since(since) >= SAMPLE_AGE
            || self.settings.plan.schema.columns.is_some()
            || self.revoking.is_some();
        if !due {
            return Ok(());
        }
        let plan = self.settings.plan.clone();
        match table::schema_for_new(&plan, self.queue.make_contiguous())? {
            Some(schema) => {
                self.table = Table::Creating;
                self.jobs.create(plan, schema);
            }
            None if is_full || self.until_end.is_some() => {
                return Err(table::not_inferred(&plan, records));
            }
            None if self.revoking.is_some() || self.leaving => {
                // Whoever gets them next reads them again.
                self.queue.clear();
                self.recount_sample();
            }
            None => {
                tracing::info!(connector = %plan.name, records, "no record with fields yet, waiting for one");
                self.table = Table::Absent { since: Some(now), records };
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
                self.assigning =
                    Some(Assigning { partitions, asked: false, looked_again: false, reply });
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
            Done::Processed { lane, results, left } => {
                let current = self.take_back(lane);
                let results = results?;
                for batch in left.into_iter().rev() {
                    self.queue.push_front(batch);
                }
                if current { self.collect(results) } else { Ok(()) }
            }
            Done::Sealed { lane, sealed } => {
                let current = self.take_back(lane);
                let sealed = sealed?;
                if let Some(ahead) = self.ahead.as_mut().filter(|_| current) {
                    ahead.todo = Some(Todo::Stage(sealed));
                }
                Ok(())
            }
            Done::Staged { round, tables, files } => {
                if tables.is_some() {
                    self.tables = tables;
                }
                self.on_staged(round, files)
            }
            Done::Committed { round, tables, role, answer } => {
                if let (
                    TableRole::DeadLetters,
                    Ok(
                        CommitOutcome::Committed(receipt)
                        | CommitOutcome::AlreadyCommitted(receipt),
                    ),
                ) = (role, &answer)
                {
                    self.dead_letters_committed(&receipt.checkpoint);
                    self.nudge_maintenance(tables.dead_letter_maintenance(), receipt.version);
                }
                self.tables = Some(tables);
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
            Done::Looked { round, tables, role, answer } => {
                if let (TableRole::DeadLetters, Ok(TokenLookup::Found(receipt))) = (role, &answer) {
                    self.dead_letters_committed(&receipt.checkpoint);
                }
                self.tables = Some(tables);
                let event = match answer {
                    Ok(lookup) => Event::Looked(lookup),
                    Err(error) => Event::LookupFailed(error),
                };
                self.answer(round, event)
            }
            Done::Checkpoint { tables, stored, purpose } => {
                self.tables = Some(tables);
                let stored = stored.context(|| "failed to read the table's offsets")?;
                match purpose {
                    Purpose::Assignment => self.look_again(stored),
                    Purpose::Elsewhere => self.on_elsewhere(&stored.anchor),
                    Purpose::Creation => self.on_first_checkpoint(&stored.anchor),
                }
            }
            Done::Tail { topic_partition, empty } => self.on_tail(&topic_partition, empty),
            Done::LogEnds { ends, stored } => self.on_log_ends(ends, &stored),
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
                    None if self.assigning.as_ref().is_some_and(|assigning| assigning.asked) => {
                        self.assign(&Checkpoints::default())
                    }
                    // An assignment that came since looks for itself.
                    None => Ok(()),
                }
            }
        }
    }

    fn dead_letters_committed(&mut self, stored: &OffsetCheckpoint) {
        self.partitions.dead_letters_stored(stored);
        if let Some(ahead) = &self.ahead {
            self.settings.in_place.committed(&ahead.letters, stored);
        }
    }

    /// If another worker was first to create the table, it may have committed records already that
    /// we have begun to read. Asks the table before anything is committed there.
    fn check_creation(&mut self) {
        if let Some(tables) = self.tables.take() {
            self.jobs.checkpoint(tables, Purpose::Creation);
        }
    }

    fn on_first_checkpoint(&mut self, stored: &OffsetCheckpoint) -> Result<()> {
        if stored.iter().next().is_some() {
            self.drop_rounds(stored)?;
        }
        Ok(())
    }

    /// Uses an open table from here on.
    fn adopt(&mut self, table: OpenTable) -> Result<()> {
        let plan = &self.settings.plan;
        let request = table::decode_request(plan, &table.schema.columns)?;
        let decoder = plan.decoder.decoder(&request)?;
        let settings = LaneSettings {
            schema: table.schema,
            file_bytes_target: plan.write.file_size_bytes,
            connector: plan.name.clone(),
            fingerprint: plan.fingerprint(),
            keeps_dead_letters: matches!(plan.on_bad_record, OnBadRecord::DeadLetter(_)),
            run: self.settings.run.clone(),
            clock: self.settings.clock.clone(),
        };
        let dead_letters = match &plan.on_bad_record {
            OnBadRecord::DeadLetter(sink) => Some(DeadLetterTable::new(
                sink.clone(),
                table.id.clone(),
                plan.clone(),
                &self.settings.run,
                self.settings.clock.clone(),
            )),
            OnBadRecord::Stop | OnBadRecord::Drop => None,
        };
        self.lane = Some(Box::new(Lane::new(decoder, table.writers, settings)));
        if let Some(assigning) = &mut self.assigning {
            // It was told to wait for a table, and now there is one to ask.
            assigning.asked = false;
        }
        self.tables = Some(Tables { anchor: table.committer, dead_letters });
        self.maintenance = table.maintenance;
        self.table = Table::Open;
        Ok(())
    }

    /// True if no more can come to infer a schema from: what waits for it takes the room.
    fn sample_fills_memory(&self) -> bool {
        let waiting: usize = self.queue.iter().map(|batch| batch.records.value_bytes()).sum();
        waiting >= self.settings.memory.in_flight_bytes_max() / 2
    }

    /// Counts the records that wait for a table, after some were dropped.
    fn recount_sample(&mut self) {
        if let Table::Absent { since, records } = &mut self.table {
            *records = self.queue.iter().map(|batch| batch.records.len()).sum();
            *since = since.filter(|_| *records > 0);
        }
    }
}

fn new_round(settings: &PipelineSettings, number: u64) -> CommitRound {
    let token = CommitToken(format!("{}-{number}", settings.run));
    CommitRound::new(token, settings.plan.fingerprint())
}
