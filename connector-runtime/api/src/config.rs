//! What the configuration hands to connectors: plain values, already read and resolved.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::sink::Sink;

/// A value that came out of the environment or a file, or may hold credentials: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself; what is done with it must not reach logs, errors or metrics.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The settings of one table: the same keys for every table format.
#[derive(Debug, Clone)]
pub struct TableSettings {
    /// A path, or a URL such as `s3://bucket/prefix`.
    pub location: String,
    /// What chooses the folder of a row, for a table that is to be created: names of columns, or
    /// units of time of a column ([`PartitionField`](crate::partitioning::PartitionField)), which a
    /// factory may refuse.
    pub partition_by: Vec<String>,
    /// Properties of the table format, for a table that is to be created.
    pub properties: BTreeMap<String, String>,
    /// Options of the store under `object_store`'s names. Any of them may be a credential.
    pub storage: BTreeMap<String, Secret<String>>,
    /// How data files are compressed.
    pub compression: Compression,
}

/// Compression of data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard at a level from 1 to 22.
    Zstd(i32),
    /// Snappy.
    Snappy,
    /// LZ4 (raw blocks).
    Lz4,
    /// None.
    Uncompressed,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zstd(level) => write!(f, "zstd({level})"),
            Self::Snappy => f.write_str("snappy"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Uncompressed => f.write_str("none"),
        }
    }
}

/// A setting that a connector refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// The path below `table`: `delta.location`, `delta.properties.delta.appendOnly`, `storage.aws_regoin`.
    pub key: Vec<String>,
    /// What was found and what is allowed.
    pub message: String,
}

/// Makes sinks of one table format.
pub trait SinkFactory: Send + Sync + fmt::Debug {
    /// The name of the format: its key below `table` in the configuration.
    fn format(&self) -> &'static str;

    /// Checks the settings without I/O, all of them, and makes the sink that they describe.
    fn sink(&self, settings: &TableSettings) -> Result<Arc<dyn Sink>, Vec<SettingError>>;
}
