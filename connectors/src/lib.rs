//! Alluvium's own sinks and decoders. They know the contract (`connector-api`) and not the engine.

#![warn(missing_docs)]

mod data_file;
pub mod decode;
pub mod delta;
pub mod parquet;
pub mod store;
