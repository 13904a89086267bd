//! The whole journey of real records, on good roads.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::{Column, Connector};
use integration_tests::datasets::{FLIGHT_COLUMNS, FLIGHTS, flights, flights_for_ever};
use integration_tests::foreign_table::{ForeignTable, field, our_fields};
use integration_tests::producer::{Feed, Produced, produce, produce_in_transactions, round_robin};
use integration_tests::reader;
use integration_tests::verifier::{assert_equal, assert_exactly_once};
use integration_tests::wait::eventually;
use integration_tests::worker::{Signal, run, run_until_end};

use crate::PATIENCE;

/// Some flights, on four partitions of a new topic.
fn some_flights(case: &Case, count: usize) -> Produced {
    produce(&case.topic(4), round_robin(4, flights().take(count)))
}

fn flights_connector(case: &Case, produced: &Produced) -> Connector {
    let mut connector =
        Connector::new(&case.unique("flights"), &produced.topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector
}

fn run_to_the_end(case: &Case, connector: &Connector) {
    run_until_end(case, &connector.write(case)).start().wait(PATIENCE).assert_code(0);
}

#[test]
fn all_flights_arrive_once_and_a_second_run_adds_nothing() {
    let case = case!();
    let produced = some_flights(&case, FLIGHTS);
    assert_eq!(produced.records.len(), FLIGHTS);
    let connector = flights_connector(&case, &produced);
    let table = &connector.location;

    run_to_the_end(&case, &connector);
    assert_equal(&case, &[&produced], table, FLIGHT_COLUMNS);
    // The sum of the published set, and a value that a file's statistics must not hide.
    let totals = "select sum(distance)::bigint, count(*) filter (dep_time is null), count(_rescued) from {table}";
    assert_eq!(reader::query(table, totals), [[350_217_607, 8_255, 0]]);
    assert_eq!(reader::value(table, "select count(*) from {table} where tailnum = 'N14228'"), 111);

    let versions = reader::versions(table);
    run_to_the_end(&case, &connector);
    assert_eq!(reader::versions(table), versions, "versions after a run that had nothing to do");
    assert_eq!(reader::rows(table), FLIGHTS as u64);
}

#[test]
fn flights_arrive_in_a_bucket() {
    let case = case!();
    let produced = some_flights(&case, 20_000);
    let mut connector = flights_connector(&case, &produced);
    connector.location = case.s3_table();

    run_to_the_end(&case, &connector);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
    let versions = reader::versions(&connector.location);
    run_to_the_end(&case, &connector);
    assert_eq!(reader::versions(&connector.location), versions);
}

#[test]
fn a_partitioned_table_has_each_row_in_the_folder_of_its_values() {
    let case = case!();
    let produced = some_flights(&case, 20_000);
    let mut connector = flights_connector(&case, &produced);
    connector.partition_by = vec!["origin", "day"];

    run_to_the_end(&case, &connector);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
    let files = format!("select file from glob('{}/**/*.parquet')", connector.location.uri());
    let files = reader::query(&connector.location, &files);
    let folders: BTreeSet<String> = files
        .iter()
        .map(|row| {
            let path = row[0].as_str().unwrap().strip_prefix(&connector.location.uri()).unwrap();
            path.rsplit_once('/').unwrap().0.to_owned()
        })
        .collect();
    let expected = "select distinct '/origin=' || origin || '/day=' || day from {table}";
    let expected = reader::query(&connector.location, expected);
    assert_eq!(folders, expected.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect());
}

#[test]
fn a_table_that_exists_lends_its_columns() {
    const COLUMNS: &[Column] = &[
        Column { name: "origin", ours: "string", duckdb: "VARCHAR", nullable: true },
        Column { name: "arr_delay", ours: "long", duckdb: "BIGINT", nullable: true },
        Column { name: "distance", ours: "double", duckdb: "DOUBLE", nullable: true },
        Column {
            name: "time_hour",
            ours: "timestamp",
            duckdb: "TIMESTAMP WITH TIME ZONE",
            nullable: true,
        },
    ];
    let case = case!();
    let produced = some_flights(&case, 5_000);
    let mut connector = flights_connector(&case, &produced);
    connector.columns = None;
    let mut fields: Vec<_> = COLUMNS.iter().map(|column| field(column.name, column.ours)).collect();
    fields.extend(our_fields());
    ForeignTable { reader_version: 1, writer_version: 2, fields }.create(&connector.location);
    let columns = reader::columns(&connector.location);

    run_to_the_end(&case, &connector);
    assert_equal(&case, &[&produced], &connector.location, COLUMNS);
    assert_eq!(reader::columns(&connector.location), columns);
    // What has no column is not lost.
    let lost = "select count(*) from {table} where (_rescued->>'$.dest') is null or (_rescued->'$.distance') is not null";
    assert_eq!(reader::value(&connector.location, lost), 0);
}

#[test]
fn a_pattern_reads_all_topics_that_match() {
    let case = case!();
    let prefix = case.unique("pattern");
    let [first, second, other] = ["a.flights", "b.flights", "a.weather"]
        .map(|name| case.topic_named(&format!("{prefix}.{name}"), 2));
    let first = produce(&first, round_robin(2, flights().take(3_000)));
    let second = produce(&second, round_robin(2, flights().skip(3_000).take(2_000)));
    produce(&other, round_robin(2, flights().take(10)));
    let mut connector = flights_connector(&case, &first);
    connector.topics = format!(r"topics_pattern: '^{prefix}\..\.flights$'");

    run_to_the_end(&case, &connector);
    assert_equal(&case, &[&first, &second], &connector.location, FLIGHT_COLUMNS);
}

#[test]
fn aborted_records_are_never_visible() {
    let case = case!();
    let topic = case.topic(4);
    let batches = (0..30)
        .map(|batch| round_robin(4, flights().skip(batch * 100).take(100)).collect())
        .collect();
    // The last one is aborted too, so that the topic ends in records that nobody may see.
    let produced = produce_in_transactions(&topic, batches, |index| index % 3 == 2);
    assert_eq!(produced.records.len(), 2_000);
    let connector = flights_connector(&case, &produced);

    run_to_the_end(&case, &connector);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
    let versions = reader::versions(&connector.location);
    run_to_the_end(&case, &connector);
    assert_eq!(reader::versions(&connector.location), versions);
}

#[test]
fn sigterm_commits_what_was_read_and_ends_well() {
    drains_by(&case!(), Signal::Term);
}

#[test]
fn sigint_commits_what_was_read_and_ends_well() {
    drains_by(&case!(), Signal::Int);
}

#[test]
fn a_second_signal_aborts_at_once_and_loses_nothing() {
    let case = &case!();
    let topic = case.topic(4);
    let mut connector = flights_connector(case, &Produced::none(&topic));
    connector.commit_interval = "1h";
    let feed = Feed::start(&topic, 1_000, round_robin(4, flights_for_ever()));
    // The drain's commit takes longer than anybody waits.
    let worker = run(case, &connector.write(case))
        .env("FAILPOINTS", "w3_file_complete_unreferenced=sleep(600000)")
        .start();
    feed.wait_for(3_000);
    eventually(PATIENCE, "the worker owns topic partitions", || {
        worker.stderr().contains("topic partitions assigned").then_some(())
    });
    worker.signal(Signal::Term);
    eventually(PATIENCE, "the worker drains", || {
        worker.stderr().contains("draining").then_some(())
    });
    worker.signal(Signal::Term);
    worker.wait(Duration::from_secs(10)).assert_code(130);

    let produced = feed.stop();
    run_to_the_end(case, &connector);
    assert_exactly_once(&[&produced], &connector.location);
}

fn drains_by(case: &Case, signal: Signal) {
    let topic = case.topic(4);
    let mut connector = flights_connector(case, &Produced::none(&topic));
    // Whatever becomes visible was committed by the drain.
    connector.commit_interval = "1h";
    let feed = Feed::start(&topic, 1_000, round_robin(4, flights_for_ever()));
    let worker = run(case, &connector.write(case)).start();
    eventually(PATIENCE, "the worker owns all topic partitions", || {
        let members = broker().members(&connector.group());
        (members.iter().map(|member| member.topic_partitions.len()).sum::<usize>() == 4)
            .then_some(())
    });
    feed.wait_for(3_000);
    assert_eq!(reader::rows(&connector.location), 0, "rows before the drain");

    worker.signal(signal);
    worker.wait(PATIENCE).assert_code(0);
    assert!(reader::rows(&connector.location) > 0, "the drain committed nothing");
    // A member that leaves is gone at once; one that only dies is missed later.
    assert_eq!(broker().members(&connector.group()), []);

    let produced = feed.stop();
    run_to_the_end(case, &connector);
    assert_exactly_once(&[&produced], &connector.location);
}
