//! Divides rows among the folders of a partitioned table.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Date32Type, TimeUnit as ArrowUnit, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use connector_api::batch::PartitionValues;
use connector_api::partitioning::{PartitionField, TimeUnit};
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

/// Splits rows by the values of some columns, which are then left out: the folder says them. Or by
/// units of time of a column, which stays, since the folder says less than its values.
///
/// Rows keep their order within a folder. Without partition columns all rows stay together.
pub fn split(rows: &RecordBatch, columns: &[String]) -> Result<Vec<Part>> {
    if columns.is_empty() {
        let values = PartitionValues::default();
        return Ok(vec![Part { values, rows: rows.clone(), indices: Vec::new() }]);
    }
    let fields = columns.iter().map(|text| field(text)).collect::<Result<Vec<_>>>()?;
    let values = fields.iter().map(|field| values(rows, field)).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = fields.iter().map(PartitionField::folder).collect();
    let mut folders: BTreeMap<PartitionValues, Vec<u32>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        let of_row = names.iter().zip(&values).map(|(name, v)| (name.clone(), v[row].clone()));
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

fn field(text: &str) -> Result<PartitionField> {
    PartitionField::parse(text).ok_or_else(|| {
        Error::user(format!(
            "the table is partitioned by `{text}`, which this build does not know; it knows columns, \
             and of a column {}",
            TimeUnit::ALLOWED
        ))
    })
}

fn values(rows: &RecordBatch, field: &PartitionField) -> Result<Vec<Option<String>>> {
    match field.unit {
        None => column_values(rows, &field.column),
        Some(unit) => units(column(rows, &field.column)?, unit).ok_or_else(|| {
            Error::user(format!(
                "the table is partitioned by `{field}`, which is of no date or time"
            ))
        }),
    }
}

fn column<'r>(rows: &'r RecordBatch, column: &str) -> Result<&'r ArrayRef> {
    rows.column_by_name(column).ok_or_else(|| {
        Error::user(format!("the table is partitioned by `{column}`, which the rows do not have"))
    })
}

/// The units that values lie in, by UTC. `None` if the column is of no date or time.
fn units(array: &ArrayRef, unit: TimeUnit) -> Option<Vec<Option<String>>> {
    const HOUR: i64 = 60 * 60 * 1_000_000;
    // Hours since 1970, of which most rows in a batch share one.
    let hours: Vec<Option<i64>> = match array.data_type() {
        DataType::Timestamp(ArrowUnit::Microsecond, _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>();
            micros.iter().map(|micros| Some(micros?.div_euclid(HOUR))).collect()
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>();
            days.iter().map(|days| Some(i64::from(days?) * 24)).collect()
        }
        _ => return None,
    };
    let mut last: (Option<i64>, Option<String>) = (None, None);
    let named = hours.into_iter().map(|hour| {
        if hour != last.0 {
            last = (hour, hour.and_then(|hour| name(hour, unit)));
        }
        last.1.clone()
    });
    Some(named.collect())
}

/// `None` where there is no such time: years are from -9999 to 9999.
fn name(hours: i64, unit: TimeUnit) -> Option<String> {
    // A `jiff::Timestamp` ends a day before the year does.
    let start = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
    let time = start.checked_add(jiff::SignedDuration::try_from_hours(hours)?).ok()?;
    let format = match unit {
        TimeUnit::Year => "%Y",
        TimeUnit::Month => "%Y-%m",
        TimeUnit::Day => "%Y-%m-%d",
        TimeUnit::Hour => "%Y-%m-%d-%H",
    };
    Some(time.strftime(format).to_string())
}

/// The values of a column as the Delta protocol writes them ("Partition Value Serialization").
/// An empty string is a null there, and so it is here.
fn column_values(rows: &RecordBatch, name: &str) -> Result<Vec<Option<String>>> {
    let array = column(rows, name)?;
    let text = |e| Error::user(format!("partition column `{name}`")).with_source(e);
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
            "the table is partitioned by `{name}` of type {other}; \
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

    use arrow::array::{Date32Array, Int64Array, StringArray, TimestampMicrosecondArray};
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
    fn units_of_time_choose_a_folder_and_their_column_stays() {
        let micros = TimestampMicrosecondArray::from(vec![
            Some(0),
            Some(-1),
            None,
            Some(1_795_564_799_999_999),
            Some(1_795_564_800_000_000),
        ]);
        let days = Date32Array::from(vec![Some(0), Some(-1), None, Some(20_782), Some(20_782)]);
        let schema = Schema::new(vec![
            Field::new("ts", micros.data_type().clone(), true),
            Field::new("d", DataType::Date32, true),
        ]);
        let columns: Vec<ArrayRef> = vec![Arc::new(micros), Arc::new(days)];
        let rows = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let of = |text: &str| values(&rows, &PartitionField::parse(text).unwrap()).unwrap();
        let expected =
            |texts: [Option<&str>; 5]| texts.map(|text| text.map(str::to_owned)).to_vec();
        let (first, last) = (Some("1970"), Some("1969"));
        assert_eq!(of("year(ts)"), expected([first, last, None, Some("2026"), Some("2026")]));
        let (first, last) = (Some("1970-01-01-00"), Some("1969-12-31-23"));
        let (before, after) = (Some("2026-11-24-23"), Some("2026-11-25-00"));
        assert_eq!(of("hour(ts)"), expected([first, last, None, before, after]));
        let (first, last) = (Some("1970-01"), Some("1969-12"));
        let now = Some("2026-11");
        assert_eq!(of("month(d)"), expected([first, last, None, now, now]));
        let day = Some("2026-11-25");
        let (first, last) = (Some("1970-01-01"), Some("1969-12-31"));
        assert_eq!(of("day(d)"), expected([first, last, None, day, day]));

        let parts = split(&rows, &["day(ts)".into()]).unwrap();
        assert_eq!(parts.len(), 5);
        assert!(parts.iter().all(|part| part.rows.num_columns() == 2));
        assert_eq!(parts[0].values.0, [("ts_day".to_owned(), None)]);
    }

    #[test]
    fn the_last_and_the_first_days_of_the_calendar_have_folders() {
        let check = |hours: i64, expected: Option<&str>| {
            assert_eq!(name(hours, TimeUnit::Hour).as_deref(), expected);
        };
        check(70_389_527, Some("9999-12-31-23"));
        check(70_389_528, None);
        check(-17_259_888, Some("0001-01-01-00"));
        check(-104_918_088, Some("-9999-01-01-00"));
        check(-104_918_089, None);
        check(i64::MAX, None);
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
