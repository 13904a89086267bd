//! Tables that somebody else made: written by hand, after the Delta protocol.

use std::fs;

use serde_json::{Value, json};

use crate::location::Location;

/// What a table's first version says of it.
#[derive(Debug, Clone)]
pub struct ForeignTable {
    /// `minReaderVersion`.
    pub reader_version: u32,
    /// `minWriterVersion`.
    pub writer_version: u32,
    /// The schema's fields.
    pub fields: Vec<Value>,
}

impl ForeignTable {
    /// Creates the table: version 0, without rows.
    pub fn create(&self, location: &Location) {
        let log = location.folder().join("_delta_log");
        fs::create_dir_all(&log).unwrap();
        let schema = json!({"type": "struct", "fields": self.fields}).to_string();
        let actions = [
            json!({"protocol": {"minReaderVersion": self.reader_version, "minWriterVersion": self.writer_version}}),
            json!({"metaData": {
                "id": "5e5a9a9c-7d55-4cbb-9b6c-2a1d6f0e4a11",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": schema,
                "partitionColumns": [],
                "configuration": {},
                "createdTime": 1_700_000_000_000_u64,
            }}),
        ];
        let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
        fs::write(log.join("00000000000000000000.json"), lines.join("\n") + "\n").unwrap();
    }

    /// Commits a version that adds a Parquet file, which lies in the table's folder already.
    pub fn add_file(location: &Location, version: u32, file: &str) {
        let size = fs::metadata(location.folder().join(file)).unwrap().len();
        let add = json!({"add": {
            "path": file, "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": true,
        }});
        let log = location.folder().join("_delta_log");
        fs::write(log.join(format!("{version:020}.json")), add.to_string() + "\n").unwrap();
    }
}

/// Writes the next version of a table as another writer would: these actions and nothing else.
pub fn write_version(location: &Location, actions: &[Value]) {
    let log = location.folder().join("_delta_log");
    let next = crate::reader::versions(location);
    let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
    fs::write(log.join(format!("{next:020}.json")), lines.join("\n") + "\n").unwrap();
}

/// The newest action of a kind in a table's log.
pub fn newest_action(location: &Location, kind: &str) -> Value {
    let log = location.folder().join("_delta_log");
    let versions = (0..crate::reader::versions(location)).rev();
    let entries = versions.map(|v| fs::read_to_string(log.join(format!("{v:020}.json"))).unwrap());
    let action = |line: &str| -> Option<Value> {
        serde_json::from_str::<Value>(line).unwrap().get(kind).cloned()
    };
    entries
        .flat_map(|entry| entry.lines().filter_map(action).collect::<Vec<_>>())
        .next()
        .unwrap_or_else(|| panic!("no `{kind}` in {}", log.display()))
}

/// The sum of a number that each of a table's commits says.
pub fn sum_of_commits(location: &Location, key: &str) -> u64 {
    parameters(location, key).iter().map(|number| number.parse::<u64>().unwrap()).sum()
}

/// What a table's commits say was passed over.
pub fn losses(location: &Location) -> Vec<String> {
    parameters(location, "alluvium.losses")
}

fn parameters(location: &Location, key: &str) -> Vec<String> {
    let log = location.folder().join("_delta_log");
    let entries = (0..crate::reader::versions(location))
        .map(|v| fs::read_to_string(log.join(format!("{v:020}.json"))).unwrap());
    let parameter = |line: &str| -> Option<String> {
        let action = serde_json::from_str::<Value>(line).unwrap();
        action["commitInfo"]["operationParameters"][key].as_str().map(str::to_owned)
    };
    entries.flat_map(|entry| entry.lines().filter_map(parameter).collect::<Vec<_>>()).collect()
}

/// A nullable field of a schema.
pub fn field(name: &str, data_type: impl Into<Value>) -> Value {
    json!({"name": name, "type": data_type.into(), "nullable": true, "metadata": {}})
}

/// The fields that trace each row to its record, and keep what has no column.
pub fn our_fields() -> Vec<Value> {
    let kafka = [
        ("topic", "string"),
        ("partition", "integer"),
        ("offset", "long"),
        ("timestamp", "timestamp"),
    ];
    let kafka: Vec<Value> = kafka.iter().map(|(name, data_type)| field(name, *data_type)).collect();
    vec![field("_kafka", json!({"type": "struct", "fields": kafka})), field("_rescued", "string")]
}
