//! Creates versions of the table.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use connector_api::outcome::CommitError;
use connector_api::staged::StagedFile;
use connector_api::{Error, check_invariant};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{KernelError, KernelResult};

use super::log::{self, Answer, CreateEntry, EntryTag};
use super::table::{ENGINE_INFO, Table, kernel_error};
use super::writer::AddAction;
use crate::store::store_error;

/// What a version says.
pub(super) struct Content {
    /// Of `commitInfo`.
    pub(super) parameters: Vec<(&'static str, String)>,
    /// Kept by `txn` actions, by application id.
    pub(super) numbers: Vec<(String, i64)>,
    pub(super) files: Vec<StagedFile>,
}

/// What became of a request to create a version that got an answer.
pub(super) enum Written {
    Created {
        entry: Option<EntryTag>,
        result: Box<KernelResult<CommitResult>>,
    },
    /// It exists already, or is said to.
    Exists,
}

/// Creates the version after this one.
pub(super) async fn create_next(
    table: &Table,
    snapshot: SnapshotRef,
    content: Content,
) -> Result<Written, CommitError> {
    let version = snapshot.version() + 1;
    let (entry, answer) = CreateEntry::new(&table.store);
    let written = table
        .blocking(move |table| write(table, snapshot, content, entry))
        .await
        .map_err(CommitError::Unknown)?;
    match log::take(&answer) {
        Answer::Created(entry) => Ok(Written::Created { entry, result: Box::new(written) }),
        Answer::Exists => Ok(Written::Exists),
        Answer::Lost(error) => {
            let doing = format!("the answer to writing version {version} was lost");
            Err(CommitError::Unknown(store_error(doing, error)))
        }
        Answer::NotSent => Err(CommitError::NotSent(match written {
            Ok(_) => Error::internal("the kernel wrote a version elsewhere"),
            Err(error) => kernel_error("the commit cannot be written", error),
        })),
    }
}

/// Builds the transaction on `snapshot` and creates the next version.
fn write(
    table: &Table,
    snapshot: SnapshotRef,
    content: Content,
    entry: CreateEntry,
) -> KernelResult<CommitResult> {
    let Content { parameters, numbers, files } = content;
    let mut builder = snapshot
        .update_table(UpdateTableOperation::StreamingUpdate, ENGINE_INFO, true)
        .with_operation_parameters(parameters.into_iter().map(|(key, value)| (key, Some(value))));
    if !files.is_empty() {
        builder = builder.with_blind_append();
    }
    for (application, number) in numbers {
        builder = builder.with_transaction_id(application, number);
    }
    let mut transaction = builder.build(table.engine.as_ref(), Box::new(entry))?;
    for file in &files {
        let Some(AddAction(add)) = file.sink_data.get() else {
            return Err(KernelError::generic(format!(
                "`{}` was not written by this sink",
                file.path
            )));
        };
        check_counts(file, add);
        transaction.add_files(Box::new(ArrowEngineData::new(add.clone())));
    }
    transaction.commit(table.engine.as_ref())
}

/// WR-2: what goes into the log is what the writer counted.
fn check_counts(file: &StagedFile, add: &RecordBatch) {
    let number = |column: Option<&Arc<dyn Array>>| {
        column.and_then(|c| c.as_primitive_opt::<Int64Type>().map(|numbers| numbers.value(0)))
    };
    let bytes = number(add.column_by_name("size"));
    let statistics = add.column_by_name("stats").and_then(|stats| stats.as_struct_opt());
    let rows = statistics.and_then(|stats| number(stats.column_by_name("numRecords")));
    check_invariant!(
        Wr2,
        rows.map(i64::unsigned_abs) == Some(file.rows)
            && bytes.map(i64::unsigned_abs) == Some(file.bytes),
        "{file:?} goes into the log with {rows:?} rows and {bytes:?} bytes"
    );
}
