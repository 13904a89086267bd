//! The answers of a table to a commit. What may be expected to happen is a variant here and not an error.

use std::fmt;

use crate::error::Error;
use crate::offsets::{Admission, OffsetCheckpoint};
use crate::staged::StagedCommit;

/// Proof that a commit is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitReceipt {
    /// The table version that holds the commit.
    pub version: u64,
    /// Where the table stands for the commit's topic partitions.
    pub checkpoint: OffsetCheckpoint,
}

/// What became of a commit. Every variant is an answer, so every caller has to say what it does then.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum CommitOutcome {
    /// It is in the table.
    Committed(CommitReceipt),
    /// It was in the table already: an earlier request had landed and its answer was lost.
    AlreadyCommitted(CommitReceipt),
    /// Another worker is ahead (CM-2). Nothing was written.
    Fenced {
        /// Where the table stands for the commit's topic partitions.
        stored: OffsetCheckpoint,
    },
    /// The table is behind what it had confirmed, or no longer knows the topic partition. Nothing was written.
    RolledBack {
        /// Where the table stands for the commit's topic partitions.
        stored: OffsetCheckpoint,
    },
    /// The table has changed so that these files cannot be committed as they are. Nothing was written.
    Conflicted {
        /// What has changed.
        cause: Conflict,
    },
}

/// What stands between a commit and a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// Somebody altered the columns, the partitioning or the properties: reopen the table and write the files anew.
    TableAltered,
    /// The table was dropped and created again under the same name.
    TableReplaced,
    /// Somebody put the table back to an older version, after our last commit.
    TableRestored {
        /// The version that did it.
        version: u64,
    },
}

/// What a person can do about [`Conflict::TableRestored`].
pub const AFTER_RESTORE: &str = "rows that were committed may be gone from it, and the stored offsets do not tell. \
    Look which offsets the table still holds, and say where to read on by `alluvium offsets reset`";

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableAltered => f.write_str("the table was altered since it was opened"),
            Self::TableReplaced => {
                f.write_str("the table was dropped and created again since it was opened")
            }
            Self::TableRestored { version } => {
                write!(f, "version {version} restored the table to an older version")
            }
        }
    }
}

/// A commit without an answer.
#[derive(Debug)]
pub enum CommitError {
    /// The request was not sent: nothing has changed, and the commit may be tried again.
    NotSent(Error),
    /// The request may have landed. The only legal next call is `find(token)` (CM-3).
    Unknown(Error),
}

/// What the table knows of a token (CM-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenLookup {
    /// The commit is in the table.
    Found(CommitReceipt),
    /// It is not in the table, seen in a history that reaches back before the request. The commit
    /// may be sent again: a late arrival of the first request loses against it.
    NotFound,
    /// The history that could have held it is gone. That proves nothing; the stored offsets decide.
    Pruned {
        /// Where the table stands for the commit's topic partitions.
        stored: OffsetCheckpoint,
    },
}

/// How a staged commit relates to the offsets stored in the table: CM-2, with the one exception for new topic partitions.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Verdict {
    /// Commit it.
    Admitted,
    /// Answer this and write nothing.
    Refused(CommitOutcome),
}

impl StagedCommit {
    /// Judges the commit against what the table stores. Every sink must do it inside its compare-and-swap.
    ///
    /// | [`OffsetCheckpoint::admit`] | verdict |
    /// |---|---|
    /// | `Next` | admitted |
    /// | `Unknown`, and a start position was decided for each unknown topic partition | admitted |
    /// | `Unknown` otherwise | `RolledBack`: the table has forgotten it |
    /// | `Overlap` | `Fenced` |
    /// | `Behind`, and a start position was decided for each such topic partition | `Fenced`: another worker decided an earlier one, and its word is in the table |
    /// | `Behind` otherwise | `RolledBack` |
    pub fn judge(&self, stored: OffsetCheckpoint) -> Verdict {
        let new = self.new_topic_partitions();
        let lost = |stored: &OffsetCheckpoint| {
            self.delta().iter().any(|(tp, range)| {
                !new.contains(tp) && stored.next(tp).is_some_and(|next| next < range.start())
            })
        };
        let forgotten = |stored: &OffsetCheckpoint| {
            self.delta().topic_partitions().any(|tp| stored.next(tp).is_none() && !new.contains(tp))
        };
        match stored.admit(self.delta()) {
            Admission::Next => Verdict::Admitted,
            Admission::Unknown { .. } if !forgotten(&stored) => Verdict::Admitted,
            Admission::Overlap { .. } => Verdict::Refused(CommitOutcome::Fenced { stored }),
            Admission::Behind { .. } if !lost(&stored) && !forgotten(&stored) => {
                Verdict::Refused(CommitOutcome::Fenced { stored })
            }
            Admission::Unknown { .. } | Admission::Behind { .. } => {
                Verdict::Refused(CommitOutcome::RolledBack { stored })
            }
        }
    }
}
