//! Credentials that expire while a worker reads: the broker asks for them again every few seconds.

use std::time::Duration;

use integration_tests::broker::{Broker, broker};
use integration_tests::case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights_for_ever};
use integration_tests::producer::{Feed, round_robin};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::wait::{eventually, let_pass};
use integration_tests::worker::{Signal, run};

use crate::PATIENCE;

const USER: &str = "carol";
const PASSWORD: &str = "carol-secret";

#[test]
fn a_worker_whose_password_expires_goes_on_where_it_was_once_it_is_valid_again() {
    let case = case!();
    let topic = case.topic(4);
    broker().set_password(USER, PASSWORD);
    let mut connector = Connector::new(&case.unique("expires"), &topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector.bootstrap.clone_from(&broker().tls().sasl_bootstrap);
    case.write("password", PASSWORD);
    connector.properties.extend([
        ("security.protocol", "SASL_SSL".into()),
        ("ssl.ca.location", broker().tls().file("ca.crt")),
        ("sasl.mechanism", "SCRAM-SHA-512".into()),
        ("sasl.username", USER.into()),
        ("sasl.password", "${file:password}".into()),
    ]);
    let feed = Feed::start(&topic, 200, round_robin(4, flights_for_ever()));
    let mut worker = run(&case, &connector.write(&case)).start();
    let rows = || reader::rows(&connector.location);
    eventually(PATIENCE, "rows are visible", || (rows() > 0).then_some(()));

    // Valid credentials are given again without anybody noticing.
    let_pass(2 * Broker::PASSWORD_ASKED_EVERY);
    let before = rows();
    eventually(PATIENCE, "rows go on", || (rows() > before).then_some(()));
    assert!(!worker.stderr().contains("has trouble"), "{}", worker.stderr());

    broker().set_password(USER, "another-one");
    eventually(PATIENCE, "the worker says what is wrong", || {
        worker.stderr().contains("uthentication").then_some(())
    });
    let_pass(Broker::PASSWORD_ASKED_EVERY + Duration::from_secs(3));
    worker.assert_running();
    let stopped = rows();

    broker().set_password(USER, PASSWORD);
    eventually(PATIENCE, "rows come again", || (rows() > stopped).then_some(()));
    let produced = feed.stop();
    eventually(PATIENCE, "all rows are visible", || {
        (rows() == produced.records.len() as u64).then_some(())
    });
    assert!(!worker.stderr().contains(PASSWORD), "the password is shown");
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
    assert_equal(&case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}
