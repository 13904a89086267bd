//! Apache Kafka: one KRaft node for the whole test program, started by the first test that needs it.
//!
//! `ALLUVIUM_IT_KAFKA=host:port` (and `ALLUVIUM_IT_KAFKA_SASL` for its listener with passwords) names
//! a broker that runs already, so that working on one test does not cost a start of the broker each time.
//! Tests of TLS need a broker of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::paths;
use crate::service::{Service, free_ports};
use crate::wait::eventually;

/// The user of the listeners with passwords.
pub const SASL_USER: &str = "bob";
/// That user's password.
pub const SASL_PASSWORD: &str = "bob-secret";
/// What the client's private key is encrypted by.
pub const KEY_PASSWORD: &str = "key-secret";

const START_LIMIT: Duration = Duration::from_secs(90);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

static BROKER: OnceLock<Broker> = OnceLock::new();

/// The broker of this test program.
pub fn broker() -> &'static Broker {
    BROKER.get_or_init(Broker::find_or_start)
}

/// The broker's process, if a test has needed it and we started it.
pub(crate) fn started() -> Option<&'static Service> {
    BROKER.get().and_then(|broker| broker.service.as_ref())
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    /// `host:port` for anyone.
    pub bootstrap: String,
    /// `host:port` for [`SASL_USER`] by `SASL_PLAINTEXT` and `PLAIN`.
    pub sasl_bootstrap: String,
    /// None: somebody else started it.
    service: Option<Service>,
    tls: Option<Tls>,
}

/// How to reach a broker by TLS.
#[derive(Debug)]
pub struct Tls {
    /// `host:port` for [`SASL_USER`] by `SASL_SSL` and `SCRAM-SHA-512`.
    pub sasl_bootstrap: String,
    /// `host:port` for who has a certificate of the same authority as the broker.
    pub mutual_bootstrap: String,
    /// Where the certificates lie.
    folder: PathBuf,
}

impl Tls {
    /// A file that `certificates.sh` made.
    pub fn file(&self, name: &str) -> String {
        let path = self.folder.join(name);
        assert!(path.try_exists().unwrap(), "{} is missing", path.display());
        path.to_string_lossy().into_owned()
    }
}

impl Broker {
    /// How long a password by TLS holds before the broker asks for it again.
    pub const PASSWORD_ASKED_EVERY: Duration = Duration::from_secs(4);

    fn find_or_start() -> Broker {
        let broker = match std::env::var("ALLUVIUM_IT_KAFKA") {
            Ok(bootstrap) => {
                let sasl_bootstrap = std::env::var("ALLUVIUM_IT_KAFKA_SASL").unwrap_or_default();
                Broker { bootstrap, sasl_bootstrap, service: None, tls: None }
            }
            Err(_) => Broker::start(),
        };
        broker.wait_until_ready();
        broker
    }

    fn start() -> Broker {
        let folder = Service::folder("kafka");
        let [clients, controller, sasl, sasl_ssl, mutual] = free_ports();
        let log = folder.join("data");
        let properties = SERVER_PROPERTIES
            .replace("@clients", &clients.to_string())
            .replace("@controller", &controller.to_string())
            .replace("@sasl_ssl", &sasl_ssl.to_string())
            .replace("@sasl", &sasl.to_string())
            .replace("@mutual", &mutual.to_string())
            .replace("@folder", &folder.to_string_lossy())
            .replace("@log", &log.to_string_lossy())
            .replace("@user", SASL_USER)
            .replace("@password", SASL_PASSWORD)
            .replace("@asked_every", &Self::PASSWORD_ASKED_EVERY.as_millis().to_string());
        fs::write(folder.join("server.properties"), properties).unwrap();
        let log = folder.join("server.log");
        fs::write(folder.join("log4j2.yaml"), LOGGING.replace("@log", &log.to_string_lossy()))
            .unwrap();

        make_certificates(&folder);

        let mut command = Command::new(paths::package().join("kafka/run.sh"));
        command.arg(&folder).arg(paths::cached("kafka/libs")).args([
            "--add-scram",
            &format!("SCRAM-SHA-512=[name={SASL_USER},password={SASL_PASSWORD}]"),
        ]);
        Broker {
            bootstrap: format!("127.0.0.1:{clients}"),
            sasl_bootstrap: format!("127.0.0.1:{sasl}"),
            tls: Some(Tls {
                sasl_bootstrap: format!("127.0.0.1:{sasl_ssl}"),
                mutual_bootstrap: format!("127.0.0.1:{mutual}"),
                folder: folder.clone(),
            }),
            service: Some(Service::start(folder, &command)),
        }
    }

    fn wait_until_ready(&self) {
        let client = self.client();
        eventually(START_LIMIT, "the broker answers a metadata request", || {
            self.service.iter().for_each(Service::assert_running);
            client
                .fetch_metadata(None, Duration::from_secs(1))
                .ok()
                .filter(|m| !m.brokers().is_empty())
        });
    }

    /// How to reach it by TLS.
    pub fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("a test of TLS needs a broker of its own: unset ALLUVIUM_IT_KAFKA")
    }

    /// Creates a topic, and waits until every partition has a leader.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_LIMIT));
        let results =
            block_on(self.admin().create_topics(&[new], &options)).expect("the broker answers");
        results.into_iter().for_each(|result| {
            result.expect("the topic is new and has a valid name");
        });
        let client = self.client();
        eventually(REQUEST_LIMIT, "all partitions of the new topic have a leader", || {
            (0..partitions)
                .all(|partition| watermarks(&client, topic, partition).is_some())
                .then_some(())
        });
    }

    /// Creates a topic under the name of one that was just deleted, once the broker has let go of that.
    pub fn create_topic_anew(&self, topic: &str, partitions: i32) {
        eventually(REQUEST_LIMIT, "the broker has forgotten the topic", || {
            (!self.topics().iter().any(|known| known == topic)).then_some(())
        });
        self.create_topic(topic, partitions);
    }

    /// Gives a user of the listener with passwords and TLS a new password.
    pub fn set_password(&self, user: &str, password: &str) {
        let output = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-cp"])
            .arg(paths::cached("kafka/libs").join("*"))
            .args(["kafka.admin.ConfigCommand", "--bootstrap-server", &self.bootstrap])
            .args(["--alter", "--entity-type", "users", "--entity-name", user, "--add-config"])
            .arg(format!("SCRAM-SHA-512=[password={password}]"))
            .output()
            .expect("java is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Deletes a topic, if the broker still answers.
    pub fn delete_topic(&self, topic: &str) {
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_LIMIT));
        // Only tidying up: the test has its result already.
        drop(block_on(self.admin().delete_topics(&[topic], &options)));
    }

    /// Creates a topic with one partition, of which the broker keeps the last record of each key. It
    /// looks for what can go as often as it can.
    pub fn create_compacted_topic(&self, topic: &str) {
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1))
            .set("cleanup.policy", "compact")
            .set("segment.bytes", "1048576")
            .set("segment.ms", "100")
            .set("min.cleanable.dirty.ratio", "0.01")
            .set("min.compaction.lag.ms", "0")
            .set("max.compaction.lag.ms", "200");
        let created = block_on(self.admin().create_topics([&new], &AdminOptions::new()));
        created.expect("the broker creates a topic").remove(0).expect("the topic is new");
    }

    /// Lets a topic take larger records.
    pub fn set_message_bytes_max(&self, topic: &str, bytes: u32) {
        let bytes = bytes.to_string();
        let config =
            AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &bytes);
        let altered = block_on(self.admin().alter_configs([&config], &AdminOptions::new()));
        altered.expect("the broker alters topics").remove(0).expect("the topic is altered");
    }

    /// How many records a reader gets from a partition.
    pub fn readable_records(&self, topic: &str, partition: i32) -> usize {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", "counts-without-joining")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a valid configuration");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let mut found = 0;
        loop {
            match consumer.poll(REQUEST_LIMIT).expect("the broker answers") {
                Ok(_) => found += 1,
                Err(KafkaError::PartitionEOF(_)) => return found,
                Err(error) => panic!("reading {topic}-{partition}: {error}"),
            }
        }
    }

    /// Removes the records of a partition before an offset, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_LIMIT));
        let deleted = block_on(self.admin().delete_records(&list, &options));
        deleted.expect("the broker deletes records");
    }

    /// Adds partitions to a topic, up to this number.
    pub fn add_partitions(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        let added = block_on(self.admin().create_partitions([&new], &AdminOptions::new()));
        added.expect("the broker adds partitions").remove(0).expect("partitions are added");
    }

    /// All topics, by name. Asking for one by its name could create it.
    pub fn topics(&self) -> Vec<String> {
        let metadata =
            self.client().fetch_metadata(None, REQUEST_LIMIT).expect("the broker answers");
        metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
    }

    /// The offset behind a partition's last record or transaction marker.
    pub fn end_offset(&self, topic: &str, partition: i32) -> i64 {
        watermarks(&self.client(), topic, partition).expect("the broker answers").1
    }

    /// A client in no group, for questions.
    pub(crate) fn client(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()
            .expect("a valid configuration")
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()
            .expect("a valid configuration")
    }
}

fn make_certificates(folder: &Path) {
    let mut command = Command::new(paths::package().join("kafka/certificates.sh"));
    let output = command.arg(folder).arg(KEY_PASSWORD).output().expect("bash is there");
    assert!(
        output.status.success(),
        "openssl made no certificates:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn watermarks(client: &BaseConsumer, topic: &str, partition: i32) -> Option<(i64, i64)> {
    client.fetch_watermarks(topic, partition, Duration::from_secs(5)).ok()
}

/// Members may ask to be missed early, so that a test need not wait long after a kill.
const SERVER_PROPERTIES: &str = r#"process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:@controller
listeners=PLAINTEXT://127.0.0.1:@clients,CONTROLLER://127.0.0.1:@controller,PASSWORD://127.0.0.1:@sasl,PASSWORDTLS://127.0.0.1:@sasl_ssl,MUTUALTLS://127.0.0.1:@mutual
advertised.listeners=PLAINTEXT://127.0.0.1:@clients,CONTROLLER://127.0.0.1:@controller,PASSWORD://127.0.0.1:@sasl,PASSWORDTLS://127.0.0.1:@sasl_ssl,MUTUALTLS://127.0.0.1:@mutual
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PASSWORD:SASL_PLAINTEXT,PASSWORDTLS:SASL_SSL,MUTUALTLS:SSL
listener.name.password.sasl.enabled.mechanisms=PLAIN
listener.name.password.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_@user="@password";
listener.name.passwordtls.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.passwordtls.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.passwordtls.scram-sha-512.connections.max.reauth.ms=@asked_every
listener.name.mutualtls.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location=@folder/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=@folder/ca.crt
log.dirs=@log
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=200
group.consumer.heartbeat.interval.ms=500
group.consumer.min.session.timeout.ms=2000
group.consumer.session.timeout.ms=6000
log.cleaner.backoff.ms=100
"#;

pub(crate) const LOGGING: &str = r#"Configuration:
  Appenders: {File: {name: F, fileName: "@log", PatternLayout: {pattern: "%d %p %c{1} %m%n"}}}
  Loggers: {Root: {level: INFO, AppenderRef: [{ref: F}]}}
"#;
