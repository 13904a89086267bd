//! The words and the contracts of Alluvium: what the engine and the connectors agree on.
//!
//! No I/O, no Kafka, no table format is in here. A third party writes a sink or a decoder against
//! this crate, checks it with the functions in [`contract`], and links it with `connector-runtime`.
//!
//! # Reading order
//!
//! [`offsets`] is the algebra that "exactly once" rests on; [`record`], [`decoded`], [`batch`] and
//! [`staged`] are the shapes that a record goes through, each with the offset range it accounts for;
//! [`decoder`] and [`sink`] are the traits; [`outcome`] is what a table may answer; [`reset`] is a person's word.
//!
//! # Glossary
//!
//! | term | type | whose term |
//! |---|---|---|
//! | topic partition | [`ids::TopicPartition`] | Kafka's *partition* |
//! | partition values | [`batch::PartitionValues`] | the table formats' *partition* |
//! | offset checkpoint | [`offsets::OffsetCheckpoint`] | ours: where a table stands; not Delta's log checkpoint |
//! | round | `CommitRound` in the runtime | ours: one turn of collect, seal, commit |
//! | staged | [`staged::StagedFile`], [`staged::StagedCommit`] | ours: complete but not visible |
//! | fenced | [`outcome::CommitOutcome::Fenced`] | distributed systems': overtaken by another owner |
//! | rejected | [`decoded::Rejected`] | ours: becomes a *dead letter* when stored |
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub, missing_debug_implementations)]

pub mod batch;
pub mod clock;
pub mod config;
#[cfg(feature = "contract")]
pub mod contract;
pub mod decoded;
pub mod decoder;
pub mod error;
pub mod ids;
pub mod invariants;
#[cfg(feature = "contract")]
pub mod memory;
pub mod offsets;
pub mod outcome;
pub mod partitioning;
pub mod record;
pub mod reset;
pub mod schema;
pub mod sink;
pub mod staged;

pub use error::{Context, Error, Fault, Result, Retry};
