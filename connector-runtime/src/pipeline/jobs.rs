//! Work that the pipeline starts and goes on without: CPU work on blocking threads, I/O in tasks.
//!
//! The lane and the committer travel with the job that uses them, so two jobs can never use one at
//! the same time.

use std::sync::Arc;

use connector_api::batch::TableSchema;
use connector_api::decoded::Rejected;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{OffsetCheckpoint, OffsetRange};
use connector_api::outcome::{CommitError, CommitOutcome, TokenLookup};
use connector_api::sink::{OpenTable, TableCommitter, TableWriter};
use connector_api::staged::{Accounting, StagedCommit, StagedFile};
use connector_api::{Error, Result};
use tokio::task::JoinSet;

use crate::config::ConnectorPlan;
use crate::source::SourceBatch;
use crate::write::{Lane, staging};

/// What came of a job.
pub(super) enum Done {
    /// Batches were decoded and written into open files.
    Processed {
        /// The lane comes back.
        lane: Box<Lane>,
        /// One for each batch, in order.
        results: Result<Vec<BatchResult>>,
    },
    /// The round's files are finished.
    Sealed {
        /// The lane comes back.
        lane: Box<Lane>,
        /// The files to stage.
        files: Result<Vec<Box<dyn TableWriter>>>,
    },
    /// The round's files are in the store.
    Staged {
        /// The round's number.
        round: u64,
        /// The files.
        files: Result<Vec<StagedFile>>,
    },
    /// The table answered to a commit, or not.
    Committed {
        /// The round's number.
        round: u64,
        /// The committer comes back.
        committer: Box<dyn TableCommitter>,
        /// The answer.
        answer: Result<CommitOutcome, CommitError>,
    },
    /// The table was searched for a commit.
    Looked {
        /// The round's number.
        round: u64,
        /// The committer comes back.
        committer: Box<dyn TableCommitter>,
        /// The answer.
        answer: Result<TokenLookup>,
    },
    /// The table's offsets were read.
    Checkpoint {
        /// The committer comes back.
        committer: Box<dyn TableCommitter>,
        /// Where the table stands.
        stored: Result<OffsetCheckpoint>,
        /// What they were read for.
        purpose: Purpose,
    },
    /// A stretch of a log was searched for records.
    Tail {
        /// Where.
        topic_partition: TopicPartition,
        /// The stretch.
        range: OffsetRange,
        /// True if it holds none.
        empty: Result<bool>,
    },
    /// The table was created, or somebody else's was opened.
    Created(Result<OpenTable>),
    /// The table was looked for.
    Opened(Result<Option<OpenTable>>),
}

/// What the table's offsets are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To decide where to begin in the assignment that waits.
    Assignment,
    /// To see how far other workers have come.
    Elsewhere,
    /// To see what is in a table that we meant to create.
    Creation,
}

/// What became of one batch.
#[derive(Debug)]
pub(super) struct BatchResult {
    /// Where it came from.
    pub topic_partition: TopicPartition,
    /// The offsets that it accounts for.
    pub range: OffsetRange,
    /// What its records became.
    pub accounting: Accounting,
    /// Those that could not become a row.
    pub rejected: Vec<Rejected>,
    /// Bytes of its values.
    pub bytes: u64,
}

/// The jobs of one pipeline.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    running: JoinSet<Done>,
}

impl Jobs {
    /// True if nothing runs.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for the next job to end. `None` if nothing runs.
    pub(super) async fn next(&mut self) -> Option<Result<Done>> {
        let joined = self.running.join_next().await?;
        Some(
            joined.map_err(|e| Error::internal("a job of the pipeline did not end").with_source(e)),
        )
    }

    /// Decodes and writes batches.
    pub(super) fn process(&mut self, mut lane: Box<Lane>, batches: Vec<SourceBatch>) {
        self.running.spawn_blocking(move || {
            let results = batches.iter().map(|batch| process_one(&mut lane, batch)).collect();
            Done::Processed { lane, results }
        });
    }

    /// Finishes the round's files.
    pub(super) fn seal(&mut self, mut lane: Box<Lane>) {
        self.running.spawn_blocking(move || {
            let files = lane.seal();
            Done::Sealed { lane, files }
        });
    }

    /// Brings files into the store.
    pub(super) fn stage(&mut self, round: u64, files: Vec<Box<dyn TableWriter>>) {
        self.running
            .spawn(async move { Done::Staged { round, files: staging::stage_all(files).await } });
    }

    /// Commits.
    pub(super) fn commit(
        &mut self,
        round: u64,
        mut committer: Box<dyn TableCommitter>,
        commit: Arc<StagedCommit>,
    ) {
        self.running.spawn(async move {
            fail::fail_point!("w3_file_complete_unreferenced", |_| std::process::abort());
            let answer = committer.commit(&commit).await;
            fail::fail_point!("w4_commit_sent_no_answer", |_| std::process::abort());
            Done::Committed { round, committer, answer }
        });
    }

    /// Searches the table for a commit.
    pub(super) fn find(
        &mut self,
        round: u64,
        mut committer: Box<dyn TableCommitter>,
        commit: Arc<StagedCommit>,
    ) {
        self.running.spawn(async move {
            let answer = committer.find(&commit).await;
            Done::Looked { round, committer, answer }
        });
    }

    /// Reads the table's offsets.
    pub(super) fn checkpoint(&mut self, mut committer: Box<dyn TableCommitter>, purpose: Purpose) {
        self.running.spawn(async move {
            let stored = committer.checkpoint().await;
            Done::Checkpoint { committer, stored, purpose }
        });
    }

    /// Searches a stretch of a log for records.
    pub(super) fn tail(
        &mut self,
        plan: Arc<ConnectorPlan>,
        topic_partition: TopicPartition,
        range: OffsetRange,
    ) {
        self.running.spawn_blocking(move || {
            let empty = crate::source::holds_no_record(&plan.source, &topic_partition, range);
            Done::Tail { topic_partition, range, empty }
        });
    }

    /// Looks for the table.
    pub(super) fn open(&mut self, plan: Arc<ConnectorPlan>) {
        self.running.spawn(async move { Done::Opened(plan.table.sink.open(&plan.name).await) });
    }

    /// Creates the table.
    pub(super) fn create(&mut self, plan: Arc<ConnectorPlan>, schema: TableSchema) {
        self.running
            .spawn(async move { Done::Created(plan.table.sink.create(&plan.name, &schema).await) });
    }
}

fn process_one(lane: &mut Lane, batch: &SourceBatch) -> Result<BatchResult> {
    let processed = lane.process(&batch.records)?;
    Ok(BatchResult {
        topic_partition: batch.records.topic_partition().clone(),
        range: batch.records.range(),
        accounting: processed.accounting,
        rejected: processed.rejected,
        bytes: batch.records.value_bytes() as u64,
    })
}
