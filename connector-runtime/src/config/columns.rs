//! The section `schema`: the columns that records become.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef};
use connector_api::batch::KAFKA_COLUMN;
use connector_api::decoder::{EpochUnit, OnUnknownField, RESCUED_COLUMN};
use connector_api::partitioning::TimeUnit;
use connector_api::schema::{
    KafkaField, TYPE_NAMES, TYPES_ALLOWED, TypeError, parse_type, type_name,
};

use super::field::{Choice, Field};
use super::plan::SchemaPlan;
use super::section::{Key, QUOTES, Section, key};
use super::words::nearest;

pub(super) const KEYS: &[Key] = &[key("columns"), key("on_unknown_field"), key("kafka_columns")];
pub(super) const COLUMN_KEYS: &[Key] = &[key("name"), key("type"), key("nullable"), key("unit")];

const EXAMPLE: &str = "`{name: id, type: long}`";

/// Reads the section; absent, the columns are those of the table or inferred.
pub(super) fn read(field: Option<Field<'_>>) -> Option<SchemaPlan> {
    let default = SchemaPlan {
        columns: None,
        on_unknown_field: OnUnknownField::Rescue,
        kafka_fields: KafkaField::ALL.to_vec(),
    };
    let Some(field) = field else { return Some(default) };
    let section = Section::open(field, KEYS)?;
    let columns = columns(&section);
    let on_unknown_field = on_unknown_field(&section);
    let kafka_fields = kafka_columns(&section);
    Some(SchemaPlan {
        columns: columns?,
        on_unknown_field: on_unknown_field?,
        kafka_fields: kafka_fields?,
    })
}

/// `columns`: the payload's columns, in the order of the table. Absent: the table's own if the
/// table exists, else inferred from the first records.
fn columns(section: &Section<'_>) -> Option<Option<SchemaRef>> {
    let Some(field) = section.get("columns") else { return Some(None) };
    let items = field.items("columns: [{name: id, type: long}]")?;
    if items.is_empty() {
        return field.reject(
            "there are no columns",
            "declare at least one, or remove the key to have them inferred",
        );
    }
    let mut columns: Vec<Column> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut complete = true;
    for item in items {
        match column(item, &mut names) {
            Some(column) => columns.push(column),
            None => complete = false,
        }
    }
    complete.then(|| Some(Arc::new(Schema::new(columns))))
}

/// Adds to `names` what the columns before are called, also those with a mistake in them.
fn column(item: Field<'_>, names: &mut Vec<String>) -> Option<Column> {
    let section = Section::open(item, COLUMN_KEYS)?;
    let name = column_name(&section, names);
    names.extend(name.clone());
    let data_type = column_type(&section);
    let nullable = nullable(&section);
    let unit = unit(&section, data_type.as_ref());
    Some(EpochUnit::put(unit?, Column::new(name?, data_type?, nullable?)))
}

/// `columns[].name`: the field's name in the records, and the column's in the table.
fn column_name(section: &Section<'_>, before: &[String]) -> Option<String> {
    let field =
        section.required("name", &format!("each column has a name and a type, as in {EXAMPLE}"))?;
    let name = field.text("id")?;
    if [KAFKA_COLUMN, RESCUED_COLUMN].iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        return field.reject(
            format!("the column {} is added by Alluvium", field.found()),
            "remove the column; see `kafka_columns` and `on_unknown_field` for what is added",
        );
    }
    if let Some(first) = before.iter().find(|first| first.to_lowercase() == name.to_lowercase()) {
        return field.reject(
            format!(
                "there is already a column `{first}`; engines take upper and lower case for the same"
            ),
            "remove one of the columns",
        );
    }
    Some(name.to_owned())
}

/// `columns[].type`: the column's type.
fn column_type(section: &Section<'_>) -> Option<DataType> {
    let field =
        section.required("type", &format!("each column has a name and a type, as in {EXAMPLE}"))?;
    let text = field.text("long")?;
    match parse_type(text) {
        Ok(data_type) => Some(data_type),
        Err(error) => field.reject(error.to_string(), type_help(text, &error)),
    }
}

fn type_help(text: &str, error: &TypeError) -> String {
    let nearest = || nearest(error.unknown.as_deref()?, TYPE_NAMES.iter().copied());
    let open = |open: char, close: char| text.matches(open).count() > text.matches(close).count();
    if open('(', ')') || open('<', '>') {
        return QUOTES.to_owned();
    }
    match error.suggestion.or_else(nearest) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None => format!("types are {TYPES_ALLOWED}"),
    }
}

/// `columns[].nullable`: whether the column may be null, `true` by default. A record without a
/// value for a column that may not is a bad record.
fn nullable(section: &Section<'_>) -> Option<bool> {
    section.get("nullable").map_or(Some(true), |field| field.boolean())
}

/// `columns[].unit`: what the records' numbers count that stand for timestamps: `seconds`, `millis`
/// or `micros` since 1970. It goes for all timestamps in the column, also those inside of a struct,
/// an array or a map. Texts in ISO 8601 are taken beside the numbers; absent, they alone are.
fn unit(section: &Section<'_>, data_type: Option<&DataType>) -> Option<Option<EpochUnit>> {
    const CHOICES: &[Choice<EpochUnit>] = &[
        Choice { word: "seconds", means: Ok(EpochUnit::Seconds) },
        Choice { word: "millis", means: Ok(EpochUnit::Millis) },
        Choice { word: "micros", means: Ok(EpochUnit::Micros) },
        Choice {
            word: "nanos",
            means: Err("declare the column as `long`, which keeps all digits"),
        },
    ];
    let Some(field) = section.get("unit") else { return Some(None) };
    if let Some(data_type) = data_type.filter(|data_type| !has_timestamp(data_type)) {
        return field.reject_key(
            format!("a unit is for timestamps, and there is none in `{}`", type_name(data_type)),
            "remove the key, or declare the column as `timestamp`",
        );
    }
    field.choice(CHOICES).map(Some)
}

fn has_timestamp(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(..) => true,
        DataType::List(inner) | DataType::Map(inner, _) => has_timestamp(inner.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_timestamp(field.data_type())),
        _ => false,
    }
}

/// `on_unknown_field`: what happens to a field that no column names: `rescue` (default) keeps it in
/// the column `_rescued`, `ignore` drops it, `reject` makes the record a bad one.
fn on_unknown_field(section: &Section<'_>) -> Option<OnUnknownField> {
    const CHOICES: &[Choice<OnUnknownField>] = &[
        Choice { word: "rescue", means: Ok(OnUnknownField::Rescue) },
        Choice { word: "ignore", means: Ok(OnUnknownField::Ignore) },
        Choice { word: "reject", means: Ok(OnUnknownField::Reject) },
        Choice {
            word: "add_column",
            means: Err("use `rescue`: the fields are kept in the column `_rescued`"),
        },
    ];
    section
        .get("on_unknown_field")
        .map_or(Some(OnUnknownField::Rescue), |field| field.choice(CHOICES))
}

/// `kafka_columns`: the fields of the column `_kafka`, which traces each row to its record, by
/// default `[topic, partition, offset, timestamp]`. An empty list leaves the column out.
fn kafka_columns(section: &Section<'_>) -> Option<Vec<KafkaField>> {
    const LATER: &str = "use `topic`, `partition`, `offset` and `timestamp`";
    const CHOICES: &[Choice<KafkaField>] = &[
        Choice { word: "topic", means: Ok(KafkaField::Topic) },
        Choice { word: "partition", means: Ok(KafkaField::Partition) },
        Choice { word: "offset", means: Ok(KafkaField::Offset) },
        Choice { word: "timestamp", means: Ok(KafkaField::Timestamp) },
        Choice { word: "key", means: Err(LATER) },
        Choice { word: "headers", means: Err(LATER) },
    ];
    let Some(field) = section.get("kafka_columns") else { return Some(KafkaField::ALL.to_vec()) };
    let mut fields = Vec::new();
    let mut complete = true;
    for item in field.items("kafka_columns: [topic, partition, offset, timestamp]")? {
        match item.choice(CHOICES) {
            Some(field) if fields.contains(&field) => {
                item.reject::<()>(format!("{} is there twice", item.found()), "keep one of them");
                complete = false;
            }
            Some(field) => fields.push(field),
            None => complete = false,
        }
    }
    complete.then_some(fields)
}

/// Whether a table may be partitioned by a column of this type.
pub(super) fn has_unit(data_type: &DataType, unit: TimeUnit) -> bool {
    match data_type {
        DataType::Timestamp(..) => true,
        DataType::Date32 => unit != TimeUnit::Hour,
        _ => false,
    }
}

pub(super) fn may_partition(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
    )
}

/// The columns of a plan by name, for messages.
pub(super) fn describe(columns: &Schema) -> String {
    let column =
        |column: &Arc<Column>| format!("`{}` {}", column.name(), type_name(column.data_type()));
    columns.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}
