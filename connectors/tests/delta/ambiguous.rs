//! Requests to create a version whose answers are lost, wrong, late or missing. In none of these
//! cases is a row in the table twice, or gone.

use connector_api::contract::{
    Round, checkpoint, commit, committed, created, opened, positions, rows, visible_rows,
};
use connector_api::outcome::{CommitError, CommitOutcome, TokenLookup};
use connector_api::sink::OpenTable;
use connector_api::staged::StagedCommit;
use futures::{StreamExt, stream};
use serde_json::json;

use super::place::{Place, write_entry};
use crate::faults::Fault;
use crate::faults::answers::{answers, is_unknown, staged};

answers!(Place::new());

/// What another program writes: a version without rows, offsets or changes.
fn foreign() -> serde_json::Value {
    json!({"commitInfo": {"timestamp": 1, "operation": "OPTIMIZE", "operationParameters": {}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_landed_request_is_unknown_then_found() {
    let place = Place::new();
    let (mut table, next) = staged(&place).await;
    place.faults.inject([Fault::AppliedThenError]);
    assert!(is_unknown(&table.committer.commit(&next).await));
    let found = table.committer.find(&next).await.unwrap();
    assert!(matches!(&found, TokenLookup::Found(receipt) if receipt.version == 2), "{found:?}");
    let again = table.committer.commit(&next).await.unwrap();
    assert!(matches!(again, CommitOutcome::AlreadyCommitted(receipt) if receipt.version == 2));
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_412_to_our_own_put_is_unknown_while_the_log_cannot_be_read() {
    let place = Place::new();
    let (mut table, next) = staged(&place).await;
    let faults = place.faults.clone();
    place.faults.inject([Fault::AppliedThenExists]);
    // One read before the write says that the base is in place.
    faults.fail_reads_after(1, usize::MAX);
    assert!(is_unknown(&table.committer.commit(&next).await));
    assert!(
        table.committer.find(&next).await.is_err(),
        "a look-up that could not look knows nothing"
    );
    faults.fail_reads_after(0, 0);
    let found = table.committer.find(&next).await.unwrap();
    assert!(matches!(found, TokenLookup::Found(_)), "{found:?}");
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_loses_after_a_foreign_commit_took_its_version() {
    let place = Place::new();
    let (mut table, next) = staged(&place).await;
    place.faults.inject([Fault::Late]);
    assert!(is_unknown(&table.committer.commit(&next).await));
    place.write_entry(2, &[foreign()]);
    assert_eq!(table.committer.find(&next).await.unwrap(), TokenLookup::NotFound);
    assert_eq!(committed(table.committer.commit(&next).await).version, 3);
    assert_eq!(place.faults.deliver().await, [false]);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_loses_after_another_worker_took_its_range() {
    let place = Place::new();
    let (mut zombie, next) = staged(&place).await;
    place.faults.inject([Fault::Late]);
    assert!(is_unknown(&zombie.committer.commit(&next).await));
    let mut owner = opened(&place).await;
    commit(&mut owner, Round::new("t-3").range(0, 10, 15)).await;
    assert_eq!(zombie.committer.find(&next).await.unwrap(), TokenLookup::NotFound);
    match zombie.committer.commit(&next).await.unwrap() {
        CommitOutcome::Fenced { stored } => assert_eq!(positions(&stored), [(0, 15)]),
        other => panic!("expected `Fenced`, found {other:?}"),
    }
    assert_eq!(place.faults.deliver().await, [false]);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 15)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_others_take_between_verdict_and_write_is_judged_too() {
    let place = Place::new();
    let (mut table, next) = staged(&place).await;
    let root = place.root();
    let others = move |version: u64| {
        let root = root.clone();
        Fault::After(Box::new(move || write_entry(&root, version, &[foreign()])))
    };
    place.faults.inject((2..10).map(others));
    assert_eq!(committed(table.committer.commit(&next).await).version, 10);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_that_takes_the_range_between_verdict_and_write_wins() {
    let place = Place::new();
    let (mut zombie, next) = staged(&place).await;
    let mut owner = opened(&place).await;
    let theirs = Round::new("t-3").range(0, 10, 12).staged(&owner).await;
    let runtime = tokio::runtime::Handle::current();
    let first = move || {
        let outcome = runtime.block_on(owner.committer.commit(&theirs));
        committed(outcome);
    };
    let first = || std::thread::spawn(first).join().unwrap();
    place.faults.inject([Fault::After(Box::new(first))]);
    match zombie.committer.commit(&next).await.unwrap() {
        CommitOutcome::Fenced { stored } => assert_eq!(positions(&stored), [(0, 12)]),
        other => panic!("expected `Fenced`, found {other:?}"),
    }
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 12)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_landed_commit_is_found_although_the_table_was_altered_since() {
    let place = Place::new();
    let (mut table, next) = staged(&place).await;
    place.faults.inject([Fault::AppliedThenError]);
    assert!(is_unknown(&table.committer.commit(&next).await));
    place.alter(3);
    let again = table.committer.commit(&next).await.unwrap();
    assert!(matches!(again, CommitOutcome::AlreadyCommitted(_)), "{again:?}");
    let found = table.committer.find(&next).await.unwrap();
    assert!(matches!(found, TokenLookup::Found(_)), "{found:?}");
    assert_eq!(checkpoint(table.committer.as_mut(), &[0]).await, [(0, 20)]);
}

/// Whatever the store does, in whatever order, a worker that keeps to the protocol gets each
/// offset into the table once. A failing seed is to become a test of its own.
#[tokio::test(flavor = "multi_thread")]
async fn no_sequence_of_faults_loses_or_doubles_a_row() {
    stream::iter(0..100).for_each_concurrent(10, run).await;
}

async fn run(seed: u64) {
    let place = Place::new();
    let mut random = Random(seed);
    let mut workers = [created(&place).await, opened(&place).await];
    let mut next = [0; 2];
    for round in 0..12 {
        let when = format!("seed {seed}, round {round}");
        let worker = random.below(2);
        let faults: Vec<_> = (0..random.below(4)).map(|_| random.fault(&place)).collect();
        let end = next[worker] + 1 + random.below(3) as i64;
        let commit = Round::new(&when)
            .new_range(worker as i32, next[worker], end)
            .staged(&workers[worker])
            .await;
        place.faults.inject(faults);
        place.faults.fail_reads_after(random.below(6), random.below(3));
        settle(&mut workers[worker], &commit, &when).await;
        next[worker] = end;
        if random.below(3) == 0 {
            place.faults.deliver().await;
        }
        assert_eq!(visible_rows(&place).await, rows(&[(0, 0, next[0]), (1, 0, next[1])]), "{when}");
    }
    place.faults.deliver().await;
    assert_eq!(
        visible_rows(&place).await,
        rows(&[(0, 0, next[0]), (1, 0, next[1])]),
        "seed {seed}"
    );
}

/// Drives a commit to its end as the protocol says: after an unknown outcome nothing but `find`.
async fn settle(table: &mut OpenTable, commit: &StagedCommit, when: &str) {
    for _ in 0..50 {
        match table.committer.commit(commit).await {
            Ok(CommitOutcome::Committed(_) | CommitOutcome::AlreadyCommitted(_)) => return,
            Ok(other) => panic!("{when}: {other:?}"),
            Err(CommitError::NotSent(_)) => {}
            Err(CommitError::Unknown(_)) => loop {
                match table.committer.find(commit).await {
                    Ok(TokenLookup::Found(_)) => return,
                    Ok(TokenLookup::NotFound) => break,
                    Ok(other) => panic!("{when}: {other:?}"),
                    Err(_) => {}
                }
            },
        }
    }
    panic!("{when}: no end");
}

/// Numbers that are the same for the same seed (Knuth's linear congruential generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn fault(&mut self, place: &Place) -> Fault {
        let root = place.root();
        match self.below(7) {
            0 => Fault::AppliedThenError,
            1 => Fault::AppliedThenExists,
            2 => Fault::RefusedAsExisting,
            3 => Fault::Lost,
            4 => Fault::Late,
            _ => Fault::After(Box::new(move || {
                let version = super::log::Log::read(&root).unwrap().version() + 1;
                write_entry(&root, version, &[foreign()]);
            })),
        }
    }
}
