//! Reads a Delta table for queries.
//!
//! The kernel's scan does what makes a Delta table more than its Parquet files: partition columns
//! come from the log, deleted rows are left out by deletion vectors, renamed columns are found by
//! column mapping. A reader keeps to the version that was newest when it was opened.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use connector_api::ids::ConnectorName;
use connector_api::offsets::OffsetCheckpoint;
use connector_api::sink::{RecordBatches, TableReader};
use connector_api::{Error, Result};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::schema::{DataType, SchemaRef as DeltaSchemaRef, StructField, StructType};
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{Engine, EngineData, KernelResult};

use super::offsets;
use super::schema;
use super::table::{Table, kernel_error, load_if_present};
use crate::store::Store;

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

    fn checkpoint(&self, connector: &ConnectorName) -> Result<OffsetCheckpoint> {
        offsets::checkpoint(&self.table, &self.snapshot, connector)
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
        let wanted = columns.iter().filter_map(|&index| all.field_at_index(index));
        let fields: Vec<_> = wanted.chain(self.carrier(columns, &all)).cloned().collect();
        let fields = StructType::try_new(fields)
            .map_err(|e| Error::internal("the same column twice").with_source(e))?;
        Ok(Arc::new(fields))
    }

    /// A column to read only since rows cannot be counted without one: the kernel panics on a scan
    /// that takes nothing out of the files, such as that of partition columns alone.
    fn carrier<'a>(&self, columns: &[usize], all: &'a StructType) -> Option<&'a StructField> {
        let partition_columns = self.snapshot.table_configuration().metadata().partition_columns();
        let in_files = |field: &&StructField| !partition_columns.contains(field.name());
        let from_files =
            columns.iter().filter_map(|&index| all.field_at_index(index)).any(|f| in_files(&f));
        match from_files {
            true => None,
            false => {
                all.fields().filter(in_files).min_by_key(|field| reading_cost(field.data_type()))
            }
        }
    }
}

fn reading_cost(data_type: &DataType) -> u8 {
    match data_type {
        &DataType::STRING | &DataType::BINARY => 1,
        DataType::Primitive(_) => 0,
        _ => 2,
    }
}

fn batches(
    snapshot: &SnapshotRef,
    engine: Arc<dyn Engine>,
    columns: DeltaSchemaRef,
) -> KernelResult<impl Iterator<Item = KernelResult<Box<dyn EngineData>>> + Send + use<>> {
    snapshot.clone().scan_builder().with_schema(columns).build()?.execute(engine)
}

/// The kernel's rows under the schema that [`TableReader::schema`] promises.
fn into_rows(data: Box<dyn EngineData>, shape: &SchemaRef) -> Result<RecordBatch> {
    let rows = ArrowEngineData::try_from_engine_data(data)
        .map_err(|e| kernel_error("the kernel gave other rows than Arrow's", e))?;
    let (_, mut columns, count) = RecordBatch::from(rows).into_parts();
    columns.truncate(shape.fields().len()); // Without the carrier.
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(shape.clone(), columns, &options).map_err(|e| {
        Error::internal("the kernel gave other columns than the table's").with_source(e)
    })
}
