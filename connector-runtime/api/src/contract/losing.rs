//! A sink behind a network that loses answers to commits, for subjects whose store has no faults of
//! its own.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::batch::TableSchema;
use crate::error::{Error, Result};
use crate::ids::{ConnectorName, TopicPartition};
use crate::offsets::OffsetCheckpoint;
use crate::outcome::{CommitError, CommitOutcome, Conflict, TokenLookup};
use crate::reset::OffsetReset;
use crate::sink::{OpenTable, Sink, TableCommitter, TableReader};
use crate::staged::StagedCommit;

/// Whether the next answer is lost, and if so whether its request is carried out. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Losing(Arc<Mutex<Option<bool>>>);

impl Losing {
    /// Loses the next answer; see [`Subject::lose_next_answer`](super::Subject::lose_next_answer).
    pub fn lose_next_answer(&self, landed: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(landed);
    }

    /// The sink, with answers that are lost.
    pub fn behind(&self, sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
        Arc::new(LosingSink { sink, losing: self.clone() })
    }

    fn take(&self) -> Option<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Debug)]
struct LosingSink {
    sink: Arc<dyn Sink>,
    losing: Losing,
}

impl LosingSink {
    fn behind(&self, mut table: OpenTable) -> OpenTable {
        let (inner, losing) = (table.committer, self.losing.clone());
        table.committer = Box::new(LosingCommitter { inner, losing });
        table
    }
}

#[async_trait]
impl Sink for LosingSink {
    fn location(&self) -> &str {
        self.sink.location()
    }

    async fn open(&self, connector: &ConnectorName) -> Result<Option<OpenTable>> {
        Ok(self.sink.open(connector).await?.map(|table| self.behind(table)))
    }

    async fn create(&self, connector: &ConnectorName, schema: &TableSchema) -> Result<OpenTable> {
        Ok(self.behind(self.sink.create(connector, schema).await?))
    }

    async fn read(&self) -> Result<Option<Arc<dyn TableReader>>> {
        self.sink.read().await
    }
}

#[derive(Debug)]
struct LosingCommitter {
    inner: Box<dyn TableCommitter>,
    losing: Losing,
}

fn lost() -> Result<CommitOutcome, CommitError> {
    Err(CommitError::Unknown(Error::external("the answer was lost")))
}

#[async_trait]
impl TableCommitter for LosingCommitter {
    async fn checkpoint(&mut self) -> Result<OffsetCheckpoint> {
        self.inner.checkpoint().await
    }

    async fn fingerprint(&mut self, of: &TopicPartition) -> Result<Option<String>> {
        self.inner.fingerprint(of).await
    }

    async fn conflict(&mut self) -> Result<Option<Conflict>> {
        self.inner.conflict().await
    }

    async fn commit(&mut self, commit: &StagedCommit) -> Result<CommitOutcome, CommitError> {
        match self.losing.take() {
            Some(false) => lost(),
            Some(true) => self.inner.commit(commit).await.and_then(|_| lost()),
            None => self.inner.commit(commit).await,
        }
    }

    async fn find(&mut self, commit: &StagedCommit) -> Result<TokenLookup> {
        self.inner.find(commit).await
    }

    async fn reset(&mut self, reset: &OffsetReset) -> Result<CommitOutcome, CommitError> {
        match self.losing.take() {
            Some(false) => lost(),
            Some(true) => self.inner.reset(reset).await.and_then(|_| lost()),
            None => self.inner.reset(reset).await,
        }
    }
}
