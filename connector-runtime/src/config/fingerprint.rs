//! The fingerprint of a plan: everything that decides which rows come out, and nothing else (CF-1).
//!
//! | in | out |
//! |---|---|
//! | name, topics, `start_at`, `isolation.level` | broker addresses, the group, other properties, secrets |
//! | decoder, columns, unknown fields, `_kafka`, bad records | owner, description, the file's name |
//! | table format, `partition_by` | the table's location, the store's options, intervals, file size, compression |

use connector_api::decoder::{EpochUnit, OnUnknownField};
use connector_api::schema::type_name;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::plan::{ConnectorPlan, SchemaPlan, StartAt, TopicSelection};

/// Changes whenever the form below changes, so that prints of different forms never meet.
const FORM: u32 = 1;

impl ConnectorPlan {
    /// Hex SHA-256 over what decides which rows come out. Equal for equal plans in every process.
    pub fn fingerprint(&self) -> String {
        let form = json!({
            "form": FORM,
            "name": self.name.as_str(),
            "topics": topics(&self.source.topics),
            "start_at": start_at(&self.source.start_at),
            "isolation_level": self.source.properties.get("isolation.level").map(|level| level.expose()),
            "decoder": self.decoder.format(),
            "schema": schema(&self.schema),
            "on_bad_record": self.on_bad_record.as_str(),
            "table": {"format": self.table.format, "partition_by": self.table.settings.partition_by},
        });
        let digest = Sha256::digest(canonical(&form).as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn topics(topics: &TopicSelection) -> Value {
    match topics {
        TopicSelection::List(names) => {
            let mut names = names.clone();
            names.sort();
            json!({"list": names})
        }
        TopicSelection::Pattern(pattern) => json!({"pattern": pattern}),
    }
}

fn start_at(start_at: &StartAt) -> Value {
    match start_at {
        StartAt::Earliest => json!("earliest"),
        StartAt::Latest => json!("latest"),
        StartAt::Timestamp { ms } => json!({"timestamp_ms": ms}),
        StartAt::Offsets(offsets) => {
            let offset = |((topic, partition), offset): (
                &(String, i32),
                &connector_api::offsets::Offset,
            )| { json!([topic, partition, offset.get()]) };
            json!({"offsets": offsets.iter().map(offset).collect::<Vec<_>>()})
        }
    }
}

fn schema(schema: &SchemaPlan) -> Value {
    let columns = schema.columns.as_ref().map(|columns| {
        let column = |column: &std::sync::Arc<arrow::datatypes::Field>| {
            let mut form = vec![
                json!(column.name()),
                json!(type_name(column.data_type())),
                json!(column.is_nullable()),
            ];
            // Only where there is one, so that older plans keep their prints.
            form.extend(EpochUnit::of(column).map(|unit| json!(unit.name())));
            form
        };
        columns.fields().iter().map(column).collect::<Vec<_>>()
    });
    json!({
        "columns": columns,
        "on_unknown_field": match schema.on_unknown_field {
            OnUnknownField::Rescue => "rescue",
            OnUnknownField::Ignore => "ignore",
            OnUnknownField::Reject => "reject",
        },
        "kafka_fields": schema.kafka_fields.iter().map(|field| field.name()).collect::<Vec<_>>(),
    })
}

/// JSON with the keys of each object sorted, whatever features serde_json was built with.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| key.as_str());
            let member =
                |(key, value): &(&String, &Value)| format!("{}:{}", json!(key), canonical(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}
