//! Requests to swap the ledger whose answers are lost, wrong, late or missing. In none of these
//! cases is a row in the folder twice, or gone.

use connector_api::contract::{Round, both, checkpoint, commit, opened, rows, visible_rows};
use connector_api::outcome::{CommitOutcome, TokenLookup};

use super::place::Place;
use crate::faults::Fault;
use crate::faults::answers::{answers, is_unknown, staged};

answers!(Place::in_memory());

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_landed_swap_is_unknown_then_found_and_then_visible() {
    let place = Place::in_memory();
    let (mut table, next) = staged(&place).await;
    place.faults.inject([Fault::AppliedThenError]);
    assert!(is_unknown(&table.committer.commit(&next).await));
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 10)]), "not published yet");
    let found = table.committer.find(&next).await.unwrap();
    assert!(matches!(&found, TokenLookup::Found(receipt) if receipt.version == 2), "{found:?}");
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
    let again = table.committer.commit(&next).await.unwrap();
    assert!(matches!(again, CommitOutcome::AlreadyCommitted(receipt) if receipt.version == 2));
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_412_to_our_own_swap_is_unknown_while_the_ledger_cannot_be_read() {
    let place = Place::in_memory();
    let (mut table, next) = staged(&place).await;
    place.faults.inject([Fault::AppliedThenExists]);
    place.faults.fail_reads_after(0, usize::MAX);
    assert!(is_unknown(&table.committer.commit(&next).await));
    assert!(table.committer.find(&next).await.is_err(), "who could not look knows nothing");
    place.faults.fail_reads_after(0, 0);
    assert!(matches!(table.committer.find(&next).await.unwrap(), TokenLookup::Found(_)));
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn cm_2_a_worker_that_slept_is_fenced_and_its_files_are_never_seen() {
    let place = Place::in_memory();
    let (mut slept, next) = staged(&place).await;
    let mut owner = opened(&place).await;
    commit(&mut owner, Round::new("t-3").range(0, 10, 15)).await;
    let outcome = slept.committer.commit(&next).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Fenced { .. }), "{outcome:?}");
    commit(&mut owner, Round::new("t-4").range(0, 15, 20)).await;
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
    assert_eq!(checkpoint(slept.committer.as_mut(), &[0]).await, [(0, 20)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_commit_at_once_lose_nothing() {
    let place = Place::in_memory();
    let mut table = connector_api::contract::created(&place).await;
    commit(&mut table, Round::new("t-0").new_range(0, 0, 1).new_range(1, 0, 1)).await;
    let (mut first, mut second) = (opened(&place).await, opened(&place).await);
    for round in 1..20 {
        let (start, end) = (round, round + 1);
        let one = Round::new(&format!("a-{round}")).range(0, start, end);
        let other = Round::new(&format!("b-{round}")).range(1, start, end);
        both(commit(&mut first, one), commit(&mut second, other)).await;
    }
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20), (1, 0, 20)]));
    assert_eq!(place.ledger().await.unwrap()["publishing"], serde_json::json!([]));
}
