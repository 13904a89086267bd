//! Listeners that want TLS: what gets in, and what is said to those who do not.

use integration_tests::broker::{KEY_PASSWORD, SASL_PASSWORD, SASL_USER, Tls, broker};
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights};
use integration_tests::producer::{Produced, produce, round_robin};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::worker::{Ended, run_until_end};

use crate::PATIENCE;
use crate::errors::{BOUND, assert_failed};

type Properties = Vec<(&'static str, String)>;

/// By a password, which stands in a file.
fn by_password(case: &Case, authority: &str, password: &str) -> Properties {
    case.write("password", &format!("{password}\n"));
    vec![
        ("security.protocol", "SASL_SSL".into()),
        ("ssl.ca.location", tls().file(authority)),
        ("sasl.mechanism", "SCRAM-SHA-512".into()),
        ("sasl.username", SASL_USER.into()),
        ("sasl.password", "${file:password}".into()),
    ]
}

/// By a certificate, whose key is encrypted.
fn by_certificate(case: &Case, key_password: &str) -> Properties {
    case.write("key-password", &format!("{key_password}\n"));
    vec![
        ("security.protocol", "SSL".into()),
        ("ssl.ca.location", tls().file("ca.crt")),
        ("ssl.certificate.location", tls().file("client.crt")),
        ("ssl.key.location", tls().file("client.key")),
        ("ssl.key.password", "${file:key-password}".into()),
    ]
}

fn tls() -> &'static Tls {
    broker().tls()
}

/// Reads some flights into a table, logging all that there is to log.
fn read_flights(
    case: &Case,
    bootstrap: &str,
    properties: Properties,
) -> (Connector, Produced, Ended) {
    let produced = produce(&case.topic(4), round_robin(4, flights().take(20_000)));
    let mut connector = Connector::new(&case.unique("tls"), &produced.topic, &case.local_table());
    connector.columns = Some(FLIGHT_COLUMNS);
    connector.bootstrap = bootstrap.to_owned();
    connector.properties = properties;
    let worker = run_until_end(case, &connector.write(case)).env("ALLUVIUM_LOG_LEVEL", "debug");
    let ended = worker.start().wait(BOUND.max(PATIENCE));
    (connector, produced, ended)
}

#[track_caller]
fn assert_hidden(ended: &Ended, secrets: &[&str]) {
    for secret in secrets {
        let shown = ended.stderr.contains(secret) || ended.stdout.contains(secret);
        assert!(!shown, "`{secret}` is shown:\n{}\n{}", ended.stdout, ended.stderr);
    }
}

#[track_caller]
fn gets_in(case: &Case, bootstrap: &str, properties: Properties, secret: &str) {
    let (connector, produced, ended) = read_flights(case, bootstrap, properties);
    ended.assert_code(0);
    assert_hidden(&ended, &[secret]);
    assert_equal(case, &[&produced], &connector.location, FLIGHT_COLUMNS);
}

/// Fails by one message, which says all this and has no secret in it.
#[track_caller]
fn is_told(case: &Case, bootstrap: &str, properties: Properties, says: &[&str]) {
    let (connector, _, ended) = read_flights(case, bootstrap, properties);
    assert_failed(&ended, &[&[connector.name.as_str()], says].concat());
    assert_hidden(&ended, &[SASL_PASSWORD, KEY_PASSWORD, WRONG]);
    assert_eq!(reader::versions(&connector.location), 0, "versions of a table");
}

const WRONG: &str = "not-the-password";

#[test]
fn a_password_by_tls_fills_a_table() {
    let case = case!();
    let properties = by_password(&case, "ca.crt", SASL_PASSWORD);
    gets_in(&case, &tls().sasl_bootstrap, properties, SASL_PASSWORD);
}

#[test]
fn a_client_certificate_fills_a_table() {
    let case = case!();
    let properties = by_certificate(&case, KEY_PASSWORD);
    gets_in(&case, &tls().mutual_bootstrap, properties, KEY_PASSWORD);
}

#[test]
fn a_wrong_password_by_tls_is_named() {
    let case = case!();
    let bootstrap = &tls().sasl_bootstrap;
    let says = [
        bootstrap,
        "invalid credentials with SASL mechanism SCRAM-SHA-512",
        "; check `sasl.mechanism`, `sasl.username` and `sasl.password`",
    ];
    is_told(&case, bootstrap, by_password(&case, "ca.crt", WRONG), &says);
}

#[test]
fn an_authority_that_did_not_sign_the_broker_s_certificate_is_named() {
    let case = case!();
    let bootstrap = &tls().sasl_bootstrap;
    let says = [
        bootstrap,
        "broker certificate could not be verified",
        "; check `ssl.ca.location` and the certificates under `source.kafka.properties`",
    ];
    is_told(&case, bootstrap, by_password(&case, "stranger.crt", SASL_PASSWORD), &says);
}

#[test]
fn a_certificate_that_the_broker_wants_is_named() {
    let case = case!();
    let bootstrap = &tls().mutual_bootstrap;
    let mut properties = by_certificate(&case, KEY_PASSWORD);
    properties.retain(|(key, _)| matches!(*key, "security.protocol" | "ssl.ca.location"));
    let says = [
        bootstrap,
        "alert bad certificate",
        "; the broker refuses this client's certificate, or its lack: check `ssl.certificate.location`",
    ];
    is_told(&case, bootstrap, properties, &says);
}

#[test]
fn a_key_that_cannot_be_decrypted_is_named() {
    let case = case!();
    let says = ["ssl.key.location failed", "check `ssl.key.password`"];
    is_told(&case, &tls().mutual_bootstrap, by_certificate(&case, WRONG), &says);
}

#[test]
fn tls_to_a_listener_without_it_is_named() {
    let case = case!();
    let bootstrap = &broker().bootstrap;
    let says = [bootstrap, "; the listener may speak no TLS: check `security.protocol`"];
    is_told(&case, bootstrap, by_certificate(&case, KEY_PASSWORD), &says);
}

#[test]
fn no_tls_to_a_listener_with_it_is_named() {
    let case = case!();
    let bootstrap = &tls().mutual_bootstrap;
    let says = [
        bootstrap,
        "connection closed by peer",
        "; the listener may want TLS or SASL: check `security.protocol`",
    ];
    is_told(&case, bootstrap, Vec::new(), &says);
}
