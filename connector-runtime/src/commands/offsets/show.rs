//! `alluvium offsets show`: per topic partition, what is in the table and what is still to come.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use connector_api::clock::Clock;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint, OffsetRange};
use connector_api::{Context, Error, Result};
use serde_json::{Value, json};

use crate::commands::sheet::{Heading, Sheet};
use crate::commands::situation::{Situation, blocking};
use crate::commit::recover::Recovery;
use crate::config::ConnectorPlan;
use crate::query::{Look, written};
use crate::source::{AssignedPartition, Stretch, glimpse};

/// How long it may take to read the newest visible records.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How far to look back for the newest visible record: transaction markers take offsets too.
const LOOK_BACK: i64 = 10;

/// What a user may ask.
#[derive(Debug, clap::Args)]
#[command(
    about = "Shows per topic partition what is in the table and what is still to come",
    long_about = "Shows per topic partition what is in the table and what is still to come.\n\n\
        NEXT is the next offset that the table will take, GROUP what the consumer group has noted down, LAG what lies \
        between the table and the end of the log, NEWEST VISIBLE the age of the last record in the table. A topic \
        that was deleted and created again has another id: its former positions are listed as such.\n\n\
        Changes nothing, and may be used beside running workers.",
    after_long_help = "Examples:\n  \
        alluvium offsets show clicks.yaml\n  \
        alluvium offsets show connectors/\n  \
        alluvium offsets show clicks.yaml --json | jq '.connectors[0].totals.lag'"
)]
pub struct ShowArgs {
    /// Connector files, or folders of them (*.yaml, *.yml)
    #[arg(value_name = "FILE_OR_DIR", required = true)]
    pub paths: Vec<PathBuf>,

    /// One JSON document for all connectors
    #[arg(long)]
    pub json: bool,
}

/// Shows where connectors stand. One that cannot be asked does not stand in the way of the others:
/// its error comes back.
pub async fn run(
    json: bool,
    plans: Vec<ConnectorPlan>,
    clock: Arc<dyn Clock>,
) -> Result<Vec<Error>> {
    let (mut standings, mut errors) = (Vec::new(), Vec::new());
    for plan in plans {
        match Standing::of(plan, clock.clone()).await {
            Ok(standing) => standings.push(standing),
            Err(error) => errors.push(error),
        }
    }
    let (now, look) = (clock.wall_ms(), Look::of_stdout());
    let mut out = BufWriter::new(std::io::stdout());
    let printed = match json {
        true => writeln!(out, "{:#}", document(&standings, now)),
        false => standings.iter().enumerate().try_for_each(|(i, standing)| {
            if i > 0 {
                writeln!(out)?;
            }
            standing.print(now, look, &mut out)
        }),
    };
    written(printed.and_then(|()| out.flush()))?;
    Ok(errors)
}

/// Where a connector stands.
struct Standing {
    plan: ConnectorPlan,
    has_table: bool,
    lines: Vec<Line>,
    /// What the table remembers of topics by ids, or of topics, that the connector does not read now.
    former: Vec<(TopicPartition, Offset)>,
}

/// Where it stands in one topic partition.
struct Line {
    topic_partition: TopicPartition,
    /// The table's next offset, if the table has ever seen the topic partition.
    next: Option<Offset>,
    /// What `run` would do.
    recovery: Recovery,
    group: Option<Offset>,
    log_start: Offset,
    log_end: Offset,
    /// The time of the newest visible record, if Kafka still has it.
    newest_ms: Option<i64>,
}

impl Standing {
    async fn of(plan: ConnectorPlan, clock: Arc<dyn Clock>) -> Result<Self> {
        let doing = format!("connector `{}`", plan.name);
        let situation = Situation::find(&plan, clock.clone()).await?;
        blocking(move || Self::ask(plan, &situation, clock.as_ref())).await.context(|| doing)
    }

    fn ask(plan: ConnectorPlan, situation: &Situation, clock: &dyn Clock) -> Result<Self> {
        let topics = &situation.topics;
        let read_now = topics.iter().map(|assigned| &assigned.topic_partition);
        let newest = newest(&plan, situation, clock)?;
        let former = situation.stored.iter().filter(|(tp, _)| !read_now.clone().any(|r| r == *tp));
        let former = former.map(|(tp, next)| (tp.clone(), next)).collect();
        let lines = topics.iter().zip(newest).map(|(assigned, newest_ms)| {
            let AssignedPartition { topic_partition, log_start, log_end, .. } = assigned.clone();
            Line {
                next: situation.stored.next(&topic_partition),
                recovery: situation.recovery(assigned, &plan.source.start_at),
                group: assigned.noted.as_ref().map(|noted| noted.next),
                topic_partition,
                log_start,
                log_end,
                newest_ms,
            }
        });
        let lines = lines.collect();
        Ok(Self { plan, has_table: situation.table.is_some(), lines, former })
    }

    fn lag(&self) -> u64 {
        self.lines.iter().map(Line::lag).sum()
    }

    fn newest_ms(&self) -> Option<i64> {
        self.lines.iter().filter_map(|line| line.newest_ms).max()
    }

    fn print(&self, now: i64, look: Look, out: &mut dyn Write) -> std::io::Result<()> {
        let ConnectorPlan { name, source, table, .. } = &self.plan;
        let (location, group) = (table.sink.location(), &source.group_id);
        match self.has_table {
            true => writeln!(out, "{name}: table `{location}`, group `{group}`")?,
            false => writeln!(
                out,
                "{name}: there is no table yet at `{location}`, group `{group}`; NOTE says where `run` would begin"
            )?,
        }
        let mut sheet = Sheet::new(HEADINGS);
        for line in &self.lines {
            sheet.line(line.cells(now));
        }
        for (topic_partition, next) in &self.former {
            sheet.line(self.former_cells(topic_partition, *next));
        }
        let mut total = [const { String::new() }; HEADINGS.len()];
        total[0] = "total".to_owned();
        total[6] = self.lag().to_string();
        total[7] = age_ago(self.newest_ms(), now);
        sheet.line(total);
        sheet.write(look, out)
    }

    fn former_cells(&self, topic_partition: &TopicPartition, next: Offset) -> Vec<String> {
        let TopicPartition { topic, topic_id, partition } = topic_partition;
        let note = match self.is_read_by_name(topic_partition) {
            true => format!("former topic id {topic_id}"),
            false => "not read any more".to_owned(),
        };
        let mut cells = vec!["-".to_owned(); HEADINGS.len()];
        cells[0] = topic.to_string();
        cells[1] = partition.to_string();
        cells[2] = next.to_string();
        cells[8] = note;
        cells
    }

    fn is_read_by_name(&self, former: &TopicPartition) -> bool {
        self.lines.iter().any(|line| line.topic_partition.topic == former.topic)
    }

    fn document(&self, now: i64) -> Value {
        let former = self.former.iter().map(|(topic_partition, next)| {
            json!({
                "topic": &*topic_partition.topic,
                "topic_id": topic_partition.topic_id.to_string(),
                "partition": topic_partition.partition,
                "next": next,
                "topic_is_read": self.is_read_by_name(topic_partition),
            })
        });
        json!({
            "connector": self.plan.name,
            "file": self.plan.file.display().to_string(),
            "table": {"location": self.plan.table.sink.location(), "exists": self.has_table},
            "group": self.plan.source.group_id,
            "topic_partitions": self.lines.iter().map(|line| line.document(now)).collect::<Vec<_>>(),
            "former": former.collect::<Vec<_>>(),
            "totals": {
                "topic_partitions": self.lines.len(),
                "lag": self.lag(),
                "newest_visible": newest_visible(self.newest_ms(), now),
            },
        })
    }
}

const HEADINGS: &[Heading] = &[
    Heading::Text("TOPIC"),
    Heading::Number("PARTITION"),
    Heading::Number("NEXT"),
    Heading::Number("GROUP"),
    Heading::Number("LOG START"),
    Heading::Number("LOG END"),
    Heading::Number("LAG"),
    Heading::Number("NEWEST VISIBLE"),
    Heading::Text("NOTE"),
];

impl Line {
    /// Offsets between where the table stands, or would begin, and the end of the log.
    fn lag(&self) -> u64 {
        let from = self.next.or_else(|| self.begins_at()).unwrap_or(self.log_start);
        OffsetRange::new(from, self.log_end).map_or(0, OffsetRange::len)
    }

    fn begins_at(&self) -> Option<Offset> {
        match self.recovery {
            Recovery::Begin(at) => Some(at),
            _ => None,
        }
    }

    fn note(&self) -> Option<String> {
        match &self.recovery {
            Recovery::Resume(_) => None,
            Recovery::Begin(at) => Some(format!("begins at {at}")),
            Recovery::Gap { stored, log_start } => {
                let gone = OffsetRange::new(*stored, *log_start).map_or(0, OffsetRange::len);
                Some(format!("gap: {gone} offsets are no longer in Kafka"))
            }
            Recovery::BeyondEnd { .. } => Some("the log ends before the table".to_owned()),
            Recovery::Recreated { stored, .. } => {
                Some(format!("topic created anew: the old one was read up to {stored}"))
            }
            Recovery::Unidentified { was } => Some(format!("the table knows the topic id {was}")),
            Recovery::RolledBack { noted, .. } => {
                Some(format!("the table went back: {noted} was committed"))
            }
            Recovery::Forgotten { noted } => {
                Some(format!("the table was dropped: {noted} was committed"))
            }
        }
    }

    fn cells(&self, now: i64) -> Vec<String> {
        let offset =
            |offset: Option<Offset>| offset.map_or_else(|| "-".to_owned(), |at| at.to_string());
        vec![
            self.topic_partition.topic.to_string(),
            self.topic_partition.partition.to_string(),
            offset(self.next),
            offset(self.group),
            self.log_start.to_string(),
            self.log_end.to_string(),
            self.lag().to_string(),
            age_ago(self.newest_ms, now),
            self.note().unwrap_or_default(),
        ]
    }

    fn document(&self, now: i64) -> Value {
        json!({
            "topic": &*self.topic_partition.topic,
            "topic_id": self.topic_partition.topic_id.to_string(),
            "partition": self.topic_partition.partition,
            "next": self.next,
            "begins_at": self.begins_at(),
            "group": self.group,
            "log_start": self.log_start,
            "log_end": self.log_end,
            "lag": self.lag(),
            "newest_visible": newest_visible(self.newest_ms, now),
            "note": self.note(),
        })
    }
}

fn document(standings: &[Standing], now: i64) -> Value {
    let connectors = standings.iter().map(|standing| standing.document(now));
    json!({"connectors": connectors.collect::<Vec<_>>()})
}

/// The time of the newest visible record of each topic partition: the record before the table's next
/// offset, read from Kafka. `None` where the table has none, or Kafka no longer has it.
fn newest(
    plan: &ConnectorPlan,
    situation: &Situation,
    clock: &dyn Clock,
) -> Result<Vec<Option<i64>>> {
    let stretch = |assigned: &AssignedPartition| {
        let topic_partition = assigned.topic_partition.clone();
        let range = before(&situation.stored, assigned);
        // An empty range reads nothing.
        let nothing = OffsetRange::new(assigned.log_end, assigned.log_end)?;
        Some(Stretch { topic_partition, range: range.unwrap_or(nothing), records_max: usize::MAX })
    };
    let stretches: Vec<Stretch> = situation.topics.iter().filter_map(stretch).collect();
    let read = glimpse(&plan.source, &stretches, READ_LIMIT, clock)?;
    let newest = |records: &[i64]| records.last().copied().filter(|ms| *ms >= 0);
    Ok(read.records.iter().map(|records| newest(records.timestamps_ms())).collect())
}

/// The last offsets before the table's next one, as far as Kafka has them.
fn before(stored: &OffsetCheckpoint, assigned: &AssignedPartition) -> Option<OffsetRange> {
    let next = stored.next(&assigned.topic_partition).filter(|next| *next <= assigned.log_end)?;
    let from = Offset::new(next.get() - LOOK_BACK).unwrap_or(Offset::ZERO);
    OffsetRange::new(from.max(assigned.log_start), next)
}

fn newest_visible(ms: Option<i64>, now: i64) -> Value {
    let Some(ms) = ms else { return Value::Null };
    let at = jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string());
    json!({"timestamp": at.ok(), "age_seconds": (now - ms).max(0) / 1000})
}

fn age_ago(ms: Option<i64>, now: i64) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{} ago", age(now - ms)))
}

/// An age in the unit that says most.
fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_said_in_the_unit_that_says_most() {
        let said = [-5, 1_999, 119_000, 120_000, 7_200_000, 172_800_000].map(age);
        assert_eq!(said, ["0 s", "1 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
