//! What a right file becomes.

use std::collections::BTreeMap;
use std::time::Duration;

use connector_api::config::Compression;
use connector_api::decoder::{EpochUnit, OnUnknownField};
use connector_api::offsets::Offset;
use connector_api::schema::{KafkaField, type_name};

use super::super::{Owner, StartAt, TopicSelection, WritePlan};
use super::*;

#[test]
fn what_is_left_out_has_its_default() {
    let plan = top("").plan();
    assert_eq!(plan.name.as_str(), "clicks");
    assert_eq!((plan.owner, plan.description), (None, None));
    assert_eq!(plan.source.bootstrap_servers, "localhost:9092");
    assert_eq!(plan.source.topics, TopicSelection::List(vec!["clicks".into()]));
    assert_eq!(plan.source.start_at, StartAt::Earliest);
    assert_eq!(plan.source.group_id, "alluvium-clicks");
    assert_eq!(plan.source.properties, BTreeMap::new());
    assert_eq!(plan.decoder.format(), "json");
    assert_eq!(plan.schema.columns, None);
    assert_eq!(plan.schema.on_unknown_field, OnUnknownField::Rescue);
    assert_eq!(plan.schema.kafka_fields, KafkaField::ALL);
    assert_eq!(plan.table.format, "delta");
    assert_eq!(plan.table.sink.location(), "./data/clicks");
    assert_eq!(plan.table.settings.compression, Compression::Zstd(1));
    assert_eq!(plan.on_bad_record.as_str(), "dead_letter");
    let expected = WritePlan {
        commit_interval: Duration::from_secs(30),
        idle_commit_interval: Duration::from_secs(300),
        revoke_timeout: Duration::from_secs(30),
        file_size_bytes: 128 << 20,
    };
    assert_eq!(plan.write, expected);
}

#[test]
fn empty_sections_are_as_if_they_were_not_there() {
    let plan = File {
        top: "owner:\nschema:\ndecode:\nwrite:\ntransform: []",
        kafka: "properties:",
        delta: "properties:\npartition_by: []",
        table: "storage:",
        ..File::default()
    };
    assert_eq!(plan.plan().fingerprint(), top("").plan().fingerprint());
}

#[test]
fn everything_that_can_be_said_arrives() {
    let plan = File {
        top: "owner: {team: growth-data, contact: \"#oncall\"}\ndescription: Clicks\ndecode: {value: json, key: none}\n\
              write: {commit_interval: 500ms, idle_commit_interval: 1h30m, revoke_timeout: 5s, file_size: 64 MB, compression: zstd(7)}\n\
              on_bad_record: drop",
        kafka: "on_gap: stop\non_topic_recreated: stop\nproperties: {group.id: 007, fetch.min.bytes: 1, check.crcs: true}",
        delta: "partition_by: [day]\nproperties: {delta.logRetentionDuration: interval 30 days, delta.appendOnly: true}",
        table: "storage: {aws_region: eu-west-1, aws_allow_http: true}",
        ..File::default()
    }
    .plan();
    assert_eq!(
        plan.owner,
        Some(Owner { team: Some("growth-data".into()), contact: Some("#oncall".into()) })
    );
    assert_eq!(plan.description.as_deref(), Some("Clicks"));
    assert_eq!(plan.source.group_id, "007");
    let properties: Vec<_> = plan
        .source
        .properties
        .iter()
        .map(|(name, value)| format!("{name}={}", value.expose()))
        .collect();
    assert_eq!(properties, ["check.crcs=true", "fetch.min.bytes=1"]);
    let expected = WritePlan {
        commit_interval: Duration::from_millis(500),
        idle_commit_interval: Duration::from_secs(5400),
        revoke_timeout: Duration::from_secs(5),
        file_size_bytes: 64_000_000,
    };
    assert_eq!(plan.write, expected);
    assert_eq!(plan.table.settings.compression, Compression::Zstd(7));
    assert_eq!(plan.table.settings.partition_by, ["day"]);
    assert_eq!(plan.table.settings.properties["delta.logRetentionDuration"], "interval 30 days");
    assert_eq!(plan.table.settings.properties["delta.appendOnly"], "true");
    assert_eq!(plan.table.settings.storage["aws_region"].expose(), "eu-west-1");
    assert_eq!(plan.on_bad_record.as_str(), "drop");
}

#[test]
fn columns_have_their_types_in_the_order_of_the_file() {
    let plan = top(
        "schema:\n  columns:\n    - {name: id, type: long, nullable: false}\n    - {name: user, type: \"struct<id: string, `e-mail`: string>\"}\n    \
         - name: amount\n      type: decimal(12,2)\n    - {name: at, type: array<timestamp>, unit: micros}\n  on_unknown_field: ignore\n  kafka_columns: [offset, topic]",
    )
    .plan();
    let columns = plan.schema.columns.unwrap();
    let units: Vec<_> = columns.fields().iter().map(|c| EpochUnit::of(c)).collect();
    let columns: Vec<String> = columns
        .fields()
        .iter()
        .map(|c| format!("{} {} {}", c.name(), type_name(c.data_type()), c.is_nullable()))
        .collect();
    assert_eq!(
        columns,
        [
            "id long false",
            "user struct<id: string, `e-mail`: string> true",
            "amount decimal(12,2) true",
            "at array<timestamp> true",
        ]
    );
    assert_eq!(units, [None, None, None, Some(EpochUnit::Micros)]);
    assert_eq!(plan.schema.on_unknown_field, OnUnknownField::Ignore);
    assert_eq!(plan.schema.kafka_fields, [KafkaField::Offset, KafkaField::Topic]);
}

#[test]
fn the_start_may_be_a_time_or_offsets() {
    #[track_caller]
    fn check(lines: &str, expected: StartAt) {
        assert_eq!(kafka(lines).plan().source.start_at, expected);
    }
    let offsets = |offsets: &[(&str, i32, i64)]| {
        StartAt::Offsets(
            offsets
                .iter()
                .map(|(t, p, o)| ((t.to_string(), *p), Offset::new(*o).unwrap()))
                .collect(),
        )
    };
    check("start_at: latest", StartAt::Latest);
    check("start_at: 2026-01-31T00:00:00Z", StartAt::Timestamp { ms: 1_769_817_600_000 });
    check("start_at: 2026-01-31T02:00:00.5+02:00", StartAt::Timestamp { ms: 1_769_817_600_500 });
    check("start_at: {0: 1200, 1: 0}", offsets(&[("clicks", 0, 1200), ("clicks", 1, 0)]));
    check("start_at: {clicks: {0: 1200}}", offsets(&[("clicks", 0, 1200)]));
    check(
        "topics: [a, b]\nstart_at:\n  a: {0: 1}\n  b:\n    3: 4",
        offsets(&[("a", 0, 1), ("b", 3, 4)]),
    );
    check("topics_pattern: ^a\nstart_at: {abc: {0: 1}}", offsets(&[("abc", 0, 1)]));
}

#[test]
fn the_idle_interval_is_never_shorter_than_the_commit_interval() {
    let plan = top("write: {commit_interval: 10m}").plan();
    assert_eq!(plan.write.idle_commit_interval, Duration::from_secs(600));
}

#[test]
fn brokers_may_be_many_and_have_protocols_or_addresses() {
    let servers = |servers: &str| {
        let text = top("").text().replace("localhost:9092", servers);
        read(&text).unwrap_or_else(|errors| panic!("{errors}")).source.bootstrap_servers
    };
    assert_eq!(servers("a:9092, b:9093"), "a:9092,b:9093");
    assert_eq!(servers("SASL_SSL://a:9092"), "SASL_SSL://a:9092");
    assert_eq!(servers("\"[::1]:9092\""), "[::1]:9092");
    assert_eq!(servers("kafka"), "kafka");
    assert_eq!(servers("${env:BROKERS:-localhost:9092}"), "localhost:9092");
}
