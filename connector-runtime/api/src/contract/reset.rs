//! What every committer must do when a person moves positions. [`OffsetReset::judge`] says why.
//!
//! [`OffsetReset::judge`]: crate::reset::OffsetReset::judge

use crate::contract::{
    Round, Subject, checkpoint, commit, committed, created, opened, positions, rows,
    topic_partition, visible_rows,
};
use crate::ids::CommitToken;
use crate::offsets::Offset;
use crate::outcome::{CommitError, CommitOutcome, TokenLookup};
use crate::reset::{OffsetMove, OffsetReset};

/// A reset of some partitions: `(partition, from, to)`.
fn reset(token: &str, moves: &[(i32, Option<i64>, i64)]) -> OffsetReset {
    let at = |offset| Offset::new(offset).unwrap();
    let moved = |&(partition, from, to): &(i32, Option<i64>, i64)| {
        (topic_partition(partition), OffsetMove { from: from.map(at), to: at(to) })
    };
    OffsetReset {
        token: CommitToken(token.to_owned()),
        by: "a person".to_owned(),
        moves: moves.iter().map(moved).collect(),
    }
}

/// OF-2: back by a person's word, in one version and without a row; then the same offsets follow again.
pub async fn a_reset_moves_back_and_the_records_come_again(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10).new_range(1, 0, 4)).await;
    let before = subject.visible().await.unwrap();
    let moved = reset("r-1", &[(0, Some(10), 6)]);
    let receipt = committed(table.committer.reset(&moved).await);
    assert_eq!(positions(&receipt.checkpoint), [(0, 6)]);
    let after = subject.visible().await.unwrap();
    assert_eq!((after.version, &after.rows), (before.version + 1, &before.rows));
    assert_eq!(receipt.version, after.version);

    let mut reopened = opened(subject).await;
    assert_eq!(checkpoint(reopened.committer.as_mut(), &[0, 1]).await, [(0, 6), (1, 4)]);
    commit(&mut reopened, Round::new("t-2").range(0, 6, 12).range(1, 4, 5)).await;
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 10), (0, 6, 12), (1, 0, 5)]));
    assert_eq!(checkpoint(table.committer.as_mut(), &[0, 1]).await, [(0, 12), (1, 5)]);
}

/// Forward: what lies between is never read.
pub async fn a_reset_moves_forward_over_records(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    committed(table.committer.reset(&reset("r-1", &[(0, Some(10), 50)])).await);
    commit(&mut table, Round::new("t-2").range(0, 50, 52)).await;
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 10), (0, 50, 52)]));
}

/// A topic partition that the table has never seen gets a position, as if it had been decided.
pub async fn a_reset_may_name_a_topic_partition_that_was_never_seen(subject: &dyn Subject) {
    let mut table = created(subject).await;
    committed(table.committer.reset(&reset("r-1", &[(0, None, 7)])).await);
    assert_eq!(checkpoint(opened(subject).await.committer.as_mut(), &[0, 1]).await, [(0, 7)]);
    commit(&mut table, Round::new("t-1").range(0, 7, 9)).await;
}

/// A reset comes from no configuration, and ends what an earlier one had begun.
pub async fn a_reset_has_no_fingerprint(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    committed(table.committer.reset(&reset("r-1", &[(0, Some(10), 5)])).await);
    assert_eq!(table.committer.fingerprint(&topic_partition(0)).await.unwrap(), None);
}

/// CM-2: a reset follows only what the person has seen, all topic partitions or none.
pub async fn a_reset_is_refused_when_the_table_has_moved(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10).new_range(1, 0, 10)).await;
    let mut worker = opened(subject).await;
    commit(&mut worker, Round::new("t-2").range(0, 10, 12)).await;
    let before = subject.visible().await;
    let late = reset("r-1", &[(0, Some(10), 5), (1, Some(10), 5)]);
    match table.committer.reset(&late).await {
        Ok(CommitOutcome::Fenced { stored }) => assert_eq!(positions(&stored), [(0, 12), (1, 10)]),
        other => panic!("expected `Fenced`, found {other:?}"),
    }
    let ahead = reset("r-2", &[(0, Some(12), 5), (1, Some(11), 5)]);
    match table.committer.reset(&ahead).await {
        Ok(CommitOutcome::RolledBack { .. }) => {}
        other => panic!("expected `RolledBack`, found {other:?}"),
    }
    let unseen = reset("r-3", &[(2, Some(1), 0)]);
    match table.committer.reset(&unseen).await {
        Ok(CommitOutcome::RolledBack { stored }) => assert_eq!(positions(&stored), []),
        other => panic!("expected `RolledBack`, found {other:?}"),
    }
    assert_eq!(subject.visible().await, before, "nothing was written");
}

/// CM-2: who still runs is told at its next commit, and writes nothing.
pub async fn a_worker_that_runs_through_a_reset_writes_nothing(subject: &dyn Subject) {
    let mut person = created(subject).await;
    commit(&mut person, Round::new("t-1").new_range(0, 0, 10)).await;
    let mut worker = opened(subject).await;
    let next = Round::new("w-1").range(0, 10, 20).staged(&worker).await;

    committed(person.committer.reset(&reset("r-1", &[(0, Some(10), 5)])).await);
    let before = subject.visible().await;
    match worker.committer.commit(&next).await {
        Ok(CommitOutcome::RolledBack { stored }) => assert_eq!(positions(&stored), [(0, 5)]),
        other => panic!("expected `RolledBack`, found {other:?}"),
    }
    assert_eq!(subject.visible().await, before, "nothing was written");

    committed(person.committer.reset(&reset("r-2", &[(0, Some(5), 30)])).await);
    let before = subject.visible().await;
    match worker.committer.commit(&next).await {
        Ok(CommitOutcome::Fenced { stored }) => assert_eq!(positions(&stored), [(0, 30)]),
        other => panic!("expected `Fenced`, found {other:?}"),
    }
    assert_eq!(subject.visible().await, before, "nothing was written");
}

/// CM-3: a reset that is sent again is answered with the version that holds it, also if the table
/// has come back meanwhile to where the reset began.
pub async fn a_lost_answer_of_a_landed_reset_is_resolved(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let moved = reset("r-1", &[(0, Some(10), 5)]);
    subject.lose_next_answer(true);
    assert!(matches!(table.committer.reset(&moved).await, Err(CommitError::Unknown(_))));
    let landed = subject.visible().await.unwrap().version;
    match table.committer.reset(&moved).await {
        Ok(CommitOutcome::AlreadyCommitted(receipt)) => {
            assert_eq!((receipt.version, positions(&receipt.checkpoint)), (landed, vec![(0, 5)]));
        }
        other => panic!("expected `AlreadyCommitted`, found {other:?}"),
    }
    commit(&mut opened(subject).await, Round::new("t-2").range(0, 5, 10)).await;
    let again = opened(subject).await.committer.reset(&moved).await;
    assert!(matches!(again, Ok(CommitOutcome::AlreadyCommitted(_))), "{again:?}");
    assert_eq!(checkpoint(table.committer.as_mut(), &[0]).await, [(0, 10)]);
}

/// CM-3: a reset that had not landed is carried out once when it is sent again.
pub async fn a_lost_answer_of_a_reset_that_did_not_land_is_resolved(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let moved = reset("r-1", &[(0, Some(10), 5)]);
    subject.lose_next_answer(false);
    assert!(matches!(table.committer.reset(&moved).await, Err(CommitError::Unknown(_))));
    assert_eq!(checkpoint(table.committer.as_mut(), &[0]).await, [(0, 10)]);
    committed(table.committer.reset(&moved).await);
    assert_eq!(checkpoint(table.committer.as_mut(), &[0]).await, [(0, 5)]);
}

/// CM-3: offsets that moved back do not make a commit absent that is in the table, whoever asks.
pub async fn a_commit_from_before_a_reset_is_still_found(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let staged = Round::new("t-2").range(0, 10, 20).staged(&table).await;
    let receipt = committed(table.committer.commit(&staged).await);
    for (n, to) in [(1, 15), (2, 10), (3, 0)] {
        let mut person = opened(subject).await;
        let from = checkpoint(person.committer.as_mut(), &[0]).await[0].1;
        let token = format!("r-{n}");
        committed(person.committer.reset(&reset(&token, &[(0, Some(from), to)])).await);
        let found = TokenLookup::Found(receipt.clone());
        assert_eq!(table.committer.find(&staged).await.unwrap(), found, "moved to {to}");
        assert_eq!(opened(subject).await.committer.find(&staged).await.unwrap(), found);
    }
    let mut worker = opened(subject).await;
    commit(&mut worker, Round::new("t-3").range(0, 0, 12)).await;
    assert_eq!(worker.committer.find(&staged).await.unwrap(), TokenLookup::Found(receipt));
}

/// CM-3: offsets that were moved over a commit's range do not make a commit present that nobody sent.
pub async fn a_commit_that_was_never_sent_is_not_found_after_a_reset(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let staged = Round::new("t-2").range(0, 10, 20).staged(&table).await;
    for (n, from, to) in [(1, 10, 20), (2, 20, 25), (3, 25, 3)] {
        committed(table.committer.reset(&reset(&format!("r-{n}"), &[(0, Some(from), to)])).await);
        assert_eq!(table.committer.find(&staged).await.unwrap(), TokenLookup::NotFound);
    }
    commit(&mut table, Round::new("t-3").range(0, 3, 30)).await;
    assert_eq!(table.committer.find(&staged).await.unwrap(), TokenLookup::NotFound);
}

/// CM-3: a commit whose answer was lost is not written a second time, although a reset has moved the
/// table back to exactly where the commit starts.
pub async fn a_retry_after_a_reset_to_its_start_adds_no_rows(subject: &dyn Subject) {
    let mut worker = created(subject).await;
    commit(&mut worker, Round::new("t-1").new_range(0, 0, 10)).await;
    let staged = Round::new("t-2").range(0, 10, 20).staged(&worker).await;
    subject.lose_next_answer(true);
    assert!(matches!(worker.committer.commit(&staged).await, Err(CommitError::Unknown(_))));
    let mut person = opened(subject).await;
    committed(person.committer.reset(&reset("r-1", &[(0, Some(20), 10)])).await);
    let again = worker.committer.commit(&staged).await;
    assert!(matches!(again, Ok(CommitOutcome::AlreadyCommitted(_))), "{again:?}");
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 20)]));
}
