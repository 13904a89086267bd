//! Produces records, and knows for each which topic partition and offset it got.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde_json::json;

use crate::broker::broker;
use crate::wait::{eventually, now, unix_ms};

const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// A record to produce.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which partition it goes to.
    pub route: Route,
    /// Its value: JSON, if it is to become a row.
    pub value: String,
}

/// Which partition a record goes to.
#[derive(Debug, Clone)]
pub enum Route {
    /// This one.
    Partition(i32),
    /// The one of its key.
    Key(String),
}

/// Deals values to partitions in turn.
pub fn round_robin(
    partitions: i32,
    values: impl IntoIterator<Item = String>,
) -> impl Iterator<Item = Record> {
    values
        .into_iter()
        .zip((0..partitions).cycle())
        .map(|(value, p)| Record { route: Route::Partition(p), value })
}

/// A record that the broker has confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Its value.
    pub value: String,
    /// Its time, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// What was produced to one topic: exactly what its table must hold.
#[derive(Debug, Clone)]
pub struct Produced {
    /// The topic.
    pub topic: String,
    /// Each record by partition and offset.
    pub records: BTreeMap<(i32, i64), Confirmed>,
}

impl Produced {
    /// Nothing yet.
    pub fn none(topic: &str) -> Produced {
        Produced { topic: topic.to_owned(), records: BTreeMap::new() }
    }

    /// Takes in what was produced to the same topic by someone else, or later.
    pub fn extend(&mut self, other: Produced) {
        assert_eq!(self.topic, other.topic);
        self.records.extend(other.records);
    }

    /// Writes a line of JSON for each record, so that the reader can compare values.
    pub(crate) fn write_to(&self, path: &Path) {
        let mut file = BufWriter::new(File::create(path).unwrap());
        for ((partition, offset), record) in &self.records {
            let place = json!([self.topic, partition, offset, record.timestamp_ms]);
            // The value is JSON already: kept as it is, not read and written again.
            writeln!(file, r#"{{"place":{place},"value":{}}}"#, record.value).unwrap();
        }
        file.flush().unwrap();
    }
}

/// Produces all records, and waits until the broker has confirmed each.
pub fn produce(topic: &str, records: impl IntoIterator<Item = Record>) -> Produced {
    let mut sending = Sending::begin(topic, &[]);
    records.into_iter().for_each(|record| sending.send(record));
    sending.confirm()
}

/// Produces each batch in a transaction of its own, and aborts those that `aborted` names by their
/// index. Brings what was committed.
pub fn produce_in_transactions(
    topic: &str,
    batches: Vec<Vec<Record>>,
    aborted: impl Fn(usize) -> bool,
) -> Produced {
    let mut sending = Sending::begin(topic, &[("transactional.id", topic)]);
    sending.producer.init_transactions(FLUSH_LIMIT).expect("the broker has transactions");
    let mut committed = Produced::none(topic);
    for (index, batch) in batches.into_iter().enumerate() {
        sending.producer.begin_transaction().unwrap();
        batch.into_iter().for_each(|record| sending.send(record));
        // What is aborted lies in the log as well, and takes offsets.
        let confirmed = sending.confirm();
        if aborted(index) {
            sending.producer.abort_transaction(FLUSH_LIMIT).unwrap();
        } else {
            sending.producer.commit_transaction(FLUSH_LIMIT).unwrap();
            committed.extend(confirmed);
        }
    }
    committed
}

/// A producer that goes on until it is told to stop.
#[derive(Debug)]
pub struct Feed {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<Produced>,
}

impl Feed {
    /// Produces `records_per_second` of the records.
    pub fn start<R>(topic: &str, records_per_second: u32, records: R) -> Feed
    where
        R: IntoIterator<Item = Record> + Send + 'static,
    {
        Feed::start_at(&broker().bootstrap, topic, records_per_second, records)
    }

    /// The same at other brokers.
    pub fn start_at<R>(bootstrap: &str, topic: &str, records_per_second: u32, records: R) -> Feed
    where
        R: IntoIterator<Item = Record> + Send + 'static,
    {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let properties = [("linger.ms", "5"), ("bootstrap.servers", bootstrap)];
        let mut sending = Sending::begin(topic, &properties);
        let thread = std::thread::spawn(move || {
            let start = now();
            let mut next_at = start;
            for record in records {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                sending.send(record);
                count.fetch_add(1, Ordering::Relaxed);
                next_at += Duration::from_secs(1) / records_per_second;
                while next_at > now() {
                    sending.producer.poll(next_at.saturating_duration_since(now()));
                }
            }
            sending.confirm()
        });
        Feed { stop, sent, thread }
    }

    /// Waits until `more` records have been sent from now on.
    pub fn wait_for(&self, more: usize) {
        let target = self.sent.load(Ordering::Relaxed) + more;
        eventually(FLUSH_LIMIT, "the feed goes on", || {
            assert!(!self.thread.is_finished(), "the feed ended early: it needs more records");
            (self.sent.load(Ordering::Relaxed) >= target).then_some(())
        });
    }

    /// Stops, and brings what the broker has confirmed, which is everything.
    pub fn stop(self) -> Produced {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the feed did not panic")
    }
}

/// Records on their way to one topic.
struct Sending {
    topic: String,
    producer: BaseProducer<Deliveries>,
    sent: Vec<Confirmed>,
}

/// Where each record of the current [`Sending`] went: its index, partition and offset.
#[derive(Default)]
struct Deliveries(Mutex<Vec<(usize, i32, i64)>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        match result {
            Ok(message) => {
                self.0.lock().unwrap().push((index, message.partition(), message.offset()))
            }
            // `confirm` misses it.
            Err((error, _)) => eprintln!("a record was not delivered: {error}"),
        }
    }
}

impl Sending {
    fn begin(topic: &str, properties: &[(&str, &str)]) -> Sending {
        let mut config = ClientConfig::new();
        if !properties.iter().any(|(key, _)| *key == "bootstrap.servers") {
            config.set("bootstrap.servers", &broker().bootstrap);
        }
        // A record that is sent again must not get a second offset.
        config
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            // What a record may have is the broker's to say.
            .set("message.max.bytes", "8000000")
            .set("linger.ms", "20");
        properties.iter().for_each(|(key, value)| {
            config.set(*key, *value);
        });
        let producer =
            config.create_with_context(Deliveries::default()).expect("a valid configuration");
        Sending { topic: topic.to_owned(), producer, sent: Vec::new() }
    }

    fn send(&mut self, Record { route, value }: Record) {
        let timestamp_ms = unix_ms();
        let mut record = BaseRecord::with_opaque_to(&self.topic, self.sent.len())
            .payload(&value)
            .timestamp(timestamp_ms);
        record = match &route {
            Route::Partition(partition) => record.partition(*partition),
            Route::Key(key) => record.key(key),
        };
        while let Err((error, refused)) = self.producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert_eq!(error, full, "sending to {}", self.topic);
            self.producer.poll(Duration::from_millis(100));
            record = refused;
        }
        // One call serves one event, so one for each record keeps up.
        self.producer.poll(Duration::ZERO);
        self.sent.push(Confirmed { value, timestamp_ms });
    }

    /// Waits for the broker's word on everything that was sent since the last time.
    fn confirm(&mut self) -> Produced {
        self.producer.flush(FLUSH_LIMIT).expect("the broker confirms all records");
        let delivered = std::mem::take(&mut *self.producer.context().0.lock().unwrap());
        assert_eq!(
            delivered.len(),
            self.sent.len(),
            "records confirmed and sent to {}",
            self.topic
        );
        let mut sent: Vec<Option<Confirmed>> =
            std::mem::take(&mut self.sent).into_iter().map(Some).collect();
        let records = delivered.into_iter().map(|(index, partition, offset)| {
            ((partition, offset), sent[index].take().expect("confirmed once"))
        });
        Produced { topic: self.topic.clone(), records: records.collect() }
    }
}
