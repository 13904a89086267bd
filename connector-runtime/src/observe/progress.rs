//! Counters of one connector, shared by its pipeline and whoever shows them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use connector_api::staged::Accounting;

/// How far a connector has come since it was started.
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    bytes: AtomicU64,
    visible: AtomicU64,
    rejected_total: AtomicU64,
    tombstones: AtomicU64,
    commits: AtomicU64,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
    /// Offsets that `--until-end` has to cover, 0 without it.
    pub to_cover: AtomicU64,
    /// Offsets covered of those.
    pub covered: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read from Kafka and decoded.
    pub read: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Rows that are visible in the table.
    pub visible: u64,
    /// Rejected records up to the last commit: dead letters, or left out (`on_bad_record: drop`).
    pub rejected: u64,
    /// Records without a value up to the last commit.
    pub tombstones: u64,
    /// Commits made.
    pub commits: u64,
}

impl Progress {
    /// Counts records that were read.
    pub fn read(&self, records: u64, bytes: u64) {
        self.read.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many records could not become rows up to the last commit, by the code of the cause.
    pub fn rejected_by_cause(&self) -> BTreeMap<&'static str, u64> {
        self.causes().clone()
    }

    fn causes(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a round that is in the table.
    pub fn settled(
        &self,
        account: &Accounting,
        offsets: u64,
        rejected: &BTreeMap<&'static str, u64>,
    ) {
        let mut causes = self.causes();
        rejected.iter().for_each(|(cause, count)| *causes.entry(cause).or_default() += count);
        drop(causes);
        self.visible.fetch_add(account.written, Ordering::Relaxed);
        self.rejected_total.fetch_add(account.rejected, Ordering::Relaxed);
        self.tombstones.fetch_add(account.tombstones, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.covered.fetch_add(offsets, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn counts(&self) -> Counts {
        Counts {
            read: self.read.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            visible: self.visible.load(Ordering::Relaxed),
            rejected: self.rejected_total.load(Ordering::Relaxed),
            tombstones: self.tombstones.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
        }
    }
}
