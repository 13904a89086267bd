//! 2 · The worker: all connectors of this process, from start to drain.
//!
//! Each connector is supervised on its own; one that fails leaves the others alone. The worker ends
//! when all have ended: drained by a signal, at the end of `--until-end`, or failed.

mod connector;
mod signals;
mod supervisor;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use connector_api::clock::{Clock, SystemClock};
use connector_api::ids::{ConnectorName, TopicPartition};
use connector_api::{Error, Result};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::config::ConnectorPlan;
use crate::cores::Cores;
use crate::memory::{self, MemoryShare};
use crate::observe::progress::{Counts, Progress};
use crate::observe::terminal::ProgressLine;
use crate::pipeline::in_place::InPlace;
use crate::source::{Cluster, Kafka};

pub use supervisor::supervise;

/// How a worker runs its connectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunOptions {
    /// Stop when everything is read that was there at the start.
    pub until_end: bool,
    /// Show progress on the terminal.
    pub show_progress: bool,
    /// What the process may use.
    pub memory_bytes: u64,
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

/// What a worker meets outside of itself, beside its tables: brokers, time and chance.
#[derive(Clone)]
pub struct Outside {
    /// The brokers.
    pub cluster: Arc<dyn Cluster>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Makes a name for each start of a connector: twelve letters and digits, unique among all workers.
    pub new_run: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outside({:?}, {:?})", self.cluster, self.clock)
    }
}

impl Outside {
    /// Kafka's brokers, the machine's clock, random names.
    pub fn real() -> Self {
        let new_run = || uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        Self {
            cluster: Arc::new(Kafka),
            clock: Arc::new(SystemClock::start()),
            new_run: Arc::new(new_run),
        }
    }
}

/// One connector of a worker, as it is given to its supervisor.
#[derive(Debug, Clone)]
pub struct Running {
    /// What it is to do.
    pub plan: Arc<ConnectorPlan>,
    /// Where.
    pub outside: Outside,
    /// Counters to keep.
    pub progress: Arc<Progress>,
    /// Becomes true when it is to drain.
    pub drain: watch::Receiver<bool>,
    /// Stop when everything is read that was there at the start.
    pub until_end: bool,
    /// It is the only connector of its worker.
    pub alone: bool,
    /// What it may hold.
    pub memory: MemoryShare,
    /// What it decodes and encodes on.
    pub cores: Cores,
    /// The topic partitions that there were when the worker started: others are new, also to a later start.
    known_at_start: Arc<OnceLock<BTreeSet<TopicPartition>>>,
    /// Dead letters that the anchor does not know of yet, also to a later start.
    in_place: Arc<InPlace>,
}

impl Running {
    /// A connector that has not been started yet.
    pub fn new(
        plan: ConnectorPlan,
        outside: &Outside,
        drain: &watch::Receiver<bool>,
        until_end: bool,
    ) -> Self {
        Self {
            plan: Arc::new(plan),
            outside: outside.clone(),
            progress: Arc::default(),
            drain: drain.clone(),
            until_end,
            alone: true,
            memory: MemoryShare::alone(),
            cores: Cores::all(),
            known_at_start: Arc::default(),
            in_place: Arc::default(),
        }
    }
}

/// Runs connectors until they are drained, done or failed. The first signal drains, the second
/// aborts the process at once, which loses nothing either. An error if there is too little memory for them.
pub async fn run(plans: Vec<ConnectorPlan>, options: RunOptions) -> Result<Vec<Ended>> {
    let shares = memory::split(options.memory_bytes, plans.len())?;
    let (drain, drained) = watch::channel(false);
    let signals = tokio::spawn(signals::watch(drain));
    let outside = Outside::real();
    let mut shown = Vec::new();
    let mut connectors = JoinSet::new();
    let mut names = HashMap::new();
    let (alone, cores) = (plans.len() == 1, Cores::all());
    for (plan, memory) in plans.into_iter().zip(shares) {
        let running = Running::new(plan, &outside, &drained, options.until_end);
        let running = Running { alone, memory, cores: cores.clone(), ..running };
        let name = running.plan.name.clone();
        shown.push((name.clone(), running.progress.clone()));
        names.insert(connectors.spawn(supervise(running)).id(), name);
    }
    let line = options.show_progress.then(|| ProgressLine::show(shown, outside.clock));
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
    Ok(ended)
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
