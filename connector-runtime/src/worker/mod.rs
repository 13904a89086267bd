//! 2 · The worker: all connectors of this process, from start to drain.
//!
//! Each connector is supervised on its own; one that fails leaves the others alone. The worker ends
//! when all have ended: drained by a signal, at the end of `--until-end`, or failed.

mod connector;
mod signals;
mod supervisor;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use connector_api::Error;
use connector_api::clock::{Clock, SystemClock};
use connector_api::ids::{ConnectorName, TopicPartition};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::config::ConnectorPlan;
use crate::observe::progress::{Counts, Progress};
use crate::observe::terminal::ProgressLine;
use crate::pipeline::in_place::InPlace;

/// How a worker runs its connectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunOptions {
    /// Stop when everything is read that was there at the start.
    pub until_end: bool,
    /// Show progress on the terminal.
    pub show_progress: bool,
}

/// How one connector ended.
#[derive(Debug)]
pub struct Ended {
    /// Which one.
    pub connector: ConnectorName,
    /// What it did.
    pub counts: Counts,
    /// What became of records that could not become rows, if there were any.
    pub rejected: Option<String>,
    /// Why it stopped, if it was not asked to.
    pub error: Option<Error>,
}

/// What a connector of this worker is given.
#[derive(Debug, Clone)]
struct Running {
    plan: Arc<ConnectorPlan>,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    drain: watch::Receiver<bool>,
    until_end: bool,
    /// The topic partitions that there were when the worker started: others are new, also to a later start.
    known_at_start: Arc<OnceLock<BTreeSet<TopicPartition>>>,
    /// Dead letters that the anchor does not know of yet, also to a later start.
    in_place: Arc<InPlace>,
}

/// Runs connectors until they are drained, done or failed. The first signal drains, the second
/// aborts the process at once, which loses nothing either.
pub async fn run(plans: Vec<ConnectorPlan>, options: RunOptions) -> Vec<Ended> {
    let (drain, drained) = watch::channel(false);
    let signals = tokio::spawn(signals::watch(drain));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let mut shown = Vec::new();
    let mut connectors = JoinSet::new();
    let mut names = HashMap::new();
    for plan in plans {
        let progress = Arc::new(Progress::default());
        shown.push((plan.name.clone(), progress.clone()));
        let running = Running {
            plan: Arc::new(plan),
            clock: clock.clone(),
            progress,
            drain: drained.clone(),
            until_end: options.until_end,
            known_at_start: Arc::default(),
            in_place: Arc::default(),
        };
        let name = running.plan.name.clone();
        names.insert(connectors.spawn(supervisor::supervise(running)).id(), name);
    }
    let line = options.show_progress.then(|| ProgressLine::show(shown, clock));
    let mut ended = Vec::new();
    while let Some(connector) = connectors.join_next().await {
        match connector {
            Ok(one) => ended.push(one),
            Err(panic) => ended.extend(names.remove(&panic.id()).map(|name| panicked(name, panic))),
        }
    }
    signals.abort();
    if let Some(line) = line {
        line.clear().await;
    }
    ended
}

/// A connector whose task panicked: a bug, and no reason to harm the others.
fn panicked(connector: ConnectorName, panic: JoinError) -> Ended {
    let error =
        Error::internal(format!("connector `{connector}` ended by a panic, which is a bug"));
    Ended {
        connector,
        counts: Counts::default(),
        rejected: None,
        error: Some(error.with_source(panic)),
    }
}
