//! A table that somebody alters while we write it: noticed at the next commit, and handled without loss.

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::foreign_table::{
    ForeignTable, field, newest_action, our_fields, write_version,
};
use integration_tests::raw::{RawRecord, produce_raw};
use integration_tests::reader;
use integration_tests::wait::eventually;
use integration_tests::worker::{Signal, run};
use serde_json::{Value, json};

use crate::PATIENCE;

/// Fills a table of somebody else's with records that have more fields than it has columns, alters
/// it while the worker runs, sends the same records again, and brings the rows: `id`, then `select`.
fn altered(
    case: &Case,
    alter: impl Fn(&mut Vec<Value>) -> Vec<Value>,
    select: &str,
) -> Vec<Vec<Value>> {
    let topic = case.topic(1);
    let mut connector = Connector::new(&case.unique("altered"), &topic, &case.local_table());
    connector.commit_interval = "200ms";
    let mut fields = vec![field("id", "long"), field("n", "integer"), field("text", "string")];
    fields.extend(our_fields());
    ForeignTable { reader_version: 1, writer_version: 2, fields }.create(&connector.location);
    let send = |from: usize| {
        let one = |id| format!(r#"{{"id":{id},"n":{id},"text":"t{id}","late":"l{id}"}}"#);
        produce_raw(
            &topic,
            &(from..from + 3).map(|id| RawRecord::of(0, one(id))).collect::<Vec<_>>(),
        );
    };
    let rows = || reader::rows(&connector.location);
    send(0);
    let worker = run(case, &connector.write(case)).start();
    eventually(PATIENCE, "the first rows", || (rows() == 3).then_some(()));

    let mut metadata = newest_action(&connector.location, "metaData");
    let mut schema: Value =
        serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    let mut actions = alter(schema["fields"].as_array_mut().unwrap());
    metadata["schemaString"] = json!(schema.to_string());
    actions.push(json!({"metaData": metadata}));
    write_version(&connector.location, &actions);
    send(3);
    eventually(PATIENCE, "the rows behind the alteration", || (rows() == 6).then_some(()));
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
    let seen = reader::seen(&connector.location);
    assert!(seen.len() == 6 && seen.values().all(|times| *times == 1), "{seen:?}");
    reader::query(&connector.location, &format!("select id, {select} from {{table}} order by id"))
}

#[test]
fn a_column_that_is_added_is_filled_from_then_on() {
    let case = case!();
    let add = |fields: &mut Vec<Value>| {
        fields.push(field("late", "string"));
        Vec::new()
    };
    let rows = altered(&case, add, "late, _rescued");
    assert_eq!(rows[2], [json!(2), Value::Null, json!(r#"{"late":"l2"}"#)]);
    assert_eq!(rows[3], [json!(3), json!("l3"), Value::Null]);
}

#[test]
fn a_column_that_is_dropped_is_rescued_from_then_on() {
    let case = case!();
    let drop = |fields: &mut Vec<Value>| {
        fields.retain(|field| field["name"] != "text");
        Vec::new()
    };
    let rows = altered(&case, drop, "_rescued");
    assert_eq!(rows[5], [json!(5), json!(r#"{"text":"t5","late":"l5"}"#)]);
}

#[test]
fn a_column_of_another_name_is_another_column() {
    let case = case!();
    let rename = |fields: &mut Vec<Value>| {
        let text = fields.iter_mut().find(|field| field["name"] == "text").unwrap();
        text["name"] = json!("late");
        Vec::new()
    };
    let rows = altered(&case, rename, "late, _rescued");
    assert_eq!(rows[4], [json!(4), json!("l4"), json!(r#"{"text":"t4"}"#)]);
}

#[test]
fn a_column_that_is_widened_takes_wider_numbers_from_then_on() {
    let case = case!();
    let widen = |fields: &mut Vec<Value>| {
        let n = fields.iter_mut().find(|field| field["name"] == "n").unwrap();
        n["type"] = json!("long");
        n["metadata"] = json!({"delta.typeChanges": [{"fromType": "integer", "toType": "long"}]});
        vec![json!({"protocol": {
            "minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["typeWidening"], "writerFeatures": ["typeWidening"],
        }})]
    };
    let rows = altered(&case, widen, "n, typeof(n)");
    assert_eq!(rows[1], [json!(1), json!(1), json!("BIGINT")]);
    assert_eq!(rows[4], [json!(4), json!(4), json!("BIGINT")]);
}

#[test]
fn a_record_is_a_row_or_a_dead_letter_also_while_columns_come() {
    let case = case!();
    let topic = case.topic(1);
    let mut connector = Connector::new(&case.unique("altered"), &topic, &case.local_table());
    connector.commit_interval = "300ms";
    connector.write = vec!["idle_commit_interval: 1s"];
    let mut fields = vec![field("id", "long")];
    fields.extend(our_fields());
    ForeignTable { reader_version: 1, writer_version: 2, fields }.create(&connector.location);
    let yaml =
        connector.yaml().replace("table:\n", "schema:\n  on_unknown_field: reject\ntable:\n");
    let file = case.write("reject.yaml", &yaml);
    let worker = run(&case, &file).start();
    let mut sent = 0;
    for column in 0..4 {
        // Half of them have a field that the table gets with the next alteration only.
        let value = |id: i64| match id % 2 {
            0 => format!(r#"{{"id":{id}}}"#),
            _ => format!(r#"{{"id":{id},"c{column}":1}}"#),
        };
        for _ in 0..5 {
            let records = (sent..sent + 20).map(|id| RawRecord::of(0, value(id)));
            produce_raw(&topic, &records.collect::<Vec<_>>());
            sent += 20;
        }
        eventually(PATIENCE, "rows come", || (reader::rows(&connector.location) > 0).then_some(()));
        let alter = || {
            let mut metadata = newest_action(&connector.location, "metaData");
            let text = metadata["schemaString"].as_str().unwrap();
            let mut schema: Value = serde_json::from_str(text).unwrap();
            let fields = schema["fields"].as_array_mut().unwrap();
            fields.push(field(&format!("c{column}"), "long"));
            metadata["schemaString"] = json!(schema.to_string());
            metadata
        };
        write_version(&connector.location, &[json!({"metaData": alter()})]);
    }
    let dead_letters = connector.dead_letters();
    let found = || reader::rows(&connector.location) + reader::rows(&dead_letters);
    eventually(PATIENCE, "each record is somewhere", || (found() >= sent as u64).then_some(()));
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
    let mut seen = reader::seen(&connector.location);
    for (place, times) in reader::seen(&dead_letters) {
        *seen.entry(place).or_default() += times;
    }
    let each_once = (0..sent).map(|offset| ((topic.clone(), 0, offset), 1)).collect();
    assert_eq!(seen, each_once, "each record once in one of the two tables");
}

#[test]
fn dl_1_what_is_a_dead_letter_already_is_no_row_after_an_alteration() {
    let case = case!();
    let topic = case.topic(1);
    let mut connector = Connector::new(&case.unique("altered"), &topic, &case.local_table());
    connector.commit_interval = "300ms";
    let mut fields = vec![field("id", "long")];
    fields.extend(our_fields());
    ForeignTable { reader_version: 1, writer_version: 2, fields }.create(&connector.location);
    let yaml =
        connector.yaml().replace("table:\n", "schema:\n  on_unknown_field: reject\ntable:\n");
    let value = |id: i64| match id % 2 {
        0 => RawRecord::of(0, format!(r#"{{"id":{id}}}"#)),
        _ => RawRecord::of(0, format!(r#"{{"id":{id},"new":1}}"#)),
    };
    produce_raw(&topic, &(0..40).map(value).collect::<Vec<_>>());
    // Long enough to alter the table while the dead letters are in place and the rows are not.
    let worker = run(&case, &case.write("reject.yaml", &yaml))
        .env("FAILPOINTS", "dead_letters_without_anchor=1*sleep(5000)->off")
        .start();
    let dead_letters = connector.dead_letters();
    eventually(PATIENCE, "dead letters come", || (reader::rows(&dead_letters) == 20).then_some(()));
    assert_eq!(reader::rows(&connector.location), 0, "the table follows later");
    let mut metadata = newest_action(&connector.location, "metaData");
    let mut schema: Value =
        serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    schema["fields"].as_array_mut().unwrap().push(field("new", "long"));
    metadata["schemaString"] = json!(schema.to_string());
    write_version(&connector.location, &[json!({"metaData": metadata})]);

    produce_raw(&topic, &(40..60).map(value).collect::<Vec<_>>());
    eventually(PATIENCE, "rows come", || (reader::rows(&connector.location) == 40).then_some(()));
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);
    let places = |of: fn(&i64) -> bool| -> reader::Seen {
        (0..60).filter(of).map(|offset| ((topic.clone(), 0, offset), 1)).collect()
    };
    assert_eq!(
        reader::seen(&connector.location),
        places(|offset| offset % 2 == 0 || *offset >= 40)
    );
    assert_eq!(reader::seen(&dead_letters), places(|offset| offset % 2 == 1 && *offset < 40));
}
