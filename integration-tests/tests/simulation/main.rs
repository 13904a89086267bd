//! A seeded simulation of whole workers: one thread, no network, virtual time.
//!
//! Everything that decides is real: supervisor, pipeline, decoder, files, and both sinks. Around it
//! stand a [broker](broker) with a group and transactions, [members](member) in librdkafka's place, and
//! an [object store](store) that delays, loses and applies late. Workers are [processes](process) that
//! die and freeze at any await point, [others](foreign) rewrite and append to a Delta table. A [judge]
//! looks at every commit that is sent, beside what its worker has [handed back](fences), at every change of the
//! store, and at the end compares the table with the log.
//!
//! The Delta kernel blocks, so its calls take no virtual time and nothing happens meanwhile; what comes
//! between two of them, and the faults within, are simulated.
//!
//! A seed fixes every step. [`run`] returns the steps as a trace, whose first line is the seed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a simulation fails"
)]

mod broker;
mod fences;
mod foreign;
mod judge;
mod member;
mod outage;
mod process;
mod scale;
mod scenario;
mod seeds;
mod store;
mod time;

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use self::scenario::{Format, run};

use integration_tests::random::Random;

/// What a seed came to.
#[derive(Debug, Clone)]
struct Outcome {
    /// What was done, and when. The first line is the seed.
    trace: Vec<String>,
    /// Records that were in the log at the end.
    records: usize,
    /// What was violated, if something was.
    violation: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        match &self.violation {
            Some(violation) => write!(f, "VIOLATION: {violation}"),
            None => write!(f, "exact: {} records", self.records),
        }
    }
}

/// What all parts of one simulation share: chance, the trace, and what went wrong.
#[derive(Debug, Clone)]
struct World(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    random: Random,
    started: Instant,
    trace: Vec<String>,
    violation: Option<String>,
    calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        // Small seeds differ in few bits; the generator's first numbers would too.
        let random = Random::new(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shared = Shared {
            random,
            started: Instant::now(),
            trace: vec![format!("seed {seed}")],
            violation: None,
            calm: false,
        };
        Self(Arc::new(Mutex::new(shared)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.0.lock().unwrap()
    }

    /// A number from `low` to below `high`.
    fn between(&self, low: u64, high: u64) -> u64 {
        self.lock().random.between(low, high)
    }

    /// True in so many of a thousand cases.
    fn chance(&self, per_mille: u64) -> bool {
        self.between(0, 1000) < per_mille
    }

    /// A fault that is up to chance. None happens once it is [calm](Self::calm).
    fn fault(&self, per_mille: u64) -> bool {
        !self.lock().calm && self.chance(per_mille)
    }

    /// Ends all faults, so that what is left can be brought to its end.
    fn calm(&self) {
        self.lock().calm = true;
    }

    fn note(&self, line: impl fmt::Display) {
        let mut shared = self.lock();
        let at = shared.started.elapsed().as_millis();
        shared.trace.push(format!("{:>4}.{:03} {line}", at / 1000, at % 1000));
    }

    /// Keeps the first violation.
    fn violate(&self, violation: impl fmt::Display) {
        self.note(format_args!("violated: {violation}"));
        self.lock().violation.get_or_insert_with(|| violation.to_string());
    }

    fn is_violated(&self) -> bool {
        self.lock().violation.is_some()
    }
}
