//! Several workers on one connector.

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights};
use integration_tests::producer::{produce, round_robin};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::eventually;
use integration_tests::worker::{Signal, run};

use crate::PATIENCE;

#[test]
fn two_workers_started_together_share_the_topic_and_are_exact() {
    let case = case!();
    let topic = case.topic(4);
    let mut connector = Connector::new(&case.unique("shared"), &topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    let file = connector.write(&case);
    let mut produced = produce(&topic, round_robin(4, flights().take(20_000)));

    // Neither finds a table, so both set about creating it.
    let workers = [run(&case, &file).start(), run(&case, &file).start()];
    eventually(PATIENCE, "each of two members owns two topic partitions", || {
        let members = broker().members(&connector.group());
        (members.len() == 2 && members.iter().all(|member| member.topic_partitions.len() == 2))
            .then_some(())
    });
    // These are on all topic partitions, so both workers must bring some of them.
    produced.extend(produce(&topic, round_robin(4, flights().skip(20_000).take(20_000))));
    eventually(PATIENCE, "all rows are visible", || {
        (reader::rows(&connector.location) >= 40_000).then_some(())
    });

    for worker in &workers {
        assert!(
            worker.stderr().contains("round settled"),
            "a worker committed nothing:\n{}",
            worker.stderr()
        );
        worker.signal(Signal::Term);
    }
    workers.into_iter().for_each(|worker| worker.wait(PATIENCE).assert_code(0));
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}
