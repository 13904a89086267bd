//! The section `source.kafka`: which records to read, and from where.

use std::collections::BTreeMap;
use std::time::Duration;

use connector_api::config::Secret;
use connector_api::ids::ConnectorName;

use super::field::{Choice, Field};
use super::librdkafka;
use super::plan::{KafkaPlan, OnLoss, StartAt, TopicSelection};
use super::section::{Key, Section, key};
use super::start_at;
use super::topics;
use super::units::show_duration;
use super::words::nearest;

pub(super) const KEYS: &[Key] = &[
    key("bootstrap_servers"),
    key("topics"),
    key("topics_pattern"),
    key("start_at"),
    key("on_gap"),
    key("on_topic_recreated"),
    key("properties"),
];

/// librdkafka's default of `max.poll.interval.ms`.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);

/// Reads the section. `revoke_timeout` is that of `write`, where it could be read.
pub(super) fn read(
    field: Field<'_>,
    name: Option<&ConnectorName>,
    revoke_timeout: Option<Duration>,
) -> Option<KafkaPlan> {
    let section = Section::open(field, KEYS)?;
    let bootstrap_servers = bootstrap_servers(&section);
    let topics = topics::read(&section);
    let start_at = start_at(&section, topics.as_ref());
    let on_gap = on_gap(&section);
    let on_topic_recreated = on_topic_recreated(&section);
    let properties = properties(&section);
    check_poll_interval(&section, revoke_timeout);
    let (mut properties, bootstrap_servers) = (properties?, bootstrap_servers?);
    let group_id = match properties.remove("group.id") {
        Some(id) => id.expose().clone(),
        None => format!("alluvium-{}", name?),
    };
    Some(KafkaPlan {
        bootstrap_servers,
        topics: topics?,
        start_at: start_at?,
        on_gap: on_gap?,
        on_topic_recreated: on_topic_recreated?,
        group_id,
        properties,
    })
}

/// `bootstrap_servers`: brokers to begin with, `host:port`, separated by commas. The others are found through them.
fn bootstrap_servers(section: &Section<'_>) -> Option<String> {
    const EXAMPLE: &str = "kafka-1:9092,kafka-2:9092";
    let field = section.required(
        "bootstrap_servers",
        &format!("write the brokers' addresses, as in `{EXAMPLE}`"),
    )?;
    let text = field.text(EXAMPLE)?;
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    if servers.iter().all(|server| is_server(server)) {
        return Some(servers.join(","));
    }
    field.reject(
        format!("expected `host:port`, more of them separated by commas, found {}", field.found()),
        format!("write it as in `{EXAMPLE}`"),
    )
}

fn is_server(server: &str) -> bool {
    let address = server.split_once("://").map_or(server, |(_protocol, address)| address);
    let (host, port) = match address.rsplit_once(':') {
        // Brackets around an IPv6 address hold colons of their own.
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (address, "9092"),
    };
    let plain = |c: char| !c.is_whitespace() && c != '/' && c != '@';
    !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `start_at`: where to start in a topic partition that the table has never seen: `earliest`
/// (default), `latest`, a timestamp such as `2026-01-31T00:00:00Z`, or offsets per partition.
/// Everywhere else the table knows where to go on.
fn start_at(section: &Section<'_>, topics: Option<&TopicSelection>) -> Option<StartAt> {
    match section.get("start_at") {
        Some(field) => start_at::read(&field, topics),
        None => Some(StartAt::Earliest),
    }
}

/// `on_gap`: what happens if retention has removed records that were not read yet: `stop` (default)
/// with a message that says how much, or `continue` behind them; the commit then names the gap.
fn on_gap(section: &Section<'_>) -> Option<OnLoss> {
    on_loss(section, "on_gap")
}

/// `on_topic_recreated`: what happens if a topic was deleted and created again: `stop` (default),
/// since its offsets begin anew, or `continue` with the new topic's first record.
fn on_topic_recreated(section: &Section<'_>) -> Option<OnLoss> {
    on_loss(section, "on_topic_recreated")
}

fn on_loss(section: &Section<'_>, key: &str) -> Option<OnLoss> {
    const CHOICES: &[Choice<OnLoss>] = &[
        Choice { word: "stop", means: Ok(OnLoss::Stop) },
        Choice { word: "continue", means: Ok(OnLoss::Continue) },
    ];
    section.get(key).map_or(Some(OnLoss::Stop), |field| field.choice(CHOICES))
}

/// `properties`: any property of librdkafka, such as `security.protocol` or `group.id` (default:
/// `alluvium-` and the connector's name), except those that "exactly once" rests on.
fn properties(section: &Section<'_>) -> Option<BTreeMap<String, Secret<String>>> {
    let Some(field) = section.get("properties") else { return Some(BTreeMap::new()) };
    let values = field.values("librdkafka's properties, as in `security.protocol: SASL_SSL`")?;
    let mut properties = BTreeMap::new();
    let mut complete = true;
    for (name, value) in values {
        match property(name, &value) {
            Some(text) => {
                properties.insert(name.to_owned(), Secret::new(text));
            }
            None => complete = false,
        }
    }
    complete.then_some(properties)
}

fn property(name: &str, value: &Field<'_>) -> Option<String> {
    if let Some(instead) = librdkafka::owned(name) {
        return value.reject_key("this property is Alluvium's to set", instead);
    }
    let text = value.text("security.protocol: SASL_SSL")?;
    match librdkafka::check(name, text) {
        Ok(()) => Some(text.to_owned()),
        Err(librdkafka::Refused::Unknown) => {
            let help = match nearest(name, librdkafka::USUAL.iter().copied()) {
                Some(similar) => format!("did you mean `{similar}`?"),
                None => "see librdkafka's CONFIGURATION.md for its properties".to_owned(),
            };
            value.reject_key("librdkafka has no such property", help)
        }
        Err(librdkafka::Refused::Value(why)) => {
            value.reject(format!("librdkafka refuses the value: {why}"), librdkafka::REFERENCE)
        }
    }
}

/// librdkafka leaves the group after `max.poll.interval.ms` without a poll, and during a revoke there is none.
fn check_poll_interval(section: &Section<'_>, revoke_timeout: Option<Duration>) {
    const PROPERTY: &str = "max.poll.interval.ms";
    let Some(revoke_timeout) = revoke_timeout else { return };
    let property = section.get("properties").and_then(|properties| properties.child(PROPERTY));
    let interval = match &property {
        // What is no number is refused by librdkafka.
        Some(property) => property.number().map(Duration::from_millis),
        None => Some(MAX_POLL_INTERVAL),
    };
    let Some(interval) = interval else { return };
    if interval >= 2 * revoke_timeout {
        return;
    }
    let message = format!(
        "{PROPERTY} is {}, and must be at least twice `write.revoke_timeout`, which is {}",
        show_duration(interval),
        show_duration(revoke_timeout)
    );
    let at = property.unwrap_or_else(|| section.field().clone());
    at.reject::<()>(
        message,
        format!(
            "set `{PROPERTY}: {}`, or a shorter `write.revoke_timeout`",
            4 * revoke_timeout.as_millis()
        ),
    );
}
