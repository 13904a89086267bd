//! Commits that are decided and not published: by a worker that died, slept or lost an answer.

use connector_api::contract::{
    Round, checkpoint, commit, committed, created, opened, rows, topic_partition, visible_rows,
};
use connector_api::ids::CommitToken;
use connector_api::offsets::Offset;
use connector_api::outcome::{CommitError, CommitOutcome, TokenLookup};
use connector_api::reset::{OffsetMove, OffsetReset};

use super::place::Place;
use crate::faults::RenameFault::{AppliedThenError, Half, Lost};
use crate::faults::answers::staged;

/// The names of files that no reader sees.
async fn out_of_sight(place: &Place) -> Vec<String> {
    place.names().await.into_iter().filter(|name| name.contains(".staged/")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_has_decided_is_published_by_the_next_one() {
    for fault in [Lost, AppliedThenError, Half] {
        let place = Place::in_memory();
        let (mut dead, next) = staged(&place).await;
        place.faults.fail_renames([fault]);
        let outcome = dead.committer.commit(&next).await;
        assert!(matches!(outcome, Err(CommitError::Unknown(_))), "{outcome:?}");
        drop(dead);

        let mut heir = opened(&place).await;
        assert_eq!(checkpoint(heir.committer.as_mut(), &[0]).await, [(0, 20)]);
        assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
        assert_eq!(place.ledger().await.unwrap()["publishing"], serde_json::json!([]));
        commit(&mut heir, Round::new("t-3").range(0, 20, 30)).await;
        assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 30)]));
        assert_eq!(out_of_sight(&place).await, [] as [String; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_in_the_middle_doubles_nothing() {
    for fault in [Lost, AppliedThenError, Half] {
        let place = Place::in_memory();
        let (mut slept, next) = staged(&place).await;
        place.faults.fail_renames([fault]);
        assert!(slept.committer.commit(&next).await.is_err());
        let mut owner = opened(&place).await;
        assert_eq!(checkpoint(owner.committer.as_mut(), &[0]).await, [(0, 20)]);
        commit(&mut owner, Round::new("t-3").range(0, 20, 30)).await;

        let found = slept.committer.find(&next).await.unwrap();
        assert!(matches!(found, TokenLookup::Found(_)), "{found:?}");
        assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 30)]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_many_files_is_published_to_its_end() {
    let place = Place::in_memory();
    let mut table = created(&place).await;
    let mut round = Round::new("t-1");
    for partition in 0..40 {
        round = round.new_range(partition, 0, 3);
    }
    let many = round.staged(&table).await;
    // Some are renamed, some are not, and of one nobody knows.
    place.faults.fail_renames([AppliedThenError]);
    assert!(table.committer.commit(&many).await.is_err());
    let found = table.committer.find(&many).await.unwrap();
    assert!(matches!(found, TokenLookup::Found(_)), "{found:?}");
    let all: Vec<_> = (0..40).map(|partition| (partition, 0, 3)).collect();
    assert_eq!(visible_rows(&place).await, rows(&all));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_that_somebody_removes_is_a_loss_that_is_named() {
    let place = Place::in_memory();
    let (mut table, next) = staged(&place).await;
    place.faults.fail_renames([Lost]);
    assert!(table.committer.commit(&next).await.is_err());
    for name in out_of_sight(&place).await {
        place.delete(&name).await;
    }
    let mut heir = opened(&place).await;
    let error = heir.committer.checkpoint().await.unwrap_err();
    assert!(error.needs_decision(), "{error}");
    assert!(error.to_string().contains("was committed and is gone"), "{error}");

    // As the message says.
    committed(heir.committer.reset(&back_to(10)).await);
    assert_eq!(checkpoint(heir.committer.as_mut(), &[0]).await, [(0, 10)]);
    commit(&mut heir, Round::new("t-3").range(0, 10, 20)).await;
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

/// A reset of partition 0 from 20.
fn back_to(offset: i64) -> OffsetReset {
    let at = |offset| Offset::new(offset).unwrap();
    let moved = OffsetMove { from: Some(at(20)), to: at(offset) };
    OffsetReset {
        token: CommitToken("r-1".into()),
        by: "a person".into(),
        moves: [(topic_partition(0), moved)].into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_publishes_first_what_is_decided() {
    let place = Place::in_memory();
    let (mut dead, next) = staged(&place).await;
    place.faults.fail_renames([Lost]);
    assert!(dead.committer.commit(&next).await.is_err());
    let mut table = opened(&place).await;
    committed(table.committer.reset(&back_to(10)).await);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
    assert_eq!(checkpoint(table.committer.as_mut(), &[0]).await, [(0, 10)]);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]), "and not again");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_overtaken_by_a_worker_that_died_publishes_for_it() {
    let place = Place::in_memory();
    let (mut dead, next) = staged(&place).await;
    let mut late = opened(&place).await;
    assert_eq!(checkpoint(late.committer.as_mut(), &[0]).await, [(0, 10)]);
    place.faults.fail_renames([Lost]);
    assert!(dead.committer.commit(&next).await.is_err());
    let behind = Round::new("t-3").range(0, 10, 15).staged(&late).await;
    let outcome = late.committer.commit(&behind).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Fenced { .. }), "{outcome:?}");
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_file_may_be_removed() {
    let place = Place::in_memory();
    let (mut table, next) = staged(&place).await;
    committed(table.committer.commit(&next).await);
    let first = place.data_files().await.remove(0);
    place.delete(&first.name).await;
    let mut heir = opened(&place).await;
    assert_eq!(checkpoint(heir.committer.as_mut(), &[0]).await, [(0, 20)]);
    commit(&mut heir, Round::new("t-3").range(0, 20, 30)).await;
}
