//! Plain Parquet files in a folder, exactly once and without a table log.
//!
//! Who reads the folder needs nothing of ours: all data files that can be listed are rows of the
//! table, each once. What is ours stands below `_alluvium`, which readers
//! leave out, or a pattern that ends in `*.parquet`:
//!
//! | object | what it is |
//! |---|---|
//! | `_alluvium/table.json` | the table's id, columns and partition columns; written once |
//! | `_alluvium/NAME.ledger.json` | the ledger of the connector `NAME`: next offsets, history, commits that are being published |
//! | `_alluvium/NAME.staged/FOLDERS/part-…` | complete files that no commit has named yet |
//!
//! A commit is one compare-and-swap of the ledger (CM-1, CM-2): it moves the offsets and names the
//! commit's files, which lie in the store already. From then on it is decided, and whoever comes
//! by brings it to its end: each file is moved to its final name, which a reader sees, and the
//! ledger is told. A file that stands there already is not made again, so a worker that died or
//! slept in the middle changes nothing. See `docs/decisions/008-parquet-commits-by-renaming.md`.

mod committer;
mod folders;
mod ledger;
mod maintenance;
mod reader;
mod table;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use connector_api::batch::TableSchema;
use connector_api::config::{SettingError, SinkFactory, TableSettings};
use connector_api::ids::ConnectorName;
use connector_api::partitioning::PartitionField;
use connector_api::sink::{OpenTable, Sink, TableReader};
use connector_api::{Context, Result};

use crate::store::probe::{CheckOnce, Conditions};
use crate::store::{Store, store_at};

/// Makes sinks for folders of Parquet files: the key `parquet` below `table`.
#[derive(Debug)]
pub struct ParquetFactory;

impl SinkFactory for ParquetFactory {
    fn format(&self) -> &'static str {
        "parquet"
    }

    fn sink(&self, settings: &TableSettings) -> Result<Arc<dyn Sink>, Vec<SettingError>> {
        let refused = |name: &String| SettingError {
            key: vec![self.format().into(), "properties".into(), name.clone()],
            message: "plain Parquet files have no table properties".into(),
        };
        let mut errors: Vec<_> = settings.properties.keys().map(refused).collect();
        let hidden = settings
            .partition_by
            .iter()
            .filter(|name| name_of_folder(name).starts_with(['_', '.']));
        errors.extend(hidden.map(|name| SettingError {
            key: vec![self.format().into(), "partition_by".into()],
            message: format!(
                "readers leave out folders such as `{}=…`, whose names begin with `_` or `.`; rename the column of `{name}`",
                name_of_folder(name)
            ),
        }));
        match store_at(self.format(), &settings.location, &settings.storage) {
            Ok(store) if errors.is_empty() => return Ok(sink_on(store, settings.clone())),
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        Err(errors)
    }
}

fn name_of_folder(partition: &str) -> String {
    PartitionField::parse(partition).map_or_else(|| partition.to_owned(), |field| field.folder())
}

/// A sink for the folder at a place in any object store, also one that no location can name.
pub fn sink_on(store: Store, settings: TableSettings) -> Arc<dyn Sink> {
    let location = store.shown(&settings.location);
    // A commit replaces the ledger that was read.
    let conditions = CheckOnce::new(Conditions::CreateAndUpdate);
    Arc::new(ParquetSink { store, settings, location, conditions })
}

/// One folder of Parquet files, existing or not.
#[derive(Debug)]
struct ParquetSink {
    store: Store,
    settings: TableSettings,
    /// For messages.
    location: String,
    /// What the store must keep, tried before anything is written to it.
    conditions: CheckOnce,
}

impl ParquetSink {
    async fn open_checked(&self, connector: &ConnectorName) -> Result<Option<OpenTable>> {
        let opened = table::open(&self.store, connector, self.settings.compression).await?;
        if opened.is_some() {
            self.conditions.check(&self.store).await?;
        }
        Ok(opened)
    }

    async fn create_checked(
        &self,
        connector: &ConnectorName,
        schema: &TableSchema,
    ) -> Result<OpenTable> {
        self.conditions.check(&self.store).await?;
        table::create(&self.store, connector, self.settings.compression, schema).await
    }
}

#[async_trait]
impl Sink for ParquetSink {
    fn location(&self) -> &str {
        &self.location
    }

    async fn open(&self, connector: &ConnectorName) -> Result<Option<OpenTable>> {
        self.open_checked(connector)
            .await
            .context(|| format!("failed to open the Parquet table at `{}`", self.location()))
    }

    async fn create(&self, connector: &ConnectorName, schema: &TableSchema) -> Result<OpenTable> {
        self.create_checked(connector, schema)
            .await
            .context(|| format!("failed to create the Parquet table at `{}`", self.location()))
    }

    async fn read(&self) -> Result<Option<Arc<dyn TableReader>>> {
        reader::open(&self.store)
            .await
            .context(|| format!("failed to read the Parquet table at `{}`", self.location()))
    }
}
