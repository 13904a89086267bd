//! A topic with its logs, and the coordinator of one group.
//!
//! The coordinator knows members by their heartbeats. Who is silent for [`SESSION_TIMEOUT`] is taken
//! out, and what he held is given to others, whatever he still does with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connector_api::ids::{TopicId, TopicPartition};
use connector_api::offsets::{Offset, OffsetRange};
use connector_api::{Error, Result};
use connector_runtime::source::{AssignedPartition, Noted, Tail, Topics, Witness};
use tokio::time::Instant;

/// The topic.
pub(crate) const TOPIC: &str = "orders";
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Who has not answered to a rebalance for this long is taken out of the group.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);

/// What stands at one offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A record that becomes a row with this id.
    Row(i64),
    /// A record that cannot become a row.
    Bad,
    Tombstone,
    /// A marker of a transaction, a record of an aborted one, or one that was compacted away.
    Hidden,
}

impl Entry {
    pub(crate) fn value(&self) -> Option<String> {
        match self {
            Self::Row(id) => Some(format!("{{\"id\":{id}}}")),
            Self::Bad => Some("no JSON".to_owned()),
            Self::Tombstone | Self::Hidden => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    /// When they were appended.
    appended: Vec<Instant>,
    /// The offset behind the last one that readers of committed records get.
    pub(crate) stable: usize,
}

/// One cluster with one topic and one group. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Broker(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    logs: Vec<Log>,
    group: Group,
    /// No request is answered until then.
    away_until: Option<Instant>,
}

impl Broker {
    pub(crate) fn new(partitions: usize, eager: bool) -> Self {
        let logs = (0..partitions).map(|_| Log::default()).collect();
        let group = Group { eager, ..Group::default() };
        Self(Arc::new(Mutex::new(State { logs, group, away_until: None })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    // ---- the log -----------------------------------------------------------------------------

    pub(crate) fn partitions(&self) -> usize {
        self.lock().logs.len()
    }

    /// Adds a topic partition. Members hear of it by a rebalance.
    pub(crate) fn add_partition(&self) {
        let mut state = self.lock();
        state.logs.push(Log::default());
        let partitions = state.logs.len();
        state.group.rebalance(partitions);
    }

    pub(crate) fn append(&self, partition: usize, entries: impl IntoIterator<Item = Entry>) {
        let log = &mut self.lock().logs[partition];
        log.entries.extend(entries);
        log.appended.resize(log.entries.len(), Instant::now());
    }

    /// Ends the transaction that is open: readers get what was appended.
    pub(crate) fn settle(&self, partition: usize) {
        let log = &mut self.lock().logs[partition];
        log.stable = log.entries.len();
    }

    /// Everything that was ever appended.
    pub(crate) fn log(&self, partition: usize) -> Vec<Entry> {
        self.lock().logs[partition].entries.clone()
    }

    /// How many entries of a kind there are in all topic partitions.
    pub(crate) fn count(&self, is_one: impl Fn(&Entry) -> bool) -> usize {
        let state = self.lock();
        state.logs.iter().flat_map(|log| &log.entries).filter(|entry| is_one(entry)).count()
    }

    pub(crate) fn entry(&self, partition: usize, offset: i64) -> Option<Entry> {
        let state = self.lock();
        let log = state.logs.get(partition)?;
        let offset = usize::try_from(offset).ok().filter(|offset| *offset < log.stable)?;
        log.entries.get(offset).cloned()
    }

    /// How long a record has been there.
    pub(crate) fn age(&self, partition: usize, offset: i64) -> Duration {
        self.lock().logs[partition].appended[offset as usize].elapsed()
    }

    /// The records from an offset on, with theirs.
    pub(crate) fn fetch(&self, partition: usize, from: usize, max: usize) -> Vec<(usize, Entry)> {
        let state = self.lock();
        if state.is_away() {
            return Vec::new();
        }
        let log = &state.logs[partition];
        let found = (from..log.stable).map(|offset| (offset, log.entries[offset].clone()));
        found.filter(|(_, entry)| *entry != Entry::Hidden).take(max).collect()
    }

    pub(crate) fn go_away(&self, span: Duration) {
        self.lock().away_until = Some(Instant::now() + span);
    }

    // ---- what is asked -----------------------------------------------------------------------

    pub(crate) fn describe(&self, partitions: &[i32]) -> Result<Topics> {
        let state = self.lock();
        state.answers()?;
        let describe = |partition: &i32| {
            let log = &state.logs[*partition as usize];
            AssignedPartition {
                topic_partition: topic_partition(*partition),
                log_start: Offset::ZERO,
                log_end: at(log.stable),
                at_timestamp: None,
                noted: state.group.notes.get(partition).cloned(),
                log_start_ms: None,
            }
        };
        Ok(partitions.iter().map(describe).collect())
    }

    pub(crate) fn topics(&self) -> Result<Topics> {
        let all: Vec<i32> = (0..self.partitions() as i32).collect();
        self.describe(&all)
    }

    // ---- the group ---------------------------------------------------------------------------

    pub(crate) fn group<T>(&self, ask: impl FnOnce(&mut Group, usize) -> T) -> Result<T> {
        let mut state = self.lock();
        state.answers()?;
        let partitions = state.logs.len();
        state.group.expire(partitions);
        Ok(ask(&mut state.group, partitions))
    }
}

impl State {
    fn is_away(&self) -> bool {
        self.away_until.is_some_and(|until| Instant::now() < until)
    }

    fn answers(&self) -> Result<()> {
        match self.is_away() {
            true => Err(Error::external("no broker answers")),
            false => Ok(()),
        }
    }
}

impl Witness for Broker {
    fn same_topics(&self, _: Vec<TopicPartition>) -> Result<()> {
        Ok(())
    }

    fn log_end(&self, of: &TopicPartition) -> Result<Offset> {
        let state = self.lock();
        state.answers()?;
        Ok(at(state.logs[of.partition as usize].stable))
    }

    fn tail(&self, tail: &Tail) -> Result<Option<OffsetRange>> {
        let state = self.lock();
        state.answers()?;
        let log = &state.logs[tail.topic_partition.partition as usize];
        let end = tail.end.map_or(log.stable, |end| end.get() as usize);
        let from = tail.next.get() as usize;
        if from >= end || log.entries[from..end].iter().any(|entry| *entry != Entry::Hidden) {
            return Ok(None);
        }
        Ok(OffsetRange::new(at(from), at(end)))
    }
}

pub(crate) fn topic_partition(partition: i32) -> TopicPartition {
    let topic_id = TopicId::Known("c2ltdWxhdGVkLXRvcGlj".into());
    TopicPartition { topic: TOPIC.into(), topic_id, partition }
}

pub(crate) fn at(offset: usize) -> Offset {
    Offset::new(offset as i64).unwrap()
}

/// Who reads what, as the coordinator sees it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Before a rebalance everybody hands everything back; otherwise only what moves.
    pub(crate) eager: bool,
    members: BTreeMap<u64, Member>,
    joined: u64,
    generation: u64,
    since: Option<Instant>,
    /// Who is to read a topic partition.
    target: BTreeMap<i32, u64>,
    /// Who reads it, as far as he has not handed it back.
    owner: BTreeMap<i32, u64>,
    notes: BTreeMap<i32, Noted>,
}

#[derive(Debug)]
struct Member {
    heard: Instant,
    /// The generation for which he has handed back what he had to.
    ready_for: u64,
}

/// What a member hears from the coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) generation: u64,
    /// What he is to read in the end.
    pub(crate) target: BTreeSet<i32>,
}

impl Group {
    /// Takes a member in.
    pub(crate) fn join(&mut self, partitions: usize) -> u64 {
        self.joined += 1;
        let member = Member { heard: Instant::now(), ready_for: 0 };
        self.members.insert(self.joined, member);
        self.rebalance(partitions);
        self.joined
    }

    pub(crate) fn leave(&mut self, member: u64, partitions: usize) {
        if self.members.remove(&member).is_some() {
            self.owner.retain(|_, owner| *owner != member);
            self.rebalance(partitions);
        }
    }

    /// A heartbeat. `None` for one that is no member any more.
    pub(crate) fn heartbeat(&mut self, member: u64) -> Option<Assignment> {
        self.members.get_mut(&member)?.heard = Instant::now();
        let target = self.target.iter().filter(|(_, to)| **to == member);
        let target = target.map(|(partition, _)| *partition).collect();
        Some(Assignment { generation: self.generation, target })
    }

    /// The member says what it still reads, as in a JoinGroup request, and is ready for a generation. All else that
    /// it had is free, also what it handed back in a request that nobody heard.
    pub(crate) fn rejoin(&mut self, member: u64, keeps: &BTreeSet<i32>, generation: u64) {
        self.owner.retain(|partition, owner| *owner != member || keeps.contains(partition));
        if let Some(member) = self.members.get_mut(&member) {
            member.ready_for = generation;
        }
    }

    /// Those of the member's topic partitions that nobody reads any more are his.
    pub(crate) fn take(&mut self, member: u64, generation: u64) -> BTreeSet<i32> {
        let known = self.members.contains_key(&member) && self.generation == generation;
        let waits = self.eager && self.members.values().any(|m| m.ready_for < generation);
        if !known || waits {
            return BTreeSet::new();
        }
        let free = |partition: &i32| !self.owner.contains_key(partition);
        let his = self.target.iter().filter(|(partition, to)| **to == member && free(partition));
        let taken: BTreeSet<i32> = his.map(|(partition, _)| *partition).collect();
        self.owner.extend(taken.iter().map(|partition| (*partition, member)));
        taken
    }

    /// Notes a position, if that comes from a member.
    pub(crate) fn note(&mut self, member: u64, partition: i32, noted: Noted) {
        if self.members.contains_key(&member) {
            self.notes.insert(partition, noted);
        }
    }

    /// Takes out who is silent, or does not answer to a rebalance.
    fn expire(&mut self, partitions: usize) {
        let (now, generation) = (Instant::now(), self.generation);
        let overdue = self.since.is_some_and(|since| now - since > REBALANCE_TIMEOUT);
        let before = self.members.len();
        self.members.retain(|_, member| {
            now - member.heard <= SESSION_TIMEOUT && (!overdue || member.ready_for == generation)
        });
        if self.members.len() < before {
            let members = &self.members;
            self.owner.retain(|_, owner| members.contains_key(owner));
            self.rebalance(partitions);
        }
    }

    /// Gives everybody as much as the others, and moves as little as that takes.
    fn rebalance(&mut self, partitions: usize) {
        self.generation += 1;
        self.since = Some(Instant::now());
        let before = std::mem::take(&mut self.target);
        let members: Vec<u64> = self.members.keys().copied().collect();
        if members.is_empty() {
            return;
        }
        let most = partitions.div_ceil(members.len());
        let mut shares: BTreeMap<u64, usize> = members.iter().map(|member| (*member, 0)).collect();
        let mut left = Vec::new();
        for partition in 0..partitions as i32 {
            let share = before.get(&partition).and_then(|to| Some((*to, shares.get_mut(to)?)));
            match share {
                Some((to, share)) if *share < most => {
                    *share += 1;
                    self.target.insert(partition, to);
                }
                _ => left.push(partition),
            }
        }
        for partition in left {
            let Some((member, share)) = shares.iter_mut().min_by_key(|(_, share)| **share) else {
                return;
            };
            *share += 1;
            self.target.insert(partition, *member);
        }
    }
}
