//! The connector's group as lag tools see it: what it has noted down. Advice, never a truth.

use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint};
use connector_api::{Error, Result};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::kafka::Prepared;
use super::rebalance::ASK_TIMEOUT;

impl Prepared {
    /// What the group has noted down for some topic partitions. Those without a note are absent.
    ///
    /// Blocks until the brokers answer.
    pub fn group_offsets<'a>(
        &self,
        of: impl Iterator<Item = &'a TopicPartition> + Clone,
    ) -> Result<OffsetCheckpoint> {
        let failed = |e: KafkaError| {
            let doing = format!("the offsets of group `{}` cannot be read", self.plan.group_id);
            Error::external(doing).with_source(e)
        };
        let mut question = TopicPartitionList::new();
        for TopicPartition { topic, partition, .. } in of.clone() {
            question.add_partition(topic, *partition);
        }
        let answer = self.consumer.committed_offsets(question, ASK_TIMEOUT).map_err(failed)?;
        let noted = of.filter_map(|of| {
            let answered = answer.find_partition(&of.topic, of.partition)?;
            match answered.offset() {
                rdkafka::Offset::Offset(offset) => Some((of.clone(), Offset::new(offset)?)),
                _ => None,
            }
        });
        Ok(noted.collect())
    }
}
