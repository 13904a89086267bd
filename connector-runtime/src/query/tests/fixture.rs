//! A small Delta table, written through the sink that the program has.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use connector_api::batch::{PartitionValues, TableBatch, TableSchema};
use connector_api::config::{Compression, SinkFactory, TableSettings};
use connector_api::ids::{CommitToken, ConnectorName, TopicId, TopicPartition};
use connector_api::offsets::{Offset, OffsetDelta, OffsetRange};
use connector_api::outcome::CommitOutcome;
use connector_api::schema::{array_of, timestamp_type};
use connector_api::staged::{Accounting, StagedCommit, StagedParts};
use connectors::delta::DeltaFactory;

use crate::config::Registry;

/// Three rows: an ordinary one, one that is null wherever it may be, one that needs quoting.
pub(super) const ROWS: &str = r#"
{"id":1,"userId":"u-1","user":{"id":"u-1","country":"IN"},"tags":["a","b"],"amount":"12.50","ts":"2026-01-05T08:00:00.25Z"}
{"id":2}
{"id":3,"userId":"","user":{"id":"say \"hi\", u-3","country":null},"tags":[],"amount":"-0.05","ts":"2026-01-05T08:00:01Z"}
"#;

pub(super) fn columns() -> SchemaRef {
    let user = Fields::from(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("country", DataType::Utf8, true),
    ]);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("userId", DataType::Utf8, true),
        Field::new("user", DataType::Struct(user), true),
        Field::new("tags", array_of(DataType::Utf8, true), true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("ts", timestamp_type(), true),
    ]))
}

pub(super) fn registry() -> Registry {
    Registry {
        sinks: vec![Arc::new(DeltaFactory)],
        decoders: vec![Arc::new(connectors::decode::JsonFactory)],
    }
}

/// Creates a table with these rows, in one commit. `part` is the value of the partition column
/// `part`, if the table is to have one.
pub(super) async fn write_table(folder: &Path, rows: &str, part: Option<&str>) {
    let settings = TableSettings {
        location: folder.display().to_string(),
        partition_by: Vec::new(),
        properties: Default::default(),
        storage: Default::default(),
        compression: Compression::Zstd(1),
    };
    let sink = DeltaFactory.sink(&settings).unwrap();
    let connector = ConnectorName::parse("fixture").unwrap();
    let mut schema = TableSchema { columns: columns(), partition_columns: Vec::new() };
    let mut values = PartitionValues::default();
    if let Some(part) = part {
        let mut fields = columns().fields().to_vec();
        fields.push(Arc::new(Field::new("part", DataType::Utf8, true)));
        schema.columns = Arc::new(Schema::new(fields));
        schema.partition_columns.push("part".to_owned());
        values.0.push(("part".to_owned(), Some(part.to_owned())));
    }
    let mut table = sink.create(&connector, &schema).await.unwrap();

    let rows = batch(rows);
    let count = rows.num_rows() as u64;
    let topic_partition =
        TopicPartition { topic: "fixture".into(), topic_id: TopicId::Unavailable, partition: 0 };
    let range =
        OffsetRange::new(Offset::new(0).unwrap(), Offset::new(count as i64).unwrap()).unwrap();
    let mut writer = table.writers.open_file("part-0", &values, "sha256:0").unwrap();
    writer.write(&TableBatch::new(topic_partition.clone(), range, values, rows)).unwrap();
    writer.finish().unwrap();
    let file = writer.stage().await.unwrap();

    let mut delta = OffsetDelta::default();
    delta.append(&topic_partition, range).unwrap();
    let commit = StagedCommit::new(StagedParts {
        token: CommitToken("token".to_owned()),
        fingerprint: String::new(),
        files: vec![file],
        delta,
        new_topic_partitions: BTreeSet::from([topic_partition]),
        accounting: Accounting { consumed: count, written: count, ..Accounting::default() },
        losses: Vec::new(),
    });
    let outcome = table.committer.commit(&commit).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
}

pub(super) fn batch(rows: &str) -> RecordBatch {
    let mut reader = ReaderBuilder::new(columns()).build(rows.trim().as_bytes()).unwrap();
    reader.next().unwrap().unwrap()
}
