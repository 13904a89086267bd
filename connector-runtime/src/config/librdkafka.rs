//! What librdkafka says about its properties, without a connection.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::report::MASK;

/// Properties that the source sets, since "exactly once" rests on them, and what to use instead.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `source.kafka.bootstrap_servers`"),
    ("metadata.broker.list", "use `source.kafka.bootstrap_servers`"),
    ("auto.offset.reset", "use `source.kafka.start_at`; the table itself says where to go on"),
    ("enable.auto.commit", "remove it: the group's offsets are committed after the table"),
    ("enable.auto.offset.store", "remove it: the group's offsets are committed after the table"),
    ("auto.commit.enable", "remove it: the group's offsets are committed after the table"),
    ("auto.commit.interval.ms", "use `write.commit_interval`"),
    ("enable.partition.eof", "remove it: the end of a topic partition is found without it"),
];

/// Properties that people set, for suggestions.
pub(super) const USUAL: &[&str] = &[
    "broker.address.family",
    "check.crcs",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "debug",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.max.bytes",
    "metadata.max.age.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "sasl.kerberos.keytab",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "statistics.interval.ms",
    "topic.metadata.refresh.interval.ms",
];

/// Help where a value is wrong.
pub(super) const REFERENCE: &str =
    "see librdkafka's CONFIGURATION.md for the values that the property may have";

/// Why librdkafka refuses a property.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    Unknown,
    /// With librdkafka's reason, in which the value is masked.
    Value(String),
}

/// What to do instead of setting this property, if it is not the user's to set.
pub(super) fn owned(name: &str) -> Option<&'static str> {
    OWNED.iter().find(|(owned, _)| *owned == name).map(|(_, instead)| *instead)
}

/// Asks librdkafka whether it knows a property and takes the value.
pub(super) fn check(name: &str, value: &str) -> Result<(), Refused> {
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Err(Refused::Unknown)
        }
        Err(KafkaError::ClientConfig(_, why, ..)) => {
            Err(Refused::Value(why.trim().replace(value, MASK)))
        }
        // A text with a zero byte, which C cannot hold.
        Err(_) => Err(Refused::Value("it cannot be handed to librdkafka".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_property(name: &str, value: &str, expected: &str) {
        let found = match check(name, value) {
            Ok(()) => "taken".to_owned(),
            Err(Refused::Unknown) => "unknown".to_owned(),
            Err(Refused::Value(why)) => why,
        };
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn librdkafka_knows_every_property_that_we_suggest_or_own() {
        for name in USUAL.iter().chain(OWNED.iter().map(|(name, _)| name)) {
            assert_ne!(check(name, "1"), Err(Refused::Unknown), "{name}");
        }
    }

    #[test]
    fn unknown_properties_and_refused_values_are_told_apart() {
        check_property("security.protocol", "SASL_SSL", "taken");
        check_property("sasl.pasword", "hunter2", "unknown");
        check_property(
            "session.timeout.ms",
            "-5",
            "Configuration property \"session.timeout.ms\" value *** is outside allowed range 1..3600000",
        );
        check_property(
            "session.timeout.ms",
            "hunter2",
            "Invalid value for configuration property \"session.timeout.ms\"",
        );
        check_property(
            "security.protocol",
            "hunter2",
            "Invalid value \"***\" for configuration property \"security.protocol\"",
        );
    }

    #[test]
    fn a_value_that_c_cannot_hold_is_refused() {
        check_property("client.id", "a\0b", "it cannot be handed to librdkafka");
    }
}
