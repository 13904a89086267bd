//! 4–7 · Decode, assemble, write, roll: from records to files that nobody sees yet.
//!
//! A [`Lane`] is all CPU work of one connector, in order: it runs on a blocking thread, one job at a
//! time, and holds the open files between jobs. Uploads happen elsewhere ([`staging`]).

pub mod assemble;
pub mod dead_letters;
mod lane;
pub mod naming;
pub mod partitioning;
pub mod rolling;
pub mod staging;

pub use lane::{Lane, LaneSettings, Processed, SealedFiles};
