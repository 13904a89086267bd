//! Wall clocks that jump, and workers whose clocks differ. A table on local disk, whose `txn`s do not expire, takes
//! from them only how files are called and when they are swept, and what people read. Elsewhere more depends on
//! them: stores refuse requests of another day, certificates end, and the Delta kernel drops `txn`s that are older
//! than a table's own `delta.setTransactionRetentionDuration`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::location::Location;
use integration_tests::producer::{Feed, round_robin};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::{eventually, unix_ms};
use integration_tests::wall_clock::WallClock;
use integration_tests::worker::{Signal, Worker, run};
use serde_json::Value;

use crate::PATIENCE;

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

/// How far the clocks of both workers are off, in seconds. The first one is started anew after each jump. The second
/// one goes on, so its clock jumps ahead only: librdkafka waits for times of the day, and who waits while the clock
/// is set back may wait for as long as it was set back.
const JUMPS: &[(i64, i64)] = &[
    (400 * DAY, 0),
    (-400 * DAY, HOUR),
    (10 * DAY, 3 * DAY + HOUR),
    (-HOUR, 400 * DAY),
    (0, 400 * DAY),
];

#[test]
fn a_clock_is_moved_for_one_process() {
    let case = case!();
    let clock = WallClock::new(&case, "clock");
    let year = || -> i32 {
        let date = Command::new("date")
            .arg("+%Y")
            .envs(clock.variables().iter().cloned())
            .output()
            .unwrap();
        String::from_utf8(date.stdout).unwrap().trim().parse().unwrap()
    };
    let now = year();
    clock.set_off(800 * DAY);
    assert!((now + 2..=now + 3).contains(&year()));
    clock.set_off(-800 * DAY);
    assert!((now - 3..=now - 2).contains(&year()));
}

#[test]
fn a_delta_table_is_exact_though_clocks_jump() {
    let case = case!();
    let location = case.local_table();
    jump(&case, "delta", &location);
}

#[test]
fn a_folder_of_parquet_files_is_exact_though_clocks_jump() {
    let case = case!();
    let location = case.local_table();
    jump(&case, "parquet", &location);
}

fn jump(case: &Case, format: &'static str, location: &Location) {
    let topic = case.topic(6);
    let mut connector = Connector::new(&case.unique("clocks"), &topic, location);
    connector.format = format;
    connector.columns = Some(FLIGHT_COLUMNS);
    connector.commit_interval = "300ms";
    let file = connector.write(case);
    let feed = Feed::start(&topic, 500, round_robin(6, flights_for_ever()));

    let clocks = [WallClock::new(case, "clock-1"), WallClock::new(case, "clock-2")];
    let start = |clock: &WallClock, file: &Path| -> Worker {
        let launch = run(case, file);
        clock.variables().iter().fold(launch, |launch, (key, value)| launch.env(key, value)).start()
    };
    let mut first = start(&clocks[0], &file);
    let mut second = start(&clocks[1], &file);
    for (one, other) in JUMPS {
        clocks[0].set_off(*one);
        clocks[1].set_off(*other);
        wait_for_more(location, &format!("the clocks are off by {one} s and {other} s"));
        // One that is started with such a clock.
        first.kill_nine();
        first = start(&clocks[0], &file);
        eventually(PATIENCE, "it has its part", || (first.owned() > 0).then_some(()));
        wait_for_more(location, &format!("one was started with a clock that is off by {one} s"));
        second.assert_running();
    }
    let far = unix_ms() + 399 * DAY * 1000;
    assert!(commit_times_ms(location).iter().any(|time| *time > far), "no worker had such a clock");

    let produced = feed.stop();
    eventually(PATIENCE, "all rows are visible", || {
        (reader::rows(location) == produced.records.len() as u64).then_some(())
    });
    for worker in [first, second] {
        worker.signal(Signal::Term);
        worker.wait(Duration::from_secs(60)).assert_code(0);
    }
    assert_equal(case, &[&produced], location, FLIGHT_COLUMNS);
}

fn wait_for_more(location: &Location, when: &str) {
    let before = reader::rows(location);
    eventually(PATIENCE, when, || (reader::rows(location) > before + 500).then_some(()));
}

/// When commits were made, by the clocks of their workers, as far as the table tells.
fn commit_times_ms(location: &Location) -> Vec<i64> {
    let read = |folder: &str, ending: &str| -> Vec<Value> {
        let entries = fs::read_dir(location.folder().join(folder)).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        let named = paths.filter(|path| path.to_string_lossy().ends_with(ending));
        let texts: Vec<String> = named.map(|path| fs::read_to_string(path).unwrap()).collect();
        let values = |text: &String| -> Vec<Value> {
            let values = serde_json::Deserializer::from_str(text).into_iter();
            values.map(Result::unwrap).collect()
        };
        texts.iter().flat_map(values).collect()
    };
    let versions = read("_delta_log", ".json");
    let in_log = versions.iter().filter_map(|action| action["commitInfo"]["timestamp"].as_i64());
    let ledgers = read("_alluvium", ".ledger.json");
    let history = ledgers.iter().flat_map(|ledger| ledger["history"].as_array().unwrap());
    in_log.chain(history.map(|entry| entry["timestamp"].as_i64().unwrap())).collect()
}
