//! A connector without declared columns, on records of many shapes.

use std::collections::BTreeMap;

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::datasets::{MESSAGES, MOVIES, WEBHOOKS, messages, movies, webhooks};
use integration_tests::location::Location;
use integration_tests::raw::{Place, RawRecord, produce_raw};
use integration_tests::reader;
use integration_tests::worker::run_until_end;
use serde_json::{Map, Value};

use crate::PATIENCE;

/// What became of a set of records.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fates {
    /// Records whose values are all in columns.
    whole: usize,
    /// Records with some values in `_rescued`.
    rescued: usize,
    /// How many values that are.
    rescued_values: usize,
    /// Records that are dead letters, by cause.
    dead: BTreeMap<String, usize>,
}

/// Sends the records by one connector without declared columns. Fails the test unless each is a row that
/// has all its values, in columns or rescued, or a dead letter with its bytes and a cause.
fn arrive(case: &Case, records: Vec<Vec<u8>>) -> Fates {
    let raw: Vec<RawRecord> = records.iter().map(|value| RawRecord::of(0, value.clone())).collect();
    let topic = case.topic(1);
    let places = produce_raw(&topic, &raw);
    let sent: BTreeMap<Place, Vec<u8>> = places.into_iter().zip(records).collect();
    let mut connector = Connector::new(&case.unique("inferred"), &topic, &case.local_table());
    // One fetch of one topic partition brings them all, so that the first records, of which columns are
    // made, are the same ones however busy the machine is.
    connector.properties.push(("fetch.message.max.bytes", "50000000".into()));
    run_until_end(case, &connector.write(case)).start().wait(PATIENCE).assert_code(0);

    let mut seen = reader::seen(&connector.location);
    let mut fates = compare_rows(&connector.location, &sent);
    if reader::versions(&connector.dead_letters()) > 0 {
        seen.extend(reader::seen(&connector.dead_letters()));
        fates.dead = compare_dead_letters(&connector.dead_letters(), &sent);
    }
    let once = sent.keys().map(|(partition, offset)| ((topic.clone(), *partition, *offset), 1));
    assert_eq!(seen, once.collect(), "each record is in one of the tables once");
    let all = fates.whole + fates.rescued + fates.dead.values().sum::<usize>();
    assert_eq!(all, sent.len(), "{fates:?}");
    println!("{all} records, {} columns: {fates:?}", reader::columns(&connector.location).len());
    fates
}

/// Compares each row with its record.
fn compare_rows(table: &Location, sent: &BTreeMap<Place, Vec<u8>>) -> Fates {
    let mut fates = Fates::default();
    let sql = "select _kafka.partition, _kafka.\"offset\", to_json(t), _rescued from {table} t";
    for row in reader::query(table, sql) {
        let place = (row[0].as_i64().unwrap() as i32, row[1].as_i64().unwrap());
        let payload = serde_json::from_slice(&sent[&place]).unwrap();
        let mut columns: Map<String, Value> =
            serde_json::from_str(row[2].as_str().unwrap()).unwrap();
        columns.retain(|name, _| name != "_kafka" && name != "_rescued");
        let rescued: BTreeMap<String, Value> =
            row[3].as_str().map_or_else(BTreeMap::new, |text| serde_json::from_str(text).unwrap());
        *if rescued.is_empty() { &mut fates.whole } else { &mut fates.rescued } += 1;
        fates.rescued_values += rescued.len();
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
    fates
}

/// Compares each dead letter with its record, and counts the causes.
fn compare_dead_letters(
    table: &Location,
    sent: &BTreeMap<Place, Vec<u8>>,
) -> BTreeMap<String, usize> {
    let mut causes = BTreeMap::new();
    let sql = "select _kafka.partition, _kafka.\"offset\", hex(value), cause from {table}";
    for row in reader::query(table, sql) {
        let place = (row[0].as_i64().unwrap() as i32, row[1].as_i64().unwrap());
        let hex: String = sent[&place].iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(row[2], hex, "the value of the dead letter at {place:?}");
        *causes.entry(row[3].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(!causes.contains_key(""), "each dead letter says why: {causes:?}");
    causes
}

fn bytes(records: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
    records.map(String::into_bytes).collect()
}

#[test]
fn webhook_payloads_arrive_whole_whatever_their_shape() {
    let case = case!();
    let fates = arrive(&case, bytes(webhooks()));
    // Rescued are fields that no payload has a value in: `[]`, `{}` and objects of nulls tell no type.
    let expected = Fates { whole: 394, rescued: 332, rescued_values: 505, ..Fates::default() };
    assert_eq!(fates, expected, "of {WEBHOOKS} payloads");
}

#[test]
fn films_keep_in_rescued_what_has_names_that_tables_refuse() {
    let case = case!();
    let fates = arrive(&case, bytes(movies()));
    // Twelve of the sixteen names have blanks, and so have three of four values that are not null.
    let expected = Fates { rescued: MOVIES, rescued_values: 31_136, ..Fates::default() };
    assert_eq!(fates, expected);
}

#[test]
fn films_of_dirty_types_arrive_in_columns() {
    let case = case!();
    let renamed = movies().map(|film| {
        let film: Map<String, Value> = serde_json::from_str(&film).unwrap();
        let fields = film.into_iter().map(|(name, value)| (name.replace(' ', "_"), value));
        Value::Object(fields.collect()).to_string()
    });
    let fates = arrive(&case, bytes(renamed));
    assert_eq!(fates, Fates { whole: MOVIES, ..Fates::default() });
}

#[test]
fn messages_of_many_topics_in_one_are_rows_unless_they_are_no_objects() {
    let case = case!();
    let fates = arrive(&case, messages());
    // Some topics carry arrays (`[2, "insert", {…}]`), some MessagePack or Protobuf.
    let dead = BTreeMap::from([("invalid_utf8".to_owned(), 14), ("not_an_object".to_owned(), 24)]);
    let expected = Fates { whole: 70, rescued: 5, rescued_values: 9, dead };
    assert_eq!(fates, expected, "of {MESSAGES} messages");
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
