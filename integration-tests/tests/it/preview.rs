//! `alluvium preview`: what it shows is what `run` would write, and it leaves no trace.

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::{Column, Connector};
use integration_tests::datasets::{FLIGHT_COLUMNS, flights};
use integration_tests::producer::{Record, Route, produce, round_robin};
use integration_tests::reader;
use integration_tests::worker::{Ended, Launch, run_until_end};
use serde_json::{Value, json};

use crate::PATIENCE;

const ID: &[Column] = &[
    Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: false },
    Column { name: "note", ours: "string", duckdb: "VARCHAR", nullable: true },
];

fn preview(case: &Case, connector: &Connector, more: &[&str]) -> Ended {
    let file = connector.write(case);
    let mut args = vec!["preview", file.to_str().unwrap()];
    args.extend(more);
    let ended = Launch::new(case, args).start().wait(PATIENCE);
    ended.assert_code(0);
    ended
}

fn document(case: &Case, connector: &Connector, more: &[&str]) -> Value {
    let mut args = vec!["--format", "json"];
    args.extend(more);
    let ended = preview(case, connector, &args);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}:\n{}", ended.stdout))
}

/// Neither a folder for the table nor a group.
#[track_caller]
fn assert_no_trace(connector: &Connector) {
    let folder = connector.location.folder();
    assert!(!folder.try_exists().unwrap(), "{} was created", folder.display());
    assert!(!broker().groups().contains(&connector.group()), "the group was created");
}

fn value(partition: i32, value: &str) -> Record {
    Record { route: Route::Partition(partition), value: value.into() }
}

#[test]
fn a_preview_shows_rows_of_all_partitions_and_leaves_no_trace() {
    let case = case!();
    let produced = produce(&case.topic(4), round_robin(4, flights().take(4_000)));
    let mut connector = Connector::new(&case.unique("look"), &produced.topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);

    let shown = document(&case, &connector, &[]);
    assert_eq!(shown["columns_from"], "declared");
    let columns: Vec<_> = shown["columns"].as_array().unwrap().iter().collect();
    assert_eq!(*columns[0], json!({"name": "year", "type": "int", "nullable": false}));
    assert_eq!(columns.len(), FLIGHT_COLUMNS.len() + 2, "with `_kafka` and `_rescued`");
    let mut places: Vec<(i64, i64)> = shown["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["_kafka"])
        .map(|kafka| (kafka["partition"].as_i64().unwrap(), kafka["offset"].as_i64().unwrap()))
        .collect();
    places.sort_unstable();
    let expected: Vec<_> = (0..4).flat_map(|p| (0..5).map(move |offset| (p, offset))).collect();
    assert_eq!(places, expected, "the first five of each partition");

    let text = preview(&case, &connector, &["--records", "3"]).stdout;
    for part in ["3 records of 3 topic partitions", "declared", "tailnum", "Nothing was written"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert_no_trace(&connector);
}

#[test]
fn a_preview_shows_the_columns_that_a_run_then_infers() {
    let case = case!();
    let produced = produce(&case.topic(1), round_robin(1, flights().take(500)));
    let connector = Connector::new(&case.unique("look"), &produced.topic, &case.local_table());
    let shown = document(&case, &connector, &["--records", "2"]);
    assert_eq!(shown["columns_from"], "inferred");
    assert_eq!(shown["records"], 2);
    assert_no_trace(&connector);

    run_until_end(&case, &connector.write(&case)).start().wait(PATIENCE).assert_code(0);
    let names = |columns: &Value| -> Vec<String> {
        let columns = columns.as_array().unwrap().iter();
        columns.map(|column| column["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut inferred = names(&shown["columns"]);
    inferred.sort_unstable();
    let of_table: Vec<String> = reader::columns(&connector.location).into_keys().collect();
    assert_eq!(inferred, of_table);

    // From now on it is the table that says where to look, and how. Looking adds nothing beside it.
    let before = files(&connector);
    let at_end = document(&case, &connector, &[]);
    assert_eq!((&at_end["columns_from"], &at_end["records"]), (&json!("table"), &json!(0)));
    produce(&produced.topic, round_robin(1, flights().skip(500).take(7)));
    let next = document(&case, &connector, &[]);
    assert_eq!(next["records"], 7);
    assert_eq!(next["rows"][0]["_kafka"]["offset"], 500);
    assert_eq!(next["columns"], shown["columns"]);
    assert_eq!(files(&connector), before);
}

/// All files of the table's log.
fn files(connector: &Connector) -> Vec<String> {
    let log = std::fs::read_dir(connector.location.folder().join("_delta_log")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    let mut names: Vec<String> = log.map(name).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_preview_names_what_would_be_rejected_and_what_rescued() {
    let case = case!();
    let topic = case.topic(2);
    produce(
        &topic,
        [
            value(0, r#"{"id": 1, "note": "good"}"#),
            value(0, r#"{"id": "#),
            value(1, r#"{"id": 2, "unheard": {"of": true}}"#),
        ],
    );
    let mut connector = Connector::new(&case.unique("look"), &topic, &case.local_table());
    connector.columns = Some(ID);

    let shown = document(&case, &connector, &[]);
    assert_eq!(shown["rows"].as_array().unwrap().len(), 2);
    let place = |partition: i32, offset: i64| json!({"topic": topic, "partition": partition, "offset": offset});
    assert_eq!(shown["rejected"][0]["record"], place(0, 1));
    assert_eq!(shown["rejected"][0]["code"], "json_syntax");
    assert_eq!(shown["rescued"][0]["record"], place(1, 0));
    assert!(shown["rescued"][0]["fields"].as_str().unwrap().contains("unheard"));
    let text = preview(&case, &connector, &[]).stdout;
    for part in ["2 rows, 1 rejected", "json_syntax", &format!("{topic}-0 offset 1"), "unheard"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert_no_trace(&connector);
}

#[test]
fn a_preview_of_an_empty_topic_says_so() {
    let case = case!();
    let connector = Connector::new(&case.unique("look"), &case.topic(3), &case.local_table());
    let text = preview(&case, &connector, &[]).stdout;
    assert!(text.contains("there is no record to read"), "{text}");
    assert_eq!(document(&case, &connector, &[])["rows"], json!([]));
    assert_no_trace(&connector);
}
