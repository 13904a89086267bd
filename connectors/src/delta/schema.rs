//! Between Arrow's and Delta's schemas.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use connector_api::{Error, Result};
use delta_kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use delta_kernel::schema::{SchemaRef as DeltaSchemaRef, StructType};

/// The table's schema as Arrow columns.
pub(crate) fn to_arrow(schema: &DeltaSchemaRef) -> Result<SchemaRef> {
    let schema: Schema = schema
        .as_ref()
        .try_into_arrow()
        .map_err(|e| Error::user("a column's type has no Arrow equivalent").with_source(e))?;
    Ok(Arc::new(schema))
}

/// Arrow columns as a schema for a new table.
pub(crate) fn to_delta(columns: &Schema) -> Result<DeltaSchemaRef> {
    let schema: StructType = columns
        .try_into_kernel()
        .map_err(|e| Error::user("a column's type has no Delta equivalent").with_source(e))?;
    Ok(Arc::new(schema))
}
