//! Whether a stretch of a log holds any record at all.
//!
//! Transaction markers and compacted records have offsets and are never delivered, so a consumer
//! that has read everything may still stand before the log's end. Asking by a consumer of its own,
//! with one topic partition and its end-of-partition event, is the only unambiguous answer:
//! rust-rdkafka's event names the partition's number and not its topic.

use std::time::Duration;

use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetRange};
use connector_api::{Error, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::Tail;
use super::client::{Quiet, consumer_config};
use super::witness::same_topics;
use crate::config::KafkaPlan;

/// Polls of 100 ms until the question counts as unanswered.
const POLLS_MAX: u32 = 100;
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers [`Witness::tail`](super::Witness::tail). Blocks for up to 20 s.
pub(super) fn tail(
    client: &BaseConsumer<Quiet>,
    plan: &KafkaPlan,
    tail: &Tail,
) -> Result<Option<OffsetRange>> {
    let Tail { topic_partition, next, end } = tail;
    same_topics(client.client(), vec![topic_partition.clone()])?;
    let end = match end {
        Some(end) => *end,
        None => log_end(client, topic_partition)?.max(*next),
    };
    let Some(range) = OffsetRange::new(*next, end).filter(|range| !range.is_empty()) else {
        return Ok(None);
    };
    let found = read_one(plan, topic_partition, *next)?;
    Ok(match found {
        Found::Record { offset, .. } if offset < end => None,
        Found::Record { .. } | Found::End => Some(range),
        Found::NoAnswer => None,
    })
}

/// Answers [`Witness::log_end`](super::Witness::log_end). Blocks for up to 10 s.
pub(super) fn log_end(client: &BaseConsumer<Quiet>, of: &TopicPartition) -> Result<Offset> {
    let ends = client.fetch_watermarks(&of.topic, of.partition, ASK_TIMEOUT);
    let (_, end) = ends.map_err(|e| unreadable(of, e))?;
    Ok(Offset::new(end).unwrap_or(Offset::ZERO))
}

/// When the first record from an offset on was made: milliseconds since 1970 UTC.
pub(super) fn first_record_ms(
    plan: &KafkaPlan,
    topic_partition: &TopicPartition,
    from: Offset,
) -> Option<i64> {
    match read_one(plan, topic_partition, from) {
        Ok(Found::Record { timestamp_ms, .. }) => timestamp_ms,
        Ok(Found::End | Found::NoAnswer) => None,
        Err(error) => {
            tracing::debug!(%error, "the first record's time is not known");
            None
        }
    }
}

enum Found {
    Record {
        offset: Offset,
        timestamp_ms: Option<i64>,
    },
    /// No readable record up to the end of the log.
    End,
    NoAnswer,
}

/// Reads the first record from an offset on, by a consumer in no group. Blocks for up to 10 s.
fn read_one(plan: &KafkaPlan, topic_partition: &TopicPartition, from: Offset) -> Result<Found> {
    let failed = |e: KafkaError| unreadable(topic_partition, e);
    let mut config = consumer_config(plan);
    // It joins no group: `assign` alone reads without one.
    config.set("enable.partition.eof", "true").remove("group.instance.id");
    // A follower may not have yet what the leader's end of the log counts.
    config.remove("client.rack");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(failed)?;
    let mut list = TopicPartitionList::new();
    let offset = rdkafka::Offset::Offset(from.get());
    list.add_partition_offset(&topic_partition.topic, topic_partition.partition, offset)
        .map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    for _ in 0..POLLS_MAX {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let offset = Offset::new(message.offset()).unwrap_or(from);
                return Ok(Found::Record { offset, timestamp_ms: message.timestamp().to_millis() });
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Found::End),
            Some(Err(_)) | None => {}
        }
    }
    Ok(Found::NoAnswer)
}

fn unreadable(topic_partition: &TopicPartition, error: KafkaError) -> Error {
    Error::external(format!("the end of {topic_partition} cannot be read")).with_source(error)
}
