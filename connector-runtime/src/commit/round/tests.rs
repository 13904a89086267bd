use connector_api::ids::TopicId;
use connector_api::offsets::Offset;
use connector_api::outcome::CommitReceipt;

use super::*;

const NOW: Moment = Moment(Duration::from_secs(100));

fn orders() -> TopicPartition {
    TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition: 0 }
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset::new(start).unwrap(), Offset::new(end).unwrap()).unwrap()
}

fn tombstones(count: u64) -> Accounting {
    Accounting { consumed: count, tombstones: count, ..Accounting::default() }
}

fn collecting() -> CommitRound {
    let mut round = CommitRound::new(CommitToken("t-1".into()), "f".into());
    round.collect(&orders(), range(10, 20), tombstones(10), false, NOW).unwrap();
    round
}

fn receipt() -> CommitReceipt {
    CommitReceipt {
        version: 7,
        checkpoint: [(orders(), Offset::new(20).unwrap())].into_iter().collect(),
    }
}

fn outage() -> Error {
    Error::external("the store does not answer")
}

/// Feeds events and names the actions that they cause.
#[track_caller]
fn check(events: Vec<Event>, expected: &[&str]) {
    let mut round = collecting();
    let actions: Vec<&str> = events.into_iter().map(|event| name(round.on(event, NOW))).collect();
    assert_eq!(actions, expected);
}

fn name(action: Option<Action>) -> &'static str {
    match action {
        None => "-",
        Some(Action::FinishFiles) => "finish",
        Some(Action::Commit(TableRole::DeadLetters, _)) => "commit dead letters",
        Some(Action::Commit(TableRole::Anchor, _)) => "commit",
        Some(Action::Find(TableRole::DeadLetters, _)) => "find dead letters",
        Some(Action::Find(TableRole::Anchor, _)) => "find",
        Some(Action::WakeAt(_)) => "wake",
        Some(Action::End(Settle::Settled(_))) => "settled",
        Some(Action::End(Settle::Reseek { .. })) => "reseek",
        Some(Action::End(Settle::Reopen(_))) => "reopen",
        Some(Action::End(Settle::Stop(_))) => "stop",
    }
}

fn seal() -> Event {
    Event::Seal(SealReason::Interval)
}

fn staged() -> Event {
    Event::Staged(StagedRound::default())
}

/// The dead letters' table stands at 12, the round ends at 20.
fn staged_with_dead_letters() -> Event {
    let mut delta = OffsetDelta::default();
    delta.append(&orders(), range(12, 20)).unwrap();
    let dead_letters =
        StagedDeadLetters { files: vec![], delta, new_topic_partitions: BTreeSet::new() };
    Event::Staged(StagedRound { files: vec![], dead_letters: Some(dead_letters) })
}

fn committed() -> Event {
    Event::Answered(CommitOutcome::Committed(receipt()))
}

#[test]
fn dl_1_dead_letters_are_committed_before_the_anchor() {
    check(
        vec![seal(), staged_with_dead_letters(), committed(), committed()],
        &["finish", "commit dead letters", "commit", "settled"],
    );
    check(
        vec![
            seal(),
            staged_with_dead_letters(),
            Event::Unanswered(outage()),
            Event::Looked(TokenLookup::Found(receipt())),
            Event::Unanswered(outage()),
            Event::Looked(TokenLookup::Found(receipt())),
        ],
        &["finish", "commit dead letters", "find dead letters", "commit", "find", "settled"],
    );
}

#[test]
fn dl_1_without_its_dead_letters_in_place_the_anchor_is_not_committed() {
    let fenced = || Event::Answered(CommitOutcome::Fenced { stored: receipt().checkpoint });
    check(
        vec![seal(), staged_with_dead_letters(), fenced(), committed()],
        &["finish", "commit dead letters", "reseek", "-"],
    );
    check(
        vec![
            seal(),
            staged_with_dead_letters(),
            Event::NotSent(outage()),
            Event::Wake,
            committed(),
        ],
        &["finish", "commit dead letters", "wake", "commit dead letters", "commit"],
    );
}

#[test]
fn fn_1_a_fence_that_closes_between_dead_letters_and_anchor_drops_the_round() {
    check(
        vec![seal(), staged_with_dead_letters(), Event::CloseFence, committed()],
        &["finish", "commit dead letters", "-", "reseek"],
    );
}

#[test]
fn a_round_goes_from_collecting_to_settled() {
    let answered = Event::Answered(CommitOutcome::Committed(receipt()));
    check(vec![seal(), staged(), answered], &["finish", "commit", "settled"]);
}

#[test]
fn a_round_that_collected_nothing_is_not_sealed() {
    let mut round = CommitRound::new(CommitToken("t-1".into()), "f".into());
    assert_eq!(name(round.on(seal(), NOW)), "-");
    assert!(round.is_collecting());
}

#[test]
fn cm_3_an_unknown_outcome_is_looked_up_before_anything_else() {
    check(
        vec![
            seal(),
            staged(),
            Event::Unanswered(outage()),
            Event::Looked(TokenLookup::Found(receipt())),
        ],
        &["finish", "commit", "find", "settled"],
    );
    check(
        vec![
            seal(),
            staged(),
            Event::Unanswered(outage()),
            Event::Looked(TokenLookup::NotFound),
            Event::Wake,
            Event::Answered(CommitOutcome::Committed(receipt())),
        ],
        &["finish", "commit", "find", "wake", "commit", "settled"],
    );
    check(
        vec![
            seal(),
            staged(),
            Event::Unanswered(outage()),
            Event::LookupFailed(outage()),
            Event::Wake,
        ],
        &["finish", "commit", "find", "wake", "find"],
    );
}

#[test]
fn cm_3_pruned_history_proves_nothing() {
    let stored = receipt().checkpoint;
    check(
        vec![
            seal(),
            staged(),
            Event::Unanswered(outage()),
            Event::Looked(TokenLookup::Pruned { stored }),
        ],
        &["finish", "commit", "find", "reseek"],
    );
}

#[test]
fn fn_1_after_the_fence_is_closed_no_commit_begins() {
    check(vec![Event::CloseFence], &["reseek"]);
    check(vec![seal(), Event::CloseFence, staged()], &["finish", "reseek", "-"]);
    check(
        vec![seal(), staged(), Event::NotSent(outage()), Event::CloseFence, Event::Wake],
        &["finish", "commit", "wake", "reseek", "-"],
    );
    check(
        vec![
            seal(),
            staged(),
            Event::CloseFence,
            Event::Unanswered(outage()),
            Event::Looked(TokenLookup::NotFound),
            Event::Wake,
        ],
        &["finish", "commit", "-", "find", "reseek", "-"],
    );
    check(
        vec![seal(), staged(), Event::CloseFence, Event::NotSent(outage()), Event::Wake],
        &["finish", "commit", "-", "reseek", "-"],
    );
}

#[test]
fn a_running_commit_is_waited_for_when_the_fence_closes() {
    let answered = Event::Answered(CommitOutcome::Committed(receipt()));
    check(
        vec![seal(), staged(), Event::CloseFence, answered],
        &["finish", "commit", "-", "settled"],
    );
}

#[test]
fn attempts_are_bounded_and_a_hopeless_error_is_not_tried_again() {
    let mut round = collecting();
    round.on(seal(), NOW);
    round.on(staged(), NOW);
    let mut pauses = vec![];
    let mut at = NOW;
    while let Some(Action::WakeAt(next)) = round.on(Event::NotSent(outage()), at) {
        pauses.push(next.since(at).as_millis());
        at = next;
        round.on(Event::Wake, at);
    }
    // Less what keeps workers apart.
    let whole = [500, 1000, 2000, 4000, 8000];
    assert_eq!(pauses.len(), whole.len());
    let within = |(pause, whole): (&u128, &u128)| pause > &(whole / 2) && pause <= whole;
    assert!(pauses.iter().zip(&whole).all(within), "{pauses:?}");
    let hopeless = Event::NotSent(Error::user("no permission"));
    check(vec![seal(), staged(), hopeless], &["finish", "commit", "stop"]);
}

#[test]
fn a_failed_upload_ends_the_round() {
    check(vec![seal(), Event::StagingFailed(outage())], &["finish", "stop"]);
}

#[test]
fn events_of_another_state_change_nothing() {
    check(
        vec![staged(), Event::Wake, seal(), seal(), staged()],
        &["-", "-", "finish", "-", "commit"],
    );
}

#[test]
fn a_commit_that_never_lands_is_told_with_what_kept_it_from_landing() {
    let mut round = collecting();
    round.on(seal(), NOW);
    round.on(staged(), NOW);
    let mut at = NOW;
    loop {
        round.on(Event::Unanswered(Error::external("no space left")), at);
        match round.on(Event::Looked(TokenLookup::NotFound), at) {
            Some(Action::WakeAt(next)) => at = next,
            Some(Action::End(Settle::Stop(error))) => {
                let told = "the table did not take the commit: no space left";
                return assert_eq!(error.to_string(), told);
            }
            other => panic!("{other:?}"),
        }
        round.on(Event::Wake, at);
    }
}
