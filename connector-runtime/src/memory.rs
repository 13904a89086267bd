//! The memory budget of a worker (MM-1): what its connectors hold of records, from Kafka to the store.
//!
//! `--memory` is for the process as a whole. What is left of it after the process's own needs is split in two:
//! one half is guaranteed to the connectors in equal shares, the other is for whoever needs more. A
//! connector that is over its share, while the common half is used up, reads no more and seals its round
//! early: within its share it always can go on, so none waits for another, and none is killed.
//!
//! What is counted: the consumer's own queues (once and for all when it starts), batches under way, files
//! that are open or wait to be committed, and dead letters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use connector_api::{Error, Result};

const MIB: usize = 1 << 20;
/// What the process needs beside what is counted: code, threads, clients, the log of a table while it is
/// read, and a batch in all the forms that it has between its bytes and a file.
const OWN_BYTES: usize = 168 * MIB;
/// The least guaranteed share with which a connector gets on.
const SHARE_MIN: usize = 12 * MIB;
/// The worker's memory where nothing is said.
const DEFAULT: usize = 1024 * MIB;
/// No bound: for commands that look at a connector, and read little of it.
const SHARE_ALONE: usize = usize::MAX / 4;

/// The most that the consumer's queue of records holds.
const FETCH_QUEUE: std::ops::RangeInclusive<usize> = MIB..=32 * MIB;
/// Records wait in it, are collected from it, and come in answers that are not in it yet.
const FETCH_QUEUES: usize = 3;
/// The most that batches on their way to the files hold.
const IN_FLIGHT: std::ops::RangeInclusive<usize> = 2 * MIB..=64 * MIB;

/// One connector's part in the budget of its worker.
#[derive(Debug, Clone)]
pub struct MemoryShare {
    budget: Arc<Budget>,
    index: usize,
}

#[derive(Debug)]
struct Budget {
    /// What each connector may hold whatever the others do.
    guaranteed: usize,
    /// What all of them together may hold beyond that.
    common: usize,
    /// What each of them holds.
    held: Vec<AtomicUsize>,
}

/// Bytes that a connector holds, until this is dropped.
#[derive(Debug)]
pub struct Held {
    share: MemoryShare,
    bytes: usize,
}

/// Splits a worker's memory among its connectors. An error if that is too little for them.
pub fn split(memory_bytes: u64, connectors: usize) -> Result<Vec<MemoryShare>> {
    let least = OWN_BYTES + 2 * SHARE_MIN * connectors;
    let memory = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
    if memory < least {
        return Err(Error::user(format!(
            "`--memory` is {}, and {} at least are needed for {connectors} connector{}: {} for the worker and {} for each; give it `--memory {}` or more",
            mib(memory),
            mib(least),
            if connectors == 1 { "" } else { "s" },
            mib(OWN_BYTES),
            mib(2 * SHARE_MIN),
            mib(least).replace(' ', ""),
        )));
    }
    let half = (memory - OWN_BYTES) / 2;
    let budget = Arc::new(Budget {
        guaranteed: half / connectors.max(1),
        common: half,
        held: (0..connectors).map(|_| AtomicUsize::new(0)).collect(),
    });
    Ok((0..connectors).map(|index| MemoryShare { budget: budget.clone(), index }).collect())
}

/// What a worker may use where nothing is said: a part of what its container has, if it is in one.
pub fn default_bytes() -> u64 {
    // https://docs.kernel.org/admin-guide/cgroup-v2.html: "max", or a number of bytes.
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
    limit.map_or(DEFAULT as u64, |limit| (limit / 4 * 3).min(DEFAULT as u64))
}

impl MemoryShare {
    /// For one connector that nobody shares with, without a bound.
    pub fn alone() -> Self {
        let budget = Budget {
            guaranteed: SHARE_ALONE,
            common: SHARE_ALONE,
            held: vec![AtomicUsize::new(0)],
        };
        Self { budget: Arc::new(budget), index: 0 }
    }

    /// Counts bytes until the returned value is dropped. Never refuses: who asks has them already.
    pub fn hold(&self, bytes: usize) -> Held {
        self.counter().fetch_add(bytes, Ordering::Relaxed);
        Held { share: self.clone(), bytes }
    }

    /// True while this connector may take on more.
    pub fn has_room(&self) -> bool {
        self.held() < self.budget.guaranteed || self.budget.in_common() < self.budget.common
    }

    /// Bytes that this connector holds.
    pub fn held(&self) -> usize {
        self.counter().load(Ordering::Relaxed)
    }

    /// Bytes at which the consumer's queue of records is full.
    pub fn fetch_queue_bytes(&self) -> usize {
        (self.budget.guaranteed / 8).clamp(*FETCH_QUEUE.start(), *FETCH_QUEUE.end())
    }

    /// Bytes that a consumer holds by itself, whose queue is full at so many. An error if that is too
    /// much for this connector.
    pub fn fetch_bytes(&self, queue: usize) -> Result<usize> {
        let (bytes, most) = (queue.saturating_mul(FETCH_QUEUES), self.budget.guaranteed / 2);
        if bytes <= most {
            return Ok(bytes);
        }
        Err(Error::user(format!(
            "`queued.max.messages.kbytes` is {}, which takes {} of memory; this connector's share allows {} kbytes: set less, leave the key out, or give the worker more `--memory`",
            queue / 1024,
            mib(bytes),
            most / FETCH_QUEUES / 1024,
        )))
    }

    /// Bytes of batches under way at which no more records are taken.
    pub fn in_flight_bytes_max(&self) -> usize {
        (self.budget.guaranteed / 4).clamp(*IN_FLIGHT.start(), *IN_FLIGHT.end())
    }

    fn counter(&self) -> &AtomicUsize {
        &self.budget.held[self.index]
    }
}

impl Budget {
    /// What the connectors hold beyond what is guaranteed to them.
    fn in_common(&self) -> usize {
        let beyond =
            |held: &AtomicUsize| held.load(Ordering::Relaxed).saturating_sub(self.guaranteed);
        self.held.iter().map(beyond).sum()
    }
}

impl Held {
    /// Nothing yet, of the same share.
    pub fn none(of: &MemoryShare) -> Self {
        of.hold(0)
    }

    /// Counts as many bytes from now on.
    pub fn resize(&mut self, bytes: usize) {
        let counter = self.share.counter();
        match bytes.checked_sub(self.bytes) {
            Some(more) => counter.fetch_add(more, Ordering::Relaxed),
            None => counter.fetch_sub(self.bytes - bytes, Ordering::Relaxed),
        };
        self.bytes = bytes;
    }

    /// Bytes that are counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.counter().fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn mib(bytes: usize) -> String {
    format!("{} MiB", bytes / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 MiB for records of two connectors: 25 are guaranteed to each, 50 are for both.
    fn two() -> [MemoryShare; 2] {
        let shares = split((OWN_BYTES + 100 * MIB) as u64, 2).unwrap();
        shares.try_into().unwrap()
    }

    #[test]
    fn one_connector_may_use_what_the_others_leave() {
        let [a, _b] = two();
        let mut held = a.hold(74 * MIB);
        assert!(a.has_room());
        held.resize(75 * MIB);
        assert!(!a.has_room());
        held.resize(74 * MIB);
        assert!(a.has_room());
    }

    #[test]
    fn none_is_kept_from_its_share_by_another() {
        let [a, b] = two();
        let held = a.hold(200 * MIB);
        let _own = b.hold(24 * MIB);
        assert!(b.has_room());
        let _more = b.hold(MIB);
        assert!(!b.has_room());
        drop(held);
        assert_eq!(a.held(), 0);
        assert!(a.has_room() && b.has_room());
    }

    #[test]
    fn too_little_is_refused_with_what_is_needed() {
        let check = |mib: usize, connectors, expected: Option<&str>| {
            let refused = split((mib * MIB) as u64, connectors).err();
            assert_eq!(refused.map(|error| error.to_string()).as_deref(), expected);
        };
        check(192, 1, None);
        check(
            191,
            1,
            Some(
                "`--memory` is 191 MiB, and 192 MiB at least are needed for 1 connector: 168 MiB for the worker and 24 MiB for each; give it `--memory 192MiB` or more",
            ),
        );
        check(1024, 35, None);
    }

    #[test]
    fn what_is_always_held_fits_into_the_least_share() {
        let [share] = <[_; 1]>::try_from(split(192 * MIB as u64, 1).unwrap()).unwrap();
        // The other half is for files: those that collect, and those on their way.
        assert!(
            share.fetch_bytes(share.fetch_queue_bytes()).unwrap() + share.in_flight_bytes_max()
                <= SHARE_MIN * 2 / 3
        );
    }
}
