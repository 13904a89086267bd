//! What decoding JSON costs: our decoder against arrow-json, on the reference record of
//! `docs/performance.md`, which also says how to read the figures.
//!
//! Work is the same for both: records of 152 bytes on average in batches of 8192, seven columns,
//! and before anything is timed the results are compared. arrow-json gets its records as one text
//! with a line for each, the form that it is fastest with; records that are bad on purpose are for
//! our decoder alone, since arrow-json stops at the first one.
//!
//! What is measured is CPU time, and the least of several rounds in turns, which a busy machine
//! disturbs less than the wall clock that the usual harnesses read; with `--instructions` it is instructions,
//! which it does not disturb at all, by valgrind's callgrind.

#![allow(clippy::panic, reason = "a benchmark: what it cannot do is its failure")]

mod reference;
#[path = "reference/columns.rs"]
mod reference_columns;

use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder as ArrowDecoder;
use connector_api::decoder::{DecodeRequest, Decoder, DecoderFactory, OnUnknownField};
use connector_api::ids::{TopicId, TopicPartition};
use connector_api::offsets::Offset;
use connector_api::record::{RawRecords, RawRecordsBuilder};
use connectors::decode::JsonFactory;

use reference::{Random, record};
use reference_columns::columns;

const RECORDS: usize = 500_000;
const BATCH_RECORDS: usize = 8192;
const SEED: u64 = 1;
const ROUNDS: usize = 15;

/// One batch: as the source hands it over, and as lines.
struct Batch {
    records: RawRecords,
    lines: Vec<u8>,
}

/// The ways in which records are bad: cut off, a comma too many, a string for a number.
fn spoilt(record: &str, number: usize) -> String {
    match number % 3 {
        0 => record[..record.len() / 2].to_owned(),
        1 => record.replace("],\"ok\"", ",],\"ok\""),
        _ => record.replace("\"id\":1", "\"id\":\"1\",\"was\":1"),
    }
}

/// The records, of which about `bad_percent` in a hundred are spoilt.
fn batches(bad_percent: u64) -> Vec<Batch> {
    let (mut random, mut lots) = (Random(SEED), Random(SEED + 1));
    let topic_partition =
        TopicPartition { topic: "w1".into(), topic_id: TopicId::Unavailable, partition: 0 };
    let start = Offset::new(0).unwrap_or_else(|| unreachable!("0 is an offset"));
    let mut builder = RawRecordsBuilder::new(topic_partition, start);
    let (mut batches, mut lines, mut bad) = (Vec::new(), Vec::new(), 0);
    for id in 0..RECORDS {
        let mut text = record(id, &mut random);
        if lots.below(100) < bad_percent {
            text = spoilt(&text, bad);
            bad += 1;
        }
        builder.push(builder.next(), 0, Some(text.as_bytes()));
        lines.extend_from_slice(text.as_bytes());
        lines.push(b'\n');
        if builder.len() == BATCH_RECORDS || id + 1 == RECORDS {
            batches.push(Batch { records: builder.take(), lines: std::mem::take(&mut lines) });
        }
    }
    batches
}

fn our_decoder() -> Box<dyn Decoder> {
    let request = DecodeRequest { columns: columns(), on_unknown_field: OnUnknownField::Rescue };
    JsonFactory.decoder(&request).unwrap_or_else(|error| panic!("{error}"))
}

fn arrow_decoder() -> ArrowDecoder {
    let builder = ReaderBuilder::new(columns()).with_batch_size(BATCH_RECORDS);
    builder.build_decoder().unwrap_or_else(|error| panic!("{error}"))
}

/// Decodes everything, and returns how many records became rows. Its name is what a profiler looks for.
#[inline(never)]
fn with_alluvium(decoder: &mut dyn Decoder, batches: &[Batch]) -> usize {
    batches.iter().map(|batch| black_box(decoder.decode(&batch.records)).rows().num_rows()).sum()
}

/// The same with arrow-json.
#[inline(never)]
fn with_arrow_json(decoder: &mut ArrowDecoder, batches: &[Batch]) -> usize {
    let rows = |batch: &Batch| black_box(arrow_rows(decoder, batch)).num_rows();
    batches.iter().map(rows).sum()
}

fn arrow_rows(decoder: &mut ArrowDecoder, batch: &Batch) -> RecordBatch {
    // A decoder stops where its batch is full, which is in front of the last line break.
    let decoded = decoder.decode(&batch.lines).and_then(|_| decoder.flush());
    match decoded {
        Ok(Some(rows)) => rows,
        Ok(None) => panic!("arrow-json found no rows"),
        Err(error) => panic!("{error}"),
    }
}

fn compare(clean: &[Batch]) {
    let (mut ours, mut arrow) = (our_decoder(), arrow_decoder());
    for batch in clean {
        let (ours, arrow) = (ours.decode(&batch.records), arrow_rows(&mut arrow, batch));
        assert_eq!(ours.rows().columns()[..7], *arrow.columns());
        assert_eq!(ours.rows().column(7).null_count(), arrow.num_rows());
    }
}

/// A way to decode all records, and the least CPU time that it took.
struct Contender<'a> {
    name: &'static str,
    decode: Box<dyn FnMut() -> usize + 'a>,
    least: f64,
}

impl<'a> Contender<'a> {
    fn new(name: &'static str, decode: impl FnMut() -> usize + 'a) -> Self {
        Self { name, decode: Box::new(decode), least: f64::INFINITY }
    }

    fn run(&mut self) {
        let start = cpu_time();
        black_box((self.decode)());
        self.least = self.least.min((cpu_time() - start).as_nanos() as f64 / RECORDS as f64);
    }
}

/// How long this thread has been on a CPU. Linux tells it without a call that is `unsafe`.
fn cpu_time() -> Duration {
    // The kernel brings the figure up to date when the thread is scheduled.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_else(|| panic!("the CPU time is in /proc on Linux only")))
}

/// Instructions that decoding takes in a run of its own, which calls this function for nothing else.
fn instructions(contender: &str, function: &str) -> f64 {
    let program = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*::{function}"))
        .arg(program)
        .args(["--test", contender])
        .output()
        .unwrap_or_else(|error| panic!("valgrind must be installed: {error}"));
    let report = String::from_utf8_lossy(&run.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse::<f64>().ok());
    count.unwrap_or_else(|| panic!("callgrind counted nothing: {report}"))
}

fn main() {
    if std::env::args().any(|argument| argument == "--instructions") {
        let ours = instructions("alluvium", "with_alluvium");
        let arrow = instructions("arrow-json", "with_arrow_json");
        let each = RECORDS as f64;
        println!("alluvium             {:7.0} instructions per record", ours / each);
        println!("arrow-json           {:7.0}, {:.2} x", arrow / each, arrow / ours);
        return;
    }
    // `cargo test --benches` only wants to know that it works.
    let testing = std::env::args().any(|argument| argument == "--test");
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let (clean, spoilt) = (batches(0), batches(1));
    let bytes: usize = clean.iter().map(|batch| batch.lines.len() - batch.records.len()).sum();
    println!("{RECORDS} records of {} bytes, least CPU time of {ROUNDS} rounds", bytes / RECORDS);
    compare(&clean);

    let (mut ours, mut ours_spoilt, mut arrow) = (our_decoder(), our_decoder(), arrow_decoder());
    let mut contenders = vec![
        Contender::new("alluvium", || with_alluvium(ours.as_mut(), &clean)),
        Contender::new("alluvium, 1 % bad", || with_alluvium(ours_spoilt.as_mut(), &spoilt)),
        Contender::new("arrow-json", || with_arrow_json(&mut arrow, &clean)),
    ];
    if let Some(only) = only {
        contenders.retain(|contender| contender.name == only);
    }
    // In turns, so that whatever else the machine does hits all of them.
    for _ in 0..if testing { 1 } else { ROUNDS } {
        contenders.iter_mut().for_each(Contender::run);
    }
    let first = contenders.first().map_or(f64::NAN, |contender| contender.least);
    for Contender { name, least, .. } in &contenders {
        println!("{name:20} {least:7.1} ns per record, {:5.2} x", least / first);
    }
}
