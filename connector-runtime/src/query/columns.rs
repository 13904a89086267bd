//! Names of result columns: `user.country` is called `country`, as in other engines, and not
//! `clicks.user[country]`, as the plan calls it.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

/// The same rows under the names that people expect.
pub(super) fn named(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = renamed(&rows.schema());
    let shape = schema.clone();
    let rows = rows.map(move |batch| {
        let (_, columns, count) = batch?.into_parts();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(shape.clone(), columns, &options)
            .map_err(DataFusionError::from)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

fn renamed(schema: &SchemaRef) -> SchemaRef {
    let names: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| last_step(field.name()).unwrap_or(field.name()))
        .collect();
    let renamed = schema.fields().iter().zip(&names).map(|(field, name)| {
        let taken = names.iter().filter(|other| *other == name).count() > 1;
        let name = if taken { field.name() } else { *name };
        Field::clone(field).with_name(name)
    });
    Arc::new(Schema::new_with_metadata(renamed.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// `country` for `clicks.user[country]`; nothing for what is more than steps into structs.
fn last_step(name: &str) -> Option<&str> {
    let (outer, last) = name.strip_suffix(']')?.rsplit_once('[')?;
    let computed = |c: char| "() '\"+*/".contains(c);
    (!last.is_empty() && !outer.is_empty() && !name.contains(computed)).then_some(last)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    #[track_caller]
    fn check(names: &[&str], expected: &[&str]) {
        let fields: Vec<_> =
            names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        let found = renamed(&Arc::new(Schema::new(fields)));
        let found: Vec<_> = found.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_field_of_a_struct_is_called_by_its_own_name() {
        check(&["id", "clicks.user[country]", "a.b[c][d]"], &["id", "country", "d"]);
        check(
            &["count(*)", "sum(clicks.user[age])", "clicks.tags[Int64(1)]"],
            &["count(*)", "sum(clicks.user[age])", "clicks.tags[Int64(1)]"],
        );
    }

    #[test]
    fn two_fields_of_one_name_keep_their_paths() {
        check(&["a.user[id]", "b.user[id]", "a.user[age]"], &["a.user[id]", "b.user[id]", "age"]);
        check(&["id", "a.user[id]"], &["id", "a.user[id]"]);
    }
}
