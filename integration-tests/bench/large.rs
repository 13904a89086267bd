//! A Delta table of many files. They are in its log only, since nobody who commits reads them.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use integration_tests::case::Case;
use integration_tests::location::Location;
use integration_tests::reader;
use integration_tests::wait::unix_ms;
use integration_tests::worker::{Launch, run_until_end};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(300);
/// Versions until a log checkpoint is due.
const VERSIONS: usize = 100;

/// Makes the table of a connector from what is in its topics, and adds so many files to it. It has a log
/// checkpoint then, as a table that workers left.
pub(crate) fn make(case: &Case, connector: &Path, table: &Location, files: usize) {
    run_until_end(case, connector).start().wait(PATIENCE).assert_code(0);
    if files == 0 {
        return;
    }
    let log = table.folder().join("_delta_log");
    let names: Vec<usize> = (0..files).collect();
    let chunks = names.chunks(files.div_ceil(VERSIONS));
    for (version, of_version) in (reader::versions(table)..).zip(chunks) {
        let info = json!({"commitInfo": {"timestamp": unix_ms(), "operation": "WRITE"}});
        let mut entry = format!("{info}\n");
        of_version.iter().for_each(|file| writeln!(entry, "{}", added(*file)).unwrap());
        fs::write(log.join(format!("{version:020}.json")), entry).unwrap();
    }
    let maintain = ["maintain".as_ref(), connector.as_os_str()];
    Launch::new(case, maintain).start().wait(PATIENCE).assert_code(0);
    assert!(log.join("_last_checkpoint").try_exists().unwrap(), "no log checkpoint was due");
}

fn added(file: usize) -> serde_json::Value {
    let (least, greatest) = (json!({"id": file * 1000}), json!({"id": file * 1000 + 999}));
    let statistics = json!({
        "numRecords": 1000, "minValues": least, "maxValues": greatest, "nullCount": {"id": 0}
    });
    json!({"add": {
        "path": format!("elsewhere-{file:08}.parquet"), "partitionValues": {}, "size": 100_000,
        "modificationTime": unix_ms(), "dataChange": true, "stats": statistics.to_string(),
    }})
}
