//! A complete small sink: JSON lines in a folder on local disk. `docs/write-a-sink.md` goes through it.
//!
//! | file | what it is |
//! |---|---|
//! | `table.json` | the table's id and columns |
//! | `00000007.version.json` | one commit: files, offsets and token, in one object (CM-1) |
//! | `NAME.jsonl` | rows; those that no version names are no part of the table (WR-1) |

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::LineDelimitedWriter;
use async_trait::async_trait;
use connector_api::batch::{PartitionValues, TableBatch, TableSchema};
use connector_api::ids::{CommitToken, ConnectorName, TableId, TopicPartition};
use connector_api::offsets::{Offset, OffsetCheckpoint, OffsetDelta};
use connector_api::outcome::{
    CommitError, CommitOutcome, CommitReceipt, Conflict, TokenLookup, Verdict,
};
use connector_api::reset::OffsetReset;
use connector_api::sink::{
    FileStatus, OpenTable, Sink, TableCommitter, TableReader, TableWriter, TableWriters,
};
use connector_api::staged::{SinkData, StagedCommit, StagedFile};
use connector_api::{Error, Result};
use serde::{Deserialize, Serialize};

/// A folder in which a table is, or may be.
#[derive(Debug, Clone)]
pub(crate) struct LinesSink(pub(crate) PathBuf);

/// What `table.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct TableFile {
    id: String,
    columns: Vec<(String, String)>,
}

/// What one commit made visible.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Version {
    token: String,
    fingerprint: Option<String>,
    pub(crate) files: Vec<String>,
    /// The next offset by [`TopicPartition::identity`].
    offsets: BTreeMap<String, i64>,
}

#[async_trait]
impl Sink for LinesSink {
    fn location(&self) -> &str {
        self.0.to_str().unwrap_or("a folder")
    }

    async fn open(&self, connector: &ConnectorName) -> Result<Option<OpenTable>> {
        let Some(table) = self.table()? else { return Ok(None) };
        let field = |(name, data_type): &(String, String)| {
            let data_type: DataType = data_type.parse().map_err(|e| failed("read columns", e))?;
            Ok(Field::new(name, data_type, true))
        };
        let columns = table.columns.iter().map(field).collect::<Result<Vec<_>>>()?;
        let columns = Arc::new(Schema::new(columns));
        let id = TableId(table.id);
        Ok(Some(OpenTable {
            id: id.clone(),
            schema: TableSchema { columns: columns.clone(), partition_columns: Vec::new() },
            writers: Arc::new(LinesWriters { folder: self.0.clone(), columns }),
            committer: Box::new(LinesCommitter {
                sink: self.clone(),
                id,
                connector: connector.clone(),
            }),
            maintenance: None,
        }))
    }

    async fn create(&self, connector: &ConnectorName, schema: &TableSchema) -> Result<OpenTable> {
        let columns = schema.columns.fields().iter();
        let table = TableFile {
            id: uuid::Uuid::new_v4().to_string(),
            columns: columns.map(|c| (c.name().clone(), c.data_type().to_string())).collect(),
        };
        fs::create_dir_all(&self.0).map_err(|e| failed("create the folder", e))?;
        // If somebody else was first, theirs is the table.
        create_new(&self.0, "table.json", &table)?;
        self.open(connector).await?.ok_or_else(|| Error::external("the table is gone again"))
    }

    async fn read(&self) -> Result<Option<Arc<dyn TableReader>>> {
        Err(Error::user("this sink has no reader for `alluvium query`"))
    }
}

impl LinesSink {
    fn table(&self) -> Result<Option<TableFile>> {
        read_json(&self.0.join("table.json"))
    }

    /// All versions, oldest first.
    pub(crate) fn versions(&self) -> Result<Vec<Version>> {
        let mut versions = Vec::new();
        while let Some(version) = read_json(&self.0.join(version_name(versions.len() + 1)))? {
            versions.push(version);
        }
        Ok(versions)
    }
}

fn version_name(version: usize) -> String {
    format!("{version:08}.version.json")
}

/// Creates a file with its whole content, or returns false if it is there. This is the
/// compare-and-swap: of two that create version 8, one wins (CM-2).
fn create_new(folder: &Path, name: &str, content: &impl Serialize) -> Result<bool> {
    let temporary = folder.join(format!(".{}", uuid::Uuid::new_v4()));
    let write = || -> std::io::Result<bool> {
        let mut file = File::create_new(&temporary)?;
        serde_json::to_writer(&mut file, content)?;
        file.sync_all()?;
        let created = match fs::hard_link(&temporary, folder.join(name)) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        fs::remove_file(&temporary)?;
        File::open(folder)?.sync_all()?;
        Ok(created)
    };
    write().map_err(|e| failed(&format!("create `{name}`"), e))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(content) => serde_json::from_slice(&content).map(Some).map_err(|e| failed("read", e)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&format!("read `{}`", path.display()), error)),
    }
}

fn failed(doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::external(format!("failed to {doing}")).with_source(error)
}

#[derive(Debug)]
struct LinesWriters {
    folder: PathBuf,
    columns: SchemaRef,
}

impl TableWriters for LinesWriters {
    fn open_file(&self, name: &str, _: &PartitionValues, _: &str) -> Result<Box<dyn TableWriter>> {
        Ok(Box::new(LinesWriter {
            folder: self.folder.clone(),
            name: format!("{name}.jsonl"),
            lines: Vec::new(),
            rows: 0,
            delta: OffsetDelta::default(),
            columns: self.columns.clone(),
            finished: false,
        }))
    }
}

/// One file in memory. It reaches the disk when it is complete.
struct LinesWriter {
    folder: PathBuf,
    name: String,
    lines: Vec<u8>,
    rows: u64,
    delta: OffsetDelta,
    columns: SchemaRef,
    finished: bool,
}

#[async_trait]
impl TableWriter for LinesWriter {
    fn write(&mut self, batch: &TableBatch) -> Result<()> {
        if self.finished {
            return Err(Error::internal("a row came after its file was finished"));
        }
        let given = batch.rows().schema_ref().fields().iter().map(|field| field.name());
        if !given.eq(self.columns.fields().iter().map(|field| field.name())) {
            return Err(Error::internal("rows do not have the table's columns"));
        }
        let mut writer = LineDelimitedWriter::new(&mut self.lines);
        writer.write(batch.rows()).map_err(|e| failed("encode rows", e))?;
        self.rows += batch.rows().num_rows() as u64;
        self.delta.cover(batch.topic_partition(), batch.range());
        Ok(())
    }

    fn status(&self) -> FileStatus {
        let bytes = self.lines.len() as u64;
        FileStatus { rows: self.rows, encoded_bytes: bytes, memory_bytes: bytes }
    }

    fn finish(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.finished, true) {
            true => Err(Error::internal("a file was finished twice")),
            false => Ok(()),
        }
    }

    async fn stage(&mut self) -> Result<StagedFile> {
        if !self.finished {
            return Err(Error::internal("a file was staged before it was finished"));
        }
        let path = self.folder.join(&self.name);
        let written = File::create(&path)
            .and_then(|mut file| file.write_all(&self.lines).and_then(|()| file.sync_all()));
        written.map_err(|e| failed("write rows", e))?;
        Ok(StagedFile {
            path: self.name.clone(),
            rows: self.rows,
            bytes: self.lines.len() as u64,
            partition_values: PartitionValues::default(),
            delta: self.delta.clone(),
            sink_data: SinkData::new(()),
        })
    }
}

#[derive(Debug)]
struct LinesCommitter {
    sink: LinesSink,
    id: TableId,
    connector: ConnectorName,
}

impl LinesCommitter {
    fn checkpoint_of(&self, versions: &[Version]) -> OffsetCheckpoint {
        // Later versions overwrite earlier ones: a reset may move back.
        let newest: BTreeMap<&String, i64> = versions
            .iter()
            .flat_map(|version| version.offsets.iter().map(|(identity, next)| (identity, *next)))
            .collect();
        let ours = |(identity, next): (&String, i64)| {
            Some((TopicPartition::from_identity(&self.connector, identity)?, Offset::new(next)?))
        };
        newest.into_iter().filter_map(ours).collect()
    }

    fn stored<'a>(
        &self,
        versions: &[Version],
        of: impl Iterator<Item = &'a TopicPartition>,
    ) -> OffsetCheckpoint {
        let all = self.checkpoint_of(versions);
        of.filter_map(|tp| Some((tp.clone(), all.next(tp)?))).collect()
    }

    fn conflict_now(&self) -> Result<Option<Conflict>> {
        let same = self.sink.table()?.is_some_and(|table| table.id == self.id.0);
        Ok((!same).then_some(Conflict::TableReplaced))
    }

    /// Writes the version after the newest, as long as `judge` admits it there.
    fn write(
        &self,
        token: &CommitToken,
        next: &Version,
        judge: impl Fn(&[Version]) -> Verdict,
        receipt: impl Fn(u64) -> CommitReceipt,
    ) -> Result<CommitOutcome> {
        loop {
            if let Some(cause) = self.conflict_now()? {
                return Ok(CommitOutcome::Conflicted { cause });
            }
            let versions = self.sink.versions()?;
            if let Some(version) = position(&versions, token) {
                return Ok(CommitOutcome::AlreadyCommitted(receipt(version)));
            }
            if let Verdict::Refused(outcome) = judge(&versions) {
                return Ok(outcome);
            }
            let version = versions.len() + 1;
            if create_new(&self.sink.0, &version_name(version), next)? {
                return Ok(CommitOutcome::Committed(receipt(version as u64)));
            }
        }
    }
}

fn position(versions: &[Version], token: &CommitToken) -> Option<u64> {
    let found = versions.iter().position(|version| version.token == token.0)?;
    Some(found as u64 + 1)
}

fn receipt(version: u64, commit: &StagedCommit) -> CommitReceipt {
    let mut checkpoint = OffsetCheckpoint::default();
    checkpoint.advance(commit.delta());
    CommitReceipt { version, checkpoint }
}

#[async_trait]
impl TableCommitter for LinesCommitter {
    async fn checkpoint(&mut self) -> Result<OffsetCheckpoint> {
        Ok(self.checkpoint_of(&self.sink.versions()?))
    }

    async fn fingerprint(&mut self, of: &TopicPartition) -> Result<Option<String>> {
        let (identity, versions) = (of.identity(&self.connector), self.sink.versions()?);
        let mut newest = versions.into_iter().rev();
        let found = newest.find(|version| version.offsets.contains_key(&identity));
        Ok(found.and_then(|version| version.fingerprint))
    }

    async fn conflict(&mut self) -> Result<Option<Conflict>> {
        self.conflict_now()
    }

    async fn commit(&mut self, commit: &StagedCommit) -> Result<CommitOutcome, CommitError> {
        let moved = commit.delta().iter();
        let next = Version {
            token: commit.token().0.clone(),
            fingerprint: Some(commit.fingerprint().to_owned()),
            files: commit.files().iter().map(|file| file.path.clone()).collect(),
            offsets: moved.map(|(tp, r)| (tp.identity(&self.connector), r.end().get())).collect(),
        };
        let judge = |versions: &[Version]| {
            commit.judge(self.stored(versions, commit.delta().topic_partitions()))
        };
        // Whether an error came before or after the version was there: only a look tells.
        self.write(commit.token(), &next, judge, |version| receipt(version, commit))
            .map_err(CommitError::Unknown)
    }

    async fn find(&mut self, commit: &StagedCommit) -> Result<TokenLookup> {
        // All history is kept: what is not in it was not committed.
        let found = position(&self.sink.versions()?, commit.token());
        Ok(found.map_or(TokenLookup::NotFound, |v| TokenLookup::Found(receipt(v, commit))))
    }

    async fn reset(&mut self, reset: &OffsetReset) -> Result<CommitOutcome, CommitError> {
        let moved = reset.moves.iter();
        let next = Version {
            token: reset.token.0.clone(),
            offsets: moved.map(|(tp, to)| (tp.identity(&self.connector), to.to.get())).collect(),
            ..Version::default()
        };
        let judge = |versions: &[Version]| reset.judge(self.stored(versions, reset.moves.keys()));
        let receipt = |version| CommitReceipt { version, checkpoint: reset.positions() };
        self.write(&reset.token, &next, judge, receipt).map_err(CommitError::Unknown)
    }
}
