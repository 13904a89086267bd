//! Whether a stretch of a log holds any record at all.
//!
//! Transaction markers and compacted records have offsets and are never delivered, so a consumer
//! that has read everything may still stand before the log's end. Asking by a consumer of its own,
//! with one topic partition and its end-of-partition event, is the only unambiguous answer:
//! rust-rdkafka's event names the partition's number and not its topic.

use std::time::Duration;

use connector_api::ids::TopicPartition;
use connector_api::offsets::OffsetRange;
use connector_api::{Error, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::client::consumer_config;
use crate::config::KafkaPlan;

/// Polls of 100 ms until the question counts as unanswered.
const POLLS_MAX: u32 = 100;

/// True if Kafka has no readable record in this range. Blocks for up to 10 s.
pub fn holds_no_record(
    plan: &KafkaPlan,
    topic_partition: &TopicPartition,
    range: OffsetRange,
) -> Result<bool> {
    let failed = |e: KafkaError| {
        Error::external(format!("the end of {topic_partition} cannot be read")).with_source(e)
    };
    let mut config = consumer_config(plan);
    // It joins no group: `assign` alone reads without one.
    config.set("enable.partition.eof", "true").remove("group.instance.id");
    let consumer: BaseConsumer = config.create().map_err(failed)?;
    let mut list = TopicPartitionList::new();
    let from = rdkafka::Offset::Offset(range.start().get());
    list.add_partition_offset(&topic_partition.topic, topic_partition.partition, from)
        .map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    for _ in 0..POLLS_MAX {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => return Ok(message.offset() >= range.end().get()),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(true),
            Some(Err(_)) | None => {}
        }
    }
    Ok(false)
}
