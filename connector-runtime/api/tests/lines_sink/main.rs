//! The example of `docs/write-a-sink.md` keeps the contract.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

mod sink;

use std::fs;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use connector_api::batch::TableSchema;
use connector_api::contract::{Subject, Visible};
use connector_api::ids::{ConnectorName, TopicPartition};
use connector_api::offsets::OffsetCheckpoint;
use connector_api::outcome::{CommitError, CommitOutcome, Conflict, TokenLookup};
use connector_api::reset::OffsetReset;
use connector_api::sink::{OpenTable, Sink, TableCommitter, TableReader};
use connector_api::staged::StagedCommit;
use connector_api::{Error, Result};
use serde_json::Value;
use sink::LinesSink;
use tempfile::TempDir;

connector_api::sink_contract!(Place::new());

struct Place {
    folder: TempDir,
    losing: Losing,
}

/// Whether the next answer is lost, and if so whether its request is carried out.
type Losing = Arc<Mutex<Option<bool>>>;

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), losing: Losing::default() }
    }
}

#[async_trait]
impl Subject for Place {
    fn sink(&self) -> Arc<dyn Sink> {
        let sink = LinesSink(self.folder.path().join("table"));
        Arc::new(LosingSink { sink, losing: self.losing.clone() })
    }

    async fn visible(&self) -> Option<Visible> {
        let folder = self.folder.path().join("table");
        folder.join("table.json").try_exists().unwrap().then_some(())?;
        let versions = LinesSink(folder.clone()).versions().unwrap();
        let (mut rows, mut files) = (Vec::new(), Vec::new());
        for file in versions.iter().flat_map(|version| &version.files) {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            rows.extend(lines.map(|row: Value| {
                let partition = row["kafka_partition"].as_i64().unwrap() as i32;
                (partition, row["kafka_offset"].as_i64().unwrap())
            }));
            files.push((text.lines().count() as u64, text.len() as u64));
        }
        rows.sort_unstable();
        Some(Visible { version: versions.len() as u64, rows, files })
    }

    fn lose_next_answer(&self, landed: bool) {
        *self.losing.lock().unwrap() = Some(landed);
    }
}

/// The sink behind a network that loses answers.
#[derive(Debug)]
struct LosingSink {
    sink: LinesSink,
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

impl LosingCommitter {
    fn lose(&self) -> Option<bool> {
        self.losing.lock().unwrap().take()
    }
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
        match self.lose() {
            Some(false) => lost(),
            Some(true) => self.inner.commit(commit).await.and_then(|_| lost()),
            None => self.inner.commit(commit).await,
        }
    }

    async fn find(&mut self, commit: &StagedCommit) -> Result<TokenLookup> {
        self.inner.find(commit).await
    }

    async fn reset(&mut self, reset: &OffsetReset) -> Result<CommitOutcome, CommitError> {
        match self.lose() {
            Some(false) => lost(),
            Some(true) => self.inner.reset(reset).await.and_then(|_| lost()),
            None => self.inner.reset(reset).await,
        }
    }
}
