//! What every committer must do. `docs` of the variants and of [`StagedCommit::judge`] say why.
//!
//! [`StagedCommit::judge`]: crate::staged::StagedCommit::judge

use std::sync::Arc;

use crate::contract::{
    Round, Subject, both, checkpoint, commit, committed, connector, created, fingerprint, opened,
    positions, rows, schema, topic_partition, visible_rows,
};
use crate::ids::{ConnectorName, TopicId, TopicPartition};
use crate::outcome::{CommitError, CommitOutcome, TokenLookup};
use crate::staged::Accounting;

/// CM-1: after a commit a reader sees the rows, and the table has the offsets.
pub async fn a_commit_makes_rows_and_offsets_visible_together(subject: &dyn Subject) {
    let mut table = created(subject).await;
    let before = subject.visible().await.unwrap();
    assert_eq!(before.rows, []);
    let receipt =
        commit(&mut table, Round::new("t-1").new_range(0, 0, 10).new_range(1, 7, 9)).await;
    assert_eq!(positions(&receipt.checkpoint), [(0, 10), (1, 9)]);
    assert_eq!(checkpoint(table.committer.as_mut(), &[0, 1]).await, [(0, 10), (1, 9)]);

    let after = subject.visible().await.unwrap();
    assert_eq!(after.rows, rows(&[(0, 0, 10), (1, 7, 9)]));
    assert_eq!(after.version, before.version + 1, "one commit is one version");
    assert_eq!(after.version, receipt.version);
}

/// Each commit starts where the one before it ended, and its rows are added to the others.
pub async fn commits_follow_each_other(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-0").new_range(0, 0, 5).new_range(1, 0, 1)).await;
    for n in 1..6 {
        let round = Round::new(&format!("t-{n}")).range(0, n * 5, n * 5 + 5);
        let receipt = commit(&mut table, round).await;
        assert_eq!(
            positions(&receipt.checkpoint),
            [(0, n * 5 + 5)],
            "of the commit's topic partitions"
        );
    }
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 30), (1, 0, 1)]));
    assert_eq!(checkpoint(table.committer.as_mut(), &[0, 1]).await, [(0, 30), (1, 1)]);
}

/// Absent is not zero: nobody decided yet where to start.
pub async fn a_never_seen_topic_partition_has_no_checkpoint(subject: &dyn Subject) {
    let mut table = created(subject).await;
    assert_eq!(checkpoint(table.committer.as_mut(), &[0, 1]).await, []);
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    assert_eq!(checkpoint(table.committer.as_mut(), &[0, 1]).await, [(0, 10)]);
}

/// A range may start at 0, and from 0 on the table knows the topic partition.
pub async fn offset_zero_is_a_position(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 1)).await;
    commit(&mut table, Round::new("t-2").range(0, 1, 2)).await;
    assert_eq!(visible_rows(subject).await, [(0, 0), (0, 1)]);
}

/// A restart needs nothing but the table.
pub async fn reopening_sees_the_checkpoint(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 3, 10)).await;
    let mut reopened = opened(subject).await;
    assert_eq!(reopened.id, table.id);
    drop(table);
    assert_eq!(checkpoint(reopened.committer.as_mut(), &[0]).await, [(0, 10)]);
    commit(&mut reopened, Round::new("t-2").range(0, 10, 12)).await;
    assert_eq!(visible_rows(subject).await, rows(&[(0, 3, 12)]));
}

/// CM-2: who was overtaken writes nothing, and is told where the table stands.
pub async fn a_stored_offset_ahead_of_the_start_fences(subject: &dyn Subject) {
    let mut zombie = created(subject).await;
    commit(&mut zombie, Round::new("t-1").new_range(0, 0, 10)).await;
    let mut owner = opened(subject).await;
    let late = Round::new("t-2").range(0, 10, 20).staged(&zombie).await;
    commit(&mut owner, Round::new("t-3").range(0, 10, 15)).await;
    let before = subject.visible().await;
    match zombie.committer.commit(&late).await {
        Ok(CommitOutcome::Fenced { stored }) => assert_eq!(positions(&stored), [(0, 15)]),
        other => panic!("expected `Fenced`, found {other:?}"),
    }
    assert_eq!(subject.visible().await, before, "nothing was written");
    commit(&mut zombie, Round::new("t-4").range(0, 15, 16)).await;
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 16)]));
}

/// CM-2: a table that is behind has lost rows; going on would hide it.
pub async fn a_stored_offset_behind_the_start_is_a_roll_back(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let before = subject.visible().await;
    let ahead = Round::new("t-2").range(0, 11, 20).staged(&table).await;
    match table.committer.commit(&ahead).await {
        Ok(CommitOutcome::RolledBack { stored }) => assert_eq!(positions(&stored), [(0, 10)]),
        other => panic!("expected `RolledBack`, found {other:?}"),
    }
    assert_eq!(subject.visible().await, before, "nothing was written");
}

/// Two workers may decide differently where to begin. The one whose decision is in the table is
/// followed by the other, also if it lies before its own.
pub async fn of_two_start_decisions_the_first_to_be_committed_counts(subject: &dyn Subject) {
    let mut early = created(subject).await;
    let mut late = opened(subject).await;
    let decided = Round::new("t-2").new_range(0, 20, 25).staged(&late).await;
    commit(&mut early, Round::new("t-1").new_range(0, 10, 12)).await;
    match late.committer.commit(&decided).await {
        Ok(CommitOutcome::Fenced { stored }) => assert_eq!(positions(&stored), [(0, 12)]),
        other => panic!("expected `Fenced`, found {other:?}"),
    }
    let mixed = Round::new("t-3").new_range(0, 20, 25).range(1, 3, 4).staged(&late).await;
    match late.committer.commit(&mixed).await {
        Ok(CommitOutcome::RolledBack { .. }) => {}
        other => panic!("expected `RolledBack` for the forgotten one, found {other:?}"),
    }
    assert_eq!(visible_rows(subject).await, rows(&[(0, 10, 12)]));
}

/// An empty range keeps a start position: `latest` is the same place after a crash as before it.
pub async fn a_start_position_is_committed_without_a_record(subject: &dyn Subject) {
    let mut table = created(subject).await;
    let round = Round::new("t-1").new_range(0, 7, 7).new_range(1, 0, 0).with_files(Vec::new());
    let receipt = committed(table.committer.commit(&round).await);
    assert_eq!(positions(&receipt.checkpoint), [(0, 7), (1, 0)]);
    assert_eq!(table.committer.find(&round).await.unwrap(), TokenLookup::Found(receipt));
    let mut reopened = opened(subject).await;
    assert_eq!(checkpoint(reopened.committer.as_mut(), &[0, 1]).await, [(0, 7), (1, 0)]);
    let never_sent = Round::new("t-2").new_range(0, 7, 7).with_files(Vec::new());
    assert_eq!(reopened.committer.find(&never_sent).await.unwrap(), TokenLookup::NotFound);
    commit(&mut reopened, Round::new("t-3").range(0, 7, 9)).await;
    assert_eq!(visible_rows(subject).await, rows(&[(0, 7, 9)]));
}

/// A topic partition that the table does not know has either no start yet, or was forgotten.
pub async fn an_unknown_topic_partition_needs_a_start_decision(subject: &dyn Subject) {
    let mut table = created(subject).await;
    let undecided = Round::new("t-1").range(0, 5, 10).staged(&table).await;
    match table.committer.commit(&undecided).await {
        Ok(CommitOutcome::RolledBack { stored }) => assert_eq!(positions(&stored), []),
        other => panic!("expected `RolledBack`, found {other:?}"),
    }
    assert_eq!(visible_rows(subject).await, []);
    commit(&mut table, Round::new("t-2").new_range(0, 5, 10)).await;
    let mixed = Round::new("t-3").range(0, 10, 11).range(1, 0, 1).staged(&table).await;
    match table.committer.commit(&mixed).await {
        Ok(CommitOutcome::RolledBack { stored }) => assert_eq!(positions(&stored), [(0, 10)]),
        other => panic!("expected `RolledBack`, found {other:?}"),
    }
    assert_eq!(visible_rows(subject).await, rows(&[(0, 5, 10)]));
}

/// CM-1, CM-2: all topic partitions of a commit or none.
pub async fn one_misfitting_topic_partition_refuses_the_whole_commit(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10).new_range(1, 0, 10)).await;
    let before = subject.visible().await;
    let overlapping = Round::new("t-2").range(0, 10, 20).range(1, 9, 20).staged(&table).await;
    match table.committer.commit(&overlapping).await {
        Ok(CommitOutcome::Fenced { stored }) => assert_eq!(positions(&stored), [(0, 10), (1, 10)]),
        other => panic!("expected `Fenced`, found {other:?}"),
    }
    let behind = Round::new("t-3").range(0, 9, 20).range(1, 11, 20).staged(&table).await;
    match table.committer.commit(&behind).await {
        Ok(CommitOutcome::RolledBack { stored }) => {
            assert_eq!(positions(&stored), [(0, 10), (1, 10)])
        }
        other => panic!("expected `RolledBack`, found {other:?}"),
    }
    assert_eq!(subject.visible().await, before, "nothing was written");
}

/// A commit that is sent again is answered with the version that holds it.
pub async fn a_token_in_the_table_is_already_committed(subject: &dyn Subject) {
    let mut table = created(subject).await;
    let staged = Round::new("t-1").new_range(0, 0, 10).staged(&table).await;
    let receipt = committed(table.committer.commit(&staged).await);
    let before = subject.visible().await;
    let again = table.committer.commit(&staged).await;
    assert_eq!(again.unwrap(), CommitOutcome::AlreadyCommitted(receipt.clone()));
    commit(&mut table, Round::new("t-2").range(0, 10, 11).new_range(1, 0, 1)).await;
    let again = table.committer.commit(&staged).await;
    assert_eq!(again.unwrap(), CommitOutcome::AlreadyCommitted(receipt));
    let after = subject.visible().await.unwrap();
    assert_eq!(after.rows, rows(&[(0, 0, 11), (1, 0, 1)]));
    assert_eq!(after.version, before.unwrap().version + 1);
}

/// The table knows a token, whoever asks and however much was committed since.
pub async fn a_token_is_found_by_another_committer_after_others_have_committed(
    subject: &dyn Subject,
) {
    let mut first = created(subject).await;
    let mut second = opened(subject).await;
    let staged = Round::new("t-1").new_range(0, 0, 10).staged(&first).await;
    let receipt = committed(first.committer.commit(&staged).await);
    for n in 0..5 {
        let other = opened(subject).await.committer;
        let round = Round::new(&format!("o-{n}")).new_range(1, n, n + 1);
        let round = if n % 2 == 0 { round.range(0, 10 + n / 2, 11 + n / 2) } else { round };
        let mut table = opened(subject).await;
        drop(other);
        commit(&mut table, round).await;
    }
    let before = subject.visible().await;
    let found = second.committer.find(&staged).await.unwrap();
    assert_eq!(found, TokenLookup::Found(receipt.clone()));
    let mut third = opened(subject).await;
    let again = third.committer.commit(&staged).await.unwrap();
    assert_eq!(again, CommitOutcome::AlreadyCommitted(receipt));
    assert_eq!(subject.visible().await, before);
}

/// `NotFound` for a commit that nobody sent, also if another took its range.
pub async fn a_token_that_was_never_sent_is_not_found(subject: &dyn Subject) {
    let mut table = created(subject).await;
    let staged = Round::new("t-1").new_range(0, 0, 10).staged(&table).await;
    assert_eq!(table.committer.find(&staged).await.unwrap(), TokenLookup::NotFound);
    let other = Round::new("t-2").new_range(0, 0, 10).staged(&table).await;
    committed(table.committer.commit(&other).await);
    assert_eq!(table.committer.find(&staged).await.unwrap(), TokenLookup::NotFound);
    commit(&mut table, Round::new("t-3").range(0, 10, 20)).await;
    let mut reopened = opened(subject).await;
    assert_eq!(reopened.committer.find(&staged).await.unwrap(), TokenLookup::NotFound);
}

/// CM-3: the table tells that the request had landed.
pub async fn a_lost_answer_of_a_landed_commit_is_found(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let staged = Round::new("t-2").range(0, 10, 20).staged(&table).await;
    subject.lose_next_answer(true);
    assert!(matches!(table.committer.commit(&staged).await, Err(CommitError::Unknown(_))));
    let TokenLookup::Found(receipt) = table.committer.find(&staged).await.unwrap() else {
        panic!("the commit is in the table");
    };
    assert_eq!(positions(&receipt.checkpoint), [(0, 20)]);
    commit(&mut table, Round::new("t-3").range(0, 20, 21)).await;
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 21)]));
}

/// CM-3: the table tells that the request had not landed; sent again, it is committed once.
pub async fn a_lost_answer_of_a_commit_that_did_not_land_is_not_found(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let staged = Round::new("t-2").range(0, 10, 20).staged(&table).await;
    subject.lose_next_answer(false);
    assert!(matches!(table.committer.commit(&staged).await, Err(CommitError::Unknown(_))));
    assert_eq!(table.committer.find(&staged).await.unwrap(), TokenLookup::NotFound);
    committed(table.committer.commit(&staged).await);
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 20)]));
}

/// Even a caller that forgets to look the token up doubles nothing.
pub async fn a_retry_without_a_look_up_adds_no_rows(subject: &dyn Subject) {
    let mut table = created(subject).await;
    let staged = Round::new("t-1").new_range(0, 0, 10).staged(&table).await;
    subject.lose_next_answer(true);
    assert!(matches!(table.committer.commit(&staged).await, Err(CommitError::Unknown(_))));
    let again = table.committer.commit(&staged).await;
    assert!(matches!(again, Ok(CommitOutcome::AlreadyCommitted(_))), "{again:?}");
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 10)]));
}

/// CM-2: the same range from two workers is in the table once, in whatever order their steps fall.
pub async fn of_two_committers_for_one_range_exactly_one_wins(subject: &dyn Subject) {
    let (mut a, mut b) = (created(subject).await, opened(subject).await);
    commit(&mut a, Round::new("t-0").new_range(0, 0, 1)).await;
    for n in 1..11 {
        let first = Round::new(&format!("a-{n}")).range(0, n, n + 1).staged(&a).await;
        let second = Round::new(&format!("b-{n}")).range(0, n, n + 1).staged(&b).await;
        let (first, second) = both(a.committer.commit(&first), b.committer.commit(&second)).await;
        let fenced = match (first.unwrap(), second.unwrap()) {
            (CommitOutcome::Committed(_), CommitOutcome::Fenced { stored })
            | (CommitOutcome::Fenced { stored }, CommitOutcome::Committed(_)) => stored,
            other => panic!("expected one `Committed` and one `Fenced`, found {other:?}"),
        };
        assert_eq!(positions(&fenced), [(0, n + 1)]);
    }
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 11)]));
}

/// Workers with different topic partitions do not keep each other from committing.
pub async fn two_committers_for_different_topic_partitions_both_commit(subject: &dyn Subject) {
    let (mut a, mut b) = (created(subject).await, opened(subject).await);
    for n in 0..10 {
        let first = Round::new(&format!("a-{n}")).new_range(0, n, n + 1).staged(&a).await;
        let second = Round::new(&format!("b-{n}")).new_range(1, n, n + 1).staged(&b).await;
        let (first, second) = both(a.committer.commit(&first), b.committer.commit(&second)).await;
        assert_ne!(committed(first).version, committed(second).version);
    }
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 10), (1, 0, 10)]));
    assert_eq!(checkpoint(a.committer.as_mut(), &[0, 1]).await, [(0, 10), (1, 10)]);
}

/// A range of filtered, rejected or missing records still moves the checkpoint.
pub async fn a_commit_without_files_moves_the_checkpoint_alone(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let staged = Round::new("t-2").range(0, 10, 50).with_files(Vec::new());
    assert_eq!(*staged.accounting(), Accounting::default());
    let receipt = committed(table.committer.commit(&staged).await);
    assert_eq!(positions(&receipt.checkpoint), [(0, 50)]);
    let again = table.committer.commit(&staged).await.unwrap();
    assert_eq!(again, CommitOutcome::AlreadyCommitted(receipt));
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 10)]));
    assert_eq!(checkpoint(opened(subject).await.committer.as_mut(), &[0]).await, [(0, 50)]);
}

/// Commits, one's own and those of others, change nothing that a commit would conflict with.
pub async fn commits_are_no_conflict(subject: &dyn Subject) {
    let mut table = created(subject).await;
    assert_eq!(table.committer.conflict().await.unwrap(), None);
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let mut other = opened(subject).await;
    commit(&mut other, Round::new("t-2").new_range(1, 0, 10)).await;
    assert_eq!(table.committer.conflict().await.unwrap(), None);
    commit(&mut table, Round::new("t-3").range(0, 10, 11)).await;
}

/// A topic that was deleted and created again begins anew under its old name, and the table tells both.
pub async fn a_recreated_topic_is_another_identity_beside_the_old_one(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    for topic_id in [TopicId::Known("AAAAAAAAAAAAAAAAAAAAAg".into()), TopicId::Unavailable] {
        let recreated = TopicPartition { topic_id: topic_id.clone(), ..topic_partition(0) };
        let stored = table.committer.checkpoint().await.unwrap();
        assert_eq!(stored.next(&recreated), None);
        assert_eq!(stored.next(&topic_partition(0)).unwrap().get(), 10);
        let round =
            Round::new(&format!("t-{topic_id}")).with_new(&recreated).range_of(&recreated, 0, 3);
        commit(&mut table, round).await;
        let stored = opened(subject).await.committer.checkpoint().await.unwrap();
        assert_eq!(stored.next(&recreated).unwrap().get(), 3);
    }
    assert_eq!(checkpoint(table.committer.as_mut(), &[0]).await, [(0, 10)]);
}

/// Two connectors may write one topic into one table, each at its own place.
pub async fn connectors_keep_their_offsets_apart(subject: &dyn Subject) {
    let mut table = created(subject).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let other = ConnectorName::parse("contract-2").unwrap();
    let mut other = subject.sink().open(&other).await.unwrap().unwrap();
    assert_eq!(checkpoint(other.committer.as_mut(), &[0]).await, []);
    commit(&mut other, Round::new("t-2").new_range(0, 0, 3)).await;
    assert_eq!(checkpoint(other.committer.as_mut(), &[0]).await, [(0, 3)]);
    assert_eq!(checkpoint(table.committer.as_mut(), &[0]).await, [(0, 10)]);
}

/// A round that was half committed is only ended by the configuration that began it.
pub async fn the_fingerprint_is_that_of_the_newest_commit_of_a_topic_partition(
    subject: &dyn Subject,
) {
    let mut table = created(subject).await;
    let (first, second) = (topic_partition(0), topic_partition(1));
    assert_eq!(table.committer.fingerprint(&first).await.unwrap(), None);
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    commit(&mut table, Round::new("t-2").range(0, 10, 20)).await;
    commit(&mut table, Round::new("t-3").new_range(1, 0, 10)).await;
    let other = ConnectorName::parse("contract-2").unwrap();
    let mut other = subject.sink().open(&other).await.unwrap().unwrap();
    assert_eq!(other.committer.fingerprint(&first).await.unwrap(), None);
    commit(&mut other, Round::new("t-4").new_range(0, 0, 3)).await;
    let mut again = opened(subject).await;
    assert_eq!(again.committer.fingerprint(&first).await.unwrap(), Some(fingerprint("t-2")));
    assert_eq!(again.committer.fingerprint(&second).await.unwrap(), Some(fingerprint("t-3")));
}

/// Two workers that start together share the table that one of them creates.
pub async fn two_that_create_at_once_get_one_table(subject: &dyn Subject) {
    let (first, second): (Arc<_>, Arc<_>) = (subject.sink(), subject.sink());
    let (connector, schema) = (connector(), schema());
    let (first, second) =
        both(first.create(&connector, &schema), second.create(&connector, &schema)).await;
    let (mut first, mut second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.id, second.id);
    assert_eq!(first.schema, second.schema);
    commit(&mut first, Round::new("t-1").new_range(0, 0, 10)).await;
    commit(&mut second, Round::new("t-2").range(0, 10, 20)).await;
    let late = subject.sink().create(&connector, &schema).await.unwrap();
    assert_eq!(late.id, first.id, "creating what is there opens it");
    assert_eq!(visible_rows(subject).await, rows(&[(0, 0, 20)]));
}

/// An empty place is an answer.
pub async fn no_table_is_no_error(subject: &dyn Subject) {
    assert!(subject.sink().open(&connector()).await.unwrap().is_none());
    assert_eq!(subject.visible().await, None);
    let table = created(subject).await;
    assert_eq!(table.schema, schema());
}
