//! The tests from outside, in one program so that they share a broker and a store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails; clippy sees only the functions that are tests themselves"
)]

mod accounted;
mod altered;
mod back;
mod bench;
mod brokers;
mod clocks;
mod contract;
mod crash_points;
mod credentials;
mod dead_letters;
mod errors;
mod fire;
mod ground;
mod group_protocols;
mod idle;
mod inference;
mod journey;
mod kill_nine;
mod maintained;
mod memory;
mod offsets;
mod parquet;
mod preview;
mod quickstart;
mod readers;
mod scenarios;
mod starts;
mod stops;
mod stores;
mod supervised;
mod tls;
mod two_workers;

use std::time::Duration;

/// How long a worker may take for what should take seconds, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);
