//! How long it takes from a record to the version of the table that shows it.
//!
//! A record's time is when the producer sent it; it can be queried when the entry of the log is there that
//! names its file. Both are read from outside, from the table alone.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use connector_api::batch::KAFKA_COLUMN;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::location::Location;
use integration_tests::wait::{eventually, let_pass, now};
use integration_tests::worker::{Signal, run};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::load::{self, Load};
use crate::workloads::WORKLOADS;

const PATIENCE: Duration = Duration::from_secs(120);
/// How long the producer gathers.
const LINGER_MS: u32 = 5;
/// Records come by the millisecond.
const TURN: Duration = Duration::from_millis(1);

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
}

/// Runs a worker under a steady load and prints how late its records are.
pub(crate) fn measure(case: &Case, args: &Args) {
    let workload = &WORKLOADS[0];
    let topic = case.topic(load::PARTITIONS);
    let table = case.local_table();
    let connector = Connector {
        columns: workload.columns,
        properties: Vec::new(),
        write: Vec::new(),
        ..Connector::new(&case.unique("latency"), &topic, &table)
    };
    let yaml = connector
        .yaml()
        .replace("commit_interval: 1s", &format!("commit_interval: {}", args.commit_interval));
    let mut worker = run(case, &case.write("latency.yaml", &yaml)).start();
    let mut load = Load::begin(&topic, "none", LINGER_MS);
    let mut records = (workload.records)();
    // The first one makes the table.
    records.by_ref().take(1).for_each(|record| load.send(&record));
    eventually(PATIENCE, "the table is there", || {
        (integration_tests::reader::versions(&table) > 1).then_some(())
    });
    let before = worker.cpu_time();
    let start = now();
    let mut sent = 0;
    loop {
        let elapsed = start.elapsed();
        let due = elapsed.as_micros() as u64 * args.rate / 1_000_000;
        records.by_ref().take((due - sent) as usize).for_each(|record| load.send(&record));
        sent = due;
        if elapsed >= Duration::from_secs(args.seconds) {
            break;
        }
        let_pass(TURN);
    }
    let cpu = worker.cpu_time() - before;
    let memory = worker.peak_resident_bytes().unwrap_or_default();
    worker.assert_running();
    load.end();
    worker.signal(Signal::Term);
    worker.wait(PATIENCE).assert_code(0);

    let mut late = latencies_ms(&table);
    late.sort_unstable();
    assert_eq!(late.len() as u64, sent + 1, "rows in the table");
    let at = |part: f64| late[((late.len() - 1) as f64 * part) as usize] as f64 / 1000.0;
    println!(
        "{} records a second for {} s, commit_interval {}: p50 {:.2} s, p95 {:.2} s, p99 {:.2} s, at most {:.2} s; {} commits, CPU {:.1} % of a core, peak {} MiB",
        args.rate,
        args.seconds,
        args.commit_interval,
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0),
        integration_tests::reader::versions(&table),
        cpu.as_secs_f64() / args.seconds as f64 * 100.0,
        memory / 1024 / 1024,
    );
}

/// Of each row, in milliseconds.
fn latencies_ms(table: &Location) -> Vec<i64> {
    let mut late = Vec::new();
    for entry in fs::read_dir(table.folder().join("_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let visible = fs::metadata(&path).unwrap().modified().unwrap();
        let visible_ms = visible.duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        for line in fs::read_to_string(&path).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(file) = action["add"]["path"].as_str() {
                let of_file = sent_ms(&table.folder().join(file));
                late.extend(of_file.into_iter().map(|sent_ms| visible_ms - sent_ms));
            }
        }
    }
    late
}

/// When the records of a file were sent.
fn sent_ms(file: &Path) -> Vec<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
    let batches = reader.build().unwrap().map(Result::unwrap);
    let sent = batches.flat_map(|batch| {
        let origin = batch.column_by_name(KAFKA_COLUMN).unwrap().as_struct().clone();
        let sent = origin.column_by_name("timestamp").unwrap();
        sent.as_primitive::<TimestampMicrosecondType>().values().to_vec()
    });
    sent.map(|micros| micros / 1000).collect()
}
