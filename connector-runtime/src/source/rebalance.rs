//! The group's callbacks: they run on the polling thread, within `poll`.
//!
//! `rebalance` replaces rust-rdkafka's own handler, so nothing else assigns. Offsets go into the
//! assignment itself; no seek follows, and nothing is fetched twice.
//!
//! A revoke is answered only when the pipeline has settled or dropped the running round (FN-1).
//! Heartbeats go on meanwhile. `assignment_lost()` is no permission to commit: it may be false
//! although another member owns the topic partitions already. Only the table's compare-and-swap
//! tells.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connector_api::clock::Clock;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint};
use connector_api::record::RawRecordsBuilder;
use connector_api::{Error, Result};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc;

use super::client::Reports;
use super::data_queue::DataQueue;
use super::topic_id::topic_id;
use super::{AssignedPartition, Noted, SourceEvent, Start, tail};
use crate::config::{KafkaPlan, OnLoss, StartAt};

/// How long one question to the brokers may take.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long and how often a question is asked that a broker may be too dead to answer.
const ASK_SHORT: Duration = Duration::from_secs(1);
const ASKS_SHORT: u32 = 4;
/// How often the group's coordinator is asked while it is not ready, and the pause between.
const ASKS_MAX: u32 = 40;
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// How long the pipeline may take to find out where the table stands.
const ASSIGN_TIMEOUT: Duration = Duration::from_secs(120);

/// A topic partition that this consumer reads.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) epoch: u64,
    pub(super) records: RawRecordsBuilder,
    pub(super) topic_partition: TopicPartition,
}

/// What the consumer's callbacks share with its poll loop. Both run on one thread: the locks are never waited for.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) events: mpsc::Sender<SourceEvent>,
    pub(super) owned: Mutex<Vec<Owned>>,
    pub(super) reports: Reports,
    pub(super) plan: KafkaPlan,
    /// Keys and headers are wanted too.
    pub(super) keeps_envelopes: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) revoke_timeout: Duration,
    /// Where records go, until the consumer closes.
    pub(super) queue: Mutex<Option<Arc<DataQueue>>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, _reason: &str) {
        self.reports.error(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail));
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let done = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            _ => self.revoke(consumer, list),
        };
        if let Err(error) = done {
            // What was not assigned is not read, so nothing is committed that was not decided.
            self.send(SourceEvent::Failed(error));
        }
    }
}

impl Context {
    pub(super) fn owned(&self) -> MutexGuard<'_, Vec<Owned>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Option<Arc<DataQueue>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects the records of a topic partition from a start on.
    pub(super) fn builder(&self, start: &Start) -> RawRecordsBuilder {
        let builder = RawRecordsBuilder::new(start.topic_partition.clone(), start.offset);
        if self.keeps_envelopes { builder.with_envelopes() } else { builder }
    }

    /// Sends an event; if the pipeline is gone, so is everything that the event could have changed.
    pub(super) fn send(&self, event: SourceEvent) {
        if self.events.blocking_send(event).is_err() {
            tracing::debug!("the pipeline has ended before its source");
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> Result<()> {
        let starts = match self.starts(consumer, list) {
            Ok(starts) => starts,
            Err(error) => {
                // The assignment must be answered all the same, with nothing to read.
                give_assignment(consumer, &TopicPartitionList::new())?;
                return Err(error);
            }
        };
        for start in &starts {
            let (topic, partition) =
                (&start.topic_partition.topic, start.topic_partition.partition);
            list.set_partition_offset(
                topic,
                partition,
                rdkafka::Offset::Offset(start.offset.get()),
            )
            .map_err(|e| Error::internal("a start offset cannot be assigned").with_source(e))?;
        }
        if !self.forward(&starts)? {
            // The consumer closes: the assignment must be answered, and is handed back at once.
            return give_assignment(consumer, &TopicPartitionList::new());
        }
        give_assignment(consumer, list)?;
        self.owned().extend(starts.into_iter().map(|start| Owned {
            epoch: start.epoch,
            records: self.builder(&start),
            topic_partition: start.topic_partition,
        }));
        Ok(())
    }

    /// Lets the records of topic partitions go where they are taken from.
    /// False if nobody takes any more.
    fn forward(&self, starts: &[Start]) -> Result<bool> {
        let Some(queue) = &*self.queue() else { return Ok(false) };
        let mut starts = starts.iter().map(|start| &start.topic_partition);
        starts.try_for_each(|of| queue.forward(&of.topic, of.partition))?;
        Ok(true)
    }

    /// Asks the pipeline where to begin. An empty list is normal, and nothing to ask for.
    fn starts(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<Vec<Start>> {
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let partitions = self.describe(consumer, list)?;
        let (reply, answer) = sync_channel(1);
        self.send(SourceEvent::Assigned { partitions, reply });
        match answer.recv_timeout(ASSIGN_TIMEOUT) {
            Ok(starts) => Ok(starts),
            Err(RecvTimeoutError::Timeout) => Err(Error::external(format!(
                "the table's offsets were not read within {} s",
                ASSIGN_TIMEOUT.as_secs()
            ))),
            // The pipeline refused, and has said why itself, or has ended.
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::external("the topic partitions were not accepted"))
            }
        }
    }

    fn describe(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<Vec<AssignedPartition>> {
        let names: Vec<(String, i32)> =
            list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        describe(consumer, &names, &self.plan)
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<()> {
        let revoked: Vec<TopicPartition> = {
            let mut owned = self.owned();
            let gone = |o: &Owned| {
                list.find_partition(&o.topic_partition.topic, o.topic_partition.partition).is_some()
            };
            // Records that were not handed over yet are dropped: the next owner reads them.
            owned.extract_if(.., |o| gone(o)).map(|o| o.topic_partition).collect()
        };
        if !revoked.is_empty() {
            let lost = consumer.assignment_lost();
            let (reply, answer) = sync_channel(1);
            self.send(SourceEvent::Revoked { partitions: revoked, lost, reply });
            // Twice the time-out: the pipeline itself drops the round after one.
            match answer.recv_timeout(self.revoke_timeout * 2) {
                Ok(positions) if !lost => {
                    note_group_offsets(consumer, &positions, self.clock.wall_ms());
                }
                Ok(_) | Err(RecvTimeoutError::Disconnected) => {}
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!(
                        "a commit still runs after a revoke; the table decides whether it counts"
                    );
                }
            }
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            _ => consumer.unassign(),
        }
        .map_err(|e| Error::external("topic partitions cannot be handed back").with_source(e))
    }
}

fn give_assignment(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> Result<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
    .map_err(|e| Error::external("topic partitions cannot be assigned").with_source(e))
}

/// Asks the brokers what the pipeline needs to decide where to begin.
pub(super) fn describe(
    consumer: &BaseConsumer<Context>,
    partitions: &[(String, i32)],
    plan: &KafkaPlan,
) -> Result<Vec<AssignedPartition>> {
    let noted = group_offsets(consumer, partitions)?;
    let mut ids = std::collections::BTreeMap::new();
    let mut described = Vec::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        let topic_id = match ids.get(topic) {
            Some(id) => Clone::clone(id),
            None => {
                let id = topic_id(consumer.client(), topic, ASK_TIMEOUT)?;
                ids.insert(topic.clone(), id.clone());
                id
            }
        };
        let failed = |e: KafkaError| {
            Error::external(format!("the log of {topic}-{partition} cannot be asked for"))
                .with_source(e)
        };
        let (start, end) =
            ask_again(|timeout| consumer.fetch_watermarks(topic, *partition, timeout))
                .map_err(failed)?;
        let at_timestamp = match plan.start_at {
            StartAt::Timestamp { ms } => {
                at_timestamp(consumer, topic, *partition, ms).map_err(failed)?
            }
            _ => None,
        };
        let topic_partition =
            TopicPartition { topic: topic.as_str().into(), topic_id, partition: *partition };
        let noted = match noted.find_partition(topic, *partition) {
            Some(note) => {
                // Without this a refusal would read like "nothing noted".
                note.error().map_err(failed)?;
                read_note(&note, &topic_partition)
            }
            None => None,
        };
        let log_start = Offset::new(start).unwrap_or(Offset::ZERO);
        let explained = described.iter().any(|one: &AssignedPartition| one.log_start_ms.is_some());
        let stops = plan.on_gap == OnLoss::Stop && !explained;
        let log_start_ms = match &noted {
            // For the message of the first gap, at which we stop.
            Some(noted) if noted.next < log_start && stops => {
                tail::first_record_ms(plan, &topic_partition, log_start)
            }
            _ => None,
        };
        described.push(AssignedPartition {
            topic_partition,
            log_start,
            log_end: Offset::new(end).unwrap_or(Offset::ZERO),
            at_timestamp,
            noted,
            log_start_ms,
        });
    }
    Ok(described)
}

/// Asks with short patience first: a question that was sent to a leader which has just died gets no answer,
/// and the next one goes to the new leader.
fn ask_again<T>(ask: impl Fn(Duration) -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    for _ in 0..ASKS_SHORT {
        match ask(ASK_SHORT) {
            Err(error) => tracing::debug!(%error, "asked again"),
            answer => return answer,
        }
    }
    ask(ASK_TIMEOUT)
}

fn at_timestamp(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partition: i32,
    ms: i64,
) -> Result<Option<Offset>, KafkaError> {
    let mut question = TopicPartitionList::new();
    question.add_partition_offset(topic, partition, rdkafka::Offset::Offset(ms))?;
    let answer = consumer.offsets_for_times(question, ASK_TIMEOUT)?;
    let Some(found) = answer.find_partition(topic, partition) else { return Ok(None) };
    // Without this a refusal would read like "no such record", and all records be passed over.
    found.error()?;
    Ok(match found.offset() {
        rdkafka::Offset::Offset(offset) => Offset::new(offset),
        _ => None,
    })
}

/// How our notes begin: `alluvium/1 topic=<topic id> at=<milliseconds since 1970 UTC>`.
const NOTE: &str = "alluvium/1 ";
/// Stands for the topic id in a note that only asks whether the group takes any: it says nothing.
pub(super) const PROBE: &str = "probe";

/// Notes positions down for the group. They are advice: a failure loses nothing.
pub(super) fn note_group_offsets(
    consumer: &BaseConsumer<Context>,
    positions: &OffsetCheckpoint,
    wall_ms: i64,
) {
    let noted = notes(positions, wall_ms, false).and_then(|list| match list.count() {
        0 => Ok(()),
        _ => consumer.commit(&list, CommitMode::Async),
    });
    if let Err(error) = noted {
        tracing::debug!(%error, "group offsets not noted");
    }
}

/// Positions as they are noted down.
pub(super) fn notes(
    positions: &OffsetCheckpoint,
    wall_ms: i64,
    is_probe: bool,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (topic_partition, next) in positions.iter() {
        let (topic, partition) = (&topic_partition.topic, topic_partition.partition);
        let mut note = list.add_partition(topic, partition);
        let topic_id = if is_probe { PROBE } else { &topic_partition.topic_id.to_string() };
        note.set_metadata(format!("{NOTE}topic={topic_id} at={wall_ms}"));
        note.set_offset(rdkafka::Offset::Offset(next.get()))?;
    }
    Ok(list)
}

/// What is noted down for the group.
#[allow(
    clippy::disallowed_methods,
    reason = "on the consumer's own thread; nothing tells when a coordinator is ready but to ask again"
)]
fn group_offsets(
    consumer: &BaseConsumer<Context>,
    partitions: &[(String, i32)],
) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    if list.count() == 0 {
        return Ok(list);
    }
    let failed =
        |e: KafkaError| Error::external("the group's offsets cannot be asked for").with_source(e);
    let mut tried = 1;
    loop {
        match consumer.committed_offsets(list.clone(), ASK_TIMEOUT) {
            Err(error) if tried < ASKS_MAX && is_settling(&error) => {
                tracing::debug!(%error, tried, "the group's coordinator is not ready yet");
                std::thread::sleep(ASK_PAUSE);
                tried += 1;
            }
            answer => return answer.map_err(failed),
        }
    }
}

/// True while the group's coordinator starts or moves.
fn is_settling(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let code = error.rdkafka_error_code();
    matches!(code, Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator))
}

/// Reads a note. One about a topic that had the same name and was deleted says nothing of this one.
fn read_note(note: &TopicPartitionListElem<'_>, topic_partition: &TopicPartition) -> Option<Noted> {
    let rdkafka::Offset::Offset(next) = note.offset() else { return None };
    let next = Offset::new(next)?;
    let Some(ours) = note.metadata().strip_prefix(NOTE) else {
        return Some(Noted { next, wall_ms: None });
    };
    let word = |key: &str| ours.split(' ').find_map(|word| word.strip_prefix(key));
    let same_topic = word("topic=") == Some(topic_partition.topic_id.to_string().as_str());
    let wall_ms = word("at=").and_then(|ms| ms.parse().ok());
    same_topic.then_some(Noted { next, wall_ms })
}
