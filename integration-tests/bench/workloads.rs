//! The records that are benchmarked.

#[path = "../../connectors/benches/reference/mod.rs"]
mod reference;

use std::fmt::Write;

use integration_tests::connector::Column;
use integration_tests::datasets::{self, FLIGHT_COLUMNS};

use reference::Random;

const SEED: u64 = 1;

/// Records of one kind, without an end.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// How many of them make a run, as a part of what is asked for.
    pub(crate) share: f64,
    /// Declared, or else inferred.
    pub(crate) columns: Option<&'static [Column]>,
    pub(crate) records: fn() -> Box<dyn Iterator<Item = String>>,
}

/// See `docs/performance.md`.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload { name: "w1", share: 1.0, columns: Some(W1_COLUMNS), records: w1 },
    Workload { name: "w2", share: 0.25, columns: None, records: w2 },
    Workload { name: "w3", share: 0.03, columns: None, records: w3 },
    Workload { name: "w4", share: 0.5, columns: Some(FLIGHT_COLUMNS), records: w4 },
];

const W1_COLUMNS: &[Column] = &[
    Column { name: "id", ours: "long", duckdb: "BIGINT", nullable: false },
    Column { name: "ts", ours: "timestamp", duckdb: "TIMESTAMP WITH TIME ZONE", nullable: true },
    Column {
        name: "user",
        ours: "struct<id: string, country: string>",
        duckdb: "STRUCT(id VARCHAR, country VARCHAR)",
        nullable: true,
    },
    Column { name: "event", ours: "string", duckdb: "VARCHAR", nullable: true },
    Column { name: "amount", ours: "double", duckdb: "DOUBLE", nullable: true },
    Column { name: "tags", ours: "array<string>", duckdb: "VARCHAR[]", nullable: true },
    Column { name: "ok", ours: "boolean", duckdb: "BOOLEAN", nullable: true },
];

/// The reference record, nested, 152 bytes.
fn w1() -> Box<dyn Iterator<Item = String>> {
    let mut random = Random(SEED);
    Box::new((0..).map(move |id| reference::record(id, &mut random)))
}

/// 40 columns in 1 KB: numbers, texts of many and of few values, times, booleans.
fn w2() -> Box<dyn Iterator<Item = String>> {
    let mut random = Random(SEED);
    Box::new((0_u64..).map(move |id| wide(id, &mut random)))
}

fn wide(id: u64, random: &mut Random) -> String {
    let mut text = format!("{{\"order_id\":{id}");
    for column in 0..10 {
        write!(text, ",\"quantity_{column}\":{}", random.below(100_000)).unwrap();
    }
    for column in 0..9 {
        let (high, low) = (random.below(1 << 30), random.below(1 << 30));
        write!(text, ",\"reference_{column}\":\"{high:08x}-{low:08x}\"").unwrap();
    }
    for column in 0..8 {
        let (whole, cents) = (random.below(10_000), random.below(100));
        write!(text, ",\"price_{column}\":{whole}.{cents:02}").unwrap();
    }
    for column in 0..4 {
        let (second, milli) = (random.below(60), random.below(1000));
        write!(text, ",\"changed_at_{column}\":\"2026-11-22T10:20:{second:02}.{milli:03}Z\"")
            .unwrap();
    }
    for column in 0..4 {
        let state = random.one_of(&["created", "paid", "shipped", "delivered", "returned"]);
        write!(text, ",\"status_{column}\":\"{state}\"").unwrap();
    }
    for column in 0..4 {
        write!(text, ",\"is_flagged_{column}\":{}", random.below(2) == 0).unwrap();
    }
    text.push('}');
    text
}

/// GitHub's webhook payloads, over and over.
fn w3() -> Box<dyn Iterator<Item = String>> {
    let payloads: Vec<String> = datasets::webhooks().collect();
    Box::new(payloads.into_iter().cycle())
}

/// The flights, over and over.
fn w4() -> Box<dyn Iterator<Item = String>> {
    Box::new(datasets::flights_for_ever())
}
