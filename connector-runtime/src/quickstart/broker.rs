//! A broker inside this process, in memory: an emulator that speaks Kafka's protocol
//! (docs/decisions/004). It listens on loopback only and ends with the process.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connector_api::{Error, Result};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::demo::DemoRecord;

/// How long the broker may take for what takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker.
#[derive(Debug, Clone, Copy)]
pub(super) struct EmbeddedBroker {
    address: SocketAddr,
}

impl EmbeddedBroker {
    /// Starts it on a free port.
    pub(super) fn start() -> Result<Self> {
        let address = noida::kafka::spawn("127.0.0.1:0").map_err(|e| {
            Error::external("the embedded broker cannot listen on 127.0.0.1").with_source(e)
        })?;
        Ok(Self { address })
    }

    /// `host:port`, for `bootstrap_servers`.
    pub(super) fn address(self) -> String {
        self.address.to_string()
    }

    /// Creates a topic that keeps its records whatever their timestamps are.
    pub(super) async fn create_topic(self, topic: &str, partitions: i32) -> Result<()> {
        let refused = |e: KafkaError| {
            Error::internal(format!("the topic `{topic}` cannot be created")).with_source(e)
        };
        let admin: AdminClient<DefaultClientContext> = self.client().create().map_err(refused)?;
        // The demo stream has a date of its own, and the emulator judges retention at once.
        let new =
            NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
        let options =
            AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let answers = admin.create_topics([&new], &options).await.map_err(refused)?;
        match answers.into_iter().next() {
            Some(Err((_, code))) => Err(refused(KafkaError::AdminOp(code))),
            _ => Ok(()),
        }
    }

    /// Produces records into a topic and waits until the broker has all. Blocks.
    pub(super) fn produce(
        self,
        topic: &str,
        records: impl Iterator<Item = DemoRecord>,
    ) -> Result<()> {
        let refused =
            |e: KafkaError| Error::internal("the demo stream cannot be produced").with_source(e);
        let producer: BaseProducer<Deliveries> = self
            .client()
            .set("linger.ms", "5")
            .set("enable.idempotence", "true") // Keeps the order within a partition.
            .create_with_context(Deliveries::default())
            .map_err(refused)?;
        for record in records {
            enqueue(&producer, topic, &record).map_err(refused)?;
            producer.poll(Duration::ZERO);
        }
        producer.flush(PATIENCE).map_err(refused)?;
        match producer.context().failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(Error::internal(format!("the embedded broker refused {failed} records"))),
        }
    }

    fn client(self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("client.id", "alluvium-quickstart");
        config
    }
}

/// Hands a record over; while librdkafka's queue is full, waits for deliveries.
fn enqueue(
    producer: &BaseProducer<Deliveries>,
    topic: &str,
    record: &DemoRecord,
) -> Result<(), KafkaError> {
    let mut message = BaseRecord::to(topic)
        .partition(record.partition)
        .key(&record.key)
        .payload(&record.value)
        .timestamp(record.timestamp_ms);
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                producer.poll(Duration::from_millis(50));
                message = unsent;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Counts what was not delivered.
#[derive(Debug, Default)]
struct Deliveries {
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
