//! One run: what is produced, and what happens to workers, brokers and store meanwhile.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use connector_api::Fault;
use connector_api::config::{SettingError, SinkFactory, TableSettings};
use connector_api::sink::Sink;
use connector_runtime::config::{self, ConnectorPlan, Registry};
use connector_runtime::worker::{Ended, Outside, Running, supervise};
use connectors::decode::JsonFactory;
use connectors::store::Store;
use connectors::{delta, parquet};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::broker::{Broker, Entry};
use crate::foreign;
use crate::judge::{DEAD_LETTERS, Judge, TABLE};
use crate::member::Connection;
use crate::process::{Inside, Process};
use crate::store::{DEADLINE, SimulatedStore};
use crate::time::VirtualClock;
use crate::{Outcome, World};

/// How long everything may take to come into the table once nothing is in its way.
const SETTLING: Duration = Duration::from_secs(15 * 60);
/// How long draining may take.
const DRAINING: Duration = Duration::from_secs(2 * 60);

/// The table's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Delta,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Delta => "delta",
        }
    }
}

thread_local! {
    /// What the last panic on this thread said: the engine itself goes on after one.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.set(Some(panic.to_string()));
            others(panic);
        }));
    });
}

/// Runs one simulation to its end.
pub(crate) fn run(seed: u64, format: Format) -> Outcome {
    note_panics();
    in_virtual_time(async {
        let world = World::new(seed);
        let records = Scenario::new(&world, format).play().await;
        if let Some(said) = PANICKED.take() {
            world.violate(said);
        }
        let shared = world.lock();
        Outcome { trace: shared.trace.clone(), records, violation: shared.violation.clone() }
    })
}

/// Runs on one thread, and lets time jump to the next thing that happens.
pub(crate) fn in_virtual_time<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(run)
}

#[derive(Debug)]
struct Sinks(SimulatedStore, Format);

impl SinkFactory for Sinks {
    fn format(&self) -> &'static str {
        self.1.name()
    }

    fn sink(&self, settings: &TableSettings) -> Result<Arc<dyn Sink>, Vec<SettingError>> {
        let url = format!("memory:///{}/", settings.location).parse().unwrap();
        let store = Store { objects: Arc::new(self.0.clone()), url, deadline: DEADLINE };
        Ok(match self.1 {
            Format::Parquet => parquet::sink_on(store, settings.clone()),
            Format::Delta => delta::sink_on(store, settings.clone()),
        })
    }
}

struct Worker {
    number: u64,
    inside: Inside,
    drain: watch::Sender<bool>,
    process: JoinHandle<Ended>,
    thaw_at: Option<Instant>,
}

pub(crate) struct Scenario {
    world: World,
    broker: Broker,
    pub(crate) store: SimulatedStore,
    pub(crate) judge: Judge,
    plan: ConnectorPlan,
    format: Format,
    workers: Vec<Worker>,
    /// When the next worker is started in place of one that died.
    starts: Vec<Instant>,
    pub(crate) started: u64,
    runs: Arc<AtomicU64>,
    clock: Arc<VirtualClock>,
    next_id: i64,
}

impl Scenario {
    fn new(world: &World, format: Format) -> Self {
        let partitions = world.between(1, 7) as usize;
        let broker = Broker::new(partitions, world.chance(250));
        let interval = Duration::from_secs(world.between(1, 6));
        Self::on(world, broker, format, interval)
    }

    /// With nobody at work yet.
    pub(crate) fn on(world: &World, broker: Broker, format: Format, interval: Duration) -> Self {
        let judge = Judge::new(world, &broker, format == Format::Delta);
        let store = SimulatedStore::new(world, &judge);
        let plan = plan(world, &store, format, interval);
        Self {
            world: world.clone(),
            broker,
            store,
            judge,
            plan,
            format,
            workers: Vec::new(),
            starts: Vec::new(),
            started: 0,
            runs: Arc::default(),
            clock: Arc::new(VirtualClock::start()),
            next_id: 0,
        }
    }

    async fn play(mut self) -> usize {
        let steps = self.world.between(10, 40);
        for _ in 0..self.world.between(1, 4) {
            self.start();
        }
        for _ in 0..steps {
            self.pass(Duration::from_millis(self.world.between(50, 8000))).await;
            self.act().await;
            if self.world.is_violated() {
                return 0;
            }
        }
        self.finish().await
    }

    /// Lets time pass, in which what is due happens.
    pub(crate) async fn pass(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end && !self.world.is_violated() {
            let turn = Duration::from_millis(500).min(end - Instant::now());
            sleep(turn).await;
            let now = Instant::now();
            for worker in &mut self.workers {
                if worker.thaw_at.is_some_and(|at| at <= now) {
                    worker.thaw_at = None;
                    self.world.note(format_args!("worker {} goes on", worker.number));
                    worker.inside.freeze(false);
                }
            }
            let due = self.starts.iter().filter(|at| **at <= now).count();
            self.starts.retain(|at| *at > now);
            (0..due).for_each(|_| self.start());
            self.bury().await;
        }
    }

    async fn act(&mut self) {
        let world = self.world.clone();
        let worker = world.between(0, self.workers.len().max(1) as u64) as usize;
        match world.between(0, 100) {
            0..50 => self.produce(),
            50..64 if worker < self.workers.len() => self.kill(worker).await,
            64..76 if worker < self.workers.len() => {
                let span = world.between(100, 40_000);
                if span.is_multiple_of(5) {
                    // Up to eleven hours on or back, and sometimes right again.
                    let hours = i64::try_from(span / 5 % 23).unwrap() - 11;
                    world.note(format_args!("the wall clock is {hours} h off"));
                    self.clock.set_off(hours * 3_600_000);
                }
                let span = Duration::from_millis(span);
                let worker = &mut self.workers[worker];
                world.note(format_args!("worker {} is frozen for {span:?}", worker.number));
                worker.thaw_at = Some(Instant::now() + span);
                worker.inside.freeze(true);
            }
            76..82 if worker < self.workers.len() => {
                let worker = &self.workers[worker];
                world.note(format_args!("worker {} is to drain", worker.number));
                worker.drain.send_replace(true);
            }
            82..86 if self.workers.len() < 4 => self.start(),
            86..90 => {
                let span = world.between(100, 60_000);
                // Now and then for ten minutes.
                let span =
                    Duration::from_millis(if span.is_multiple_of(20) { span * 10 } else { span });
                world.note(format_args!("the store is away for {span:?}"));
                self.store.go_away(span);
            }
            90..94 => {
                let span = Duration::from_millis(world.between(100, 30_000));
                world.note(format_args!("the brokers are away for {span:?}"));
                self.broker.go_away(span);
            }
            94..97 if self.format == Format::Delta => {
                foreign::optimize(&self.world, &self.store, &self.judge).await;
            }
            97..100 if self.format == Format::Delta => {
                foreign::append(&self.world, &self.store, &self.judge).await;
            }
            94..96 if self.broker.partitions() < 8 => {
                world.note("a partition is added");
                self.broker.add_partition();
            }
            _ => self.produce(),
        }
    }

    /// Appends records to a topic partition: plain ones, or a transaction that is committed, aborted
    /// or left open for a while.
    fn produce(&mut self) {
        let world = self.world.clone();
        let partition = world.between(0, self.broker.partitions() as u64) as usize;
        let count = world.between(1, 60);
        let aborted = world.chance(100);
        let entries: Vec<Entry> = (0..count)
            .map(|_| match world.between(0, 100) {
                _ if aborted => Entry::Hidden,
                0..4 => Entry::Bad,
                4..8 => Entry::Tombstone,
                8..10 => Entry::Hidden,
                _ => {
                    self.next_id += 1;
                    Entry::Row(self.next_id)
                }
            })
            .collect();
        world.note(format_args!("{count} records in partition {partition}"));
        self.broker.append(partition, entries);
        if aborted || world.chance(300) {
            self.broker.append(partition, [Entry::Hidden]);
        }
        if !world.chance(100) {
            self.broker.settle(partition);
        }
    }

    pub(crate) fn start(&mut self) {
        self.started += 1;
        let (drain, drained) = watch::channel(false);
        let inside = Inside::default();
        let connection = Connection {
            world: self.world.clone(),
            broker: self.broker.clone(),
            inside: inside.clone(),
            worker: self.started,
            fences: self.judge.fences.clone(),
        };
        let (runs, worker, fences) = (self.runs.clone(), self.started, self.judge.fences.clone());
        let outside = Outside {
            cluster: Arc::new(connection),
            clock: self.clock.clone(),
            new_run: Arc::new(move || {
                let run = format!("{:012}", runs.fetch_add(1, Ordering::Relaxed));
                fences.begun(worker, &run);
                run
            }),
        };
        let running = Running::new(self.plan.clone(), &outside, &drained, false);
        self.world.note(format_args!("worker {} starts", self.started));
        let process = tokio::spawn(Process::new(inside.clone(), supervise(running)));
        self.workers.push(Worker { number: self.started, inside, drain, process, thaw_at: None });
    }

    async fn kill(&mut self, index: usize) {
        let worker = self.workers.remove(index);
        self.world.note(format_args!("worker {} is killed", worker.number));
        worker.process.abort();
        // Dropped before anything else happens.
        drop(worker.process.await);
        self.start_later();
    }

    fn start_later(&mut self) {
        let pause = Duration::from_millis(self.world.between(100, 20_000));
        self.starts.push(Instant::now() + pause);
    }

    /// Looks at workers that ended by themselves. Somebody starts others in their place.
    async fn bury(&mut self) {
        let mut index = 0;
        while index < self.workers.len() {
            if !self.workers[index].process.is_finished() {
                index += 1;
                continue;
            }
            let worker = self.workers.remove(index);
            match worker.process.await {
                Ok(ended) => self.ended(worker.number, &ended),
                Err(panic) => self.world.violate(format_args!("worker {}: {panic}", worker.number)),
            }
            self.start_later();
        }
    }

    /// A store or a broker that is away may end a worker; nothing else may.
    fn ended(&self, number: u64, ended: &Ended) {
        match &ended.error {
            None => self.world.note(format_args!("worker {number} ended")),
            Some(error) => {
                self.world.note(format_args!("worker {number} ended: {error:?}"));
                if error.needs_decision() || error.fault() != Fault::External {
                    self.world.violate(format_args!("worker {number} gave up: {error}"));
                }
            }
        }
    }

    /// Ends all faults and waits until everything is in the table.
    pub(crate) async fn finish(&mut self) -> usize {
        self.world.note("calm");
        self.world.calm();
        (0..self.broker.partitions()).for_each(|partition| self.broker.settle(partition));
        for worker in &mut self.workers {
            worker.thaw_at = Some(Instant::now());
        }
        if self.workers.is_empty() && self.starts.is_empty() {
            self.start();
        }
        let give_up = Instant::now() + SETTLING;
        while !self.judge.is_complete() {
            if Instant::now() > give_up {
                self.world.violate(format_args!("stuck: not in the table after {SETTLING:?}"));
                self.judge.compare();
            }
            if self.world.is_violated() {
                return 0;
            }
            self.pass(Duration::from_secs(1)).await;
        }
        self.starts.clear();
        for mut worker in std::mem::take(&mut self.workers) {
            worker.inside.freeze(false);
            worker.drain.send_replace(true);
            match timeout(DRAINING, &mut worker.process).await {
                Ok(Ok(ended)) => self.ended(worker.number, &ended),
                Ok(Err(panic)) => {
                    self.world.violate(format_args!("worker {}: {panic}", worker.number));
                }
                Err(_) => self.world.violate(format_args!("worker {} hangs", worker.number)),
            }
        }
        self.judge.compare()
    }
}

/// The connector, with intervals by chance.
fn plan(
    world: &World,
    store: &SimulatedStore,
    format: Format,
    interval: Duration,
) -> ConnectorPlan {
    let interval = interval.as_secs();
    let text = format!(
        "version: 1\n\
         name: orders\n\
         source:\n  kafka:\n    bootstrap_servers: simulated:9092\n    topics: [orders]\n\
         schema:\n  columns:\n    - {{name: id, type: long}}\n\
         table:\n  {}:\n    location: {TABLE}\n\
         on_bad_record: dead_letter\n\
         dead_letters:\n  location: {DEAD_LETTERS}\n\
         write:\n  commit_interval: {interval}s\n  idle_commit_interval: {}s\n  revoke_timeout: {}s\n",
        format.name(),
        interval * 3,
        world.between(1, 10),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.yaml");
    std::fs::write(&file, text).unwrap();
    let registry = Registry {
        sinks: vec![Arc::new(Sinks(store.clone(), format))],
        decoders: vec![Arc::new(JsonFactory)],
    };
    let plans = config::load(&[file], &registry).unwrap_or_else(|errors| panic!("{errors}"));
    plans.into_iter().next().unwrap()
}
