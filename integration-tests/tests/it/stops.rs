//! What must stop a connector: each ends it with exit code 3 and one message that says what was lost or
//! moved and how to go on. The messages are the files in `tests/golden/stops`.

use std::fs;
use std::time::Duration;

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::{Column, Connector};
use integration_tests::foreign_table::{losses, newest_action, write_version};
use integration_tests::golden::assert_golden;
use integration_tests::raw::{RawRecord, produce_raw};
use integration_tests::reader;
use integration_tests::wait::eventually;
use integration_tests::worker::{Ended, Launch, Signal, Worker, run, run_until_end};
use serde_json::json;

use crate::PATIENCE;

const A_PERSON_MUST_DECIDE: i32 = 3;

const COLUMNS: &[Column] = &[Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: true }];

/// A topic with one partition and a connector that has put its first ten records into the table.
struct Filled {
    case: Case,
    topic: String,
    connector: Connector,
}

impl Filled {
    fn new(case: Case) -> Filled {
        let topic = case.topic(1);
        let mut connector = Connector::new(&case.unique("stop"), &topic, &case.local_table());
        connector.columns = Some(COLUMNS);
        connector.commit_interval = "200ms";
        connector.write = vec!["idle_commit_interval: 1s"];
        let filled = Filled { case, topic, connector };
        filled.produce(10);
        filled.to_the_end().assert_code(0);
        assert_eq!(filled.rows(), 10);
        filled
    }

    fn produce(&self, count: usize) {
        let one = |id| RawRecord::of(0, format!(r#"{{"id":{id}}}"#));
        produce_raw(&self.topic, &(0..count).map(one).collect::<Vec<_>>());
    }

    fn rows(&self) -> u64 {
        reader::rows(&self.connector.location)
    }

    fn to_the_end(&self) -> Ended {
        run_until_end(&self.case, &self.connector.write(&self.case)).start().wait(PATIENCE)
    }

    /// Starts a worker that has committed a record of its own, and goes on.
    fn running(&self) -> Worker {
        let before = self.rows();
        self.produce(1);
        let worker = run(&self.case, &self.connector.write(&self.case)).start();
        eventually(PATIENCE, "the worker commits", || (self.rows() == before + 1).then_some(()));
        worker
    }

    /// Does what the message says, after which the connector goes on, and the table has so many rows.
    #[track_caller]
    fn goes_on_after_reset(&self, to: &str, rows: u64) {
        let file = self.connector.write(&self.case);
        let to = to.replace("TOPIC", &self.topic);
        let args = ["offsets", "reset", file.to_str().unwrap(), "--to", &to, "--yes"];
        Launch::new(&self.case, args).start().wait(PATIENCE).assert_code(0);
        self.to_the_end().assert_code(0);
        assert_eq!(self.rows(), rows, "rows after `offsets reset --to {to}`");
    }

    /// Deletes the topic and creates it again.
    fn recreate_topic(&self) {
        broker().delete_topic(&self.topic);
        eventually(PATIENCE, "the topic is gone", || {
            (!broker().topics().contains(&self.topic)).then_some(())
        });
        broker().create_topic(&self.topic, 1);
    }

    /// Fails the test unless it ended for a person to decide, with one message: that of the golden file.
    #[track_caller]
    fn assert_stopped(&self, ended: &Ended, golden: &str) {
        ended.assert_code(A_PERSON_MUST_DECIDE);
        let messages: Vec<&str> =
            ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let [message] = messages.as_slice() else {
            panic!("not one message but {messages:?} in:\n{}", ended.stderr)
        };
        let file = self.case.folder.join(format!("{}.yaml", self.connector.name));
        let words = [
            (file.to_str().unwrap(), "FILE"),
            (&*self.connector.location.uri(), "TABLE"),
            (self.topic.as_str(), "TOPIC"),
            (self.connector.name.as_str(), "NAME"),
        ];
        assert_golden(&format!("stops/{golden}"), message, &words);
    }
}

#[test]
fn records_that_retention_removed_before_they_were_read() {
    let filled = Filled::new(case!());
    filled.produce(20);
    broker().delete_records(&filled.topic, 0, 25);
    filled.assert_stopped(&filled.to_the_end(), "gap");
    assert_eq!(filled.rows(), 10, "nothing was skipped");
    filled.goes_on_after_reset("earliest", 15);
}

#[test]
fn records_that_retention_removed_under_a_running_worker() {
    let filled = Filled::new(case!());
    let worker = filled.running();
    worker.signal(Signal::Stop);
    filled.produce(30);
    broker().delete_records(&filled.topic, 0, 35);
    // librdkafka has fetched nothing of it: it stood still.
    worker.signal(Signal::Continue);
    filled.assert_stopped(&worker.wait(PATIENCE), "gap_while_running");
    assert_eq!(filled.rows(), 11, "nothing was skipped");
}

#[test]
fn a_gap_that_is_allowed_is_noted_in_the_commit() {
    let mut filled = Filled::new(case!());
    filled.produce(20);
    broker().delete_records(&filled.topic, 0, 25);
    filled.connector.kafka = vec!["on_gap: continue"];
    filled.to_the_end().assert_code(0);
    assert_eq!(filled.rows(), 15);
    let expected = format!("gap: {}-0 [10, 25) was removed before it was read", filled.topic);
    assert_eq!(losses(&filled.connector.location), [expected]);
    filled.to_the_end().assert_code(0);
    assert_eq!(filled.rows(), 15);
}

#[test]
fn a_table_that_is_ahead_of_the_log() {
    let filled = Filled::new(case!());
    let mut txn = newest_action(&filled.connector.location, "txn");
    txn["version"] = json!(1000);
    write_version(&filled.connector.location, &[json!({"txn": txn})]);
    filled.assert_stopped(&filled.to_the_end(), "beyond_end");
    assert_eq!(filled.rows(), 10);
    filled.goes_on_after_reset("earliest", 20);
}

#[test]
fn a_topic_that_was_deleted_and_created_again() {
    let filled = Filled::new(case!());
    filled.recreate_topic();
    filled.produce(5);
    filled.assert_stopped(&filled.to_the_end(), "recreated");
    assert_eq!(filled.rows(), 10);
}

#[test]
fn a_topic_that_is_created_again_under_a_running_worker() {
    let filled = Filled::new(case!());
    let worker = filled.running();
    filled.recreate_topic();
    filled.produce(50);
    filled.assert_stopped(&worker.wait(PATIENCE), "recreated_while_running");
    assert_eq!(filled.rows(), 11, "nothing of the new topic is in the table");
}

#[test]
fn a_topic_that_may_be_created_again_is_read_from_its_first_record() {
    let mut filled = Filled::new(case!());
    filled.recreate_topic();
    filled.produce(5);
    filled.connector.kafka = vec!["on_topic_recreated: continue", "start_at: latest"];
    filled.to_the_end().assert_code(0);
    assert_eq!(filled.rows(), 15);
    let losses = losses(&filled.connector.location);
    let expected = format!("topic recreated: {}-0 was read up to 10", filled.topic);
    assert!(losses.len() == 1 && losses[0].starts_with(&expected), "{losses:?}");
    filled.to_the_end().assert_code(0);
    assert_eq!(filled.rows(), 15);
}

#[test]
fn a_topic_that_may_be_created_again_is_read_on_by_a_running_worker() {
    let mut filled = Filled::new(case!());
    filled.connector.kafka = vec!["on_topic_recreated: continue"];
    let worker = filled.running();
    filled.recreate_topic();
    filled.produce(50);
    eventually(PATIENCE, "the new topic's records", || (filled.rows() == 61).then_some(()));
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
    assert_eq!(filled.rows(), 61);
}

#[test]
fn a_table_that_was_dropped() {
    let filled = Filled::new(case!());
    fs::remove_dir_all(filled.connector.location.folder()).unwrap();
    filled.assert_stopped(&filled.to_the_end(), "table_dropped");
    assert_eq!(reader::versions(&filled.connector.location), 0);
    filled.goes_on_after_reset("earliest", 10);
}

#[test]
fn a_table_that_was_dropped_and_made_by_somebody_else() {
    let filled = Filled::new(case!());
    let log = filled.connector.location.folder().join("_delta_log");
    let first = fs::read_to_string(log.join("00000000000000000000.json")).unwrap();
    fs::remove_dir_all(filled.connector.location.folder()).unwrap();
    fs::create_dir_all(&log).unwrap();
    fs::write(log.join("00000000000000000000.json"), first).unwrap();
    filled.assert_stopped(&filled.to_the_end(), "table_dropped");
    filled.goes_on_after_reset("earliest", 10);
}

#[test]
fn a_table_that_is_dropped_and_created_again_under_a_running_worker() {
    let filled = Filled::new(case!());
    let worker = filled.running();
    let log = filled.connector.location.folder().join("_delta_log");
    let first = fs::read_to_string(log.join("00000000000000000000.json")).unwrap();
    let id = newest_action(&filled.connector.location, "metaData")["id"].clone();
    fs::remove_dir_all(filled.connector.location.folder()).unwrap();
    fs::create_dir_all(&log).unwrap();
    let other = first.replace(id.as_str().unwrap(), "5e5a9a9c-7d55-4cbb-9b6c-2a1d6f0e4a11");
    fs::write(log.join("00000000000000000000.json"), other).unwrap();
    filled.produce(5);
    filled.assert_stopped(&worker.wait(PATIENCE), "table_replaced_while_running");
    assert_eq!(filled.rows(), 0);
}

#[test]
fn a_table_that_lost_its_last_commits() {
    let filled = Filled::new(case!());
    let before = reader::versions(&filled.connector.location);
    filled.produce(5);
    filled.to_the_end().assert_code(0);
    let log = filled.connector.location.folder().join("_delta_log");
    for version in before..reader::versions(&filled.connector.location) {
        for ending in ["json", "crc"] {
            drop(fs::remove_file(log.join(format!("{version:020}.{ending}"))));
        }
    }
    filled.assert_stopped(&filled.to_the_end(), "table_rolled_back");
    assert_eq!(filled.rows(), 10);
    filled.goes_on_after_reset("TOPIC:0=10", 15);
}

/// As Spark's RESTORE: rows go, and `txn` actions stay.
fn restore(filled: &Filled) {
    let add = newest_action(&filled.connector.location, "add");
    let remove =
        json!({"remove": {"path": add["path"], "deletionTimestamp": 0, "dataChange": true}});
    let info = json!({"commitInfo": {"timestamp": 0, "operation": "RESTORE", "operationParameters": {"version": "0"}}});
    write_version(&filled.connector.location, &[info, remove]);
}

/// A worker ended between the two commits of a round: its dead letter is there, and its five rows are not.
fn half_committed(case: Case) -> Filled {
    let filled = Filled::new(case);
    filled.produce(5);
    produce_raw(&filled.topic, &[RawRecord::of(0, "no json")]);
    let file = filled.connector.write(&filled.case);
    let crashing =
        run(&filled.case, &file).env("FAILPOINTS", "dead_letters_without_anchor=return").start();
    assert!(crashing.wait(PATIENCE).aborted(), "built without fail points?");
    filled
}

#[test]
fn a_configuration_that_was_changed_while_a_round_was_half_committed() {
    let mut filled = half_committed(case!());
    filled.connector.kafka = vec!["start_at: latest"];
    filled.assert_stopped(&filled.to_the_end(), "half_committed");
    assert_eq!(filled.rows(), 10);
    // The first way: the previous configuration ends the round, and then any may go on.
    filled.connector.kafka.clear();
    filled.to_the_end().assert_code(0);
    filled.connector.kafka = vec!["start_at: latest"];
    filled.produce(1);
    filled.to_the_end().assert_code(0);
    assert_eq!((filled.rows(), reader::rows(&filled.connector.dead_letters())), (16, 1));
}

#[test]
fn a_half_committed_round_may_be_decided_anew() {
    let mut filled = half_committed(case!());
    filled.connector.kafka = vec!["start_at: latest"];
    // The group misses the worker that crashed only when it has a new member.
    filled.to_the_end().assert_code(A_PERSON_MUST_DECIDE);
    filled.goes_on_after_reset("TOPIC:0=10", 15);
    assert_eq!(reader::rows(&filled.connector.dead_letters()), 2, "there a second time");
}

#[test]
fn a_table_that_was_restored_to_an_older_version() {
    let filled = Filled::new(case!());
    restore(&filled);
    filled.produce(5);
    filled.assert_stopped(&filled.to_the_end(), "table_restored");
    assert_eq!(filled.rows(), 0);
    filled.goes_on_after_reset("TOPIC:0=0", 15);
}

#[test]
fn a_table_that_was_restored_to_a_version_behind_our_commits_has_lost_nothing() {
    let filled = Filled::new(case!());
    let now = reader::versions(&filled.connector.location) - 1;
    let parameters = json!({"version": now.to_string()});
    let info = json!({"timestamp": 0, "operation": "RESTORE", "operationParameters": parameters});
    write_version(&filled.connector.location, &[json!({"commitInfo": info})]);
    filled.produce(5);
    filled.to_the_end().assert_code(0);
    assert_eq!(filled.rows(), 15);
}

#[test]
fn a_table_that_is_restored_under_a_running_worker() {
    let filled = Filled::new(case!());
    let worker = filled.running();
    restore(&filled);
    filled.produce(5);
    filled.assert_stopped(&worker.wait(PATIENCE), "table_restored_while_running");
    assert_eq!(filled.rows(), 10);
}

#[test]
fn a_table_whose_stored_offsets_would_expire() {
    let filled = Filled::new(case!());
    let mut metadata = newest_action(&filled.connector.location, "metaData");
    metadata["configuration"]["delta.setTransactionRetentionDuration"] = json!("interval 1 days");
    let worker = filled.running();
    write_version(&filled.connector.location, &[json!({"metaData": metadata})]);
    filled.produce(5);
    filled.assert_stopped(&worker.wait(PATIENCE), "transaction_retention");
    filled.assert_stopped(&filled.to_the_end(), "transaction_retention");
    assert_eq!(filled.rows(), 11);
}

#[test]
fn a_second_connector_of_the_same_name() {
    let filled = Filled::new(case!());
    let mut rival = filled.connector.clone();
    rival.properties.push(("group.id", filled.case.unique("rival")));
    let first = run(&filled.case, &filled.connector.write(&filled.case)).start();
    let yaml = filled.case.write("rival.yaml", &rival.yaml());
    let second = run(&filled.case, &yaml).start();
    let mut workers = vec![first, second];
    let ended = eventually(Duration::from_secs(60), "one of the rivals stops", || {
        filled.produce(3);
        let over = workers.iter_mut().position(|worker| worker.has_ended())?;
        Some(workers.swap_remove(over).wait(PATIENCE))
    });
    ended.assert_code(A_PERSON_MUST_DECIDE);
    assert!(ended.stderr.contains("another worker commits under the name"), "{}", ended.stderr);
    drop(workers);
    filled.to_the_end().assert_code(0);
    assert_eq!(filled.rows(), broker().end_offset(&filled.topic, 0) as u64, "each record once");
}
