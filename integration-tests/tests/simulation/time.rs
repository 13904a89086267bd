//! The time of a simulation: tokio's, which stands still while something can be done.

use std::sync::atomic::{AtomicI64, Ordering};

use connector_api::clock::{Clock, Moment};
use tokio::time::Instant;

/// When simulations take place: 2026-01-01 UTC, in milliseconds since 1970.
pub(crate) const EPOCH_MS: i64 = 1_767_225_600_000;

#[derive(Debug)]
pub(crate) struct VirtualClock {
    start: Instant,
    /// How far the wall clock is off, in milliseconds.
    off: AtomicI64,
}

impl VirtualClock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), off: AtomicI64::new(0) }
    }

    /// The wall clock is set: what it shows may come again, or never.
    pub(crate) fn set_off(&self, milliseconds: i64) {
        self.off.store(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Moment {
        Moment(self.start.elapsed())
    }

    fn wall_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        EPOCH_MS + elapsed + self.off.load(Ordering::Relaxed)
    }
}
