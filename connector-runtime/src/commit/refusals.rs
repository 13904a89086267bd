//! Why a topic partition is not read, and what a person can do: what was lost or moved, in offsets and
//! in time, and the command that goes on.

use connector_api::Error;
use connector_api::ids::TopicPartition;
use connector_api::offsets::Offset;

use super::recover::Recovery;
use crate::config::ConnectorPlan;
use crate::source::{AssignedPartition, Noted};

/// Says why nothing is read. The connector stops with it.
pub fn explain(plan: &ConnectorPlan, assigned: &AssignedPartition, why: Recovery) -> Error {
    let tp = &assigned.topic_partition;
    let reset =
        |to: &str| format!("`alluvium offsets reset {} --to {to} --yes`", plan.file.display());
    let committed = committed(assigned.noted.as_ref());
    let table = plan.table.sink.location();
    Error::decision(match why {
        Recovery::Gap { stored, log_start } => format!(
            "{tp}: records that the table does not have are gone from Kafka: the table stands at offset {stored}{committed}, \
             and the first record that is left is {log_start}{}: {} offsets were removed before they were read, \
             and nothing was skipped. To go on with what is left, set `on_gap: continue`, which notes the gap in the table, \
             or run {}",
            of_time(assigned.log_start_ms),
            log_start.get() - stored.get(),
            reset("earliest")
        ),
        Recovery::BeyondEnd { stored, log_end } => format!(
            "{tp}: the table stands at offset {stored}{committed}, and Kafka's log ends at {log_end}: {} offsets that the table \
             holds are not in it. Was the topic emptied, or is it another cluster's? To read what is there now, run {}",
            stored.get() - log_end.get(),
            reset("earliest")
        ),
        Recovery::Recreated { was, stored } => format!(
            "{tp}: the topic was deleted and created again: the table stands at offset {stored} of the topic with the id {was}{committed}, \
             and the id is now {}. Its records begin anew; what the old one held behind {stored} cannot be read any more. \
             To read the new topic from its first record, run {}, or set `on_topic_recreated: continue`, which does \
             so each time and notes it in the table",
            tp.topic_id,
            reset("earliest")
        ),
        Recovery::Unidentified { was } => format!(
            "{tp}: the table knows the topic under the id {was}, and the brokers now give {}: whether it is the same topic \
             cannot be told. If it is, run {}",
            tp.topic_id,
            reset(&format!("{}:{}=OFFSET", tp.topic, tp.partition))
        ),
        Recovery::RolledBack { stored, noted } => format!(
            "{tp}: the table went back: it stands at offset {stored}, and this connector had committed up to {noted}{committed}: \
             {} offsets are no longer in the table at `{table}`. Was it restored to an older version? \
             To read on from where it stands, run {}",
            noted.get() - stored.get(),
            reset(&format!("{}:{}={stored}", tp.topic, tp.partition))
        ),
        Recovery::Forgotten { noted } => format!(
            "{tp}: this connector had committed up to offset {noted}{committed}, and the table at `{table}` knows nothing of it: \
             it was dropped, or created again, or `location` names another place than before. To fill it anew, run {}, \
             which says from where, and start again",
            reset("earliest")
        ),
        Recovery::Resume(at) | Recovery::Begin(at) => unexpected(at),
    })
}

/// Says why the dead letters of a round keep another configuration from going on.
pub fn round_of_another_configuration(
    plan: &ConnectorPlan,
    dead_letters: &str,
    topic_partition: &TopicPartition,
    stored: Option<Offset>,
    dead_letters_next: Offset,
) -> Error {
    let (topic, partition) = (&topic_partition.topic, topic_partition.partition);
    let stands = stored.map_or_else(|| "has none of it".to_owned(), |at| format!("stands at {at}"));
    let file = plan.file.display();
    let to = stored.map_or_else(|| "earliest".to_owned(), |at| format!("{topic}:{partition}={at}"));
    Error::decision(format!(
        "{topic_partition}: the configuration was changed while a round was half committed: its dead letters are \
         in `{dead_letters}` up to offset {dead_letters_next}, and the table {stands}. Start once with the previous \
         configuration, which ends the round, and change it then. Or run `alluvium offsets reset {file} --to {to} \
         --yes`, which decides these records anew and may put dead letters of the round there a second time"
    ))
}

fn unexpected(at: Offset) -> String {
    format!("reading from offset {at} was refused without a reason, which is a bug")
}

fn committed(noted: Option<&Noted>) -> String {
    noted
        .and_then(|noted| noted.wall_ms)
        .map_or_else(String::new, |ms| format!(" (last commit {})", time(ms)))
}

fn of_time(ms: Option<i64>) -> String {
    ms.map_or_else(String::new, |ms| format!(", of {}", time(ms)))
}

fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => format!("{ms} ms since 1970"),
    }
}
