//! What must always be true, checked at every change of the store and whenever a commit is sent, and the
//! comparison with the log at the end.
//!
//! | invariant | what is looked at |
//! |---|---|
//! | OF-2 | no position in a ledger, or in a log's `txn`s, ever moves back |
//! | CM-1 | no file is visible before its offsets are: its rows lie below the positions |
//! | FN-1 | no commit is sent that names a topic partition which its worker has handed back |
//! | DL-1 | whatever lies below the table's positions and is bad, the dead letters' positions cover |
//! | nothing twice | no offset is in two files that readers see |
//! | nothing else | each row is the record at its offset |
//! | nothing lost | at the end each record is a row, a dead letter or a tombstone |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::World;
use crate::broker::{Broker, Entry};
use crate::fences::Fences;

/// The folder of the table and that of its dead letters.
pub(crate) const TABLE: &str = "orders";
pub(crate) const DEAD_LETTERS: &str = "orders_dead_letters";
/// How the names of files begin that are none of ours.
pub(crate) const FOREIGN: &str = "foreign-";

/// Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    world: World,
    broker: Broker,
    is_delta: bool,
    pub(crate) fences: Fences,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    folders: BTreeMap<String, Folder>,
    /// How long each record took to be seen.
    visible_after: Vec<Duration>,
    /// How often positions moved.
    commits: usize,
}

#[derive(Debug, Default)]
struct Folder {
    /// The next offsets in the ledger.
    positions: BTreeMap<i32, i64>,
    /// The file of each record that readers see.
    rows: BTreeMap<(i32, i64), String>,
    /// The files that readers see.
    files: BTreeSet<String>,
    /// What is in the folder of a Delta table, seen or not.
    contents: BTreeMap<String, Bytes>,
    /// The version of a Delta table.
    version: u64,
    /// The commits that are in the table.
    tokens: BTreeSet<String>,
}

/// A commit, as the store is given it.
struct Commit {
    token: String,
    partitions: Vec<i32>,
}

impl Commit {
    /// `None` for a version that moves no position.
    fn of_entry(content: &[u8]) -> Option<Self> {
        let actions = actions(content);
        let identities = actions.iter().filter_map(|action| action["txn"]["appId"].as_str());
        let partitions: Vec<i32> = identities.filter_map(partition_of).collect();
        let token = |action: &Value| {
            let token = &action["commitInfo"]["operationParameters"]["alluvium.token"];
            token.as_str().map(str::to_owned)
        };
        let token = || actions.iter().find_map(token).expect("positions move by commits of ours");
        (!partitions.is_empty()).then(|| Self { token: token(), partitions })
    }

    /// `None` for a ledger without a commit.
    fn of_ledger(content: &[u8]) -> Option<Self> {
        let ledger: Value = serde_json::from_slice(content).unwrap();
        let last = ledger["history"].as_array().unwrap().last()?;
        let identities = last["offsets"].as_object().unwrap().keys();
        let partitions = identities.map(|identity| partition_of(identity).unwrap()).collect();
        Some(Self { token: last["token"].as_str().unwrap().to_owned(), partitions })
    }
}

/// The actions of a version of a Delta table.
fn actions(content: &[u8]) -> Vec<Value> {
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// `None` for an identity that is not a topic partition's.
fn partition_of(identity: &str) -> Option<i32> {
    identity.rsplit('/').next()?.parse().ok()
}

impl Judge {
    pub(crate) fn new(world: &World, broker: &Broker, is_delta: bool) -> Self {
        Self {
            world: world.clone(),
            broker: broker.clone(),
            is_delta,
            fences: Fences::default(),
            seen: Arc::default(),
        }
    }

    /// The version of the Delta table, and the files that it names, for who rewrites them.
    pub(crate) fn live(&self) -> (u64, Vec<(String, Bytes)>) {
        let seen = self.seen.lock().unwrap();
        let Some(of) = seen.folders.get(TABLE) else { return (0, Vec::new()) };
        let content = |name: &String| Some((name.clone(), of.contents.get(name)?.clone()));
        (of.version, of.files.iter().filter_map(content).collect())
    }

    /// An object is sent to the store, whatever becomes of that.
    pub(crate) fn sent(&self, path: &Path, content: &[u8]) {
        let path = path.to_string();
        let Some((folder, name)) = path.split_once('/') else { return };
        let commit = if name.starts_with("_delta_log/") && name.ends_with(".json") {
            Commit::of_entry(content)
        } else if name.ends_with(".ledger.json") {
            Commit::of_ledger(content)
        } else {
            None
        };
        let Some(Commit { token, partitions }) = commit else { return };
        // A ledger is also written when files are published, with the last commit in it, whosever it was.
        let mut seen = self.seen.lock().unwrap();
        if seen.folders.entry(folder.to_owned()).or_default().tokens.contains(&token) {
            return;
        }
        for partition in partitions {
            if let Some(worker) = self.fences.who_handed_back(&token, partition) {
                self.world.violate(format_args!(
                    "FN-1: {folder}: commit {token} names partition {partition}, which worker {worker} has handed back"
                ));
            }
        }
    }

    /// An object has this content now, or is gone.
    pub(crate) fn changed(&self, path: &Path, content: Option<Bytes>) {
        let path = path.to_string();
        let Some((folder, name)) = path.split_once('/') else { return };
        if let Some(entry) = name.strip_prefix("_delta_log/") {
            if let (Some(version), Some(content)) = (entry.strip_suffix(".json"), content)
                && let Ok(version) = version.parse()
            {
                self.entry(folder, version, &content);
            }
        } else if self.is_delta && name.ends_with(".parquet") {
            let mut seen = self.seen.lock().unwrap();
            let of = seen.folders.entry(folder.to_owned()).or_default();
            match content {
                Some(content) => drop(of.contents.insert(name.to_owned(), content)),
                None => self.world.violate(format_args!("{path} was removed")),
            }
        } else if name.ends_with(".ledger.json") {
            match content {
                Some(content) => self.ledger(folder, &content),
                None => self.world.violate(format_args!("{path} was removed")),
            }
        } else if name.ends_with(".parquet") && !name.starts_with("_alluvium/") {
            match content {
                Some(content) => self.file(folder, name, content),
                None => self.world.violate(format_args!("{path} was removed")),
            }
        }
    }

    fn ledger(&self, folder: &str, content: &[u8]) {
        let ledger: Value = serde_json::from_slice(content).unwrap();
        let positions: BTreeMap<i32, i64> = ledger["offsets"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(identity, next)| (partition_of(identity).unwrap(), next.as_i64().unwrap()))
            .collect();
        self.stands_at(folder, positions);
        self.keep_token(folder, Commit::of_ledger(content));
    }

    /// A version of a Delta table.
    fn entry(&self, folder: &str, version: u64, content: &[u8]) {
        let actions = actions(content);
        let mut positions = {
            let mut seen = self.seen.lock().unwrap();
            let of = seen.folders.entry(folder.to_owned()).or_default();
            of.version = version;
            of.positions.clone()
        };
        for action in &actions {
            let Some(identity) = action["txn"]["appId"].as_str() else { continue };
            if let Some(partition) = partition_of(identity) {
                positions.insert(partition, action["txn"]["version"].as_i64().unwrap());
            }
        }
        let mut removed = actions.iter().filter_map(|action| action["remove"]["path"].as_str());
        removed.by_ref().for_each(|name| {
            let mut seen = self.seen.lock().unwrap();
            let of = seen.folders.entry(folder.to_owned()).or_default();
            of.files.remove(name);
            of.rows.retain(|_, file| file != name);
        });
        self.stands_at(folder, positions);
        self.keep_token(folder, Commit::of_entry(content));
        for name in actions.iter().filter_map(|action| action["add"]["path"].as_str()) {
            let content = self.seen.lock().unwrap().folders[folder].contents.get(name).cloned();
            match content {
                Some(_) if name.starts_with(FOREIGN) => {}
                Some(content) => self.file(folder, name, content),
                None => self.world.violate(format_args!("CM-1: {folder}/{name} is not there")),
            }
        }
    }

    fn keep_token(&self, folder: &str, commit: Option<Commit>) {
        let mut seen = self.seen.lock().unwrap();
        let tokens = &mut seen.folders.entry(folder.to_owned()).or_default().tokens;
        tokens.extend(commit.map(|commit| commit.token));
    }

    fn stands_at(&self, folder: &str, positions: BTreeMap<i32, i64>) {
        let mut seen = self.seen.lock().unwrap();
        let before =
            std::mem::take(&mut seen.folders.entry(folder.to_owned()).or_default().positions);
        for (partition, next) in &before {
            if positions.get(partition).is_none_or(|now| now < next) {
                self.world.violate(format_args!(
                    "OF-2: {folder}: partition {partition} stood at {next}, and now at {:?}",
                    positions.get(partition)
                ));
            }
        }
        if before != positions {
            seen.commits += 1;
            self.world.note(format_args!("{folder} stands at {positions:?}"));
        }
        if folder == TABLE {
            let covered = seen.folders.get(DEAD_LETTERS).map(|f| f.positions.clone());
            self.dead_letters_first(&positions, &covered.unwrap_or_default());
        }
        seen.folders.entry(folder.to_owned()).or_default().positions = positions;
    }

    fn dead_letters_first(&self, table: &BTreeMap<i32, i64>, covered: &BTreeMap<i32, i64>) {
        for (partition, next) in table {
            let log = self.broker.log(*partition as usize);
            let last = log[..*next as usize].iter().rposition(|entry| *entry == Entry::Bad);
            let reach = covered.get(partition).copied().unwrap_or(0);
            if let Some(last) = last.filter(|last| *last as i64 >= reach) {
                self.world.violate(format_args!(
                    "DL-1: the table stands at {next} of partition {partition}, its dead letters at {reach}, and {last} is bad"
                ));
            }
        }
    }

    fn file(&self, folder: &str, name: &str, content: Bytes) {
        let mut ages = Vec::new();
        let mut seen = self.seen.lock().unwrap();
        let of = seen.folders.entry(folder.to_owned()).or_default();
        // Published once more by who had not heard that it was.
        if !of.files.insert(name.to_owned()) {
            return;
        }
        for (partition, offset, id) in rows(content) {
            ages.push(self.broker.age(partition as usize, offset));
            let entry = self.broker.entry(partition as usize, offset);
            let right = match entry {
                Some(Entry::Row(expected)) => folder == TABLE && id == Some(expected),
                Some(Entry::Bad) => folder == DEAD_LETTERS,
                Some(Entry::Tombstone | Entry::Hidden) | None => false,
            };
            if !right {
                self.world.violate(format_args!(
                    "{folder}/{name}: {partition}@{offset} has the id {id:?}, in the log is {entry:?}"
                ));
            }
            if of.positions.get(&partition).is_none_or(|next| *next <= offset) {
                self.world.violate(format_args!(
                    "CM-1: {folder}/{name}: {partition}@{offset} is visible, and the ledger stands at {:?}",
                    of.positions.get(&partition)
                ));
            }
            if let Some(other) = of.rows.insert((partition, offset), name.to_owned()) {
                self.world.violate(format_args!(
                    "twice: {folder}: {partition}@{offset} is in {other} and in {name}"
                ));
            }
        }
        seen.visible_after.extend(ages);
    }

    /// Commits so far, and how long each record took to be seen, sorted.
    pub(crate) fn measured(&self) -> (usize, Vec<Duration>) {
        let seen = self.seen.lock().unwrap();
        let mut visible_after = seen.visible_after.clone();
        visible_after.sort_unstable();
        (seen.commits, visible_after)
    }

    /// True if each record is where it belongs. Positions alone do not tell: a commit to a Parquet folder may be
    /// decided, and whoever decided it dead, so that its rows are seen once the next owner comes by.
    pub(crate) fn is_complete(&self) -> bool {
        // Each row was compared with the log when it was seen, so their number tells.
        self.broker.count(|entry| matches!(entry, Entry::Row(_))) == self.rows_in(TABLE)
            && self.broker.count(|entry| *entry == Entry::Bad) == self.rows_in(DEAD_LETTERS)
    }

    fn rows_in(&self, folder: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.folders.get(folder).map_or(0, |folder| folder.rows.len())
    }

    /// The records that are neither rows nor dead letters yet, and where they should be.
    fn missing(&self) -> impl Iterator<Item = (usize, usize, Entry, &'static str)> {
        let seen = self.seen.lock().unwrap();
        let is_there = |folder: &str, place: (i32, i64)| {
            seen.folders.get(folder).is_some_and(|folder| folder.rows.contains_key(&place))
        };
        let mut missing = Vec::new();
        for partition in 0..self.broker.partitions() {
            for (offset, entry) in self.broker.log(partition).into_iter().enumerate() {
                let folder = match entry {
                    Entry::Row(_) => TABLE,
                    Entry::Bad => DEAD_LETTERS,
                    Entry::Tombstone | Entry::Hidden => continue,
                };
                if !is_there(folder, (partition as i32, offset as i64)) {
                    missing.push((partition, offset, entry, folder));
                }
            }
        }
        missing.into_iter()
    }

    /// Compares the folders with the log. Returns the number of records.
    pub(crate) fn compare(&self) -> usize {
        for (partition, offset, entry, folder) in self.missing() {
            self.world
                .violate(format_args!("lost: {partition}@{offset} ({entry:?}) is not in {folder}"));
        }
        self.rows_in(TABLE) + self.rows_in(DEAD_LETTERS)
    }
}

/// Partition, offset and id of each row.
fn rows(content: Bytes) -> Vec<(i32, i64, Option<i64>)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(content).unwrap().build().unwrap();
    let of_batch = |batch: RecordBatch| {
        let kafka = batch.column_by_name("_kafka").unwrap().as_struct();
        let partitions = kafka.column_by_name("partition").unwrap().as_primitive::<Int32Type>();
        let offsets = kafka.column_by_name("offset").unwrap().as_primitive::<Int64Type>();
        let ids = batch.column_by_name("id").map(|ids| ids.as_primitive::<Int64Type>().clone());
        let id = |row| ids.as_ref().filter(|ids| !ids.is_null(row)).map(|ids| ids.value(row));
        (0..batch.num_rows())
            .map(|row| (partitions.value(row), offsets.value(row), id(row)))
            .collect::<Vec<_>>()
    };
    reader.flat_map(|batch| of_batch(batch.unwrap())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::in_virtual_time;

    const WORKER: u64 = 3;
    const PARTITION: i32 = 5;
    const IDENTITY: &str = "alluvium:orders/orders/5";

    /// What is found when a commit of the worker names the topic partition, in a log and in a ledger.
    fn found(before: impl Fn(&Judge)) -> [bool; 2] {
        let info = json!({"commitInfo": {"operationParameters": {"alluvium.token": "7-1"}}});
        let txn = json!({"txn": {"appId": IDENTITY, "version": 9}});
        let commit = json!({"token": "7-1", "offsets": {IDENTITY: [0, 9]}});
        let ledger = json!({"offsets": {IDENTITY: 9}, "history": [commit]});
        let sent = |path: &str, content: String| {
            in_virtual_time(async {
                let world = World::new(1);
                let judge = Judge::new(&world, &Broker::new(6, false), false);
                judge.fences.begun(WORKER, "7");
                before(&judge);
                judge.sent(&Path::from(path), content.as_bytes());
                world.is_violated()
            })
        };
        [
            sent("orders/_delta_log/00000000000000000001.json", format!("{info}\n{txn}\n")),
            sent("orders/_alluvium/orders.ledger.json", ledger.to_string()),
        ]
    }

    #[test]
    fn fn_1_a_commit_may_not_name_what_its_worker_has_handed_back() {
        let give = |judge: &Judge| judge.fences.given(WORKER, [PARTITION].into_iter());
        let hand_back = |judge: &Judge| judge.fences.handed_back(WORKER, [PARTITION].into_iter());
        assert_eq!(found(give), [false; 2]);
        assert_eq!(found(hand_back), [true; 2]);
        assert_eq!(
            found(|judge| {
                hand_back(judge);
                give(judge);
            }),
            [false; 2]
        );
        let other = |judge: &Judge| judge.fences.handed_back(WORKER + 1, [PARTITION].into_iter());
        assert_eq!(found(other), [false; 2]);
        // It was sent before, and is in the table.
        let token = || Commit { token: "7-1".into(), partitions: vec![PARTITION] };
        assert_eq!(
            found(|judge| {
                hand_back(judge);
                judge.keep_token(TABLE, Some(token()));
            }),
            [false; 2]
        );
    }
}
