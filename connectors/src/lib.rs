//! Alluvium's own sinks and decoders. They know the contract (`connector-api`) and not the engine.

#![warn(missing_docs)]

pub mod data_file;
pub mod decode;
pub mod delta;
pub mod parquet;
pub mod store;

/// True where a test has planted a mistake, to see that it is found. Without the feature `failpoints`
/// never, at no cost.
pub(crate) fn is_planted(mistake: &str) -> bool {
    fail::fail_point!(mistake, |_| true);
    _ = mistake;
    false
}
