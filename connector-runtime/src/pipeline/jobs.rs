//! Work that the pipeline starts and goes on without: CPU work on blocking threads, I/O beside itself.
//!
//! The lane and the tables travel with the job that uses them, so two jobs can never use one at
//! the same time. All jobs belong to the pipeline's own task, so that on a runtime of one thread, as a
//! simulation has it, who drops or does not poll the connector has stopped all of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use connector_api::Result;
use connector_api::batch::TableSchema;
use connector_api::decoded::Rejected;
use connector_api::ids::{ConnectorName, TopicPartition};
use connector_api::offsets::{Offset, OffsetRange};
use connector_api::outcome::{CommitError, CommitOutcome, TokenLookup};
use connector_api::sink::OpenTable;
use connector_api::sink::TableMaintenance;
use connector_api::staged::{Accounting, StagedCommit, StagedFile};
use futures::future::{BoxFuture, FutureExt, ready};
use futures::stream::{FuturesUnordered, StreamExt};

use super::in_place::check_late;
use crate::blocking::blocking;
use crate::commit::settle::TableRole;
use crate::commit::tables::{Checkpoints, Tables};
use crate::config::ConnectorPlan;
use crate::cores::Cores;
use crate::source::{SourceBatch, Tail, Witness};
use crate::write::{Lane, SealedFiles, staging};

/// What came of a job.
pub(super) enum Done {
    /// Batches were decoded and written into open files.
    Processed {
        /// The lane comes back.
        lane: Box<Lane>,
        /// One for each batch, in order.
        results: Result<Vec<BatchResult>>,
        /// Those for which the round had no room.
        left: Vec<SourceBatch>,
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
    /// The ends of logs were asked for.
    LogEnds {
        /// The offsets behind the last readable records.
        ends: Result<Vec<(TopicPartition, Offset)>>,
        /// Where the tables stood before that.
        stored: Checkpoints,
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
#[derive(Debug)]
pub(super) struct Jobs {
    /// What decodes and encodes.
    cores: Cores,
    running: FuturesUnordered<BoxFuture<'static, Result<Done>>>,
    /// Upkeep of tables, which nobody waits for.
    upkeep: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Jobs {
    pub(super) fn new(cores: Cores) -> Self {
        Self { cores, running: FuturesUnordered::new(), upkeep: FuturesUnordered::new() }
    }

    /// True if nothing runs.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Goes on with all jobs until one ends.
    pub(super) async fn next(&mut self) -> Result<Done> {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.running.next() => return done,
                Some(()) = self.upkeep.next() => {}
                else => return std::future::pending().await,
            }
        }
    }

    /// Goes on with all that was started, to its end. What comes of it changes nothing any more.
    pub(super) async fn finish(&mut self) {
        let (running, upkeep) = (self.running.by_ref(), self.upkeep.by_ref());
        futures::future::join(running.for_each(|_| ready(())), upkeep.for_each(ready)).await;
    }

    fn start(&mut self, job: impl Future<Output = Result<Done>> + Send + 'static) {
        self.running.push(job.boxed());
    }

    /// Does what is due for the health of a table.
    pub(super) fn maintain(
        &mut self,
        connector: ConnectorName,
        maintenance: Arc<dyn TableMaintenance>,
        version: u64,
    ) {
        let upkeep = async move {
            match maintenance.reconcile(version).await {
                Ok(Some(done)) => tracing::info!(%connector, done, "table maintained"),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%connector, %error, "the table was not maintained, tried again later")
                }
            }
        };
        self.upkeep.push(upkeep.boxed());
    }

    /// Decodes and writes batches.
    pub(super) fn process(&mut self, mut lane: Box<Lane>, batches: Vec<NextBatch>) {
        self.start(self.cores.clone().run(move || {
            let mut batches = batches.into_iter();
            let mut results = Vec::new();
            // One at least, so that a full lane cannot stand still.
            for batch in batches.by_ref() {
                results.push(process_one(&mut lane, &batch));
                if lane.is_full() {
                    break;
                }
            }
            let left = batches.map(|next| next.batch).collect();
            Done::Processed { lane, results: results.into_iter().collect(), left }
        }));
    }

    /// Finishes the round's files.
    pub(super) fn seal(&mut self, mut lane: Box<Lane>) {
        self.start(self.cores.clone().run(move || {
            let sealed = lane.seal();
            Done::Sealed { lane, sealed }
        }));
    }

    /// Brings a round's content into the store. Dead letters need their table.
    /// Meanwhile the brokers are asked if its topics are still the ones that it was read from.
    pub(super) fn stage(
        &mut self,
        round: u64,
        sealed: SealedFiles,
        mut tables: Option<Tables>,
        witness: Arc<dyn Witness>,
        read_from: Vec<TopicPartition>,
    ) {
        self.start(async move {
            let same_topics = blocking(move || witness.same_topics(read_from));
            let dead_letters = async {
                match &mut tables {
                    Some(tables) if !sealed.dead_letters.is_empty() => {
                        tables.stage_dead_letters(sealed.dead_letters).await
                    }
                    _ => Ok(Vec::new()),
                }
            };
            let staging = futures::future::try_join(staging::stage_all(sealed.files), dead_letters);
            let (same_topics, files) = futures::future::join(same_topics, staging).await;
            let files = same_topics?.and(files);
            Ok(Done::Staged { round, tables, files })
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
        self.start(async move {
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
            Ok(Done::Committed { round, tables, role, answer })
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
        self.start(async move {
            let answer = tables.find(role, &commit).await;
            Ok(Done::Looked { round, tables, role, answer })
        });
    }

    /// Reads the tables' offsets.
    pub(super) fn checkpoint(&mut self, mut tables: Tables, purpose: Purpose) {
        self.start(async move {
            let stored = tables.checkpoints().await;
            Ok(Done::Checkpoint { tables, stored, purpose })
        });
    }

    /// Searches a stretch of a log for records.
    pub(super) fn tail(&mut self, witness: Arc<dyn Witness>, tail: Tail) {
        self.start(blocking(move || {
            let empty = witness.tail(&tail);
            Done::Tail { topic_partition: tail.topic_partition, empty }
        }));
    }

    /// Asks for the ends of logs, after the tables were read.
    pub(super) fn log_ends(
        &mut self,
        witness: Arc<dyn Witness>,
        of: Vec<TopicPartition>,
        stored: Checkpoints,
    ) {
        self.start(blocking(move || {
            let end = |tp: TopicPartition| witness.log_end(&tp).map(|end| (tp, end));
            Done::LogEnds { ends: of.into_iter().map(end).collect(), stored }
        }));
    }

    /// Looks for the table.
    pub(super) fn open(&mut self, plan: Arc<ConnectorPlan>) {
        self.start(async move { Ok(Done::Opened(plan.table.sink.open(&plan.name).await)) });
    }

    /// Creates the table.
    pub(super) fn create(&mut self, plan: Arc<ConnectorPlan>, schema: TableSchema) {
        self.start(
            async move { Ok(Done::Created(plan.table.sink.create(&plan.name, &schema).await)) },
        );
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
