//! Fills a topic.

use std::time::Duration;

use integration_tests::broker::broker;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

pub(crate) const PARTITIONS: i32 = 4;

const FLUSH_LIMIT: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_millis(1);

/// Sends records, in turns over the partitions. Returns the bytes of their values.
pub(crate) fn produce(
    topic: &str,
    records: impl Iterator<Item = String>,
    count: usize,
    compression: &str,
) -> u64 {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &broker().bootstrap)
        .set("enable.idempotence", "true")
        .set("compression.type", compression)
        .set("linger.ms", "50")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.kbytes", "262144")
        .create()
        .expect("a valid configuration");
    let mut bytes = 0;
    for (number, value) in records.take(count).enumerate() {
        bytes += value.len() as u64;
        let partition = (number % PARTITIONS as usize) as i32;
        let mut record: BaseRecord<'_, (), String> =
            BaseRecord::to(topic).partition(partition).payload(&value);
        while let Err((error, refused)) = producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            integration_tests::wait::let_pass(RETRY);
            record = refused;
        }
    }
    producer.flush(FLUSH_LIMIT).expect("the broker confirms all records");
    let stored: i64 = (0..PARTITIONS).map(|partition| broker().end_offset(topic, partition)).sum();
    assert_eq!(stored, count as i64, "records in {topic}");
    bytes
}
