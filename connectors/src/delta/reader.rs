//! Reads a Delta table for queries.
//!
//! The kernel's scan does what makes a Delta table more than its Parquet files: partition columns
//! come from the log, deleted rows are left out by deletion vectors, renamed columns are found by
//! column mapping. A reader keeps to the version that was newest when it was opened.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use connector_api::sink::{RecordBatches, TableReader};
use connector_api::{Error, Result};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::schema::{SchemaRef as DeltaSchemaRef, StructType};
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{Engine, EngineData, KernelResult};

use super::schema;
use super::store::Store;
use super::table::{Table, kernel_error, load_if_present};

/// Opens the newest version, or returns `None` if the location holds no table.
pub(super) async fn open(store: &Store) -> Result<Option<Arc<dyn TableReader>>> {
    let table = Table::new(store);
    let Some(snapshot) = load_if_present(&table).await? else {
        return Ok(None);
    };
    let columns = schema::to_arrow(&snapshot.schema())?;
    Ok(Some(Arc::new(DeltaReader { table, snapshot, columns })))
}

/// One version of a table.
#[derive(Debug)]
struct DeltaReader {
    table: Table,
    snapshot: SnapshotRef,
    columns: SchemaRef,
}

impl TableReader for DeltaReader {
    fn schema(&self) -> SchemaRef {
        self.columns.clone()
    }

    fn scan(&self, columns: &[usize]) -> Result<RecordBatches> {
        let shape = self
            .columns
            .project(columns)
            .map_err(|e| Error::internal("columns that the table does not have").with_source(e))?;
        let shape = Arc::new(shape);
        let batches = batches(&self.snapshot, self.table.engine.clone(), self.projected(columns)?)
            .map_err(|e| kernel_error("the scan of the table cannot start", e))?;
        Ok(Box::new(batches.map(move |data| {
            let data = data.map_err(|e| kernel_error("a file of the table cannot be read", e))?;
            into_rows(data, &shape)
        })))
    }
}

impl DeltaReader {
    fn projected(&self, columns: &[usize]) -> Result<DeltaSchemaRef> {
        let all = self.snapshot.schema();
        let fields = columns.iter().filter_map(|&index| all.field_at_index(index).cloned());
        let fields = StructType::try_new(fields)
            .map_err(|e| Error::internal("the same column twice").with_source(e))?;
        Ok(Arc::new(fields))
    }
}

fn batches(
    snapshot: &SnapshotRef,
    engine: Arc<dyn Engine>,
    columns: DeltaSchemaRef,
) -> KernelResult<impl Iterator<Item = KernelResult<Box<dyn EngineData>>> + Send + use<>> {
    snapshot.clone().scan_builder().with_schema(columns).build()?.execute(engine)
}

/// The kernel's rows under the schema that [`TableReader::schema`] has promised.
fn into_rows(data: Box<dyn EngineData>, shape: &SchemaRef) -> Result<RecordBatch> {
    let rows = ArrowEngineData::try_from_engine_data(data)
        .map_err(|e| kernel_error("the kernel gave other rows than Arrow's", e))?;
    let (_, columns, count) = RecordBatch::from(rows).into_parts();
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(shape.clone(), columns, &options)
        .map_err(|e| Error::internal("the kernel gave other columns than the table's").with_source(e))
}
