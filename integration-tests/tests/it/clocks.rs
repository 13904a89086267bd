//! Wall clocks that jump, and machines whose clocks differ: nothing depends on them but what a file is called,
//! when it is swept, and what people read.
//!
//! SCENARIOS: 19 of the peers' pitfalls (clock, wall-clock flush).

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
use integration_tests::wait::eventually;
use integration_tests::wall_clock::WallClock;
use integration_tests::worker::{Signal, Worker, run};

use crate::PATIENCE;

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

/// How far the clocks of both workers are off, in seconds.
const JUMPS: &[(i64, i64)] = &[
    (400 * DAY, 0),
    (400 * DAY, -2 * HOUR),
    (-HOUR, 0),
    (-400 * DAY, 10 * DAY),
    (0, -400 * DAY),
    (0, 0),
];

#[test]
fn a_clock_is_moved_for_one_process() {
    let case = case!();
    let clock = WallClock::right(&case, "clock");
    let year = || -> i32 {
        let date = Command::new("date")
            .arg("+%Y")
            .envs(clock.variables().iter().cloned())
            .output()
            .unwrap();
        String::from_utf8(date.stdout).unwrap().trim().parse().unwrap()
    };
    let now = year();
    clock.is_off(800 * DAY);
    assert!((now + 2..=now + 3).contains(&year()));
    clock.is_off(-800 * DAY);
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

    let clocks = [WallClock::right(case, "clock-1"), WallClock::right(case, "clock-2")];
    let start = |clock: &WallClock, file: &Path| -> Worker {
        let launch = run(case, file);
        clock.variables().iter().fold(launch, |launch, (key, value)| launch.env(key, value)).start()
    };
    let mut workers = clocks.each_ref().map(|clock| start(clock, &file));
    for (one, other) in JUMPS {
        clocks[0].is_off(*one);
        clocks[1].is_off(*other);
        wait_for_more(location, &format!("the clocks are off by {one} s and {other} s"));
        // One that is started with such a clock.
        workers[0].signal(Signal::Kill);
        workers[0] = start(&clocks[0], &file);
        wait_for_more(location, &format!("one was started with a clock that is off by {one} s"));
    }

    let produced = feed.stop();
    eventually(PATIENCE, "all rows are visible", || {
        (reader::rows(location) == produced.records.len() as u64).then_some(())
    });
    for worker in workers {
        worker.signal(Signal::Term);
        worker.wait(Duration::from_secs(60)).assert_code(0);
    }
    assert_equal(case, &[&produced], location, FLIGHT_COLUMNS);
}

fn wait_for_more(location: &Location, when: &str) {
    let before = reader::rows(location);
    eventually(PATIENCE, when, || (reader::rows(location) > before + 500).then_some(()));
}
