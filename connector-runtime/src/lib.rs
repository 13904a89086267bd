//! Alluvium's engine: Kafka topics into lakehouse tables, exactly once.
//!
//! # The journey of a record
//!
//! 1. [`config`]: a YAML file becomes a `ConnectorPlan`, or all its mistakes at once.
//! 2. [`worker`]: runs and supervises the connectors of one process.
//! 3. [`source`]: the consumer thread turns Kafka's messages into `RawRecords`: bytes of one topic partition.
//! 4. [`pipeline`]: one task a connector; decides whose records they are and which round collects them.
//! 5. [`write`]: the lane makes `DecodedRows` of them, then a `TableBatch`, and encodes it into open files,
//!    which are staged as `StagedFile`s.
//! 6. [`commit`]: a round makes a `StagedCommit` of files and offsets, and the table answers with a
//!    `CommitOutcome`.
//! 7. [`observe`]: what people see meanwhile. [`query`] reads the table back, [`commands`] look at a connector
//!    that does not run.
//!
//! The words are defined in `connector_api`. Concrete sinks and decoders are in the package
//! `connectors`, and only `main.rs` names them.

#![warn(missing_docs)]

mod allocator;
mod blocking;
pub mod cli;
pub mod commands;
pub mod commit;
pub mod config;
pub mod cores;
mod jitter;
pub mod memory;
pub mod observe;
pub mod pipeline;
pub mod query;
pub mod quickstart;
pub mod source;
pub mod worker;
pub mod write;

/// True where a test has planted a mistake, to see that it is found. Without the feature `failpoints`
/// never, at no cost.
pub(crate) fn is_planted(mistake: &str) -> bool {
    fail::fail_point!(mistake, |_| true);
    _ = mistake;
    false
}
