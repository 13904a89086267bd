//! The five windows in which a crash could lose records or repeat them: in each the worker aborts
//! itself at a fail point, is started again, and the table is exact.

use std::fs;
use std::path::Path;

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::{Column, Connector};
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::producer::{Feed, produce, round_robin};
use integration_tests::random::Random;
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::worker::{run, run_until_end};

use crate::PATIENCE;

/// What a crash in the very first round leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// Nothing that a reader sees.
    NoRows,
    /// Complete data files, and nothing that a reader sees.
    FilesWithoutRows,
    /// The round is committed.
    Rows,
}

#[test]
fn w1_rows_in_memory_are_read_again() {
    survives(&case!(), "w1_rows_in_memory", Leaves::NoRows);
}

#[test]
fn w2_files_half_written_are_no_part_of_the_table() {
    const PART: u64 = 16 * 1024 * 1024;
    const COLUMNS: &[Column] =
        &[Column { name: "noise", ours: "string", duckdb: "VARCHAR", nullable: false }];
    let case = case!();
    let topic = case.topic(4);
    let mut connector = Connector::new(&case.unique("crash"), &topic, &case.local_table());
    connector.columns = Some(COLUMNS);
    // What is larger than 16 MiB goes up in parts. Size alone ends a round, and there is enough for two.
    connector.write = vec!["file_size: 20MiB"];
    connector.commit_interval = "1h";
    let file = connector.write(&case);
    let mut random = Random::new(2);
    let records = (0..45_000).map(|_| format!(r#"{{"noise":"{}"}}"#, random.text(2_000)));
    let produced = produce(&topic, round_robin(4, records));
    let begun = || {
        let files = fs::read_dir(connector.location.folder()).unwrap().map(Result::unwrap);
        // So our store calls a file on the local disk as long as it is not whole. The rest of a round
        // may be on its way, too: a smaller file, which goes up as a whole.
        let begun = files.filter(|file| file.file_name().to_string_lossy().ends_with("#0"));
        begun.filter(|file| file.metadata().unwrap().len() >= PART).count()
    };

    crash(&case, &file, "w2_file_half_written", "return");
    assert_eq!(begun(), 1, "files half written");
    assert_eq!(reader::rows(&connector.location), 0, "rows are visible");
    crash(&case, &file, "w2_file_half_written", "1*off->return");
    assert_eq!(begun(), 2, "files half written");
    assert_ne!(reader::rows(&connector.location), 0, "rows of the round before");

    run_until_end(&case, &file).start().wait(PATIENCE).assert_code(0);
    assert_equal(&case, &[&produced], &connector.location, COLUMNS);
}

#[test]
fn w3_files_complete_but_unreferenced_are_no_part_of_the_table() {
    survives(&case!(), "w3_file_complete_unreferenced", Leaves::FilesWithoutRows);
}

#[test]
fn w4_a_commit_without_an_answer_counts_once() {
    survives(&case!(), "w4_commit_sent_no_answer", Leaves::Rows);
}

#[test]
fn w5_a_commit_that_was_not_settled_counts_once() {
    survives(&case!(), "w5_committed_not_settled", Leaves::Rows);
}

fn survives(case: &Case, fail_point: &str, leaves: Leaves) {
    let topic = case.topic(4);
    let mut connector = Connector::new(&case.unique("crash"), &topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    let file = connector.write(case);
    let feed = Feed::start(&topic, 2_000, round_robin(4, flights_for_ever()));

    crash(case, &file, fail_point, "return");
    assert_eq!(reader::rows(&connector.location) > 0, leaves == Leaves::Rows, "rows are visible");
    if leaves == Leaves::FilesWithoutRows {
        let files = format!("select count(*) from glob('{}/*.parquet')", connector.location.uri());
        assert_ne!(reader::value(&connector.location, &files), 0, "data files");
    }
    crash(case, &file, fail_point, "1*off->return");
    let produced = feed.stop();

    run_until_end(case, &file).start().wait(PATIENCE).assert_code(0);
    assert_equal(case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

/// Runs it until it aborts at the fail point.
#[track_caller]
fn crash(case: &Case, file: &Path, fail_point: &str, when: &str) {
    let worker = run(case, file).env("FAILPOINTS", &format!("{fail_point}={when}")).start();
    let ended = worker.wait(PATIENCE);
    assert!(
        ended.aborted(),
        "no abort at {fail_point}, but {}: built without fail points?",
        ended.status
    );
}
