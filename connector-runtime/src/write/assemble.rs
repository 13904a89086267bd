//! Puts a table's rows together: payload columns, the `_kafka` column, `_rescued`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, SchemaRef};
use connector_api::batch::KAFKA_COLUMN;
use connector_api::decoded::DecodedRows;
use connector_api::record::RawRecords;
use connector_api::{Error, Result};

/// Rows with exactly the table's columns, in its order. A column that the rows do not have is null.
pub fn assemble(
    records: &RawRecords,
    decoded: &DecodedRows,
    columns: &SchemaRef,
) -> Result<RecordBatch> {
    let payload = decoded.rows();
    let column = |field: &Arc<Field>| -> Result<ArrayRef> {
        if field.name() == KAFKA_COLUMN {
            return kafka_column(records, decoded.row_records(), field);
        }
        match payload.column_by_name(field.name()) {
            Some(column) => Ok(column.clone()),
            None if field.is_nullable() => {
                Ok(new_null_array(field.data_type(), payload.num_rows()))
            }
            None => Err(Error::user(format!("the table requires a column `{}`", field.name()))),
        }
    };
    let arrays = columns.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(columns.clone(), arrays)
        .map_err(|e| Error::internal("rows do not fit the table's columns").with_source(e))
}

/// The struct that traces each row to its record, with the fields that the table has.
fn kafka_column(records: &RawRecords, rows: &[u32], field: &Field) -> Result<ArrayRef> {
    let DataType::Struct(fields) = field.data_type() else {
        return Err(Error::user(format!("the table's column `{KAFKA_COLUMN}` is no struct")));
    };
    let child = |child: &Arc<Field>| -> Result<ArrayRef> {
        let topic_partition = records.topic_partition();
        let array: ArrayRef = match (child.name().as_str(), child.data_type()) {
            ("topic", DataType::Utf8) => {
                Arc::new(StringArray::new_repeated(&topic_partition.topic, rows.len()))
            }
            ("partition", DataType::Int32) => {
                Arc::new(Int32Array::from_value(topic_partition.partition, rows.len()))
            }
            ("offset", DataType::Int64) => {
                Arc::new(Int64Array::new(of_rows(records.offsets(), rows).into(), None))
            }
            ("timestamp", DataType::Timestamp(..)) => Arc::new(timestamps(records, rows)),
            (_, data_type) if child.is_nullable() => new_null_array(data_type, rows.len()),
            (name, data_type) => {
                return Err(Error::user(format!(
                    "the table's column `{KAFKA_COLUMN}.{name}` of type {data_type} cannot be filled"
                )));
            }
        };
        Ok(array)
    };
    let arrays = fields.iter().map(child).collect::<Result<Vec<_>>>()?;
    let column = StructArray::try_new_with_length(fields.clone(), arrays, None, rows.len())
        .map_err(|e| Error::internal("the `_kafka` column cannot be built").with_source(e))?;
    Ok(Arc::new(column))
}

/// The values of the records that became rows: of all of them, mostly.
fn of_rows(values: &[i64], rows: &[u32]) -> Vec<i64> {
    match rows.len() == values.len() {
        true => values.to_vec(),
        false => rows.iter().map(|row| values[*row as usize]).collect(),
    }
}

/// The records' own time in microseconds UTC, null where the producer set none.
pub(super) fn timestamps(records: &RawRecords, rows: &[u32]) -> TimestampMicrosecondArray {
    let millis = of_rows(records.timestamps_ms(), rows);
    let all_known = millis.iter().all(|ms| *ms >= 0);
    let known = (!all_known).then(|| NullBuffer::from_iter(millis.iter().map(|ms| *ms >= 0)));
    let micros: Vec<i64> = millis.into_iter().map(|ms| ms.saturating_mul(1000)).collect();
    TimestampMicrosecondArray::new(micros.into(), known).with_timezone("UTC")
}
