//! The ways in which workers can agree on who reads what, besides the default. Whichever it is, each
//! record is in the table once.

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::producer::{Feed, Record, Route, produce_in_transactions, round_robin};
use integration_tests::random::Random;
use integration_tests::reader;
use integration_tests::verifier::{assert_equal, assert_exactly_once};
use integration_tests::wait::eventually;
use integration_tests::worker::{Signal, Worker, run, run_until_end};

use crate::PATIENCE;
use crate::errors::{BOUND, assert_failed};

#[derive(Debug, Clone, Copy)]
enum Protocol {
    /// KIP-848: the broker says who reads what.
    Broker,
    /// The members agree, and each hands back all that it has before it gets anything.
    Eager,
}

fn connector(case: &Case, topic: &str, protocol: Protocol) -> Connector {
    let mut connector = Connector::new(&case.unique("group"), topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    match protocol {
        // How soon a member is missed is the broker's to say, too.
        Protocol::Broker => connector.properties = vec![("group.protocol", "consumer".into())],
        Protocol::Eager => {
            connector.properties.push(("partition.assignment.strategy", "range".into()))
        }
    }
    connector
}

/// A protocol that the connector does not use would make a test of it worthless.
#[track_caller]
fn assert_used(protocol: Protocol, connector: &Connector) {
    let expected = match protocol {
        Protocol::Broker => None,
        Protocol::Eager => Some("range"),
    };
    assert_eq!(broker().group_strategy(&connector.group()).as_deref(), expected);
}

#[track_caller]
fn wait_for_shares(shares: &[(&Worker, u64)]) {
    eventually(PATIENCE, "the workers share the topic", || {
        shares.iter().all(|(worker, share)| worker.owned() == *share).then_some(())
    });
}

#[track_caller]
fn wait_for_commit(worker: &Worker) {
    eventually(PATIENCE, "the worker commits", || {
        worker.stderr().contains("round settled").then_some(())
    });
}

fn drain(worker: Worker) {
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
}

/// Two workers share a topic while records arrive; one is drained, and then another joins.
fn workers_come_and_go(case: &Case, protocol: Protocol) {
    let topic = case.topic(4);
    let connector = connector(case, &topic, protocol);
    let file = connector.write(case);
    let feed = Feed::start(&topic, 1_000, round_robin(4, flights_for_ever()));

    let [first, second] = [run(case, &file).start(), run(case, &file).start()];
    wait_for_shares(&[(&first, 2), (&second, 2)]);
    assert_used(protocol, &connector);
    wait_for_commit(&first);
    drain(first);
    wait_for_shares(&[(&second, 4)]);
    let third = run(case, &file).start();
    wait_for_shares(&[(&second, 2), (&third, 2)]);
    wait_for_commit(&third);
    feed.wait_for(1_000);

    let produced = feed.stop();
    wait_for_commit(&second);
    drain(second);
    drain(third);
    run_until_end(case, &file).start().wait(PATIENCE).assert_code(0);
    assert_equal(case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

/// Two workers share a topic; one is frozen until the other has done its work, and wakes up.
fn a_worker_wakes_up(case: &Case, protocol: Protocol) {
    let topic = case.topic(4);
    let connector = connector(case, &topic, protocol);
    let file = connector.write(case);
    let feed = Feed::start(&topic, 1_000, round_robin(4, flights_for_ever()));
    let [frozen, other] = [run(case, &file).start(), run(case, &file).start()];
    wait_for_shares(&[(&frozen, 2), (&other, 2)]);
    assert_used(protocol, &connector);
    wait_for_commit(&frozen);

    frozen.signal(Signal::Stop);
    wait_for_shares(&[(&other, 4)]);
    let rows = reader::rows(&connector.location) + 5_000;
    eventually(PATIENCE, "the other has brought what the frozen one had in memory", || {
        (reader::rows(&connector.location) >= rows).then_some(())
    });
    frozen.signal(Signal::Continue);
    // It learns what it has lost, and then it gets something again.
    wait_for_shares(&[(&frozen, 2), (&other, 2)]);
    feed.wait_for(2_000);

    let produced = feed.stop();
    drain(frozen);
    drain(other);
    run_until_end(case, &file).start().wait(PATIENCE).assert_code(0);
    assert_equal(case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

#[test]
fn workers_come_and_go_where_the_broker_shares_out_the_topic() {
    workers_come_and_go(&case!(), Protocol::Broker);
}

#[test]
fn workers_come_and_go_where_all_is_handed_back_first() {
    workers_come_and_go(&case!(), Protocol::Eager);
}

#[test]
fn a_worker_wakes_up_where_the_broker_shares_out_the_topic() {
    a_worker_wakes_up(&case!(), Protocol::Broker);
}

#[test]
fn a_worker_wakes_up_where_all_is_handed_back_first() {
    a_worker_wakes_up(&case!(), Protocol::Eager);
}

#[test]
fn a_session_time_out_is_refused_where_it_is_the_broker_s_to_say() {
    let case = case!();
    let mut connector = connector(&case, &case.topic(1), Protocol::Broker);
    connector.properties.push(("session.timeout.ms", "2000".into()));
    let ended = run_until_end(&case, &connector.write(&case)).start().wait(BOUND);
    assert_failed(&ended, &[&connector.name, "session.timeout.ms", "group.protocol"]);
}

/// A queue full of small transactions, whose markers librdkafka handles by itself, while topic partitions
/// change hands: what was read of them and not taken is read again, by whoever has them then.
fn transactions_change_hands(case: &Case, properties: &[(&'static str, &str)]) {
    const TRANSACTIONS: u64 = 300;
    let topic = case.topic(4);
    let mut random = Random::new(7);
    let mut record = |id: u64| Record {
        route: Route::Partition((id % 4) as i32),
        value: format!(r#"{{"id":{id},"body":"{}"}}"#, random.text(12_000)),
    };
    let batches =
        (0..TRANSACTIONS).map(|number| (0..20).map(|i| record(number * 20 + i)).collect());
    let produced = produce_in_transactions(&topic, batches.collect(), |index| index % 7 == 0);
    let mut connector = Connector::new(&case.unique("markers"), &topic, &case.local_table());
    if !properties.is_empty() {
        connector.properties =
            properties.iter().map(|(key, value)| (*key, (*value).into())).collect();
    }
    let file = connector.write(case);
    // Small shares of memory keep a backlog in the consumer's queue.
    let start = || run(case, &file).env("ALLUVIUM_MEMORY", "192MiB").start();
    let mut workers = vec![start()];
    wait_for_commit(&workers[0]);
    for _ in 0..3 {
        let joined = start();
        eventually(PATIENCE, "it has a share", || (joined.owned() > 0).then_some(()));
        workers.push(joined);
        drain(workers.remove(0));
    }
    workers.into_iter().for_each(drain);
    run_until_end(case, &file).start().wait(PATIENCE).assert_code(0);
    assert_exactly_once(&[&produced], &connector.location);
}

#[test]
fn a_backlog_of_transactions_changes_hands_among_members_that_keep_theirs() {
    transactions_change_hands(&case!(), &[]);
}

#[test]
fn a_backlog_of_transactions_changes_hands_by_the_brokers_own_protocol() {
    let case = case!();
    transactions_change_hands(&case, &[("group.protocol", "consumer")]);
}
