//! What users of others ran into, where no other file has it. The numbers are those of the list of scenarios that
//! we hold ourselves to:
//!
//! | scenario | test |
//! |---|---|
//! | 1 two workers started together, 2 a worker joins | `two_workers`, `group_protocols`, `fire` |
//! | 15 a crash after upload, in the commit, after it | `crash_points`, `parquet`, `fire` |
//! | 16 many partition keys, high and low offsets mixed | here; positions move over whole ranges only: `offsets.rs`: `of_1_…` |
//! | 17 what was staged is gone | here |
//! | 18 a commit that is sent again | the contract tests: `a_retry_without_a_look_up_adds_no_rows` and others |
//! | 19 thousands of partition values in bounded memory | here |
//! | 20 a blocked store | `fire`; for ten minutes in the simulation: `outage.rs` |
//! | 21 an ambiguous commit | `fire`; each request in `connectors/tests/faults` |
//! | 22 a zombie | `two_workers`, `group_protocols`, `fire` |
//! | 23 somebody else's maintenance | `maintained` |
//! | 27 two connectors on one table, two of one name | here, `stops` |
//! | 33 a revoke in the middle of a commit | the simulation, by the engine's own check; `round.rs`: `fn_1_…` |

use std::fs;
use std::time::Duration;

use integration_tests::case;
use integration_tests::connector::{Column, Connector};
use integration_tests::datasets::{FLIGHT_COLUMNS, flights, flights_for_ever};
use integration_tests::producer::{Feed, Record, Route, produce, round_robin};
use integration_tests::reader;
use integration_tests::verifier::{assert_equal, assert_exactly_once};
use integration_tests::wait::{eventually, let_pass};
use integration_tests::worker::{Signal, Worker, run, run_until_end};

use crate::PATIENCE;

const DAYS: &[Column] = &[
    Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: false },
    Column { name: "day", ours: "string", duckdb: "VARCHAR", nullable: true },
];

/// Scenario 27.
#[test]
fn two_connectors_fill_one_table_together() {
    let case = case!();
    let location = case.local_table();
    let produced = [0, 10_000]
        .map(|skip| produce(&case.topic(2), round_robin(2, flights().skip(skip).take(10_000))));
    let workers = produced.each_ref().map(|produced| {
        let mut connector = Connector::new(&case.unique("shares"), &produced.topic, &location);
        connector.columns = Some(FLIGHT_COLUMNS);
        run_until_end(&case, &connector.write(&case)).start()
    });
    workers.into_iter().for_each(|worker| worker.wait(PATIENCE).assert_code(0));
    assert_equal(&case, &[&produced[0], &produced[1]], &location, FLIGHT_COLUMNS);
}

/// Scenarios 16 and 19: each of five thousand days has a folder, and records of all of them come mixed.
#[test]
fn thousands_of_partition_values_fit_into_bounded_memory() {
    const VALUES: i64 = 5_000;
    const MIB: u64 = 1024 * 1024;
    let case = case!();
    // Far apart in the log, so that no round has all records of a day.
    let records = (0..4 * VALUES).map(|id| Record {
        route: Route::Partition((id % 3) as i32),
        value: format!(r#"{{"id":{id},"day":"day-{}"}}"#, id * 7_919 % VALUES),
    });
    let produced = produce(&case.topic(3), records);
    let mut connector = Connector::new(&case.unique("days"), &produced.topic, &case.local_table());
    connector.columns = Some(DAYS);
    connector.partition_by = vec!["day"];
    let worker = run_until_end(&case, &connector.write(&case)).start();
    let most = worker.peak_until_end(PATIENCE);
    eprintln!("at most {} MiB", most / MIB);
    assert!(most < 512 * MIB, "it took {} MiB", most / MIB);
    assert_exactly_once(&[&produced], &connector.location);
    let days = reader::value(&connector.location, "select count(distinct day) from {table}");
    assert_eq!(days, VALUES);
}

/// Scenario 17: files that were staged and not committed are nobody's; who loses them loses nothing.
#[test]
fn a_folder_that_loses_its_staged_files_loses_no_row() {
    let case = case!();
    let produced = produce(&case.topic(2), round_robin(2, flights().take(5_000)));
    let mut connector =
        Connector::new(&case.unique("staged"), &produced.topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector.format = "parquet";
    let file = connector.write(&case);
    let crashing =
        run_until_end(&case, &file).env("FAILPOINTS", "w3_file_complete_unreferenced=return");
    assert!(crashing.start().wait(PATIENCE).aborted());
    let staged = fs::read_dir(connector.location.folder().join("_alluvium")).unwrap();
    let staged: Vec<_> = staged
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "staged"))
        .collect();
    assert_eq!(staged.len(), 1, "staged files are in one folder: {staged:?}");
    fs::remove_dir_all(&staged[0]).unwrap();

    run_until_end(&case, &file).start().wait(PATIENCE).assert_code(0);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

/// Each has an id of its own, so who is away for a moment keeps what it had.
#[test]
fn a_rolling_restart_of_three_workers_moves_no_topic_partition() {
    let case = case!();
    let topic = case.topic(6);
    let mut connector = Connector::new(&case.unique("rolling"), &topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector.properties =
        vec![("session.timeout.ms", "60000".into()), ("group.instance.id", "${env:PLACE}".into())];
    let file = connector.write(&case);
    let at = |place: &str| run(&case, &file).env("PLACE", place).start();
    let feed = Feed::start(&topic, 500, round_robin(6, flights_for_ever()));
    let mut workers: Vec<(&str, Worker)> =
        ["a", "b", "c"].into_iter().map(|place| (place, at(place))).collect();
    eventually(PATIENCE, "each has two topic partitions", || {
        workers.iter().all(|(_, worker)| worker.owned() == 2).then_some(())
    });
    let changes = |worker: &Worker| worker.stderr().matches("topic partitions").count();
    let before: Vec<usize> = workers.iter().map(|(_, worker)| changes(worker)).collect();
    for index in 0..workers.len() {
        let (place, worker) = workers.remove(index);
        worker.signal(Signal::Term);
        worker.wait(PATIENCE).assert_code(0);
        let back = at(place);
        eventually(PATIENCE, "it has two again", || (back.owned() == 2).then_some(()));
        workers.insert(index, (place, back));
        for (other, (_, worker)) in workers.iter().enumerate().filter(|(other, _)| *other > index) {
            assert_eq!(changes(worker), before[other], "what {other} noticed of {place}");
        }
        let_pass(Duration::from_millis(500));
    }
    for (place, worker) in &workers {
        assert_eq!(changes(worker), 1, "{place} was given its topic partitions once");
    }
    let produced = feed.stop();
    eventually(PATIENCE, "all rows are visible", || {
        (reader::rows(&connector.location) == produced.records.len() as u64).then_some(())
    });
    for (_, worker) in workers {
        worker.signal(Signal::Term);
        worker.wait(PATIENCE).assert_code(0);
    }
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}
