//! The time of a simulation: tokio's, which stands still while something can be done.

use connector_api::clock::{Clock, Moment};
use tokio::time::Instant;

/// When simulations take place: 2026-01-01 UTC, in milliseconds since 1970.
pub(crate) const EPOCH_MS: i64 = 1_767_225_600_000;

#[derive(Debug)]
pub(crate) struct VirtualClock(Instant);

impl VirtualClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Moment {
        Moment(self.0.elapsed())
    }

    fn wall_ms(&self) -> i64 {
        EPOCH_MS + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}
