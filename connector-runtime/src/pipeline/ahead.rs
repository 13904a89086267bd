//! The round ahead: sealed, and on its way into the tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connector_api::clock::Moment;
use connector_api::offsets::{OffsetCheckpoint, OffsetDelta};
use connector_api::sink::TableMaintenance;
use connector_api::staged::{Accounting, StagedFile};
use connector_api::{Error, Result, Retry};

use super::Pipeline;
use super::in_place::Letters;
use crate::commit::round::{Action, CommitRound, Event, StagedRound};
use crate::commit::settle::{OVERTAKEN, Settle, TableRole};
use crate::memory::Held;
use crate::source::Command;
use crate::write::SealedFiles;

/// How often the table may be ahead of us, without a rebalance between, before that is no accident.
const FENCES_MAX: usize = 3;
/// Within this time,
const FENCES_WITHIN: Duration = Duration::from_secs(600);
/// and for at least this long: a worker that was frozen, and does not know yet that others have its topic
/// partitions, is ahead a few times until its next heartbeat.
const FENCES_FOR: Duration = Duration::from_secs(30);

/// A round that is sealed, with what is to be done for it next.
pub(super) struct Ahead {
    pub(super) round: CommitRound,
    pub(super) accounting: Accounting,
    pub(super) delta: OffsetDelta,
    pub(super) todo: Option<Todo>,
    pub(super) wake_at: Option<Moment>,
    /// Answers to jobs carry it, so that a late one of a dropped round is not taken for this one's.
    pub(super) number: u64,
    /// How often its records were rejected, by the code of the cause.
    pub(super) causes: BTreeMap<&'static str, u64>,
    /// Its dead letters.
    pub(super) letters: Letters,
    /// What its files take.
    pub(super) _memory: Held,
}

/// What waits to be started.
pub(super) enum Todo {
    /// Bring its content into the store.
    Stage(SealedFiles),
    /// Send a commit, or search a table for one.
    Ask(Action),
}

impl Pipeline {
    /// Does what the round ahead waits for.
    pub(super) fn advance_ahead(&mut self, now: Moment) -> Result<()> {
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        if ahead.wake_at.is_some_and(|at| at <= now) {
            ahead.wake_at = None;
            return self.ahead_event(Event::Wake);
        }
        let round = ahead.number;
        match ahead.todo.take() {
            None => {}
            Some(Todo::Stage(sealed)) if sealed.dead_letters.is_empty() => {
                self.stage(round, sealed, false);
            }
            Some(todo) if self.tables.is_none() => ahead.todo = Some(todo),
            Some(Todo::Stage(sealed)) => self.stage(round, sealed, true),
            Some(Todo::Ask(action)) => {
                let Some(tables) = self.tables.take() else { return Ok(()) };
                match action {
                    Action::Commit(role, commit) => self.jobs.commit(round, tables, role, commit),
                    Action::Find(role, commit) => self.jobs.find(round, tables, role, commit),
                    _ => self.tables = Some(tables),
                }
            }
        }
        Ok(())
    }

    fn stage(&mut self, round: u64, sealed: SealedFiles, with_dead_letters: bool) {
        let tables = if with_dead_letters { self.tables.take() } else { None };
        let topics = self.ahead.iter().flat_map(|ahead| ahead.delta.topic_partitions().cloned());
        let read_from = topics.collect();
        self.jobs.stage(round, sealed, tables, self.witness.clone(), read_from);
    }

    pub(super) fn ahead_number(&self) -> u64 {
        self.ahead.as_ref().map_or(0, |ahead| ahead.number)
    }

    /// Takes the answer to a job of a round; that of a dropped round changes nothing.
    pub(super) fn answer(&mut self, round: u64, event: Event) -> Result<()> {
        if round == self.ahead_number() { self.ahead_event(event) } else { Ok(()) }
    }

    /// The round's content is in the store, or not.
    pub(super) fn on_staged(
        &mut self,
        round: u64,
        staged: Result<(Vec<StagedFile>, Vec<StagedFile>)>,
    ) -> Result<()> {
        let (files, dead_letters) = match staged {
            Ok(staged) => staged,
            Err(error) => return self.answer(round, Event::StagingFailed(error)),
        };
        let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.number == round) else {
            return Ok(());
        };
        let dead_letters = match dead_letters.is_empty() {
            true => None,
            false => {
                let staged = self.partitions.dead_letters(dead_letters, &ahead.delta)?;
                Some(staged)
            }
        };
        self.ahead_event(Event::Staged(StagedRound { files, dead_letters }))
    }

    /// Feeds an event to the round ahead and does what follows.
    pub(super) fn ahead_event(&mut self, event: Event) -> Result<()> {
        let now = self.now();
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        let action = ahead.round.on(event, now);
        match action {
            None => Ok(()),
            Some(Action::End(end)) => self.end(end),
            Some(Action::WakeAt(at)) => {
                ahead.wake_at = Some(at);
                Ok(())
            }
            Some(action) => {
                if let Action::Commit(_, commit) = &action {
                    connector_api::check_invariant!(
                        Fn1,
                        self.partitions.may_commit(commit.delta()),
                        "commit {} names topic partitions that were handed back",
                        commit.token()
                    );
                }
                ahead.todo = Some(Todo::Ask(action));
                Ok(())
            }
        }
    }

    /// Ends the round ahead.
    fn end(&mut self, end: Settle) -> Result<()> {
        let Some(ahead) = self.ahead.take() else { return Ok(()) };
        match end {
            Settle::Settled(receipt) => {
                fail::fail_point!("w5_committed_not_settled", |_| std::process::abort());
                let positions = self.partitions.settled(&ahead.delta);
                self.settings.in_place.settled(&ahead.delta);
                let offsets = ahead.delta.iter().map(|(_, range)| range.len()).sum();
                self.settings.progress.settled(&ahead.accounting, offsets, &ahead.causes);
                tracing::info!(
                    connector = %self.settings.plan.name,
                    version = receipt.version,
                    rows = ahead.accounting.written,
                    rejected = ahead.accounting.rejected,
                    tombstones = ahead.accounting.tombstones,
                    "round settled"
                );
                // Advice may be left out; the room is for what must be heard.
                if self.source.commands.capacity() > self.source.commands.max_capacity() / 2 {
                    self.command(Command::NoteGroupOffsets(positions));
                }
                self.nudge_maintenance(self.maintenance.clone(), receipt.version);
                Ok(())
            }
            Settle::Reseek { role, stored, why } => {
                tracing::warn!(
                    connector = %self.settings.plan.name,
                    table = role.name(),
                    why,
                    dropped = %ahead.delta,
                    "round dropped, reading again from where the table stands"
                );
                if why == OVERTAKEN {
                    self.count_fence(&stored)?;
                }
                match role {
                    TableRole::Anchor => self.drop_rounds(&stored),
                    TableRole::DeadLetters => {
                        self.partitions.dead_letters_stored(&stored);
                        self.settings.in_place.overtaken(&stored);
                        self.drop_rounds(&OffsetCheckpoint::default())
                    }
                }
            }
            Settle::Reopen(conflict) => {
                Err(Error::external(conflict.to_string()).with_retry(Retry::AfterRefresh))
            }
            Settle::Stop(error) => Err(error),
        }
    }

    /// A worker of ours that is overtaken has lost its topic partitions, and hears of it by a
    /// rebalance. Who is overtaken again and again without one has a rival outside of its group.
    fn count_fence(&mut self, stored: &OffsetCheckpoint) -> Result<()> {
        if stored.iter().next().is_none() {
            return Ok(());
        }
        let now = self.now();
        self.fences.retain(|at| now.since(*at) < FENCES_WITHIN);
        self.fences.push(now);
        if !is_rival(&self.fences) {
            return Ok(());
        }
        let plan = &self.settings.plan;
        Err(Error::decision(format!(
            "another worker commits under the name `{}` records of topic partitions that the group `{}` gave \
             to this one: the table was ahead {} times without a rebalance. Every record is in the table once. \
             Is there a second connector of this name, with another `group.id`? Give it another name, or stop one of them",
            plan.name,
            plan.source.group_id,
            self.fences.len()
        )))
    }

    pub(super) fn nudge_maintenance(
        &mut self,
        maintenance: Option<Arc<dyn TableMaintenance>>,
        version: u64,
    ) {
        if let Some(maintenance) = maintenance {
            self.jobs.maintain(self.settings.plan.name.clone(), maintenance, version);
        }
    }
}

/// True if the table was ahead too often, and for too long, for a worker that was frozen and does not know
/// yet what it has lost.
fn is_rival(fences: &[Moment]) -> bool {
    let (Some(first), Some(last)) = (fences.first(), fences.last()) else { return false };
    fences.len() >= FENCES_MAX && last.since(*first) >= FENCES_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_ahead_a_few_times_at_once_is_no_rival() {
        let at = |seconds: &[u64]| -> Vec<Moment> {
            seconds.iter().map(|second| Moment(Duration::from_secs(*second))).collect()
        };
        assert!(!is_rival(&at(&[])));
        assert!(!is_rival(&at(&[1, 2, 3, 4, 5])), "one that was frozen, until its next heartbeat");
        assert!(!is_rival(&at(&[1, 40])), "two that were frozen");
        assert!(is_rival(&at(&[1, 15, 31])));
    }
}
