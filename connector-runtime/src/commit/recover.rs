//! Where a worker goes on in a topic partition that it was just given: pure decisions.

use connector_api::offsets::Offset;

use crate::config::StartAt;

/// What is known of a topic partition when it is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionFacts {
    /// The table's next offset, if the table has ever seen the topic partition.
    pub stored: Option<Offset>,
    /// The first offset that Kafka still has.
    pub log_start: Offset,
    /// The offset behind the last readable record.
    pub log_end: Offset,
    /// The first offset whose record is not older than the configured timestamp, if one is
    /// configured and there is such a record.
    pub at_timestamp: Option<Offset>,
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The table says.
    Resume(Offset),
    /// The table has never seen it: a start position was decided.
    Begin(Offset),
    /// Retention has removed records that the table does not have.
    Gap {
        /// The table's next offset.
        stored: Offset,
        /// The first offset that Kafka still has.
        log_start: Offset,
    },
    /// The table has records that Kafka does not have: the topic is not the one we knew.
    BeyondEnd {
        /// The table's next offset.
        stored: Offset,
        /// The offset behind Kafka's last record.
        log_end: Offset,
    },
}

/// Decides where to go on. The table is the only truth; the group's offsets are never asked.
///
/// | the table's next offset | recovery |
/// |---|---|
/// | absent | `Begin` at the start position |
/// | within `[log start, log end]` | `Resume` there |
/// | before the log's start | `Gap` |
/// | behind the log's end | `BeyondEnd` |
pub fn recover(
    facts: &PartitionFacts,
    start_at: &StartAt,
    topic: &str,
    partition: i32,
) -> Recovery {
    let PartitionFacts { stored, log_start, log_end, .. } = *facts;
    match stored {
        None => Recovery::Begin(start_position(facts, start_at, topic, partition)),
        Some(stored) if stored < log_start => Recovery::Gap { stored, log_start },
        Some(stored) if stored > log_end => Recovery::BeyondEnd { stored, log_end },
        Some(stored) => Recovery::Resume(stored),
    }
}

/// Decides where to begin in a topic partition that the table has never seen.
///
/// | `start_at` | position |
/// |---|---|
/// | `earliest` | the log's start |
/// | `latest` | the log's end |
/// | a timestamp | the first record that is not older; the log's end if all are |
/// | offsets, this topic partition named | that offset, moved into the log's range |
/// | offsets, not named | the log's start |
fn start_position(
    facts: &PartitionFacts,
    start_at: &StartAt,
    topic: &str,
    partition: i32,
) -> Offset {
    let PartitionFacts { log_start, log_end, at_timestamp, .. } = *facts;
    match start_at {
        StartAt::Earliest => log_start,
        StartAt::Latest => log_end,
        StartAt::Timestamp { .. } => at_timestamp.unwrap_or(log_end),
        StartAt::Offsets(offsets) => match offsets.get(&(topic.to_owned(), partition)) {
            Some(offset) => (*offset).clamp(log_start, log_end),
            None => log_start,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(stored: Option<i64>) -> PartitionFacts {
        let at = |offset| Offset::new(offset).unwrap();
        PartitionFacts {
            stored: stored.map(at),
            log_start: at(100),
            log_end: at(200),
            at_timestamp: None,
        }
    }

    #[track_caller]
    fn check(facts: PartitionFacts, start_at: &StartAt, expected: &str) {
        let name = match recover(&facts, start_at, "orders", 0) {
            Recovery::Resume(at) => format!("resume {at}"),
            Recovery::Begin(at) => format!("begin {at}"),
            Recovery::Gap { stored, log_start } => format!("gap {stored} {log_start}"),
            Recovery::BeyondEnd { stored, log_end } => format!("beyond {stored} {log_end}"),
        };
        assert_eq!(name, expected);
    }

    #[test]
    fn the_table_says_where_to_go_on_whatever_the_start_position() {
        for start_at in [StartAt::Earliest, StartAt::Latest, StartAt::Timestamp { ms: 5 }] {
            check(facts(Some(150)), &start_at, "resume 150");
            check(facts(Some(100)), &start_at, "resume 100");
            check(facts(Some(200)), &start_at, "resume 200");
        }
    }

    #[test]
    fn a_position_outside_of_the_log_is_never_passed_over() {
        check(facts(Some(99)), &StartAt::Earliest, "gap 99 100");
        check(facts(Some(0)), &StartAt::Latest, "gap 0 100");
        check(facts(Some(201)), &StartAt::Earliest, "beyond 201 200");
    }

    #[test]
    fn a_topic_partition_that_the_table_has_never_seen_begins_where_the_user_says() {
        check(facts(None), &StartAt::Earliest, "begin 100");
        check(facts(None), &StartAt::Latest, "begin 200");
        check(facts(None), &StartAt::Timestamp { ms: 5 }, "begin 200");
        let found = PartitionFacts { at_timestamp: Offset::new(120), ..facts(None) };
        check(found, &StartAt::Timestamp { ms: 5 }, "begin 120");
    }
}
