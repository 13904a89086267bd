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
//! | `Committing`, dead letters | `Answered`, in the table, fence open | `Committing`, anchor | `Commit` (DL-1: the anchor last) |
//! | `Committing`, dead letters | `Answered`, in the table, fence closed | `Over` | `End(Reseek)` |
//! | `Committing` | any other `Answered` | `Over` | `End(settle(answer))` |
//! | `Committing` | `NotSent`, fence closed | `Over` | `End(Reseek)` |
//! | `Committing` | `NotSent`, attempts left | `Waiting` | `WakeAt` |
//! | `Committing` | `NotSent`, none left | `Over` | `End(Stop)` |
//! | `Committing` | `Unanswered` | `Doubtful` | `Find` (CM-3) |
//! | `Doubtful` | `Looked(Found)` | as after `Answered` with `AlreadyCommitted` | |
//! | `Doubtful` | `Looked(NotFound)`, fence open, attempts left | `Waiting` | `WakeAt` |
//! | `Doubtful` | `Looked(NotFound)`, fence closed | `Over` | `End(Reseek)` |
//! | `Doubtful` | `Looked(Pruned)` | `Over` | `End(Reseek)` (pruned history proves nothing: the stored offsets decide) |
//! | `Doubtful` | `Looked(NotFound)`, fence open, none left | `Over` | `End(Stop)` |
//! | `Doubtful` | `LookupFailed`, attempts left | `Waiting` | `WakeAt` |
//! | `Doubtful` | `LookupFailed`, none left | `Over` | `End(Stop)`: the next start reads the table |
//! | `Waiting` | `Wake` | `Committing` or `Doubtful` | `Commit` or `Find` |
//! | `Collecting`, `Sealing`, `Waiting` to commit | `CloseFence` | `Over` | `End(Reseek)` |
//! | `Committing`, `Doubtful`, `Waiting` to look | `CloseFence` | the same, fence closed | – |
//!
//! An event that a state does not name changes nothing.
//!
//! Invariants: FN-1 (after `CloseFence` no `Commit` is asked for), CM-3 (after `Unanswered` a
//! `Find` comes first), CM-4 (the commit's account balances), DL-1 (the dead letters of a round are
//! in their table before the anchor's checkpoint passes them).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use connector_api::clock::Moment;
use connector_api::ids::{CommitToken, TopicPartition};
use connector_api::offsets::{NotContiguous, OffsetCheckpoint, OffsetDelta, OffsetRange};
use connector_api::outcome::{CommitOutcome, TokenLookup};
use connector_api::staged::{Accounting, Loss, StagedCommit, StagedFile, StagedParts};
use connector_api::{Error, check_invariant};

use super::settle::{Settle, TableRole, settle};

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
    /// A start position was decided that would be another one after a crash.
    Begin,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The round should end.
    Seal(SealReason),
    /// All its files are complete in the store.
    Staged(StagedRound),
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

/// What a round brought into the store.
#[derive(Debug, Default)]
pub struct StagedRound {
    /// Files of the connector's table.
    pub files: Vec<StagedFile>,
    /// Files of the dead-letter table, if records were rejected into it.
    pub dead_letters: Option<StagedDeadLetters>,
}

/// Dead letters of a round, with the offsets that their table accounts for by them: from where it
/// stands to the round's end, since nothing between was a dead letter.
#[derive(Debug)]
pub struct StagedDeadLetters {
    /// The files.
    pub files: Vec<StagedFile>,
    /// Where the dead-letter table stands, to the round's end.
    pub delta: OffsetDelta,
    /// The topic partitions that it has no dead letters of yet.
    pub new_topic_partitions: BTreeSet<TopicPartition>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Finish the open files and stage all of them.
    FinishFiles,
    /// Send the commit.
    Commit(TableRole, Arc<StagedCommit>),
    /// Search the table for the commit.
    Find(TableRole, Arc<StagedCommit>),
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
    /// Why the last commit got no answer, to be told if it turns out not to have landed.
    doubt: Option<Error>,
}

#[derive(Debug)]
enum State {
    Collecting(Collected),
    Sealing(Collected),
    Committing { commits: Commits, attempt: u32 },
    Doubtful { commits: Commits, attempt: u32 },
    Waiting { commits: Commits, attempt: u32, then: Then },
    Over,
}

/// The commits of a round that are still to be made. The anchor's is the last one.
#[derive(Debug, Clone)]
struct Commits {
    dead_letters: Option<Arc<StagedCommit>>,
    anchor: Arc<StagedCommit>,
}

impl Commits {
    /// The one whose turn it is.
    fn first(&self) -> (TableRole, Arc<StagedCommit>) {
        match &self.dead_letters {
            Some(commit) => (TableRole::DeadLetters, commit.clone()),
            None => (TableRole::Anchor, self.anchor.clone()),
        }
    }
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
    losses: Vec<Loss>,
}

impl CommitRound {
    /// An empty round. The token must be unique among all workers and runs.
    pub fn new(token: CommitToken, fingerprint: String) -> Self {
        Self {
            token,
            fingerprint,
            state: State::Collecting(Collected::default()),
            fence_open: true,
            doubt: None,
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

    /// Notes what is passed over by a range without records: it will stand in the commit.
    pub fn note_loss(&mut self, loss: Loss) {
        if let State::Collecting(collected) = &mut self.state {
            collected.losses.push(loss);
        }
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
            State::Committing { commits, .. }
            | State::Doubtful { commits, .. }
            | State::Waiting { commits, .. } => commits.anchor.delta().clone(),
            State::Over => OffsetDelta::default(),
        }
    }

    /// What became of the records that the round accounts for.
    pub fn accounting(&self) -> Accounting {
        match &self.state {
            State::Collecting(collected) | State::Sealing(collected) => collected.accounting,
            State::Committing { commits, .. }
            | State::Doubtful { commits, .. }
            | State::Waiting { commits, .. } => *commits.anchor.accounting(),
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
            (State::Sealing(collected), Event::Staged(staged)) => {
                self.commit(self.stage(collected, staged), 1)
            }
            (State::Sealing(_), Event::StagingFailed(error)) => over(Settle::Stop(error)),
            (State::Committing { commits, .. }, Event::Answered(outcome)) => {
                self.answered(commits, outcome)
            }
            (State::Committing { .. }, Event::NotSent(_)) if !self.fence_open => {
                over(handed_back())
            }
            (State::Committing { commits, attempt }, Event::NotSent(error)) => {
                wait(commits, attempt, Then::Commit, error, now)
            }
            (State::Committing { commits, attempt }, Event::Unanswered(error)) => {
                self.doubt = Some(error);
                find(commits, attempt)
            }
            (State::Doubtful { commits, attempt }, Event::Looked(lookup)) => {
                self.looked(commits, attempt, lookup, now)
            }
            (State::Doubtful { commits, attempt }, Event::LookupFailed(error)) => {
                wait(commits, attempt, Then::Find, error, now)
            }
            (State::Waiting { commits, attempt, then: Then::Commit }, Event::Wake) => {
                self.commit(commits, attempt)
            }
            (State::Waiting { commits, attempt, then: Then::Find }, Event::Wake) => {
                find(commits, attempt)
            }
            (state, Event::CloseFence) => self.close_fence(state),
            (state, _) => (state, None),
        }
    }

    fn stage(&self, collected: Collected, staged: StagedRound) -> Commits {
        let dead_letters = staged.dead_letters.map(|dead_letters| {
            let written = dead_letters.files.iter().map(|file| file.rows).sum();
            Arc::new(StagedCommit::new(StagedParts {
                token: CommitToken(format!("{}-dead-letters", self.token)),
                fingerprint: self.fingerprint.clone(),
                files: dead_letters.files,
                delta: dead_letters.delta,
                new_topic_partitions: dead_letters.new_topic_partitions,
                accounting: Accounting { consumed: written, written, ..Accounting::default() },
                losses: Vec::new(),
            }))
        });
        let anchor = StagedCommit::new(StagedParts {
            token: self.token.clone(),
            fingerprint: self.fingerprint.clone(),
            files: staged.files,
            delta: collected.delta,
            new_topic_partitions: collected.new_topic_partitions,
            accounting: collected.accounting,
            losses: collected.losses,
        });
        Commits { dead_letters, anchor: Arc::new(anchor) }
    }

    /// The one place that asks for a commit (FN-1).
    fn commit(&self, commits: Commits, attempt: u32) -> (State, Option<Action>) {
        check_invariant!(Fn1, self.fence_open, "commit {} after its fence was closed", self.token);
        let (role, commit) = commits.first();
        (State::Committing { commits, attempt }, Some(Action::Commit(role, commit)))
    }

    /// Goes on to the anchor once the dead letters are in their table; else the round is over.
    fn answered(&self, commits: Commits, outcome: CommitOutcome) -> (State, Option<Action>) {
        let (role, commit) = commits.first();
        match (role, settle(role, outcome, &commit)) {
            (TableRole::DeadLetters, Settle::Settled(_)) if self.fence_open => {
                self.commit(Commits { dead_letters: None, ..commits }, 1)
            }
            (TableRole::DeadLetters, Settle::Settled(_)) => over(handed_back()),
            (_, end) => over(end),
        }
    }

    fn looked(
        &mut self,
        commits: Commits,
        attempt: u32,
        lookup: TokenLookup,
        now: Moment,
    ) -> (State, Option<Action>) {
        match lookup {
            TokenLookup::Found(receipt) => {
                self.answered(commits, CommitOutcome::AlreadyCommitted(receipt))
            }
            TokenLookup::NotFound if self.fence_open => {
                let mut error = Error::external("the table did not take the commit");
                if let Some(doubt) = self.doubt.take() {
                    error = error.with_source(doubt);
                }
                wait(commits, attempt, Then::Commit, error, now)
            }
            TokenLookup::NotFound => over(handed_back()),
            TokenLookup::Pruned { stored } => over(Settle::Reseek {
                role: commits.first().0,
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
            | State::Waiting { then: Then::Commit, .. } => over(handed_back()),
            state => (state, None),
        }
    }
}

fn over(end: Settle) -> (State, Option<Action>) {
    (State::Over, Some(Action::End(end)))
}

fn find(commits: Commits, attempt: u32) -> (State, Option<Action>) {
    let (role, commit) = commits.first();
    (State::Doubtful { commits, attempt }, Some(Action::Find(role, commit)))
}

fn handed_back() -> Settle {
    Settle::Reseek {
        role: TableRole::Anchor,
        stored: OffsetCheckpoint::default(),
        why: "its topic partitions were handed back",
    }
}

fn wait(
    commits: Commits,
    attempt: u32,
    then: Then,
    error: Error,
    now: Moment,
) -> (State, Option<Action>) {
    if attempt >= ATTEMPTS_MAX || error.retry() == connector_api::Retry::Never {
        return over(Settle::Stop(error));
    }
    let pause = BACKOFF_FIRST * 2u32.pow(attempt - 1);
    let state = State::Waiting { commits, attempt: attempt + 1, then };
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
}
