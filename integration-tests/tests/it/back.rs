//! How soon rows come again after `kill -9` and a start: the dead member still holds its topic partitions.
//!
//! | protocol | member | who says how long a dead member is waited for | within |
//! |---|---|---|---|
//! | classic | without an id | `session.timeout.ms`, 6 s by our default | 10 s |
//! | classic | with `group.instance.id` | nobody: the new one takes the place of the old one | 5 s |
//! | KIP-848 | without an id | the broker: `group.consumer.session.timeout.ms`, 45 s by its default, 6 s here | 10 s |
//! | KIP-848 | with `group.instance.id` | the broker, likewise: it refuses the id until it has missed the dead member | 10 s |
//!
//! In the last case an id makes nothing faster, and by the protocol it cannot: a member that did not leave holds its id.
//!
//! What counts is the fastest of a few times: the machine may be busy with something else.

use std::fs;
use std::time::Duration;

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::producer::{Feed, round_robin};
use integration_tests::verifier::assert_equal;
use integration_tests::wait::{eventually, now};
use integration_tests::worker::{Signal, run};

use crate::PATIENCE;

const TIMES: usize = 4;

/// Kills a worker and starts another, again and again.
fn check(case: &Case, properties: Vec<(&'static str, String)>, limit: Duration) {
    let topic = case.topic(4);
    let mut connector = Connector::new(&case.unique("back"), &topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector.properties = properties;
    let file = connector.write(case);
    let feed = Feed::start(&topic, 500, round_robin(4, flights_for_ever()));
    let versions = || {
        let log = fs::read_dir(connector.location.folder().join("_delta_log"));
        let names = log.into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".json")).count()
    };
    let wait_for_commit = || {
        let before = versions();
        eventually(PATIENCE, "rows are committed", || (versions() > before).then_some(()));
    };

    let mut worker = run(case, &file).start();
    wait_for_commit();
    let mut took = Vec::new();
    for _ in 0..TIMES {
        worker.kill_nine();
        let killed = now();
        worker = run(case, &file).start();
        wait_for_commit();
        took.push(killed.elapsed());
    }
    eprintln!("rows came again after {took:?}");
    let fastest = took.iter().min().copied();
    assert!(fastest < Some(limit), "rows came again after {took:?}, at best within {limit:?}");

    let produced = feed.stop();
    eventually(PATIENCE, "all rows are visible", || {
        let seen = integration_tests::reader::rows(&connector.location);
        (seen == produced.records.len() as u64).then_some(())
    });
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
    assert_equal(case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

#[test]
fn rows_come_again_within_ten_seconds_by_default() {
    check(&case!(alone), Vec::new(), Duration::from_secs(10));
}

#[test]
fn rows_come_again_within_five_seconds_for_a_member_with_an_id() {
    let id = ("group.instance.id", "worker-1".into());
    check(&case!(alone), vec![id], Duration::from_secs(5));
}

#[test]
fn rows_come_again_within_ten_seconds_by_the_brokers_own_protocol() {
    let protocol = ("group.protocol", "consumer".into());
    check(&case!(alone), vec![protocol], Duration::from_secs(10));
}

#[test]
fn rows_come_again_within_ten_seconds_for_an_id_that_the_broker_still_holds() {
    let id = ("group.instance.id", "worker-1".into());
    let protocol = ("group.protocol", "consumer".into());
    check(&case!(alone), vec![id, protocol], Duration::from_secs(10));
}
