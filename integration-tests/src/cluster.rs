//! A Kafka cluster of a test's own, whose nodes can be killed, frozen and started again.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::broker::LOGGING;
use crate::case::Case;
use crate::paths;
use crate::service::{Service, free_ports};
use crate::wait::eventually;

/// Any 16 bytes in base64.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";
const START_LIMIT: Duration = Duration::from_secs(120);

/// Nodes that are brokers and controllers at once.
#[derive(Debug)]
pub struct Cluster {
    /// `host:port` of each node, separated by commas.
    pub bootstrap: String,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    address: String,
    folder: PathBuf,
    /// `None` while it is dead.
    service: Option<Service>,
}

impl Cluster {
    /// Starts so many nodes, up to three, below a case's folder.
    pub fn start(case: &Case, count: usize) -> Cluster {
        let ports: [u16; 6] = free_ports();
        let (brokers, controllers) = (&ports[..count], &ports[3..3 + count]);
        let voters: Vec<String> = controllers
            .iter()
            .enumerate()
            .map(|(index, port)| format!("{}@127.0.0.1:{port}", index + 1))
            .collect();
        let nodes = (0..count).map(|index| {
            let folder = case.folder.join(format!("kafka-{}", index + 1));
            fs::create_dir_all(&folder).unwrap();
            let properties = PROPERTIES
                .replace("@id", &(index + 1).to_string())
                .replace("@voters", &voters.join(","))
                .replace("@broker", &brokers[index].to_string())
                .replace("@controller", &controllers[index].to_string())
                .replace("@copies", &count.to_string())
                .replace("@in_sync", &count.div_ceil(2).to_string())
                .replace("@data", &folder.join("data").to_string_lossy());
            fs::write(folder.join("server.properties"), properties).unwrap();
            let log = folder.join("server.log");
            let logging = LOGGING.replace("@log", &log.to_string_lossy());
            fs::write(folder.join("log4j2.yaml"), logging).unwrap();
            let address = format!("127.0.0.1:{}", brokers[index]);
            Node { address, folder, service: None }
        });
        let mut cluster = Cluster { bootstrap: String::new(), nodes: nodes.collect() };
        let addresses: Vec<&str> = cluster.nodes.iter().map(|node| node.address.as_str()).collect();
        cluster.bootstrap = addresses.join(",");
        cluster.nodes.iter_mut().for_each(Node::start);
        cluster.wait_for(count);
        cluster
    }

    /// Waits until all nodes are there, each with a copy of everything.
    pub fn wait_for_all(&self) {
        self.wait_for(self.nodes.len());
        let client = self.client();
        eventually(START_LIMIT, "all copies are in sync", || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(2)).ok()?;
            let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            partitions.all(|one| one.isr().len() == self.nodes.len()).then_some(())
        });
    }

    /// Waits until so many nodes are known to the others.
    fn wait_for(&self, count: usize) {
        let client = self.client();
        eventually(START_LIMIT, &format!("{count} nodes are there"), || {
            self.nodes.iter().flat_map(|node| &node.service).for_each(Service::assert_running);
            let metadata = client.fetch_metadata(None, Duration::from_secs(1)).ok()?;
            (metadata.brokers().len() == count).then_some(())
        });
    }

    /// Creates a topic with a copy on each node.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        let copies = TopicReplication::Fixed(self.nodes.len() as i32);
        let new = NewTopic::new(topic, partitions, copies);
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let created = block_on(admin.create_topics([&new], &AdminOptions::new()));
        created.expect("the brokers answer").remove(0).expect("the topic is new");
        eventually(START_LIMIT, "all partitions have a leader", || {
            let leaders = self.leaders(topic)?;
            (leaders.len() == partitions as usize && leaders.iter().all(|leader| *leader > 0))
                .then_some(())
        });
    }

    /// The node that leads each partition.
    pub fn leaders(&self, topic: &str) -> Option<Vec<i32>> {
        let metadata = self.client().fetch_metadata(Some(topic), Duration::from_secs(2)).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        Some(partitions.iter().map(|partition| partition.leader()).collect())
    }

    /// `kill -9`. Nodes are counted from 1.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node - 1].service = None;
    }

    /// Starts a node that was killed, with what it had.
    pub fn start_again(&mut self, node: usize) {
        self.nodes[node - 1].start();
    }

    /// SIGSTOP and SIGCONT: its connections stay, and nothing is answered.
    pub fn freeze(&self, node: usize, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let properties = self.nodes[node - 1].folder.join("server.properties");
        let pattern = format!("kafka.Kafka {}", properties.display());
        let status = Command::new("pkill").args([signal, "-f", &pattern]).status();
        assert!(status.unwrap().success(), "no process of node {node}");
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn client(&self) -> BaseConsumer {
        self.config().create().unwrap()
    }
}

impl Node {
    fn start(&mut self) {
        let mut command = Command::new(paths::package().join("kafka/node.sh"));
        command.arg(&self.folder).arg(paths::cached("kafka/libs")).arg(CLUSTER_ID);
        let name = format!("kafka-{}", self.address.replace(':', "-"));
        self.service = Some(Service::start(Service::folder(&name), &command));
    }
}

const PROPERTIES: &str = r#"process.roles=broker,controller
node.id=@id
controller.quorum.voters=@voters
listeners=PLAINTEXT://127.0.0.1:@broker,CONTROLLER://127.0.0.1:@controller
advertised.listeners=PLAINTEXT://127.0.0.1:@broker
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=@data
offsets.topic.replication.factor=@copies
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=@copies
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=@copies
share.coordinator.state.topic.min.isr=1
min.insync.replicas=@in_sync
unclean.leader.election.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"#;
