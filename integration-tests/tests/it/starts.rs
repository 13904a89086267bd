//! Where reading starts, and offsets that no record fills.

use std::time::Duration;

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::{Column, Connector};
use integration_tests::foreign_table::newest_action;
use integration_tests::raw::{Place, RawProducer, RawRecord, produce_raw};
use integration_tests::reader;
use integration_tests::wait::{eventually, unix_ms, within};
use integration_tests::worker::{Signal, Worker, run, run_until_end};

use crate::PATIENCE;

const COLUMNS: &[Column] = &[Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: true }];

fn connector(case: &Case, topic: &str) -> Connector {
    let mut connector = Connector::new(&case.unique("start"), topic, &case.local_table());
    connector.columns = Some(COLUMNS);
    connector.commit_interval = "200ms";
    connector.write = vec!["idle_commit_interval: 1s"];
    connector
}

fn records(partition: i32, count: usize) -> Vec<RawRecord> {
    (0..count).map(|id| RawRecord::of(partition, format!(r#"{{"id":{id}}}"#))).collect()
}

/// The places that the table has, each once.
fn places(connector: &Connector) -> Vec<Place> {
    if reader::versions(&connector.location) == 0 {
        return Vec::new();
    }
    let seen = reader::seen(&connector.location);
    assert!(seen.values().all(|times| *times == 1), "twice in the table: {seen:?}");
    seen.into_keys().map(|(_, partition, offset)| (partition, offset)).collect()
}

fn to_the_end(case: &Case, connector: &Connector) {
    run_until_end(case, &connector.write(case)).start().wait(PATIENCE).assert_code(0);
}

fn drain(worker: Worker) {
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
}

#[test]
fn latest_is_the_same_place_after_a_crash_as_before() {
    let case = case!();
    let topic = case.topic(2);
    produce_raw(&topic, &records(0, 5));
    let mut connector = connector(&case, &topic);
    connector.kafka = vec!["start_at: latest"];
    let file = connector.write(&case);
    let worker = run(&case, &file).start();
    eventually(PATIENCE, "the start is committed", || {
        (reader::versions(&connector.location) == 2).then_some(())
    });
    worker.kill_nine();
    let mut expected = produce_raw(&topic, &records(0, 3));
    expected.extend(produce_raw(&topic, &records(1, 2)));
    to_the_end(&case, &connector);
    assert_eq!(places(&connector), expected, "what came while nobody read");
}

#[test]
fn a_start_position_counts_only_until_the_table_knows_better() {
    let case = case!();
    let topic = case.topic(2);
    produce_raw(&topic, &records(0, 10));
    produce_raw(&topic, &records(1, 10));
    let mut connector = connector(&case, &topic);
    connector.kafka = vec!["start_at: {0: 7}"];
    to_the_end(&case, &connector);
    let mut expected: Vec<Place> = (7..10).map(|offset| (0, offset)).collect();
    expected.extend((0..10).map(|offset| (1, offset)));
    assert_eq!(places(&connector), expected);

    for start_at in ["start_at: {0: 2}", "start_at: earliest", "start_at: latest"] {
        expected.extend(produce_raw(&topic, &records(0, 1)));
        expected.sort_unstable();
        connector.kafka = vec![start_at];
        to_the_end(&case, &connector);
        assert_eq!(places(&connector), expected, "{start_at}");
    }
}

#[test]
fn a_timestamp_starts_at_the_first_record_that_is_not_older() {
    let case = case!();
    let topic = case.topic(1);
    produce_raw(&topic, &records(0, 4));
    let then = unix_ms() + 1;
    within(PATIENCE, || (unix_ms() > then).then_some(())).unwrap();
    let expected = produce_raw(&topic, &records(0, 3));
    let mut connector = connector(&case, &topic);
    let start_at = format!("start_at: {}", rfc3339(then));
    connector.kafka = vec![Box::leak(start_at.into_boxed_str())];
    to_the_end(&case, &connector);
    assert_eq!(places(&connector), expected);
}

fn rfc3339(ms: i64) -> String {
    let sql = format!("select strftime(make_timestamp({ms} * 1000), '%Y-%m-%dT%H:%M:%S.%gZ')");
    let nowhere = integration_tests::location::Location::Local(Default::default());
    reader::value(&nowhere, &sql).as_str().unwrap().to_owned()
}

#[test]
fn partitions_that_are_added_while_we_run_start_at_their_beginning() {
    let case = case!();
    let topic = case.topic(1);
    produce_raw(&topic, &records(0, 5));
    let mut connector = connector(&case, &topic);
    connector.kafka = vec!["start_at: latest"];
    connector.properties.push(("topic.metadata.refresh.interval.ms", "300".into()));
    let worker = run(&case, &connector.write(&case)).start();
    eventually(PATIENCE, "the start is committed", || {
        (reader::versions(&connector.location) == 2).then_some(())
    });
    broker().add_partitions(&topic, 3);
    let mut expected = eventually(PATIENCE, "the new partitions take records", || {
        Some(produce_raw(&topic, &records(1, 4)))
    });
    expected.extend(produce_raw(&topic, &records(2, 2)));
    eventually(PATIENCE, "their records", || (places(&connector) == expected).then_some(()));
    drain(worker);
    assert_eq!(places(&connector), expected);
}

fn checkpoint(connector: &Connector) -> i64 {
    newest_action(&connector.location, "txn")["version"].as_i64().unwrap()
}

fn data_files(connector: &Connector) -> u64 {
    let files = format!("select count(*) from glob('{}/*.parquet')", connector.location.uri());
    reader::value(&connector.location, &files).as_u64().unwrap()
}

#[test]
fn what_no_record_fills_advances_the_checkpoint_without_a_file() {
    let case = case!();
    let topic = case.topic(1);
    let connector = connector(&case, &topic);
    let mut producer = RawProducer::new(&topic, &[("transactional.id", &topic)]);
    producer.init_transactions();
    let expected = producer.produce_in_transaction(&records(0, 3), true);
    let worker = run(&case, &connector.write(&case)).start();
    eventually(PATIENCE, "the rows", || (places(&connector) == expected).then_some(()));
    let files = data_files(&connector);
    let stands = |what: &str| {
        let end = broker().end_offset(&topic, 0);
        eventually(PATIENCE, what, || (checkpoint(&connector) == end).then_some(()));
    };
    stands("the marker behind them");
    producer.produce_in_transaction(&records(0, 50), false);
    stands("an aborted transaction");
    let tombstones =
        vec![RawRecord { value: None, key: Some(b"k".to_vec()), ..Default::default() }; 7];
    producer.produce_in_transaction(&tombstones, true);
    stands("tombstones");
    let versions = reader::versions(&connector.location);
    drain(worker);
    assert_eq!(reader::versions(&connector.location), versions, "nothing was left to commit");
    assert_eq!(places(&connector), expected);
    assert_eq!(data_files(&connector), files, "data files");
    assert!(versions <= 9, "one commit for what was idle at once, not {versions}");
}

#[test]
fn an_open_transaction_is_never_passed_over() {
    let case = case!();
    let topic = case.topic(1);
    let connector = connector(&case, &topic);
    let first = produce_raw(&topic, &records(0, 2));
    let worker = run(&case, &connector.write(&case)).start();
    eventually(PATIENCE, "the rows", || (places(&connector) == first).then_some(()));
    let mut producer = RawProducer::new(&topic, &[("transactional.id", &topic)]);
    producer.init_transactions();
    let open = producer.begin_transaction(&records(0, 5));
    let behind = produce_raw(&topic, &records(0, 2));
    // Some idle intervals, in which the end of the log is looked at.
    assert!(
        within(Duration::from_secs(4), || (checkpoint(&connector) > 2).then_some(())).is_none()
    );
    producer.commit_transaction();
    let expected = [first, open, behind].concat();
    eventually(PATIENCE, "all rows", || (places(&connector) == expected).then_some(()));
    drain(worker);
}

#[test]
fn a_compacted_topic_has_no_gaps() {
    let case = case!();
    let topic = case.unique("compacted");
    broker().create_compacted_topic(&topic);
    let keyed = |id: usize, key: usize| RawRecord {
        key: Some(key.to_string().into_bytes()),
        ..RawRecord::of(0, format!(r#"{{"id":{id}}}"#))
    };
    // Many versions of few keys, in small segments; the last segment is never compacted.
    for round in 0..30 {
        produce_raw(&topic, &(0..20).map(|id| keyed(round * 20 + id, id % 5)).collect::<Vec<_>>());
    }
    let end = broker().end_offset(&topic, 0);
    let connector = connector(&case, &topic);
    eventually(PATIENCE, "the broker compacts", || {
        (broker().readable_records(&topic, 0) < end as usize).then_some(())
    });
    to_the_end(&case, &connector);
    let found = places(&connector).len();
    assert!(found > 0 && (found as i64) < end, "{found} rows of {end} offsets");
    assert_eq!(checkpoint(&connector), end);
    to_the_end(&case, &connector);
    assert_eq!(places(&connector).len(), found, "a second run finds no gap and adds nothing");
    broker().delete_topic(&topic);
}
