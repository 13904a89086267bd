//! `kill -9` at random moments, again and again, while records arrive.

use std::time::Duration;

use integration_tests::case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::producer::{Feed, round_robin};
use integration_tests::random::Random;
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::{let_pass, unix_ms};
use integration_tests::worker::{run, run_until_end};

use crate::PATIENCE;

const ROUNDS: u32 = 20;

#[test]
fn twenty_kills_lose_nothing_and_repeat_nothing() {
    let case = case!();
    let seed = std::env::var("ALLUVIUM_IT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| unix_ms().unsigned_abs());
    eprintln!("ALLUVIUM_IT_SEED={seed}");
    let mut random = Random::new(seed);
    let topic = case.topic(4);
    let mut connector = Connector::new(&case.unique("killed"), &topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    let file = connector.write(&case);
    let feed = Feed::start(&topic, 500, round_robin(4, flights_for_ever()));

    let mut committed_in = 0;
    for _ in 0..ROUNDS {
        let versions = reader::versions(&connector.location);
        let worker = run(&case, &file).start();
        // From before its first request to well into its work: a killed worker is missed after 2 s, and
        // only then its topic partitions go to the next one.
        let_pass(Duration::from_millis(random.between(200, 6_000)));
        worker.kill_nine();
        committed_in += u32::from(reader::versions(&connector.location) > versions);
    }
    let produced = feed.stop();
    assert!(committed_in >= ROUNDS / 5, "only {committed_in} of {ROUNDS} rounds lived to commit");

    run_until_end(&case, &file).start().wait(PATIENCE).assert_code(0);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}
