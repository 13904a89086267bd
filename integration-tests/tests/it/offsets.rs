//! `alluvium offsets`: what it says is what was produced and committed, and what it announces happens.

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights};
use integration_tests::producer::{Produced, produce, round_robin};
use integration_tests::reader;
use integration_tests::service::free_ports;
use integration_tests::wait::eventually;
use integration_tests::worker::{Ended, Launch, run, run_until_end};
use serde_json::{Value, json};

use crate::PATIENCE;

const PARTITIONS: i32 = 2;

/// Two partitions with 500 flights each, of which the last came later than the others.
fn a_thousand_flights(case: &Case) -> Produced {
    let topic = case.topic(PARTITIONS);
    let mut produced = produce(&topic, round_robin(PARTITIONS, flights().take(998)));
    produced.extend(produce(&topic, round_robin(PARTITIONS, flights().skip(998).take(2))));
    produced
}

fn connector(case: &Case, produced: &Produced) -> Connector {
    let mut connector = Connector::new(&case.unique("stand"), &produced.topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector
}

fn run_to_the_end(case: &Case, connector: &Connector) {
    run_until_end(case, &connector.write(case)).start().wait(PATIENCE).assert_code(0);
}

/// `alluvium offsets ARGS...`
fn offsets(case: &Case, args: &[&str]) -> Ended {
    let args: Vec<&str> = ["offsets"].iter().chain(args).copied().collect();
    Launch::new(case, args).start().wait(PATIENCE)
}

fn show(case: &Case, connector: &Connector) -> Value {
    let file = connector.write(case);
    let ended = offsets(case, &["show", file.to_str().unwrap(), "--json"]);
    ended.assert_code(0);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    document["connectors"][0].clone()
}

/// One field of each topic partition, in order.
fn each(standing: &Value, field: &str) -> Vec<Value> {
    let lines = standing["topic_partitions"].as_array().unwrap().iter();
    lines.map(|line| line[field].clone()).collect()
}

#[test]
fn offsets_are_those_that_were_produced_and_committed() {
    let case = case!();
    let produced = a_thousand_flights(&case);
    let connector = connector(&case, &produced);
    run_to_the_end(&case, &connector);
    produce(&produced.topic, round_robin(PARTITIONS, flights().take(60)));

    let standing = show(&case, &connector);
    assert_eq!(standing["connector"], json!(connector.name));
    assert_eq!(standing["table"], json!({"location": connector.location.uri(), "exists": true}));
    assert_eq!(standing["group"], json!(connector.group()));
    assert_eq!(each(&standing, "partition"), [0, 1]);
    assert_eq!(each(&standing, "next"), [500, 500]);
    assert_eq!(each(&standing, "group"), [500, 500]);
    assert_eq!(each(&standing, "log_start"), [0, 0]);
    assert_eq!(each(&standing, "log_end"), [530, 530]);
    assert_eq!(each(&standing, "lag"), [30, 30]);
    assert_eq!(standing["totals"]["lag"], 60);
    assert_eq!(standing["totals"]["topic_partitions"], 2);
    for (partition, newest) in (0..).zip(each(&standing, "newest_visible")) {
        let last = &produced.records[&(partition, 499)];
        let shown: jiff::Timestamp = newest["timestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!(shown.as_millisecond(), last.timestamp_ms);
    }

    let file = connector.write(&case);
    let ended = offsets(&case, &["show", file.to_str().unwrap()]);
    ended.assert_code(0);
    let first = ended.stdout.lines().find(|line| line.starts_with(&produced.topic)).unwrap();
    let cells: Vec<&str> = first.split_whitespace().collect();
    assert_eq!(cells[1..7], ["0", "500", "500", "0", "530", "30"], "{}", ended.stdout);
    let ends: Vec<_> = ended.stdout.lines().skip(1).map(|line| line.find(" ago")).collect();
    assert!(ends[1..].iter().all(|end| *end == ends[1]), "not aligned:\n{}", ended.stdout);
}

#[test]
fn without_a_table_it_says_where_a_run_would_begin() {
    let case = case!();
    let produced = a_thousand_flights(&case);
    let mut connector = connector(&case, &produced);
    connector.topics += "\n    start_at: {0: 120}";
    let standing = show(&case, &connector);
    assert_eq!(standing["table"]["exists"], false);
    assert_eq!(each(&standing, "next"), [Value::Null, Value::Null]);
    assert_eq!(each(&standing, "begins_at"), [120, 0]);
    assert_eq!(each(&standing, "lag"), [380, 500]);
    assert_eq!(each(&standing, "newest_visible"), [Value::Null, Value::Null]);
    let file = connector.write(&case);
    let text = offsets(&case, &["show", file.to_str().unwrap()]).stdout;
    for part in ["there is no table yet", "begins at 120"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert!(!connector.location.folder().try_exists().unwrap(), "looking created the table");
}

#[test]
fn positions_of_a_topic_that_was_created_again_are_marked() {
    let case = case!();
    let produced = a_thousand_flights(&case);
    let connector = connector(&case, &produced);
    run_to_the_end(&case, &connector);
    broker().delete_topic(&produced.topic);
    broker().create_topic_anew(&produced.topic, PARTITIONS);

    let standing = show(&case, &connector);
    assert_eq!(each(&standing, "next"), [Value::Null, Value::Null]);
    let former = standing["former"].as_array().unwrap();
    assert_eq!(former.len(), 2, "{former:?}");
    assert_eq!((&former[1]["partition"], &former[1]["next"]), (&json!(1), &json!(500)));
    assert_ne!(former[0]["topic_id"], each(&standing, "topic_id")[0]);
    let file = connector.write(&case);
    let text = offsets(&case, &["show", file.to_str().unwrap()]).stdout;
    assert!(text.contains("former topic id"), "{text}");
}

#[test]
fn a_broker_that_is_away_is_named_and_hides_no_other_connector() {
    let case = case!();
    let produced = a_thousand_flights(&case);
    let well = connector(&case, &produced);
    let mut away = connector(&case, &produced);
    let [port] = free_ports();
    away.bootstrap = format!("127.0.0.1:{port}");
    let (well_file, away_file) = (well.write(&case), away.write(&case));
    let files = [away_file.to_str().unwrap(), well_file.to_str().unwrap()];
    let ended = offsets(&case, &["show", files[0], files[1]]);
    ended.assert_code(1);
    for part in [&away.name, &away.bootstrap, "bootstrap_servers"] {
        assert!(ended.stderr.contains(part), "`{part}` is not in:\n{}", ended.stderr);
    }
    assert!(ended.stdout.contains(&well.name), "{}", ended.stdout);
}

fn reset(case: &Case, connector: &Connector, to: &str, more: &[&str]) -> Ended {
    let file = connector.write(case);
    let mut args = vec!["reset", file.to_str().unwrap(), "--to", to];
    args.extend(more);
    offsets(case, &args)
}

/// How often the rows of one partition's offsets are in the table: `(offset, times)`, where not once.
fn not_once(connector: &Connector, topic: &str, partition: i32, offsets: i64) -> Vec<(i64, u64)> {
    let seen = reader::seen(&connector.location);
    let times = |offset| seen.get(&(topic.to_owned(), partition, offset)).copied().unwrap_or(0);
    (0..offsets).map(|offset| (offset, times(offset))).filter(|(_, times)| *times != 1).collect()
}

#[test]
fn after_a_reset_back_records_are_read_again_as_announced() {
    let case = case!();
    let produced = a_thousand_flights(&case);
    let connector = connector(&case, &produced);
    run_to_the_end(&case, &connector);
    let before = reader::versions(&connector.location);

    let to = format!("{}:0=400", produced.topic);
    let announced = reset(&case, &connector, &to, &[]);
    announced.assert_code(2);
    for part in ["500", "400", "100 read again", "100 offsets will be read again"] {
        assert!(announced.stdout.contains(part), "`{part}` is not in:\n{}", announced.stdout);
    }
    assert!(announced.stderr.contains("Nothing was changed. Add --yes"), "{}", announced.stderr);
    assert_eq!(reader::versions(&connector.location), before, "versions after an announcement");
    assert_eq!(each(&show(&case, &connector), "next"), [500, 500]);

    reset(&case, &connector, &to, &["--yes"]).assert_code(0);
    assert_eq!(reader::versions(&connector.location), before + 1, "one commit");
    let standing = show(&case, &connector);
    assert_eq!(each(&standing, "next"), [400, 500]);
    assert_eq!(each(&standing, "group"), [400, 500]);
    assert_eq!(standing["totals"]["lag"], 100);
    assert_eq!(reader::rows(&connector.location), 1_000);

    run_to_the_end(&case, &connector);
    let twice: Vec<_> = (400..500).map(|offset| (offset, 2)).collect();
    assert_eq!(not_once(&connector, &produced.topic, 0, 500), twice);
    assert_eq!(not_once(&connector, &produced.topic, 1, 500), []);

    let there = reset(&case, &connector, &format!("{}:0=500", produced.topic), &["--yes"]);
    there.assert_code(0);
    assert!(there.stdout.contains("stays"), "{}", there.stdout);
    assert_eq!(each(&show(&case, &connector), "next"), [500, 500], "it says so in the table");
}

#[test]
fn after_a_reset_forward_records_are_skipped_as_announced() {
    let case = case!();
    let produced = a_thousand_flights(&case);
    let connector = connector(&case, &produced);
    run_to_the_end(&case, &connector);
    produce(&produced.topic, round_robin(PARTITIONS, flights().take(60)));

    let moved = reset(&case, &connector, "latest", &["--yes"]);
    moved.assert_code(0);
    assert!(moved.stdout.contains("60 offsets will be skipped"), "{}", moved.stdout);
    assert_eq!(each(&show(&case, &connector), "next"), [530, 530]);
    produce(&produced.topic, round_robin(PARTITIONS, flights().take(2)));
    run_to_the_end(&case, &connector);
    let skipped: Vec<_> = (500..530).map(|offset| (offset, 0)).collect();
    for partition in 0..PARTITIONS {
        assert_eq!(not_once(&connector, &produced.topic, partition, 531), skipped);
    }
}

#[test]
fn a_reset_to_a_time_goes_to_the_first_record_that_is_not_older() {
    let case = case!();
    let produced = a_thousand_flights(&case);
    let connector = connector(&case, &produced);
    run_to_the_end(&case, &connector);
    let last =
        produced.records[&(0, 499)].timestamp_ms.min(produced.records[&(1, 499)].timestamp_ms);
    let last = jiff::Timestamp::from_millisecond(last).unwrap().to_string();
    reset(&case, &connector, &last, &["--yes"]).assert_code(0);
    assert_eq!(each(&show(&case, &connector), "next"), [499, 499]);
}

#[test]
fn a_running_connector_is_not_reset() {
    is_not_reset_while_it_runs(&case!(), None);
}

#[test]
fn a_running_connector_of_the_newer_group_protocol_is_not_reset() {
    is_not_reset_while_it_runs(&case!(), Some(("group.protocol", "consumer".into())));
}

fn is_not_reset_while_it_runs(case: &Case, property: Option<(&'static str, String)>) {
    let produced = a_thousand_flights(case);
    let mut connector = connector(case, &produced);
    if let Some(property) = property {
        connector.properties = vec![property];
    }
    let worker = run(case, &connector.write(case)).start();
    eventually(PATIENCE, "the worker has committed everything", || {
        (reader::rows(&connector.location) == 1_000).then_some(())
    });
    let versions = reader::versions(&connector.location);
    let refused = reset(case, &connector, "earliest", &["--yes"]);
    refused.assert_code(1);
    for part in [&connector.name, &connector.group(), "member"] {
        assert!(refused.stderr.contains(part), "`{part}` is not in:\n{}", refused.stderr);
    }
    assert_eq!(reader::versions(&connector.location), versions, "versions after a refusal");
    drop(worker);
}

#[test]
fn without_a_table_a_reset_deletes_what_the_group_has_noted() {
    let case = case!();
    let produced = a_thousand_flights(&case);
    let connector = connector(&case, &produced);
    run_to_the_end(&case, &connector);
    std::fs::remove_dir_all(connector.location.folder()).unwrap();
    assert!(broker().groups().contains(&connector.group()));

    let announced = reset(&case, &connector, "earliest", &[]);
    announced.assert_code(2);
    assert!(announced.stdout.contains("There is no table"), "{}", announced.stdout);
    assert!(broker().groups().contains(&connector.group()), "deleted without a word");
    let done = reset(&case, &connector, "earliest", &["--yes"]);
    done.assert_code(0);
    assert!(done.stdout.contains(&connector.group()), "{}", done.stdout);
    assert!(!broker().groups().contains(&connector.group()));
    assert!(!connector.location.folder().try_exists().unwrap());
}

#[test]
fn a_reset_to_where_kafka_has_nothing_is_refused() {
    let case = case!();
    let produced = a_thousand_flights(&case);
    let connector = connector(&case, &produced);
    run_to_the_end(&case, &connector);
    for (to, says) in [
        (format!("{}:0=501", produced.topic), "Kafka has offsets 0 to 500"),
        (format!("{}:7=1", produced.topic), "does not read"),
        ("soon".to_owned(), "2026-01-31T00:00:00Z"),
    ] {
        let refused = reset(&case, &connector, &to, &["--yes"]);
        refused.assert_code(2);
        assert!(refused.stderr.contains(says), "`{says}` is not in:\n{}", refused.stderr);
    }
    assert_eq!(each(&show(&case, &connector), "next"), [500, 500]);
}
