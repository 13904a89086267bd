//! Divides rows among the folders of a partitioned table.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use connector_api::batch::PartitionValues;
use connector_api::{Error, Result};

/// The longest name of a folder, `column=value` with everything escaped, that every store takes.
const FOLDER_BYTES_MAX: usize = 255;

/// The rows of one folder.
#[derive(Debug)]
pub struct Part {
    /// The folder.
    pub values: PartitionValues,
    /// Its rows.
    pub rows: RecordBatch,
    /// For each row its index before the division; empty where there was none.
    pub indices: Vec<u32>,
}

/// The column whose value is too long for the name of a folder, with the length of that name.
pub fn too_long(values: &PartitionValues) -> Option<(&str, usize)> {
    let escaped = |text: &str| -> usize {
        text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { 1 } else { 3 }).sum()
    };
    let length = |(column, value): &(String, Option<String>)| {
        escaped(column) + 1 + value.as_deref().map_or(0, escaped)
    };
    let named = values.0.iter().map(|one| (one.0.as_str(), length(one)));
    named.into_iter().find(|(_, length)| *length > FOLDER_BYTES_MAX)
}

/// Splits rows by the values of some columns, which are then left out: the folder says them.
///
/// Rows keep their order within a folder. Without partition columns all rows stay together.
pub fn split(rows: &RecordBatch, columns: &[String]) -> Result<Vec<Part>> {
    if columns.is_empty() {
        let values = PartitionValues::default();
        return Ok(vec![Part { values, rows: rows.clone(), indices: Vec::new() }]);
    }
    let values = columns.iter().map(|c| column_values(rows, c)).collect::<Result<Vec<_>>>()?;
    let mut folders: BTreeMap<PartitionValues, Vec<u32>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        let of_row = columns.iter().zip(&values).map(|(c, v)| (c.clone(), v[row].clone()));
        folders.entry(PartitionValues(of_row.collect())).or_default().push(row as u32);
    }
    let data = without(rows, columns)?;
    let arrow_error = |e| Error::internal("rows cannot be divided among folders").with_source(e);
    folders
        .into_iter()
        .map(|(values, indices)| {
            let rows = take_record_batch(&data, &UInt32Array::from(indices.clone()))
                .map_err(arrow_error)?;
            Ok(Part { values, rows, indices })
        })
        .collect()
}

fn without(rows: &RecordBatch, columns: &[String]) -> Result<RecordBatch> {
    let schema = rows.schema();
    let kept: Vec<usize> =
        (0..schema.fields().len()).filter(|i| !columns.contains(schema.field(*i).name())).collect();
    rows.project(&kept)
        .map_err(|e| Error::internal("partition columns cannot be left out").with_source(e))
}

/// The values of a column as the Delta protocol writes them ("Partition Value Serialization").
/// An empty string is a null there, and so it is here.
fn column_values(rows: &RecordBatch, column: &str) -> Result<Vec<Option<String>>> {
    let array = rows.column_by_name(column).ok_or_else(|| {
        Error::user(format!("the table is partitioned by `{column}`, which the rows do not have"))
    })?;
    let text = |e| Error::user(format!("partition column `{column}`")).with_source(e);
    match array.data_type() {
        DataType::Boolean => Ok(booleans(array)),
        DataType::Utf8
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Date32 => {
            let options = FormatOptions::new();
            let format = ArrayFormatter::try_new(array.as_ref(), &options).map_err(text)?;
            let value = |row| (!array.is_null(row)).then(|| format.value(row).to_string());
            Ok((0..array.len()).map(|row| value(row).filter(|v| !v.is_empty())).collect())
        }
        other => Err(Error::user(format!(
            "the table is partitioned by `{column}` of type {other}; \
             supported are string, boolean, whole numbers and date"
        ))),
    }
}

fn booleans(array: &ArrayRef) -> Vec<Option<String>> {
    match array.as_any().downcast_ref::<BooleanArray>() {
        Some(array) => array.iter().map(|value| value.map(|value| value.to_string())).collect(),
        None => vec![None; array.len()],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn rows() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("day", DataType::Date32, true),
            Field::new("id", DataType::Int64, false),
            Field::new("country", DataType::Utf8, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Date32Array::from(vec![Some(20_000), None, Some(20_000), Some(20_001)])),
            Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
            Arc::new(StringArray::from(vec![Some("DE"), Some(""), Some("DE"), Some("FR")])),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    #[test]
    fn each_row_goes_into_the_folder_of_its_values_and_none_is_lost() {
        let parts = split(&rows(), &["day".into(), "country".into()]).unwrap();
        let found: Vec<(Vec<Option<&str>>, usize)> = parts
            .iter()
            .map(|part| {
                (part.values.0.iter().map(|(_, v)| v.as_deref()).collect(), part.rows.num_rows())
            })
            .collect();
        assert_eq!(
            found,
            [
                (vec![None, None], 1),
                (vec![Some("2024-10-04"), Some("DE")], 2),
                (vec![Some("2024-10-05"), Some("FR")], 1),
            ]
        );
        assert!(parts.iter().all(|part| part.rows.num_columns() == 1));
    }

    #[test]
    fn an_unpartitioned_table_keeps_rows_together() {
        let parts = split(&rows(), &[]).unwrap();
        assert_eq!((parts.len(), parts[0].rows.num_columns()), (1, 3));
    }

    #[test]
    fn a_folder_has_a_name_that_every_store_takes() {
        let values = |text: String| PartitionValues(vec![("day".into(), Some(text))]);
        assert_eq!(too_long(&values("x".repeat(251))), None);
        assert_eq!(too_long(&values("x".repeat(252))), Some(("day", 256)));
        assert_eq!(too_long(&values("ü".repeat(42))), Some(("day", 256)), "six bytes, escaped");
        assert_eq!(too_long(&PartitionValues(vec![("day".into(), None)])), None);
    }

    #[test]
    fn a_column_that_folders_cannot_be_named_after_is_refused() {
        assert!(split(&rows(), &["nope".into()]).unwrap_err().to_string().contains("`nope`"));
    }
}
