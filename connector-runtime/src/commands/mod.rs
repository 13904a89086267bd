//! Commands that look at a connector from outside, or move it while it does not run.
//!
//! `config` needs no connector at all.
//!
//! None of them joins the connector's group. [`situation`] finds out where table and brokers stand,
//! [`sheet`] aligns what people read.

pub(crate) mod config;
pub mod maintain;
pub mod offsets;
pub mod preview;
mod sheet;
mod situation;
