//! What the parts of the way into a Delta table cost, each by itself: decode and encode a batch of the
//! reference record, commit one file, and open the table, for which its log checkpoint is read.
//!
//! `cargo bench -p connectors --bench parts`. Criterion reads the wall clock, so its figures are for a quiet machine, and
//! it compares them with those of the last run. What decoding costs beside others is measured by `json_decode`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark: what it cannot do is its failure"
)]

mod reference;
#[path = "reference/columns.rs"]
mod reference_columns;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use connector_api::batch::{PartitionValues, TableBatch, TableSchema};
use connector_api::contract::{Round, batch, committed, connector, range, schema, settings};
use connector_api::contract::{staged_file, topic_partition};
use connector_api::decoder::{DecodeRequest, Decoder, DecoderFactory, OnUnknownField};
use connector_api::offsets::Offset;
use connector_api::record::{RawRecords, RawRecordsBuilder};
use connector_api::sink::{OpenTable, Sink};
use connectors::decode::JsonFactory;
use connectors::delta::sink_on;
use connectors::store::store_at;
use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use reference::{Random, record};
use reference_columns::columns;

const BATCH_RECORDS: usize = 8192;
const SEED: u64 = 1;
/// Files in the tables that are committed to and opened.
const FILES: &[usize] = &[0, 10_000, 100_000];

fn records() -> RawRecords {
    let mut random = Random(SEED);
    let mut builder = RawRecordsBuilder::new(topic_partition(0), Offset::ZERO);
    for id in 0..BATCH_RECORDS {
        builder.push(builder.next(), 0, Some(record(id, &mut random).as_bytes()));
    }
    builder.take()
}

fn decoder() -> Box<dyn Decoder> {
    let request = DecodeRequest { columns: columns(), on_unknown_field: OnUnknownField::Rescue };
    JsonFactory.decoder(&request).unwrap_or_else(|error| panic!("{error}"))
}

/// A new folder for a Delta table.
fn sink() -> (TempDir, Arc<dyn Sink>) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path().to_str().unwrap());
    let store = store_at("delta", &settings.location, &settings.storage).unwrap();
    (folder, sink_on(store, settings))
}

fn decode(c: &mut Criterion) {
    let (records, mut decoder) = (records(), decoder());
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(BATCH_RECORDS as u64));
    group.bench_function("reference record", |b| b.iter(|| black_box(decoder.decode(&records))));
    group.finish();
}

fn encode(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let rows: RecordBatch = decoder().decode(&records()).rows().clone();
    let schema = TableSchema { columns: rows.schema(), partition_columns: Vec::new() };
    let (_folder, sink) = sink();
    let table = runtime.block_on(sink.create(&connector(), &schema)).unwrap();
    let all = range(0, BATCH_RECORDS as i64);
    let batch = TableBatch::new(topic_partition(0), all, PartitionValues::default(), rows);
    let open = || table.writers.open_file("file", &PartitionValues::default(), "sha256:0").unwrap();
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(BATCH_RECORDS as u64));
    group.bench_function("reference record", |b| {
        // A file is finished after each batch; a worker's takes many. To open it is not timed.
        b.iter_batched_ref(
            open,
            |file| {
                file.write(&batch).unwrap();
                file.finish().unwrap();
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// A table that knows so many files, and where it stands.
async fn table_of(sink: &dyn Sink, files: usize) -> (OpenTable, i64) {
    let mut table = sink.create(&connector(), &schema()).await.unwrap();
    let row = batch(&topic_partition(0), 0, 1);
    let file = staged_file(&table, "one", std::slice::from_ref(&row)).await;
    let named = (0..files).map(|number| {
        let mut file = file.clone();
        file.path = format!("elsewhere-{number:08}.parquet");
        file
    });
    let round = Round::new("many").new_range(0, 0, files.max(1) as i64);
    committed(table.committer.commit(&round.with_files(named.collect())).await);
    (table, files.max(1) as i64)
}

fn commit(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("commit");
    group.sampling_mode(SamplingMode::Flat).sample_size(50);
    for files in FILES {
        let (_folder, sink) = sink();
        let (mut table, mut next) = runtime.block_on(table_of(sink.as_ref(), *files));
        let row = batch(&topic_partition(0), 0, 1);
        let mut file = runtime.block_on(staged_file(&table, "next", std::slice::from_ref(&row)));
        group.bench_function(format!("{files} files"), |b| {
            b.iter(|| {
                let round = Round::new(&format!("t-{next}")).range(0, next, next + 1);
                file.delta = round.delta();
                let round = round.with_files(vec![file.clone()]);
                committed(runtime.block_on(table.committer.commit(&round)));
                next += 1;
            });
        });
    }
    group.finish();
}

fn open(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("open");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.measurement_time(Duration::from_secs(10));
    for files in FILES {
        let (_folder, sink) = sink();
        runtime.block_on(async {
            let (mut table, next) = table_of(sink.as_ref(), *files).await;
            let maintenance = table.maintenance.clone().unwrap();
            // Up to the first log checkpoint.
            for version in next.. {
                let round = Round::new(&format!("t-{version}")).range(0, version, version + 1);
                let receipt = committed(table.committer.commit(&round.with_files(vec![])).await);
                if maintenance.reconcile(receipt.version).await.unwrap().is_some() {
                    break;
                }
            }
        });
        group.bench_function(format!("{files} files"), |b| {
            b.iter(|| runtime.block_on(sink.open(&connector())).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode, commit, open);
criterion_main!(benches);
