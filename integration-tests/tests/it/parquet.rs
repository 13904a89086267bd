//! Plain Parquet files: exactly once, judged by listing the folder only.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::{Column, Connector};
use integration_tests::datasets::{FLIGHT_COLUMNS, flights, flights_for_ever};
use integration_tests::location::Location;
use integration_tests::producer::{Feed, produce, round_robin};
use integration_tests::raw::{RawRecord, produce_raw};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::unix_ms;
use integration_tests::worker::{Launch, run, run_until_end};
use serde_json::{Value, json};

use crate::PATIENCE;

fn connector(case: &Case, topic: &str, location: &Location) -> Connector {
    let mut connector = Connector::new(&case.unique("plain"), topic, location);
    connector.format = "parquet";
    connector.columns = Some(FLIGHT_COLUMNS);
    connector
}

fn to_the_end(case: &Case, connector: &Connector) {
    run_until_end(case, &connector.write(case)).start().wait(PATIENCE).assert_code(0);
}

/// The names of all files below a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(open) = folders.pop() {
        for entry in fs::read_dir(open).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => names.push(path.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    names.sort_unstable();
    names
}

#[test]
fn a_topic_becomes_a_folder_of_files_and_nothing_is_left_beside_them() {
    let case = case!();
    let topic = case.topic(4);
    let connector = connector(&case, &topic, &case.local_table());
    let mut produced = produce(&topic, round_robin(4, flights().take(10_000)));
    to_the_end(&case, &connector);
    produced.extend(produce(&topic, round_robin(4, flights().skip(10_000).take(10_000))));
    to_the_end(&case, &connector);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);

    let ours: Vec<String> = names(connector.location.folder())
        .into_iter()
        .filter(|name| !(name.starts_with("part-") && name.ends_with(".zstd.parquet")))
        .collect();
    let ledger = format!("_alluvium/{}.ledger.json", connector.name);
    assert_eq!(ours, ["_alluvium/.lock#0", ledger.as_str(), "_alluvium/table.json"]);

    let file = connector.write(&case);
    let shown = Launch::new(&case, ["offsets", "show", file.to_str().unwrap(), "--json"])
        .start()
        .wait(PATIENCE);
    shown.assert_code(0);
    for partition in 0..4 {
        let end = broker().end_offset(&topic, partition);
        assert!(shown.stdout.contains(&end.to_string()), "{end} in {}", shown.stdout);
    }
    let sql = format!("select count(*) as rows from {}", connector.name.replace('-', "_"));
    let counted =
        Launch::new(&case, ["query", file.to_str().unwrap(), &sql]).start().wait(PATIENCE);
    counted.assert_code(0);
    assert!(counted.stdout.contains("20000"), "{}", counted.stdout);
}

#[test]
fn a_bucket_holds_a_table_of_files() {
    let case = case!();
    let topic = case.topic(4);
    let connector = connector(&case, &topic, &case.s3_table());
    let produced = produce(&topic, round_robin(4, flights().take(10_000)));
    to_the_end(&case, &connector);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
    let staged = format!("{}/_alluvium/*.staged/*", connector.location.uri());
    assert_eq!(reader::files(&connector.location, &staged), 0, "files left behind");
}

#[test]
fn bad_records_are_files_of_their_own() {
    let case = case!();
    let topic = case.topic(1);
    const COLUMNS: &[Column] =
        &[Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: false }];
    let mut connector = connector(&case, &topic, &case.local_table());
    connector.columns = Some(COLUMNS);
    let record = |id: i32| match id % 5 {
        0 => RawRecord::of(0, "no json"),
        _ => RawRecord::of(0, format!(r#"{{"id":{id}}}"#)),
    };
    produce_raw(&topic, &(0..50).map(record).collect::<Vec<_>>());
    let file = connector.write(&case);
    let worker = run(&case, &file).env("FAILPOINTS", "dead_letters_without_anchor=return");
    assert!(worker.start().wait(PATIENCE).aborted(), "built without fail points?");
    assert_eq!(reader::rows(&connector.location), 0);
    to_the_end(&case, &connector);
    assert_eq!(reader::rows(&connector.location), 40);
    assert_eq!(reader::rows(&connector.dead_letters()), 10);
}

#[test]
fn folders_are_those_of_hive_and_a_null_has_one_too() {
    let case = case!();
    let topic = case.topic(1);
    const COLUMNS: &[Column] = &[
        Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: false },
        Column { name: "day", ours: "date", duckdb: "DATE", nullable: true },
        Column { name: "where", ours: "string", duckdb: "VARCHAR", nullable: true },
    ];
    let mut connector = connector(&case, &topic, &case.local_table());
    connector.columns = Some(COLUMNS);
    connector.partition_by = vec!["day", "where"];
    let records = [
        r#"{"id":1,"day":"2026-11-24","where":"süd/öst=1 %20"}"#,
        r#"{"id":2,"day":null,"where":"here"}"#,
        r#"{"id":3,"day":"2026-11-24","where":null}"#,
    ];
    produce_raw(&topic, &records.map(|record| RawRecord::of(0, record)));
    to_the_end(&case, &connector);
    let rows = reader::query(
        &connector.location,
        "select id, day::varchar, \"where\" from {table} order by id",
    );
    let expected = [
        vec![json!(1), json!("2026-11-24"), json!("süd/öst=1 %20")],
        vec![json!(2), Value::Null, json!("here")],
        vec![json!(3), json!("2026-11-24"), Value::Null],
    ];
    assert_eq!(rows, expected);
}

#[test]
fn units_of_time_choose_folders_late_and_null_values_too() {
    let case = case!();
    let topic = case.topic(1);
    const COLUMNS: &[Column] = &[
        Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: false },
        Column { name: "ts", ours: "timestamp", duckdb: "TIMESTAMPTZ", nullable: true },
    ];
    let mut connector = connector(&case, &topic, &case.local_table());
    connector.columns = Some(COLUMNS);
    connector.partition_by = vec!["year(ts)", "day(ts)"];
    let records = [
        r#"{"id":1,"ts":"2026-11-24T23:59:59.999999Z"}"#,
        r#"{"id":2,"ts":"2026-11-25T01:00:00+02:00"}"#,
        r#"{"id":3,"ts":"1969-07-20T20:17:40Z"}"#,
        r#"{"id":4}"#,
    ];
    produce_raw(&topic, &records.map(|record| RawRecord::of(0, record)));
    to_the_end(&case, &connector);
    let null = "__HIVE_DEFAULT_PARTITION__";
    let expected = [
        "ts_year=1969/ts_day=1969-07-20".to_owned(),
        "ts_year=2026/ts_day=2026-11-24".to_owned(),
        format!("ts_year={null}/ts_day={null}"),
    ];
    let names = names(connector.location.folder());
    let mut folders: Vec<&str> = names
        .iter()
        .filter_map(|name| name.rsplit_once('/'))
        .map(|(folder, _)| folder)
        .filter(|folder| !folder.starts_with('_'))
        .collect();
    folders.dedup();
    assert_eq!(folders, expected);
    // The column stays in the files: a folder says less than its values.
    let sql =
        "select id, ts::varchar, ts_day::varchar from {table} where ts_year = 2026 order by id";
    let expected = [
        vec![json!(1), json!("2026-11-24 23:59:59.999999+00"), json!("2026-11-24")],
        vec![json!(2), json!("2026-11-24 23:00:00+00"), json!("2026-11-24")],
    ];
    assert_eq!(reader::query(&connector.location, sql), expected);
}

#[test]
fn w1_rows_in_memory_are_read_again() {
    survives(&case!(), "w1_rows_in_memory", false);
}

#[test]
fn w3_staged_files_are_no_part_of_the_table() {
    survives(&case!(), "w3_file_complete_unreferenced", false);
}

#[test]
fn w4_a_decided_commit_is_published_by_the_next_worker() {
    survives(&case!(), "w4_decided_not_published", false);
}

#[test]
fn w5_a_published_commit_that_the_ledger_does_not_know_of_counts_once() {
    survives(&case!(), "w5_published_not_noted", true);
}

fn survives(case: &Case, fail_point: &str, visible: bool) {
    let topic = case.topic(4);
    let connector = connector(case, &topic, &case.local_table());
    let file = connector.write(case);
    let feed = Feed::start(&topic, 2_000, round_robin(4, flights_for_ever()));
    crash(case, &file, fail_point, "return");
    assert_eq!(reader::rows(&connector.location) > 0, visible, "rows are visible");
    crash(case, &file, fail_point, "1*off->return");
    let produced = feed.stop();
    to_the_end(case, &connector);
    assert_equal(case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

#[test]
fn mn_1_staged_files_of_a_dropped_round_go_when_they_are_old_and_nothing_else_does() {
    let case = case!();
    let topic = case.topic(4);
    let connector = connector(&case, &topic, &case.local_table());
    let file = connector.write(&case);
    let mut produced = produce(&topic, round_robin(4, flights().take(5_000)));
    crash(&case, &file, "w3_file_complete_unreferenced", "return");
    let folder = connector.location.folder().clone();
    let staged = || -> Vec<PathBuf> {
        let names = names(&folder).into_iter().filter(|name| name.contains(".staged/part-"));
        names.map(|name| folder.join(name)).collect()
    };
    let maintain = || {
        let args = ["maintain", file.to_str().unwrap()];
        let ended = Launch::new(&case, args).start().wait(PATIENCE);
        ended.assert_code(0);
        ended.stdout
    };
    let left = staged();
    assert_ne!(left.len(), 0, "the crash left nothing behind");
    assert!(maintain().contains("nothing was due"), "they are young");
    assert_eq!(staged(), left);
    for path in &left {
        let days = 4 * 24 * 60 * 60 * 1_000;
        let then = UNIX_EPOCH + Duration::from_millis((unix_ms() - days) as u64);
        fs::File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
    }
    let told = maintain();
    assert!(
        told.contains(&format!("{} staged files of dropped rounds removed", left.len())),
        "{told}"
    );
    assert_eq!(staged(), [] as [PathBuf; 0]);

    produced.extend(produce(&topic, round_robin(4, flights().skip(5_000).take(5_000))));
    to_the_end(&case, &connector);
    maintain();
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

/// Runs it until it aborts at the fail point.
#[track_caller]
fn crash(case: &Case, file: &Path, fail_point: &str, when: &str) {
    let worker = run(case, file).env("FAILPOINTS", &format!("{fail_point}={when}")).start();
    assert!(
        worker.wait(PATIENCE).aborted(),
        "no abort at {fail_point}: built without fail points?"
    );
}

#[test]
fn a_configuration_that_is_changed_after_a_crash_does_not_change_what_was_decided() {
    let case = case!();
    let topic = case.topic(4);
    let mut connector = connector(&case, &topic, &case.local_table());
    let mut produced = produce(&topic, round_robin(4, flights().take(5_000)));
    crash(&case, &connector.write(&case), "w4_decided_not_published", "return");
    assert_eq!(reader::rows(&connector.location), 0);

    // Other files, of another size, of other rows if they were made again.
    connector.write = vec!["compression: snappy", "file_size: 1MiB"];
    connector.kafka = vec!["start_at: latest"];
    connector.top = vec!["on_bad_record: drop".to_owned()];
    produced.extend(produce(&topic, round_robin(4, flights().skip(5_000).take(5_000))));
    to_the_end(&case, &connector);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}
