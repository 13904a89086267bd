//! Records that cannot become rows: each is in the dead-letter table once, and only there.

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::{Column, Connector};
use integration_tests::location::Location;
use integration_tests::raw::{Place, RawRecord, produce_raw};
use integration_tests::reader;
use integration_tests::wait::eventually;
use integration_tests::worker::{Ended, Launch, Signal, run, run_until_end};
use serde_json::{Value, json};

use crate::PATIENCE;

const COLUMNS: &[Column] = &[
    Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: false },
    Column { name: "day", ours: "string", duckdb: "VARCHAR", nullable: true },
];

fn connector(case: &Case, topic: &str) -> Connector {
    let mut connector = Connector::new(&case.unique("dead"), topic, &case.local_table());
    connector.columns = Some(COLUMNS);
    connector
}

fn good(id: usize) -> RawRecord {
    RawRecord::of((id % 2) as i32, format!(r#"{{"id":{id},"day":"monday"}}"#))
}

fn bad(id: usize) -> RawRecord {
    RawRecord::of((id % 2) as i32, format!("no json {id}"))
}

fn to_the_end(case: &Case, connector: &Connector) -> Ended {
    let ended = run_until_end(case, &connector.write(case)).start().wait(PATIENCE);
    ended.assert_code(0);
    ended
}

/// Fails the test unless the table has each of these places once, and nothing else.
#[track_caller]
fn assert_places(location: &Location, topic: &str, places: &[Place]) {
    let expected = places.iter().map(|(p, offset)| ((topic.to_owned(), *p, *offset), 1)).collect();
    assert_eq!(reader::seen(location), expected, "places in {}", location.uri());
}

#[test]
fn good_and_bad_records_go_to_their_own_tables_with_all_that_a_record_carries() {
    let case = case!();
    let topic = case.topic(2);
    let good: Vec<RawRecord> = (0..21).map(good).collect();
    let good_places = produce_raw(&topic, &good);
    let bad = [
        RawRecord {
            partition: 0,
            key: Some(b"key".to_vec()),
            value: Some(vec![0xff, 0x00, b'x']),
            headers: vec![("trace".into(), b"1".to_vec()), ("trace".into(), b"2".to_vec())],
        },
        RawRecord::of(1, r#"{"id":null}"#),
        RawRecord::of(1, r#"{"id":1.5}"#),
    ];
    let bad_places = produce_raw(&topic, &bad);
    let connector = connector(&case, &topic);
    let ended = to_the_end(&case, &connector);
    assert!(
        ended.stderr.contains("invalid_utf8 1") && ended.stderr.contains("null_in_required 1"),
        "causes are counted:\n{}",
        ended.stderr
    );

    assert_places(&connector.location, &topic, &good_places);
    assert_places(&connector.dead_letters(), &topic, &bad_places);
    let sql = r#"select _kafka."partition", _kafka."offset", hex(value), hex(_kafka.key), _kafka.headers::varchar,
        stage, cause, connector, message from {table} order by all"#;
    let rows = reader::query(&connector.dead_letters(), sql);
    let expected = [
        json!([
            0,
            bad_places[0].1,
            "FF0078",
            "6B6579",
            "[{'key': trace, 'value': 1}, {'key': trace, 'value': 2}]",
            "decode",
            "invalid_utf8",
            connector.name
        ]),
        json!([
            1,
            bad_places[1].1,
            "7B226964223A6E756C6C7D",
            null,
            "[]",
            "decode",
            "null_in_required",
            connector.name
        ]),
        json!([
            1,
            bad_places[2].1,
            "7B226964223A312E357D",
            null,
            "[]",
            "decode",
            "not_exact",
            connector.name
        ]),
    ];
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(json!(row[..8]), expected);
    }
    assert!(rows[2][8].as_str().unwrap().contains("`id`"), "names the field: {}", rows[2][8]);

    let versions = reader::versions(&connector.dead_letters());
    to_the_end(&case, &connector);
    assert_eq!(reader::versions(&connector.dead_letters()), versions, "a second run adds nothing");
}

#[test]
fn a_topic_without_bad_records_has_no_dead_letter_table() {
    let case = case!();
    let topic = case.topic(2);
    produce_raw(&topic, &(0..10).map(good).collect::<Vec<_>>());
    let connector = connector(&case, &topic);
    to_the_end(&case, &connector);
    assert_eq!(reader::versions(&connector.dead_letters()), 0);
    assert!(!connector.dead_letters().folder().try_exists().unwrap());
}

#[test]
fn a_hundred_poison_pills_and_three_restarts_give_a_hundred_dead_letters() {
    let case = case!();
    let topic = case.topic(2);
    let connector = connector(&case, &topic);
    let mut places = Vec::new();
    for restart in 0..4 {
        places.extend(produce_raw(&topic, &(0..25).map(bad).collect::<Vec<_>>()));
        to_the_end(&case, &connector);
        assert_places(&connector.dead_letters(), &topic, &places);
        assert!(reader::versions(&connector.dead_letters()) <= 2 + restart, "commits are few");
    }
    assert_eq!(places.len(), 100);
    assert_eq!(reader::rows(&connector.location), 0);
}

#[test]
fn dl_1_a_crash_between_dead_letters_and_anchor_repeats_neither() {
    let case = case!();
    let topic = case.topic(2);
    let connector = connector(&case, &topic);
    let file = connector.write(&case);
    let mixed: Vec<RawRecord> =
        (0..100).map(|id| if id % 5 == 0 { bad(id) } else { good(id) }).collect();
    let mut places = produce_raw(&topic, &mixed);
    let crash = || {
        let worker = run(&case, &file).env("FAILPOINTS", "dead_letters_without_anchor=return");
        assert!(worker.start().wait(PATIENCE).aborted(), "built without fail points?");
    };
    crash();
    assert_eq!(reader::rows(&connector.dead_letters()), 20, "dead letters come first");
    assert_eq!(reader::rows(&connector.location), 0, "and the anchor last");
    // Nothing of what is there already is written again, so nothing is there to crash at.
    let more: Vec<RawRecord> = (100..120).map(bad).collect();
    places.extend(produce_raw(&topic, &more));
    crash();
    assert_eq!(reader::rows(&connector.dead_letters()), 40);

    to_the_end(&case, &connector);
    let is_bad = |index: &usize| index.is_multiple_of(5) || *index >= 100;
    let split = |bad: bool| -> Vec<Place> {
        places.iter().enumerate().filter(|(i, _)| is_bad(i) == bad).map(|(_, p)| *p).collect()
    };
    assert_places(&connector.location, &topic, &split(false));
    assert_places(&connector.dead_letters(), &topic, &split(true));
}

#[test]
fn dead_letters_among_rows_are_one_commit_a_round_and_few_when_alone() {
    let case = case!();
    let topic = case.topic(1);
    let mut connector = connector(&case, &topic);
    connector.commit_interval = "100ms";
    connector.write = vec!["idle_commit_interval: 1h"];
    let one = |record: RawRecord| produce_raw(&topic, &[RawRecord { partition: 0, ..record }]);
    let mut worker = run(&case, &connector.write(&case)).start();
    one(good(0));
    eventually(PATIENCE, "the first row", || {
        (reader::rows(&connector.location) == 1).then_some(())
    });
    for id in 1..6 {
        one(bad(id));
    }
    worker.assert_running();
    one(good(6));
    eventually(PATIENCE, "the second row", || {
        (reader::rows(&connector.location) == 2).then_some(())
    });
    assert_eq!(reader::rows(&connector.dead_letters()), 5);
    // Created, and at most two commits: the last row may have come in a round of its own.
    assert!(reader::versions(&connector.dead_letters()) <= 3, "not one commit a record");
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
}

#[test]
fn a_row_that_cannot_be_written_is_a_dead_letter() {
    let case = case!();
    let topic = case.topic(1);
    let long = "x".repeat(300);
    let records = [
        RawRecord::of(0, r#"{"id":1,"day":"monday"}"#),
        RawRecord::of(0, format!(r#"{{"id":2,"day":"{long}"}}"#)),
        RawRecord::of(0, r#"{"id":3,"day":"monday"}"#),
        RawRecord::of(0, "no json"),
    ];
    let places = produce_raw(&topic, &records);
    let mut connector = connector(&case, &topic);
    connector.partition_by = vec!["day"];
    to_the_end(&case, &connector);
    assert_places(&connector.location, &topic, &[places[0], places[2]]);
    assert_places(&connector.dead_letters(), &topic, &[places[1], places[3]]);
    // A look at the first rows ends before the table is read, and says nothing else.
    let file = connector.write(&case);
    for _ in 0..10 {
        let sql = format!("select * from {} limit 1", connector.name.replace('-', "_"));
        let args = ["query", file.to_str().unwrap(), &sql];
        let looked = Launch::new(&case, args).start().wait(PATIENCE);
        looked.assert_code(0);
        assert_eq!(looked.stderr, "");
    }
    let causes = "select stage, cause from {table} order by _kafka.\"offset\"";
    let causes = reader::query(&connector.dead_letters(), causes);
    let expected = [["write", "partition_value_too_long"], ["decode", "json_syntax"]];
    assert_eq!(causes, expected.map(|row| row.map(Value::from).to_vec()));
}

#[test]
fn a_bucket_holds_dead_letters_beside_the_table() {
    let case = case!();
    let topic = case.topic(2);
    let places = produce_raw(&topic, &[good(0), bad(1), good(2), bad(3)]);
    let mut connector = connector(&case, &topic);
    connector.location = case.s3_table();
    to_the_end(&case, &connector);
    assert_places(&connector.location, &topic, &[places[0], places[2]]);
    assert_places(&connector.dead_letters(), &topic, &[places[1], places[3]]);
}

#[test]
fn stop_names_topic_partition_offset_and_cause_and_drop_counts_by_cause() {
    let case = case!();
    let topic = case.topic(1);
    produce_raw(&topic, &[RawRecord::of(0, r#"{"id":1}"#), RawRecord::of(0, r#"{"id":"x"}"#)]);
    let mut stopping = connector(&case, &topic);
    stopping.top = vec!["on_bad_record: stop".into()];
    let ended = run_until_end(&case, &stopping.write(&case)).start().wait(PATIENCE);
    ended.assert_code(1);
    for part in [&format!("{topic}-0 offset 1"), "wrong_type", "`id`", "on_bad_record"] {
        assert!(ended.stderr.contains(part), "`{part}` is not in:\n{}", ended.stderr);
    }
    let mut dropping = connector(&case, &topic);
    dropping.location = stopping.location.beside("-2");
    dropping.top = vec!["on_bad_record: drop".into()];
    let ended = to_the_end(&case, &dropping);
    assert!(ended.stderr.contains("1 bad records were dropped (wrong_type 1)"), "{}", ended.stderr);
    assert!(!dropping.dead_letters().folder().try_exists().unwrap());
}

#[test]
fn after_a_reset_back_what_is_rejected_is_kept_again() {
    let case = case!();
    let topic = case.topic(2);
    let records = [good(0), bad(1), good(2), bad(3)];
    let places = produce_raw(&topic, &records);
    let connector = connector(&case, &topic);
    to_the_end(&case, &connector);
    let file = connector.write(&case);
    let args = ["offsets", "reset", file.to_str().unwrap(), "--to", "earliest", "--yes"];
    Launch::new(&case, args).start().wait(PATIENCE).assert_code(0);
    to_the_end(&case, &connector);
    let twice = |places: [Place; 2]| places.map(|(p, o)| ((topic.clone(), p, o), 2)).into();
    assert_eq!(reader::seen(&connector.location), twice([places[0], places[2]]));
    assert_eq!(reader::seen(&connector.dead_letters()), twice([places[1], places[3]]));
}

#[test]
fn dead_letters_are_never_put_into_the_connector_s_own_table() {
    let case = case!();
    let topic = case.topic(2);
    produce_raw(&topic, &[good(0), bad(1)]);
    let mut connector = connector(&case, &topic);
    let link = case.folder.join("link");
    std::os::unix::fs::symlink(connector.location.folder(), &link).unwrap();
    connector.top = vec![format!("dead_letters: {{location: {}}}", link.display())];
    let ended = run_until_end(&case, &connector.write(&case)).start().wait(PATIENCE);
    ended.assert_code(1);
    assert!(ended.stderr.contains("is the connector's own table"), "{}", ended.stderr);
    assert_eq!(reader::rows(&connector.location), 0);
}

#[test]
fn a_first_record_without_fields_is_waited_out_and_kept() {
    let case = case!();
    let topic = case.topic(1);
    let one = |record: RawRecord| produce_raw(&topic, &[RawRecord { partition: 0, ..record }]);
    let mut places = one(bad(0));
    let mut connector = connector(&case, &topic);
    connector.columns = None;
    let worker = run(&case, &connector.write(&case)).start();
    eventually(PATIENCE, "it waits for a record with fields", || {
        worker.stderr().contains("no record with fields yet").then_some(())
    });
    places.extend(one(good(1)));
    eventually(PATIENCE, "the row", || (reader::rows(&connector.location) == 1).then_some(()));
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
    assert_places(&connector.location, &topic, &places[1..]);
    assert_places(&connector.dead_letters(), &topic, &places[..1]);
}
