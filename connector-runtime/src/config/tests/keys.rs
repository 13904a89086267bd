//! What is said about wrong keys and values, as `key: message; help`.

use super::*;

#[test]
fn nothing_but_keys() {
    top("nmae: x").check(&[]);
    top("brokers: x").check(&[]);
    top("compression: zstd").check(&[]);
    top("name: other").check(&[]);
    top("version: 2").check(&[]);
    top("owner: growth").check(&[]);
    top("owner: {tema: x, contact: }").check(&[]);
    top("dead_letters: {location: x}\nfreshness: 5m\ntransform: [x]").check(&[]);
    top("decode: {value: avro, key: string}").check(&[]);
    top("decode: {value: jsn}").check(&[]);
    top("on_bad_record: dead_letter").check(&[]);
    top("on_bad_record: skip").check(&[]);
    top("description: [a]").check(&[]);
    read("- a\n").unwrap_err();
}

#[test]
fn kafka_keys() {
    kafka("topics: clicks").check(&[]);
    kafka("topics: []").check(&[]);
    kafka("topics: [a, a, b/c, '^d', '', .]").check(&[]);
    kafka("topics: [a]\ntopics_pattern: ^b").check(&[]);
    kafka("topics_pattern: clicks").check(&[]);
    kafka("topics_pattern: ^clicks-\\d+").check(&[]);
    kafka("topics_pattern: ^clicks-(").check(&[]);
    kafka("start_at: earlist").check(&[]);
    kafka("start_at: 2026-01-31").check(&[]);
    kafka("start_at: 1706659200000").check(&[]);
    kafka("start_at: 1912-01-31T00:00:00Z").check(&[]);
    kafka("start_at: {}").check(&[]);
    kafka("start_at: {orders: {0: 1}}").check(&[]);
    kafka("start_at: {a: 1, -1: 2, 0: -3, 1: x}").check(&[]);
    kafka("topics: [a, b]\nstart_at: {0: 1}").check(&[]);
    kafka("on_gap: continue\non_topic_recreated: halt").check(&[]);
    kafka("group_id: x").check(&[]);
    kafka("properties: {enable.auto.commit: false, auto.offset.reset: x, bootstrap.servers: x}")
        .check(&[]);
    kafka("properties: {sasl.mechansim: PLAIN, x.y: 1, session.timeout.ms: soon, group.id: }")
        .check(&[]);
    kafka("properties: {max.poll.interval.ms: 40000}").check(&[]);
    top("write: {revoke_timeout: 4m}").check(&[]);
}

#[test]
fn column_keys() {
    let columns = |columns: &str| top(&format!("schema: {{columns: {columns}}}")).check(&[]);
    columns("[]");
    columns("x");
    columns("[id]");
    columns("[{name: id}, {type: long}]");
    columns(
        "[{name: a, type: lnog}, {name: b, type: int64}, {name: c, type: varchar(10)}, {name: d, type: money}]",
    );
    columns("[{name: amount, type: decimal(12,2)}]");
    columns("[{name: a, type: \"decimal(39,2)\"}, {name: b, type: long, nullable: nope}]");
    columns(
        "[{name: id, type: long}, {name: ID, type: int}, {name: _Kafka, type: long}, {name: _rescued, type: string}]",
    );
    top("schema: {on_unknown_field: add_column, kafka_columns: [topic, key, ofset, topic]}")
        .check(&[]);
}

#[test]
fn table_keys() {
    delta("partition_by: [day, day]").check(&[]);
    delta("partition_by: [day(ts)]").check(&[]);
    delta("partition_by: day").check(&[]);
    delta("properties: {delta.enableRowTracking: true, x: [1]}").check(&[]);
    delta("properties: {delta.enableRowTracking: true}").check(&[]);
    table("storage: {region: eu-west-1}").check(&[]);
    table("iceberg: {location: x}").check(&[]);
    let columns = "schema: {columns: [{name: id, type: long}, {name: day, type: date}, {name: at, type: timestamp}, {name: tags, type: array<string>}]}";
    File { top: columns, delta: "partition_by: [dya, at, tags, region]", ..File::default() }
        .check(&[]);
    File {
        top: "schema: {columns: [{name: day, type: date}]}",
        delta: "partition_by: [day]",
        ..File::default()
    }
    .check(&[]);
    for location in ["gs://lake/x", "./data/{topic}", "s3://key:secret@lake/x", "\"\"", ""] {
        let text = top("").text().replace("./data/clicks", location);
        let errors = read(&text).unwrap_err();
        println!("{errors}");
    }
}

#[test]
fn write_keys() {
    top("write: {commit_interval: 30, idle_commit_interval: 30 parsecs, revoke_timeout: 1h}")
        .check(&[]);
    top("write: {commit_interval: 10ms, file_size: big, compression: gzip}").check(&[]);
    top("write: {commit_interval: 1m, idle_commit_interval: 30s, file_size: 10KiB, compression: zstd(99)}").check(&[]);
}
