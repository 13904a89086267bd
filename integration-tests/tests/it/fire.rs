//! Two workers under fire: killed, frozen past their session, and with answers of the store that are
//! lost, again and again while records arrive. What is judged is what a reader of the folder finds.
//!
//! `ALLUVIUM_FIRE_ROUNDS` says how often; `ALLUVIUM_IT_SEED` repeats a run's decisions.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::location::Location;
use integration_tests::producer::{Feed, round_robin};
use integration_tests::random::Random;
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::{let_pass, unix_ms};
use integration_tests::worker::{Signal, Worker, run, run_until_end};

use crate::PATIENCE;

const ROUNDS: u64 = 50;

/// One answer in ten is lost, and now and then a worker dies where a commit is decided and not published.
const FAULTS: &str = "ledger_answer_lost=10%return;w4_decided_not_published=3%return;w5_published_not_noted=3%return";

#[test]
fn a_folder_on_disk_is_exact_after_fifty_rounds() {
    let case = case!();
    let location = case.local_table();
    fire(&case, &location);
}

#[test]
fn a_bucket_is_exact_after_fifty_rounds() {
    let case = case!();
    let location = case.s3_table();
    fire(&case, &location);
}

/// Kills it, if it did not die at a fail point.
fn end(mut worker: Worker) {
    if !worker.has_ended() {
        worker.signal(Signal::Kill);
    }
    let ended = worker.wait(PATIENCE);
    let killed = ended.status.signal() == Some(9);
    assert!(killed || ended.aborted(), "it ended with {}:\n{}", ended.status, ended.stderr);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn fire(case: &Case, location: &Location) {
    let seed = number("ALLUVIUM_IT_SEED").unwrap_or_else(|| unix_ms().unsigned_abs());
    eprintln!("ALLUVIUM_IT_SEED={seed}");
    let rounds = number("ALLUVIUM_FIRE_ROUNDS").unwrap_or(ROUNDS);
    let mut random = Random::new(seed);
    let topic = case.topic(4);
    let mut connector = Connector::new(&case.unique("fire"), &topic, location);
    connector.format = "parquet";
    connector.columns = Some(FLIGHT_COLUMNS);
    connector.commit_interval = "300ms";
    let file = connector.write(case);
    let feed = Feed::start(&topic, 500, round_robin(4, flights_for_ever()));

    let start = |file: &Path| run(case, file).env("FAILPOINTS", FAULTS).start();
    let mut workers = [start(&file), start(&file)];
    let (mut kills, mut freezes, mut deaths) = (0, 0, 0);
    for _ in 0..rounds {
        let victim = &mut workers[random.between(0, 2) as usize];
        let_pass(Duration::from_millis(random.between(300, 2_500)));
        if victim.has_ended() {
            deaths += 1;
        } else if random.between(0, 3) == 0 {
            // Up to well past the session, so that another takes over.
            victim.signal(Signal::Stop);
            let_pass(Duration::from_millis(random.between(500, 4_000)));
            victim.signal(Signal::Continue);
            freezes += 1;
            continue;
        } else {
            kills += 1;
        }
        end(std::mem::replace(victim, start(&file)));
    }
    let seen = reader::rows(location);
    let produced = feed.stop();
    workers.into_iter().for_each(end);
    eprintln!(
        "{kills} kills, {freezes} freezes, {deaths} deaths of their own, {seen} rows before the end"
    );
    assert!(seen > 0, "nothing was committed under fire");

    run_until_end(case, &file).start().wait(PATIENCE).assert_code(0);
    assert_equal(case, &[&produced], location, FLIGHT_COLUMNS);
}
