//! The example of `docs/write-a-sink.md` keeps the contract.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

mod sink;

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use connector_api::contract::losing::Losing;
use connector_api::contract::{Subject, Visible};
use connector_api::sink::Sink;
use serde_json::Value;
use sink::LinesSink;
use tempfile::TempDir;

connector_api::sink_contract!(Place::new());

struct Place {
    folder: TempDir,
    losing: Losing,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), losing: Losing::default() }
    }
}

#[async_trait]
impl Subject for Place {
    fn sink(&self) -> Arc<dyn Sink> {
        self.losing.behind(Arc::new(LinesSink(self.folder.path().join("table"))))
    }

    async fn visible(&self) -> Option<Visible> {
        let folder = self.folder.path().join("table");
        folder.join("table.json").try_exists().unwrap().then_some(())?;
        let versions = LinesSink(folder.clone()).versions().unwrap();
        let (mut rows, mut files) = (Vec::new(), Vec::new());
        for file in versions.iter().flat_map(|version| &version.files) {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            rows.extend(lines.map(|row: Value| {
                let partition = row["kafka_partition"].as_i64().unwrap() as i32;
                (partition, row["kafka_offset"].as_i64().unwrap())
            }));
            files.push((text.lines().count() as u64, text.len() as u64));
        }
        rows.sort_unstable();
        Some(Visible { version: versions.len() as u64, rows, files })
    }

    fn lose_next_answer(&self, landed: bool) {
        self.losing.lose_next_answer(landed);
    }
}
