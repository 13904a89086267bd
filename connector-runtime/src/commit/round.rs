//! One round: collect, seal, commit. A pure state machine, without I/O and without a clock.
//!
//! The pipeline feeds it events and carries out its actions; everything that decides whether
//! records are lost or doubled is decided here and in [`settle`](super::settle).
//!
//! | state | event | next state | actions |
//! |---|---|---|---|
//! | `Collecting`, nothing collected | `Seal` | `Collecting` | – |
//! | `Collecting` | `Seal` | `Sealing` | `FinishFiles` |
//! | `Sealing` | `Staged` | `Committing` | `Commit` |
//! | `Sealing` | `StagingFailed` | `Over` | `End(Stop)` |
//! | `Committing` | `Answered` | `Over` | `End(settle(answer))` |
//! | `Committing` | `NotSent`, fence closed | `Over` | `End(Reseek)` |
//! | `Committing` | `NotSent`, attempts left | `Waiting` | `WakeAt` |
//! | `Committing` | `NotSent`, none left | `Over` | `End(Stop)` |
//! | `Committing` | `Unanswered` | `Doubtful` | `Find` (CM-3) |
//! | `Doubtful` | `Looked(Found)` | `Over` | `End(Settled)` |
//! | `Doubtful` | `Looked(NotFound)`, fence open, attempts left | `Waiting` | `WakeAt` |
//! | `Doubtful` | `Looked(NotFound)`, fence closed | `Over` | `End(Reseek)` |
//! | `Doubtful` | `Looked(Pruned)` | `Over` | `End(Reseek)` (pruned history proves nothing: the stored offsets decide) |
//! | `Doubtful` | `LookupFailed`, attempts left | `Waiting` | `WakeAt` |
//! | `Doubtful` | `LookupFailed`, none left | `Over` | `End(Stop)`: the next start reads the table |
//! | `Waiting` | `Wake` | `Committing` or `Doubtful` | `Commit` or `Find` |
//! | `Collecting`, `Sealing`, `Waiting` to commit | `CloseFence` | `Over` | `End(Reseek)` |
//! | `Committing`, `Doubtful`, `Waiting` to look | `CloseFence` | the same, fence closed | – |
//!
//! An event that a state does not name changes nothing.
//!
//! Invariants: FN-1 (after `CloseFence` no `Commit` is asked for), CM-3 (after `Unanswered` a
//! `Find` comes first), CM-4 (the commit's account balances).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use connector_api::clock::Moment;
use connector_api::ids::{CommitToken, TopicPartition};
use connector_api::offsets::{NotContiguous, OffsetCheckpoint, OffsetDelta, OffsetRange};
use connector_api::outcome::{CommitOutcome, TokenLookup};
use connector_api::staged::{Accounting, StagedCommit, StagedFile, StagedParts};
use connector_api::{Error, check_invariant};

use super::settle::{Settle, settle};

/// How often a commit or a look-up is tried before the round gives up.
const ATTEMPTS_MAX: u32 = 6;
/// The pause before the second attempt; it doubles with each one.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// Why a round is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealReason {
    /// `commit_interval` is over.
    Interval,
    /// Enough bytes are encoded.
    Bytes,
    /// Topic partitions are handed back.
    Revoke,
    /// Everything that `--until-end` asked for is read.
    End,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The round should end.
    Seal(SealReason),
    /// All its files are complete in the store.
    Staged(Vec<StagedFile>),
    /// A file could not be brought into the store.
    StagingFailed(Error),
    /// The table answered.
    Answered(CommitOutcome),
    /// The commit request may have landed.
    Unanswered(Error),
    /// The commit request was not sent.
    NotSent(Error),
    /// The table was searched for the commit.
    Looked(TokenLookup),
    /// The table could not be searched.
    LookupFailed(Error),
    /// The time that was asked for has come.
    Wake,
    /// Some of its topic partitions are no longer ours to commit.
    CloseFence,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Finish the open files and stage all of them.
    FinishFiles,
    /// Send the commit.
    Commit(Arc<StagedCommit>),
    /// Search the table for the commit.
    Find(Arc<StagedCommit>),
    /// Come back with [`Event::Wake`] then.
    WakeAt(Moment),
    /// The round is over.
    End(Settle),
}

/// One turn of collect, seal, commit.
#[derive(Debug)]
pub struct CommitRound {
    token: CommitToken,
    fingerprint: String,
    state: State,
    fence_open: bool,
}

#[derive(Debug)]
enum State {
    Collecting(Collected),
    Sealing(Collected),
    Committing { commit: Arc<StagedCommit>, attempt: u32 },
    Doubtful { commit: Arc<StagedCommit>, attempt: u32 },
    Waiting { commit: Arc<StagedCommit>, attempt: u32, then: Then },
    Over,
}

/// What a waiting round does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Commit,
    Find,
}

/// What a round has collected.
#[derive(Debug, Default)]
struct Collected {
    since: Option<Moment>,
    delta: OffsetDelta,
    new_topic_partitions: BTreeSet<TopicPartition>,
    accounting: Accounting,
}

impl CommitRound {
    /// An empty round. The token must be unique among all workers and runs.
    pub fn new(token: CommitToken, fingerprint: String) -> Self {
        Self {
            token,
            fingerprint,
            state: State::Collecting(Collected::default()),
            fence_open: true,
        }
    }

    /// Marks the round's commit, and names it in logs.
    pub fn token(&self) -> &CommitToken {
        &self.token
    }

    /// Accounts for a range whose records are written into the round's files.
    ///
    /// `new` says that a start position was decided for the topic partition since the table had
    /// never seen it. Only a collecting round takes records.
    pub fn collect(
        &mut self,
        topic_partition: &TopicPartition,
        range: OffsetRange,
        accounting: Accounting,
        new: bool,
        now: Moment,
    ) -> Result<(), NotContiguous> {
        let State::Collecting(collected) = &mut self.state else {
            check_invariant!(Of1, false, "{range} of {topic_partition} came to a sealed round");
            return Ok(());
        };
        collected.delta.append(topic_partition, range)?;
        collected.accounting += accounting;
        collected.since.get_or_insert(now);
        if new {
            collected.new_topic_partitions.insert(topic_partition.clone());
        }
        Ok(())
    }

    /// When the first record was collected.
    pub fn collecting_since(&self) -> Option<Moment> {
        match &self.state {
            State::Collecting(collected) => collected.since,
            _ => None,
        }
    }

    /// True while the round takes records.
    pub fn is_collecting(&self) -> bool {
        matches!(self.state, State::Collecting(_))
    }

    /// True if rows were collected, and not only offsets without rows.
    pub fn has_rows(&self) -> bool {
        matches!(&self.state, State::Collecting(collected) if collected.accounting.written > 0)
    }

    /// The offsets that the round accounts for; nothing once it is over.
    pub fn delta(&self) -> OffsetDelta {
        match &self.state {
            State::Collecting(collected) | State::Sealing(collected) => collected.delta.clone(),
            State::Committing { commit, .. }
            | State::Doubtful { commit, .. }
            | State::Waiting { commit, .. } => commit.delta().clone(),
            State::Over => OffsetDelta::default(),
        }
    }

    /// What became of the records that the round accounts for.
    pub fn accounting(&self) -> Accounting {
        match &self.state {
            State::Collecting(collected) | State::Sealing(collected) => collected.accounting,
            State::Committing { commit, .. }
            | State::Doubtful { commit, .. }
            | State::Waiting { commit, .. } => *commit.accounting(),
            State::Over => Accounting::default(),
        }
    }

    /// Takes an event and says what is to be done. See the table in the [module](self).
    pub fn on(&mut self, event: Event, now: Moment) -> Option<Action> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (state, action) = self.step(state, event, now);
        self.state = state;
        action
    }

    fn step(&mut self, state: State, event: Event, now: Moment) -> (State, Option<Action>) {
        match (state, event) {
            (State::Collecting(collected), Event::Seal(_)) if !collected.delta.is_empty() => {
                (State::Sealing(collected), Some(Action::FinishFiles))
            }
            (State::Sealing(collected), Event::Staged(files)) => {
                self.commit(Arc::new(self.stage(collected, files)), 1)
            }
            (State::Sealing(_), Event::StagingFailed(error)) => over(Settle::Stop(error)),
            (State::Committing { commit, .. }, Event::Answered(outcome)) => {
                over(settle(outcome, &commit))
            }
            (State::Committing { .. }, Event::NotSent(_)) if !self.fence_open => {
                over(dropped("its topic partitions were handed back"))
            }
            (State::Committing { commit, attempt }, Event::NotSent(error)) => {
                wait(commit, attempt, Then::Commit, error, now)
            }
            (State::Committing { commit, attempt }, Event::Unanswered(_)) => {
                (State::Doubtful { commit: commit.clone(), attempt }, Some(Action::Find(commit)))
            }
            (State::Doubtful { commit, attempt }, Event::Looked(lookup)) => {
                self.looked(commit, attempt, lookup, now)
            }
            (State::Doubtful { commit, attempt }, Event::LookupFailed(error)) => {
                wait(commit, attempt, Then::Find, error, now)
            }
            (State::Waiting { commit, attempt, then: Then::Commit }, Event::Wake) => {
                self.commit(commit, attempt)
            }
            (State::Waiting { commit, attempt, then: Then::Find }, Event::Wake) => {
                (State::Doubtful { commit: commit.clone(), attempt }, Some(Action::Find(commit)))
            }
            (state, Event::CloseFence) => self.close_fence(state),
            (state, _) => (state, None),
        }
    }

    fn stage(&self, collected: Collected, files: Vec<StagedFile>) -> StagedCommit {
        StagedCommit::new(StagedParts {
            token: self.token.clone(),
            fingerprint: self.fingerprint.clone(),
            files,
            delta: collected.delta,
            new_topic_partitions: collected.new_topic_partitions,
            accounting: collected.accounting,
        })
    }

    /// The one place that asks for a commit (FN-1).
    fn commit(&self, commit: Arc<StagedCommit>, attempt: u32) -> (State, Option<Action>) {
        check_invariant!(Fn1, self.fence_open, "commit {} after its fence was closed", self.token);
        (State::Committing { commit: commit.clone(), attempt }, Some(Action::Commit(commit)))
    }

    fn looked(
        &self,
        commit: Arc<StagedCommit>,
        attempt: u32,
        lookup: TokenLookup,
        now: Moment,
    ) -> (State, Option<Action>) {
        match lookup {
            TokenLookup::Found(receipt) => over(Settle::Settled(receipt)),
            TokenLookup::NotFound if self.fence_open => {
                let error = Error::external("the table did not take the commit");
                wait(commit, attempt, Then::Commit, error, now)
            }
            TokenLookup::NotFound => over(dropped("its topic partitions were handed back")),
            TokenLookup::Pruned { stored } => over(Settle::Reseek {
                stored,
                why: "the log entry that could tell its outcome is gone",
            }),
        }
    }

    fn close_fence(&mut self, state: State) -> (State, Option<Action>) {
        self.fence_open = false;
        match state {
            State::Collecting(_)
            | State::Sealing(_)
            | State::Waiting { then: Then::Commit, .. } => {
                over(dropped("its topic partitions were handed back"))
            }
            state => (state, None),
        }
    }
}

fn over(end: Settle) -> (State, Option<Action>) {
    (State::Over, Some(Action::End(end)))
}

fn dropped(why: &'static str) -> Settle {
    Settle::Reseek { stored: OffsetCheckpoint::default(), why }
}

fn wait(
    commit: Arc<StagedCommit>,
    attempt: u32,
    then: Then,
    error: Error,
    now: Moment,
) -> (State, Option<Action>) {
    if attempt >= ATTEMPTS_MAX || error.retry() == connector_api::Retry::Never {
        return over(Settle::Stop(error));
    }
    let pause = BACKOFF_FIRST * 2u32.pow(attempt - 1);
    let state = State::Waiting { commit, attempt: attempt + 1, then };
    (state, Some(Action::WakeAt(now + pause)))
}

#[cfg(test)]
mod tests {
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
        let actions: Vec<&str> =
            events.into_iter().map(|event| name(round.on(event, NOW))).collect();
        assert_eq!(actions, expected);
    }

    fn name(action: Option<Action>) -> &'static str {
        match action {
            None => "-",
            Some(Action::FinishFiles) => "finish",
            Some(Action::Commit(_)) => "commit",
            Some(Action::Find(_)) => "find",
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
        Event::Staged(vec![])
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
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000]);
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
}
