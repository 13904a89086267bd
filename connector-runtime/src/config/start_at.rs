//! The key `start_at` of `source.kafka`.
//!
//! | written | meaning |
//! |---|---|
//! | `earliest`, `latest` | the first record that the broker still has; behind the last one |
//! | `2026-01-31T00:00:00Z` | the first record that is not older |
//! | `{0: 1200, 1: 1310}` | offsets by partition, if there is one topic |
//! | `{clicks: {0: 1200}}` | offsets by topic and partition |

use std::collections::BTreeMap;

use connector_api::offsets::Offset;
use jiff::Timestamp;

use super::field::Field;
use super::node::Value;
use super::plan::{StartAt, TopicSelection};
use super::topics::is_topic_name;
use super::words::suggestion;

const ALLOWED: &str = "`earliest`, `latest`, a timestamp such as `2026-01-31T00:00:00Z`, or offsets such as `{clicks: {0: 1200}}`";

/// Reads the value. Offsets are checked against the topics, where these could be read.
pub(super) fn read(field: &Field<'_>, topics: Option<&TopicSelection>) -> Option<StartAt> {
    if matches!(field.node.value, Value::Map(_)) {
        return offsets(field, topics).map(StartAt::Offsets);
    }
    match field.text("earliest")? {
        "earliest" => Some(StartAt::Earliest),
        "latest" => Some(StartAt::Latest),
        text if text.starts_with(|c: char| c.is_ascii_digit()) => timestamp(field, text),
        text => field.reject(
            format!("expected {ALLOWED}, found {}", field.found()),
            suggestion(text, &["earliest", "latest"]),
        ),
    }
}

fn timestamp(field: &Field<'_>, text: &str) -> Option<StartAt> {
    match text.parse::<Timestamp>() {
        Ok(timestamp) if timestamp.as_millisecond() >= 0 => Some(StartAt::Timestamp { ms: timestamp.as_millisecond() }),
        Ok(_) => field.reject(format!("{} lies before 1970", field.found()), "write `earliest`"),
        Err(_) => field.reject(
            format!("expected {ALLOWED}, found {}", field.found()),
            "a timestamp has a date, a time and an offset from UTC: `2026-01-31T00:00:00Z`, `2026-01-31T02:00:00+02:00`",
        ),
    }
}

type Offsets = BTreeMap<(String, i32), Offset>;

fn offsets(field: &Field<'_>, topics: Option<&TopicSelection>) -> Option<Offsets> {
    let values = field.values("offsets, as in `{clicks: {0: 1200}}`")?;
    if values.is_empty() {
        return field.reject("there are no offsets", format!("allowed: {ALLOWED}"));
    }
    let by_topic = values.iter().any(|(_, value)| matches!(value.node.value, Value::Map(_)));
    let mut offsets = Offsets::new();
    let complete = if by_topic {
        values
            .iter()
            .map(|(topic, of_topic)| topic_offsets(topic, of_topic, topics, &mut offsets))
            .fold(true, |a, b| a & b)
    } else {
        let topic = only_topic(field, topics)?;
        partition_offsets(&topic, values, &mut offsets)
    };
    complete.then_some(offsets)
}

/// False if something was reported, like its helpers.
fn topic_offsets(
    topic: &str,
    field: &Field<'_>,
    topics: Option<&TopicSelection>,
    into: &mut Offsets,
) -> bool {
    let selected = match topics {
        Some(TopicSelection::List(names)) => names.iter().any(|name| name == topic),
        // What a pattern selects shows at the broker.
        Some(TopicSelection::Pattern(_)) | None => is_topic_name(topic),
    };
    if !selected {
        let help = "name topics as they stand in `topics`";
        return field
            .reject_key::<()>(format!("`{topic}` is not among the connector's topics"), help)
            .is_some();
    }
    match field.values("offsets by partition, as in `{0: 1200}`") {
        Some(values) => partition_offsets(topic, values, into),
        None => false,
    }
}

fn partition_offsets(topic: &str, values: Vec<(&str, Field<'_>)>, into: &mut Offsets) -> bool {
    let mut complete = true;
    for (partition, field) in values {
        let number = partition.parse::<i32>().ok().filter(|partition| *partition >= 0);
        if number.is_none() {
            field.reject_key::<()>(
                "expected the number of a partition",
                "partitions are counted from 0: `{0: 1200, 1: 1310}`",
            );
        }
        match (number, offset(&field)) {
            (Some(number), Some(offset)) => {
                into.insert((topic.to_owned(), number), offset);
            }
            _ => complete = false,
        }
    }
    complete
}

fn offset(field: &Field<'_>) -> Option<Offset> {
    let text = field.text("1200")?;
    match text.parse().ok().and_then(Offset::new) {
        Some(offset) => Some(offset),
        None => field.reject(
            format!("expected an offset, found {}", field.found()),
            "an offset is a number from 0 on",
        ),
    }
}

fn only_topic(field: &Field<'_>, topics: Option<&TopicSelection>) -> Option<String> {
    match topics {
        Some(TopicSelection::List(names)) if names.len() == 1 => Some(names[0].clone()),
        Some(_) => field.reject(
            "offsets without a topic need a connector with one topic",
            "name the topics: `{clicks: {0: 1200}, orders: {0: 77}}`",
        ),
        None => None,
    }
}
