//! CF-1: the fingerprint is that of what decides which rows come out.

use super::*;

fn print(file: File<'_>) -> String {
    file.plan().fingerprint()
}

#[test]
fn a_fingerprint_is_the_same_in_every_process_and_version() {
    assert_eq!(print(top("")), "13cd84ba2a5a990dca7167c18442129e5f2a3e2a99a797c694ee2442a239c2f2");
    assert_eq!(
        print(top("schema: {columns: [{name: at, type: timestamp}]}")),
        "cfcbd7c9c59a51dcf6b81195b4d572b30c6d59684be516ee683467b499aac4ce"
    );
}

#[test]
fn what_decides_which_rows_come_out_changes_the_fingerprint() {
    let same = print(top(""));
    for other in [
        kafka("topics: [orders]"),
        kafka("topics_pattern: ^clicks"),
        kafka("start_at: latest"),
        kafka("start_at: 2026-01-31T00:00:00Z"),
        kafka("start_at: {0: 5}"),
        kafka("properties: {isolation.level: read_uncommitted}"),
        top("schema: {on_unknown_field: ignore}"),
        top("schema: {kafka_columns: [topic]}"),
        top("schema: {columns: [{name: id, type: long}]}"),
        top("on_bad_record: drop"),
        delta("partition_by: [day]"),
    ] {
        assert_ne!(print(other), same, "{other:?}");
    }
    let columns = |columns: &str| print(top(&format!("schema: {{columns: [{columns}]}}")));
    assert_ne!(columns("{name: id, type: long}"), columns("{name: id, type: int}"));
    assert_ne!(
        columns("{name: id, type: long}"),
        columns("{name: id, type: long, nullable: false}")
    );
    let unit = |unit: &str| columns(&format!("{{name: at, type: timestamp, unit: {unit}}}"));
    assert_ne!(columns("{name: at, type: timestamp}"), unit("millis"));
    assert_ne!(unit("millis"), unit("micros"));
}

#[test]
fn what_only_decides_how_and_when_leaves_the_fingerprint_alone() {
    let same = print(top(""));
    for other in [
        kafka("properties: {group.id: other, sasl.password: \"${env:SECRET}\"}"),
        kafka("start_at: earliest"),
        top("owner: {team: x}\ndescription: y"),
        top("write: {commit_interval: 1s, file_size: 1MiB, compression: snappy}"),
        top("schema: {on_unknown_field: rescue}"),
        table("storage: {aws_region: x}"),
    ] {
        assert_eq!(print(other), same, "{other:?}");
    }
    assert_eq!(print(kafka("topics: [a, b]")), print(kafka("topics: [b, a]")));
}
