//! What every sink must do, as functions that every sink's tests call.
//!
//! A sink says through [`Subject`] how to reach one table and what an independent reader sees in
//! it; [`sink_contract!`](crate::sink_contract) then makes one test of each function:
//!
//! ```ignore
//! connector_api::sink_contract!(MySubject::new());
//! ```
//!
//! Each function gets a subject of its own, with nothing at its place yet.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "these functions are the bodies of tests: a panic is how they say what went wrong"
)]

pub mod committer;
pub mod losing;
pub mod reset;
pub mod writer;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;

use crate::batch::{PartitionValues, TableBatch, TableSchema};
use crate::config::{Compression, TableSettings};
use crate::ids::{CommitToken, ConnectorName, TopicId, TopicPartition};
use crate::offsets::{Offset, OffsetCheckpoint, OffsetDelta, OffsetRange};
use crate::outcome::{CommitOutcome, CommitReceipt};
use crate::sink::{OpenTable, Sink, TableCommitter};
use crate::staged::{Accounting, StagedCommit, StagedFile, StagedParts};

/// One place for one table of the sink under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A new sink on this place. All sinks of a subject mean the same table.
    fn sink(&self) -> Arc<dyn Sink>;

    /// What a reader sees that shares no code with the sink; `None` if there is no table.
    async fn visible(&self) -> Option<Visible>;

    /// Makes the next commit that is sent end without an answer. `landed` says if the table gets it.
    fn lose_next_answer(&self, landed: bool);
}

/// What a reader sees of a table with the columns of [`schema`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    /// The newest version.
    pub version: u64,
    /// `(kafka_partition, kafka_offset)` of each row, in ascending order.
    pub rows: Vec<(i32, i64)>,
    /// `(rows, bytes)` of each file, in any order.
    pub files: Vec<(u64, u64)>,
}

/// Makes one test of each function of the contract. The argument makes a new [`Subject`].
#[macro_export]
macro_rules! sink_contract {
    ($subject:expr) => {
        $crate::sink_contract!(@tests $subject;
            writer::nothing_is_visible_before_a_commit,
            writer::dropped_writers_leave_nothing_visible,
            writer::rows_and_bytes_at_close_equal_those_in_the_commit,
            writer::a_file_holds_rows_of_many_topic_partitions,
            writer::a_file_may_be_staged_again,
            writer::no_row_follows_the_end_of_a_file,
            writer::rows_with_other_columns_are_refused,
            committer::a_commit_makes_rows_and_offsets_visible_together,
            committer::commits_follow_each_other,
            committer::a_never_seen_topic_partition_has_no_checkpoint,
            committer::offset_zero_is_a_position,
            committer::reopening_sees_the_checkpoint,
            committer::a_stored_offset_ahead_of_the_start_fences,
            committer::a_stored_offset_behind_the_start_is_a_roll_back,
            committer::of_two_start_decisions_the_first_to_be_committed_counts,
            committer::a_start_position_is_committed_without_a_record,
            committer::an_unknown_topic_partition_needs_a_start_decision,
            committer::one_misfitting_topic_partition_refuses_the_whole_commit,
            committer::a_token_in_the_table_is_already_committed,
            committer::a_token_is_found_by_another_committer_after_others_have_committed,
            committer::a_token_that_was_never_sent_is_not_found,
            committer::a_lost_answer_of_a_landed_commit_is_found,
            committer::a_lost_answer_of_a_commit_that_did_not_land_is_not_found,
            committer::a_retry_without_a_look_up_adds_no_rows,
            committer::of_two_committers_for_one_range_exactly_one_wins,
            committer::two_committers_for_different_topic_partitions_both_commit,
            committer::a_commit_without_files_moves_the_checkpoint_alone,
            committer::commits_are_no_conflict,
            committer::a_recreated_topic_is_another_identity_beside_the_old_one,
            committer::connectors_keep_their_offsets_apart,
            committer::the_fingerprint_is_that_of_the_newest_commit_of_a_topic_partition,
            committer::two_that_create_at_once_get_one_table,
            committer::no_table_is_no_error,
            reset::a_reset_moves_back_and_the_records_come_again,
            reset::a_reset_moves_forward_over_records,
            reset::a_reset_may_name_a_topic_partition_that_was_never_seen,
            reset::a_reset_is_refused_when_the_table_has_moved,
            reset::a_reset_has_no_fingerprint,
            reset::a_worker_that_runs_through_a_reset_writes_nothing,
            reset::a_lost_answer_of_a_landed_reset_is_resolved,
            reset::a_lost_answer_of_a_reset_that_did_not_land_is_resolved,
            reset::a_commit_from_before_a_reset_is_still_found,
            reset::a_commit_that_was_never_sent_is_not_found_after_a_reset,
            reset::a_retry_after_a_reset_to_its_start_adds_no_rows,
        );
    };
    (@tests $subject:expr; $($module:ident::$name:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $crate::contract::$module::$name(&$subject).await;
            }
        )*
    };
}

/// The columns of the tables that these tests write.
pub fn schema() -> TableSchema {
    let columns = Schema::new(vec![
        Field::new("kafka_partition", DataType::Int32, true),
        Field::new("kafka_offset", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]);
    TableSchema { columns: Arc::new(columns), partition_columns: Vec::new() }
}

/// The settings of a table at this location of which nothing else is said.
pub fn settings(location: &str) -> TableSettings {
    TableSettings {
        location: location.to_owned(),
        partition_by: Vec::new(),
        properties: [].into(),
        storage: [].into(),
        compression: Compression::Zstd(1),
    }
}

/// The connector that these tests write for.
pub fn connector() -> ConnectorName {
    ConnectorName::parse("contract").unwrap()
}

/// A partition of the topic that these tests read.
pub fn topic_partition(partition: i32) -> TopicPartition {
    let topic_id = TopicId::Known("AAAAAAAAAAAAAAAAAAAAAQ".into());
    TopicPartition { topic: "orders".into(), topic_id, partition }
}

/// The table's checkpoint for these partitions of the topic: `(partition, next offset)`.
pub async fn checkpoint(committer: &mut dyn TableCommitter, partitions: &[i32]) -> Vec<(i32, i64)> {
    let stored = committer.checkpoint().await.unwrap();
    let next =
        |partition: &i32| Some((*partition, stored.next(&topic_partition(*partition))?.get()));
    partitions.iter().filter_map(next).collect()
}

/// A checkpoint as `(partition, next offset)`.
pub fn positions(checkpoint: &OffsetCheckpoint) -> Vec<(i32, i64)> {
    checkpoint.iter().map(|(tp, next)| (tp.partition, next.get())).collect()
}

/// The range `[start, end)`.
pub fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset::new(start).unwrap(), Offset::new(end).unwrap()).unwrap()
}

/// One row for each offset of a range.
pub fn batch(topic_partition: &TopicPartition, start: i64, end: i64) -> TableBatch {
    let offsets = Int64Array::from_iter_values(start..end);
    let partitions = Int32Array::from_value(topic_partition.partition, offsets.len());
    let texts = StringArray::from_iter_values((start..end).map(|offset| format!("row {offset}")));
    let columns = vec![Arc::new(partitions) as _, Arc::new(offsets) as _, Arc::new(texts) as _];
    let rows = RecordBatch::try_new(schema().columns, columns).unwrap();
    TableBatch::new(topic_partition.clone(), range(start, end), PartitionValues::default(), rows)
}

/// A staged file with these batches.
pub async fn staged_file(table: &OpenTable, name: &str, batches: &[TableBatch]) -> StagedFile {
    let mut writer =
        table.writers.open_file(name, &PartitionValues::default(), "sha256:0").unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    writer.stage().await.unwrap()
}

/// A commit that is described by its ranges.
#[derive(Debug, Clone, Default)]
pub struct Round {
    token: String,
    ranges: Vec<(TopicPartition, i64, i64)>,
    new: BTreeSet<TopicPartition>,
}

impl Round {
    /// A commit with this token.
    pub fn new(token: &str) -> Self {
        Self { token: token.to_owned(), ..Self::default() }
    }

    /// Adds the range `[start, end)` of one partition.
    #[must_use]
    pub fn range(self, partition: i32, start: i64, end: i64) -> Self {
        self.range_of(&topic_partition(partition), start, end)
    }

    /// Adds the range `[start, end)` of one partition for which a start position was decided.
    #[must_use]
    pub fn new_range(mut self, partition: i32, start: i64, end: i64) -> Self {
        self.new.insert(topic_partition(partition));
        self.range(partition, start, end)
    }

    /// Adds the range `[start, end)` of any topic partition.
    #[must_use]
    pub fn range_of(mut self, topic_partition: &TopicPartition, start: i64, end: i64) -> Self {
        self.ranges.push((topic_partition.clone(), start, end));
        self
    }

    /// Lets the table know this topic partition for the first time.
    #[must_use]
    pub fn with_new(mut self, topic_partition: &TopicPartition) -> Self {
        self.new.insert(topic_partition.clone());
        self
    }

    /// The ranges.
    pub fn delta(&self) -> OffsetDelta {
        let mut delta = OffsetDelta::default();
        for (topic_partition, start, end) in &self.ranges {
            delta.append(topic_partition, range(*start, *end)).unwrap();
        }
        delta
    }

    /// Writes one file for each range, with a row for each offset.
    pub async fn staged(self, table: &OpenTable) -> StagedCommit {
        let mut files = Vec::new();
        for (i, (topic_partition, start, end)) in self.ranges.iter().enumerate() {
            let name = format!("{}-{i}", self.token);
            files.push(staged_file(table, &name, &[batch(topic_partition, *start, *end)]).await);
        }
        self.with_files(files)
    }

    /// A commit with these files.
    pub fn with_files(self, files: Vec<StagedFile>) -> StagedCommit {
        let written = files.iter().map(|file| file.rows).sum();
        StagedCommit::new(StagedParts {
            delta: self.delta(),
            fingerprint: fingerprint(&self.token),
            token: CommitToken(self.token),
            files,
            new_topic_partitions: self.new,
            accounting: Accounting { consumed: written, written, ..Accounting::default() },
            losses: Vec::new(),
        })
    }
}

/// The fingerprint in the commit of a [`Round`] with this token.
pub fn fingerprint(token: &str) -> String {
    format!("sha256:{token}")
}

/// The table of a subject, created.
pub async fn created(subject: &dyn Subject) -> OpenTable {
    subject.sink().create(&connector(), &schema()).await.unwrap()
}

/// The table of a subject, opened.
pub async fn opened(subject: &dyn Subject) -> OpenTable {
    subject.sink().open(&connector()).await.unwrap().unwrap()
}

/// Commits, and takes nothing but `Committed` for an answer.
#[track_caller]
pub fn committed(outcome: Result<CommitOutcome, crate::outcome::CommitError>) -> CommitReceipt {
    match outcome {
        Ok(CommitOutcome::Committed(receipt)) => receipt,
        other => panic!("expected `Committed`, found {other:?}"),
    }
}

/// Stages and commits.
pub async fn commit(table: &mut OpenTable, round: Round) -> CommitReceipt {
    let staged = round.staged(table).await;
    committed(table.committer.commit(&staged).await)
}

/// `(partition, offset)` of each offset in some ranges, in ascending order.
pub fn rows(ranges: &[(i32, i64, i64)]) -> Vec<(i32, i64)> {
    let mut rows: Vec<_> = ranges
        .iter()
        .flat_map(|(partition, start, end)| (*start..*end).map(|offset| (*partition, offset)))
        .collect();
    rows.sort_unstable();
    rows
}

/// The rows that a reader sees.
pub async fn visible_rows(subject: &dyn Subject) -> Vec<(i32, i64)> {
    subject.visible().await.unwrap().rows
}

/// Runs two futures at once, on one task.
pub async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut a, mut b) = (None, None);
    poll_fn(|context| {
        if a.is_none()
            && let Poll::Ready(done) = first.as_mut().poll(context)
        {
            a = Some(done);
        }
        if b.is_none()
            && let Poll::Ready(done) = second.as_mut().poll(context)
        {
            b = Some(done);
        }
        if a.is_some() && b.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (a.unwrap(), b.unwrap())
}
