//! The consumer thread: takes records, collects their bytes per topic partition, hands over. It never
//! waits for storage: while the pipeline is behind it takes no records and goes on polling, so that the group
//! keeps it; librdkafka's own queue fills, and fetching stops.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use connector_api::clock::{Clock, Moment};
use connector_api::ids::TopicPartition;
use connector_api::offsets::Offset;
use connector_api::record::RawRecordsBuilder;
use connector_api::{Error, Result, Retry};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::mpsc;

use super::client::{Reports, bound_fetches, consumer_config, refused};
use super::data_queue::{Batch, DataQueue, Taken};
use super::rebalance::{ASK_TIMEOUT, Context, Owned, describe, note_group_offsets};
use super::witness::{self, TopicWitness};
use super::{
    ByteGauge, Cluster, Command, Connected, Source, SourceBatch, SourceEvent, Start, Topics,
};
use crate::config::{ConnectorPlan, KafkaPlan, OnBadRecord, TopicSelection};
use crate::memory::{Held, MemoryShare};

/// A batch is handed over when it has this many bytes,
const BATCH_BYTES: usize = 1024 * 1024;
/// or this many records: a decoded one takes room in each column, however short it is,
const BATCH_RECORDS: usize = 8192;
/// or when its first record is this old,
const BATCH_AGE: Duration = Duration::from_millis(50);
/// or when no record comes for this long.
const IDLE_POLL: Duration = Duration::from_millis(10);
/// Records gather in the queue for so long before they are taken: to be woken for each answer of a broker
/// costs more than to copy what is in it.
const GATHER: Duration = Duration::from_millis(1);
/// What helps where two workers have one id.
const OWN_ID: &str = "give each worker an id of its own, as by `group.instance.id: ${env:HOSTNAME}`, or leave the key out";
/// The longest wait, so that commands and rebalances are heard.
const LONGEST_POLL: Duration = Duration::from_millis(50);
/// Batches that wait for the pipeline.
const BATCHES_QUEUED: usize = 64;
/// Reports that are read to find out why no broker answers.
const REPORTS_MAX: usize = 20;

/// Kafka's brokers, through librdkafka.
#[derive(Debug)]
pub struct Kafka;

#[async_trait]
impl Cluster for Kafka {
    async fn connect(
        &self,
        plan: &Arc<ConnectorPlan>,
        clock: Arc<dyn Clock>,
        memory: &MemoryShare,
    ) -> Result<Connected> {
        let (plan, memory) = (plan.clone(), memory.clone());
        let connecting = tokio::task::spawn_blocking(move || {
            let (prepared, topics) = Prepared::connect(&plan, clock, memory)?;
            Ok(Connected {
                topics,
                witness: Arc::new(TopicWitness::new(&plan.source)?),
                join: Box::new(|| prepared.join()),
            })
        });
        connecting.await.map_err(|e| Error::internal("connecting did not end").with_source(e))?
    }
}

/// A consumer that has not joined its group yet.
pub struct Prepared {
    pub(super) consumer: BaseConsumer<Context>,
    pub(super) plan: KafkaPlan,
    events: mpsc::Receiver<SourceEvent>,
    pub(super) clock: Arc<dyn Clock>,
    memory: MemoryShare,
    /// What the consumer holds by itself.
    fetch_bytes: usize,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.plan.bootstrap_servers)
    }
}

impl Prepared {
    /// Connects, and checks that the brokers answer and the topics are there. Joins no group yet.
    ///
    /// Blocks, for up to 10 s if no broker answers.
    pub fn connect(
        plan: &ConnectorPlan,
        clock: Arc<dyn Clock>,
        memory: MemoryShare,
    ) -> Result<(Self, Topics)> {
        let (sender, events) = mpsc::channel(16);
        let context = Context {
            events: sender,
            owned: Default::default(),
            reports: Reports::default(),
            plan: plan.source.clone(),
            keeps_envelopes: matches!(plan.on_bad_record, OnBadRecord::DeadLetter(_)),
            clock: clock.clone(),
            revoke_timeout: plan.write.revoke_timeout,
            queue: Mutex::default(),
        };
        let mut config = consumer_config(&plan.source);
        let fetch_bytes = bound_fetches(&mut config, &plan.source, &memory)?;
        let consumer: BaseConsumer<Context> =
            config.create_with_context(context).map_err(refused)?;
        let plan = plan.source.clone();
        let prepared = Prepared { consumer, plan, events, clock, memory, fetch_bytes };
        let names = prepared.topic_partitions()?;
        let topics = describe(&prepared.consumer, &names, &prepared.plan)?;
        Ok((prepared, topics))
    }

    /// Joins the group and starts to read.
    pub fn join(self) -> Result<Source> {
        let Self { consumer, plan, events, clock, memory, fetch_bytes } = self;
        let queue = Arc::new(DataQueue::new(consumer.client()));
        *consumer.context().queue() = Some(queue.clone());
        let failed =
            |e: KafkaError| Error::user("the topics cannot be subscribed to").with_source(e);
        match &plan.topics {
            TopicSelection::List(topics) => {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                consumer.subscribe(&topics).map_err(failed)?;
            }
            TopicSelection::Pattern(pattern) => consumer.subscribe(&[pattern]).map_err(failed)?,
        }
        let (batch_sender, batches) = mpsc::channel(BATCHES_QUEUED);
        let (commands, command_receiver) = mpsc::channel(64);
        let poller = Poller {
            consumer,
            commands: command_receiver,
            batches: batch_sender,
            waiting: VecDeque::new(),
            queue,
            gauge: ByteGauge::new(&memory),
            _fetched: memory.hold(fetch_bytes),
            last: 0,
            oldest: None,
            stopped: false,
            clock,
        };
        let thread = std::thread::Builder::new()
            .name("kafka-consumer".into())
            .spawn(move || poller.run())
            .map_err(|e| Error::external("the consumer thread cannot be started").with_source(e))?;
        Ok(Source { batches, events, commands, thread: Some(thread) })
    }
}

impl Prepared {
    /// The topic partitions that the plan selects.
    fn topic_partitions(&self) -> Result<Vec<(String, i32)>> {
        match &self.plan.topics {
            TopicSelection::List(topics) => {
                let mut found = Vec::new();
                for topic in topics {
                    found.extend(self.partitions_of(topic)?);
                }
                Ok(found)
            }
            TopicSelection::Pattern(pattern) => self.matching(pattern),
        }
    }

    fn partitions_of(&self, topic: &str) -> Result<Vec<(String, i32)>> {
        let metadata = self.metadata(Some(topic))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        let error = found.and_then(|t| t.error()).map(RDKafkaErrorCode::from);
        let brokers = &self.plan.bootstrap_servers;
        match (found, error) {
            (Some(found), None) if !found.partitions().is_empty() => {
                Ok(found.partitions().iter().map(|p| (topic.to_owned(), p.id())).collect())
            }
            (_, Some(RDKafkaErrorCode::TopicAuthorizationFailed)) => Err(Error::user(format!(
                "topic `{topic}` at `{brokers}` may not be read: the user needs READ and DESCRIBE on it"
            ))),
            _ => Err(Error::user(format!(
                "topic `{topic}` does not exist at `{brokers}`; create it, or correct `source.kafka.topics`"
            ))),
        }
    }

    fn matching(&self, pattern: &str) -> Result<Vec<(String, i32)>> {
        let regex = regex::Regex::new(pattern)
            .map_err(|e| Error::user("`topics_pattern` is no pattern").with_source(e))?;
        let metadata = self.metadata(None)?;
        let matching = metadata.topics().iter().filter(|t| regex.is_match(t.name()));
        let found: Vec<(String, i32)> = matching
            .flat_map(|t| t.partitions().iter().map(|p| (t.name().to_owned(), p.id())))
            .collect();
        if found.is_empty() {
            tracing::warn!(pattern, "no topic matches yet, waiting for one");
        }
        Ok(found)
    }

    fn metadata(&self, topic: Option<&str>) -> Result<rdkafka::metadata::Metadata> {
        let reports = &self.consumer.context().reports;
        self.consumer.fetch_metadata(topic, ASK_TIMEOUT).inspect(|_| reports.clear()).map_err(
            |error| {
                // What went wrong waits in the consumer's queue.
                for _ in 0..REPORTS_MAX {
                    let polled = self.consumer.poll(IDLE_POLL);
                    if let Some(code) = polled.and_then(|polled| polled.err()?.rdkafka_error_code())
                    {
                        reports.note(code);
                    }
                }
                reports.explain(&self.plan.bootstrap_servers, "no broker answered", &error)
            },
        )
    }
}

/// The state of the consumer thread.
struct Poller {
    /// Where the records come from. It goes before the consumer, which waits for the records in it.
    queue: Arc<DataQueue>,
    consumer: BaseConsumer<Context>,
    commands: mpsc::Receiver<Command>,
    batches: mpsc::Sender<SourceBatch>,
    /// Batches that found the pipeline's queue full. No records are taken while there are any.
    waiting: VecDeque<SourceBatch>,
    gauge: ByteGauge,
    /// What the consumer holds by itself.
    _fetched: Held,
    /// Index of the topic partition of the last record: the next one mostly is of the same.
    last: usize,
    /// When the first record came that was not handed over yet.
    oldest: Option<Moment>,
    /// The connector was told to stop: nothing is taken any more, least of all what lies behind a damaged record.
    stopped: bool,
    clock: Arc<dyn Clock>,
}

impl Poller {
    fn run(mut self) {
        let mut taken = Batch::default();
        loop {
            match self.commands.try_recv() {
                Ok(Command::Leave) | Err(mpsc::error::TryRecvError::Disconnected) => break,
                Ok(command) => self.obey(command),
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            self.pass_on();
            let timeout = match self.stopped || self.is_behind() {
                true => IDLE_POLL,
                false => {
                    self.take(&mut taken);
                    GATHER
                }
            };
            match self.consumer.poll(timeout) {
                Some(Ok(message)) => {
                    let error = strayed(&message);
                    self.stop(error);
                }
                Some(Err(error)) => self.failed(&error),
                None => {}
            }
        }
        drop(taken);
        self.leave();
    }

    fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || !self.gauge.has_room()
    }

    /// Takes what has come, and hands over what is due.
    fn take(&mut self, taken: &mut Batch) {
        let timeout = if self.oldest.is_some() { IDLE_POLL } else { LONGEST_POLL };
        self.queue.take(timeout, taken);
        for record in taken.iter() {
            match record.error() {
                None => self.append(&record),
                Some(code) if self.concerns(&record) => {
                    self.failed(&KafkaError::MessageConsumption(code));
                }
                Some(error) => {
                    tracing::debug!(%error, "of a topic partition that is not ours any more")
                }
            }
            if self.stopped {
                return;
            }
        }
        let now = self.clock.now();
        match self.oldest {
            _ if taken.is_empty() => self.hand_over_all(),
            Some(oldest) if now.since(oldest) >= BATCH_AGE => self.hand_over_all(),
            Some(_) if self.collected() >= self.gauge.most() / 2 => self.hand_over_all(),
            Some(_) => {}
            None => self.oldest = Some(now),
        }
        taken.clear();
    }

    /// Appends a record, and hands over what is full by that.
    #[inline]
    fn append(&mut self, record: &Taken<'_>) {
        let mut owned = self.consumer.context().owned();
        if append(&mut owned, &mut self.last, record) && is_full(&owned[self.last].records) {
            hand_over(&mut owned[self.last], &self.gauge, &mut self.waiting);
        }
    }

    /// False for what came of a topic partition that was handed back since.
    fn concerns(&self, error: &Taken<'_>) -> bool {
        let of = |owned: &Owned| {
            error.is_of(&owned.topic_partition.topic, owned.topic_partition.partition)
        };
        !error.is_of_some() || self.consumer.context().owned().iter().any(of)
    }

    /// Bytes that are not handed over yet.
    fn collected(&self) -> usize {
        self.consumer.context().owned().iter().map(|owned| owned.records.bytes()).sum()
    }

    fn hand_over_all(&mut self) {
        let mut owned = self.consumer.context().owned();
        let filled = owned.iter_mut().filter(|owned| !owned.records.is_empty());
        filled.for_each(|owned| hand_over(owned, &self.gauge, &mut self.waiting));
        self.oldest = None;
    }

    /// Tells the pipeline to end, and takes nothing more.
    fn stop(&mut self, error: Error) {
        self.stopped = true;
        self.consumer.context().send(SourceEvent::Failed(error));
    }

    /// Moves waiting batches into the queue as far as it has room.
    fn pass_on(&mut self) {
        while let Some(batch) = self.waiting.pop_front() {
            match self.batches.try_send(batch) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(batch)) => {
                    self.waiting.push_front(batch);
                    return;
                }
                // The pipeline has ended; `Leave` or the end of the commands follows.
                Err(mpsc::error::TrySendError::Closed(_)) => return self.waiting.clear(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Seek(starts) => self.seek(starts),
            Command::NoteGroupOffsets(positions) => {
                note_group_offsets(&self.consumer, &positions, self.clock.wall_ms());
            }
            Command::Leave => {}
        }
    }

    /// Reads topic partitions from elsewhere. What was read of them and not handed over is dropped;
    /// batches that are under way carry an older epoch.
    fn seek(&mut self, starts: Vec<Start>) {
        let mut list = TopicPartitionList::new();
        for start in starts {
            let mut owned = self.consumer.context().owned();
            let Some(owned) = owned.iter_mut().find(|o| o.topic_partition == start.topic_partition)
            else {
                continue; // revoked since the pipeline asked
            };
            if start.epoch < owned.epoch {
                continue; // revoked and given back since the pipeline asked
            }
            let (topic, partition) =
                (&start.topic_partition.topic, start.topic_partition.partition);
            let offset = rdkafka::Offset::Offset(start.offset.get());
            if let Err(error) = list.add_partition_offset(topic, partition, offset) {
                tracing::error!(%error, "a topic partition cannot be sought");
            }
            owned.epoch = start.epoch;
            owned.records = self.consumer.context().builder(&start);
        }
        if list.count() == 0 {
            return;
        }
        // Each topic partition has an answer of its own. One that went on from where it was would
        // leave a hole that looks like compacted records.
        let sought = self.consumer.seek_partitions(list, ASK_TIMEOUT);
        let sought = sought.and_then(|list| list.elements().iter().try_for_each(|e| e.error()));
        if let Err(error) = sought {
            let error = Error::external("topic partitions cannot be read again").with_source(error);
            self.consumer.context().send(SourceEvent::Failed(error));
        }
    }

    fn failed(&mut self, error: &KafkaError) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                let error = self.out_of_range();
                self.stop(error);
            }
            // librdkafka goes on behind such records, as if they had been compacted away.
            RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::BadCompression => {
                let damaged = Error::external("records came damaged; nothing was skipped");
                self.stop(damaged.with_source(error.clone()));
            }
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed => {
                let error = Error::user(format!("reading was refused: {error}"));
                self.stop(error);
            }
            // Each of the two would throw the other one out again.
            RDKafkaErrorCode::FencedInstanceId => {
                let error = Error::user(format!(
                    "another worker is in the group under the same `group.instance.id`: {error}; {OWN_ID}"
                ));
                self.stop(error);
            }
            // Only with the broker-side protocol (KIP-848): the classic one lets the new member in.
            RDKafkaErrorCode::UnreleasedInstanceId => {
                let error = Error::external(format!(
                    "the group still has a member of this `group.instance.id`: {error}; if it was killed, it is in the group until the brokers miss it (their `group.consumer.session.timeout.ms`); if it lives, {OWN_ID}"
                ));
                self.stop(error.with_retry(Retry::AfterRelease));
            }
            RDKafkaErrorCode::InvalidSessionTimeout => {
                let error = Error::user(format!(
                    "the brokers refuse the session time-out: {error}; set `session.timeout.ms` under `source.kafka.properties` to what their `group.min.session.timeout.ms` and `group.max.session.timeout.ms` allow"
                ));
                self.stop(error);
            }
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => {
                let error = Error::external("the consumer cannot go on").with_source(error.clone());
                self.stop(error);
            }
            // Comes right after a topic was created, and goes.
            RDKafkaErrorCode::UnknownTopicOrPartition => {
                tracing::debug!(%error, "topic not known yet")
            }
            _ => self.consumer.context().reports.error(code),
        }
    }

    /// Says which position Kafka no longer has, and what it has.
    fn out_of_range(&self) -> Error {
        let context = self.consumer.context();
        let identities: Vec<TopicPartition> =
            context.owned().iter().map(|owned| owned.topic_partition.clone()).collect();
        if let Err(error) = witness::same_topics(self.consumer.client(), identities) {
            return error;
        }
        let owned = self.consumer.context().owned();
        let mut found = Vec::new();
        for owned in owned.iter() {
            let TopicPartition { topic, partition, .. } = &owned.topic_partition;
            let next = owned.records.next();
            match self.consumer.fetch_watermarks(topic, *partition, ASK_TIMEOUT) {
                Ok((start, end)) if !(start..=end).contains(&next.get()) => {
                    found.push(format!(
                        "{topic}-{partition} has offsets {start} to {end}, next to read is {next}"
                    ));
                }
                Ok(_) => {}
                Err(error) => found.push(format!("{topic}-{partition}: {error}")),
            }
        }
        // By a new start the assignment decides, which knows the table.
        Error::external(format!(
            "Kafka no longer has records that were to be read next ({})",
            found.join("; ")
        ))
        .with_retry(Retry::AfterRefresh)
    }

    /// Closes the consumer: it revokes everything, and the callback waits for the pipeline's last
    /// commit, then leaves the group.
    fn leave(self) {
        let events = self.consumer.context().events.clone();
        drop(self);
        if events.blocking_send(SourceEvent::Closed).is_err() {
            tracing::debug!("the pipeline has ended before its source");
        }
    }
}

impl Drop for Poller {
    /// Whatever ends the thread, the queue is gone before the consumer.
    fn drop(&mut self) {
        *self.consumer.context().queue() = None;
    }
}

/// A record came by another way than it should, and behind or before others of its topic partition.
fn strayed(message: &BorrowedMessage<'_>) -> Error {
    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
    Error::internal(format!(
        "{topic}-{partition}@{offset} did not come through the queue of records"
    ))
}

fn is_full(records: &RawRecordsBuilder) -> bool {
    records.bytes() >= BATCH_BYTES || records.len() >= BATCH_RECORDS
}

fn hand_over(owned: &mut Owned, gauge: &ByteGauge, waiting: &mut VecDeque<SourceBatch>) {
    let held = gauge.hold(owned.records.bytes());
    waiting.push_back(SourceBatch { records: owned.records.take(), epoch: owned.epoch, held });
}

/// Appends a record to its topic partition. False if it is not ours or already accounted for.
#[inline]
fn append(owned: &mut [Owned], last: &mut usize, record: &Taken<'_>) -> bool {
    let is_it =
        |owned: &Owned| record.is_of(&owned.topic_partition.topic, owned.topic_partition.partition);
    if !owned.get(*last).is_some_and(is_it) {
        match owned.iter().position(is_it) {
            Some(index) => *last = index,
            None => return false,
        }
    }
    let Some(offset) = Offset::new(record.offset()) else { return false };
    let records = &mut owned[*last].records;
    if !records.push(offset, record.timestamp_ms(), record.value()) {
        return false;
    }
    if records.keeps_envelopes() {
        records.envelope(record.key(), record.headers());
    }
    true
}
