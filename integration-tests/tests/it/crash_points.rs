//! The five windows in which a crash could lose records or repeat them: in each the worker aborts
//! itself at a fail point, is started again, and the table is exact.

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::producer::{Feed, round_robin};
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
    survives(&case!(), "w2_file_half_written", Leaves::NoRows);
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

    let crash = |when: &str| {
        let worker = run(case, &file).env("FAILPOINTS", &format!("{fail_point}={when}")).start();
        let ended = worker.wait(PATIENCE);
        assert!(
            ended.aborted(),
            "no abort at {fail_point}, but {}: built without fail points?",
            ended.status
        );
    };
    crash("return");
    assert_eq!(reader::rows(&connector.location) > 0, leaves == Leaves::Rows, "rows are visible");
    if leaves == Leaves::FilesWithoutRows {
        let files = format!("select count(*) from glob('{}/*.parquet')", connector.location.uri());
        assert_ne!(reader::value(&connector.location, &files), 0, "data files");
    }
    crash("1*off->return");
    let produced = feed.stop();

    run_until_end(case, &file).start().wait(PATIENCE).assert_code(0);
    assert_equal(case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}
