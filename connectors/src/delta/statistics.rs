//! The statistics of a data file: its rows, and of each of its first columns the number of nulls, the least and
//! the greatest value (Delta protocol, Per-file Statistics).
//!
//! The kernel computes them batch by batch, except for the least and the greatest of string columns. The
//! Parquet writer has compared each string already for the file's footer, and comparing strings once more
//! would cost more than all other statistics. The footer has them cut, the greatest to one that is
//! not less; they go through the kernel at the end, which cuts them further, as Delta does.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use connector_api::{Error, Result};
use delta_kernel::expressions::ColumnName;
use delta_kernel::schema::StructType;
use delta_kernel_default_engine::stats::{FileStatsAccumulator, collect_stats};
use parquet::data_type::ByteArray;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;

use super::table::kernel_error;

/// Of one file, from its first batch to its footer.
pub(super) struct FileStatistics {
    accumulator: FileStatsAccumulator,
    columns: SchemaRef,
    /// The columns with strings as bytes.
    batch_schema: SchemaRef,
}

impl FileStatistics {
    /// Of a file with these columns, in the kernel's words and in Arrow's.
    pub(super) fn new(
        stats_columns: &[ColumnName],
        physical: &StructType,
        columns: SchemaRef,
    ) -> Self {
        let fields = columns.fields().iter().map(field_as_bytes).collect::<Fields>();
        Self {
            accumulator: FileStatsAccumulator::new(stats_columns, physical),
            batch_schema: Arc::new(Schema::new(fields)),
            columns,
        }
    }

    /// Adds rows of the file.
    pub(super) fn merge(&mut self, rows: &RecordBatch) -> Result<()> {
        let columns = rows.columns().iter().map(as_bytes).collect();
        let rows = RecordBatch::try_new(self.batch_schema.clone(), columns)
            .map_err(|e| Error::internal("rows for statistics").with_source(e))?;
        self.accumulator.merge(&rows).map_err(|e| kernel_error("statistics of a file", e))
    }

    /// One row: `numRecords`, `nullCount`, `minValues`, `maxValues`, `tightBounds`. The columns are those that it
    /// began with.
    pub(super) fn finish(
        self,
        stats_columns: &[ColumnName],
        physical: &StructType,
        footer: &ParquetMetaData,
    ) -> Result<StructArray> {
        let statistics =
            self.accumulator.finish().map_err(|e| kernel_error("statistics of a file", e))?;
        let statistics = statistics.ok_or_else(|| Error::internal("a data file without rows"))?;
        let bounds = string_bounds(self.columns.fields(), &mut Vec::new(), &chunks(footer))?;
        let Some(bounds) = bounds else { return Ok(statistics) };
        let of_strings = collect_stats(&RecordBatch::from(bounds), stats_columns, physical)
            .map_err(|e| kernel_error("statistics of a file's strings", e))?;
        Ok(with_strings(&statistics, &of_strings))
    }
}

/// The kernel counts the nulls of bytes, and looks for no least and greatest ones. Strings become such without a
/// copy; it looks at none in lists and maps.
fn as_bytes(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8 => Arc::new(BinaryArray::from(column.as_string::<i32>().clone())),
        DataType::Struct(fields) => {
            let column = column.as_struct();
            let children = column.columns().iter().map(as_bytes).collect();
            let fields = fields.iter().map(field_as_bytes).collect();
            Arc::new(StructArray::new(fields, children, column.nulls().cloned()))
        }
        _ => column.clone(),
    }
}

fn field_as_bytes(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 => DataType::Binary,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field_as_bytes).collect()),
        _ => return field.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// By the path of a column, its column chunk in each row group.
type Chunks<'a> = HashMap<&'a [String], Vec<&'a ColumnChunkMetaData>>;

fn chunks(footer: &ParquetMetaData) -> Chunks<'_> {
    let mut chunks = Chunks::new();
    for chunk in footer.row_groups().iter().flat_map(|row_group| row_group.columns()) {
        chunks.entry(chunk.column_path().parts()).or_default().push(chunk);
    }
    chunks
}

/// The string columns among these fields: for each row group a row with the least of each, and one with the
/// greatest.
fn string_bounds(
    fields: &Fields,
    above: &mut Vec<String>,
    chunks: &Chunks,
) -> Result<Option<StructArray>> {
    let mut columns: Vec<(FieldRef, ArrayRef)> = Vec::new();
    for field in fields {
        above.push(field.name().clone());
        let column: Option<ArrayRef> = match field.data_type() {
            DataType::Utf8 => {
                let chunks = chunks.get(above.as_slice());
                let chunks = chunks.ok_or_else(|| Error::internal("a column without chunks"))?;
                Some(Arc::new(bounds(chunks)?))
            }
            DataType::Struct(fields) => {
                string_bounds(fields, above, chunks)?.map(|below| Arc::new(below) as _)
            }
            _ => None,
        };
        above.pop();
        columns.extend(column.map(|column| (like(field, &column), column)));
    }
    Ok((!columns.is_empty()).then(|| StructArray::from(columns)))
}

/// The least and the greatest string of each chunk of a column. All null if there is a chunk with strings of
/// which they are not known: then they are not known of the file.
fn bounds(chunks: &[&ColumnChunkMetaData]) -> Result<StringArray> {
    let mut bounds = Vec::with_capacity(2 * chunks.len());
    for chunk in chunks {
        match bounds_of_chunk(chunk)? {
            Some(of_chunk) => bounds.extend(of_chunk),
            None => return Ok(StringArray::new_null(2 * chunks.len())),
        }
    }
    Ok(StringArray::from(bounds))
}

/// `None` if there are strings whose least and greatest are not known.
fn bounds_of_chunk(chunk: &ColumnChunkMetaData) -> Result<Option<[Option<&str>; 2]>> {
    let Some(Statistics::ByteArray(statistics)) = chunk.statistics() else { return Ok(None) };
    if let (Some(least), Some(greatest)) = (statistics.min_opt(), statistics.max_opt()) {
        return Ok(Some([Some(string(least)?), Some(string(greatest)?)]));
    }
    let nulls = statistics.null_count_opt().and_then(|nulls| i64::try_from(nulls).ok());
    Ok((nulls == Some(chunk.num_values())).then_some([None, None]))
}

fn string(bound: &ByteArray) -> Result<&str> {
    std::str::from_utf8(bound.data())
        .map_err(|e| Error::internal("a string's bound in a footer is no UTF-8").with_source(e))
}

/// The same statistics with those values of string columns that they have as bytes, which are all null.
fn with_strings(statistics: &StructArray, of_strings: &StructArray) -> StructArray {
    let columns = statistics.fields().iter().zip(statistics.columns()).map(|(field, column)| {
        let of_strings = of_strings.column_by_name(field.name());
        let column: ArrayRef = match (column.data_type(), of_strings) {
            (DataType::Struct(_), Some(of_strings)) => {
                Arc::new(with_strings(column.as_struct(), of_strings.as_struct()))
            }
            (DataType::Binary, Some(of_strings)) => of_strings.clone(),
            _ => column.clone(),
        };
        (like(field, &column), column)
    });
    StructArray::from(columns.collect::<Vec<_>>())
}

/// A nullable field of this name for a column.
fn like(field: &Field, column: &ArrayRef) -> FieldRef {
    Arc::new(Field::new(field.name(), column.data_type().clone(), true))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListBuilder, StringBuilder};
    use connector_api::config::Compression;
    use delta_kernel::engine::arrow_conversion::TryFromArrow;
    use delta_kernel::engine::arrow_expression::evaluate_expression::to_json;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::data_file;

    /// Strings at the top, below a struct that is null beside them, and in a list, between numbers and bytes.
    fn rows(strings: &[Option<String>]) -> RecordBatch {
        let column =
            || Arc::new(StringArray::from_iter(strings.iter().map(Option::as_deref))) as ArrayRef;
        let numbers =
            || Arc::new(Int64Array::from_iter_values(0..strings.len() as i64)) as ArrayRef;
        let bytes =
            BinaryArray::from_iter(strings.iter().map(|string| string.as_ref().map(|_| [0xff])));
        let mut list = ListBuilder::new(StringBuilder::new());
        strings.iter().for_each(|string| list.append_value([string.as_deref()]));
        let children = vec![
            Field::new("number", DataType::Int64, true),
            Field::new("text", DataType::Utf8, true),
        ];
        let nulls = strings.iter().map(Option::is_some).collect::<Vec<_>>();
        let below =
            StructArray::new(children.into(), vec![numbers(), column()], Some(nulls.into()));
        let columns: [(&str, ArrayRef); 5] = [
            ("id", numbers()),
            ("text", column()),
            ("bytes", Arc::new(bytes)),
            ("below", Arc::new(below)),
            ("list", Arc::new(list.finish())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
            .unwrap()
    }

    fn stats_columns() -> Vec<ColumnName> {
        let columns = [
            vec!["id"],
            vec!["text"],
            vec!["bytes"],
            vec!["below", "number"],
            vec!["below", "text"],
            vec!["list"],
        ];
        columns.map(ColumnName::new).to_vec()
    }

    /// Encodes a row group for each of these batches.
    fn footer(batches: &[RecordBatch], properties: WriterProperties) -> ParquetMetaData {
        let columns = batches[0].schema();
        let mut file = ArrowWriter::try_new(Vec::new(), columns, Some(properties)).unwrap();
        for batch in batches {
            file.write(batch).unwrap();
            file.flush().unwrap();
        }
        let footer = file.close().unwrap();
        assert_eq!(footer.num_row_groups(), batches.len());
        footer
    }

    fn our_properties(batches: &[RecordBatch]) -> WriterProperties {
        data_file::properties(batches[0].schema_ref().fields(), Compression::Uncompressed)
    }

    fn no_statistics() -> WriterProperties {
        WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build()
    }

    /// Ours, and the kernel's own.
    fn statistics(batches: &[RecordBatch], footer: &ParquetMetaData) -> [Value; 2] {
        let columns = batches[0].schema();
        let physical = StructType::try_from_arrow(columns.as_ref()).unwrap();
        let mut ours = FileStatistics::new(&stats_columns(), &physical, columns);
        let mut kernel = FileStatsAccumulator::new(&stats_columns(), &physical);
        for batch in batches {
            ours.merge(batch).unwrap();
            kernel.merge(batch).unwrap();
        }
        let ours = ours.finish(&stats_columns(), &physical, footer).unwrap();
        [ours, kernel.finish().unwrap().unwrap()].map(|statistics| {
            let text = to_json(&statistics).unwrap();
            serde_json::from_str(text.as_string::<i32>().value(0)).unwrap()
        })
    }

    /// The last characters of one and of four bytes. The footer's writer cuts in front of a run of them, where
    /// the kernel may cut behind, or not at all.
    const LAST: [char; 2] = ['\u{7f}', '\u{10ffff}'];

    /// Strings that are alike for as long as anybody looks, and around where they stop.
    fn string() -> impl Strategy<Value = Option<String>> {
        let of = |characters: Vec<char>| {
            let run = (prop::sample::select(characters), 0..80_usize);
            prop::collection::vec(run.prop_map(|(c, count)| c.to_string().repeat(count)), 3)
                .prop_map(|runs| Some(runs.concat()))
        };
        let usual = vec!['a', 'é', '東', '😀'];
        let all = [usual.as_slice(), &LAST].concat();
        prop_oneof![6 => of(usual), 2 => of(all), 4 => "[a-cé]{0,12}".prop_map(Some), 2 => Just(None)]
    }

    proptest! {
        #[test]
        fn they_are_those_of_the_kernel_which_compares_all_strings(
            batches in prop::collection::vec(prop::collection::vec(string(), 1..5), 1..4)
        ) {
            let written: Vec<RecordBatch> = batches.iter().map(|strings| rows(strings)).collect();
            let footer = footer(&written, our_properties(&written));
            let [mut ours, mut kernel] = statistics(&written, &footer);
            let strings: Vec<&str> = batches.iter().flatten().flatten().map(String::as_str).collect();
            if strings.iter().any(|string| string.contains(LAST)) {
                for above in ["/maxValues", "/maxValues/below"] {
                    let [ours, _] = [&mut ours, &mut kernel].map(|statistics| {
                        let above = statistics.pointer_mut(above).unwrap();
                        above.as_object_mut().unwrap().remove("text")
                    });
                    let greatest = ours.as_ref().and_then(Value::as_str);
                    for string in &strings {
                        prop_assert!(greatest.is_none_or(|greatest| *string <= greatest));
                    }
                }
            }
            prop_assert_eq!(ours, kernel);
        }
    }

    #[test]
    fn row_groups_without_strings_do_not_count() {
        let batches = [rows(&[Some("b".into())]), rows(&[None]), rows(&[Some("a".into())])];
        let [ours, kernel] = statistics(&batches, &footer(&batches, our_properties(&batches)));
        assert_eq!(ours["minValues"]["text"], "a");
        assert_eq!(ours["maxValues"]["below"]["text"], "b");
        assert_eq!(ours, kernel);
    }

    /// A reader would skip rows by a bound that is of a part of the file.
    #[test]
    fn what_a_footer_does_not_say_of_one_row_group_is_not_known_of_the_file() {
        let batches = [rows(&[Some("a".into())])];
        let [known, unknown] = [our_properties(&batches), no_statistics()]
            .map(|properties| footer(&batches, properties));
        let path = ["text".to_owned()];
        let bounds = |footers: &[&ParquetMetaData]| {
            let chunks: Vec<_> =
                footers.iter().map(|footer| chunks(footer)[&path[..]][0]).collect();
            super::bounds(&chunks).unwrap()
        };
        assert_eq!(bounds(&[&known, &known]), StringArray::from(vec!["a"; 4]));
        assert_eq!(bounds(&[&known, &unknown]), StringArray::new_null(4));

        let [ours, _] = statistics(&batches, &unknown);
        assert_eq!(ours["minValues"], json!({"id": 0, "below": {"number": 0}}));
        assert_eq!(ours["maxValues"], json!({"id": 0, "below": {"number": 0}}));
    }
}
