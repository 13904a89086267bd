//! Reads a Delta table by hand: the log's JSON entries and the Parquet files that they name. It
//! shares no code with the sink or its kernel, and checks what readers rely on as it goes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// A table as its log tells it.
#[derive(Debug)]
pub(super) struct Log {
    /// The actions of each version, from 0.
    pub(super) versions: Vec<Vec<Value>>,
}

/// A data file that the log names.
#[derive(Debug)]
pub(super) struct DataFile {
    pub(super) add: Value,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) batches: Vec<RecordBatch>,
}

impl Log {
    /// Reads all entries of the log; `None` if there is none.
    pub(super) fn read(root: &Path) -> Option<Self> {
        let mut entries = BTreeMap::new();
        for entry in root.join("_delta_log").read_dir().ok()? {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if let Some(version) = name.strip_suffix(".json").filter(|stem| stem.len() == 20) {
                let text = std::fs::read_to_string(&path).unwrap();
                let actions = text.lines().map(|line| serde_json::from_str(line).unwrap());
                entries.insert(version.parse::<usize>().unwrap(), actions.collect());
            }
        }
        let versions: Vec<usize> = entries.keys().copied().collect();
        assert_eq!(versions, (0..entries.len()).collect::<Vec<_>>(), "the log has holes");
        (!entries.is_empty()).then(|| Self { versions: entries.into_values().collect() })
    }

    pub(super) fn version(&self) -> u64 {
        self.versions.len() as u64 - 1
    }

    /// The actions of one kind, in the order of the log: `add`, `txn`, `metaData`.
    pub(super) fn actions<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.versions.iter().flatten().filter_map(move |action| action.get(kind))
    }

    /// The number that the table keeps for an application id.
    pub(super) fn txn(&self, app_id: &str) -> Option<i64> {
        let of_id = self.actions("txn").filter(|txn| txn["appId"] == app_id);
        of_id.last().map(|txn| txn["version"].as_i64().unwrap())
    }

    /// The files that are added and not removed, read. Checks that no file is added twice, and that
    /// the log's sizes and counts are those of the files.
    pub(super) fn files(&self, root: &Path) -> Vec<DataFile> {
        let mut adds = BTreeMap::new();
        for action in self.versions.iter().flatten() {
            if let Some(add) = action.get("add") {
                let path = add["path"].as_str().unwrap().to_owned();
                assert!(adds.insert(path.clone(), add).is_none(), "`{path}` was added twice");
            }
            if let Some(remove) = action.get("remove") {
                adds.remove(remove["path"].as_str().unwrap());
            }
        }
        adds.values().map(|add| read(root, add)).collect()
    }
}

fn read(root: &Path, add: &Value) -> DataFile {
    let path = root.join(percent_decoded(add["path"].as_str().unwrap()));
    let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let bytes = file.metadata().unwrap().len();
    assert_eq!(add["size"], bytes, "{}", path.display());
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let rows = reader.metadata().file_metadata().num_rows();
    let statistics: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    assert_eq!(statistics["numRecords"], rows, "{}", path.display());
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows as usize);
    DataFile { add: add.clone(), bytes, rows: rows as u64, batches }
}

/// Paths in the log are URLs (Delta protocol, "Add File and Remove File").
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let hex = std::str::from_utf8(&[*high, *low]).unwrap().to_owned();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap());
                rest = tail;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).unwrap()
}
