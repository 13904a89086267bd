//! Opening and creating a table.

use std::error::Error as StdError;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use connector_api::batch::TableSchema;
use connector_api::clock::SystemClock;
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
use delta_kernel_default_engine::executor::tokio::{
    TokioBackgroundExecutor, TokioMultiThreadExecutor,
};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::committer::DeltaCommitter;
use super::maintenance::DeltaMaintenance;
use super::writer::DeltaWriters;
use super::{log, orphans, schema, supported};
use crate::store::probe::is_probe;
use crate::store::{self, Store, store_error};

/// How we sign commits in the table's history.
pub(super) const ENGINE_INFO: &str = concat!("Alluvium/", env!("CARGO_PKG_VERSION"));

/// The kernel's engine over a store, and the table's root: what every kernel call needs.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) store: Store,
    pub(super) engine: Arc<dyn Engine>,
}

impl Table {
    /// Must be called within a runtime. The engine uses it for its I/O; on a runtime of one thread, as a
    /// simulation has it, a thread of its own.
    pub(super) fn new(store: &Store) -> Self {
        let builder = DefaultEngineBuilder::new(store.objects.clone());
        let engine: Arc<dyn Engine> = match has_one_thread() {
            false => {
                let executor = TokioMultiThreadExecutor::new(Handle::current());
                Arc::new(builder.with_task_executor(Arc::new(executor)).build())
            }
            true => {
                let executor = TokioBackgroundExecutor::new();
                Arc::new(builder.with_task_executor(Arc::new(executor)).build())
            }
        };
        Self { store: store.clone(), engine }
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

    /// Runs calls of the kernel, which wait for the store, on a thread that may wait.
    ///
    /// Gives up at the store's deadline. The work is not stopped by that: what it has sent, or
    /// still sends, may arrive later. On a runtime of one thread all else stands still meanwhile, so
    /// that the same steps are taken each time.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T> {
        self.blocking_within(self.store.deadline, work).await
    }

    /// The same for work that takes longer than the store.
    pub(super) async fn blocking_within<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T> {
        let table = self.clone();
        if has_one_thread() {
            let runtime = Handle::current();
            let work = move || {
                let _within = runtime.enter();
                work(&table)
            };
            let done = std::thread::spawn(work).join();
            return done.or_else(|panic| std::panic::resume_unwind(panic));
        }
        let done = tokio::task::spawn_blocking(move || work(&table));
        match tokio::time::timeout(deadline, done).await {
            Ok(Ok(done)) => Ok(done),
            // As if it had been here: whoever supervises the connector sees to it.
            Ok(Err(e)) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Ok(Err(e)) => {
                Err(Error::internal("a call of the Delta kernel did not end").with_source(e))
            }
            Err(_) => Err(Error::external(format!("the store gave no answer within {deadline:?}"))),
        }
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

fn has_one_thread() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.store.url)
    }
}

/// An error of the kernel as one of ours: what a store says may pass, the rest will not.
pub(super) fn kernel_error(doing: &str, error: KernelError) -> Error {
    match error {
        KernelError::Backtraced { source, .. } => kernel_error(doing, *source),
        KernelError::ObjectStore(error) => store_error(doing, error),
        KernelError::IOError(_) | KernelError::Reqwest(_) => {
            Error::external(doing).with_source(error)
        }
        _ => Error::user(doing).with_source(error),
    }
}

/// The same, of reading the log of a version. A file that is gone was there when that version was listed, so
/// somebody has cleaned up the log since: the newest version does without it.
pub(super) fn log_error(doing: &str, error: KernelError) -> Error {
    match is_gone(&error) {
        true => Error::external(doing).with_retry(Retry::AfterRefresh).with_source(error),
        false => kernel_error(doing, error),
    }
}

/// True if a file that should be read is not there: an entry of the log, or a log checkpoint.
fn is_gone(error: &KernelError) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error.without_backtrace());
    while let Some(error) = cause {
        let missing = error.downcast_ref::<object_store::Error>();
        if matches!(missing, Some(object_store::Error::NotFound { .. }))
            || matches!(error.downcast_ref::<KernelError>(), Some(KernelError::FileNotFound(_)))
        {
            return true;
        }
        cause = error.source();
    }
    false
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
        && let Some(file) = store.first_file("", is_foreign).await?
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

/// The newest version, or `None` if there is no log at the location.
pub(super) async fn load_if_present(table: &Table) -> Result<Option<SnapshotRef>> {
    let unreadable = |e| kernel_error("the table's log cannot be read", e);
    match load(table).await? {
        Ok(snapshot) => return Ok(Some(snapshot)),
        Err(error) if !is_absent(&error) => return Err(unreadable(error)),
        Err(_) => {}
    }
    if table.store.first_file("_delta_log", |_| true).await?.is_none() {
        return Ok(None);
    }
    // The log has files: they came since we looked, or what they refer to is lost.
    load(table).await?.map(Some).map_err(unreadable)
}

async fn load(table: &Table) -> Result<Result<SnapshotRef, KernelError>> {
    table.blocking(|table| local_folder(&table.store, false).and_then(|()| table.load())).await
}

/// The kernel takes a folder on local disk only if it exists.
fn local_folder(store: &Store, create: bool) -> Result<(), KernelError> {
    let Ok(folder) = store.url.to_file_path() else { return Ok(()) };
    if create {
        store::local::create_folder(&folder)?;
    }
    let no_folder =
        || KernelError::InvalidTableLocation(format!("`{}` is no folder", folder.display()));
    match std::fs::metadata(&folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(no_folder()),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Err(KernelError::EmptyLog),
            ErrorKind::NotADirectory => Err(no_folder()),
            _ => Err(error.into()),
        },
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
    let (properties, partition_by) =
        (settings.properties.clone(), schema.partition_columns.clone());
    let created = table.blocking(move |table| {
        local_folder(&table.store, true)?;
        let mut builder = create_table(table.store.url.as_str(), columns, ENGINE_INFO, false)
            .with_table_properties(properties);
        if !partition_by.is_empty() {
            builder = builder.with_data_layout(DataLayout::partitioned(partition_by));
        }
        let engine = table.engine.as_ref();
        builder.build(engine, Box::new(FileSystemCommitter::new()))?.commit(engine)
    });
    // Whatever came of it, the table tells: somebody else may have been first, and a lost answer may
    // have been ours.
    let created = created.await;
    let opened = open(store, connector, settings.compression).await;
    match (opened, created) {
        (Ok(Some(table)), Ok(Ok(CommitResult::Committed(_)))) => {
            tracing::info!(table = %store.url, "table created");
            Ok(table)
        }
        (Ok(Some(table)), _) => Ok(table),
        (_, Err(error)) => Err(error),
        // Somebody was first, and why his table cannot be opened is the other answer.
        (_, Ok(Err(error))) if !is_present(&error) => {
            Err(kernel_error("the first version of the table cannot be written", error))
        }
        (Err(error), _) => Err(error),
        (Ok(None), _) => Err(Error::external("the table was created and is not there")
            .with_retry(Retry::AfterBackoff)),
    }
}

async fn split(
    table: Table,
    snapshot: SnapshotRef,
    connector: &ConnectorName,
    compression: Compression,
) -> Result<OpenTable> {
    supported::check(&snapshot)?;
    let prepared = table.blocking(move |table| {
        let snapshot = with_checksum(table, snapshot);
        let write_state = table.write_state(&snapshot)?;
        Ok((snapshot, write_state))
    });
    let (snapshot, write_state) =
        prepared.await?.map_err(|e| kernel_error("the table does not take appends", e))?;
    let entry = log::tag(&table.store, snapshot.version()).await?;
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
        committer: Box::new(DeltaCommitter::new(
            table.clone(),
            snapshot,
            entry,
            connector.clone(),
            Arc::new(SystemClock::start()),
        )),
        maintenance: Some(Arc::new(DeltaMaintenance::new(table))),
    })
}

/// Writes the checksum file of this version if it has none: without one, each look-up of a `txn`
/// and each commit replays the log, so both grow with the table.
///
/// A table that cannot have one (its history was pruned, say) works without.
fn with_checksum(table: &Table, snapshot: SnapshotRef) -> SnapshotRef {
    match snapshot.write_checksum(table.engine.as_ref()) {
        // Another worker has just written it: only a new look takes it up.
        Ok((_, written)) if written.crc_at_version().is_none() => table.load().unwrap_or(written),
        Ok((_, written)) => written,
        Err(error) => {
            tracing::debug!(table = %table.store.url, %error, "no checksum file written");
            snapshot
        }
    }
}

/// True if the error says that there is a table.
fn is_present(error: &KernelError) -> bool {
    matches!(error.without_backtrace(), KernelError::TableAlreadyExistsAtPath(_))
}

/// True if the error may say that there is no table, and not that it cannot be read.
fn is_absent(error: &KernelError) -> bool {
    match error.without_backtrace() {
        KernelError::EmptyLog | KernelError::FileNotFound(_) => true,
        KernelError::ObjectStore(error) => matches!(error, object_store::Error::NotFound { .. }),
        _ => false,
    }
}

/// True for a file that no writer of ours left behind: a data file of a dropped round outlives a
/// table that was removed in that moment, and must not keep a new one from being made.
fn is_foreign(file: &str) -> bool {
    !is_probe(file) && orphans::opened(file).is_none()
}
