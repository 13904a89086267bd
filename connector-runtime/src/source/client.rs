//! How librdkafka is configured, and what it tells us besides records.

use std::collections::BTreeMap;
use std::sync::Mutex;

use connector_api::Error;
use connector_api::config::Secret;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::KafkaPlan;

/// What the user may override. Chosen by measurement or for a quick return after a crash.
const DEFAULTS: &[(&str, &str)] = &[
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("isolation.level", "read_committed"),
    ("session.timeout.ms", "10000"),
    ("fetch.min.bytes", "65536"),
    ("fetch.wait.max.ms", "100"),
    ("queued.max.messages.kbytes", "32768"),
    ("client.id", "alluvium"),
];

/// What exactly once depends on; `validate` refuses these keys in a file.
const FIXED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
];

/// With the broker-side group protocol (KIP-848) these are the broker's to set, and librdkafka refuses them.
const CLASSIC_ONLY: &[&str] =
    &["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"];

/// The configuration of a consumer.
pub(super) fn consumer_config(plan: &KafkaPlan) -> ClientConfig {
    let properties: &BTreeMap<String, Secret<String>> = &plan.properties;
    let broker_side = properties.get("group.protocol").is_some_and(|p| p.expose() == "consumer");
    let mut config = ClientConfig::new();
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
        if grave {
            // The thread's name and librdkafka's own state say nothing to a user.
            let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
            let reason = reason.split_once(" (after ").map_or(reason, |(reason, _)| reason);
            self.last().reason = Some(reason.to_owned());
        }
    }

    /// Takes an error that concerns the client as a whole. librdkafka goes on trying by itself.
    pub(super) fn error(&self, code: RDKafkaErrorCode) {
        let mut last = self.last();
        let follows = code == RDKafkaErrorCode::AllBrokersDown && !last.warned.is_empty();
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
        // "All brokers are down" follows the cause and must not hide it.
        if last.code.is_none() || code != RDKafkaErrorCode::AllBrokersDown {
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
        let message = |hint: &str| format!("{doing} at `{brokers}`: {reason}; {hint}");
        match code {
            RDKafkaErrorCode::Authentication => Error::user(message(
                "check `sasl.mechanism`, `sasl.username` and `sasl.password` under `source.kafka.properties`",
            )),
            RDKafkaErrorCode::SSL => Error::user(message(
                "check `ssl.ca.location` and the certificates under `source.kafka.properties`",
            )),
            _ => Error::external(message(
                "check `source.kafka.bootstrap_servers`, and `security.protocol` if the listener wants TLS or SASL",
            )),
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
