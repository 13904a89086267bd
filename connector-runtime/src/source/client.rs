//! How librdkafka is configured, and what it tells us besides records.

use std::collections::BTreeMap;
use std::sync::Mutex;

use connector_api::config::Secret;
use connector_api::{Error, Result};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

use crate::config::KafkaPlan;
use crate::memory::MemoryShare;

/// What the user may override. Chosen by measurement, or for a quick return after a crash: 6 s of silence are the
/// least that brokers take by default (`group.min.session.timeout.ms`).
const DEFAULTS: &[(&str, &str)] = &[
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("isolation.level", "read_committed"),
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "1500"),
    ("fetch.min.bytes", "65536"),
    ("fetch.wait.max.ms", "100"),
    // A full queue is back-pressure, and soon has room again: librdkafka would look only after a second.
    ("fetch.queue.backoff.ms", "10"),
    ("client.id", "alluvium"),
];

/// What exactly once depends on; `validate` refuses these keys in a file.
const FIXED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
];

/// What a record in librdkafka's queue takes at least, beside its bytes.
const QUEUED_MESSAGE_BYTES: usize = 512;

/// With the broker-side group protocol (KIP-848) these are the broker's to set, and librdkafka refuses them.
const CLASSIC_ONLY: &[&str] =
    &["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"];

/// What clients beside the consumer report: they only ask, and who asks hears what went wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, message, "librdkafka reports");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "librdkafka reports");
    }
}

impl ConsumerContext for Quiet {}

/// The configuration of a consumer.
pub(super) fn consumer_config(plan: &KafkaPlan) -> ClientConfig {
    let properties: &BTreeMap<String, Secret<String>> = &plan.properties;
    let broker_side = properties.get("group.protocol").is_some_and(|p| p.expose() == "consumer");
    let mut config = ClientConfig::new();
    // How a connection failed may come as a mere notice: see `Reports::log`.
    config.set_log_level(RDKafkaLogLevel::Info);
    for (key, value) in DEFAULTS {
        if !(broker_side && CLASSIC_ONLY.contains(key)) {
            config.set(*key, *value);
        }
    }
    config.set("bootstrap.servers", &plan.bootstrap_servers).set("group.id", &plan.group_id);
    for (key, value) in properties {
        config.set(key, value.expose());
    }
    for (key, value) in FIXED {
        config.set(*key, *value);
    }
    config
}

/// Bounds what a consumer fetches ahead by the connector's share of the memory. Returns the bytes that it
/// holds by itself. An error if the user's own bound is more than the share.
pub(super) fn bound_fetches(
    config: &mut ClientConfig,
    plan: &KafkaPlan,
    memory: &MemoryShare,
) -> Result<usize> {
    const QUEUE: &str = "queued.max.messages.kbytes";
    let said = |key: &str| plan.properties.get(key)?.expose().parse::<usize>().ok();
    let queue = match said(QUEUE) {
        Some(kbytes) => kbytes.saturating_mul(1024),
        None => memory.fetch_queue_bytes(),
    };
    let bytes = memory.fetch_bytes(queue)?;
    // librdkafka wants an answer to have room for the largest record.
    let largest = said("message.max.bytes").unwrap_or(0);
    let answer = queue.max(largest);
    let bounds = [
        (QUEUE, queue / 1024),
        ("queued.min.messages", (queue / QUEUED_MESSAGE_BYTES).max(1)),
        ("fetch.max.bytes", answer),
    ];
    for (key, bound) in bounds.into_iter().filter(|(key, _)| !plan.properties.contains_key(*key)) {
        config.set(key, bound.to_string());
    }
    Ok(bytes)
}

/// Why there can be no consumer with these properties: librdkafka has read what they name.
pub(super) fn refused(error: KafkaError) -> Error {
    let hint = match error.to_string().contains("ssl.") {
        true => {
            "; check that the files under `ssl.*` are there and are PEM, and check `ssl.key.password`"
        }
        false => "",
    };
    Error::user(format!("`source.kafka.properties` are refused by librdkafka: {error}{hint}"))
}

/// What librdkafka reports on the side, kept for the message of whoever fails because of it.
///
/// The kind of trouble comes as an error, its reason as a log line only.
#[derive(Debug, Default)]
pub(super) struct Reports {
    last: Mutex<Last>,
}

#[derive(Debug, Default, Clone)]
struct Last {
    code: Option<RDKafkaErrorCode>,
    reason: Option<String>,
    /// The reason came as an error, not as a notice.
    grave: bool,
    warned: Vec<RDKafkaErrorCode>,
}

impl Reports {
    /// Takes a log line.
    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, message, "librdkafka reports");
        let grave = matches!(
            level,
            RDKafkaLogLevel::Emerg
                | RDKafkaLogLevel::Alert
                | RDKafkaLogLevel::Critical
                | RDKafkaLogLevel::Error
        );
        let mut last = self.last();
        // That a broker closed the connection is a notice, with what may be behind it.
        if grave || (facility == "FAIL" && !last.grave) {
            // The thread's name and librdkafka's own state say nothing to a user.
            let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
            let reason = reason.split_once(" (after ").map_or(reason, |(reason, _)| reason);
            last.reason = Some(reason.to_owned());
            last.grave = grave;
        }
    }

    /// Takes an error that concerns the client as a whole. librdkafka goes on trying by itself.
    pub(super) fn error(&self, code: RDKafkaErrorCode) {
        let mut last = self.last();
        let follows = last.warned.iter().any(|warned| weight(*warned) > weight(code));
        if !follows && !last.warned.contains(&code) {
            last.warned.push(code);
            let reason = last.reason.as_deref().unwrap_or_default();
            tracing::warn!(error = %code, reason, "the broker connection has trouble, trying on");
        }
        drop(last);
        self.note(code);
    }

    /// Remembers an error for [`explain`](Self::explain).
    pub(super) fn note(&self, code: RDKafkaErrorCode) {
        let mut last = self.last();
        if last.code.is_none_or(|held| weight(code) >= weight(held)) {
            last.code = Some(code);
        }
    }

    /// Forgets what was reported: the connection works.
    pub(super) fn clear(&self) {
        *self.last() = Last::default();
    }

    /// An error that ends the connector, with the likeliest cause and what to do.
    pub(super) fn explain(&self, brokers: &str, doing: &str, error: &KafkaError) -> Error {
        let Last { code, reason, .. } = self.last().clone();
        let code = code.or_else(|| error.rdkafka_error_code()).unwrap_or(RDKafkaErrorCode::Fail);
        let reason = reason.unwrap_or_else(|| code.to_string());
        let message = format!("{doing} at `{brokers}`: {reason}; {}", hint(code, &reason));
        match code {
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL => Error::user(message),
            _ => Error::external(message),
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One trouble is reported more than once, in less and less detail: what follows must not hide the cause.
fn weight(code: RDKafkaErrorCode) -> u8 {
    match code {
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL => 2,
        RDKafkaErrorCode::AllBrokersDown => 0,
        _ => 1,
    }
}

/// What to do about trouble with a connection.
///
/// | code | the reason has | likeliest cause |
/// |---|---|---|
/// | `Authentication` | | a wrong mechanism, user or password |
/// | `SSL` | | the broker's certificate is not trusted |
/// | any other | an alert of TLS | the broker does not take the client's certificate |
/// | any other | TLS that the other side closed | the listener speaks no TLS |
/// | any other | a connection that the other side closed | the listener speaks TLS, or wants a password |
/// | any other | | a wrong address, or a broker that is away |
fn hint(code: RDKafkaErrorCode, reason: &str) -> &'static str {
    match code {
        RDKafkaErrorCode::Authentication => {
            "check `sasl.mechanism`, `sasl.username` and `sasl.password` under `source.kafka.properties`"
        }
        RDKafkaErrorCode::SSL => {
            "check `ssl.ca.location` and the certificates under `source.kafka.properties`"
        }
        _ if reason.contains("SSL alert") => {
            "the broker refuses this client's certificate, or its lack: check `ssl.certificate.location` and \
             `ssl.key.location` under `source.kafka.properties`"
        }
        _ if reason.contains("SSL connection closed by peer") => {
            "the listener may speak no TLS: check `security.protocol` under `source.kafka.properties`, and \
             `source.kafka.bootstrap_servers`"
        }
        _ if reason.contains("connection closed by peer") => {
            "the listener may want TLS or SASL: check `security.protocol` under `source.kafka.properties`, and \
             `source.kafka.bootstrap_servers`"
        }
        _ => {
            "check `source.kafka.bootstrap_servers`, and `security.protocol` if the listener wants TLS or SASL"
        }
    }
}

#[cfg(test)]
mod tests {
    use RDKafkaErrorCode::{AllBrokersDown, Authentication, BrokerTransportFailure, SSL};
    use rdkafka::consumer::BaseConsumer;

    use super::*;
    use crate::config::{OnLoss, StartAt, TopicSelection};
    use crate::memory::split;

    /// What is said after these log lines and error codes.
    #[track_caller]
    fn check(lines: &[(RDKafkaLogLevel, &str)], codes: &[RDKafkaErrorCode], expected: &str) {
        let reports = Reports::default();
        for (level, line) in lines {
            reports.log(*level, "FAIL", &format!("[thrd:b]: {line} (after 3ms in state UP)"));
        }
        codes.iter().for_each(|code| reports.error(*code));
        let timeout = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        let said = reports.explain("b:9", "no broker answered", &timeout).to_string();
        assert_eq!(said, format!("no broker answered at `b:9`: {expected}"));
    }

    /// What librdkafka and the budget say to a consumer with these properties.
    #[track_caller]
    fn check_bounds(properties: &[(&str, &str)], expected: Result<usize, &str>) {
        let property =
            |(key, value): &(&str, &str)| ((*key).to_owned(), Secret::new((*value).to_owned()));
        let plan = KafkaPlan {
            bootstrap_servers: "localhost:1".into(),
            topics: TopicSelection::List(vec!["orders".into()]),
            start_at: StartAt::Earliest,
            on_gap: OnLoss::Stop,
            on_topic_recreated: OnLoss::Stop,
            group_id: "g".into(),
            properties: properties.iter().map(property).collect(),
        };
        let memory = split(192 << 20, 1).unwrap().remove(0);
        let mut config = consumer_config(&plan);
        let bytes = bound_fetches(&mut config, &plan, &memory).map_err(|error| error.to_string());
        assert_eq!(bytes.as_ref().map_err(String::as_str), expected.as_ref().map_err(|e| *e));
        if bytes.is_ok() {
            config.create_with_context::<_, BaseConsumer<Quiet>>(Quiet).unwrap();
        }
    }

    #[test]
    fn fetches_are_bounded_by_the_memory_and_in_a_way_that_librdkafka_takes() {
        let least = 3 * 1536 * 1024;
        check_bounds(&[], Ok(least));
        check_bounds(&[("message.max.bytes", "50000000")], Ok(least));
        check_bounds(&[("fetch.message.max.bytes", "50000000")], Ok(least));
        check_bounds(&[("fetch.max.bytes", "1000000")], Ok(least));
        check_bounds(&[("queued.max.messages.kbytes", "1024")], Ok(3 << 20));
        check_bounds(
            &[("queued.max.messages.kbytes", "65536")],
            Err(
                "`queued.max.messages.kbytes` is 65536, which takes 192 MiB of memory; this connector's share allows 2048 kbytes: set less, leave the key out, or give the worker more `--memory`",
            ),
        );
    }

    #[test]
    fn what_follows_an_error_does_not_hide_it() {
        let trust =
            "x; check `ssl.ca.location` and the certificates under `source.kafka.properties`";
        let lines = [(RDKafkaLogLevel::Error, "x")];
        check(&lines, &[SSL, BrokerTransportFailure, AllBrokersDown], trust);
        check(&lines, &[AllBrokersDown, BrokerTransportFailure, SSL], trust);
        let password = "x; check `sasl.mechanism`, `sasl.username` and `sasl.password` under `source.kafka.properties`";
        check(&lines, &[Authentication, BrokerTransportFailure], password);
    }

    #[test]
    fn a_notice_is_the_reason_where_there_is_no_other() {
        let closed = "Disconnected: connection closed by peer";
        check(
            &[(RDKafkaLogLevel::Info, closed)],
            &[AllBrokersDown],
            "Disconnected: connection closed by peer; the listener may want TLS or SASL: check `security.protocol` \
             under `source.kafka.properties`, and `source.kafka.bootstrap_servers`",
        );
        check(
            &[(RDKafkaLogLevel::Error, "SSL alert number 42"), (RDKafkaLogLevel::Info, closed)],
            &[BrokerTransportFailure],
            "SSL alert number 42; the broker refuses this client's certificate, or its lack: check \
             `ssl.certificate.location` and `ssl.key.location` under `source.kafka.properties`",
        );
    }

    #[test]
    fn silence_is_a_wrong_address() {
        check(
            &[],
            &[],
            "OperationTimedOut (Local: Timed out); check `source.kafka.bootstrap_servers`, and `security.protocol` \
             if the listener wants TLS or SASL",
        );
    }
}
