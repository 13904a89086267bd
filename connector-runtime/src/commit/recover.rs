//! Where a worker goes on in a topic partition that it was just given: pure decisions.

use connector_api::ids::{TopicId, TopicPartition};
use connector_api::offsets::{Offset, OffsetCheckpoint};

use crate::config::StartAt;
use crate::source::AssignedPartition;

/// What is known of a topic partition when it is assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFacts {
    /// The topic partition.
    pub topic_partition: TopicPartition,
    /// The table's next offset, if the table has ever seen the topic partition.
    pub stored: Option<Offset>,
    /// Where the table stands in a topic of this name and another id.
    pub former: Option<(TopicId, Offset)>,
    /// What was noted down for the group after the last commit. Advice: it tells that something
    /// is wrong with the table, and never where to read.
    pub noted: Option<Offset>,
    /// The first offset that Kafka still has.
    pub log_start: Offset,
    /// The offset behind the last readable record.
    pub log_end: Offset,
    /// The first offset whose record is not older than the configured timestamp, if one is
    /// configured and there is such a record.
    pub at_timestamp: Option<Offset>,
    /// It was added to its topic while we ran.
    pub added: bool,
}

impl PartitionFacts {
    /// Puts together what Kafka says of a topic partition and what the table says of its topic.
    pub fn of(assigned: &AssignedPartition, stored: &OffsetCheckpoint, added: bool) -> Self {
        let topic_partition = &assigned.topic_partition;
        let of_topic = || stored.iter().filter(|(tp, _)| tp.topic == topic_partition.topic);
        let is_known = of_topic().any(|(tp, _)| tp.topic_id == topic_partition.topic_id);
        let others = || of_topic().filter(|(tp, _)| tp.topic_id != topic_partition.topic_id);
        let same_number = others().find(|(tp, _)| tp.partition == topic_partition.partition);
        let former = match same_number {
            // A topic that is known by its own id was accepted before.
            _ if is_known => None,
            Some((tp, next)) => Some((tp.topic_id.clone(), next)),
            // It may have more partitions than before.
            None => others().next().map(|(tp, _)| (tp.topic_id.clone(), Offset::ZERO)),
        };
        Self {
            topic_partition: topic_partition.clone(),
            stored: stored.next(topic_partition),
            former,
            noted: assigned.noted.as_ref().map(|noted| noted.next),
            log_start: assigned.log_start,
            log_end: assigned.log_end,
            at_timestamp: assigned.at_timestamp,
            added,
        }
    }
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The topic was deleted and created again.
    Recreated {
        /// The old topic's id.
        was: TopicId,
        /// Where the table stands in the old topic.
        stored: Offset,
    },
    /// The brokers once gave a topic id and now give none, or the reverse: it cannot be told
    /// whether the topic is the same.
    Unidentified {
        /// The id under which the table knows it.
        was: TopicId,
    },
    /// The table was restored to an older version: we had committed more.
    RolledBack {
        /// The table's next offset.
        stored: Offset,
        /// What was noted down after a commit.
        noted: Offset,
    },
    /// We had committed, and the table knows nothing of it: it was dropped.
    Forgotten {
        /// What was noted down after a commit.
        noted: Offset,
    },
}

/// Decides where to go on. The table is the only truth about offsets.
///
/// | the table's next offset | under another topic id | noted for the group | recovery |
/// |---|---|---|---|
/// | before what is noted | – | there | `RolledBack` |
/// | within `[log start, log end]` | – | – | `Resume` there |
/// | before the log's start | – | – | `Gap` |
/// | behind the log's end | – | – | `BeyondEnd` |
/// | absent | there, both ids known | – | `Recreated` |
/// | absent | there, one of the ids not given | – | `Unidentified` |
/// | absent | absent | there | `Forgotten` |
/// | absent | absent | absent | `Begin` at the start position |
pub fn recover(facts: &PartitionFacts, start_at: &StartAt) -> Recovery {
    let PartitionFacts { log_start, log_end, noted, .. } = *facts;
    let known = &facts.topic_partition.topic_id;
    match (facts.stored, &facts.former, noted) {
        (Some(stored), _, Some(noted)) if stored < noted => Recovery::RolledBack { stored, noted },
        (Some(stored), _, _) if stored < log_start => Recovery::Gap { stored, log_start },
        (Some(stored), _, _) if stored > log_end => Recovery::BeyondEnd { stored, log_end },
        (Some(stored), _, _) => Recovery::Resume(stored),
        (None, Some((was, _)), _)
            if TopicId::Unavailable == *was || TopicId::Unavailable == *known =>
        {
            Recovery::Unidentified { was: was.clone() }
        }
        (None, Some((was, stored)), _) => Recovery::Recreated { was: was.clone(), stored: *stored },
        (None, None, Some(noted)) => Recovery::Forgotten { noted },
        (None, None, None) => Recovery::Begin(start_position(facts, start_at)),
    }
}

/// Decides where to begin in a topic partition that the table has never seen.
///
/// | `start_at` | position |
/// |---|---|
/// | any, and the topic partition was added while we ran | the log's start: all its records are new |
/// | `earliest` | the log's start |
/// | `latest` | the log's end |
/// | a timestamp | the first record that is not older; the log's end if all are |
/// | offsets, this topic partition named | that offset, moved into the log's range |
/// | offsets, not named | the log's start |
pub fn start_position(facts: &PartitionFacts, start_at: &StartAt) -> Offset {
    let PartitionFacts { topic_partition, log_start, log_end, at_timestamp, .. } = facts;
    match start_at {
        _ if facts.added => *log_start,
        StartAt::Earliest => *log_start,
        StartAt::Latest => *log_end,
        StartAt::Timestamp { .. } => at_timestamp.unwrap_or(*log_end),
        StartAt::Offsets(offsets) => {
            match offsets.get(&(topic_partition.topic.to_string(), topic_partition.partition)) {
                Some(offset) => (*offset).clamp(*log_start, *log_end),
                None => *log_start,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Offset {
        Offset::new(offset).unwrap()
    }

    fn id(id: &str) -> TopicId {
        TopicId::Known(id.into())
    }

    fn facts(stored: Option<i64>) -> PartitionFacts {
        PartitionFacts {
            topic_partition: TopicPartition {
                topic: "orders".into(),
                topic_id: id("new"),
                partition: 0,
            },
            stored: stored.map(at),
            former: None,
            noted: None,
            log_start: at(100),
            log_end: at(200),
            at_timestamp: None,
            added: false,
        }
    }

    #[track_caller]
    fn check(facts: PartitionFacts, start_at: &StartAt, expected: &str) {
        let name = match recover(&facts, start_at) {
            Recovery::Resume(at) => format!("resume {at}"),
            Recovery::Begin(at) => format!("begin {at}"),
            Recovery::Gap { stored, log_start } => format!("gap {stored} {log_start}"),
            Recovery::BeyondEnd { stored, log_end } => format!("beyond {stored} {log_end}"),
            Recovery::Recreated { was, stored } => format!("recreated {was} {stored}"),
            Recovery::Unidentified { was } => format!("unidentified {was}"),
            Recovery::RolledBack { stored, noted } => format!("rolled back {stored} {noted}"),
            Recovery::Forgotten { noted } => format!("forgotten {noted}"),
        };
        assert_eq!(name, expected);
    }

    #[test]
    fn the_table_says_where_to_go_on_whatever_the_start_position() {
        for start_at in [StartAt::Earliest, StartAt::Latest, StartAt::Timestamp { ms: 5 }] {
            check(facts(Some(150)), &start_at, "resume 150");
            check(facts(Some(100)), &start_at, "resume 100");
            check(facts(Some(200)), &start_at, "resume 200");
            let added = PartitionFacts { added: true, ..facts(Some(150)) };
            check(added, &start_at, "resume 150");
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
        let offsets = |partition, offset| {
            StartAt::Offsets([(("orders".to_owned(), partition), at(offset))].into())
        };
        check(facts(None), &offsets(0, 150), "begin 150");
        check(facts(None), &offsets(0, 5), "begin 100");
        check(facts(None), &offsets(0, 500), "begin 200");
        check(facts(None), &offsets(1, 150), "begin 100");
    }

    #[test]
    fn a_partition_that_was_added_while_we_ran_begins_with_its_first_record() {
        let added = || PartitionFacts { added: true, ..facts(None) };
        check(added(), &StartAt::Latest, "begin 100");
        check(added(), &StartAt::Timestamp { ms: 5 }, "begin 100");
    }

    #[test]
    fn a_topic_of_another_id_is_not_the_one_that_was_read() {
        let former = |was: TopicId| PartitionFacts { former: Some((was, at(70))), ..facts(None) };
        check(former(id("old")), &StartAt::Earliest, "recreated old 70");
        check(former(TopicId::Unavailable), &StartAt::Earliest, "unidentified no-topic-id");
        let mut without = former(id("old"));
        without.topic_partition.topic_id = TopicId::Unavailable;
        check(without, &StartAt::Earliest, "unidentified old");
        let both = PartitionFacts { former: Some((id("old"), at(70))), ..facts(Some(150)) };
        check(both, &StartAt::Earliest, "resume 150");
    }

    #[test]
    fn what_was_noted_for_the_group_tells_a_table_that_lost_commits() {
        let noted = |stored, noted| PartitionFacts { noted: Some(at(noted)), ..facts(stored) };
        check(noted(Some(150), 150), &StartAt::Earliest, "resume 150");
        check(noted(Some(150), 120), &StartAt::Earliest, "resume 150");
        check(noted(Some(150), 151), &StartAt::Earliest, "rolled back 150 151");
        check(noted(None, 150), &StartAt::Earliest, "forgotten 150");
    }
}
