//! What the statistics of a file are computed from.
//!
//! The kernel keeps the least and the greatest value of each batch, whole, until the file is finished: for
//! records with long texts that is more than the file. Of a text it publishes 32 characters, for which it
//! looks at no more than 65 (`truncate_max_string` in delta_kernel_default_engine 0.30), so texts with the
//! same 66 are the same to it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::DataType;
use connector_api::{Error, Result};

/// Characters of a text that tell its statistics.
const CHARS: usize = 66;
/// A column without longer texts is left as it is, which costs no copy.
const LONG_BYTES: usize = 1024;

/// The same rows with long texts cut, as far as statistics are kept of them.
pub(super) fn cut(rows: &RecordBatch) -> Result<RecordBatch> {
    let cut: Vec<Option<ArrayRef>> = rows.columns().iter().map(cut_column).collect();
    if cut.iter().all(Option::is_none) {
        return Ok(rows.clone());
    }
    let columns = cut.into_iter().zip(rows.columns());
    let columns = columns.map(|(cut, column)| cut.unwrap_or_else(|| column.clone())).collect();
    RecordBatch::try_new(rows.schema(), columns)
        .map_err(|e| Error::internal("rows for statistics").with_source(e))
}

/// `None` if nothing in it is long. Of lists and maps no least and greatest values are kept.
fn cut_column(column: &ArrayRef) -> Option<ArrayRef> {
    match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            if texts.offsets().lengths().all(|length| length <= LONG_BYTES) {
                return None;
            }
            let cut = texts.iter().map(|text| text.map(beginning));
            Some(Arc::new(cut.collect::<StringArray>()))
        }
        DataType::Struct(fields) => {
            let column = column.as_struct();
            let cut: Vec<Option<ArrayRef>> = column.columns().iter().map(cut_column).collect();
            if cut.iter().all(Option::is_none) {
                return None;
            }
            let children = cut.into_iter().zip(column.columns());
            let children = children.map(|(cut, child)| cut.unwrap_or_else(|| child.clone()));
            let nulls = column.nulls().cloned();
            Some(Arc::new(StructArray::new(fields.clone(), children.collect(), nulls)))
        }
        _ => None,
    }
}

fn beginning(text: &str) -> &str {
    let end = text.char_indices().nth(CHARS).map_or(text.len(), |(end, _)| end);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{Field, Schema};
    use delta_kernel::engine::arrow_conversion::TryFromArrow;
    use delta_kernel::expressions::ColumnName;
    use delta_kernel::schema::StructType;
    use delta_kernel_default_engine::stats::FileStatsAccumulator;
    use proptest::prelude::*;

    use super::*;

    /// A text at the top, and one below a struct that is null beside it.
    fn rows(texts: &[Option<String>]) -> RecordBatch {
        let text = || Arc::new(StringArray::from_iter(texts.iter().map(Option::as_deref))) as _;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..texts.len() as i64));
        let children = vec![Field::new("text", DataType::Utf8, true)];
        let nulls = texts.iter().map(|text| text.is_some()).collect::<Vec<_>>();
        let below = StructArray::new(children.clone().into(), vec![text()], Some(nulls.into()));
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("text", DataType::Utf8, true),
            Field::new("below", DataType::Struct(children.into()), true),
        ]);
        RecordBatch::try_new(Arc::new(schema), vec![ids, text(), Arc::new(below)]).unwrap()
    }

    fn statistics(batches: &[RecordBatch]) -> StructArray {
        let schema = StructType::try_from_arrow(batches[0].schema().as_ref()).unwrap();
        let columns = [
            ColumnName::new(["id"]),
            ColumnName::new(["text"]),
            ColumnName::new(["below", "text"]),
        ];
        let mut statistics = FileStatsAccumulator::new(&columns, &schema);
        batches.iter().for_each(|batch| statistics.merge(batch).unwrap());
        statistics.finish().unwrap().unwrap()
    }

    /// Texts that are alike for as long as the kernel looks, and around where it stops.
    fn text() -> impl Strategy<Value = Option<String>> {
        let character = prop_oneof![Just('a'), Just('\u{7f}'), Just('é'), Just('\u{10ffff}')];
        let run = (character, 0..80_usize).prop_map(|(c, count)| c.to_string().repeat(count));
        let long = prop_oneof![Just(0), Just(LONG_BYTES)];
        let text = (run.clone(), run.clone(), run, long)
            .prop_map(|(a, b, c, more)| format!("{a}{b}{c}{}", "z".repeat(more)));
        prop_oneof![9 => text.prop_map(Some), 1 => Just(None)]
    }

    proptest! {
        #[test]
        fn cut_texts_have_the_statistics_of_whole_ones(
            texts in prop::collection::vec(prop::collection::vec(text(), 1..5), 1..4)
        ) {
            let whole: Vec<RecordBatch> = texts.iter().map(|texts| rows(texts)).collect();
            let cut: Vec<RecordBatch> = whole.iter().map(|rows| cut(rows).unwrap()).collect();
            prop_assert_eq!(statistics(&cut), statistics(&whole));
        }
    }

    #[test]
    fn nothing_long_is_left_and_nothing_short_is_copied() {
        let long = rows(&[Some("é".repeat(LONG_BYTES)), None]);
        let cut_texts = cut(&long).unwrap();
        for texts in [cut_texts.column(1), cut_texts.column(2).as_struct().column(0)] {
            assert_eq!(texts.as_string::<i32>().value(0), "é".repeat(CHARS));
        }
        let short = rows(&[Some("a".repeat(LONG_BYTES))]);
        let buffer = |rows: &RecordBatch| rows.column(1).to_data().buffers()[1].as_ptr();
        assert_eq!(buffer(&cut(&short).unwrap()), buffer(&short));
    }
}
