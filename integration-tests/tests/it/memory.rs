//! MM-1: a worker stays within `--memory`, whatever comes, and goes on within it.
//!
//! Each case is small here and presses on another kind of memory; the peak is the process's own, as Linux
//! counts it. `thousands_of_partition_values_fit_into_bounded_memory` in `scenarios` is one of them.

use std::time::Duration;

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::{Column, Connector};
use integration_tests::datasets::{FLIGHT_COLUMNS, flights, flights_for_ever};
use integration_tests::location::Location;
use integration_tests::object_store::object_store;
use integration_tests::producer::{Feed, Produced, Record, Route, produce, round_robin};
use integration_tests::proxy::{Fault, Proxy};
use integration_tests::random::Random;
use integration_tests::reader;
use integration_tests::verifier::assert_exactly_once;
use integration_tests::wait::{eventually, let_pass};
use integration_tests::worker::{Launch, Signal, run, run_until_end};

use crate::PATIENCE;

const MIB: u64 = 1024 * 1024;
/// The smallest budget that one connector is allowed.
const LEAST: &str = "192MiB";

/// One with which large buffers have room to pile up.
const AMPLE: &str = "512MiB";

/// Runs a connector to the end within `memory`, and checks what it took and wrote.
fn reads_within(case: &Case, connector: &Connector, memory: &str, produced: &Produced) {
    let launch = run_until_end(case, &connector.write(case)).env("ALLUVIUM_MEMORY", memory);
    let most = launch.start().peak_until_end(PATIENCE);
    assert_within(most, memory);
    assert_exactly_once(&[produced], &connector.location);
}

#[track_caller]
fn assert_within(most: u64, memory: &str) {
    eprintln!("at most {} MiB of {memory}", most / MIB);
    let allowed = memory.trim_end_matches("MiB").parse::<u64>().unwrap() * MIB;
    assert!(most <= allowed, "it took {} MiB of {memory}", most / MIB);
}

#[test]
fn mm_1_a_backlog_is_read_within_the_smallest_budget() {
    let case = case!();
    let produced = produce(&case.topic(4), round_robin(4, flights()));
    let mut connector =
        Connector::new(&case.unique("backlog"), &produced.topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    reads_within(&case, &connector, LEAST, &produced);
}

#[test]
fn mm_1_records_of_two_megabytes_are_read_within_the_budget() {
    const COLUMNS: &[Column] = &[
        Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: false },
        Column { name: "body", ours: "string", duckdb: "VARCHAR", nullable: true },
    ];
    let case = case!();
    let topic = case.topic(2);
    broker().set_message_bytes_max(&topic, 4_000_000);
    let records = (0..60).map(|id| Record {
        route: Route::Partition(id % 2),
        value: format!(r#"{{"id":{id},"body":"{}"}}"#, Random::new(id as u64).text(2_000_000)),
    });
    let produced = produce(&topic, records);
    let mut connector = Connector::new(&case.unique("large"), &topic, &case.local_table());
    connector.columns = Some(COLUMNS);
    reads_within(&case, &connector, LEAST, &produced);
    let table = case.local_table().beside("-again");
    let mut again = Connector::new(&case.unique("again"), &topic, &table);
    again.columns = Some(COLUMNS);
    reads_within(&case, &again, AMPLE, &produced);
}

/// Brokers count compressed bytes, memory is taken by what they become: here ten times as many.
#[test]
fn mm_1_records_that_compress_well_are_read_within_the_budget() {
    const COLUMNS: &[Column] = &[
        Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: false },
        Column { name: "body", ours: "string", duckdb: "VARCHAR", nullable: true },
    ];
    let case = case!();
    let topic = case.topic(4);
    let records = (0..40_000).map(|id| Record {
        route: Route::Partition(id % 4),
        value: format!(r#"{{"id":{id},"body":"{}"}}"#, Random::new(id as u64).text(800).repeat(10)),
    });
    let produced = produce(&topic, records);
    for memory in [LEAST, AMPLE] {
        let table = case.local_table().beside(memory);
        let mut connector = Connector::new(&case.unique("compressed"), &topic, &table);
        connector.columns = Some(COLUMNS);
        reads_within(&case, &connector, memory, &produced);
    }
}

#[test]
fn mm_1_two_hundred_topic_partitions_are_read_within_the_smallest_budget() {
    let case = case!();
    let records = round_robin(200, flights().take(100_000));
    let produced = produce(&case.topic(200), records);
    let mut connector = Connector::new(&case.unique("many"), &produced.topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    reads_within(&case, &connector, LEAST, &produced);
}

#[test]
fn mm_1_connectors_of_a_worker_share_its_memory() {
    let case = case!();
    let folder = case.folder.join("connectors");
    std::fs::create_dir(&folder).unwrap();
    let each = |number: usize| {
        let skip = number * 50_000;
        let produced = produce(&case.topic(2), round_robin(2, flights().skip(skip).take(50_000)));
        let table = case.local_table().beside(&number.to_string());
        let name = case.unique("shares");
        let mut connector = Connector::new(&name, &produced.topic, &table);
        connector.columns = Some(FLIGHT_COLUMNS);
        std::fs::write(folder.join(format!("{name}.yaml")), connector.yaml()).unwrap();
        (produced, table)
    };
    let all: Vec<(Produced, Location)> = (0..4).map(each).collect();
    let memory = "272MiB";
    let args = ["run", "connectors", "--until-end", "--memory", memory];
    assert_within(Launch::new(&case, args).start().peak_until_end(PATIENCE), memory);
    all.iter().for_each(|(produced, table)| assert_exactly_once(&[produced], table));
}

/// The store takes nothing for a while, and records come all the time.
#[test]
fn mm_1_a_store_that_stalls_slows_reading_down_and_fills_no_memory() {
    const STALL: Duration = Duration::from_secs(20);
    let case = case!();
    let proxy = Proxy::start(&object_store().endpoint);
    let Location::S3 { uri, .. } = case.s3_table() else { unreachable!("a table in S3") };
    let location = Location::S3 { uri: uri.clone(), endpoint: proxy.endpoint.clone() };
    let topic = case.topic(4);
    let mut connector = Connector::new(&case.unique("stalled"), &topic, &location);
    connector.columns = Some(FLIGHT_COLUMNS);
    let feed = Feed::start(&topic, 20_000, round_robin(4, flights_for_ever()));
    let launch = run(&case, &connector.write(&case)).env("ALLUVIUM_MEMORY", LEAST);
    let mut worker = launch.start();
    let rows = || reader::rows(&location);
    eventually(PATIENCE, "rows are visible", || (rows() > 0).then_some(()));
    proxy.set(Fault::HalfOpen);
    let_pass(STALL);
    worker.assert_running();
    proxy.set(Fault::None);
    let produced = feed.stop();
    eventually(PATIENCE, "all rows are visible", || {
        (rows() == produced.records.len() as u64).then_some(())
    });
    assert_within(worker.peak_resident_bytes().unwrap(), LEAST);
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
    assert_exactly_once(&[&produced], &location);
}

#[test]
fn too_little_memory_is_refused_with_what_is_needed() {
    let case = case!();
    let topic = case.topic(1);
    let connector = Connector::new(&case.unique("little"), &topic, &case.local_table());
    let file = connector.write(&case);
    let refused = |memory: &str, says: &str| {
        let ended = run(&case, &file).env("ALLUVIUM_MEMORY", memory).start().wait(PATIENCE);
        ended.assert_code(2);
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    };
    refused("100MiB", "`--memory` is 100 MiB");
    refused("100MiB", "192 MiB at least");
    refused("a lot", "such as `64MiB`");
}
