//! Which tables we write correctly, and which we refuse by name before the first byte.
//!
//! | what the table has | answer |
//! |---|---|
//! | writer version 1, 2 or 7 with features of [`WRITABLE`] | written |
//! | writer version 3 to 6 | refused: they imply CHECK constraints and generated columns |
//! | any other writer feature | refused |
//! | a generation expression, an invariant, an identity or a default in a column's metadata | refused, also where no feature announces it |
//! | `delta.setTransactionRetentionDuration` shorter than [`RETENTION_MIN`] | refused: expired offsets would be read again |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use connector_api::config::SettingError;
use connector_api::partitioning::PartitionField;
use connector_api::{Error, Result};
use delta_kernel::schema::{DataType, MetadataValue, StructField, StructType};
use delta_kernel::snapshot::Snapshot;

/// Features that an append honours, by the Delta protocol's names ("Valid Feature Names in Table Features").
///
/// `invariants` is among them since it comes with every NOT NULL column; an invariant that is in
/// use shows in the column's metadata.
const WRITABLE: &[&str] = &[
    "appendOnly",
    "changeDataFeed",
    "checkpointProtection",
    "clustering",
    "deletionVectors",
    "domainMetadata",
    "inCommitTimestamp",
    "invariants",
    "rowTracking",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// Column metadata that asks the writer to compute or check something.
const COLUMN_RULES: &[(&str, &str)] = &[
    ("delta.generationExpression", "a generated column"),
    ("delta.invariants", "a column invariant"),
    ("delta.identity.start", "an identity column"),
    ("delta.identity.step", "an identity column"),
    ("CURRENT_DEFAULT", "a column default"),
];

/// A `txn` action that expires while a connector rests would make it read everything again.
const RETENTION_MIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const RETENTION: &str = "delta.setTransactionRetentionDuration";

/// Refuses a table that an append could corrupt. Names everything that stands in the way, not only the first.
pub(super) fn check(snapshot: &Snapshot) -> Result<()> {
    let mut found = Vec::new();
    let protocol = snapshot.table_configuration().protocol();
    match protocol.min_writer_version() {
        1 | 2 => {}
        7 => {
            let features = [protocol.reader_features(), protocol.writer_features()];
            let features = features.into_iter().flatten().flatten().map(ToString::to_string);
            let unknown: BTreeSet<_> =
                features.filter(|name| !WRITABLE.contains(&name.as_str())).collect();
            found.extend(unknown.iter().map(|feature| format!("the feature `{feature}`")));
        }
        legacy => found.push(format!("writer version {legacy} (1, 2 and 7 are supported)")),
    }
    column_rules(&snapshot.schema(), "", &mut found);
    let refused = found.len();
    let properties = snapshot.table_properties();
    if let Some(retention) = properties.set_transaction_retention_duration
        && retention < RETENTION_MIN
    {
        found.push(format!("`{RETENTION}` of {} s (30 days at least)", retention.as_secs()));
    }
    if found.is_empty() {
        return Ok(());
    }
    let message = format!(
        "it has what this version cannot write correctly: {}; write into another table, or remove it there",
        found.join(", ")
    );
    // Offsets that expire are a danger to what is in the table already.
    Err(if refused == 0 { Error::decision(message) } else { Error::user(message) })
}

/// Refuses properties for a new table that we could not honour afterwards.
pub(super) fn refused_properties(properties: &BTreeMap<String, String>) -> Vec<SettingError> {
    let refused = |key: &str| {
        key == RETENTION
            || key.starts_with("delta.constraints.")
            || key == "delta.columnMapping.mode"
            || (key.starts_with("delta.feature.")
                && !WRITABLE.contains(&&key["delta.feature.".len()..]))
    };
    let error = |key: &String| SettingError {
        key: vec!["delta".into(), "properties".into(), key.clone()],
        message: "this version cannot write a table with this property".into(),
    };
    properties.keys().filter(|key| refused(key)).map(error).collect()
}

/// Refuses units of time: readers of a Delta table know its partition columns by the schema alone.
pub(super) fn refused_partitions(partition_by: &[String]) -> Vec<SettingError> {
    let is_unit =
        |text: &&String| PartitionField::parse(text).is_none_or(|field| field.unit.is_some());
    let error = |text: &String| SettingError {
        key: vec!["delta".into(), "partition_by".into()],
        message: format!(
            "a Delta table is partitioned by its columns, and `{text}` is a unit of time of one; \
             use a column of type date, or `parquet`"
        ),
    };
    partition_by.iter().filter(is_unit).map(error).collect()
}

fn column_rules(fields: &StructType, above: &str, found: &mut Vec<String>) {
    for field in fields.fields() {
        let path = if above.is_empty() {
            field.name().clone()
        } else {
            format!("{above}.{}", field.name())
        };
        for (key, what) in COLUMN_RULES {
            if is_set(field, key) {
                found.push(format!("{what}, `{path}`"));
            }
        }
        nested_rules(field.data_type(), &path, found);
    }
}

fn nested_rules(data_type: &DataType, path: &str, found: &mut Vec<String>) {
    match data_type {
        DataType::Struct(fields) => column_rules(fields, path, found),
        DataType::Array(array) => nested_rules(array.element_type(), path, found),
        DataType::Map(map) => nested_rules(map.value_type(), path, found),
        DataType::Primitive(_) => {}
        _ => found.push(format!("a variant column, `{path}`")),
    }
}

fn is_set(field: &StructField, key: &str) -> bool {
    match field.metadata().get(key) {
        None => false,
        Some(MetadataValue::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}
