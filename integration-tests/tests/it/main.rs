//! The tests from outside, in one program so that they share a broker and a store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails; clippy sees only the functions that are tests themselves"
)]

mod ground;
