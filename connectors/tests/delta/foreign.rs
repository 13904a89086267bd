//! Others at the table: programs that append, alter, drop, restore or clean up.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use connector_api::Retry;
use connector_api::contract::{
    Round, Subject, batch, checkpoint, commit, committed, connector, created, opened, positions,
    rows, schema, staged_file, topic_partition, visible_rows,
};
use connector_api::outcome::{CommitError, CommitOutcome, Conflict, TokenLookup};
use connector_api::staged::StagedCommit;
use futures::FutureExt;
use serde_json::json;

use super::place::Place;

#[track_caller]
fn conflict(outcome: Result<CommitOutcome, CommitError>) -> Conflict {
    match outcome {
        Ok(CommitOutcome::Conflicted { cause }) => cause,
        other => panic!("expected `Conflicted`, found {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_versions_between_our_commits_do_no_harm() {
    let place = Place::new();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let path = place.log().actions("add").next().unwrap()["path"].as_str().unwrap().to_owned();
    let copy = place.root().join("theirs.parquet");
    std::fs::copy(place.root().join(&path), &copy).unwrap();
    let theirs = json!({"add": {
        "path": "theirs.parquet", "partitionValues": {}, "size": copy.metadata().unwrap().len(),
        "modificationTime": 1, "dataChange": true, "stats": "{\"numRecords\":10}"
    }});
    place.write_entry(2, &[json!({"commitInfo": {"operation": "WRITE"}}), theirs]);
    commit(&mut table, Round::new("t-2").range(0, 10, 20)).await;
    let remove = json!({"remove": {
        "path": "theirs.parquet", "deletionTimestamp": 1, "dataChange": true,
        "extendedFileMetadata": true, "partitionValues": {}, "size": copy.metadata().unwrap().len()
    }});
    place.write_entry(4, &[json!({"txn": {"appId": "theirs", "version": 7}}), remove]);
    assert_eq!(commit(&mut table, Round::new("t-3").range(0, 20, 21)).await.version, 5);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 21)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_table_takes_no_files_of_its_old_shape() {
    let place = Place::new();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let next = Round::new("t-2").range(0, 10, 20).staged(&table).await;
    place.alter(2);
    for _ in 0..2 {
        assert_eq!(conflict(table.committer.commit(&next).await), Conflict::TableAltered);
    }
    assert_eq!(place.log().version(), 2, "nothing was written");
    assert_eq!(table.committer.find(&next).await.unwrap(), TokenLookup::NotFound);
    assert_eq!(checkpoint(table.committer.as_mut(), &[0]).await, [(0, 10)]);

    let mut reopened = opened(&place).await;
    commit(&mut reopened, Round::new("t-3").range(0, 10, 20)).await;
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

/// A table in the place of the one that was opened, with this many versions after its creation.
async fn replace(place: &Place, versions: i64) {
    std::fs::remove_dir_all(place.root()).unwrap();
    let mut table = created(place).await;
    for n in 0..versions {
        commit(&mut table, Round::new(&format!("new-{n}")).new_range(7, n, n + 1)).await;
    }
}

async fn check_replaced(versions: i64) {
    let place = Place::new();
    let mut table = created(&place).await;
    for n in 0..3 {
        commit(&mut table, Round::new(&format!("t-{n}")).new_range(0, n, n + 1)).await;
    }
    let next = Round::new("t-3").range(0, 3, 4).staged(&table).await;
    replace(&place, versions).await;
    let before = place.visible().await;
    assert_eq!(
        conflict(table.committer.commit(&next).await),
        Conflict::TableReplaced,
        "{versions}"
    );
    assert!(table.committer.find(&next).await.unwrap_err().needs_decision());
    assert!(table.committer.checkpoint().await.unwrap_err().needs_decision());
    assert_eq!(place.visible().await, before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_dropped_and_created_again_takes_nothing() {
    for versions in 0..6 {
        check_replaced(versions).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_is_not_written_to() {
    let place = Place::new();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let next = Round::new("t-2").range(0, 10, 20).staged(&table).await;
    std::fs::remove_dir_all(place.root()).unwrap();
    match table.committer.commit(&next).await {
        Err(CommitError::NotSent(error)) => assert!(error.needs_decision(), "{error}"),
        other => panic!("expected `NotSent`, found {other:?}"),
    }
    assert!(!place.entry(2).try_exists().unwrap());
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let (path, to) = {
            let e = entry.unwrap();
            (e.path(), to.join(e.file_name()))
        };
        match path.is_dir() {
            true => copy_folder(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
}

/// A folder that is put back from a copy: with as few versions as then, or with others on top.
async fn check_restored(others: i64) {
    let place = Place::new();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-0").new_range(0, 0, 1)).await;
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&place.root(), copy.path());
    for n in 1..4 {
        commit(&mut table, Round::new(&format!("t-{n}")).range(0, n, n + 1)).await;
    }
    let next = Round::new("t-4").range(0, 4, 5).staged(&table).await;
    std::fs::remove_dir_all(place.root()).unwrap();
    copy_folder(copy.path(), &place.root());
    let mut other = opened(&place).await;
    for n in 0..others {
        commit(&mut other, Round::new(&format!("o-{n}")).new_range(1, n, n + 1)).await;
    }
    match table.committer.commit(&next).await {
        Ok(CommitOutcome::RolledBack { stored }) => {
            assert_eq!(positions(&stored), [(0, 1)], "{others}")
        }
        other => panic!("expected `RolledBack`, found {other:?}"),
    }
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 1), (1, 0, others)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_put_back_from_a_copy_has_rolled_back() {
    for others in 0..6 {
        check_restored(others).await;
    }
}

/// A table whose log ends in a log checkpoint, with all entries before it cleaned up.
async fn clean_up(place: &Place) {
    let version = place.log().version();
    let table = opened(place).await;
    let done = table.maintenance.unwrap().reconcile(version).await.unwrap();
    assert_eq!(done, Some(format!("log checkpoint at version {version}")));
    for version in 0..=version {
        std::fs::remove_file(place.entry(version)).unwrap();
    }
}

/// Somebody writes log checkpoints and cleans up the log between two reads of one commit, whichever they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_up_in_the_middle_of_a_commit_is_lived_through() {
    for good in 0..12 {
        let mut place = Place::new();
        with_short_interval(&mut place);
        let mut table = created(&place).await;
        commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
        commit(&mut table, Round::new("t-2").range(0, 10, 12)).await;
        let staged = Round::new("t-3").range(0, 12, 20).staged(&table).await;
        clean_up(&place).await;
        // Without checksum files the log checkpoint and this entry are read.
        place.write_entry(3, &[json!({"txn": {"appId": "somebody", "version": 1}})]);
        for file in std::fs::read_dir(place.root().join("_delta_log")).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "crc") {
                std::fs::remove_file(file).unwrap();
            }
        }
        place.faults.fail_reads_after(good, 0);
        place.faults.miss_reads(1);
        let mut outcome = table.committer.commit(&staged).await;
        if let Err(CommitError::NotSent(error) | CommitError::Unknown(error)) = &outcome {
            // What is read of the version at hand is read again at once, of the newest one.
            assert!(error.to_string().contains("the newest version"), "read {good}: {error}");
            assert_eq!(error.retry(), Retry::AfterRefresh, "read {good}: {error}");
            assert_eq!(table.committer.find(&staged).await.unwrap(), TokenLookup::NotFound);
            outcome = table.committer.commit(&staged).await;
        }
        assert!(matches!(outcome, Ok(CommitOutcome::Committed(_))), "read {good}: {outcome:?}");
    }
}

fn with_short_interval(place: &mut Place) {
    place.settings.properties.insert("delta.checkpointInterval".into(), "2".into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_history_proves_nothing() {
    let mut place = Place::new();
    with_short_interval(&mut place);
    let mut table = created(&place).await;
    let landed = Round::new("t-1").new_range(0, 0, 10).staged(&table).await;
    committed(table.committer.commit(&landed).await);
    commit(&mut table, Round::new("t-2").range(0, 10, 12)).await;
    clean_up(&place).await;
    let pruned = |found: TokenLookup| match found {
        TokenLookup::Pruned { stored } => assert_eq!(positions(&stored), [(0, 12)]),
        other => panic!("expected `Pruned`, found {other:?}"),
    };
    pruned(table.committer.find(&landed).await.unwrap());
    pruned(opened(&place).await.committer.find(&landed).await.unwrap());
    match table.committer.commit(&landed).await {
        Ok(CommitOutcome::Fenced { stored }) => assert_eq!(positions(&stored), [(0, 12)]),
        other => panic!("expected `Fenced`, found {other:?}"),
    }
    let never = Round::new("t-3").range(0, 12, 13).staged(&table).await;
    assert_eq!(
        table.committer.find(&never).await.unwrap(),
        TokenLookup::NotFound,
        "its offsets prove it"
    );
    committed(table.committer.commit(&never).await);
}

/// What is left of a pruned history may be enough.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_took_the_range_tells_that_a_commit_is_not_before_it() {
    let mut place = Place::new();
    with_short_interval(&mut place);
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 5)).await;
    commit(&mut table, Round::new("t-2").range(0, 5, 10)).await;
    let never = Round::new("t-3").range(0, 10, 20).staged(&table).await;
    clean_up(&place).await;
    commit(&mut table, Round::new("t-4").range(0, 10, 20)).await;
    commit(&mut table, Round::new("t-5").range(0, 20, 21)).await;
    assert_eq!(table.committer.find(&never).await.unwrap(), TokenLookup::NotFound);
}

/// Entries may be cleaned up while they are read.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_vanishes_while_it_is_read_does_not_make_the_table_vanish() {
    let place = Place::new();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 5)).await;
    place.faults.miss_reads(1);
    assert!(place.sink().read().await.unwrap().is_some());
}

/// The version after the one that a sleeper knows may be free again: written there, a commit
/// would be seen by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_not_written_into_a_cleaned_up_part_of_the_log() {
    let mut place = Place::new();
    with_short_interval(&mut place);
    let mut sleeper = created(&place).await;
    commit(&mut sleeper, Round::new("t-1").new_range(0, 0, 10)).await;
    let next = Round::new("t-2").range(0, 10, 20).staged(&sleeper).await;
    let mut other = opened(&place).await;
    for n in 0..5 {
        commit(&mut other, Round::new(&format!("o-{n}")).new_range(1, n, n + 1)).await;
    }
    clean_up(&place).await;
    assert_eq!(committed(sleeper.committer.commit(&next).await).version, 7);
    assert!(place.entry(7).try_exists().unwrap() && !place.entry(2).try_exists().unwrap());
    let mut reopened = opened(&place).await;
    assert_eq!(checkpoint(reopened.committer.as_mut(), &[0, 1]).await, [(0, 20), (1, 5)]);
    commit(&mut reopened, Round::new("t-3").range(0, 20, 21)).await;
}

/// What a snapshot carries must not hide what another connector or worker has stored.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_others_commit_are_seen_by_a_committer_that_was_opened_before() {
    let place = Place::new();
    let mut first = created(&place).await;
    let mut second = opened(&place).await;
    for n in 0..6 {
        let table = if n % 2 == 0 { &mut first } else { &mut second };
        assert_eq!(checkpoint(table.committer.as_mut(), &[0]).await.len(), usize::from(n > 0));
        commit(table, Round::new(&format!("t-{n}")).new_range(0, n, n + 1)).await;
    }
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 6)]));
}

/// A committer that does not know what it is given writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_another_sink_are_not_sent() {
    let place = Place::new();
    let mut table = created(&place).await;
    let memory = connector_api::memory::InMemoryTable::new().sink();
    let elsewhere =
        connector_api::sink::Sink::create(&memory, &connector(), &schema()).await.unwrap();
    let foreign: StagedCommit = Round::new("t-1").new_range(0, 0, 10).staged(&elsewhere).await;
    match table.committer.commit(&foreign).await {
        Err(CommitError::NotSent(error)) => {
            assert!(error.to_string().contains("not written by this sink"))
        }
        other => panic!("expected `NotSent`, found {other:?}"),
    }
    assert_eq!(place.log().version(), 0);
}

/// WR-2: a count that changed on its way stops the commit before anything is written.
#[tokio::test(flavor = "multi_thread")]
async fn wr_2_a_file_that_counts_other_rows_than_its_writer_is_not_sent() {
    let place = Place::new();
    let mut table = created(&place).await;
    let mut file = staged_file(&table, "f-1", &[batch(&topic_partition(0), 0, 10)]).await;
    file.rows += 1;
    let staged = Round::new("t-1").new_range(0, 0, 10).with_files(vec![file]);
    // In debug builds a violated invariant is a panic.
    let committed = AssertUnwindSafe(table.committer.commit(&staged)).catch_unwind().await;
    assert!(!matches!(committed, Ok(Ok(_))), "it was sent");
    assert_eq!(place.log().version(), 0);
}
