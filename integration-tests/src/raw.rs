//! Produces records of any bytes: values that are no JSON, tombstones, keys, headers, transactions.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::broker::broker;

const FLUSH_LIMIT: Duration = Duration::from_secs(120);

/// A record of any bytes.
#[derive(Debug, Clone, Default)]
pub struct RawRecord {
    /// Which partition it goes to.
    pub partition: i32,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl RawRecord {
    /// A record with a value alone.
    pub fn of(partition: i32, value: impl Into<Vec<u8>>) -> RawRecord {
        RawRecord { partition, value: Some(value.into()), ..RawRecord::default() }
    }
}

/// Where a record lies.
pub type Place = (i32, i64);

impl std::fmt::Debug for RawProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawProducer({})", self.topic)
    }
}

/// A producer to one topic that tells where each record went.
pub struct RawProducer {
    topic: String,
    producer: BaseProducer<Deliveries>,
    sent: usize,
}

#[derive(Default)]
struct Deliveries(Mutex<Vec<(usize, Place)>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        match result {
            Ok(message) => {
                self.0.lock().unwrap().push((index, (message.partition(), message.offset())));
            }
            Err((error, _)) => eprintln!("a record was not delivered: {error}"),
        }
    }
}

impl RawProducer {
    /// A producer with further librdkafka properties.
    pub fn new(topic: &str, properties: &[(&str, &str)]) -> RawProducer {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &broker().bootstrap)
            .set("enable.idempotence", "true")
            .set("message.max.bytes", "8000000")
            .set("compression.type", "lz4")
            .set("linger.ms", "20");
        for (key, value) in properties {
            config.set(*key, *value);
        }
        let producer =
            config.create_with_context(Deliveries::default()).expect("a valid configuration");
        RawProducer { topic: topic.to_owned(), producer, sent: 0 }
    }

    /// Begins transactions. The producer needs a `transactional.id`.
    pub fn init_transactions(&self) {
        self.producer.init_transactions(FLUSH_LIMIT).expect("the broker has transactions");
    }

    /// Produces the records in a transaction that stays open.
    pub fn begin_transaction(&mut self, records: &[RawRecord]) -> Vec<Place> {
        self.producer.begin_transaction().unwrap();
        self.produce(records)
    }

    /// Commits the open transaction.
    pub fn commit_transaction(&self) {
        self.producer.commit_transaction(FLUSH_LIMIT).unwrap();
    }

    /// Produces the records in a transaction of their own, and commits or aborts it.
    pub fn produce_in_transaction(&mut self, records: &[RawRecord], commit: bool) -> Vec<Place> {
        self.producer.begin_transaction().unwrap();
        let places = self.produce(records);
        if commit {
            self.producer.commit_transaction(FLUSH_LIMIT).unwrap();
        } else {
            self.producer.abort_transaction(FLUSH_LIMIT).unwrap();
        }
        places
    }

    /// Produces the records and waits until the broker has confirmed each. Says where they went, in their order.
    pub fn produce(&mut self, records: &[RawRecord]) -> Vec<Place> {
        records.iter().for_each(|record| self.send(record));
        self.producer.flush(FLUSH_LIMIT).expect("the broker confirms all records");
        let mut delivered = std::mem::take(&mut *self.producer.context().0.lock().unwrap());
        assert_eq!(delivered.len(), std::mem::take(&mut self.sent), "records confirmed and sent");
        delivered.sort_unstable();
        delivered.into_iter().map(|(_, place)| place).collect()
    }

    fn send(&mut self, raw: &RawRecord) {
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&self.topic, self.sent).partition(raw.partition);
        record.payload = raw.value.as_deref();
        record.key = raw.key.as_deref();
        if !raw.headers.is_empty() {
            let add = |headers: OwnedHeaders, (key, value): &(String, Vec<u8>)| {
                headers.insert(Header { key, value: Some(value) })
            };
            record = record.headers(raw.headers.iter().fold(OwnedHeaders::new(), add));
        }
        while let Err((error, refused)) = self.producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "sending to {}", self.topic);
            self.producer.poll(Duration::from_millis(100));
            record = refused;
        }
        self.producer.poll(Duration::ZERO);
        self.sent += 1;
    }
}

/// Produces records to a topic and says where they went, in their order.
pub fn produce_raw(topic: &str, records: &[RawRecord]) -> Vec<Place> {
    RawProducer::new(topic, &[]).produce(records)
}
