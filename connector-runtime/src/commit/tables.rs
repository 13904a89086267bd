//! The tables of one connector, as a commit sees them: its own, the anchor, and that of its dead letters.
//!
//! Each round commits its dead letters first and the anchor last (DL-1). So what lies below the
//! anchor's checkpoint is in place in both tables, and reading restarts at the anchor alone.
//!
//! The dead-letter table is left alone by a round without dead letters. When it next gets some,
//! they account for all offsets from where it stands to the round's end: the anchor's earlier commits
//! prove that nothing between was a dead letter. After a restart the records between the anchor's
//! checkpoint and its own are read again, and those among them that are dead letters are in it
//! already and left out. This needs decoding to be a pure function of record and configuration, so a
//! round whose anchor is missing is only ended with the configuration that it began with.
//!
//! The table is made with its first dead letter: a connector without bad records has none.

use std::sync::Arc;

use connector_api::batch::{PartitionValues, TableBatch};
use connector_api::clock::Clock;
use connector_api::ids::TableId;
use connector_api::offsets::OffsetCheckpoint;
use connector_api::outcome::{CommitError, CommitOutcome, Conflict, TokenLookup};
use connector_api::sink::{OpenTable, Sink, TableCommitter, TableMaintenance, TableWriter};
use connector_api::staged::{StagedCommit, StagedFile};
use connector_api::{Context, Error, Result};

use super::refusals;
use super::settle::TableRole;
use crate::blocking::blocking;
use crate::config::ConnectorPlan;
use crate::write::naming::FileNames;
use crate::write::{dead_letters, staging};

/// The committers of a connector. It travels with the job that uses it, so no two use one at once.
#[derive(Debug)]
pub struct Tables {
    /// Commits to the connector's own table.
    pub anchor: Box<dyn TableCommitter>,
    /// Absent if records are not kept as dead letters.
    pub dead_letters: Option<DeadLetterTable>,
}

/// Where the tables of a connector stand.
#[derive(Debug, Clone, Default)]
pub struct Checkpoints {
    /// The connector's own table.
    pub anchor: OffsetCheckpoint,
    /// The table of its dead letters; empty if there is none.
    pub dead_letters: OffsetCheckpoint,
}

/// The table of dead letters, which may not exist yet.
#[derive(Debug)]
pub struct DeadLetterTable {
    sink: Arc<dyn Sink>,
    /// The connector's own table, which it must not be.
    anchor: TableId,
    plan: Arc<ConnectorPlan>,
    clock: Arc<dyn Clock>,
    names: FileNames,
    open: Option<OpenTable>,
}

impl Tables {
    /// Reads where the tables stand.
    pub async fn checkpoints(&mut self) -> Result<Checkpoints> {
        let anchor = self.anchor.checkpoint().await?;
        let dead_letters = match &mut self.dead_letters {
            Some(table) => {
                let stored = table.checkpoint().await.context(|| TableRole::DeadLetters.name())?;
                match table.decided_by_another(&anchor, &stored).await? {
                    // Another worker may have been between its two commits when we looked.
                    Some(refused) => {
                        let anchor = self.anchor.checkpoint().await?;
                        match table.decided_by_another(&anchor, &stored).await? {
                            Some(_) => return Err(refused),
                            None => return Ok(Checkpoints { anchor, dead_letters: stored }),
                        }
                    }
                    None => stored,
                }
            }
            None => OffsetCheckpoint::default(),
        };
        Ok(Checkpoints { anchor, dead_letters })
    }

    /// Commits to one of the tables.
    pub async fn commit(
        &mut self,
        role: TableRole,
        commit: &StagedCommit,
    ) -> Result<CommitOutcome, CommitError> {
        // Dead letters are those of the table's columns. With other ones the same records may be
        // rows, and those that are rows now dead letters.
        if role == TableRole::DeadLetters {
            let altered = self.anchor.conflict().await.map_err(CommitError::NotSent)?;
            if let Some(cause @ Conflict::TableAltered) = altered {
                return Ok(CommitOutcome::Conflicted { cause });
            }
        }
        let committed = self.committer(role).map_err(CommitError::NotSent)?.commit(commit).await;
        let named = |error: Error| match role {
            TableRole::Anchor => error,
            TableRole::DeadLetters => error.context(role.name()),
        };
        committed.map_err(|error| match error {
            CommitError::NotSent(error) => CommitError::NotSent(named(error)),
            CommitError::Unknown(error) => CommitError::Unknown(named(error)),
        })
    }

    /// Searches one of the tables for a commit.
    pub async fn find(&mut self, role: TableRole, commit: &StagedCommit) -> Result<TokenLookup> {
        self.committer(role)?.find(commit).await
    }

    /// Brings dead letters into the store, and creates their table if there is none.
    pub async fn stage_dead_letters(&mut self, rows: Vec<TableBatch>) -> Result<Vec<StagedFile>> {
        let table = self.dead_letters.as_mut().ok_or_else(no_dead_letters)?;
        table.stage(rows).await.context(|| TableRole::DeadLetters.name())
    }

    /// The upkeep of the dead-letter table, where there is one.
    pub fn dead_letter_maintenance(&self) -> Option<Arc<dyn TableMaintenance>> {
        self.dead_letters.as_ref()?.open.as_ref()?.maintenance.clone()
    }

    fn committer(&mut self, role: TableRole) -> Result<&mut Box<dyn TableCommitter>> {
        match role {
            TableRole::Anchor => Ok(&mut self.anchor),
            TableRole::DeadLetters => {
                let open = self.dead_letters.as_mut().and_then(|table| table.open.as_mut());
                Ok(&mut open.ok_or_else(no_dead_letters)?.committer)
            }
        }
    }
}

fn no_dead_letters() -> Error {
    Error::internal("dead letters, and no table for them")
}

impl DeadLetterTable {
    /// The table at a sink's location. Nothing is asked yet.
    pub fn new(
        sink: Arc<dyn Sink>,
        anchor: TableId,
        plan: Arc<ConnectorPlan>,
        run: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { sink, anchor, plan, clock, names: FileNames::new(run), open: None }
    }

    async fn checkpoint(&mut self) -> Result<OffsetCheckpoint> {
        if self.open.is_none() {
            self.open = match self.sink.open(&self.plan.name).await? {
                Some(table) => Some(self.another(table)?),
                None => None,
            };
        }
        match &mut self.open {
            Some(table) => table.committer.checkpoint().await,
            None => Ok(OffsetCheckpoint::default()),
        }
    }

    /// If a worker ended between the two commits of a round, why another configuration must not end
    /// it: what was a dead letter could become a row as well, and the reverse.
    async fn decided_by_another(
        &mut self,
        anchor: &OffsetCheckpoint,
        stored: &OffsetCheckpoint,
    ) -> Result<Option<Error>> {
        let Some(table) = &mut self.open else { return Ok(None) };
        for (tp, next) in stored.iter().filter(|(tp, next)| anchor.next(tp) < Some(*next)) {
            let decided = table.committer.fingerprint(tp).await;
            let decided = decided.context(|| TableRole::DeadLetters.name())?;
            if decided != Some(self.plan.fingerprint()) {
                let location = self.sink.location();
                return Ok(Some(refusals::round_of_another_configuration(
                    &self.plan,
                    location,
                    tp,
                    anchor.next(tp),
                    next,
                )));
            }
        }
        Ok(None)
    }

    /// Refuses the connector's own table, by whatever name it was reached.
    fn another(&self, table: OpenTable) -> Result<OpenTable> {
        if table.id != self.anchor {
            return Ok(table);
        }
        Err(Error::user(format!(
            "`{}` is the connector's own table; choose another `dead_letters.location`",
            self.sink.location()
        )))
    }

    async fn stage(&mut self, rows: Vec<TableBatch>) -> Result<Vec<StagedFile>> {
        let table = match &mut self.open {
            Some(table) => table,
            None => {
                let created = self.sink.create(&self.plan.name, &dead_letters::schema()).await?;
                let created = self.another(created)?;
                self.open.insert(created)
            }
        };
        let name = self.names.next(self.clock.wall_ms());
        let mut file = table.writers.open_file(
            &name,
            &PartitionValues::default(),
            &self.plan.fingerprint(),
        )?;
        let columns = table.schema.columns.clone();
        let encoded = blocking(move || -> Result<Box<dyn TableWriter>> {
            for batch in &rows {
                file.write(&dead_letters::fitted(batch, &columns)?)?;
            }
            file.finish()?;
            Ok(file)
        });
        staging::stage_all(vec![encoded.await??]).await
    }
}
