//! The table's own object, `_alluvium/table.json`: what the folder holds. It is created once and
//! never changed.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use connector_api::batch::TableSchema;
use connector_api::config::Compression;
use connector_api::ids::{ConnectorName, TableId};
use connector_api::sink::OpenTable;
use connector_api::{Error, Result};
use object_store::{Error as StoreError, ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::committer::ParquetCommitter;
use super::ledger::Ledger;
use super::maintenance::ParquetMaintenance;
use super::writer::ParquetWriters;
use crate::delta::schema;
use crate::store::{Store, store_error};

/// The form of our objects that this build reads and writes.
pub(super) const FORM: u32 = 1;
/// Where our objects are, below the table's root. Readers leave out names that begin with `_`.
pub(super) const FOLDER: &str = "_alluvium";

/// What `table.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TableFile {
    form: u32,
    id: TableId,
    /// As the Delta protocol writes a schema ("Schema Serialization Format").
    columns: Value,
    partition_columns: Vec<String>,
}

impl TableFile {
    fn new(schema: &TableSchema) -> Result<Self> {
        let columns = serde_json::to_value(schema::to_delta(&schema.columns)?)
            .map_err(|e| Error::internal("columns cannot be written").with_source(e))?;
        Ok(Self {
            form: FORM,
            id: TableId(uuid::Uuid::new_v4().to_string()),
            columns,
            partition_columns: schema.partition_columns.clone(),
        })
    }

    /// Reads the object, or returns `None` if there is none.
    pub(super) async fn load(store: &Store) -> Result<Option<Self>> {
        let path = store.object(&format!("{FOLDER}/table.json"));
        let get = async { store.objects.get(&path).await?.bytes().await };
        match store.answer(get).await {
            Ok(content) => read_form(&content, "table.json").map(Some),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_error("the table cannot be read", error)),
        }
    }

    pub(super) fn id(&self) -> &TableId {
        &self.id
    }

    pub(super) fn columns(&self) -> Result<SchemaRef> {
        let columns = serde_json::from_value(self.columns.clone()).map_err(|e| {
            Error::user("the columns in `table.json` cannot be read").with_source(e)
        })?;
        schema::to_arrow(&Arc::new(columns))
    }

    pub(super) fn partition_columns(&self) -> &[String] {
        &self.partition_columns
    }
}

/// Reads one of our objects, if its form is one that we know.
pub(super) fn read_form<T: for<'de> Deserialize<'de>>(content: &[u8], name: &str) -> Result<T> {
    let unreadable = |e| Error::user(format!("`{FOLDER}/{name}` cannot be read")).with_source(e);
    let value: Value = serde_json::from_slice(content).map_err(unreadable)?;
    if value["form"] != FORM {
        return Err(Error::user(format!(
            "`{FOLDER}/{name}` has the form {}, and this build knows {FORM}: use the build that wrote it, or a newer one",
            value["form"]
        )));
    }
    serde_json::from_value(value).map_err(unreadable)
}

/// Opens the table, or returns `None` if the location is empty.
pub(super) async fn open(
    store: &Store,
    connector: &ConnectorName,
    compression: Compression,
) -> Result<Option<OpenTable>> {
    let mut table = TableFile::load(store).await?;
    if table.is_none()
        && let Some(file) = store.first_file("", is_data).await?
    {
        // It may belong to a table that another worker has created since we looked.
        table = TableFile::load(store).await?;
        if table.is_none() {
            return Err(Error::user(format!(
                "the location holds files and no Parquet table of ours, for example `{file}`; choose an empty location"
            )));
        }
    }
    table.map(|table| split(store, table, connector, compression)).transpose()
}

/// True for a file that a reader of the folder would take for the table's, whoever wrote it.
fn is_data(file: &str) -> bool {
    !file.starts_with(&format!("{FOLDER}/"))
}

/// Creates the table. If another worker was first, opens theirs.
pub(super) async fn create(
    store: &Store,
    connector: &ConnectorName,
    compression: Compression,
    schema: &TableSchema,
) -> Result<OpenTable> {
    let table = TableFile::new(schema)?;
    let content = serde_json::to_vec_pretty(&table)
        .map_err(|e| Error::internal("`table.json` cannot be written").with_source(e))?;
    let path = store.object(&format!("{FOLDER}/table.json"));
    let put = store.objects.put_opts(&path, content.into(), PutMode::Create.into());
    let created = store.answer(put).await;
    // Whatever came of it, the object tells: somebody else may have been first, and a lost answer
    // may have been ours.
    match (open(store, connector, compression).await?, created) {
        (Some(opened), _) => {
            if opened.id == table.id {
                tracing::info!(table = %store.url, "table created");
            }
            Ok(opened)
        }
        (None, Err(error)) => Err(store_error("`table.json` cannot be created", error)),
        (None, Ok(_)) => Err(Error::external("the table was created and is not there")),
    }
}

fn split(
    store: &Store,
    table: TableFile,
    connector: &ConnectorName,
    compression: Compression,
) -> Result<OpenTable> {
    let schema = TableSchema {
        columns: table.columns()?,
        partition_columns: table.partition_columns.clone(),
    };
    let ledger = Ledger::new(store, table.id.clone(), connector);
    Ok(OpenTable {
        id: table.id,
        writers: Arc::new(ParquetWriters::new(store, &schema, connector, compression)),
        maintenance: Some(Arc::new(ParquetMaintenance::new(ledger.clone()))),
        committer: Box::new(ParquetCommitter::new(ledger)),
        schema,
    })
}
