//! Positions that are moved by a person's word: the one exception to OF-2.

use std::collections::BTreeMap;

use crate::ids::{CommitToken, TopicPartition};
use crate::offsets::{Offset, OffsetCheckpoint};
use crate::outcome::{CommitOutcome, Verdict};

/// Where one topic partition is moved from, and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetMove {
    /// Where the table must stand; `None` if it must not know the topic partition.
    pub from: Option<Offset>,
    /// Where it stands afterwards, before or behind that.
    pub to: Offset,
}

/// Moves some topic partitions of a connector that does not run, all in one version of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetReset {
    /// Marks the reset in the table.
    pub token: CommitToken,
    /// Whose word it is, for the table's history.
    pub by: String,
    /// What is moved.
    pub moves: BTreeMap<TopicPartition, OffsetMove>,
}

impl OffsetReset {
    /// Where the table stands afterwards for what is moved.
    pub fn positions(&self) -> OffsetCheckpoint {
        self.moves
            .iter()
            .map(|(topic_partition, moved)| (topic_partition.clone(), moved.to))
            .collect()
    }

    /// Judges the reset against what the table stores: it may follow only what the person has seen.
    /// Every sink must do it inside its compare-and-swap.
    ///
    /// | stored, of a moved topic partition | verdict |
    /// |---|---|
    /// | where it is to be moved from, for each of them | admitted |
    /// | behind that | `Fenced`: somebody has committed meanwhile |
    /// | before that, or absent | `RolledBack` |
    ///
    /// Where topic partitions differ, the answer is the gravest: `RolledBack`, then `Fenced`.
    pub fn judge(&self, stored: OffsetCheckpoint) -> Verdict {
        let elsewhere =
            |(tp, moved): &(&TopicPartition, &OffsetMove)| stored.next(tp) != moved.from;
        let misfits: Vec<_> = self.moves.iter().filter(elsewhere).collect();
        if misfits.is_empty() {
            return Verdict::Admitted;
        }
        // `None` is less than every offset.
        let behind = misfits.iter().any(|(tp, moved)| stored.next(tp) < moved.from);
        Verdict::Refused(match behind {
            true => CommitOutcome::RolledBack { stored },
            false => CommitOutcome::Fenced { stored },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TopicId;

    fn orders(partition: i32) -> TopicPartition {
        TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition }
    }

    /// Judges a reset of partition 0 from 10, and of partition 1 that must not be known.
    #[track_caller]
    fn check(stored: &[(i32, i64)], expected: &str) {
        let at = |offset| Offset::new(offset).unwrap();
        let reset = OffsetReset {
            token: CommitToken("r-1".into()),
            by: "me".into(),
            moves: [
                (orders(0), OffsetMove { from: Some(at(10)), to: at(5) }),
                (orders(1), OffsetMove { from: None, to: at(7) }),
            ]
            .into(),
        };
        let stored = stored.iter().map(|(partition, next)| (orders(*partition), at(*next)));
        let verdict = match reset.judge(stored.collect()) {
            Verdict::Admitted => "admitted",
            Verdict::Refused(CommitOutcome::Fenced { .. }) => "fenced",
            Verdict::Refused(CommitOutcome::RolledBack { .. }) => "rolled back",
            Verdict::Refused(_) => "another",
        };
        assert_eq!(verdict, expected);
    }

    #[test]
    fn of_2_a_person_may_move_positions_only_from_where_they_were_seen() {
        check(&[(0, 10)], "admitted");
        check(&[(0, 10), (2, 3)], "admitted");
        check(&[(0, 11)], "fenced");
        check(&[(0, 10), (1, 0)], "fenced");
        check(&[(0, 9)], "rolled back");
        check(&[], "rolled back");
        check(&[(0, 9), (1, 0)], "rolled back");
    }
}
