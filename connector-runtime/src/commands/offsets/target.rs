//! Where `offsets reset --to` moves to, and what that means: pure decisions.
//!
//! | written | position |
//! |---|---|
//! | `earliest`, `latest` | the log's start, the log's end |
//! | `2026-01-31T00:00:00Z` | the first record that is not older; the log's end if all are |
//! | `clicks:0=1200,clicks:1=1310` | these; topic partitions that are not named stay |

use std::collections::BTreeMap;

use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint, OffsetRange};
use connector_api::reset::OffsetMove;
use connector_api::{Error, Result};

use crate::commit::recover::{PartitionFacts, start_position};
use crate::config::StartAt;
use crate::source::{AssignedPartition, Topics};

/// Reads what a user wrote.
pub(super) fn parse(text: &str) -> Result<StartAt, String> {
    match text {
        "earliest" => Ok(StartAt::Earliest),
        "latest" => Ok(StartAt::Latest),
        _ if text.contains('=') => offsets(text).map(StartAt::Offsets),
        _ => match text.parse::<jiff::Timestamp>() {
            Ok(at) if at.as_millisecond() >= 0 => {
                Ok(StartAt::Timestamp { ms: at.as_millisecond() })
            }
            _ => Err("write `earliest`, `latest`, a timestamp such as `2026-01-31T00:00:00Z`, \
                or offsets such as `clicks:0=1200,clicks:1=1310`"
                .to_owned()),
        },
    }
}

fn offsets(text: &str) -> Result<BTreeMap<(String, i32), Offset>, String> {
    let mut offsets = BTreeMap::new();
    for part in text.split(',') {
        let (place, offset) = one(part.trim()).ok_or_else(|| {
            format!("`{part}` is no offset; write `topic:partition=offset`, as in `clicks:0=1200`")
        })?;
        if offsets.insert(place, offset).is_some() {
            return Err(format!("`{part}` names a topic partition a second time"));
        }
    }
    Ok(offsets)
}

fn one(part: &str) -> Option<((String, i32), Offset)> {
    let (place, offset) = part.split_once('=')?;
    let (topic, partition) = place.split_once(':')?;
    let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
    let offset = offset.parse().ok().and_then(Offset::new)?;
    (!topic.is_empty()).then(|| ((topic.to_owned(), partition), offset))
}

/// What is moved, also what is already there.
///
/// Offsets that a user names must be in the log: before it there is nothing to read, and behind it
/// the connector would stop.
pub(super) fn moves(
    target: &StartAt,
    topics: &Topics,
    stored: &OffsetCheckpoint,
) -> Result<BTreeMap<TopicPartition, OffsetMove>> {
    if let StartAt::Offsets(named) = target {
        named.iter().try_for_each(|((topic, partition), offset)| {
            check_named(topic, *partition, *offset, topics)
        })?;
    }
    let moved = topics.iter().filter(|assigned| names(target, &assigned.topic_partition));
    let moved = moved.map(|assigned| {
        let from = stored.next(&assigned.topic_partition);
        (assigned.topic_partition.clone(), OffsetMove { from, to: position(target, assigned) })
    });
    Ok(moved.collect())
}

/// True if the target says where this topic partition goes.
fn names(target: &StartAt, of: &TopicPartition) -> bool {
    match target {
        StartAt::Offsets(named) => named.contains_key(&(of.topic.to_string(), of.partition)),
        _ => true,
    }
}

fn check_named(topic: &str, partition: i32, offset: Offset, topics: &Topics) -> Result<()> {
    let is_it = |of: &TopicPartition| *of.topic == *topic && of.partition == partition;
    let Some(found) = topics.iter().find(|assigned| is_it(&assigned.topic_partition)) else {
        return Err(Error::user(format!(
            "`--to` names {topic}:{partition}, which the connector does not read"
        )));
    };
    let AssignedPartition { log_start, log_end, .. } = found;
    if !(*log_start..=*log_end).contains(&offset) {
        return Err(Error::user(format!(
            "`--to` moves {topic}:{partition} to {offset}, and Kafka has offsets {log_start} to {log_end}"
        )));
    }
    Ok(())
}

/// Where a connector would begin there that has never seen the topic partition.
fn position(target: &StartAt, assigned: &AssignedPartition) -> Offset {
    let facts = PartitionFacts::of(assigned, &OffsetCheckpoint::default(), false);
    start_position(&facts, target)
}

/// Where a run would begin in a topic partition that the table has never seen.
pub(super) fn begins(start_at: &StartAt, assigned: &AssignedPartition) -> Offset {
    match start_at {
        // The first record at that time was not asked for.
        StartAt::Timestamp { .. } => assigned.log_start,
        start_at => position(start_at, assigned),
    }
}

/// What follows from moves.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Consequence {
    /// Offsets that are read a second time.
    pub(super) again: u64,
    /// Offsets that are never read.
    pub(super) skipped: u64,
}

/// What follows from a move. Where the table has never seen the topic partition, a run would begin at `begins`.
pub(super) fn consequence(moved: &OffsetMove, begins: Offset) -> Consequence {
    let OffsetMove { from, to } = *moved;
    let Some(from) = from else {
        let skipped = OffsetRange::new(begins, to).map_or(0, OffsetRange::len);
        return Consequence { again: 0, skipped };
    };
    let between = |start, end| OffsetRange::new(start, end).map_or(0, OffsetRange::len);
    Consequence { again: between(to, from), skipped: between(from, to) }
}

#[cfg(test)]
mod tests {
    use connector_api::ids::TopicId;

    use super::*;

    fn at(offset: i64) -> Offset {
        Offset::new(offset).unwrap()
    }

    fn clicks(partition: i32) -> TopicPartition {
        TopicPartition { topic: "clicks".into(), topic_id: TopicId::Unavailable, partition }
    }

    /// Partitions 0 and 1 with offsets 100 to 200; the table stands at 150 in the first.
    #[track_caller]
    fn check(to: &str, expected: &str) {
        let topics = [0, 1].map(|partition| AssignedPartition {
            topic_partition: clicks(partition),
            log_start: at(100),
            log_end: at(200),
            at_timestamp: (partition == 0).then(|| at(120)),
            noted: None,
            log_start_ms: None,
        });
        let stored = [(clicks(0), at(150))].into_iter().collect();
        let target = parse(to).unwrap_or_else(|error| panic!("{error}"));
        let found = match moves(&target, &topics.into(), &stored) {
            Ok(moves) => {
                let said = moves.iter().map(|(tp, moved)| {
                    let Consequence { again, skipped } = consequence(moved, at(100));
                    format!("{}->{} -{again} +{skipped}", tp.partition, moved.to)
                });
                said.collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_target_says_where_each_topic_partition_goes_and_what_follows() {
        check("earliest", "0->100 -50 +0, 1->100 -0 +0");
        check("latest", "0->200 -0 +50, 1->200 -0 +100");
        check("2026-01-31T00:00:00Z", "0->120 -30 +0, 1->200 -0 +100");
        check("clicks:0=150", "0->150 -0 +0");
        check("clicks:1=200, clicks:0=101", "0->101 -49 +0, 1->200 -0 +100");
    }

    #[test]
    fn offsets_that_kafka_does_not_have_are_refused() {
        check("clicks:0=99", "`--to` moves clicks:0 to 99, and Kafka has offsets 100 to 200");
        check("clicks:1=201", "`--to` moves clicks:1 to 201, and Kafka has offsets 100 to 200");
        check("clicks:2=150", "`--to` names clicks:2, which the connector does not read");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in ["", "first", "2026-01-31", "clicks:0", "clicks=5", "clicks:0=x", "clicks:-1=5"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("clicks:0=1,clicks:0=2").is_err_and(|error| error.contains("second time")));
    }
}
