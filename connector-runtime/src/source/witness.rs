//! Whether a topic is still the one that its records were read from.
//!
//! A topic that is deleted and created again keeps its name, and a consumer reads on in it without a
//! word. So the brokers are asked again before each commit, on a client of its own: an answer that
//! names another id keeps the commit from being made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connector_api::ids::{TopicId, TopicPartition};
use connector_api::offsets::{Offset, OffsetRange};
use connector_api::{Error, Result, Retry};
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::{Quiet, consumer_config};
use super::tail;
use super::topic_id::topic_id;
use super::{Tail, Witness};
use crate::config::KafkaPlan;

/// A commit does not wait for brokers that do not answer: what was read from them is committed.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the brokers on a client that joins no group.
pub(super) struct TopicWitness {
    client: BaseConsumer<Quiet>,
    plan: KafkaPlan,
}

impl std::fmt::Debug for TopicWitness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TopicWitness({})", self.plan.bootstrap_servers)
    }
}

impl TopicWitness {
    /// A witness for the topics of a plan. Connects by itself, later.
    pub(super) fn new(plan: &KafkaPlan) -> Result<Self> {
        let client = consumer_config(plan).create_with_context(Quiet).map_err(|e| {
            Error::user("`source.kafka.properties` are refused by librdkafka").with_source(e)
        })?;
        Ok(Self { client, plan: plan.clone() })
    }
}

impl Witness for TopicWitness {
    fn same_topics(&self, read_from: Vec<TopicPartition>) -> Result<()> {
        // What the client reports waits in its queue until it is taken.
        while self.client.poll(Duration::ZERO).is_some() {}
        same_topics(self.client.client(), read_from)
    }

    fn log_end(&self, of: &TopicPartition) -> Result<Offset> {
        tail::log_end(&self.client, of)
    }

    fn tail(&self, asked: &Tail) -> Result<Option<OffsetRange>> {
        tail::tail(&self.client, &self.plan, asked)
    }
}

/// An error if one of these topics has another id now. No answer is no error.
pub(super) fn same_topics<C: ClientContext>(
    client: &Client<C>,
    read_from: Vec<TopicPartition>,
) -> Result<()> {
    let topics: BTreeMap<Arc<str>, TopicId> =
        read_from.into_iter().map(|tp| (tp.topic, tp.topic_id)).collect();
    for (topic, read_from) in topics {
        if read_from == TopicId::Unavailable {
            continue;
        }
        match topic_id(client, &topic, ASK_TIMEOUT) {
            Ok(now) if now != read_from => return Err(recreated(&topic, &read_from, &now)),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%topic, %error, "the topic's id could not be asked for");
                // Nor do the brokers answer for the others, and a commit waits.
                return Ok(());
            }
        }
    }
    Ok(())
}

/// By a new start the assignment decides, which knows the table.
fn recreated(topic: &str, was: &TopicId, now: &TopicId) -> Error {
    Error::external(format!(
        "topic `{topic}` was deleted and created again while it was read: its id was {was} and is now {now}"
    ))
    .with_retry(Retry::AfterRefresh)
}
