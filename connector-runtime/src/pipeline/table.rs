//! The table that a pipeline fills: open already, or to be created from the first records.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use connector_api::batch::TableSchema;
use connector_api::decoder::{DecodeRequest, OnUnknownField, RESCUED_COLUMN};
use connector_api::schema::{payload_columns, table_schema, type_name};
use connector_api::{Error, Result};

use crate::config::ConnectorPlan;
use crate::source::SourceBatch;

/// Records that a schema is inferred from, at most.
pub(crate) const SAMPLE_RECORDS_MAX: usize = 1000;

/// The columns for a new table: the declared ones, or those of a sample of records.
pub(crate) fn schema_for_new(plan: &ConnectorPlan, sample: &[SourceBatch]) -> Result<TableSchema> {
    let payload = match &plan.schema.columns {
        Some(columns) => columns.clone(),
        None => Arc::new(infer(plan, sample)?),
    };
    let rescue = plan.schema.on_unknown_field == OnUnknownField::Rescue;
    let columns = table_schema(&payload, &plan.schema.kafka_fields, rescue);
    let partition_columns = plan.table.settings.partition_by.clone();
    for column in &partition_columns {
        if payload.index_of(column).is_err() {
            return Err(Error::user(format!(
                "`partition_by` names `{column}`, which the first records do not have; declare it in `schema.columns`"
            )));
        }
    }
    Ok(TableSchema { columns, partition_columns })
}

fn infer(plan: &ConnectorPlan, sample: &[SourceBatch]) -> Result<Schema> {
    let values: Vec<&[u8]> = sample
        .iter()
        .flat_map(|batch| (0..batch.records.len()).filter_map(|record| batch.records.value(record)))
        .take(SAMPLE_RECORDS_MAX)
        .collect();
    plan.decoder.infer(&values).ok_or_else(|| {
        Error::user(format!(
            "no columns can be inferred from the first {} records: none is a {} object with fields; \
             declare `schema.columns`, or create the table first",
            values.len(),
            plan.decoder.format()
        ))
    })
}

/// What the decoder is to fill in a table with these columns. Checks that declared columns are the table's.
pub(crate) fn decode_request(plan: &ConnectorPlan, columns: &Schema) -> Result<DecodeRequest> {
    if let Some(declared) = &plan.schema.columns {
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
    Ok(DecodeRequest { columns: payload_columns(columns), on_unknown_field })
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
