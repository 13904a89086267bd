//! The table that a pipeline fills: open already, or to be created from the first records.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use connector_api::batch::TableSchema;
use connector_api::decoder::{DecodeRequest, EpochUnit, OnUnknownField, RESCUED_COLUMN};
use connector_api::partitioning::PartitionField;
use connector_api::schema::{payload_columns, table_schema, type_name};
use connector_api::{Error, Result};

use crate::config::ConnectorPlan;
use crate::source::SourceBatch;

/// Records that a schema is inferred from, at most.
pub(crate) const SAMPLE_RECORDS_MAX: usize = 1000;

/// The columns for a new table: the declared ones, or those of a sample of records. `None` if no
/// record of the sample has any.
pub(crate) fn schema_for_new(
    plan: &ConnectorPlan,
    sample: &[SourceBatch],
) -> Result<Option<TableSchema>> {
    let payload = match &plan.schema.columns {
        Some(columns) => for_new(columns),
        None => match infer(plan, sample) {
            Some(inferred) => Arc::new(inferred),
            None => return Ok(None),
        },
    };
    let rescue = plan.schema.on_unknown_field == OnUnknownField::Rescue;
    let columns = table_schema(&payload, &plan.schema.kafka_fields, rescue);
    let partition_columns = plan.table.settings.partition_by.clone();
    for column in &partition_columns {
        let name =
            PartitionField::parse(column).map_or_else(|| column.clone(), |field| field.column);
        if payload.index_of(&name).is_err() {
            return Err(Error::user(format!(
                "`partition_by` names `{name}`, which the first records do not have; declare it in `schema.columns`"
            )));
        }
    }
    Ok(Some(TableSchema { columns, partition_columns }))
}

fn infer(plan: &ConnectorPlan, sample: &[SourceBatch]) -> Option<Schema> {
    let values: Vec<&[u8]> = sample
        .iter()
        .flat_map(|batch| (0..batch.records.len()).filter_map(|record| batch.records.value(record)))
        .take(SAMPLE_RECORDS_MAX)
        .collect();
    plan.decoder.infer(&values)
}

/// What to say if the first records have no columns.
pub(crate) fn not_inferred(plan: &ConnectorPlan, records: usize) -> Error {
    Error::user(format!(
        "no columns can be inferred from the first {records} records: none is a {} object with fields; \
         declare `schema.columns`, or create the table first",
        plan.decoder.format()
    ))
}

/// What the decoder is to fill in a table with these columns. Checks that declared columns are the table's.
pub(crate) fn decode_request(plan: &ConnectorPlan, columns: &Schema) -> Result<DecodeRequest> {
    let declared = plan.schema.columns.as_deref();
    if let Some(declared) = declared {
        fits(declared, columns)?;
    }
    let mut on_unknown_field = plan.schema.on_unknown_field;
    if on_unknown_field == OnUnknownField::Rescue && columns.index_of(RESCUED_COLUMN).is_err() {
        tracing::warn!(
            table = plan.table.sink.location(),
            "the table has no column `_rescued`: fields that it does not know are left out"
        );
        on_unknown_field = OnUnknownField::Ignore;
    }
    Ok(DecodeRequest { columns: requested(declared, columns), on_unknown_field })
}

/// The declared columns as a table keeps them.
fn for_new(declared: &Schema) -> SchemaRef {
    with_units(declared, |_| None)
}

/// The table's payload columns, with the units that are declared for them.
fn requested(declared: Option<&Schema>, table: &Schema) -> SchemaRef {
    with_units(&payload_columns(table), |name| EpochUnit::of(declared?.field_with_name(name).ok()?))
}

/// The columns with these units by name, and no other. A table has none: units say how records are
/// written, and that is the configuration's to say.
fn with_units(columns: &Schema, unit: impl Fn(&str) -> Option<EpochUnit>) -> SchemaRef {
    let column = |column: &Arc<Field>| EpochUnit::put(unit(column.name()), column.as_ref().clone());
    Arc::new(Schema::new(columns.fields().iter().map(column).collect::<Vec<_>>()))
}

/// Each declared column must be in the table, with its type.
fn fits(declared: &Schema, table: &Schema) -> Result<()> {
    let mut misfits = Vec::new();
    for column in declared.fields() {
        match table.field_with_name(column.name()) {
            Err(_) => misfits.push(format!("`{}` is not in the table", column.name())),
            Ok(found) if !same_type(found.data_type(), column.data_type()) => {
                misfits.push(format!(
                    "`{}` is declared as {} and is {} in the table",
                    column.name(),
                    type_name(column.data_type()),
                    type_name(found.data_type())
                ))
            }
            Ok(_) => {}
        }
    }
    let declared: HashSet<&String> = declared.fields().iter().map(|f| f.name()).collect();
    let required = payload_columns(table);
    let required =
        required.fields().iter().filter(|f| !f.is_nullable() && !declared.contains(f.name()));
    misfits.extend(
        required.map(|f| format!("the table requires `{}`, which is not declared", f.name())),
    );
    if misfits.is_empty() {
        return Ok(());
    }
    Err(Error::user(format!(
        "the table exists and does not have the declared columns: {}; change `schema.columns`, or alter the table",
        misfits.join(", ")
    )))
}

/// Compares types by their spelling: what child fields are called inside of Arrow does not matter,
/// nor whether they may be null, which is the table's to say.
fn same_type(one: &DataType, other: &DataType) -> bool {
    let spelled = |data_type| type_name(data_type).replace(" not null", "");
    spelled(one) == spelled(other)
}

#[cfg(test)]
mod tests {
    use connector_api::schema::timestamp_type;

    use super::*;

    fn columns(units: [Option<EpochUnit>; 3]) -> Schema {
        let column = |(name, unit)| {
            let note = [("note".to_owned(), "kept".to_owned())].into();
            EpochUnit::put(unit, Field::new(name, timestamp_type(), true).with_metadata(note))
        };
        Schema::new(["a", "b", "c"].into_iter().zip(units).map(column).collect::<Vec<_>>())
    }

    #[test]
    fn the_declared_units_and_no_others_reach_the_decoder() {
        let table = columns([None, Some(EpochUnit::Seconds), None]);
        let declared = columns([Some(EpochUnit::Millis), None, Some(EpochUnit::Micros)]);
        // In another order than the table's, which is the one that counts.
        let declared = declared.project(&[2, 1, 0]).unwrap();
        assert_eq!(
            *requested(Some(&declared), &table),
            columns([Some(EpochUnit::Millis), None, Some(EpochUnit::Micros)])
        );
        assert_eq!(*requested(None, &table), columns([None; 3]));
    }

    #[test]
    fn a_new_table_does_not_keep_the_units() {
        let declared = columns([Some(EpochUnit::Millis), None, Some(EpochUnit::Micros)]);
        assert_eq!(*for_new(&declared), columns([None; 3]));
    }
}
