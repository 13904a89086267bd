//! Names that are more than strings: each says what it identifies and where it may be stored.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a connector: the identity under which its offsets are kept in the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ConnectorName(Arc<str>);

impl ConnectorName {
    /// What a name may hold, for error messages.
    pub const ALLOWED: &str = "1 to 100 characters out of a-z, A-Z, 0-9, `.`, `_` and `-`";

    /// Parses a name, or returns `None` if it is not within [`Self::ALLOWED`].
    ///
    /// `/` and `@` are excluded since [`TopicPartition::identity`] separates its parts by them.
    pub fn parse(name: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let valid = (1..=100).contains(&name.len()) && name.chars().all(allowed);
        valid.then(|| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id that the broker gave a topic when it was created.
///
/// A topic that is deleted and created again keeps its name and gets another id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicId {
    /// The id as the broker spells it (22 characters of base64).
    Known(Arc<str>),
    /// The broker gives no topic ids (before Kafka 2.8, and emulators). Such an identity cannot
    /// tell a recreated topic from the old one.
    Unavailable,
}

/// Stands in an identity where the broker gives no topic ids. No id: those have 22 characters.
const NO_TOPIC_ID: &str = "no-topic-id";

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(id) => f.write_str(id),
            Self::Unavailable => f.write_str(NO_TOPIC_ID),
        }
    }
}

/// One partition of one Kafka topic, as the broker knows it (never a partition of a table).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id at the broker.
    pub topic_id: TopicId,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The key under which a table keeps the next offset of this topic partition:
    /// `<connector>/<topic>@<topic id>/<partition>`.
    ///
    /// It names no worker, pod or consumer group, so that any worker may go on from it.
    pub fn identity(&self, connector: &ConnectorName) -> String {
        format!("{connector}/{}@{}/{}", self.topic, self.topic_id, self.partition)
    }
}

impl TopicPartition {
    /// Reads an [`identity`](Self::identity) back. `None` if it is another connector's, or not of
    /// this form: the table's other writers keep numbers of their own there.
    pub fn from_identity(connector: &ConnectorName, identity: &str) -> Option<Self> {
        let ours = identity.strip_prefix(connector.as_str())?.strip_prefix('/')?;
        let (topic, partition) = ours.rsplit_once('/')?;
        let (topic, topic_id) = topic.rsplit_once('@')?;
        let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
        let topic_id = match topic_id {
            NO_TOPIC_ID => TopicId::Unavailable,
            known => TopicId::Known(known.into()),
        };
        Some(Self { topic: topic.into(), topic_id, partition })
    }
}

impl fmt::Display for TopicPartition {
    /// Kafka's own spelling: `orders-3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The id that a table got when it was created; a table that is dropped and created again gets another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableId(pub String);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Marks one commit in the table, so that its outcome can be looked up after a lost answer (CM-3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommitToken(pub String);

impl fmt::Display for CommitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_back_and_a_foreign_one_is_not() {
        let clicks = ConnectorName::parse("clicks").unwrap();
        for topic_id in [TopicId::Unavailable, TopicId::Known("k/+Xbase64/ase64base64".into())] {
            let one = TopicPartition { topic: "web.clicks-1".into(), topic_id, partition: 12 };
            assert_eq!(
                TopicPartition::from_identity(&clicks, &one.identity(&clicks)),
                Some(one.clone())
            );
            let other = ConnectorName::parse("clicks.2").unwrap();
            assert_eq!(TopicPartition::from_identity(&other, &one.identity(&clicks)), None);
            assert_eq!(TopicPartition::from_identity(&clicks, &one.identity(&other)), None);
        }
        for foreign in ["clicks", "clicks/x", "clicks/x@y", "clicks/x@y/-1", "spark-query-1", ""] {
            assert_eq!(TopicPartition::from_identity(&clicks, foreign), None, "{foreign}");
        }
    }
}
