//! The contract, and what each sink promises beyond it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

mod delta;
mod faults;
mod parquet;
