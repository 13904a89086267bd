//! The contract for sinks, both of them, in stores over a network: by Alluvium's own clients, in the emulators.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use async_trait::async_trait;
use connector_api::contract::losing::Losing;
use connector_api::contract::{Subject, Visible, connector, settings};
use connector_api::sink::Sink;
use connectors::store::Store;
use connectors::{delta, parquet};
use futures::TryStreamExt;
use integration_tests::azurite::azurite;
use integration_tests::client::client;
use integration_tests::location::Location;
use integration_tests::object_store::object_store;
use object_store::{Error, ObjectStoreExt};
use serde_json::Value;

mod delta_in_s3 {
    connector_api::sink_contract!(super::Place::new(super::Format::Delta, super::s3()));
}

mod delta_in_azure {
    connector_api::sink_contract!(super::Place::new(super::Format::Delta, super::azure()));
}

mod parquet_in_s3 {
    connector_api::sink_contract!(super::Place::new(super::Format::Parquet, super::s3()));
}

mod parquet_in_azure {
    connector_api::sink_contract!(super::Place::new(super::Format::Parquet, super::azure()));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Delta,
    Parquet,
}

fn unique() -> String {
    static NAMED: AtomicU32 = AtomicU32::new(0);
    format!("contract-{}-{}", std::process::id(), NAMED.fetch_add(1, Ordering::Relaxed))
}

fn s3() -> Location {
    let bucket = unique();
    object_store().create_bucket(&bucket);
    let endpoint = object_store().endpoint.clone();
    Location::S3 { uri: format!("s3://{bucket}/bronze/table"), endpoint }
}

fn azure() -> Location {
    let container = unique();
    azurite().create_container(&container);
    let endpoint = azurite().endpoint.clone();
    Location::Azure { uri: format!("az://{container}/bronze/table"), endpoint }
}

/// A place in a bucket or container of its own.
struct Place {
    format: Format,
    location: Location,
    store: Store,
    losing: Losing,
}

impl Place {
    fn new(format: Format, location: Location) -> Self {
        let store = client(&location);
        Self { format, location, store, losing: Losing::default() }
    }

    async fn get(&self, name: &str) -> Option<Vec<u8>> {
        match self.store.objects.get(&self.store.object(name)).await {
            Ok(found) => Some(found.bytes().await.unwrap().to_vec()),
            Err(Error::NotFound { .. }) => None,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// The names of all objects below the table's root.
    async fn names(&self) -> BTreeSet<String> {
        let root = self.store.object("");
        let all: Vec<_> = self.store.objects.list(Some(&root)).try_collect().await.unwrap();
        let name = |path: &str| path[root.as_ref().len() + 1..].to_owned();
        all.iter().map(|object| name(object.location.as_ref())).collect()
    }

    /// The newest version, and the data files that a reader takes: by the log, or by listing.
    async fn table(&self) -> Option<(u64, Vec<String>)> {
        let names = self.names().await;
        if self.format == Format::Parquet {
            names.contains("_alluvium/table.json").then_some(())?;
            let ledger = self.get(&format!("_alluvium/{}.ledger.json", connector())).await;
            let ledger = ledger.map(|text| serde_json::from_slice::<Value>(&text).unwrap());
            let version = ledger.map_or(0, |ledger| ledger["version"].as_u64().unwrap());
            let seen = |name: &String| name.ends_with(".parquet") && !name.starts_with('_');
            return Some((version, names.into_iter().filter(seen).collect()));
        }
        let mut files = Vec::new();
        for version in 0_u64.. {
            let Some(entry) = self.get(&format!("_delta_log/{version:020}.json")).await else {
                return version.checked_sub(1).map(|newest| (newest, files));
            };
            let actions = entry.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let actions = actions.map(|line| serde_json::from_slice::<Value>(line).unwrap());
            files.extend(
                actions.filter_map(|action| Some(action["add"]["path"].as_str()?.to_owned())),
            );
        }
        None
    }
}

#[async_trait]
impl Subject for Place {
    fn sink(&self) -> Arc<dyn Sink> {
        let settings = settings(&self.location.uri());
        // Connections of its own, as a further worker has them.
        let store = client(&self.location);
        self.losing.behind(match self.format {
            Format::Delta => delta::sink_on(store, settings),
            Format::Parquet => parquet::sink_on(store, settings),
        })
    }

    async fn visible(&self) -> Option<Visible> {
        let (version, names) = self.table().await?;
        let (mut rows, mut files) = (Vec::new(), Vec::new());
        for name in names {
            let content = self.get(&name).await.unwrap_or_else(|| panic!("`{name}` is not there"));
            let bytes = content.len() as u64;
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(::bytes::Bytes::from(content)).unwrap();
            let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
            files.push((batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, bytes));
            rows.extend(batches.iter().flat_map(places));
        }
        rows.sort_unstable();
        Some(Visible { version, rows, files })
    }

    fn lose_next_answer(&self, landed: bool) {
        self.losing.lose_next_answer(landed);
    }
}

fn places(batch: &RecordBatch) -> Vec<(i32, i64)> {
    let partitions = batch.column_by_name("kafka_partition").unwrap().as_primitive::<Int32Type>();
    let offsets = batch.column_by_name("kafka_offset").unwrap().as_primitive::<Int64Type>();
    partitions.values().iter().copied().zip(offsets.values().iter().copied()).collect()
}
