//! Delta Lake tables.
//!
//! What Delta gives us, and what we build "exactly once" on:
//!
//! * A version of the table is one object in `_delta_log`, created only if it is not there yet.
//!   That is the compare-and-swap: offsets are checked on version V, and the commit is written as
//!   V+1 or not at all (CM-1, CM-2). A store that does not keep that condition is refused, once it
//!   was tried, before a table is made there or written to.
//! * A `txn` action keeps a number per application id, in the same commit as the files. Ours is
//!   the next offset per topic partition (Delta protocol, "Transaction Identifiers").
//! * `commitInfo` carries our token, so that a commit can be found again after a lost answer (CM-3).
//! * Data files are seen by readers only if an `add` action names them (WR-1).
//!
//! The commit path is `delta_kernel`; Parquet files are written by [`writer`]. Kernel calls block,
//! so they run on blocking threads ([`Table::blocking`](table::Table::blocking)).

mod committer;
mod log;
mod log_checkpoint;
mod maintenance;
mod offsets;
mod orphans;
mod reader;
pub(crate) mod schema;
mod statistics;
mod supported;
mod table;
mod version;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use connector_api::batch::TableSchema;
use connector_api::config::{SettingError, SinkFactory, TableSettings};
use connector_api::ids::ConnectorName;
use connector_api::sink::{OpenTable, Sink, TableReader};
use connector_api::{Context, Result};

use crate::store::probe::{CheckOnce, Conditions};
use crate::store::{Store, store_at};

/// Makes sinks for Delta tables: the key `delta` below `table`.
#[derive(Debug)]
pub struct DeltaFactory;

impl SinkFactory for DeltaFactory {
    fn format(&self) -> &'static str {
        "delta"
    }

    fn sink(&self, settings: &TableSettings) -> Result<Arc<dyn Sink>, Vec<SettingError>> {
        let mut errors = supported::refused_properties(&settings.properties);
        errors.extend(supported::refused_partitions(&settings.partition_by));
        match store_at("delta", &settings.location, &settings.storage) {
            Ok(store) if errors.is_empty() => {
                return Ok(sink_on(store, settings.clone()));
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        Err(errors)
    }
}

/// A sink for the table at a place in any object store, also one that no location can name.
pub fn sink_on(store: Store, settings: TableSettings) -> Arc<dyn Sink> {
    let location = store.shown(&settings.location);
    // A commit creates the next version.
    let conditions = CheckOnce::new(Conditions::Create);
    Arc::new(DeltaSink { store, settings, location, conditions })
}

/// One Delta table, existing or not.
#[derive(Debug)]
struct DeltaSink {
    store: Store,
    settings: TableSettings,
    /// For messages.
    location: String,
    /// What the store must keep, tried before anything is written to it.
    conditions: CheckOnce,
}

impl DeltaSink {
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
        table::create(&self.store, connector, &self.settings, schema).await
    }
}

#[async_trait]
impl Sink for DeltaSink {
    fn location(&self) -> &str {
        &self.location
    }

    async fn open(&self, connector: &ConnectorName) -> Result<Option<OpenTable>> {
        self.open_checked(connector)
            .await
            .context(|| format!("failed to open the Delta table at `{}`", self.location()))
    }

    async fn create(&self, connector: &ConnectorName, schema: &TableSchema) -> Result<OpenTable> {
        self.create_checked(connector, schema)
            .await
            .context(|| format!("failed to create the Delta table at `{}`", self.location()))
    }

    async fn read(&self) -> Result<Option<Arc<dyn TableReader>>> {
        reader::open(&self.store)
            .await
            .context(|| format!("failed to read the Delta table at `{}`", self.location()))
    }
}
