//! The ledger as people read it, and what happens if it or the table is not the one that was known.

use connector_api::contract::{
    Round, Subject, commit, connector, created, opened, rows, topic_partition, visible_rows,
};
use connector_api::outcome::{CommitOutcome, Conflict, TokenLookup};

use super::place::Place;
use crate::faults::answers::staged;

const TABLE: &str = "_alluvium/table.json";
const LEDGER: &str = "_alluvium/contract.ledger.json";

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_says_where_the_connector_stands_and_what_it_did() {
    let place = Place::in_memory();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(3, 5, 9)).await;
    let ledger = place.ledger().await.unwrap();
    let identity = topic_partition(3).identity(&connector());
    assert_eq!(ledger["offsets"], serde_json::json!({ &identity: 9 }));
    assert_eq!(ledger["version"], 1);
    let entry = &ledger["history"][0];
    assert_eq!(entry["token"], "t-1");
    assert_eq!(entry["fingerprint"], "sha256:t-1");
    assert_eq!(entry["offsets"], serde_json::json!({ &identity: [null, 9] }));
    assert_eq!((&entry["consumed"], &entry["files"]), (&4.into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_bounded_and_older_commits_are_told_by_the_offsets() {
    let place = Place::in_memory();
    let (mut table, never) = staged(&place).await;
    for round in 10..130 {
        commit(&mut table, Round::new(&format!("r-{round}")).range(0, round, round + 1)).await;
    }
    assert_eq!(place.ledger().await.unwrap()["history"].as_array().unwrap().len(), 100);
    // The table is behind its end, so nobody can tell.
    let found = table.committer.find(&never).await.unwrap();
    assert!(matches!(found, TokenLookup::Pruned { .. }), "{found:?}");
    let next = Round::new("next").range(0, 130, 140).staged(&table).await;
    assert_eq!(table.committer.find(&next).await.unwrap(), TokenLookup::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_dropped_takes_no_commit() {
    let place = Place::in_memory();
    let (mut table, next) = staged(&place).await;
    for name in place.names().await {
        place.delete(&name).await;
    }
    let error = table.committer.commit(&next).await.unwrap_err();
    assert!(format!("{error:?}").contains("the table was dropped"), "{error:?}");
    assert_eq!(place.names().await, [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_made_anew_is_another_one() {
    let place = Place::in_memory();
    let (mut table, next) = staged(&place).await;
    for name in place.names().await {
        place.delete(&name).await;
    }
    drop(created(&place).await);
    let outcome = table.committer.commit(&next).await.unwrap();
    let replaced = CommitOutcome::Conflicted { cause: Conflict::TableReplaced };
    assert_eq!(outcome, replaced);
    assert_eq!(table.committer.conflict().await.unwrap(), Some(Conflict::TableReplaced));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_lost_is_a_roll_back_and_one_of_another_table_is_refused() {
    let place = Place::in_memory();
    let (mut table, next) = staged(&place).await;
    place.delete(LEDGER).await;
    let outcome = table.committer.commit(&next).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::RolledBack { .. }), "{outcome:?}");

    let place = Place::in_memory();
    drop(staged(&place).await);
    place.delete(TABLE).await;
    for file in place.data_files().await {
        place.delete(&file.name).await;
    }
    let mut table = created(&place).await;
    let error = table.committer.checkpoint().await.unwrap_err();
    assert!(error.needs_decision() && error.to_string().contains("of another table"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_files_of_others_is_no_place_for_a_table() {
    let place = Place::in_memory();
    drop(staged(&place).await);
    place.delete(TABLE).await;
    let error = place.sink_error().await;
    assert!(error.contains("no Parquet table of ours, for example `part-"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mn_1_a_commit_of_files_that_may_be_swept_is_refused_and_its_records_are_written_anew() {
    let place = Place::in_memory();
    let (mut table, next) = staged(&place).await;
    let text = String::from_utf8(place.object(LEDGER).await.unwrap().to_vec()).unwrap();
    let swept = "\"swept\": \"part-t-2-9\",\n  \"history\"";
    place.put(LEDGER, text.replacen("\"history\"", swept, 1)).await;
    let outcome = table.committer.commit(&next).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Conflicted { cause: Conflict::TableAltered });
    commit(&mut opened(&place).await, Round::new("t-3").range(0, 10, 20)).await;
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_newer_form_are_refused() {
    let place = Place::in_memory();
    drop(staged(&place).await);
    let newer = String::from_utf8(place.object(LEDGER).await.unwrap().to_vec()).unwrap();
    place.put(LEDGER, newer.replacen("\"form\": 1", "\"form\": 2", 1)).await;
    let error = opened(&place).await.committer.checkpoint().await.unwrap_err();
    assert!(error.to_string().contains("has the form 2, and this build knows 1"), "{error}");
}

/// Two workers could both swap the same ledger there.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused_with_and_without_a_table() {
    let place = Place::in_memory();
    place.faults.ignore_conditions();
    let schema = connector_api::contract::schema();
    let created_there = place.sink().create(&connector(), &schema).await;
    let message = created_there.unwrap_err().to_string();
    assert!(message.contains("does not keep the conditions of writes"), "{message}");

    let place = Place::in_memory();
    drop(created(&place).await);
    place.faults.ignore_conditions();
    let message = place.sink().open(&connector()).await.unwrap_err().to_string();
    assert!(message.contains("does not keep the conditions of writes"), "{message}");
}
