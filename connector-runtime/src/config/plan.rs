//! The plan of a connector: typed, complete, and true. Nothing behind it checks the configuration again.
//!
//! A plan is only made by [`load`](super::load), which has then found no mistake.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use connector_api::config::{Secret, TableSettings};
use connector_api::decoder::{DecoderFactory, OnUnknownField};
use connector_api::ids::ConnectorName;
use connector_api::offsets::Offset;
use connector_api::schema::KafkaField;
use connector_api::sink::Sink;

/// Everything that one connector does, from one file.
#[derive(Debug, Clone)]
pub struct ConnectorPlan {
    /// The connector's identity: its offsets are kept in the table under this name.
    pub name: ConnectorName,
    /// The file that the plan was read from.
    pub file: PathBuf,
    /// Whom to ask when something goes wrong.
    pub owner: Option<Owner>,
    /// What the connector is for, in the user's words.
    pub description: Option<String>,
    /// Where records come from.
    pub source: KafkaPlan,
    /// Reads the values of records; its format is `decode.value`.
    pub decoder: Arc<dyn DecoderFactory>,
    /// The columns that records become.
    pub schema: SchemaPlan,
    /// Where rows go.
    pub table: TablePlan,
    /// When files and commits are made.
    pub write: WritePlan,
    /// What happens to a record that cannot become a row.
    pub on_bad_record: OnBadRecord,
}

/// Whom to ask when something goes wrong. At least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The team that owns the data.
    pub team: Option<String>,
    /// How to reach it: a channel, an address, a number.
    pub contact: Option<String>,
}

/// A Kafka cluster, the topics to read there, and how.
#[derive(Debug, Clone)]
pub struct KafkaPlan {
    /// Comma-separated `host:port`.
    pub bootstrap_servers: String,
    /// The topics to read.
    pub topics: TopicSelection,
    /// Where to start in a topic partition that the table has never seen.
    pub start_at: StartAt,
    /// What happens if retention has removed records that were not read yet.
    pub on_gap: OnLoss,
    /// What happens if a topic was deleted and created again.
    pub on_topic_recreated: OnLoss,
    /// The consumer group: divides the topic partitions among workers, and is where lag tools look.
    pub group_id: String,
    /// Further properties for librdkafka, none of which the source sets itself. Any may be a credential.
    pub properties: BTreeMap<String, Secret<String>>,
}

/// The topics to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicSelection {
    /// These: at least one, each once.
    List(Vec<String>),
    /// All whose names match: a POSIX extended regular expression that starts with `^`, as librdkafka wants it.
    Pattern(String),
}

/// Where to start in a topic partition that the table has never seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that the broker still has.
    Earliest,
    /// Behind the last record.
    Latest,
    /// At the first record that is not older.
    Timestamp {
        /// Milliseconds since 1970 UTC.
        ms: i64,
    },
    /// At these offsets, by topic and partition number. A partition that is not named starts at its first record.
    Offsets(BTreeMap<(String, i32), Offset>),
}

/// The columns that records become.
#[derive(Debug, Clone)]
pub struct SchemaPlan {
    /// The declared payload columns; absent: the table's own, else inferred from the first records.
    pub columns: Option<SchemaRef>,
    /// What happens to a field that no column names.
    pub on_unknown_field: OnUnknownField,
    /// The fields of the `_kafka` column, in order; with none the table has no such column.
    pub kafka_fields: Vec<KafkaField>,
}

/// Where rows go.
#[derive(Debug, Clone)]
pub struct TablePlan {
    /// The table format, which is also its key in the configuration.
    pub format: &'static str,
    /// What was configured.
    pub settings: TableSettings,
    /// The sink that was made of it.
    pub sink: Arc<dyn Sink>,
}

/// When files and commits are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WritePlan {
    /// The longest time until a record is queryable.
    pub commit_interval: Duration,
    /// The longest time until offsets are committed behind which there are no rows.
    pub idle_commit_interval: Duration,
    /// The longest time that a revoke may wait for the running round.
    pub revoke_timeout: Duration,
    /// The size of a data file at which it is closed, encoded.
    pub file_size_bytes: u64,
}

/// What happens where Kafka no longer has what the table needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoss {
    /// The connector stops, and a person decides.
    Stop,
    /// It reads on from what is there, and the commit says what was passed over.
    Continue,
}

/// What happens to a record that cannot become a row.
#[derive(Debug, Clone)]
pub enum OnBadRecord {
    /// It becomes a row of this table.
    DeadLetter(Arc<dyn Sink>),
    /// The connector stops, and commits nothing that was read with it.
    Stop,
    /// It is counted and left out.
    Drop,
}

impl OnBadRecord {
    /// Its word in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::DeadLetter(_) => "dead_letter",
            Self::Stop => "stop",
            Self::Drop => "drop",
        }
    }
}
