//! What follows from a table's answer: a pure decision.

use connector_api::Error;
use connector_api::offsets::OffsetCheckpoint;
use connector_api::outcome::{AFTER_RESTORE, CommitOutcome, CommitReceipt, Conflict};
use connector_api::staged::StagedCommit;

/// The tables of one connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableRole {
    /// The connector's own table. It is committed last, and reading restarts where it stands.
    Anchor,
    /// The table of its dead letters.
    DeadLetters,
}

/// Why a round is dropped that another worker's commit has overtaken.
pub const OVERTAKEN: &str = "another worker is ahead";

/// How a round ends.
#[derive(Debug)]
pub enum Settle {
    /// Its rows are visible.
    Settled(CommitReceipt),
    /// It is dropped. Its topic partitions are read again from where the table stands.
    Reseek {
        /// The table that answered.
        role: TableRole,
        /// Where that table stands, as far as the answer says; the rest stands where the round started.
        stored: OffsetCheckpoint,
        /// Why, for the log.
        why: &'static str,
    },
    /// It is dropped, and the table is opened again: its columns are no longer those of the files.
    Reopen(Conflict),
    /// The connector stops with this error.
    Stop(Error),
}

impl TableRole {
    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anchor => "the table",
            Self::DeadLetters => "the dead-letter table",
        }
    }
}

/// Decides how a round ends.
///
/// | answer | end |
/// |---|---|
/// | `Committed`, `AlreadyCommitted` | settled |
/// | `Fenced` | dropped, read on from the stored offsets: somebody else has committed these records |
/// | `RolledBack` | stop: the table forgot records that it had confirmed, a person must decide |
/// | `Conflicted`, altered | dropped, table opened again, records decoded for its new columns |
/// | `Conflicted`, replaced | stop: the table is another one, a person must decide |
/// | `Conflicted`, restored | stop: rows are gone, a person must decide |
pub fn settle(role: TableRole, outcome: CommitOutcome, commit: &StagedCommit) -> Settle {
    match outcome {
        CommitOutcome::Committed(receipt) | CommitOutcome::AlreadyCommitted(receipt) => {
            Settle::Settled(receipt)
        }
        CommitOutcome::Fenced { stored } => Settle::Reseek { role, stored, why: OVERTAKEN },
        CommitOutcome::RolledBack { stored } => Settle::Stop(rolled_back(role, commit, &stored)),
        CommitOutcome::Conflicted { cause: Conflict::TableAltered } => {
            Settle::Reopen(Conflict::TableAltered)
        }
        CommitOutcome::Conflicted { cause: Conflict::TableReplaced } => {
            let go_on = match role {
                TableRole::Anchor => {
                    "To fill the new table, run `alluvium offsets reset`, and start the connector again"
                }
                TableRole::DeadLetters => "To go on with the new one, start the connector again",
            };
            Settle::Stop(Error::decision(format!(
                "{} was dropped and created again while the connector ran; its rows and offsets are gone. {go_on}",
                role.name()
            )))
        }
        CommitOutcome::Conflicted { cause: cause @ Conflict::TableRestored { .. } } => {
            let of = match role {
                TableRole::Anchor => "",
                TableRole::DeadLetters => "the dead-letter table: ",
            };
            Settle::Stop(Error::decision(format!("{of}{cause}; {AFTER_RESTORE}")))
        }
    }
}

fn rolled_back(role: TableRole, commit: &StagedCommit, stored: &OffsetCheckpoint) -> Error {
    let behind: Vec<String> = commit
        .delta()
        .iter()
        .filter(|(tp, range)| stored.next(tp) != Some(range.start()))
        .map(|(tp, range)| match stored.next(tp) {
            Some(next) => format!(
                "{tp}: the table stands at offset {next}, we had committed up to {}",
                range.start()
            ),
            None => format!(
                "{tp}: the table no longer knows it, we had committed up to {}",
                range.start()
            ),
        })
        .collect();
    let go_on = match role {
        TableRole::Anchor => "To read on from where it stands now, run `alluvium offsets reset`",
        TableRole::DeadLetters => "To go on from where it stands now, start the connector again",
    };
    Error::decision(format!(
        "{} went back behind what it had confirmed ({}). Was it restored to an older version, or moved by \
         `alluvium offsets reset`? {go_on}",
        role.name(),
        behind.join("; ")
    ))
}
