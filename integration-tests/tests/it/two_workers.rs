//! Several workers on one connector.

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights, flights_for_ever};
use integration_tests::producer::{Feed, produce, round_robin};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::eventually;
use integration_tests::worker::{Signal, Worker, run, run_until_end};

use crate::PATIENCE;
use crate::errors::assert_failed;

fn connector(case: &Case, topic: &str) -> Connector {
    let mut connector = Connector::new(&case.unique("shared"), topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector
}

/// Waits until so many members share the four topic partitions, each with as many as the others.
fn wait_for_members(connector: &Connector, count: usize) {
    eventually(PATIENCE, &format!("{count} members share the topic"), || {
        let members = broker().members(&connector.group());
        let shares = members.iter().all(|member| member.topic_partitions.len() == 4 / count);
        (members.len() == count && shares).then_some(())
    });
}

fn wait_for_rows(connector: &Connector, rows: u64) {
    eventually(PATIENCE, &format!("{rows} rows are visible"), || {
        (reader::rows(&connector.location) >= rows).then_some(())
    });
}

/// Each worker must have brought some of the rows.
fn drain(workers: [Worker; 2]) {
    for worker in &workers {
        assert!(
            worker.stderr().contains("round settled"),
            "a worker committed nothing:\n{}",
            worker.stderr()
        );
        worker.signal(Signal::Term);
    }
    workers.into_iter().for_each(|worker| worker.wait(PATIENCE).assert_code(0));
}

#[test]
fn two_workers_started_together_share_the_topic_and_are_exact() {
    let case = case!();
    let topic = case.topic(4);
    let connector = connector(&case, &topic);
    let file = connector.write(&case);
    let mut produced = produce(&topic, round_robin(4, flights().take(20_000)));

    // Neither finds a table, so both set about creating it.
    let workers = [run(&case, &file).start(), run(&case, &file).start()];
    wait_for_members(&connector, 2);
    // These are on all topic partitions, so both workers must bring some of them.
    produced.extend(produce(&topic, round_robin(4, flights().skip(20_000).take(20_000))));
    wait_for_rows(&connector, 40_000);

    drain(workers);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

#[test]
fn a_frozen_worker_that_wakes_up_repeats_nothing_of_what_another_has_done() {
    let case = case!();
    let topic = case.topic(4);
    let connector = connector(&case, &topic);
    let file = connector.write(&case);
    let feed = Feed::start(&topic, 1_000, round_robin(4, flights_for_ever()));
    let workers = [run(&case, &file).start(), run(&case, &file).start()];
    wait_for_members(&connector, 2);
    wait_for_rows(&connector, 1);

    // In the midst of its work, with rows of a round in memory.
    workers[0].signal(Signal::Stop);
    wait_for_members(&connector, 1);
    // The other has committed what the frozen one had in memory.
    wait_for_rows(&connector, reader::rows(&connector.location) + 5_000);
    workers[0].signal(Signal::Continue);
    wait_for_members(&connector, 2);
    feed.wait_for(2_000);

    let produced = feed.stop();
    drain(workers);
    run_until_end(&case, &file).start().wait(PATIENCE).assert_code(0);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

#[test]
fn a_worker_with_a_place_of_its_own_comes_back_to_what_it_had() {
    let case = case!();
    let topic = case.topic(4);
    let mut connector = connector(&case, &topic);
    // Long enough that nobody misses a worker that starts again.
    connector.properties =
        vec![("session.timeout.ms", "60000".into()), ("group.instance.id", "${env:PLACE}".into())];
    let file = connector.write(&case);
    let at = |place: &str| run(&case, &file).env("PLACE", place).start();
    let feed = Feed::start(&topic, 1_000, round_robin(4, flights_for_ever()));
    let [leaving, staying] = [at("a"), at("b")];
    wait_for_members(&connector, 2);
    wait_for_rows(&connector, 1);

    let shares = broker().members(&connector.group());
    let changes = || staying.stderr().matches("topic partitions").count();
    let before = changes();
    leaving.signal(Signal::Term);
    leaving.wait(PATIENCE).assert_code(0);
    assert_eq!(broker().members(&connector.group()), shares, "members while one is away");
    let back = at("a");
    eventually(PATIENCE, "it has again what it had", || (back.owned() == 2).then_some(()));
    feed.wait_for(2_000);

    let produced = feed.stop();
    wait_for_rows(&connector, produced.records.len() as u64);
    assert_eq!(changes(), before, "changes that the other worker has noticed");
    drain([back, staying]);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

/// With one id for all, each would throw the other one out, again and again.
#[test]
fn a_second_worker_with_the_same_place_ends_the_first_with_a_reason() {
    let case = case!();
    let topic = case.topic(4);
    let mut connector = connector(&case, &topic);
    connector.properties.push(("group.instance.id", "worker-1".into()));
    let file = connector.write(&case);
    let feed = Feed::start(&topic, 1_000, round_robin(4, flights_for_ever()));
    let first = run(&case, &file).start();
    wait_for_rows(&connector, 1);
    let second = run(&case, &file).start();
    let ended = first.wait(PATIENCE);
    assert_failed(&ended, &[&connector.name, "group.instance.id", "${env:HOSTNAME}"]);
    eventually(PATIENCE, "the second has everything", || (second.owned() == 4).then_some(()));

    let produced = feed.stop();
    wait_for_rows(&connector, produced.records.len() as u64);
    second.signal(Signal::Term);
    second.wait(PATIENCE).assert_code(0);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}
