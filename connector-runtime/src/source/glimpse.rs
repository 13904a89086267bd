//! A few records, read by a consumer of its own that joins no group and notes nothing down.

use std::collections::BTreeMap;
use std::time::Duration;

use connector_api::clock::Clock;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetRange};
use connector_api::record::{RawRecords, RawRecordsBuilder};
use connector_api::{Error, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::client::{Quiet, consumer_config};
use crate::config::KafkaPlan;

/// The longest poll, so that the limit is kept.
const POLL: Duration = Duration::from_millis(100);

/// What to read of one topic partition.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The topic partition.
    pub topic_partition: TopicPartition,
    /// Where to look.
    pub range: OffsetRange,
    /// The most records to take, from the range's start.
    pub records_max: usize,
}

/// What was read.
#[derive(Debug)]
pub struct Glimpse {
    /// One for each stretch, in their order.
    pub records: Vec<RawRecords>,
    /// False if the time was over first.
    pub complete: bool,
}

/// Reads the stretches. Blocks until all of them are read, or until `limit` is over.
pub fn glimpse(
    plan: &KafkaPlan,
    stretches: &[Stretch],
    limit: Duration,
    clock: &dyn Clock,
) -> Result<Glimpse> {
    let mut reading = Reading::of(stretches);
    if reading.is_over() {
        return Ok(reading.into_glimpse(true));
    }
    let failed = |e: KafkaError| Error::external("records cannot be read").with_source(e);
    let consumer = consumer(plan, stretches).map_err(failed)?;
    let give_up = clock.now() + limit;
    while !reading.is_over() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => reading.take(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => reading.end_of(partition),
            Some(Err(error)) => refused(error)?,
            None => {}
        }
        if clock.now() >= give_up {
            return Ok(reading.into_glimpse(false));
        }
    }
    Ok(reading.into_glimpse(true))
}

/// `assign` alone reads without a group.
fn consumer(plan: &KafkaPlan, stretches: &[Stretch]) -> Result<BaseConsumer<Quiet>, KafkaError> {
    let mut config = consumer_config(plan);
    config.set("enable.partition.eof", "true").remove("group.instance.id");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
    let mut list = TopicPartitionList::new();
    for Stretch { topic_partition, range, .. } in stretches.iter().filter(|s| s.has_records()) {
        let from = rdkafka::Offset::Offset(range.start().get());
        list.add_partition_offset(&topic_partition.topic, topic_partition.partition, from)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// What librdkafka does not get over by itself.
fn refused(error: KafkaError) -> Result<()> {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            Err(Error::external("records were removed while they were to be read; try again"))
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            Err(Error::user(format!("reading was refused: {error}")))
        }
        _ => {
            tracing::debug!(%error, "the consumer reports, and goes on");
            Ok(())
        }
    }
}

impl Stretch {
    fn has_records(&self) -> bool {
        !self.range.is_empty() && self.records_max > 0
    }
}

/// What is read so far.
struct Reading {
    open: Vec<Open>,
    /// Ends of topic partitions by their number: librdkafka's event does not name the topic.
    ends: BTreeMap<i32, usize>,
}

struct Open {
    records: RawRecordsBuilder,
    topic_partition: TopicPartition,
    end: Offset,
    records_max: usize,
    /// False if there is nothing to read, and so nothing that could end.
    assigned: bool,
    done: bool,
}

impl Reading {
    fn of(stretches: &[Stretch]) -> Self {
        let open = stretches.iter().map(|stretch| Open {
            records: RawRecordsBuilder::new(stretch.topic_partition.clone(), stretch.range.start()),
            topic_partition: stretch.topic_partition.clone(),
            end: stretch.range.end(),
            records_max: stretch.records_max,
            assigned: stretch.has_records(),
            done: !stretch.has_records(),
        });
        Self { open: open.collect(), ends: BTreeMap::new() }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let (topic, partition) = (message.topic(), message.partition());
        let is_it = |open: &&mut Open| {
            open.topic_partition.partition == partition && *open.topic_partition.topic == *topic
        };
        let Some(open) = self.open.iter_mut().filter(|open| !open.done).find(is_it) else { return };
        let Some(offset) = Offset::new(message.offset()) else { return };
        if offset < open.end {
            let timestamp = message.timestamp().to_millis().unwrap_or(-1);
            open.records.push(offset, timestamp, message.payload());
        }
        open.done = offset.next() >= open.end || open.records.len() >= open.records_max;
    }

    fn end_of(&mut self, partition: i32) {
        *self.ends.entry(partition).or_default() += 1;
    }

    /// True if nothing more is to come: each stretch has ended, or as many topic partitions of its
    /// number have as there are.
    fn is_over(&self) -> bool {
        self.open.iter().filter(|open| !open.done).all(|open| {
            let number = open.topic_partition.partition;
            let alike = |other: &&Open| other.assigned && other.topic_partition.partition == number;
            self.ends.get(&number).is_some_and(|n| *n >= self.open.iter().filter(alike).count())
        })
    }

    fn into_glimpse(self, complete: bool) -> Glimpse {
        let records = self.open.into_iter().map(|mut open| open.records.take());
        Glimpse { records: records.collect(), complete }
    }
}
