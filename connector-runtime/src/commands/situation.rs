//! Where a connector stands: what its table and its brokers say, by questions that change nothing.

use std::sync::Arc;

use connector_api::clock::Clock;
use connector_api::offsets::OffsetCheckpoint;
use connector_api::sink::TableReader;
use connector_api::{Context, Result};

use crate::commit::recover::{PartitionFacts, Recovery, recover};
use crate::config::{ConnectorPlan, StartAt};
use crate::memory::MemoryShare;
use crate::source::{AssignedPartition, Prepared, Topics};

/// Where a connector stands.
#[derive(Debug)]
pub(super) struct Situation {
    /// The newest version of the table, if there is one.
    pub(super) table: Option<Arc<dyn TableReader>>,
    /// Where the table stands; nothing without a table.
    pub(super) stored: OffsetCheckpoint,
    /// Asks the brokers, in no group.
    pub(super) kafka: Arc<Prepared>,
    /// The topic partitions that the connector reads, with the ends of their logs.
    pub(super) topics: Topics,
}

impl Situation {
    /// Asks table and brokers. Bounded: the store has a deadline, and each question to the brokers too.
    pub(super) async fn find(plan: &ConnectorPlan, clock: Arc<dyn Clock>) -> Result<Self> {
        let doing = || format!("connector `{}`", plan.name);
        let table = plan.table.sink.read().await.context(doing)?;
        let stored = match table.clone() {
            Some(table) => {
                let name = plan.name.clone();
                blocking(move || table.checkpoint(&name)).await.context(doing)?
            }
            None => OffsetCheckpoint::default(),
        };
        let asked = plan.clone();
        let prepared =
            blocking(move || Prepared::connect(&asked, clock, MemoryShare::alone())).await;
        let (kafka, topics) = prepared.context(doing)?;
        Ok(Self { table, stored, kafka: Arc::new(kafka), topics })
    }

    /// Where `run` would go on in a topic partition.
    pub(super) fn recovery(&self, of: &AssignedPartition, start_at: &StartAt) -> Recovery {
        recover(&PartitionFacts::of(of, &self.stored, false), start_at)
    }
}

/// Runs what waits for a broker or a store on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    crate::blocking::blocking(work).await?
}
