//! Moves positions by a person's word, as one version without files.
//!
//! Each attempt reads the newest version, looks for the reset's own token in all entries that are
//! within reach, judges, and writes the version after it or nothing. So a reset is not repeated by
//! who sends it again after a lost answer, also where the table has come back to where it began.
//!
//! Beside the positions, a `txn` action under [`offsets::reset_identity`] keeps the reset's own
//! version, so that each version tells since when offsets have only moved forward. That is what
//! [`log::look_up`] and `DeltaCommitter::attempt` go by.

use std::collections::BTreeMap;

use connector_api::outcome::{CommitError, CommitOutcome, CommitReceipt, Conflict, Verdict};
use connector_api::reset::OffsetReset;
use connector_api::{Error, Result};
use delta_kernel::snapshot::SnapshotRef;
use serde_json::json;

use super::{DeltaCommitter, NOBODY_PAUSE};
use crate::delta::version::{self, Content, Written};
use crate::delta::{log, offsets};

/// The keys of `commitInfo.operationParameters` that tell of a reset.
const BY: &str = "alluvium.reset.by";
const FROM: &str = "alluvium.reset.from";
const TO: &str = "alluvium.reset.to";

impl DeltaCommitter {
    /// Tries until the reset is in the table, refused by the newest version, or without an answer.
    pub(super) async fn move_positions(
        &mut self,
        reset: &OffsetReset,
    ) -> Result<CommitOutcome, CommitError> {
        let give_up = self.clock.now() + self.table.store.deadline;
        let mut before = None;
        // After the first request every failure leaves a doubt, as with a commit.
        let failed = |sent: bool, error: Error| match sent {
            true => CommitError::Unknown(error),
            false => CommitError::NotSent(error),
        };
        loop {
            let sent = before.is_some();
            if sent && self.clock.now() > give_up {
                let lost = Error::external("other writers of the table were faster each time");
                return Err(failed(sent, lost));
            }
            let seen = self.clock.now();
            let (newest, conflict) = self.refresh().await.map_err(|e| failed(sent, e))?;
            // An altered table takes positions as before: no file is concerned.
            if let Some(cause @ Conflict::TableReplaced) = conflict {
                return Ok(CommitOutcome::Conflicted { cause });
            }
            let answer = self.answer(&newest, reset).await.map_err(|e| failed(sent, e))?;
            if let Some(outcome) = answer {
                return Ok(outcome);
            }
            if before == Some(newest.version()) {
                tokio::time::sleep(NOBODY_PAUSE).await;
            }
            before = Some(newest.version());
            let version = newest.version() + 1;
            match version::create_next(&self.table, newest, self.reset_content(version, reset))
                .await
            {
                Ok(Written::Created { .. }) => {
                    self.check_standstill(seen, version)?;
                    return Ok(CommitOutcome::Committed(receipt(version, reset)));
                }
                Ok(Written::Exists) => {}
                Err(CommitError::NotSent(error)) => return Err(failed(sent, error)),
                Err(unknown) => return Err(unknown),
            }
        }
    }

    /// The answer that this version gives by itself: it holds the reset, or refuses it.
    async fn answer(
        &self,
        newest: &SnapshotRef,
        reset: &OffsetReset,
    ) -> Result<Option<CommitOutcome>> {
        let found = log::find_token(&self.table.store, &reset.token, newest.version()).await?;
        if let Some(version) = found {
            return Ok(Some(CommitOutcome::AlreadyCommitted(receipt(version, reset))));
        }
        let of = reset.moves.keys().cloned().collect();
        Ok(match reset.judge(self.standing(newest, of).await?.stored) {
            Verdict::Admitted => None,
            Verdict::Refused(outcome) => Some(outcome),
        })
    }

    fn reset_content(&self, version: u64, reset: &OffsetReset) -> Content {
        let named = |offset: Option<i64>, tp: &connector_api::ids::TopicPartition| {
            (tp.identity(&self.connector), json!(offset))
        };
        let from = reset.moves.iter().map(|(tp, moved)| named(moved.from.map(|at| at.get()), tp));
        let to = reset.moves.iter().map(|(tp, moved)| named(Some(moved.to.get()), tp));
        let spelled = |offsets: BTreeMap<_, _>| json!(offsets).to_string();
        let numbers =
            reset.moves.iter().map(|(tp, to)| (tp.identity(&self.connector), to.to.get()));
        let marker = i64::try_from(version).unwrap_or(i64::MAX);
        Content {
            parameters: vec![
                (log::TOKEN, reset.token.0.clone()),
                (log::CONNECTOR, self.connector.to_string()),
                (BY, reset.by.clone()),
                (FROM, spelled(from.collect())),
                (TO, spelled(to.collect())),
            ],
            numbers: numbers.chain([(offsets::reset_identity(&self.connector), marker)]).collect(),
            files: Vec::new(),
        }
    }
}

fn receipt(version: u64, reset: &OffsetReset) -> CommitReceipt {
    CommitReceipt { version, checkpoint: reset.positions() }
}
