//! The columns of the reference record.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use connector_api::schema::{array_of, timestamp_type};

pub(crate) fn columns() -> SchemaRef {
    let user =
        vec![Field::new("id", DataType::Utf8, true), Field::new("country", DataType::Utf8, true)];
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("ts", timestamp_type(), true),
        Field::new("user", DataType::Struct(user.into()), true),
        Field::new("event", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("tags", array_of(DataType::Utf8, true), true),
        Field::new("ok", DataType::Boolean, true),
    ]))
}
