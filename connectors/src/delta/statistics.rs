//! The statistics of a data file: its rows, and of each of its first columns the number of nulls, the least and
//! the greatest value (Delta protocol, Per-file Statistics).
//!
//! The kernel computes them batch by batch, except for the bounds of texts: the Parquet writer has compared each
//! text already, for the file's footer, and comparing texts again would cost more than all else here. They
//! go through the kernel at the end, which cuts them as Delta does.

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
    of_batches: FileStatsAccumulator,
    /// The file's columns as the kernel sees them in batches: see [`as_bytes`].
    in_batches: SchemaRef,
    stats_columns: Vec<ColumnName>,
    physical: Arc<StructType>,
    columns: SchemaRef,
}

impl FileStatistics {
    /// Of a file with these columns (the same twice, as the kernel and as Arrow have them).
    pub(super) fn new(
        stats_columns: &[ColumnName],
        physical: Arc<StructType>,
        columns: SchemaRef,
    ) -> Self {
        let in_batches = columns.fields().iter().map(field_as_bytes).collect::<Fields>();
        Self {
            of_batches: FileStatsAccumulator::new(stats_columns, &physical),
            in_batches: Arc::new(Schema::new(in_batches)),
            stats_columns: stats_columns.to_vec(),
            physical,
            columns,
        }
    }

    /// Adds rows of the file.
    pub(super) fn merge(&mut self, rows: &RecordBatch) -> Result<()> {
        let columns = rows.columns().iter().map(as_bytes).collect();
        let rows = RecordBatch::try_new(self.in_batches.clone(), columns)
            .map_err(|e| Error::internal("rows for statistics").with_source(e))?;
        self.of_batches.merge(&rows).map_err(|e| kernel_error("statistics of a file", e))
    }

    /// One row: `numRecords`, `nullCount`, `minValues`, `maxValues`, `tightBounds`.
    pub(super) fn finish(self, footer: &ParquetMetaData) -> Result<StructArray> {
        let statistics =
            self.of_batches.finish().map_err(|e| kernel_error("statistics of a file", e))?;
        let statistics = statistics.ok_or_else(|| Error::internal("a data file without rows"))?;
        let texts = only_texts(self.columns.fields(), &mut Vec::new(), &chunks(footer))?;
        let Some(texts) = texts else { return Ok(statistics) };
        let texts = collect_stats(&RecordBatch::from(texts), &self.stats_columns, &self.physical)
            .map_err(|e| kernel_error("statistics of a file's texts", e))?;
        Ok(with_texts(&statistics, &texts))
    }
}

/// Texts are shown to the kernel as bytes, at no cost: it counts their nulls, and keeps no bounds of bytes.
/// Of lists and maps it keeps none either.
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

/// By the path of a column, what the footer says of it, for each row group.
type Chunks<'a> = HashMap<&'a [String], Vec<&'a ColumnChunkMetaData>>;

fn chunks(footer: &ParquetMetaData) -> Chunks<'_> {
    let mut chunks = Chunks::new();
    for chunk in footer.row_groups().iter().flat_map(|row_group| row_group.columns()) {
        chunks.entry(chunk.column_path().parts()).or_default().push(chunk);
    }
    chunks
}

/// The texts among these columns: for each row group a row with the least of each, and one with the greatest.
fn only_texts(
    fields: &Fields,
    above: &mut Vec<String>,
    chunks: &Chunks,
) -> Result<Option<StructArray>> {
    let mut texts: Vec<(FieldRef, ArrayRef)> = Vec::new();
    for field in fields {
        above.push(field.name().clone());
        let column: Option<ArrayRef> = match field.data_type() {
            DataType::Utf8 => Some(Arc::new(bounds(chunks.get(above.as_slice()))?)),
            DataType::Struct(fields) => {
                only_texts(fields, above, chunks)?.map(|texts| Arc::new(texts) as _)
            }
            _ => None,
        };
        above.pop();
        if let Some(column) = column {
            texts.push((
                Arc::new(Field::new(field.name(), column.data_type().clone(), true)),
                column,
            ));
        }
    }
    Ok((!texts.is_empty()).then(|| StructArray::from(texts)))
}

fn bounds(chunks: Option<&Vec<&ColumnChunkMetaData>>) -> Result<StringArray> {
    let chunks = chunks.ok_or_else(|| Error::internal("a column that its file does not have"))?;
    let mut bounds = Vec::with_capacity(2 * chunks.len());
    for chunk in chunks {
        match bounds_of_chunk(chunk)? {
            Some(of_chunk) => bounds.extend(of_chunk),
            // What is not known of one row group is not known of the file.
            None => return Ok(StringArray::new_null(2 * chunks.len())),
        }
    }
    Ok(StringArray::from(bounds))
}

/// `None` if there are texts without bounds.
fn bounds_of_chunk(chunk: &ColumnChunkMetaData) -> Result<Option<[Option<&str>; 2]>> {
    let Some(Statistics::ByteArray(statistics)) = chunk.statistics() else { return Ok(None) };
    if let (Some(least), Some(greatest)) = (statistics.min_opt(), statistics.max_opt()) {
        return Ok(Some([Some(text(least)?), Some(text(greatest)?)]));
    }
    let nulls = statistics.null_count_opt().and_then(|nulls| i64::try_from(nulls).ok());
    Ok((nulls == Some(chunk.num_values())).then_some([None, None]))
}

fn text(bound: &ByteArray) -> Result<&str> {
    std::str::from_utf8(bound.data())
        .map_err(|e| Error::internal("a bound of texts that is no text").with_source(e))
}

/// Statistics with the bounds of texts, which they have as bytes, from others that have nothing else.
fn with_texts(statistics: &StructArray, texts: &StructArray) -> StructArray {
    let fields = statistics.fields().iter().zip(statistics.columns());
    let columns = fields.map(|(field, column)| {
        let texts = texts.column_by_name(field.name());
        let column = match (column.data_type(), texts) {
            (DataType::Struct(_), Some(texts)) => {
                Arc::new(with_texts(column.as_struct(), texts.as_struct()))
            }
            (DataType::Binary, Some(texts)) => texts.clone(),
            _ => column.clone(),
        };
        (Arc::new(Field::new(field.name(), column.data_type().clone(), true)), column)
    });
    StructArray::from(columns.collect::<Vec<(FieldRef, ArrayRef)>>())
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

    /// Texts at the top, below a struct that is null beside them, and in a list, between numbers and bytes.
    fn rows(texts: &[Option<String>]) -> RecordBatch {
        let text =
            || Arc::new(StringArray::from_iter(texts.iter().map(Option::as_deref))) as ArrayRef;
        let numbers = || Arc::new(Int64Array::from_iter_values(0..texts.len() as i64)) as ArrayRef;
        let bytes = BinaryArray::from_iter(texts.iter().map(|text| text.as_ref().map(|_| [0xff])));
        let mut list = ListBuilder::new(StringBuilder::new());
        texts.iter().for_each(|text| list.append_value([text.as_deref()]));
        let children = vec![
            Field::new("number", DataType::Int64, true),
            Field::new("text", DataType::Utf8, true),
        ];
        let nulls = texts.iter().map(Option::is_some).collect::<Vec<_>>();
        let below = StructArray::new(children.into(), vec![numbers(), text()], Some(nulls.into()));
        let columns: [(&str, ArrayRef); 5] = [
            ("id", numbers()),
            ("text", text()),
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

    /// Of a file with a row group for each of these batches: ours, and the kernel's own.
    fn statistics(batches: &[RecordBatch]) -> [Value; 2] {
        let fields = batches[0].schema_ref().fields();
        statistics_with(data_file::properties(fields, Compression::Uncompressed), batches)
    }

    fn statistics_with(properties: WriterProperties, batches: &[RecordBatch]) -> [Value; 2] {
        let columns = batches[0].schema();
        let physical = Arc::new(StructType::try_from_arrow(columns.as_ref()).unwrap());
        let mut file = ArrowWriter::try_new(Vec::new(), columns.clone(), Some(properties)).unwrap();
        let mut ours = FileStatistics::new(&stats_columns(), physical.clone(), columns);
        let mut kernel = FileStatsAccumulator::new(&stats_columns(), &physical);
        for batch in batches {
            file.write(batch).unwrap();
            file.flush().unwrap();
            ours.merge(batch).unwrap();
            kernel.merge(batch).unwrap();
        }
        let footer = file.close().unwrap();
        assert_eq!(footer.num_row_groups(), batches.len());
        [ours.finish(&footer).unwrap(), kernel.finish().unwrap().unwrap()].map(|statistics| {
            let text = to_json(&statistics).unwrap();
            serde_json::from_str(text.as_string::<i32>().value(0)).unwrap()
        })
    }

    /// Texts that are alike for as long as anybody looks, and around where they stop.
    fn text() -> impl Strategy<Value = Option<String>> {
        let character = prop_oneof![Just('a'), Just('\u{7f}'), Just('é'), Just('\u{10ffff}')];
        let run = (character, 0..80_usize).prop_map(|(c, count)| c.to_string().repeat(count));
        let text = (run.clone(), run.clone(), run).prop_map(|(a, b, c)| format!("{a}{b}{c}"));
        prop_oneof![4 => text.prop_map(Some), 4 => "[a-cé]{0,12}".prop_map(Some), 2 => Just(None)]
    }

    proptest! {
        #[test]
        fn bounds_hold_for_each_text_and_all_else_is_as_the_kernel_has_it(
            batches in prop::collection::vec(prop::collection::vec(text(), 1..5), 1..4)
        ) {
            let written: Vec<RecordBatch> = batches.iter().map(|texts| rows(texts)).collect();
            let [mut ours, mut kernel] = statistics(&written);
            let texts: Vec<&str> = batches.iter().flatten().flatten().map(String::as_str).collect();
            for above in ["", "/below"] {
                let least = ours.pointer(&format!("/minValues{above}/text")).and_then(Value::as_str);
                let greatest = ours.pointer(&format!("/maxValues{above}/text")).and_then(Value::as_str);
                prop_assert_eq!(least.is_some(), !texts.is_empty());
                for text in &texts {
                    prop_assert!(least.is_some_and(|least| least <= *text), "{least:?} {text}");
                    prop_assert!(greatest.is_none_or(|greatest| *text <= greatest), "{greatest:?} {text}");
                }
                // The footer has whole what is this short.
                if texts.iter().any(|text| text.len() > 64) {
                    for statistics in [&mut ours, &mut kernel] {
                        for bound in ["/minValues", "/maxValues"] {
                            let above = statistics.pointer_mut(&format!("{bound}{above}"));
                            above.unwrap().as_object_mut().unwrap().remove("text");
                        }
                    }
                }
            }
            prop_assert_eq!(ours, kernel);
        }
    }

    #[test]
    fn row_groups_without_texts_do_not_count() {
        let texts = [rows(&[Some("b".into())]), rows(&[None]), rows(&[Some("a".into())])];
        let [ours, _] = statistics(&texts);
        assert_eq!(ours["minValues"]["text"], "a");
        assert_eq!(ours["maxValues"]["below"]["text"], "b");
        assert_eq!(
            ours["nullCount"],
            json!({"id": 0, "text": 1, "bytes": 1, "below": {"number": 1, "text": 1}, "list": 0})
        );
    }

    /// As no file of ours is: a reader would skip rows if a bound were made up.
    #[test]
    fn texts_of_which_the_footer_has_no_bounds_get_none() {
        let nothing = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None);
        let [ours, _] = statistics_with(nothing.build(), &[rows(&[Some("a".into())])]);
        assert_eq!(ours["minValues"], json!({"id": 0, "below": {"number": 0}}));
        assert_eq!(ours["maxValues"], json!({"id": 0, "below": {"number": 0}}));
    }
}
