//! Alluvium's own sinks and decoders. They know the contract (`connector-api`) and not the engine.

#![warn(missing_docs)]

pub mod decode;
pub mod delta;
