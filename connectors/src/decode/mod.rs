//! Decoders: bytes of records in, Arrow columns out. One folder for each format.

pub mod json;

pub use json::JsonFactory;
