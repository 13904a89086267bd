//! A worker that has nothing to do.

use std::time::Duration;

use integration_tests::case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights};
use integration_tests::producer::{produce, round_robin};
use integration_tests::reader;
use integration_tests::wait::{eventually, let_pass};
use integration_tests::worker::{Signal, run};

use crate::PATIENCE;

const WINDOW: Duration = Duration::from_secs(10);

#[test]
fn an_idle_worker_needs_little_memory_and_next_to_no_cpu() {
    let case = case!();
    let produced = produce(&case.topic(4), round_robin(4, flights().take(1_000)));
    let mut connector = Connector::new(&case.unique("idle"), &produced.topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    let worker = run(&case, &connector.write(&case)).start();
    eventually(PATIENCE, "all rows are visible", || {
        (reader::rows(&connector.location) == 1_000).then_some(())
    });

    let before = worker.cpu_time();
    let_pass(WINDOW);
    let used = worker.cpu_time() - before;
    assert!(used < WINDOW / 50, "it used {used:?} of CPU in {WINDOW:?}");
    let resident = worker.resident_bytes();
    assert!(resident < 100_000_000, "it holds {resident} bytes of memory");
    eprintln!("idle: {used:?} of CPU in {WINDOW:?}, {resident} bytes");

    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
}
