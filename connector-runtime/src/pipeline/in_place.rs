//! Dead letters that are in their table while the anchor does not know of them yet.
//!
//! A round commits its dead letters first. If somebody alters the table before the anchor follows,
//! the connector starts again inside of the worker with the new columns, and reads the round's
//! records again: of those that were decided to be dead letters some would be rows now. They are
//! not: what is in the dead-letter table stays there, once, and becomes nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use connector_api::decoded::Rejected;
use connector_api::ids::TopicPartition;
use connector_api::offsets::{Offset, OffsetCheckpoint, OffsetDelta, OffsetRange};
use connector_api::{Error, Result};

/// Offsets by topic partition.
pub(super) type Letters = BTreeMap<TopicPartition, BTreeSet<i64>>;

/// Of one connector, as long as its worker lives.
#[derive(Debug, Default)]
pub struct InPlace(Mutex<BTreeMap<TopicPartition, Ahead>>);

/// How far the dead-letter table is ahead in one topic partition.
#[derive(Debug)]
struct Ahead {
    /// Where it stands: all before is decided.
    next: Offset,
    letters: BTreeSet<i64>,
}

impl InPlace {
    fn ahead(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Ahead>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The dead letters of a round are in their table, which stands at `stored` now.
    pub(super) fn committed(&self, letters: &Letters, stored: &OffsetCheckpoint) {
        let mut all = self.ahead();
        for (topic_partition, next) in stored.iter() {
            let empty = || Ahead { next, letters: BTreeSet::new() };
            let ahead = all.entry(topic_partition.clone()).or_insert_with(empty);
            ahead.next = next;
            ahead.letters.extend(letters.get(topic_partition).into_iter().flatten());
        }
    }

    /// The anchor has followed, if not always all the way.
    pub(super) fn settled(&self, delta: &OffsetDelta) {
        let mut all = self.ahead();
        for (topic_partition, range) in delta.iter() {
            if all.get(topic_partition).is_some_and(|ahead| ahead.next <= range.end()) {
                all.remove(topic_partition);
            }
        }
    }

    /// Where the tables of a topic partition stand that is given to us. What others have decided of it
    /// meanwhile, or a person has moved, is not what we remember.
    pub(super) fn assigned(
        &self,
        topic_partition: &TopicPartition,
        anchor: Option<Offset>,
        dead_letters: Option<Offset>,
    ) {
        let mut all = self.ahead();
        let stays = |ahead: &Ahead| Some(ahead.next) == dead_letters && anchor < dead_letters;
        if all.get(topic_partition).is_some_and(|ahead| !stays(ahead)) {
            all.remove(topic_partition);
        }
    }

    /// The dead-letter table refused us, since it stands there: what others have decided is not what we
    /// remember.
    pub(super) fn overtaken(&self, stored: &OffsetCheckpoint) {
        let mut all = self.ahead();
        for (topic_partition, next) in stored.iter() {
            if all.get(topic_partition).is_some_and(|ahead| ahead.next != next) {
                all.remove(topic_partition);
            }
        }
    }

    /// Those within a range; `None` if the dead-letter table is not ahead.
    pub(super) fn within(
        &self,
        topic_partition: &TopicPartition,
        range: OffsetRange,
    ) -> Option<BTreeSet<i64>> {
        let all = self.ahead();
        let letters = &all.get(topic_partition)?.letters;
        Some(letters.range(range.start().get()..range.end().get()).copied().collect())
    }
}

/// Refuses a record that was decided to be a row, and cannot be one any more, where the dead-letter
/// table has gone past it.
pub(super) fn check_late(rejected: &[Rejected], dead_letters_from: Offset) -> Result<()> {
    let late = rejected.iter().find(|rejected| rejected.origin.offset < dead_letters_from);
    let Some(Rejected { origin, cause, .. }) = late else { return Ok(()) };
    Err(Error::decision(format!(
        "the table was altered while a round was half committed: the record at {origin} was a row for its former \
         columns and is none for its present ones ({cause}), and the dead-letter table stands at {dead_letters_from}. \
         Give the table back what it had, or run `alluvium offsets reset`, which reads these records anew and may \
         put dead letters of the round there a second time"
    )))
}

#[cfg(test)]
mod tests {
    use connector_api::ids::TopicId;

    use super::*;

    fn orders() -> TopicPartition {
        TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition: 0 }
    }

    fn range(start: i64, end: i64) -> OffsetRange {
        let at = |offset| Offset::new(offset).unwrap();
        OffsetRange::new(at(start), at(end)).unwrap()
    }

    fn settle(in_place: &InPlace, start: i64, end: i64) {
        let mut delta = OffsetDelta::default();
        delta.append(&orders(), range(start, end)).unwrap();
        in_place.settled(&delta);
    }

    #[test]
    fn dl_1_letters_are_known_until_the_anchor_has_passed_their_table() {
        let in_place = InPlace::default();
        let found = |start, end| {
            let letters = in_place.within(&orders(), range(start, end));
            letters.map(|letters| letters.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(found(0, 100), None);
        let letters = [(orders(), [12, 15, 27].into())].into();
        let stored = [(orders(), range(0, 30).end())].into_iter().collect();
        in_place.committed(&letters, &stored);
        assert_eq!(found(10, 20), Some(vec![12, 15]));
        assert_eq!(found(16, 20), Some(vec![]));
        settle(&in_place, 10, 20);
        assert_eq!(found(20, 40), Some(vec![27]), "the anchor came half the way");
        settle(&in_place, 20, 30);
        assert_eq!(found(20, 40), None);
    }

    #[test]
    fn who_is_overtaken_forgets_what_it_remembered() {
        for (stored, stays) in [(30, true), (278, false), (20, false)] {
            let in_place = InPlace::default();
            let at = |end| [(orders(), range(0, end).end())].into_iter().collect();
            in_place.committed(&[(orders(), [12].into())].into(), &at(30));
            in_place.overtaken(&at(stored));
            assert_eq!(in_place.within(&orders(), range(0, 20)).is_some(), stays, "{stored}");
        }
    }

    #[test]
    fn what_others_have_moved_since_is_forgotten() {
        let at = |offset| Offset::new(offset);
        for (anchor, dead_letters, stays) in [
            (at(10), at(30), true),
            (None, at(30), true),
            (at(10), at(40), false),
            (at(30), at(30), false),
            (at(0), at(0), false),
        ] {
            let in_place = InPlace::default();
            let letters = [(orders(), [12].into())].into();
            in_place.committed(&letters, &[(orders(), range(0, 30).end())].into_iter().collect());
            in_place.assigned(&orders(), anchor, dead_letters);
            let found = in_place.within(&orders(), range(0, 20)).is_some();
            assert_eq!(found, stays, "{anchor:?} {dead_letters:?}");
        }
    }
}
