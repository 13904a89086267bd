//! The table that people read, and the same as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::MIB;
use crate::measure::Usage;

/// What was measured, workload by workload.
pub(crate) struct Report {
    compression: String,
    workloads: Vec<Measured>,
}

struct Measured {
    workload: &'static str,
    records: usize,
    bytes: u64,
    /// In the order in which they first ran.
    contenders: Vec<(String, Vec<Usage>)>,
}

impl Report {
    pub(crate) fn new(compression: &str) -> Self {
        Self { compression: compression.to_owned(), workloads: Vec::new() }
    }

    pub(crate) fn begin(&mut self, workload: &'static str, records: usize, bytes: u64) {
        self.workloads.push(Measured { workload, records, bytes, contenders: Vec::new() });
    }

    pub(crate) fn add(&mut self, contender: &str, usage: Usage) {
        let measured = self.workloads.last_mut().expect("a workload has begun");
        match measured.contenders.iter_mut().find(|(name, _)| name == contender) {
            Some((_, usages)) => usages.push(usage),
            None => measured.contenders.push((contender.to_owned(), vec![usage])),
        }
    }

    /// The workload that was measured last, as a Markdown table.
    pub(crate) fn last(&self) -> String {
        let measured = self.workloads.last().expect("a workload has begun");
        let mut text = format!(
            "\n{}: {} records of {} bytes, compressed by {}\n\n",
            measured.workload,
            measured.records,
            measured.bytes / measured.records as u64,
            self.compression,
        );
        text += "| contender | records per CPU s | of the ceiling | CPU s | of which the start | records per s | MB per s | peak MiB | files | MiB written |\n";
        text += "|---|---|---|---|---|---|---|---|---|---|\n";
        for row in measured.rows() {
            writeln!(
                text,
                "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {} | {:.1} |",
                row.contender,
                row.per_cpu_second(),
                row.ratio,
                row.cpu.as_secs_f64(),
                row.start.as_secs_f64(),
                row.per_second(),
                row.megabytes_per_second(),
                row.peak as f64 / MIB,
                row.files,
                row.written as f64 / MIB,
            )
            .unwrap();
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let workloads: Vec<Value> = self.workloads.iter().map(Measured::json).collect();
        format!("{:#}\n", json!({ "compression": self.compression, "workloads": workloads }))
    }
}

/// One contender's runs: medians, and the largest peak. Rates by CPU time are without the start.
struct Row<'a> {
    contender: &'a str,
    records: usize,
    bytes: u64,
    cpu: Duration,
    start: Duration,
    wall: Duration,
    ratio: f64,
    peak: u64,
    files: usize,
    written: u64,
}

impl Row<'_> {
    fn per_cpu_second(&self) -> f64 {
        self.records as f64 / self.cpu.saturating_sub(self.start).as_secs_f64()
    }

    fn per_second(&self) -> f64 {
        self.records as f64 / self.wall.as_secs_f64()
    }

    fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.wall.as_secs_f64()
    }
}

impl Measured {
    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let net = |usage: &Usage| usage.cpu.saturating_sub(usage.start);
        let ceiling = Usage::median(&self.contenders[0].1, net);
        self.contenders.iter().map(move |(contender, usages)| {
            let cpu = Usage::median(usages, |usage| usage.cpu);
            Row {
                contender,
                records: self.records,
                bytes: self.bytes,
                cpu,
                start: Usage::median(usages, |usage| usage.start),
                wall: Usage::median(usages, |usage| usage.wall),
                ratio: ceiling.as_secs_f64() / Usage::median(usages, net).as_secs_f64(),
                peak: usages.iter().map(|usage| usage.peak_resident_bytes).max().unwrap_or(0),
                files: usages[0].files,
                written: usages[0].bytes,
            }
        })
    }

    fn json(&self) -> Value {
        let row = |row: Row<'_>| {
            json!({
                "contender": row.contender,
                "records_per_cpu_second": row.per_cpu_second(),
                "of_the_ceiling": row.ratio,
                "cpu_seconds": row.cpu.as_secs_f64(),
                "start_cpu_seconds": row.start.as_secs_f64(),
                "records_per_second": row.per_second(),
                "megabytes_per_second": row.megabytes_per_second(),
                "peak_resident_bytes": row.peak,
                "files": row.files,
                "bytes_written": row.written,
            })
        };
        json!({
            "workload": self.workload,
            "records": self.records,
            "bytes": self.bytes,
            "contenders": self.rows().map(row).collect::<Vec<_>>(),
        })
    }
}
