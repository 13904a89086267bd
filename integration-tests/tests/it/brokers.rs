//! Brokers that die, move and stand still: workers go on where they were, by themselves.

use std::fs;
use std::time::Duration;

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::cluster::Cluster;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::producer::{Feed, round_robin};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::{eventually, let_pass, now};
use integration_tests::worker::{Signal, Worker, run};

use crate::PATIENCE;

/// Our default.
const SESSION: Duration = Duration::from_secs(6);
const PARTITIONS: i32 = 6;

struct Load<'a> {
    case: &'a Case,
    connector: Connector,
    worker: Worker,
    feed: Feed,
}

impl<'a> Load<'a> {
    fn begin(case: &'a Case, cluster: &Cluster) -> Load<'a> {
        let topic = case.unique("topic");
        cluster.create_topic(&topic, PARTITIONS);
        let mut connector = Connector::new(&case.unique("brokers"), &topic, &case.local_table());
        connector.bootstrap.clone_from(&cluster.bootstrap);
        connector.columns = Some(FLIGHT_COLUMNS);
        connector.properties.clear();
        connector.commit_interval = "500ms";
        let worker = run(case, &connector.write(case)).start();
        let records = round_robin(PARTITIONS, flights_for_ever());
        let feed = Feed::start_at(&cluster.bootstrap, &topic, 500, records);
        let load = Load { case, connector, worker, feed };
        load.wait_for_commits(3);
        load
    }

    fn versions(&self) -> usize {
        let log = fs::read_dir(self.connector.location.folder().join("_delta_log"));
        let names = log.into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".json")).count()
    }

    fn wait_for_commits(&self, more: usize) {
        let before = self.versions();
        eventually(PATIENCE, "rows are committed", || {
            (self.versions() >= before + more).then_some(())
        });
    }

    /// How long it takes from now until rows are committed that were not there before.
    fn pause(&self) -> Duration {
        let (before, start) = (self.versions(), now());
        // The round that is on its way does not tell that reading goes on.
        eventually(PATIENCE, "reading goes on", || (self.versions() >= before + 2).then_some(()));
        start.elapsed()
    }

    /// Everything is there, by the worker that was there from the beginning.
    fn end(mut self) {
        self.worker.assert_running();
        let produced = self.feed.stop();
        eventually(PATIENCE, "all rows are visible", || {
            (reader::rows(&self.connector.location) == produced.records.len() as u64).then_some(())
        });
        self.worker.signal(Signal::Term);
        self.worker.wait(PATIENCE).assert_code(0);
        assert_equal(self.case, &[&produced], &self.connector.location, FLIGHT_COLUMNS);
    }
}

/// Each node leads some topic partitions, and one coordinates the group: all of them die once.
#[test]
fn a_cluster_that_loses_a_broker_under_load_goes_on() {
    let case = case!(alone);
    let mut cluster = Cluster::start(&case, 3);
    let load = Load::begin(&case, &cluster);
    for node in 1..=3 {
        cluster.kill(node);
        let pause = load.pause();
        eprintln!("node {node} died: rows came again after {pause:?}");
        let limit = SESSION + Duration::from_secs(10);
        assert!(pause < limit, "no rows for {pause:?} after node {node} died, at most {limit:?}");
        cluster.start_again(node);
        cluster.wait_for_all();
    }
    load.end();
}

#[test]
fn a_worker_outlives_all_of_its_brokers() {
    let case = case!(alone);
    let mut cluster = Cluster::start(&case, 1);
    let load = Load::begin(&case, &cluster);
    cluster.kill(1);
    // Longer than the session.
    let_pass(SESSION + Duration::from_secs(3));
    cluster.start_again(1);
    cluster.wait_for_all();
    load.wait_for_commits(3);

    // One that stands still keeps its connections, and answers nothing.
    cluster.freeze(1, true);
    let_pass(SESSION + Duration::from_secs(3));
    cluster.freeze(1, false);
    load.wait_for_commits(3);
    load.end();
}
