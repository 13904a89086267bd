//! Removes the data files that dropped rounds left in the table's folder.
//!
//! A file may go only if no commit names it and none ever will (MN-1). Three things show that:
//!
//! | might name it | what shows that it does not |
//! |---|---|
//! | a round that is under way, however late | before anything is deleted a version says up to when files were opened that are swept; a commit is [judged](crate::delta::committer) on a version that is the last one, so it is refused or came before |
//! | a version of the table | the log has neither an `add` nor a `remove` of it |
//! | a version that left the table long ago, whose `remove` was dropped from the log | by its name the file is younger than the time for which they are kept (`delta.deletedFileRetentionDuration`) |
//! | another table, in a folder of this one's | it has a log or a ledger there: such folders are left alone |
//!
//! The last one leaves files that nobody swept in time, to the VACUUM of an engine. So does a table that
//! keeps its `remove`s for less than [`KEPT`] and [`MARGIN`].

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::AsArray;
use connector_api::clock::{Clock, SystemClock};
use connector_api::outcome::CommitError;
use connector_api::staged::StagedCommit;
use connector_api::{Error, Result};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::schema::{DataType, SchemaRef, StructField, StructType};
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{KernelError, KernelResult};
use futures::TryStreamExt;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::log;
use super::table::{Table, kernel_error, log_error};
use super::version::{Content, Written, create_next};
use crate::store::store_error;

/// How long a file is left alone: three times as long as the longest round.
pub(super) const KEPT: Duration = Duration::from_secs(3 * DAY);
/// How far the clocks of engines and stores may be apart.
const MARGIN: Duration = Duration::from_secs(DAY);
const DAY: u64 = 24 * 60 * 60;
/// How long a `remove` is kept if the table does not say (`delta.deletedFileRetentionDuration`).
const REMOVES_KEPT: Duration = Duration::from_secs(7 * DAY);
/// How often other writers may be faster.
const ATTEMPTS: usize = 10;

/// The application id whose `txn` says up to when files were opened that are swept. It is the whole
/// table's: whose orphan a file is, its name does not tell. No connector's positions have this name.
pub(super) const SWEPT: &str = "alluvium#swept";
/// The key of `commitInfo.operationParameters` that says the same.
const PARAMETER: &str = "alluvium.swept";

/// The names of all files that entries add or remove.
static PATHS: LazyLock<KernelResult<SchemaRef>> = LazyLock::new(|| {
    let action = |name: &str| {
        let path = StructType::try_new([StructField::nullable("path", DataType::STRING)])?;
        Ok::<_, KernelError>(StructField::nullable(name, path))
    };
    Ok(Arc::new(StructType::try_new([action("add")?, action("remove")?])?))
});

/// When a data file was opened, as its name tells: `20261124235959` (UTC). `None` if the name is not
/// one of [ours](connector_api::sink::TableWriters::open_file): `part-20261124T235959Z-RUN-NUMBER.zstd.parquet`.
pub(super) fn opened(file: &str) -> Option<i64> {
    let name = file.rsplit('/').next().unwrap_or(file).strip_prefix("part-")?;
    let mut parts = name.splitn(3, '-');
    let (opened, run, rest) = (parts.next()?, parts.next()?, parts.next()?);
    if opened.len() != 16 || run.len() != 12 || !rest.contains(".parquet") {
        return None;
    }
    let (day, time) = opened.strip_suffix('Z')?.split_once('T')?;
    let digits = format!("{day}{time}");
    (digits.len() == 14).then(|| digits.parse().ok()).flatten()
}

/// Removes what dropped rounds left, if it is at least this old. Returns the number of files.
pub(super) async fn sweep(table: &Table, kept: Duration) -> Result<usize> {
    let snapshot = load(table).await?;
    let Some(removes_kept) = removes_kept(&snapshot) else { return Ok(0) };
    let ages = kept..removes_kept.saturating_sub(MARGIN);
    let mut orphans = data_files(table).await?;
    orphans.retain(|_, file| ages.contains(&age(file, SystemClock::start().wall_ms())));
    if orphans.is_empty() {
        return Ok(0);
    }
    forget_named(table, snapshot, &mut orphans).await?;
    let Some(newest) = orphans.keys().filter_map(|name| opened(name)).max() else { return Ok(0) };

    let (fence, written) = fence(table, newest).await?;
    let snapshot = load(table).await?;
    let known = snapshot.clone();
    let in_force = table.blocking(move |table| swept(table, &known)).await??;
    if in_force < Some(newest) {
        // The log was cleaned up beyond it, or put back.
        return Err(Error::external(format!("version {fence} was written and is not there")));
    }
    forget_named(table, snapshot, &mut orphans).await?;
    // By the store's own clock as well: ours may be wrong, and may have gone on since.
    let stored_ms = written.last_modified.timestamp_millis();
    let now_ms = stored_ms.max(SystemClock::start().wall_ms());
    let oldest = digits(&written, ages.end);
    let proven = |name: &String| opened(name) > oldest;
    orphans.retain(|name, file| ages.contains(&age(file, now_ms)) && proven(name));
    let mut removed = 0;
    for (name, file) in orphans {
        match table.store.answer(table.store.objects.delete(&file.location)).await {
            Ok(()) => removed += 1,
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(store_error(format!("`{name}` cannot be removed"), error)),
        }
    }
    Ok(removed)
}

/// How long the log keeps `remove`s. `None` if the table says so in words that the kernel does not know.
fn removes_kept(snapshot: &SnapshotRef) -> Option<Duration> {
    let known = snapshot.table_properties().deleted_file_retention_duration;
    let said = snapshot.table_configuration().metadata().configuration();
    match said.contains_key("delta.deletedFileRetentionDuration") {
        true => known,
        false => Some(REMOVES_KEPT),
    }
}

async fn load(table: &Table) -> Result<SnapshotRef> {
    let snapshot = table.blocking(Table::load).await?;
    snapshot.map_err(|e| kernel_error("the table cannot be read", e))
}

/// Zero for a file of the future.
fn age(file: &ObjectMeta, now_ms: i64) -> Duration {
    Duration::from_millis(
        u64::try_from(now_ms - file.last_modified.timestamp_millis()).unwrap_or(0),
    )
}

/// The data files in the table's folder that bear a name of ours, by name without folders.
async fn data_files(table: &Table) -> Result<BTreeMap<String, ObjectMeta>> {
    let store = &table.store;
    let listed = store.objects.list(Some(&store.object(""))).try_collect::<Vec<_>>();
    let listed =
        store.answer(listed).await.map_err(|e| store_error("data files cannot be listed", e))?;
    let relative: Vec<String> = listed.iter().map(|file| store.relative(&file.location)).collect();
    // Folders of tables of their own, inside this one's.
    let inner: HashSet<&str> = relative
        .iter()
        .filter_map(|path| {
            ["/_delta_log/", "/_alluvium/"].iter().find_map(|log| path.split_once(log))
        })
        .map(|(folder, _)| folder)
        .collect();
    let is_within = |path: &str| {
        let mut folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        folders.any(|folder| inner.contains(folder))
    };
    let is_hidden = |path: &str| {
        let mut folders = path.split('/').rev().skip(1);
        folders.any(|folder| folder.starts_with(['_', '.']))
    };
    let named = listed.iter().zip(&relative).filter_map(|(file, path)| {
        let name = file.location.filename()?.to_owned();
        // A name from the future is that of a worker with a wrong clock: a fence there would
        // stand in everybody's way.
        let past = opened(&name)? <= digits(file, Duration::ZERO)?;
        (past && !is_within(path) && !is_hidden(path)).then(|| (name, file.clone()))
    });
    Ok(named.collect())
}

/// The time so long before a file was stored, as names tell it.
fn digits(file: &ObjectMeta, before: Duration) -> Option<i64> {
    (file.last_modified - before).format("%Y%m%d%H%M%S").to_string().parse().ok()
}

/// Leaves only files that neither this version nor, as far as the log knows, one before it names.
async fn forget_named(
    table: &Table,
    snapshot: SnapshotRef,
    files: &mut BTreeMap<String, ObjectMeta>,
) -> Result<()> {
    let named = table.blocking(move |table| named(table, &snapshot)).await?;
    let named = named.map_err(|e| kernel_error("the table's files cannot be read", e))?;
    files.retain(|name, _| !named.contains(name));
    Ok(())
}

/// The names, without folders, of all files that the log adds or removes.
fn named(table: &Table, snapshot: &SnapshotRef) -> KernelResult<HashSet<String>> {
    let schema = match &*PATHS {
        Ok(schema) => schema.clone(),
        Err(error) => return Err(KernelError::generic(error.to_string())),
    };
    let mut named = HashSet::new();
    for actions in snapshot.log_segment().read_actions(table.engine.as_ref(), schema)? {
        let actions = actions?;
        let Some(actions) = actions.actions().any_ref().downcast_ref::<ArrowEngineData>() else {
            return Err(KernelError::generic("the log was not read as Arrow"));
        };
        for action in ["add", "remove"] {
            let paths = actions
                .record_batch()
                .column_by_name(action)
                .and_then(|action| action.as_struct_opt()?.column_by_name("path"))
                .and_then(|paths| paths.as_string_opt::<i32>())
                .ok_or_else(|| {
                    KernelError::generic(format!("the log was read without {action}"))
                })?;
            let names = paths.iter().flatten().filter_map(|path| path.rsplit('/').next());
            named.extend(names.map(str::to_owned));
        }
    }
    Ok(named)
}

/// Writes a version after which no file that was opened up to then can be committed. Returns the
/// version, and its entry, which tells the store's time.
async fn fence(table: &Table, newest: i64) -> Result<(u64, ObjectMeta)> {
    for _ in 0..ATTEMPTS {
        let snapshot = load(table).await?;
        let version = snapshot.version() + 1;
        let known = snapshot.clone();
        let before = table.blocking(move |table| swept(table, &known)).await??;
        let content = Content {
            parameters: vec![(PARAMETER, newest.to_string())],
            // Never back.
            numbers: vec![(SWEPT.to_owned(), newest.max(before.unwrap_or(newest)))],
            files: Vec::new(),
        };
        match create_next(table, snapshot, content).await {
            Ok(Written::Created { .. }) => {
                return Ok((version, log::written(&table.store, version).await?));
            }
            Ok(Written::Exists) => {}
            Err(CommitError::NotSent(error) | CommitError::Unknown(error)) => return Err(error),
        }
    }
    Err(Error::external(
        "other writers of the table were faster each time that files were to be swept",
    ))
}

/// Up to when files were opened that may be swept.
pub(super) fn swept(table: &Table, snapshot: &SnapshotRef) -> Result<Option<i64>> {
    snapshot
        .get_app_id_version(SWEPT, table.engine.as_ref())
        .map_err(|e| log_error("what is swept cannot be read", e))
}

/// True if a file of the commit may be swept.
pub(super) fn has_swept(commit: &StagedCommit, swept: Option<i64>) -> bool {
    let mut files = commit.files().iter();
    files.any(|file| opened(&file.path).is_some_and(|opened| Some(opened) <= swept))
}

#[cfg(test)]
mod tests {
    use connector_api::contract::{self, Round};
    use connector_api::outcome::{CommitOutcome, Conflict};
    use connector_api::sink::OpenTable;
    use tempfile::TempDir;

    use super::super::sink_on;
    use super::*;
    use crate::store::{Store, store_at};

    async fn table() -> (TempDir, Store, OpenTable) {
        let folder = tempfile::tempdir().unwrap();
        let settings = contract::settings(folder.path().to_str().unwrap());
        let store = store_at("delta", &settings.location, &settings.storage).unwrap();
        let sink = sink_on(store.clone(), settings);
        let opened = sink.create(&contract::connector(), &contract::schema()).await.unwrap();
        (folder, store, opened)
    }

    /// A commit of one file that was opened so many minutes after an hour ago.
    async fn staged(store: &Store, opened: &OpenTable, minutes: i64, round: Round) -> StagedCommit {
        let rows = contract::batch(&contract::topic_partition(0), minutes * 3, minutes * 3 + 3);
        let created = log::written(store, 0).await.unwrap();
        let before = Duration::from_secs(60 * 60 - 60 * minutes.unsigned_abs());
        let (day, time) = (
            digits(&created, before).unwrap() / 1_000_000,
            digits(&created, before).unwrap() % 1_000_000,
        );
        let name = format!("{day}T{time:06}Z-0123456789ab-000001");
        let file = contract::staged_file(opened, &name, &[rows]).await;
        round.with_files(vec![file])
    }

    async fn files(table: &Table) -> Vec<String> {
        data_files(table).await.unwrap().into_keys().collect()
    }

    fn name(path: &str) -> String {
        path.rsplit('/').next().unwrap().to_owned()
    }

    #[test]
    fn only_names_of_ours_tell_when_a_file_was_opened() {
        let ours = "day=1/part-20261124T235959Z-0123456789ab-000001.zstd.parquet";
        assert_eq!(opened(ours), Some(20_261_124_235_959));
        for foreign in [
            "part-00000-0f8fad5b-d9cb-469f-a165-70867728950e-c000.snappy.parquet",
            "part-20261124T235959Z-0123456789ab-000001.crc",
            "part-2026112aT235959Z-0123456789ab-000001.zstd.parquet",
            "part-20261124T235959Z-0123456789-000001.zstd.parquet",
            "_delta_log/00000000000000000000.json",
        ] {
            assert_eq!(opened(foreign), None, "{foreign}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn mn_1_only_files_that_no_commit_names_nor_can_name_are_removed() {
        let (folder, store, mut opened) = table().await;
        let kernel = Table::new(&store);
        let committed = staged(&store, &opened, 0, Round::new("t-1").new_range(0, 0, 3)).await;
        let removed = staged(&store, &opened, 1, Round::new("t-2").range(0, 3, 6)).await;
        let dropped = staged(&store, &opened, 2, Round::new("t-3").range(0, 6, 9)).await;
        for commit in [&committed, &removed] {
            let outcome = opened.committer.commit(commit).await.unwrap();
            assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
        }
        // As an engine's OPTIMIZE does: older versions still name the file.
        let gone = name(&removed.files()[0].path);
        let entry = format!(
            r#"{{"remove":{{"path":"{gone}","deletionTimestamp":{},"dataChange":false}}}}"#,
            SystemClock::start().wall_ms()
        );
        std::fs::write(folder.path().join("_delta_log/00000000000000000003.json"), entry).unwrap();
        let foreign = folder.path().join("part-00000-of-another-engine.parquet");
        let future = folder.path().join("part-29991231T000000Z-0123456789ab-000001.zstd.parquet");
        for file in [&foreign, &future] {
            std::fs::write(file, "rows").unwrap();
        }

        assert_eq!(sweep(&kernel, KEPT).await.unwrap(), 0, "all are young");
        assert_eq!(load(&kernel).await.unwrap().version(), 3, "nothing to say, nothing written");
        assert_eq!(sweep(&kernel, Duration::ZERO).await.unwrap(), 1);
        let mut left = [&committed, &removed].map(|commit| name(&commit.files()[0].path));
        left.sort();
        assert_eq!(files(&kernel).await, left);
        assert!(foreign.try_exists().unwrap() && future.try_exists().unwrap());

        let late = opened.committer.commit(&dropped).await.unwrap();
        let refused = CommitOutcome::Conflicted { cause: Conflict::TableAltered };
        assert_eq!(late, refused, "its file is gone");
        assert_eq!(sweep(&kernel, Duration::ZERO).await.unwrap(), 0);
        assert_eq!(load(&kernel).await.unwrap().version(), 4);
    }

    /// As in each table that is older than its log.
    #[tokio::test(flavor = "multi_thread")]
    async fn mn_1_files_that_only_a_log_checkpoint_names_stay() {
        let (folder, store, mut opened) = table().await;
        let kernel = Table::new(&store);
        let committed = staged(&store, &opened, 0, Round::new("t-1").new_range(0, 0, 3)).await;
        let removed = staged(&store, &opened, 1, Round::new("t-2").range(0, 3, 6)).await;
        staged(&store, &opened, 2, Round::new("t-3").range(0, 6, 9)).await;
        for commit in [&committed, &removed] {
            let outcome = opened.committer.commit(commit).await.unwrap();
            assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
        }
        let log = folder.path().join("_delta_log");
        let gone = name(&removed.files()[0].path);
        let now_ms = SystemClock::start().wall_ms();
        let entry = format!(
            r#"{{"remove":{{"path":"{gone}","deletionTimestamp":{now_ms},"dataChange":false}}}}"#
        );
        std::fs::write(log.join("00000000000000000003.json"), entry).unwrap();
        let checkpoint = |table: &Table| {
            let snapshot = table.load().unwrap();
            snapshot.checkpoint(table.engine.as_ref(), None).unwrap();
        };
        kernel.blocking(checkpoint).await.unwrap();
        for version in 0..=3 {
            std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
        }
        assert_eq!(sweep(&kernel, Duration::ZERO).await.unwrap(), 1);
        let mut left = [&committed, &removed].map(|commit| name(&commit.files()[0].path));
        left.sort();
        assert_eq!(files(&kernel).await, left);
    }

    /// Their files have names like ours, and no version of this table names them.
    #[tokio::test(flavor = "multi_thread")]
    async fn mn_1_the_files_of_a_table_within_the_tables_folder_stay() {
        let (folder, store, opened) = table().await;
        let dropped = staged(&store, &opened, 0, Round::new("t-1").new_range(0, 0, 3)).await;
        let name = name(&dropped.files()[0].path);
        let content = std::fs::read(folder.path().join(&name)).unwrap();
        let others = ["inner/day=1", "folder", "_backup"].map(|at| folder.path().join(at));
        for (index, other) in others.iter().enumerate() {
            std::fs::create_dir_all(other).unwrap();
            std::fs::write(
                other.join(name.replace("000001", &format!("00000{}", index + 2))),
                &content,
            )
            .unwrap();
        }
        for log in ["inner/_delta_log/0.json", "folder/_alluvium/table.json"] {
            let log = folder.path().join(log);
            std::fs::create_dir_all(log.parent().unwrap()).unwrap();
            std::fs::write(log, "{}").unwrap();
        }
        assert_eq!(sweep(&Table::new(&store), Duration::ZERO).await.unwrap(), 1);
        for other in others {
            assert_eq!(
                std::fs::read_dir(other)
                    .unwrap()
                    .filter(|entry| {
                        entry
                            .as_ref()
                            .unwrap()
                            .path()
                            .extension()
                            .is_some_and(|ending| ending == "parquet")
                    })
                    .count(),
                1
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_commit_that_is_newer_than_what_is_swept_is_taken() {
        let (_folder, store, mut opened) = table().await;
        let kernel = Table::new(&store);
        let running = staged(&store, &opened, 0, Round::new("t-1").new_range(0, 0, 3)).await;
        let newest = super::opened(&running.files()[0].path).unwrap();
        fence(&kernel, newest - 1).await.unwrap();
        let outcome = opened.committer.commit(&running).await.unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
    }

    /// Its `remove` may have left the log by then.
    #[tokio::test(flavor = "multi_thread")]
    async fn mn_1_a_file_that_may_have_been_in_a_version_that_nobody_knows_of_stays() {
        let (folder, store, opened) = table().await;
        let dropped = staged(&store, &opened, 0, Round::new("t-1").new_range(0, 0, 3)).await;
        let file = std::fs::File::options()
            .write(true)
            .open(folder.path().join(name(&dropped.files()[0].path)))
            .unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        let set = |age: Duration| file.set_modified(written - age).unwrap();
        let kernel = Table::new(&store);
        set(REMOVES_KEPT - MARGIN);
        assert_eq!(sweep(&kernel, KEPT).await.unwrap(), 0);
        set(KEPT - Duration::from_secs(60));
        assert_eq!(sweep(&kernel, KEPT).await.unwrap(), 0);
        set(Duration::ZERO);
        assert_eq!(sweep(&kernel, Duration::ZERO).await.unwrap(), 1);
    }
}
