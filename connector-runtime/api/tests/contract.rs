//! The in-memory reference sink keeps the contract, and every function of the contract is run.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use async_trait::async_trait;
use connector_api::contract::{Subject, Visible};
use connector_api::memory::InMemoryTable;
use connector_api::sink::Sink;

connector_api::sink_contract!(InMemory(InMemoryTable::new()));

struct InMemory(InMemoryTable);

#[async_trait]
impl Subject for InMemory {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(self.0.sink())
    }

    async fn visible(&self) -> Option<Visible> {
        let files = self.0.files()?;
        let mut rows: Vec<_> = files.iter().flat_map(rows).collect();
        rows.sort_unstable();
        let sizes =
            |file: &RecordBatch| (file.num_rows() as u64, file.get_array_memory_size() as u64);
        Some(Visible { version: self.0.version()?, rows, files: files.iter().map(sizes).collect() })
    }

    fn lose_next_answer(&self, landed: bool) {
        self.0.lose_next_answer(landed);
    }
}

fn rows(file: &RecordBatch) -> Vec<(i32, i64)> {
    let partitions = file.column(0).as_primitive::<Int32Type>();
    let offsets = file.column(1).as_primitive::<Int64Type>();
    partitions.values().iter().copied().zip(offsets.values().iter().copied()).collect()
}

/// A function that is not in the macro's list would be run by nobody.
#[test]
fn the_macro_lists_every_function_of_the_contract() {
    let list = include_str!("../src/contract/mod.rs");
    let modules = [
        ("committer", include_str!("../src/contract/committer.rs")),
        ("reset", include_str!("../src/contract/reset.rs")),
        ("writer", include_str!("../src/contract/writer.rs")),
    ];
    for (module, source) in modules {
        let functions = source.lines().filter_map(|line| line.strip_prefix("pub async fn "));
        for name in functions.filter_map(|rest| rest.split('(').next()) {
            assert!(list.contains(&format!("{module}::{name},")), "{module}::{name} is not listed");
        }
    }
}
