//! Fills a topic.

use std::time::Duration;

use integration_tests::broker::broker;
use integration_tests::wait::let_pass;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

/// Topic partitions of a topic, unless a mode says otherwise.
pub(crate) const PARTITIONS: i32 = 4;

const FLUSH_LIMIT: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_millis(1);

/// Records on their way to a topic, in turns over its partitions.
pub(crate) struct Load {
    topic: String,
    partitions: i32,
    producer: ThreadedProducer<DefaultProducerContext>,
    sent: i64,
    bytes: u64,
}

impl Load {
    pub(crate) fn begin(topic: &str, partitions: i32, compression: &str, linger_ms: u32) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &broker().bootstrap)
            .set("enable.idempotence", "true")
            .set("compression.type", compression)
            .set("linger.ms", linger_ms.to_string())
            .set("batch.size", "1000000")
            .set("queue.buffering.max.kbytes", "262144")
            .create()
            .expect("a valid configuration");
        Self { topic: topic.to_owned(), partitions, producer, sent: 0, bytes: 0 }
    }

    pub(crate) fn send(&mut self, value: &str) {
        self.bytes += value.len() as u64;
        let partition = (self.sent % i64::from(self.partitions)) as i32;
        let mut record: BaseRecord<'_, (), str> =
            BaseRecord::to(&self.topic).partition(partition).payload(value);
        while let Err((error, refused)) = self.producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            let_pass(RETRY);
            record = refused;
        }
        self.sent += 1;
    }

    /// Waits until the broker has all of them.
    pub(crate) fn flush(&self) {
        self.producer.flush(FLUSH_LIMIT).expect("the broker confirms all records");
    }

    /// The same, at the end. Returns the bytes of their values.
    pub(crate) fn end(self) -> u64 {
        self.flush();
        let ends =
            (0..self.partitions).map(|partition| broker().end_offset(&self.topic, partition));
        assert_eq!(ends.sum::<i64>(), self.sent, "records in {}", self.topic);
        self.bytes
    }
}
