//! What each worker has handed back: none of its commits may name it any more (FN-1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fences(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The worker of each run: commits are told by their runs.
    runs: BTreeMap<String, u64>,
    /// Worker and topic partition.
    handed_back: BTreeSet<(u64, i32)>,
}

impl Fences {
    /// A worker begins a run.
    pub(crate) fn begun(&self, worker: u64, run: &str) {
        self.0.lock().unwrap().runs.insert(run.to_owned(), worker);
    }

    /// A worker is given topic partitions.
    pub(crate) fn given(&self, worker: u64, partitions: impl Iterator<Item = i32>) {
        let given: BTreeSet<i32> = partitions.collect();
        let is_given = |at: &(u64, i32)| at.0 == worker && given.contains(&at.1);
        self.0.lock().unwrap().handed_back.retain(|at| !is_given(at));
    }

    /// A worker has acknowledged that it hands them back. One that has lost them acknowledges at once, and does not
    /// wait for a commit that runs, whose requests may still be sent.
    pub(crate) fn handed_back(&self, worker: u64, partitions: impl Iterator<Item = i32>) {
        let back = partitions.map(|partition| (worker, partition));
        self.0.lock().unwrap().handed_back.extend(back);
    }

    /// The worker of the commit with this token (`RUN-NUMBER`, and `-dead-letters` behind), if it has handed the
    /// topic partition back.
    pub(crate) fn who_handed_back(&self, token: &str, partition: i32) -> Option<u64> {
        let state = self.0.lock().unwrap();
        let worker = state.runs.get(token.split('-').next()?);
        let worker = *worker.unwrap_or_else(|| panic!("no worker has begun the run of {token}"));
        state.handed_back.contains(&(worker, partition)).then_some(worker)
    }
}
