//! Reads a folder of Parquet files for queries: whatever can be listed in it, as any other reader does.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use connector_api::ids::ConnectorName;
use connector_api::offsets::OffsetCheckpoint;
use connector_api::sink::{RecordBatches, TableReader};
use connector_api::{Error, Result};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::runtime::Handle;

use super::folders;
use super::ledger::Ledger;
use super::table::TableFile;
use crate::store::{Store, store_error};

/// Opens the table, or returns `None` if the location holds none.
pub(super) async fn open(store: &Store) -> Result<Option<Arc<dyn TableReader>>> {
    let Some(table) = TableFile::load(store).await? else { return Ok(None) };
    let listing = store.objects.list(Some(&store.object("")));
    let listed = listing.map_ok(|object| store.relative(&object.location)).try_collect();
    let mut files: Vec<String> =
        store.answer(listed).await.map_err(|e| store_error("the location cannot be listed", e))?;
    files.retain(|file| is_data(file));
    files.sort_unstable();
    let (columns, runtime) = (table.columns()?, Handle::current());
    Ok(Some(Arc::new(ParquetReader { store: store.clone(), table, columns, files, runtime })))
}

/// True for what readers of such folders take for data: no part of its name begins with `_` or `.`.
fn is_data(file: &str) -> bool {
    file.ends_with(".parquet") && !file.split('/').any(|part| part.starts_with(['_', '.']))
}

/// The files that were there when it was opened.
#[derive(Debug)]
struct ParquetReader {
    store: Store,
    table: TableFile,
    columns: SchemaRef,
    files: Vec<String>,
    runtime: Handle,
}

impl TableReader for ParquetReader {
    fn schema(&self) -> SchemaRef {
        self.columns.clone()
    }

    fn checkpoint(&self, connector: &ConnectorName) -> Result<OffsetCheckpoint> {
        let ledger = Ledger::new(&self.store, self.table.id().clone(), connector);
        Ok(self.runtime.block_on(ledger.load())?.state.checkpoint(connector))
    }

    fn scan(&self, columns: &[usize]) -> Result<RecordBatches> {
        let shape = self
            .columns
            .project(columns)
            .map_err(|e| Error::internal("columns that the table does not have").with_source(e))?;
        let file = FileReader {
            store: self.store.clone(),
            shape: Arc::new(shape),
            partition_columns: self.table.partition_columns().to_vec(),
            runtime: self.runtime.clone(),
        };
        let batches = self.files.clone().into_iter().flat_map(move |path| {
            let read: RecordBatches = match file.rows(&path) {
                Ok(rows) => rows,
                Err(error) => Box::new(std::iter::once(Err(error))),
            };
            read
        });
        Ok(Box::new(batches))
    }
}

/// Reads some columns of files.
struct FileReader {
    store: Store,
    shape: SchemaRef,
    partition_columns: Vec<String>,
    runtime: Handle,
}

impl FileReader {
    fn rows(&self, path: &str) -> Result<RecordBatches> {
        let object = self.store.exact(path)?;
        let get = async { self.store.objects.get(&object).await?.bytes().await };
        let content = self
            .runtime
            .block_on(self.store.answer(get))
            .map_err(|e| store_error(format!("`{path}` cannot be read"), e))?;
        let unreadable = |e| Error::user(format!("`{path}` cannot be read")).with_source(e);
        let builder = ParquetRecordBatchReaderBuilder::try_new(content).map_err(unreadable)?;
        let in_file = |name: &str| !self.partition_columns.iter().any(|column| column == name);
        let wanted: Vec<&str> = self
            .shape
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .filter(|name| in_file(name))
            .collect();
        let roots = builder.schema().fields().iter().enumerate();
        let roots: Vec<usize> = roots
            .filter(|(_, field)| wanted.contains(&field.name().as_str()))
            .map(|(index, _)| index)
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let rows = builder.with_projection(mask).build().map_err(unreadable)?;
        let (shape, path, values) = (self.shape.clone(), path.to_owned(), folders::values(path));
        Ok(Box::new(rows.map(move |batch| {
            let batch = batch
                .map_err(|e| Error::user(format!("`{path}` cannot be read")).with_source(e))?;
            shaped(&batch, &shape, &values).map_err(|e| {
                Error::user(format!("`{path}` is no file of this table")).with_source(e)
            })
        })))
    }
}

/// The rows under the table's own fields, with the columns that the folder's name says.
fn shaped(
    batch: &RecordBatch,
    shape: &SchemaRef,
    values: &[(String, Option<String>)],
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let safe = CastOptions { safe: false, ..CastOptions::default() };
    let column = |name: &str, data_type: &DataType| -> Result<ArrayRef, _> {
        if let Some(column) = batch.column_by_name(name) {
            return cast_with_options(column, data_type, &safe);
        }
        match values.iter().find(|(column, _)| column == name) {
            Some((_, Some(value))) => {
                let text = StringArray::from_iter_values((0..batch.num_rows()).map(|_| value));
                cast_with_options(&text, data_type, &safe)
            }
            _ => Ok(new_null_array(data_type, batch.num_rows())),
        }
    };
    let columns = shape.fields().iter().map(|field| column(field.name(), field.data_type()));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(shape.clone(), columns.collect::<Result<_, _>>()?, &options)
}
