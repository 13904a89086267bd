//! A connector without declared columns, on records of many shapes.

use std::collections::BTreeMap;

use integration_tests::case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{WEBHOOKS, webhooks};
use integration_tests::producer::{produce, round_robin};
use integration_tests::reader;
use integration_tests::verifier::assert_exactly_once;
use integration_tests::worker::run_until_end;
use serde_json::{Map, Value};

use crate::PATIENCE;

#[test]
fn webhook_payloads_arrive_whole_whatever_their_shape() {
    let case = case!();
    let produced = produce(&case.topic(3), round_robin(3, webhooks()));
    assert_eq!(produced.records.len(), WEBHOOKS);
    let connector = Connector::new(&case.unique("webhooks"), &produced.topic, &case.local_table());

    run_until_end(&case, &connector.write(&case)).start().wait(PATIENCE).assert_code(0);
    assert_exactly_once(&[&produced], &connector.location);

    let sql = "select _kafka.partition, _kafka.\"offset\", to_json(t), _rescued from {table} t";
    for row in reader::query(&connector.location, sql) {
        let place = (row[0].as_i64().unwrap() as i32, row[1].as_i64().unwrap());
        let payload = serde_json::from_str(&produced.records[&place].value).unwrap();
        let mut columns: Map<String, Value> =
            serde_json::from_str(row[2].as_str().unwrap()).unwrap();
        columns.retain(|name, _| name != "_kafka" && name != "_rescued");
        let rescued =
            row[3].as_str().map_or_else(BTreeMap::new, |text| serde_json::from_str(text).unwrap());
        let mut stored = Stored { rescued, different: Vec::new() };
        stored.compare("", &payload, &Value::Object(columns));
        assert_eq!(
            stored.different, [""; 0],
            "where the row of partition and offset {place:?} differs"
        );
        assert!(
            stored.rescued.is_empty(),
            "rescued at {place:?} but not in the record: {:?}",
            stored.rescued
        );
    }
}

/// What a row keeps beside its columns, and where it was found to differ from its record.
struct Stored {
    rescued: BTreeMap<String, Value>,
    different: Vec<String>,
}

impl Stored {
    /// Compares the value at a path of the record with the same place of the row.
    fn compare(&mut self, path: &str, value: &Value, stored: &Value) {
        if let Some(rescued) = self.rescued.remove(path) {
            self.expect(path, equal(&rescued, value) && is_empty(stored));
            return;
        }
        match (value, stored) {
            // A column of mixed kinds keeps JSON text.
            (value, Value::String(text))
                if serde_json::from_str(text).is_ok_and(|json| equal(&json, value)) => {}
            (Value::Object(fields), Value::Object(columns)) => {
                self.compare_fields(path, fields, columns)
            }
            (Value::Object(fields), Value::Null) => self.compare_fields(path, fields, &Map::new()),
            (Value::Array(items), Value::Array(stored)) if items.len() == stored.len() => {
                for (index, (item, stored)) in items.iter().zip(stored).enumerate() {
                    self.compare(&format!("{path}[{index}]"), item, stored);
                }
            }
            (value, stored) => self.expect(path, equal(value, stored)),
        }
    }

    fn compare_fields(
        &mut self,
        path: &str,
        fields: &Map<String, Value>,
        columns: &Map<String, Value>,
    ) {
        for (name, value) in fields {
            self.compare(&join(path, name), value, columns.get(name).unwrap_or(&Value::Null));
        }
        for (name, stored) in columns.iter().filter(|(name, _)| !fields.contains_key(*name)) {
            self.expect(&join(path, name), is_empty(stored));
        }
    }

    fn expect(&mut self, path: &str, holds: bool) {
        if !holds {
            self.different.push(path.to_owned());
        }
    }
}

/// The path of a field: names that hold a separator stand in backticks.
fn join(path: &str, name: &str) -> String {
    let quoted = match name.is_empty() || name.contains(['.', '[', ']', '`']) {
        true => format!("`{}`", name.replace('`', "``")),
        false => name.to_owned(),
    };
    if path.is_empty() { quoted } else { format!("{path}.{quoted}") }
}

/// Nothing is stored there: also a struct of nothing but nulls, which a reader may make of a null struct.
fn is_empty(stored: &Value) -> bool {
    match stored {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

/// Equal as JSON values: 1 and 1.0 are.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, value)| b.get(name).is_some_and(|other| equal(value, other)))
        }
        (a, b) => a == b,
    }
}
