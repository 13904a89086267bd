//! A table that somebody else looks after while rows arrive.

use std::time::Duration;

use integration_tests::case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::maintainer::Maintainer;
use integration_tests::producer::{Feed, round_robin};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::{eventually, let_pass};
use integration_tests::worker::{Signal, run};

use crate::PATIENCE;

/// More often than anybody would.
const PAUSE: Duration = Duration::from_millis(500);
const TIMES: usize = 20;

/// SCENARIOS: 23. Files are rewritten and removed, the log's old entries too, and in the middle of it the worker dies:
/// where it stands is in the table all the same.
#[test]
fn rows_arrive_once_while_somebody_else_optimizes_and_vacuums() {
    let case = case!();
    let topic = case.topic(4);
    let mut connector = Connector::new(&case.unique("maintained"), &topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector.commit_interval = "200ms";
    let yaml = connector.yaml().replace(
        "write:\n",
        "    properties: {delta.logRetentionDuration: interval 1 seconds}\nwrite:\n",
    );
    let file = case.write("maintained.yaml", &yaml);
    let feed = Feed::start(&topic, 500, round_robin(4, flights_for_ever()));
    let mut worker = run(&case, &file).start();
    eventually(PATIENCE, "rows are committed", || {
        worker.stderr().contains("round settled").then_some(())
    });

    let mut somebody = Maintainer::start(&connector.location);
    let (mut rewrote, mut failed, mut vacuumed) = (0, 0, false);
    for time in 0..TIMES {
        let_pass(PAUSE);
        let done = somebody.maintain();
        match done.starts_with("failed") {
            true => failed += 1,
            false if !done.starts_with("0 ") => rewrote += 1,
            false => {}
        }
        vacuumed |= !done.ends_with(" 0 vacuumed") && !done.starts_with("failed");
        eprintln!("{done}");
        if time % 7 == 6 {
            worker.kill_nine();
            worker = run(&case, &file).start();
        }
    }
    eprintln!("{rewrote} times rewritten, {failed} times too late");
    assert!(rewrote >= 3 && vacuumed, "somebody else hardly ever came to it");
    let first = connector.location.folder().join("_delta_log/00000000000000000000.json");
    let cleaned = !first.try_exists().unwrap();
    assert!(cleaned, "the log was never cleaned up, which is what is to be tried");

    let produced = feed.stop();
    eventually(PATIENCE, "all rows are visible", || {
        (reader::rows(&connector.location) == produced.records.len() as u64).then_some(())
    });
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}
