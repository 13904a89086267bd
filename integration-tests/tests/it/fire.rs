//! Three workers under fire: killed, frozen past their session, with answers of the store lost, the network to it
//! cut and silent, and brokers that die, again and again while records arrive. What is judged is what a
//! reader of the table finds: each good record once, and each bad one once among the dead letters.
//!
//! `integration-tests/fire.sh --rounds N --seed S` runs as many rounds as one likes, and repeats a run's decisions.
//!
//! SCENARIOS: 1, 2 (workers start together, and join while records arrive), 15, 16 (a crash at each step, many topic
//! partitions), 20, 21 (a blocked store, an ambiguous commit), 22 (a worker that wakes up too late).

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::cluster::Cluster;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::location::Location;
use integration_tests::producer::{Feed, Produced, round_robin};
use integration_tests::proxy::{Fault, Proxy};
use integration_tests::random::Random;
use integration_tests::reader;
use integration_tests::verifier::{assert_equal, assert_exactly_once};
use integration_tests::wait::{let_pass, unix_ms};
use integration_tests::worker::{Signal, Worker, run, run_until_end};

use crate::PATIENCE;

const WORKERS: u64 = 3;
const PARTITIONS: i32 = 12;
/// One record in so many is none that could become a row.
const BAD: usize = 40;

/// One answer of a ledger in ten is lost, and now and then a worker dies at a step of a commit.
const FAULTS: &str = "ledger_answer_lost=10%return;w4_decided_not_published=3%return;w5_published_not_noted=3%return;\
    w3_file_complete_unreferenced=2%return;w4_commit_sent_no_answer=2%return;w5_committed_not_settled=2%return;\
    dead_letters_without_anchor=3%return";

#[test]
fn a_folder_on_disk_is_exact_after_fifty_rounds() {
    let case = case!();
    let location = case.local_table();
    Fire::new(&case, "parquet", &location).burn(50);
}

#[test]
fn a_bucket_is_exact_after_fifty_rounds() {
    let case = case!();
    let location = case.s3_table();
    Fire::new(&case, "parquet", &location).through_a_proxy().burn(50);
}

#[test]
fn a_bucket_is_exact_when_brokers_die_too() {
    let case = case!();
    let location = case.s3_table();
    Fire::new(&case, "parquet", &location).through_a_proxy().with_brokers_of_its_own().burn(10);
}

#[test]
fn a_delta_table_is_exact_when_brokers_die_too() {
    let case = case!();
    let location = case.s3_table();
    Fire::new(&case, "delta", &location).through_a_proxy().with_brokers_of_its_own().burn(10);
}

struct Fire<'a> {
    case: &'a Case,
    /// Where the reader looks.
    location: Location,
    connector: Connector,
    topic: Option<String>,
    proxy: Option<Proxy>,
    cluster: Option<Cluster>,
    done: Done,
}

/// How often each thing happened.
#[derive(Debug, Default)]
struct Done {
    kills: u32,
    freezes: u32,
    deaths: u32,
    store_faults: u32,
    broker_deaths: u32,
    broker_freezes: u32,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

impl<'a> Fire<'a> {
    fn new(case: &'a Case, format: &'static str, location: &Location) -> Fire<'a> {
        let mut connector = Connector::new(&case.unique("fire"), "", location);
        connector.format = format;
        connector.columns = Some(FLIGHT_COLUMNS);
        connector.commit_interval = "300ms";
        connector.top.push("on_bad_record: dead_letter".into());
        Fire {
            case,
            location: location.clone(),
            connector,
            topic: None,
            proxy: None,
            cluster: None,
            done: Done::default(),
        }
    }

    fn through_a_proxy(mut self) -> Fire<'a> {
        let Location::S3 { endpoint, .. } = &mut self.connector.location else {
            panic!("only a bucket is reached through a network")
        };
        let proxy = Proxy::start(endpoint);
        endpoint.clone_from(&proxy.endpoint);
        self.proxy = Some(proxy);
        self
    }

    fn with_brokers_of_its_own(mut self) -> Fire<'a> {
        let cluster = Cluster::start(self.case, 1);
        self.connector.bootstrap.clone_from(&cluster.bootstrap);
        let topic = self.case.unique("topic");
        cluster.create_topic(&topic, PARTITIONS);
        (self.topic, self.cluster) = (Some(topic), Some(cluster));
        self
    }

    fn burn(mut self, rounds: u64) {
        let seed = number("ALLUVIUM_IT_SEED").unwrap_or_else(|| unix_ms().unsigned_abs());
        eprintln!("ALLUVIUM_IT_SEED={seed}");
        let rounds = number("ALLUVIUM_FIRE_ROUNDS").unwrap_or(rounds);
        let mut random = Random::new(seed);
        let topic = self.topic.take().unwrap_or_else(|| self.case.topic(PARTITIONS));
        self.connector.topics = format!("topics: [{topic}]");
        let file = self.connector.write(self.case);
        let records = flights_for_ever().enumerate().map(|(index, value)| match index % BAD {
            0 => format!("no JSON: {index}"),
            _ => value,
        });
        let records = round_robin(PARTITIONS, records);
        let feed = Feed::start_at(&self.connector.bootstrap, &topic, 500, records);

        let mut workers: Vec<Worker> = (0..WORKERS).map(|_| self.start(&file)).collect();
        for _ in 0..rounds {
            let_pass(Duration::from_millis(random.between(300, 2_500)));
            self.round(&mut random, &mut workers, &file);
        }
        let seen = reader::rows(&self.location);
        let produced = feed.stop();
        workers.into_iter().for_each(end);
        eprintln!("{:?}, {seen} rows before the end", self.done);
        assert!(seen > 0, "nothing was committed under fire");

        run_until_end(self.case, &file).start().wait(PATIENCE).assert_code(0);
        let (good, bad) = divided(produced);
        assert_equal(self.case, &[&good], &self.location, FLIGHT_COLUMNS);
        assert_exactly_once(&[&bad], &self.location.beside("_dead_letters"));
        eprintln!("{} rows and {} dead letters, exact", good.records.len(), bad.records.len());
    }

    fn start(&self, file: &Path) -> Worker {
        run(self.case, file).env("FAILPOINTS", FAULTS).start()
    }

    fn round(&mut self, random: &mut Random, workers: &mut [Worker], file: &Path) {
        let mut span = |low: u64, high: u64| Duration::from_millis(random.between(low, high));
        let (network, broker) = (span(200, 3_000), span(500, 4_000));
        let victim = &mut workers[random.between(0, WORKERS) as usize];
        if victim.has_ended() {
            self.done.deaths += 1;
            end(std::mem::replace(victim, self.start(file)));
        }
        match random.between(0, 10) {
            0..4 => {
                self.done.kills += 1;
                let next = self.start(file);
                end(std::mem::replace(victim, next));
            }
            4..6 => {
                // Up to well past the session, so that another takes over.
                self.done.freezes += 1;
                victim.signal(Signal::Stop);
                let_pass(Duration::from_millis(random.between(500, 4_000)));
                victim.signal(Signal::Continue);
            }
            6..8 => {
                let Some(proxy) = &self.proxy else { return };
                self.done.store_faults += 1;
                proxy.set(match random.between(0, 4) {
                    0 => Fault::Delay(Duration::from_millis(200)),
                    1 => Fault::Cut,
                    2 => Fault::HalfOpen,
                    _ => Fault::DropAnswers,
                });
                let_pass(network);
                proxy.set(Fault::None);
            }
            8 => {
                let Some(cluster) = &mut self.cluster else { return };
                self.done.broker_deaths += 1;
                cluster.kill(1);
                let_pass(broker);
                cluster.start_again(1);
            }
            _ => {
                let Some(cluster) = &self.cluster else { return };
                self.done.broker_freezes += 1;
                cluster.freeze(1, true);
                let_pass(broker);
                cluster.freeze(1, false);
            }
        }
    }
}

/// Kills it, if it has not ended: at a fail point, or by a store or a broker that was away when it started.
fn end(mut worker: Worker) {
    if !worker.has_ended() {
        worker.signal(Signal::Kill);
    }
    let ended = worker.wait(PATIENCE);
    let expected =
        ended.status.signal() == Some(9) || ended.aborted() || ended.status.code() == Some(1);
    assert!(
        expected && !ended.stderr.contains(" bug") && !ended.stderr.contains("invariant"),
        "it ended with {}:\n{}",
        ended.status,
        ended.stderr
    );
}

/// Those that must be rows, and those that must be dead letters.
fn divided(produced: Produced) -> (Produced, Produced) {
    let (mut good, mut bad) = (Produced::none(&produced.topic), Produced::none(&produced.topic));
    for (place, record) in produced.records {
        let to = if record.value.starts_with('{') { &mut good } else { &mut bad };
        to.records.insert(place, record);
    }
    (good, bad)
}
