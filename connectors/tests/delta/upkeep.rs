//! The log's own files: checksums, and log checkpoints.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use connector_api::contract::{
    Round, Subject, checkpoint, commit, created, opened, rows, visible_rows,
};
use connector_api::sink::TableMaintenance;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::place::Place;
use crate::faults::Failing;

/// What the sink's own reader sees, which starts from a log checkpoint where there is one.
async fn read(place: &Place) -> Vec<(i32, i64)> {
    let reader = place.sink().read().await.unwrap().unwrap();
    let batches = tokio::task::spawn_blocking(move || {
        reader.scan(&[0, 1]).unwrap().map(Result::unwrap).collect::<Vec<RecordBatch>>()
    });
    let row = |batch: &RecordBatch| {
        let partitions = batch.column(0).as_primitive::<Int32Type>().values().to_vec();
        let offsets = batch.column(1).as_primitive::<Int64Type>().values().to_vec();
        partitions.into_iter().zip(offsets).collect::<Vec<_>>()
    };
    let mut rows: Vec<_> = batches.await.unwrap().iter().flat_map(row).collect();
    rows.sort_unstable();
    rows
}

fn exists(place: &Place, name: &str) -> bool {
    place.root().join("_delta_log").join(name).try_exists().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_checkpoint_is_written_when_due_and_changes_nothing_for_readers() {
    let mut place = Place::new();
    place.settings.properties.insert("delta.checkpointInterval".into(), "10".into());
    let mut table = created(&place).await;
    let maintenance = table.maintenance.clone().unwrap();
    for n in 0..25 {
        let receipt =
            commit(&mut table, Round::new(&format!("t-{n}")).new_range(0, n, n + 1)).await;
        let done = maintenance.reconcile(receipt.version).await.unwrap();
        assert_eq!(
            done.is_some(),
            receipt.version % 10 == 0,
            "version {}: {done:?}",
            receipt.version
        );
    }
    assert!(exists(&place, "00000000000000000010.checkpoint.parquet"));
    assert!(exists(&place, "00000000000000000020.checkpoint.parquet"));
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 25)]));
    for version in 0..20 {
        std::fs::remove_file(place.entry(version)).unwrap();
    }
    assert_eq!(read(&place).await, rows(&[(0, 0, 25)]));
    let mut reopened = opened(&place).await;
    assert_eq!(checkpoint(reopened.committer.as_mut(), &[0]).await, [(0, 25)]);
    commit(&mut reopened, Round::new("t-25").range(0, 25, 26)).await;
    commit(&mut table, Round::new("t-26").range(0, 26, 27)).await;
    assert_eq!(read(&place).await, rows(&[(0, 0, 27)]));
}

/// Of a table's files there may be a million: 142 bytes of each were written without compression, after they
/// had been in memory as one row group.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_checkpoint_of_many_files_is_small_and_names_each_of_them() {
    const FILES: usize = 20_000;
    let mut place = Place::new();
    place.settings.properties.insert("delta.checkpointInterval".into(), "2".into());
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 1)).await;
    let own = place.log().actions("add").next().unwrap()["path"].as_str().unwrap().to_owned();
    let foreign = |file: usize| format!("elsewhere-{file:08}.parquet");
    let add = |file| {
        let statistics = json!({"numRecords": 10, "minValues": {"kafka_offset": file * 10}});
        json!({"add": {
            "path": foreign(file), "partitionValues": {}, "size": 1000 + file,
            "modificationTime": 1_790_000_000_000_u64 + file as u64, "dataChange": true,
            "stats": statistics.to_string(),
        }})
    };
    place.write_entry(2, &(0..FILES).map(add).collect::<Vec<_>>());
    let done = table.maintenance.unwrap().reconcile(2).await.unwrap();
    assert_eq!(done.as_deref(), Some("log checkpoint at version 2"));

    let log = place.root().join("_delta_log");
    let content = std::fs::read(log.join("00000000000000000002.checkpoint.parquet")).unwrap();
    assert!(content.len() < 50 * FILES, "{} bytes", content.len());
    let batches = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(content)).unwrap();
    let paths = |batch: RecordBatch| {
        let adds = batch.column_by_name("add").unwrap().as_struct();
        let paths = adds.column_by_name("path").unwrap().as_string::<i32>();
        let added = (0..adds.len()).filter(|row| adds.is_valid(*row));
        added.map(|row| paths.value(row).to_owned()).collect::<Vec<_>>()
    };
    let mut found: Vec<String> =
        batches.build().unwrap().flat_map(|batch| paths(batch.unwrap())).collect();
    found.sort_unstable();
    let mut expected: Vec<String> = (0..FILES).map(foreign).chain([own]).collect();
    expected.sort_unstable();
    assert!(found == expected, "{} files, {} expected", found.len(), expected.len());
    let hint = std::fs::read(log.join("_last_checkpoint")).unwrap();
    let hint: Value = serde_json::from_slice(&hint).unwrap();
    assert_eq!((hint["version"].as_u64(), hint["numOfAddFiles"].as_u64()), (Some(2), Some(20_001)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_when_nothing_is_due() {
    let place = Place::new();
    let mut table = created(&place).await;
    let maintenance = table.maintenance.clone().unwrap();
    for n in 0..5 {
        let receipt =
            commit(&mut table, Round::new(&format!("t-{n}")).new_range(0, n, n + 1)).await;
        place.faults.take_writes();
        for _ in 0..2 {
            assert_eq!(maintenance.reconcile(receipt.version).await.unwrap(), None);
        }
        assert_eq!(place.faults.take_writes(), Vec::<String>::new());
    }
}

/// Due is what the table's state says, not what this process has seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_checkpoint_of_another_worker_is_not_written_again() {
    let mut place = Place::new();
    place.settings.properties.insert("delta.checkpointInterval".into(), "3".into());
    let mut table = created(&place).await;
    let other = opened(&place).await.maintenance.unwrap();
    for n in 0..4 {
        commit(&mut table, Round::new(&format!("t-{n}")).new_range(0, n, n + 1)).await;
    }
    let mine = table.maintenance.unwrap();
    assert!(mine.reconcile(4).await.unwrap().is_some());
    assert_eq!(other.reconcile(4).await.unwrap(), None);
    assert_eq!(opened(&place).await.maintenance.unwrap().reconcile(4).await.unwrap(), None);
}

/// Each round that settles meanwhile asks for it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_checkpoint_is_not_written_twice_at_once() {
    let (_place, maintenance) = due().await;
    let (one, other) = tokio::join!(maintenance.reconcile(2), maintenance.reconcile(2));
    assert_eq!(one.unwrap().as_deref(), Some("log checkpoint at version 2"));
    assert_eq!(other.unwrap(), None);
}

/// As after a crash between the two.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_checkpoint_without_its_hint_is_not_written_over() {
    let (place, maintenance) = due().await;
    assert!(maintenance.reconcile(2).await.unwrap().is_some());
    std::fs::remove_file(place.root().join("_delta_log/_last_checkpoint")).unwrap();
    let another = opened(&place).await.maintenance.unwrap();
    assert_eq!(another.reconcile(2).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_log_checkpoint_may_fail() {
    for failing in [Failing::Before, Failing::After] {
        for number in 0.. {
            let (place, maintenance) = due().await;
            place.faults.fail_request(number, failing);
            // Whether it was told or lived through: the next one sees to it.
            let first = maintenance.reconcile(2).await;
            let has_failed = place.faults.has_failed();
            maintenance.reconcile(2).await.unwrap();
            assert!(exists(&place, "00000000000000000002.checkpoint.parquet"), "{first:?}");
            for version in 0..2 {
                std::fs::remove_file(place.entry(version)).unwrap();
            }
            assert_eq!(read(&place).await, rows(&[(0, 0, 2)]), "request {number} {failing:?}");
            if !has_failed {
                assert!(number > 3, "a log checkpoint has more requests");
                break;
            }
        }
    }
}

/// A table of which a log checkpoint is due.
async fn due() -> (Place, Arc<dyn TableMaintenance>) {
    let mut place = Place::new();
    place.settings.properties.insert("delta.checkpointInterval".into(), "2".into());
    let mut table = created(&place).await;
    for n in 0..2 {
        commit(&mut table, Round::new(&format!("t-{n}")).new_range(0, n, n + 1)).await;
    }
    (place, table.maintenance.unwrap())
}

/// Without a checksum file every look-up replays the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_file_is_there_after_creating_and_after_opening() {
    let place = Place::new();
    let mut table = created(&place).await;
    assert!(exists(&place, "00000000000000000000.crc"));
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    assert!(!exists(&place, "00000000000000000001.crc"));
    drop(opened(&place).await);
    assert!(exists(&place, "00000000000000000001.crc"));
    place.faults.take_writes();
    drop(opened(&place).await);
    let mut writes = place.faults.take_writes();
    writes.retain(|write| !write.contains("/_alluvium/probe-"));
    assert_eq!(writes, Vec::<String>::new(), "once is enough");
}

/// One commit is one request to write: the log is not read again, and nothing else is kept up.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_one_write() {
    let place = Place::new();
    let mut table = created(&place).await;
    for n in 0..3 {
        let staged = Round::new(&format!("t-{n}")).new_range(0, n, n + 1).staged(&table).await;
        place.faults.take_writes();
        place.faults.take_reads();
        connector_api::contract::committed(table.committer.commit(&staged).await);
        let writes = place.faults.take_writes();
        assert!(
            writes.len() == 1 && writes[0].ends_with(&format!("{:020}.json", n + 1)),
            "{writes:?}"
        );
        assert_eq!(place.faults.take_reads(), 1, "one look at the version that it builds on");
    }
}

/// Prints what a commit costs: `cargo test -p connectors --test contract -- --ignored --nocapture figures`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, and asserts none"]
#[allow(clippy::disallowed_methods, reason = "it measures real time")]
async fn figures_of_200_commits_with_10_files() {
    let place = Place::new();
    let mut table = created(&place).await;
    let maintenance = table.maintenance.clone().unwrap();
    let mut took = Vec::new();
    for n in 0..200 {
        let round =
            (0..10).fold(Round::new(&format!("t-{n}")), |round, p| round.new_range(p, n, n + 1));
        let staged = round.staged(&table).await;
        let start = Instant::now();
        let receipt = connector_api::contract::committed(table.committer.commit(&staged).await);
        took.push(start.elapsed().as_secs_f64() * 1e3);
        maintenance.reconcile(receipt.version).await.unwrap();
    }
    for (i, part) in took.chunks(25).enumerate() {
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        println!("commits {:3}..{:3}: {mean:.1} ms", i * 25, i * 25 + part.len());
    }
}
