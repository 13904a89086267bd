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
use crate::is_planted;
use crate::jitter::jittered;

/// How often a commit or a look-up is tried before the round gives up.
const ATTEMPTS_MAX: u32 = 6;
/// The pause before the second attempt; it doubles with each one, and is [jittered].
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// Why a round is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealReason {
    /// `commit_interval` is over.
    Interval,
    /// Enough bytes are encoded.
    Bytes,
    /// It takes as much memory as there is for it (MM-1).
    Memory,
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
            Some(commit) if !is_planted("mistake_anchor_first") => {
                (TableRole::DeadLetters, commit.clone())
            }
            _ => (TableRole::Anchor, self.anchor.clone()),
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
            (State::Committing { .. }, Event::Unanswered(_))
                if is_planted("mistake_token_not_looked_for") =>
            {
                over(handed_back())
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
    let pause = jittered(pause, (&commits.anchor.token().0, attempt));
    let state = State::Waiting { commits, attempt: attempt + 1, then };
    (state, Some(Action::WakeAt(now + pause)))
}

#[cfg(test)]
mod tests;
