//! What every writer must do.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use crate::batch::{PartitionValues, TableBatch};
use crate::contract::{
    Round, Subject, batch, commit, committed, created, opened, range, rows, staged_file,
    topic_partition, visible_rows,
};
use crate::offsets::OffsetDelta;

/// WR-1: a staged file is seen by nobody.
pub async fn nothing_is_visible_before_a_commit(subject: &dyn Subject) {
    let table = created(subject).await;
    let before = subject.visible().await;
    let _staged = Round::new("t-1").new_range(0, 0, 10).staged(&table).await;
    assert_eq!(subject.visible().await, before);
    drop(opened(subject).await);
    assert_eq!(subject.visible().await, before, "opening the table again makes nothing visible");
}

/// WR-1: whatever a writer had reached when it was dropped, nothing of it is seen, before or after
/// another commit.
pub async fn dropped_writers_leave_nothing_visible(subject: &dyn Subject) {
    let mut table = created(subject).await;
    for steps in 0..4 {
        let name = format!("dropped-{steps}");
        let mut writer =
            table.writers.open_file(&name, &PartitionValues::default(), "sha256:0").unwrap();
        if steps > 0 {
            writer.write(&batch(&topic_partition(0), 0, 5)).unwrap();
        }
        if steps > 1 {
            writer.finish().unwrap();
        }
        if steps > 2 {
            writer.stage().await.unwrap();
        }
    }
    assert_eq!(visible_rows(subject).await, []);
    commit(&mut table, Round::new("t-1").new_range(0, 0, 3)).await;
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 3)]));
}

/// WR-2: what the writer counted is what the staged file says, and what a reader finds.
pub async fn rows_and_bytes_at_close_equal_those_in_the_commit(subject: &dyn Subject) {
    let mut table = created(subject).await;
    let mut writer =
        table.writers.open_file("f-1", &PartitionValues::default(), "sha256:0").unwrap();
    writer.write(&batch(&topic_partition(0), 0, 700)).unwrap();
    assert_eq!(writer.status().rows, 700);
    assert!(writer.status().encoded_bytes > 0, "the rolling policy needs a size before the end");
    writer.write(&batch(&topic_partition(0), 700, 1000)).unwrap();
    writer.finish().unwrap();
    let status = writer.status();
    let file = writer.stage().await.unwrap();
    assert_eq!((status.rows, status.encoded_bytes), (1000, file.bytes));
    assert_eq!(file.rows, 1000);

    let bytes = file.bytes;
    let staged = Round::new("t-1").new_range(0, 0, 1000).with_files(vec![file]);
    committed(table.committer.commit(&staged).await);
    assert_eq!(subject.visible().await.unwrap().files, [(1000, bytes)]);
}

/// A file accounts for the ranges of all its rows, whatever their order.
pub async fn a_file_holds_rows_of_many_topic_partitions(subject: &dyn Subject) {
    let mut table = created(subject).await;
    let (first, second) = (topic_partition(0), topic_partition(1));
    let batches = [batch(&first, 5, 9), batch(&second, 100, 103), batch(&first, 9, 12)];
    let file = staged_file(&table, "f-1", &batches).await;
    let mut expected = OffsetDelta::default();
    expected.append(&first, range(5, 12)).unwrap();
    expected.append(&second, range(100, 103)).unwrap();
    assert_eq!(file.delta, expected);

    let round = Round::new("t-1").new_range(0, 5, 12).new_range(1, 100, 103);
    committed(table.committer.commit(&round.with_files(vec![file])).await);
    assert_eq!(visible_rows(subject).await, rows(&[(0, 5, 12), (1, 100, 103)]));
}

/// A file whose first `stage` seemed to fail is staged again, and is one file.
pub async fn a_file_may_be_staged_again(subject: &dyn Subject) {
    let mut table = created(subject).await;
    let mut writer =
        table.writers.open_file("f-1", &PartitionValues::default(), "sha256:0").unwrap();
    writer.write(&batch(&topic_partition(0), 0, 10)).unwrap();
    writer.finish().unwrap();
    let first = writer.stage().await.unwrap();
    let again = writer.stage().await.unwrap();
    assert_eq!((&first.path, first.rows, first.bytes), (&again.path, again.rows, again.bytes));
    let staged = Round::new("t-1").new_range(0, 0, 10).with_files(vec![again]);
    committed(table.committer.commit(&staged).await);
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 10)]));
}

/// Steps out of order are refused, and do no harm to the file.
pub async fn no_row_follows_the_end_of_a_file(subject: &dyn Subject) {
    let table = created(subject).await;
    let mut writer =
        table.writers.open_file("f-1", &PartitionValues::default(), "sha256:0").unwrap();
    let rows = batch(&topic_partition(0), 0, 10);
    writer.write(&rows).unwrap();
    assert!(writer.stage().await.is_err(), "staged before it was finished");
    writer.finish().unwrap();
    assert!(writer.write(&rows).is_err(), "a row after the end");
    assert!(writer.finish().is_err(), "finished twice");
    assert_eq!(writer.stage().await.unwrap().rows, 10);
}

/// Rows whose columns are not the table's must not be written under other names.
pub async fn rows_with_other_columns_are_refused(subject: &dyn Subject) {
    let table = created(subject).await;
    let mut writer =
        table.writers.open_file("f-1", &PartitionValues::default(), "sha256:0").unwrap();
    let good = batch(&topic_partition(0), 0, 10);
    let mut fields = good.rows().schema().fields().to_vec();
    fields[2] = Arc::new(fields[2].as_ref().clone().with_name("another"));
    let columns = good.rows().columns().to_vec();
    let renamed = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let renamed =
        TableBatch::new(topic_partition(0), range(0, 10), PartitionValues::default(), renamed);
    assert!(writer.write(&renamed).is_err());
}
