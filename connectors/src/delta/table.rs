//! Opening and creating a table.

use std::sync::Arc;

use connector_api::batch::TableSchema;
use connector_api::config::{Compression, TableSettings};
use connector_api::ids::{ConnectorName, TableId};
use connector_api::sink::OpenTable;
use connector_api::{Error, Result, Retry};
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::snapshot::{IncrementalReplay, SnapshotRef};
use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::data_layout::DataLayout;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation, WriteState};
use delta_kernel::{Engine, KernelError, Snapshot};
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use futures::TryStreamExt;
use object_store::ObjectStore;
use tokio::runtime::Handle;

use super::committer::DeltaCommitter;
use super::maintenance::DeltaMaintenance;
use super::store::Store;
use super::writer::DeltaWriters;
use super::{schema, supported};

/// How we sign commits in the table's history.
pub(super) const ENGINE_INFO: &str = concat!("Alluvium/", env!("CARGO_PKG_VERSION"));

/// The kernel's engine over a store, and the table's root: what every kernel call needs.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) store: Store,
    pub(super) engine: Arc<dyn Engine>,
}

impl Table {
    /// Must be called within a multi-threaded runtime, which the engine uses for its I/O.
    pub(super) fn new(store: &Store) -> Self {
        let executor = Arc::new(TokioMultiThreadExecutor::new(Handle::current()));
        let engine =
            DefaultEngineBuilder::new(store.objects.clone()).with_task_executor(executor).build();
        Self { store: store.clone(), engine: Arc::new(engine) }
    }

    /// The latest version, read from the store.
    pub(super) fn load(&self) -> Result<SnapshotRef, KernelError> {
        Snapshot::builder_for(self.store.url.as_str())
            .with_incremental_crc_replay(IncrementalReplay::Unlimited)
            .build(self.engine.as_ref())
    }

    /// The latest version, read from the store as far as it is newer than `snapshot`.
    pub(super) fn refresh(&self, snapshot: SnapshotRef) -> Result<SnapshotRef, KernelError> {
        Snapshot::builder_from(snapshot)
            .with_incremental_crc_replay(IncrementalReplay::Unlimited)
            .build(self.engine.as_ref())
    }

    /// What writers need to know of this version of the table.
    fn write_state(&self, snapshot: &SnapshotRef) -> Result<Arc<WriteState>, KernelError> {
        let operation = UpdateTableOperation::StreamingUpdate;
        snapshot
            .clone()
            .update_table(operation, ENGINE_INFO, true)
            .with_blind_append()
            .build(self.engine.as_ref(), Box::new(FileSystemCommitter::new()))?
            .write_state()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.store.url)
    }
}

/// Runs kernel calls, which wait for the store, on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("a call of the Delta kernel did not end").with_source(e))
}

/// An error of the kernel as one of ours: what a store says may pass, the rest will not.
pub(super) fn kernel_error(doing: &str, error: KernelError) -> Error {
    if let KernelError::Backtraced { source, .. } = error {
        return kernel_error(doing, *source);
    }
    let ours = match &error {
        KernelError::ObjectStore(_) | KernelError::IOError(_) | KernelError::Reqwest(_) => {
            Error::external(doing)
        }
        _ => Error::user(doing),
    };
    ours.with_source(error)
}

/// Opens the table, or returns `None` if the location is empty.
pub(super) async fn open(
    store: &Store,
    connector: &ConnectorName,
    compression: Compression,
) -> Result<Option<OpenTable>> {
    let table = Table::new(store);
    let mut snapshot = load_if_present(&table).await?;
    if snapshot.is_none()
        && let Some(file) = foreign_file(store).await?
    {
        // It may belong to a table that another worker has created since we looked.
        snapshot = load_if_present(&table).await?;
        if snapshot.is_none() {
            return Err(Error::user(format!(
                "the location holds files and no Delta table, for example `{file}`; choose an empty location"
            )));
        }
    }
    match snapshot {
        Some(snapshot) => split(table, snapshot, connector, compression).await.map(Some),
        None => Ok(None),
    }
}

pub(super) async fn load_if_present(table: &Table) -> Result<Option<SnapshotRef>> {
    let loading = table.clone();
    match blocking(move || loading.load()).await? {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(kernel_error("the table's log cannot be read", error)),
    }
}

/// Creates the table. If another worker was first, opens theirs.
pub(super) async fn create(
    store: &Store,
    connector: &ConnectorName,
    settings: &TableSettings,
    schema: &TableSchema,
) -> Result<OpenTable> {
    let table = Table::new(store);
    let columns = schema::to_delta(&schema.columns)?;
    let (properties, partition_by) = (settings.properties.clone(), schema.partition_columns.clone());
    let creating = table.clone();
    let created = blocking(move || {
        if let Ok(p) = creating.store.url.to_file_path() { std::fs::create_dir_all(p).ok(); }
        let mut builder = create_table(creating.store.url.as_str(), columns, ENGINE_INFO, false)
            .with_table_properties(properties);
        if !partition_by.is_empty() {
            builder = builder.with_data_layout(DataLayout::partitioned(partition_by));
        }
        let engine = creating.engine.as_ref();
        builder.build(engine, Box::new(FileSystemCommitter::new()))?.commit(engine)
    });
    match created.await? {
        Ok(CommitResult::Committed(_)) => {
            tracing::info!(table = %store.url, "table created");
        }
        // Somebody else was first, or we were and the answer was lost: the table tells.
        Ok(_) => {}
        Err(error) => {
            if let Some(theirs) = open(store, connector, settings.compression).await? {
                return Ok(theirs);
            }
            return Err(kernel_error("the first version of the table cannot be written", error));
        }
    }
    open(store, connector, settings.compression).await?.ok_or_else(|| {
        Error::external("the table was created and is not there").with_retry(Retry::AfterBackoff)
    })
}

async fn split(
    table: Table,
    snapshot: SnapshotRef,
    connector: &ConnectorName,
    compression: Compression,
) -> Result<OpenTable> {
    supported::check(&snapshot)?;
    let preparing = table.clone();
    let (snapshot, write_state) = blocking(move || {
        let snapshot = with_checksum(&preparing, snapshot);
        let write_state = preparing.write_state(&snapshot)?;
        Ok((snapshot, write_state))
    })
    .await?
    .map_err(|e| kernel_error("the table does not take appends", e))?;
    let columns = schema::to_arrow(&snapshot.schema())?;
    let metadata = snapshot.table_configuration().metadata();
    let id = TableId(metadata.id().to_owned());
    let partition_columns = metadata.partition_columns().to_vec();
    let schema = snapshot.schema();
    let partition_types = schema
        .fields()
        .filter(|field| partition_columns.contains(field.name()))
        .map(|field| (field.name().clone(), field.data_type().clone()))
        .collect();
    Ok(OpenTable {
        id,
        schema: TableSchema { columns, partition_columns },
        writers: Arc::new(DeltaWriters::new(
            table.store.clone(),
            write_state,
            compression,
            partition_types,
        )),
        committer: Box::new(DeltaCommitter::new(table.clone(), snapshot, connector.clone())),
        maintenance: Some(Arc::new(DeltaMaintenance::new(table))),
    })
}

/// Writes the checksum file of this version if it has none: without one, each look-up of a `txn`
/// and each commit replays the log, so both grow with the table.
///
/// A table that cannot have one (its history was pruned, say) works without.
fn with_checksum(table: &Table, snapshot: SnapshotRef) -> SnapshotRef {
    match snapshot.write_checksum(table.engine.as_ref()) {
        Ok((_, snapshot)) => snapshot,
        Err(error) => {
            tracing::debug!(table = %table.store.url, %error, "no checksum file written");
            snapshot
        }
    }
}

/// True if the error says that there is no table, and not that it cannot be read.
fn is_absent(error: &KernelError) -> bool {
    match error.without_backtrace() {
        KernelError::EmptyLog | KernelError::FileNotFound(_) | KernelError::InvalidTableLocation(_) => true,
        KernelError::ObjectStore(error) => matches!(error, object_store::Error::NotFound { .. }),
        _ => false,
    }
}

/// A file below the location that is no part of a table's log.
async fn foreign_file(store: &Store) -> Result<Option<String>> {
    let log = store.object("_delta_log");
    let listing = store.objects.list(Some(&store.object("")));
    let mut foreign = std::pin::pin!(
        listing.try_filter(|object| std::future::ready(!object.location.prefix_matches(&log)))
    );
    let first = foreign.try_next().await;
    let first = first.map_err(|e| Error::external("the location cannot be listed").with_source(e))?;
    Ok(first.map(|object| object.location.to_string()))
}
