//! A Delta table of many files. They are in its log only, since nobody who commits reads them.

use std::fmt::Write;
use std::fs;

use integration_tests::location::Location;
use integration_tests::wait::unix_ms;

/// Files that one version adds.
const ADDED: usize = 10_000;

/// Adds so many files to a table, version by version.
pub(crate) fn add_files(table: &Location, files: usize) {
    let log = table.folder().join("_delta_log");
    let mut version = integration_tests::reader::versions(table);
    for first in (0..files).step_by(ADDED) {
        let now = unix_ms();
        let mut entry =
            format!("{{\"commitInfo\":{{\"timestamp\":{now},\"operation\":\"WRITE\"}}}}\n");
        for file in first..files.min(first + ADDED) {
            let stats = format!(
                "{{\\\"numRecords\\\":1000,\\\"minValues\\\":{{\\\"id\\\":{file}000}},\\\"maxValues\\\":{{\\\"id\\\":{file}999}},\\\"nullCount\\\":{{\\\"id\\\":0}}}}"
            );
            writeln!(
                entry,
                "{{\"add\":{{\"path\":\"elsewhere-{file:08}.parquet\",\"partitionValues\":{{}},\"size\":100000,\"modificationTime\":{now},\"dataChange\":true,\"stats\":\"{stats}\"}}}}"
            )
            .unwrap();
        }
        fs::write(log.join(format!("{version:020}.json")), entry).unwrap();
        version += 1;
    }
}
