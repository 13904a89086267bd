//! `alluvium preview`: what `run` would make of the next records, without making it.
//!
//! The journey of a preview: where table and brokers stand ([`Situation`]), some records of each
//! topic partition ([`glimpse`]), the columns that `run` would fill, rows by the same decoder and the
//! same [`assemble`]. Nothing is written: the table is only read, and no group is joined.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use connector_api::clock::Clock;
use connector_api::decoded::{DecodedRows, Rejected};
use connector_api::decoder::RESCUED_COLUMN;
use connector_api::offsets::{Offset, OffsetRange};
use connector_api::record::{Origin, RawRecords, RawRecordsBuilder};
use connector_api::schema::type_name;
use connector_api::{Context, Result};
use serde_json::{Value, json};

use super::sheet::{Heading, Sheet};
use super::situation::{Situation, blocking};
use crate::commit::recover::Recovery;
use crate::commit::refusals;
use crate::config::{ConnectorPlan, OnBadRecord};
use crate::memory::MemoryShare;
use crate::observe::terminal::grouped;
use crate::pipeline::table::{SAMPLE_RECORDS_MAX, decode_request, not_inferred, schema_for_new};
use crate::query::{self, Look, print_batches, written};
use crate::source::{ByteGauge, SourceBatch, Stretch, glimpse};
use crate::write::assemble::assemble;

/// How long reading may take.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// What a user may ask.
#[derive(Debug, clap::Args)]
#[command(
    about = "Reads a few records and shows the rows that they would become",
    long_about = "Reads a few records and shows the columns, the rows that the records would become, what would be \
        rejected and what would be rescued.\n\n\
        Reads from where `run` would: where the table stands, or from `start_at`. Columns are those that `run` \
        would fill: the table's, the declared ones, or those that the first records show.\n\n\
        Nothing is written: no table, no offsets, and no group is joined. It may be used beside running workers.",
    after_long_help = "Examples:\n  \
        alluvium preview clicks.yaml\n  \
        alluvium preview clicks.yaml --records 200\n  \
        alluvium preview clicks.yaml --format json | jq '.rejected'\n\n\
        Exit codes: 0 done, also if there is no record to read; 1 failed; 2 usage or configuration."
)]
pub struct PreviewArgs {
    /// The connector's file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// How many records to show, dealt out to the topic partitions
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub records: u32,

    /// For people, or one JSON document
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// How a preview is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// One JSON document.
    Json,
}

/// Shows the preview of a connector.
pub async fn run(args: &PreviewArgs, plan: ConnectorPlan, clock: Arc<dyn Clock>) -> Result<()> {
    let doing = format!("connector `{}`", plan.name);
    let situation = Situation::find(&plan, clock.clone()).await?;
    let wanted = args.records as usize;
    let preview = blocking(move || Preview::of(plan, &situation, wanted, clock.as_ref()));
    let preview = preview.await.context(|| doing)?;
    let mut out = BufWriter::new(std::io::stdout());
    match args.format {
        Format::Table => preview.print(Look::of_stdout(), &mut out),
        Format::Json => preview.print_json(&mut out),
    }
}

/// What `run` would make of some records.
struct Preview {
    plan: ConnectorPlan,
    columns: Option<Columns>,
    /// Rows with all of the table's columns.
    rows: Vec<RecordBatch>,
    rejected: Vec<Rejected>,
    rescued: Vec<(Origin, String)>,
    /// Records that were decoded, and those of them without a value.
    records: u64,
    tombstones: u64,
    topic_partitions: usize,
    /// What a user should know about where the records come from.
    notes: Vec<String>,
}

/// The columns of the table, and how they came about.
struct Columns {
    schema: SchemaRef,
    from: ColumnsFrom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnsFrom {
    Table,
    Declared,
    /// The number of records that show them.
    Records(usize),
}

impl Preview {
    fn of(
        plan: ConnectorPlan,
        situation: &Situation,
        wanted: usize,
        clock: &dyn Clock,
    ) -> Result<Self> {
        let infers = situation.table.is_none() && plan.schema.columns.is_none();
        let (stretches, mut notes) = stretches(&plan, situation);
        let sample = if infers { wanted.max(SAMPLE_RECORDS_MAX) } else { wanted };
        let read = glimpse(&plan.source, &dealt(stretches, sample), READ_LIMIT, clock)?;
        if !read.complete {
            notes.push(format!(
                "not all records came within {} s; these are those that did",
                READ_LIMIT.as_secs()
            ));
        }
        let columns = columns(&plan, situation, &read.records)?;
        let available: Vec<u64> = read.records.iter().map(|records| records.len() as u64).collect();
        let shown: Vec<RawRecords> = read
            .records
            .iter()
            .zip(deal(wanted, &available))
            .filter(|(_, count)| *count > 0)
            .map(|(records, count)| first(records, count))
            .collect();
        let mut preview = Self {
            plan,
            columns,
            rows: Vec::new(),
            rejected: Vec::new(),
            rescued: Vec::new(),
            records: 0,
            tombstones: 0,
            topic_partitions: shown.len(),
            notes,
        };
        preview.decode(&shown)?;
        Ok(preview)
    }

    fn decode(&mut self, shown: &[RawRecords]) -> Result<()> {
        let Some(Columns { schema, .. }) = &self.columns else { return Ok(()) };
        let request = decode_request(&self.plan, schema)?;
        let mut decoder = self.plan.decoder.decoder(&request)?;
        for records in shown {
            let decoded = decoder.decode(records);
            let rows = assemble(records, &decoded, schema)?;
            self.rescued.extend(rescued(records, &decoded, &rows));
            self.records += decoded.accounting().consumed;
            self.tombstones += decoded.accounting().tombstones;
            self.rejected.extend_from_slice(decoded.rejected());
            self.rows.push(rows);
        }
        Ok(())
    }

    fn row_count(&self) -> u64 {
        self.rows.iter().map(|rows| rows.num_rows() as u64).sum()
    }

    fn print(&self, look: Look, out: &mut (dyn Write + Send)) -> Result<()> {
        written(self.print_head(look, out))?;
        if let Some(Columns { schema, .. }) = &self.columns
            && self.row_count() > 0
        {
            written(writeln!(out, "\n{}", look.strong("Rows")))?;
            print_batches(schema.clone(), &self.rows, query::Format::Table, look, out)?;
        }
        written(self.print_tail(look, out).and_then(|()| out.flush()))
    }

    fn print_head(&self, look: Look, out: &mut dyn Write) -> std::io::Result<()> {
        let name = &self.plan.name;
        match self.records {
            0 => writeln!(out, "{name}: there is no record to read")?,
            _ => writeln!(
                out,
                "{name}: {} of {}: {}, {} rejected, {}",
                counted(self.records, "record"),
                counted(self.topic_partitions as u64, "topic partition"),
                counted(self.row_count(), "row"),
                grouped(self.rejected.len() as u64),
                counted(self.tombstones, "tombstone"),
            )?,
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
        writeln!(out)?;
        let Some(Columns { schema, from }) = &self.columns else {
            let to_come = "are inferred from the first records; none are there yet";
            return writeln!(out, "{} {to_come}", look.strong("Columns"));
        };
        writeln!(
            out,
            "{}, {}",
            look.strong("Columns"),
            from.said(self.plan.table.sink.location())
        )?;
        let mut sheet =
            Sheet::new(&[Heading::Text("NAME"), Heading::Text("TYPE"), Heading::Text("NULLABLE")]);
        for [name, data_type, nullable] in described(schema) {
            sheet.line([name, data_type, nullable]);
        }
        sheet.write(look, out)
    }

    fn print_tail(&self, look: Look, out: &mut dyn Write) -> std::io::Result<()> {
        if !self.rejected.is_empty() {
            let what = match self.plan.on_bad_record {
                OnBadRecord::DeadLetter(_) => "`run` would keep them as dead letters",
                OnBadRecord::Stop => "`run` would stop in front of the first of a topic partition",
                OnBadRecord::Drop => "`run` would go on without them",
            };
            writeln!(out, "\n{}, {what}", look.strong("Rejected"))?;
            let mut sheet = Sheet::new(&[Heading::Text("RECORD"), Heading::Text("CAUSE")]);
            for rejected in &self.rejected {
                sheet.line([rejected.origin.to_string(), rejected.cause.to_string()]);
            }
            sheet.write(look, out)?;
        }
        if !self.rescued.is_empty() {
            let what = "what no column takes, kept in the column `_rescued`";
            writeln!(out, "\n{}, {what}", look.strong("Rescued"))?;
            let mut sheet = Sheet::new(&[Heading::Text("RECORD"), Heading::Text("FIELDS")]);
            for (origin, fields) in &self.rescued {
                sheet.line([origin.to_string(), fields.clone()]);
            }
            sheet.write(look, out)?;
        }
        writeln!(out, "\n{}", look.dim("Nothing was written."))
    }

    /// One document. Rows are written as they stand, so that no number loses digits on the way.
    fn print_json(&self, out: &mut (dyn Write + Send)) -> Result<()> {
        let mut rows = Vec::new();
        if let Some(Columns { schema, .. }) = &self.columns {
            let look = Look::default();
            print_batches(schema.clone(), &self.rows, query::Format::Json, look, &mut rows)?;
        }
        let rows = String::from_utf8_lossy(&rows).trim_end().replace('\n', ",\n    ");
        let rest = self.document().to_string();
        let rest = rest.strip_suffix('}').unwrap_or(&rest);
        let document = match rows.is_empty() {
            true => writeln!(out, "{rest},\"rows\":[]}}"),
            false => writeln!(out, "{rest},\"rows\":[\n    {rows}\n]}}"),
        };
        written(document.and_then(|()| out.flush()))
    }

    fn document(&self) -> Value {
        let columns = self.columns.iter().flat_map(|columns| columns.schema.fields());
        let columns = columns.map(|field| {
            json!({"name": field.name(), "type": type_name(field.data_type()), "nullable": field.is_nullable()})
        });
        let place = |origin: &Origin| {
            let topic_partition = &origin.topic_partition;
            json!({
                "topic": &*topic_partition.topic,
                "partition": topic_partition.partition,
                "offset": origin.offset,
            })
        };
        let rejected = self.rejected.iter().map(|rejected| {
            let cause = &rejected.cause;
            json!({
                "record": place(&rejected.origin),
                "code": cause.code, "path": cause.path, "message": cause.message,
            })
        });
        let rescued = self
            .rescued
            .iter()
            .map(|(origin, fields)| json!({"record": place(origin), "fields": fields}));
        json!({
            "connector": self.plan.name,
            "table": self.plan.table.sink.location(),
            "records": self.records,
            "tombstones": self.tombstones,
            "notes": self.notes,
            "columns_from": self.columns.as_ref().map(|columns| columns.from.word()),
            "columns": columns.collect::<Vec<_>>(),
            "rejected": rejected.collect::<Vec<_>>(),
            "rescued": rescued.collect::<Vec<_>>(),
        })
    }
}

impl ColumnsFrom {
    fn said(self, location: &str) -> String {
        match self {
            Self::Table => format!("of the table at `{location}`"),
            Self::Declared => "declared in `schema.columns`; there is no table yet".to_owned(),
            Self::Records(count) => {
                let records = counted(count as u64, "record");
                format!("inferred from the first {records}; there is no table yet")
            }
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Declared => "declared",
            Self::Records(_) => "inferred",
        }
    }
}

/// Where `run` would read, as far as records may be there.
fn stretches(plan: &ConnectorPlan, situation: &Situation) -> (Vec<Stretch>, Vec<String>) {
    let (mut stretches, mut notes) = (Vec::new(), Vec::new());
    for assigned in &situation.topics {
        let topic_partition = &assigned.topic_partition;
        let from = match situation.recovery(assigned, &plan.source.start_at) {
            Recovery::Resume(at) | Recovery::Begin(at) => at,
            refused => {
                let from = match refused {
                    Recovery::BeyondEnd { log_end, .. } => log_end,
                    Recovery::RolledBack { stored, .. } => stored,
                    _ => assigned.log_start,
                };
                let why = refusals::explain(plan, assigned, refused);
                notes
                    .push(format!("`run` would stop; this shows what comes from {from} on. {why}"));
                from
            }
        };
        if let Some(range) = OffsetRange::new(from, assigned.log_end) {
            let topic_partition = topic_partition.clone();
            stretches.push(Stretch { topic_partition, range, records_max: 0 });
        }
    }
    if !stretches.is_empty() && stretches.iter().all(|stretch| stretch.range.is_empty()) {
        notes.push(match situation.stored.iter().next() {
            Some(_) => "the table stands at the ends of the logs".to_owned(),
            None => "the topics hold nothing from `start_at` on".to_owned(),
        });
    }
    (stretches, notes)
}

/// Says how many records to read of each stretch, so that this many are read in all.
fn dealt(mut stretches: Vec<Stretch>, wanted: usize) -> Vec<Stretch> {
    let available: Vec<u64> = stretches.iter().map(|stretch| stretch.range.len()).collect();
    for (stretch, count) in stretches.iter_mut().zip(deal(wanted, &available)) {
        stretch.records_max = count;
    }
    stretches
}

/// Deals `wanted` out: as evenly as it can be done with what each has.
fn deal(wanted: usize, available: &[u64]) -> Vec<usize> {
    let mut dealt = vec![0; available.len()];
    let mut left = wanted;
    loop {
        let has_more = |i: &usize| (dealt[*i] as u64) < available[*i];
        let open: Vec<usize> = (0..available.len()).filter(has_more).collect();
        if open.is_empty() || left == 0 {
            return dealt;
        }
        let share = (left / open.len()).max(1);
        for i in open {
            let more = available[i] - dealt[i] as u64;
            let given = share.min(left).min(usize::try_from(more).unwrap_or(usize::MAX));
            dealt[i] += given;
            left -= given;
        }
    }
}

/// The columns of the table that `run` would fill; `None` if only records could tell, and none are there.
fn columns(
    plan: &ConnectorPlan,
    situation: &Situation,
    sample: &[RawRecords],
) -> Result<Option<Columns>> {
    if let Some(table) = &situation.table {
        return Ok(Some(Columns { schema: table.schema(), from: ColumnsFrom::Table }));
    }
    let count: usize = sample.iter().map(RawRecords::len).sum();
    let from = match plan.schema.columns {
        Some(_) => ColumnsFrom::Declared,
        None if count == 0 => return Ok(None),
        None => ColumnsFrom::Records(count.min(SAMPLE_RECORDS_MAX)),
    };
    let gauge = ByteGauge::new(&MemoryShare::alone());
    let batch = |records: &RawRecords| SourceBatch {
        records: records.clone(),
        epoch: 0,
        held: gauge.hold(0),
    };
    let sample: Vec<SourceBatch> = sample.iter().map(batch).collect();
    let schema = schema_for_new(plan, &sample)?;
    let schema = schema
        .ok_or_else(|| not_inferred(plan, sample.iter().map(|b| b.records.len()).sum()))?
        .columns;
    Ok(Some(Columns { schema, from }))
}

/// The first records of some.
fn first(records: &RawRecords, count: usize) -> RawRecords {
    let mut builder =
        RawRecordsBuilder::new(records.topic_partition().clone(), records.range().start());
    for record in 0..count.min(records.len()) {
        if let Some(offset) = Offset::new(records.offsets()[record]) {
            builder.push(offset, records.timestamps_ms()[record], records.value(record));
        }
    }
    builder.take()
}

/// What the rows hold in `_rescued`.
fn rescued(
    records: &RawRecords,
    decoded: &DecodedRows,
    rows: &RecordBatch,
) -> Vec<(Origin, String)> {
    let column = rows.column_by_name(RESCUED_COLUMN);
    let Some(fields) = column.and_then(|column| column.as_string_opt::<i32>()) else {
        return Vec::new();
    };
    let of_row = |(row, fields): (&u32, Option<&str>)| {
        let offset = Offset::new(records.offsets()[*row as usize])?;
        let topic_partition = records.topic_partition().clone();
        Some((Origin { topic_partition, offset }, fields?.to_owned()))
    };
    decoded.row_records().iter().zip(fields.iter()).filter_map(of_row).collect()
}

fn described(schema: &Schema) -> impl Iterator<Item = [String; 3]> {
    schema.fields().iter().map(|field| {
        let nullable = if field.is_nullable() { "yes" } else { "no" };
        [field.name().clone(), type_name(field.data_type()), nullable.to_owned()]
    })
}

/// `1 row`, `2 rows`.
fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: usize, available: &[u64], expected: &[usize]) {
        assert_eq!(deal(wanted, available), expected);
    }

    #[test]
    fn records_are_dealt_evenly_as_far_as_each_topic_partition_has_some() {
        check(20, &[100, 100, 100, 100], &[5, 5, 5, 5]);
        check(20, &[2, 100, 0, 100], &[2, 9, 0, 9]);
        check(20, &[3, 4], &[3, 4]);
        check(2, &[9, 9, 9], &[1, 1, 0]);
        check(5, &[9, 9, 9], &[2, 2, 1]);
        check(5, &[], &[]);
    }
}
