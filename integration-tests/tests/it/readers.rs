//! What engines make of our tables by the statements of `docs/engines.md`: every type, and values that are
//! easily lost on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::{Column, Connector};
use integration_tests::document::Block;
use integration_tests::engine::{Engine, Step};
use integration_tests::location::Location;
use integration_tests::object_store::object_store;
use integration_tests::raw::{Place, RawRecord, produce_raw};
use integration_tests::reader;
use integration_tests::worker::{Launch, Worker, run_until_end};
use serde_json::{Map, Value, json};

use crate::PATIENCE;

const fn column(name: &'static str, ours: &'static str) -> Column {
    Column { name, ours, duckdb: "", nullable: true }
}

/// Every type that a configuration can name.
const COLUMNS: &[Column] = &[
    Column { name: "id", ours: "long", duckdb: "", nullable: false },
    column("day", "date"),
    column("region", "string"),
    column("whole", "long"),
    column("int", "int"),
    column("short", "short"),
    column("byte", "byte"),
    column("double", "double"),
    column("float", "float"),
    column("flag", "boolean"),
    column("text", "string"),
    column("bytes", "binary"),
    column("date", "date"),
    column("moment", "timestamp"),
    column("clock", "timestamp_ntz"),
    column("price", "decimal(12,2)"),
    column("exact", "decimal(38,10)"),
    column(
        "user",
        "struct<name: string, home: struct<city: string, since: timestamp, rent: decimal(12,2)>>",
    ),
    column("items", "array<struct<sku: string, count: int, tags: array<string>>>"),
    column("numbers", "array<double>"),
    column("labels", "map<string, string>"),
    column("counts", "map<string, long>"),
    column("places", "map<string, struct<x: double, y: double>>"),
];

/// Records in the form in which the engines' rows come: numbers are texts that begin with `#`.
/// Columns that are not named are null.
fn records() -> Vec<Value> {
    vec![
        json!({"day": "2026-11-24", "region": "north"}),
        json!({
            "day": "2026-11-24", "region": "north",
            "whole": "#9007199254740993", "int": "#2147483647", "short": "#32767", "byte": "#127",
            "double": "#1.7976931348623157e308", "float": "#3.4028234663852886e38", "flag": true,
            "text": "", "bytes": "", "date": "1969-12-31", "moment": "1969-12-31T23:59:59.999999Z",
            "clock": "1969-12-31T23:59:59.999999", "price": "#9999999999.99",
            "exact": "#9999999999999999999999999999.9999999999",
            "user": {
                "name": "",
                "home": {"city": "", "since": "1969-07-20T20:17:40.000001Z", "rent": "#0.01"},
            },
            "items": [
                {"sku": "a", "count": "#1", "tags": ["x", "", null]},
                {"sku": "b", "count": "#-1", "tags": []},
            ],
            "numbers": ["#0.1", "#-0.5", "#1e100"], "labels": {"": "empty", "k": ""},
            "counts": {"max": "#9223372036854775807"},
            "places": {"here": {"x": "#1.5", "y": "#-2.25"}},
        }),
        json!({
            "day": "2026-11-25", "region": "süd/öst=1 %20",
            "whole": "#-9223372036854775808", "int": "#-2147483648", "short": "#-32768", "byte": "#-128",
            "double": "#5e-324", "float": "#1.401298464324817e-45", "flag": false,
            "text": "ärger \"quoted\" \\ back\\slash\n\ttab 'single' 日本語 🦀 \u{0}\u{1f}\u{2028}",
            "bytes": "AP8BgH8iXAo=", "date": "1900-01-01", "moment": "1900-01-01T00:00:00.000001Z",
            "clock": "1900-01-01T00:00:00.000001", "price": "#-9999999999.99",
            "exact": "#-9999999999999999999999999999.9999999999",
            "user": {"name": "Ærøskøbing", "home": {"city": null, "since": null, "rent": null}},
            "items": [{"sku": null, "count": null, "tags": null}], "numbers": [],
            "labels": {"schlüssel \"q\"": "wert \\ 🦀", "null": null},
            "counts": {"min": "#-9223372036854775808", "none": null},
            "places": {"none": {"x": null, "y": null}},
        }),
        json!({
            "day": "2026-11-25", "region": null,
            "whole": "#0", "int": "#0", "short": "#0", "byte": "#0", "double": "#-0.0", "float": "#0.0",
            "text": "null", "bytes": "AA==", "date": "2026-02-28", "moment": "2026-11-24T10:20:30.000000Z",
            "clock": "2026-11-24T10:20:30.500000", "price": "#0.00", "exact": "#0.0000000001",
            "user": {"name": "n", "home": null}, "items": [], "numbers": [null],
            "labels": {}, "counts": {}, "places": {},
        }),
        json!({
            "day": null, "region": "north",
            "whole": "#-1", "double": "#0.1", "float": "#0.5", "price": "#12.50", "exact": "#1.5",
            "user": {
                "name": null,
                "home": {"city": "x", "since": "2038-01-19T03:14:08.000000Z", "rent": "#-1.10"},
            },
            "items": [null, {"sku": "c", "count": "#2147483647", "tags": [null]}],
            "places": {"null": null},
        }),
        json!({
            "day": "0001-01-01", "region": "far", "date": "9999-12-31",
            "moment": "9999-12-31T23:59:59.999999Z", "clock": "0001-01-01T00:00:00.000001",
        }),
        json!({
            "day": "9999-12-31", "region": "far", "date": "0001-01-01",
            "moment": "0001-01-01T00:00:00.000001Z", "clock": "9999-12-31T23:59:59.999999",
        }),
        // Between the calendars: readers that follow the old one have no such day.
        json!({
            "day": "1582-10-10", "region": "far", "date": "1582-10-10",
            "moment": "1582-10-10T00:00:00.000000Z",
        }),
    ]
}

/// The record's text as it is sent: numbers lose their marks.
fn sent(record: &Value) -> String {
    let marks = regex::Regex::new(r##""#([^"]*)""##).unwrap();
    marks.replace_all(&record.to_string(), "$1").into_owned()
}

/// A row or a dead letter by where its record lies.
type Rows = BTreeMap<Place, Value>;

/// Sends the records, and says what their rows must be.
fn send_records(topic: &str) -> Rows {
    let numbered = records().into_iter().enumerate().map(|(id, mut record)| {
        record["id"] = json!(format!("#{id}"));
        record
    });
    let records: Vec<Value> = numbered.collect();
    let raw = records.iter().zip([0, 1].into_iter().cycle());
    let raw: Vec<RawRecord> = raw.map(|(record, p)| RawRecord::of(p, sent(record))).collect();
    let row = |record: Value, (partition, offset): Place| {
        let mut row: Map<String, Value> =
            COLUMNS.iter().map(|c| (c.name.to_owned(), record[c.name].clone())).collect();
        row.insert("_kafka".to_owned(), kafka(topic, (partition, offset)));
        row.insert("_rescued".to_owned(), Value::Null);
        Value::Object(row)
    };
    let places = produce_raw(topic, &raw);
    places.into_iter().zip(records).map(|(place, record)| (place, row(record, place))).collect()
}

/// Sends records that are no rows, and says what their dead letters must be but for the connector.
fn send_bad_records(topic: &str) -> Rows {
    let bytes = RawRecord {
        partition: 0,
        key: Some(b"\x00key\xff".to_vec()),
        value: Some(b"\xff\x00\"x\\".to_vec()),
        headers: vec![("trace".into(), b"\xfe1".to_vec()), (String::new(), Vec::new())],
    };
    let places = produce_raw(topic, &[bytes, RawRecord::of(1, r#"{"id":null}"#)]);
    let letters = [
        json!({
            "_kafka": {
                "key": "AGtlef8=",
                "headers": [{"key": "trace", "value": "/jE="}, {"key": "", "value": ""}],
            },
            "value": "/wAieFw=", "cause": "invalid_utf8",
            "message": "the value is not UTF-8 at byte 0",
        }),
        json!({
            "_kafka": {"key": null, "headers": []},
            "value": "eyJpZCI6bnVsbH0=", "cause": "null_in_required",
            "message": "`id`: null or missing, and the column is not nullable; expected long",
        }),
    ];
    let letter = |(place, mut letter): (Place, Value)| {
        let here = kafka(topic, place).as_object().unwrap().clone();
        letter["_kafka"].as_object_mut().unwrap().extend(here);
        letter["stage"] = json!("decode");
        (place, letter)
    };
    places.into_iter().zip(letters).map(letter).collect()
}

fn kafka(topic: &str, (partition, offset): Place) -> Value {
    json!({"topic": topic, "partition": format!("#{partition}"), "offset": format!("#{offset}")})
}

/// A table that the engines read.
#[derive(Clone, Copy)]
struct Table {
    /// The table of `docs/engines.md` whose statements read it.
    page: &'static str,
    /// Its own name.
    name: &'static str,
    format: &'static str,
    partition_by: &'static [&'static str],
}

const CLICKS: Table =
    Table { page: "clicks", name: "clicks", format: "delta", partition_by: &["day", "region"] };
const ORDERS: Table = Table {
    page: "orders",
    name: "orders",
    format: "parquet",
    partition_by: &["region", "day(moment)"],
};
const PLAIN: Table = Table { page: "orders", name: "plain", format: "parquet", partition_by: &[] };

/// In a bucket, Polars does not find the files of [`CLICKS`]: it encodes their folders once more.
const DAYS: Table = Table { name: "days", partition_by: &["day"], ..CLICKS };

/// What a step of an engine reads.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    table: &'static str,
    in_bucket: bool,
    dead_letters: bool,
}

#[test]
fn each_engine_reads_every_value_as_it_was_sent_by_the_statements_of_the_page() {
    let case = case!();
    let topic = case.topic(2);
    let roots = Roots { disk: case.local_table(), bucket: case.s3_table() };
    let rows = send_records(&topic);
    let dead_letters = send_bad_records(&topic);
    let tables = [CLICKS, ORDERS, PLAIN];
    let mut connectors = BTreeMap::new();
    let on_disk = tables.map(|table| (table.name, write_table(&case, &topic, &roots.disk, table)));
    let in_bucket = tables.map(|table| write_table(&case, &topic, &roots.bucket, table));
    for (table, written) in on_disk {
        connectors.insert(table, written.end(&case));
    }
    let days = write_table(&case, &topic, &roots.bucket, DAYS);
    for written in in_bucket.into_iter().chain([days]) {
        written.end(&case);
    }
    for table in [ORDERS, PLAIN] {
        roots.leave_staged_file(table.name);
    }

    let readings = Engine::ALL.map(|engine| {
        let (steps, wanted) = steps(engine, &tables, &roots);
        for table in tables {
            let read = wanted.iter().flatten().filter(|wanted| wanted.table == table.name);
            let places: BTreeSet<bool> = read.map(|wanted| wanted.in_bucket).collect();
            let knows = engine != Engine::DeltaRs || table.format == "delta";
            let expected = if knows { 2 } else { 0 };
            assert_eq!(places.len(), expected, "{} below {}", table.page, engine.heading());
        }
        (engine, wanted, engine.start(&steps))
    });
    for (engine, wanted, reading) in readings {
        for (wanted, found) in wanted.into_iter().zip(reading.rows()) {
            let Some(wanted) = wanted else { continue };
            let expected = match (wanted.dead_letters, wanted.table) {
                (true, table) => written_by(&connectors[table], &dead_letters),
                (false, "orders") => as_folders_say(engine, &rows),
                (false, _) => rows.clone(),
            };
            let different = differences(engine, &expected, found);
            assert_eq!(different, [""; 0], "as {engine:?} reads {wanted:?}");
        }
    }
}

/// What `/data/lake` and `s3://lake` of the page are in the test.
struct Roots {
    disk: Location,
    bucket: Location,
}

impl Roots {
    /// A file that no commit has named, as a worker leaves it that dies.
    fn leave_staged_file(&self, table: &str) {
        const NAME: &str = "_alluvium/other.staged/part-1";
        let path = self.disk.inside(table).folder().join(NAME);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "no rows").unwrap();
        let uri = self.bucket.inside(table).uri();
        let (bucket, prefix) = uri.trim_start_matches("s3://").split_once('/').unwrap();
        assert!(object_store().create_object(bucket, &format!("{prefix}/{NAME}"), "no rows"));
    }
}

/// A worker that writes a table.
struct Written {
    connector: Connector,
    file: PathBuf,
    worker: Worker,
}

/// Engines start from a log checkpoint on disk, and read the entries of the log in a bucket.
fn has_log_checkpoint(connector: &Connector) -> bool {
    connector.format == "delta" && matches!(connector.location, Location::Local(_))
}

/// Starts a worker that writes the table.
fn write_table(case: &Case, topic: &str, root: &Location, table: Table) -> Written {
    let name = case.unique(table.name);
    let mut connector = Connector::new(&name, topic, &root.inside(table.name));
    connector.columns = Some(COLUMNS);
    connector.format = table.format;
    connector.partition_by = table.partition_by.to_vec();
    let mut yaml = connector.yaml();
    if has_log_checkpoint(&connector) {
        let always = "  delta:\n    properties: {delta.checkpointInterval: \"1\"}\n";
        yaml = yaml.replace("  delta:\n", always);
    }
    let file = case.write(&format!("{name}.yaml"), &yaml);
    let worker = run_until_end(case, &file).start();
    Written { connector, file, worker }
}

impl Written {
    /// Waits for the table's end, and says the connector's name.
    fn end(self, case: &Case) -> String {
        self.worker.wait(PATIENCE).assert_code(0);
        if has_log_checkpoint(&self.connector) {
            let maintain = ["maintain".as_ref(), self.file.as_os_str()];
            Launch::new(case, maintain).start().wait(PATIENCE).assert_code(0);
            let hint = format!("{}/_delta_log/_last_checkpoint*", self.connector.location.uri());
            assert_eq!(reader::files(&self.connector.location, &hint), 1, "{hint}");
        }
        self.connector.name
    }
}

/// The dead letters of one of the connectors.
fn written_by(connector: &str, dead_letters: &Rows) -> Rows {
    let mut dead_letters = dead_letters.clone();
    dead_letters.values_mut().for_each(|letter| letter["connector"] = json!(connector));
    dead_letters
}

/// The page's blocks for an engine, a step for each table that they read.
fn steps(engine: Engine, tables: &[Table], roots: &Roots) -> (Vec<Step>, Vec<Option<Wanted>>) {
    let mut steps = Vec::new();
    for block in Block::of(engine.heading()) {
        let mut readings = Vec::new();
        for (table, in_bucket) in tables.iter().flat_map(|table| [(table, false), (table, true)]) {
            if !block.reads(table.page, in_bucket) {
                continue;
            }
            let name = match (engine, table.format, in_bucket) {
                (Engine::Polars, "delta", true) => DAYS.name,
                _ => table.name,
            };
            let read = block.reading(table.page, name);
            let wanted = |dead_letters| Wanted { table: table.name, in_bucket, dead_letters };
            if !in_bucket {
                let letters = read.reading(table.name, &format!("{}_dead_letters", table.name));
                readings.push((letters, Some(wanted(true))));
            }
            readings.push((read, Some(wanted(false))));
        }
        if readings.is_empty() {
            readings.push((block, None));
        }
        steps.extend(readings);
    }
    let step = |(block, wanted): (Block, Option<Wanted>)| {
        let code = block.code(&roots.disk, &roots.bucket);
        (Step { reads: wanted.is_some(), code }, wanted)
    };
    steps.into_iter().map(step).unzip()
}

/// The rows as an engine sees them if some columns are folders.
fn as_folders_say(engine: Engine, rows: &Rows) -> Rows {
    let mut rows = rows.clone();
    for row in rows.values_mut() {
        let moment = row["moment"].as_str().map(|moment| moment[..10].to_owned());
        match engine {
            Engine::Alluvium => {}
            Engine::ClickHouse => {
                row["moment_day"] = spelled(moment.as_deref());
                row["region"] = spelled(row["region"].as_str());
            }
            _ => row["moment_day"] = json!(moment),
        }
    }
    rows
}

/// A value as a folder is named after it.
fn spelled(value: Option<&str>) -> Value {
    let escaped = |value: &str| value.replace('%', "%25").replace('/', "%2F").replace('=', "%3D");
    json!(value.map_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_owned(), escaped))
}

/// Names what an engine reads otherwise than it was sent.
fn differences(engine: Engine, expected: &Rows, found: Vec<Value>) -> Vec<String> {
    let mut different = Vec::new();
    let mut rows = Rows::new();
    for mut row in found {
        let number =
            |name: &str| -> i64 { row["_kafka"][name].as_str().unwrap()[1..].parse().unwrap() };
        let place = (number("partition") as i32, number("offset"));
        // When a record was produced is the broker's to say; the verifier compares it.
        let time = row["_kafka"].as_object_mut().unwrap().remove("timestamp");
        if time.is_none_or(|time| !time.is_string()) || rows.insert(place, row).is_some() {
            different.push(format!("{place:?} is there twice, or without its time"));
        }
    }
    for place in expected.keys().chain(rows.keys()).collect::<BTreeSet<_>>() {
        match (expected.get(place), rows.get(place)) {
            (Some(expected), Some(found)) => {
                let names = |row: &Value| -> BTreeSet<String> {
                    row.as_object().unwrap().keys().cloned().collect()
                };
                for name in &names(expected) | &names(found) {
                    let (expected, found) = (&expected[&name], &found[&name]);
                    let same = match name.as_str() {
                        "float" => is_same_float(expected, found),
                        _ => is_same(engine, expected, found),
                    };
                    if !same {
                        different.push(format!("{place:?} {name}: sent {expected}, read {found}"));
                    }
                }
            }
            (expected, _) => different.push(match expected {
                Some(_) => format!("{place:?} is missing"),
                None => format!("{place:?} was never sent"),
            }),
        }
    }
    different
}

/// Whether what an engine shows is what was sent. Only ClickHouse's types make a difference: it has no
/// null tuples, arrays and maps, and shows them empty, and shows a time without zone as a moment in the
/// zone of the session.
fn is_same(engine: Engine, sent: &Value, found: &Value) -> bool {
    match (sent, found) {
        (Value::Object(sent), Value::Object(found)) => {
            sent.len() == found.len()
                && sent.iter().all(|(name, sent)| {
                    found.get(name).is_some_and(|found| is_same(engine, sent, found))
                })
        }
        (Value::Array(sent), Value::Array(found)) => {
            sent.len() == found.len()
                && sent.iter().zip(found).all(|(sent, found)| is_same(engine, sent, found))
        }
        (Value::String(sent), Value::String(found)) => {
            match (sent.strip_prefix('#'), found.strip_prefix('#')) {
                (Some(sent), Some(found)) => is_same_number(sent, found),
                _ if engine == Engine::ClickHouse && is_time_without_zone(sent) => {
                    found.strip_suffix('Z') == Some(sent)
                }
                _ => sent == found,
            }
        }
        (Value::Null, found) if engine == Engine::ClickHouse => is_empty(found),
        (sent, found) => sent == found,
    }
}

/// Digits are compared as they are, zeros at the end of a fraction aside. Numbers with an exponent are
/// doubles, or too small for more than one digit.
fn is_same_number(sent: &str, found: &str) -> bool {
    let digits = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let double = |text: &str| text.parse::<f64>().unwrap().to_bits();
    match [sent, found].iter().any(|text| text.contains(['e', 'E'])) {
        true => double(sent) == double(found),
        false => digits(sent) == digits(found),
    }
}

/// Some write the shortest digits of a float, some those of the double that it is.
fn is_same_float(sent: &Value, found: &Value) -> bool {
    let bits =
        |value: &Value| value.as_str().map(|text| text[1..].parse::<f32>().unwrap().to_bits());
    bits(sent) == bits(found)
}

fn is_time_without_zone(text: &str) -> bool {
    let pattern = regex::Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$").unwrap();
    pattern.is_match(text)
}

fn is_empty(found: &Value) -> bool {
    match found {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}
