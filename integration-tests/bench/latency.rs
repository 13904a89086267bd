//! How long it takes from a record to the version of the table that shows it.
//!
//! A record's time is when the producer sent it; it can be queried when the entry of the log is there that
//! names its file. Both are seen from outside, by a reader who looks for the next entry again and again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use connector_api::batch::KAFKA_COLUMN;
use connectors::store::Store;
use integration_tests::case::Case;
use integration_tests::client::client;
use integration_tests::connector::Connector;
use integration_tests::location::Location;
use integration_tests::reader;
use integration_tests::wait::{eventually, let_pass, now, unix_ms};
use integration_tests::worker::{Signal, run};
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::load::{self, Load};
use crate::workloads::WORKLOADS;
use crate::{MIB, large};

const PATIENCE: Duration = Duration::from_secs(300);
/// How long the producer gathers.
const LINGER_MS: u32 = 5;
/// Records come by the millisecond.
const TURN: Duration = Duration::from_millis(1);
/// How often the reader looks. Records seem to be later by up to this much, and a request.
const LOOK: Duration = Duration::from_millis(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Records a second.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// For how long they come.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The connector's `commit_interval`.
    #[arg(long, default_value = "1s")]
    commit_interval: String,
    /// In the middle third of the time so many times as many records come.
    #[arg(long, default_value_t = 1)]
    burst: u64,
    /// The first third has this many seconds instead.
    #[arg(long)]
    calm: Option<u64>,
    /// Files that are in the table before.
    #[arg(long, default_value_t = 0)]
    files: usize,
    /// Where the table is: delta or delta-s3.
    #[arg(long, default_value = "delta")]
    table: String,
}

/// Runs a worker under a steady load and prints how late its records are.
pub(crate) fn measure(case: &Case, args: &Args) {
    let workload = &WORKLOADS[0];
    let topic = case.topic(load::PARTITIONS);
    let table = match args.table.as_str() {
        "delta" => case.local_table(),
        "delta-s3" => case.s3_table(),
        other => panic!("`{other}` is none of delta, delta-s3"),
    };
    let connector = Connector {
        columns: workload.columns,
        properties: Vec::new(),
        ..Connector::new(&case.unique("latency"), &topic, &table)
    };
    let yaml = connector
        .yaml()
        .replace("commit_interval: 1s", &format!("commit_interval: {}", args.commit_interval));
    let file = case.write("latency.yaml", &yaml);
    let mut load = Load::begin(&topic, load::PARTITIONS, "none", LINGER_MS);
    let mut records = (workload.records)();
    // The first one makes the table.
    records.by_ref().take(1).for_each(|record| load.send(&record));
    load.flush();
    large::make(case, &file, &table, args.files);
    let first = reader::versions(&table);
    let mut worker = run(case, &file).start();
    eventually(PATIENCE, "topic partitions are assigned", || {
        (worker.owned() == load::PARTITIONS as u64).then_some(())
    });

    let watch = Watch::start(&table, first);
    let (cpu, start, start_ms) = (worker.cpu_time(), now(), unix_ms());
    let third = args.seconds as f64 / 3.0;
    let calm = args.calm.map_or(third, |seconds| seconds as f64);
    let (burst, end) = (calm..calm + third, calm + 2.0 * third);
    let (mut sent, mut due, mut until) = (0, 0.0, 0.0);
    loop {
        let elapsed = start.elapsed().as_secs_f64();
        let is_burst = burst.contains(&elapsed);
        due += (elapsed - until) * (args.rate * if is_burst { args.burst } else { 1 }) as f64;
        until = elapsed;
        records.by_ref().take(due as usize - sent).for_each(|record| load.send(&record));
        sent = due as usize;
        if elapsed >= end {
            break;
        }
        let_pass(TURN);
    }
    let cpu = (worker.cpu_time() - cpu).as_secs_f64() / end * 100.0;
    let peak = worker.peak_resident_bytes().unwrap_or_default() as f64 / MIB;
    worker.assert_running();
    load.end();
    eventually(PATIENCE, "all records are seen", || (watch.rows() == sent).then_some(()));
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);

    let seen = watch.end();
    let commits = seen.len();
    let late = in_runtime(latencies_ms(&table, &seen));
    println!(
        "{} records a second for {end:.0} s into {} of {} files, commit_interval {}: {}; {commits} commits, CPU {cpu:.1} % of a core, peak {peak:.0} MiB",
        args.rate,
        args.table,
        args.files,
        args.commit_interval,
        Percentiles::of(late.iter().map(|(_, late)| *late)),
    );
    if args.burst > 1 {
        let phases = [("before", 0.0..calm), ("in", burst.clone()), ("after", burst.end..end)];
        for (name, phase) in phases {
            let is_in = |sent_ms: i64| phase.contains(&((sent_ms - start_ms) as f64 / 1000.0));
            let of_phase = late.iter().filter(|(sent_ms, _)| is_in(*sent_ms));
            let late = Percentiles::of(of_phase.map(|(_, late)| *late));
            println!("  {name} the burst: {late}");
        }
    }
}

struct Percentiles(Vec<i64>);

impl Percentiles {
    fn of(late_ms: impl Iterator<Item = i64>) -> Self {
        let mut sorted: Vec<i64> = late_ms.collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    fn at(&self, part: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * part) as usize] as f64 / 1000.0
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p95, p99, most] = [0.5, 0.95, 0.99, 1.0].map(|part| self.at(part));
        write!(f, "p50 {p50:.2} s, p95 {p95:.2} s, p99 {p99:.2} s, at most {most:.2} s")
    }
}

/// A version of the table as a reader sees it.
struct Seen {
    at_ms: i64,
    /// Files that it adds.
    files: Vec<String>,
}

/// A reader who looks for the next version.
struct Watch {
    end: Arc<AtomicBool>,
    rows: Arc<AtomicUsize>,
    thread: thread::JoinHandle<Vec<Seen>>,
}

impl Watch {
    fn start(table: &Location, first: usize) -> Self {
        let (end, rows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (store, ended, counted) = (client(table), end.clone(), rows.clone());
        let thread = thread::spawn(move || in_runtime(watch(&store, first, &ended, &counted)));
        Self { end, rows, thread }
    }

    /// Rows that were seen so far.
    fn rows(&self) -> usize {
        self.rows.load(Ordering::Acquire)
    }

    /// What was seen.
    fn end(self) -> Vec<Seen> {
        self.end.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

async fn watch(store: &Store, first: usize, end: &AtomicBool, rows: &AtomicUsize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !end.load(Ordering::Acquire) {
        let next = store.object(&format!("_delta_log/{:020}.json", first + seen.len()));
        let content = match store.objects.get(&next).await {
            Ok(found) => found.bytes().await.unwrap(),
            Err(object_store::Error::NotFound { .. }) => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(error) => panic!("the table cannot be read: {error}"),
        };
        let mut version = Seen { at_ms: unix_ms(), files: Vec::new() };
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Value = serde_json::from_slice(line).unwrap();
            let Some(file) = action["add"]["path"].as_str() else { continue };
            let statistics = action["add"]["stats"].as_str().unwrap();
            let statistics: Value = serde_json::from_str(statistics).unwrap();
            let of_file = statistics["numRecords"].as_u64().unwrap() as usize;
            version.files.push(file.to_owned());
            rows.fetch_add(of_file, Ordering::Release);
        }
        seen.push(version);
    }
    seen
}

fn in_runtime<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run)
}

/// Of each row: when it was sent, and how much later it was seen.
async fn latencies_ms(table: &Location, seen: &[Seen]) -> Vec<(i64, i64)> {
    let store = client(table);
    let mut late = Vec::new();
    for version in seen {
        for file in &version.files {
            let content = store.objects.get(&store.object(file)).await.unwrap();
            let of_file = sent_ms(content.bytes().await.unwrap());
            late.extend(of_file.into_iter().map(|sent_ms| (sent_ms, version.at_ms - sent_ms)));
        }
    }
    late
}

/// When the records of a file were sent.
fn sent_ms(file: bytes::Bytes) -> Vec<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let origin = ProjectionMask::columns(reader.parquet_schema(), [KAFKA_COLUMN]);
    let batches = reader.with_projection(origin).build().unwrap().map(Result::unwrap);
    let sent = batches.flat_map(|batch| {
        let origin = batch.column_by_name(KAFKA_COLUMN).unwrap().as_struct().clone();
        let sent = origin.column_by_name("timestamp").unwrap();
        sent.as_primitive::<TimestampMicrosecondType>().values().to_vec()
    });
    sent.map(|micros| micros / 1000).collect()
}
