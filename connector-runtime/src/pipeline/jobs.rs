//! Work that the pipeline starts and goes on without: CPU work on blocking threads, I/O in tasks.
//!
//! The lane and the tables travel with the job that uses them, so two jobs can never use one at
//! the same time.

use std::collections::BTreeSet;
use std::sync::Arc;

use connector_api::batch::TableSchema;
use connector_api::decoded::Rejected;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetRange};
use connector_api::outcome::{CommitError, CommitOutcome, TokenLookup};
use connector_api::sink::OpenTable;
use connector_api::staged::{Accounting, StagedCommit, StagedFile};
use connector_api::{Error, Result};
use tokio::task::JoinSet;

use super::in_place::check_late;
use crate::commit::settle::TableRole;
use crate::commit::tables::{Checkpoints, Tables};
use crate::config::ConnectorPlan;
use crate::source::{Question, SourceBatch, Tail, TopicWitness};
use crate::write::{Lane, SealedFiles, staging};

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
        /// What to stage.
        sealed: Result<SealedFiles>,
    },
    /// The round's files are in the store.
    Staged {
        /// The round's number.
        round: u64,
        /// The tables come back, if they were needed.
        tables: Option<Tables>,
        /// The files of the connector's table, and those of its dead letters.
        files: Result<(Vec<StagedFile>, Vec<StagedFile>)>,
    },
    /// The table answered to a commit, or not.
    Committed {
        /// The round's number.
        round: u64,
        /// The tables come back.
        tables: Tables,
        /// Which of them answered.
        role: TableRole,
        /// The answer.
        answer: Result<CommitOutcome, CommitError>,
    },
    /// The table was searched for a commit.
    Looked {
        /// The round's number.
        round: u64,
        /// The tables come back.
        tables: Tables,
        /// Which of them was searched.
        role: TableRole,
        /// The answer.
        answer: Result<TokenLookup>,
    },
    /// The tables' offsets were read.
    Checkpoint {
        /// The tables come back.
        tables: Tables,
        /// Where they stand.
        stored: Result<Checkpoints>,
        /// What they were read for.
        purpose: Purpose,
    },
    /// A stretch of a log was searched for records.
    Tail {
        /// Where.
        topic_partition: TopicPartition,
        /// The stretch, if it holds none.
        empty: Result<Option<OffsetRange>>,
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

/// A batch whose turn it is.
#[derive(Debug)]
pub(super) struct NextBatch {
    /// The records.
    pub batch: SourceBatch,
    /// Rejected records before this offset are in the dead-letter table already.
    pub dead_letters_from: Offset,
    /// Records of the batch that are dead letters already, which is not to be decided again.
    pub in_place: Option<BTreeSet<i64>>,
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
    pub(super) fn process(&mut self, mut lane: Box<Lane>, batches: Vec<NextBatch>) {
        self.running.spawn_blocking(move || {
            let results = batches.iter().map(|batch| process_one(&mut lane, batch)).collect();
            Done::Processed { lane, results }
        });
    }

    /// Finishes the round's files.
    pub(super) fn seal(&mut self, mut lane: Box<Lane>) {
        self.running.spawn_blocking(move || {
            let sealed = lane.seal();
            Done::Sealed { lane, sealed }
        });
    }

    /// Brings a round's content into the store. Dead letters need their table.
    /// Meanwhile the brokers are asked if its topics are still the ones that it was read from.
    pub(super) fn stage(
        &mut self,
        round: u64,
        sealed: SealedFiles,
        mut tables: Option<Tables>,
        witness: Question,
    ) {
        self.running.spawn(async move {
            let same_topics = tokio::task::spawn_blocking(move || witness.ask());
            let dead_letters = async {
                match &mut tables {
                    Some(tables) if !sealed.dead_letters.is_empty() => {
                        tables.stage_dead_letters(sealed.dead_letters).await
                    }
                    _ => Ok(Vec::new()),
                }
            };
            let files =
                futures::future::try_join(staging::stage_all(sealed.files), dead_letters).await;
            let files = match same_topics.await {
                Ok(Err(error)) => Err(error),
                Ok(Ok(())) => files,
                Err(e) => {
                    Err(Error::internal("a question to the brokers did not end").with_source(e))
                }
            };
            Done::Staged { round, tables, files }
        });
    }

    /// Commits.
    pub(super) fn commit(
        &mut self,
        round: u64,
        mut tables: Tables,
        role: TableRole,
        commit: Arc<StagedCommit>,
    ) {
        self.running.spawn(async move {
            fail::fail_point!("w3_file_complete_unreferenced", |_| std::process::abort());
            let answer = tables.commit(role, &commit).await;
            match role {
                TableRole::Anchor => {
                    fail::fail_point!("w4_commit_sent_no_answer", |_| std::process::abort());
                }
                TableRole::DeadLetters => {
                    fail::fail_point!("dead_letters_without_anchor", |_| std::process::abort());
                }
            }
            Done::Committed { round, tables, role, answer }
        });
    }

    /// Searches the table for a commit.
    pub(super) fn find(
        &mut self,
        round: u64,
        mut tables: Tables,
        role: TableRole,
        commit: Arc<StagedCommit>,
    ) {
        self.running.spawn(async move {
            let answer = tables.find(role, &commit).await;
            Done::Looked { round, tables, role, answer }
        });
    }

    /// Reads the tables' offsets.
    pub(super) fn checkpoint(&mut self, mut tables: Tables, purpose: Purpose) {
        self.running.spawn(async move {
            let stored = tables.checkpoints().await;
            Done::Checkpoint { tables, stored, purpose }
        });
    }

    /// Searches a stretch of a log for records.
    pub(super) fn tail(&mut self, witness: Arc<TopicWitness>, tail: Tail) {
        self.running.spawn_blocking(move || {
            let empty = crate::source::tail(&witness, &tail);
            Done::Tail { topic_partition: tail.topic_partition, empty }
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

fn process_one(lane: &mut Lane, next: &NextBatch) -> Result<BatchResult> {
    let batch = &next.batch;
    let mut processed = match &next.in_place {
        Some(in_place) => {
            let others = batch.records.without(in_place);
            let processed = lane.process(&others, next.dead_letters_from)?;
            check_late(&processed.rejected, next.dead_letters_from)?;
            processed
        }
        None => lane.process(&batch.records, next.dead_letters_from)?,
    };
    let in_place = next.in_place.as_ref().map_or(0, |in_place| in_place.len() as u64);
    processed.accounting.consumed += in_place;
    processed.accounting.rejected += in_place;
    Ok(BatchResult {
        topic_partition: batch.records.topic_partition().clone(),
        range: batch.records.range(),
        accounting: processed.accounting,
        rejected: processed.rejected,
        bytes: batch.records.value_bytes() as u64,
    })
}
