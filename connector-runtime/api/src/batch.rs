//! Rows in the shape of a table, ready to be encoded.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::ids::TopicPartition;
use crate::offsets::OffsetRange;

/// The name of the struct column that traces each row to its record.
pub const KAFKA_COLUMN: &str = "_kafka";

/// What a table looks like: its columns, and those among them that it is partitioned by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    /// All columns, partition columns included.
    pub columns: SchemaRef,
    /// What chooses the folder of a row: names of columns, or where the sink takes them units of time
    /// of a column, in the spelling of [`PartitionField`](crate::partitioning::PartitionField).
    pub partition_columns: Vec<String>,
}

/// The values of a table's partition columns, one folder of the table: `(column, value as text)`,
/// in the order of the table's partition columns. `None` is a null.
///
/// Text as in the Delta protocol, "Partition Value Serialization": dates as `2026-01-31`, booleans as `true`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionValues(pub Vec<(String, Option<String>)>);

/// Rows of one table and one set of partition values, with the range whose records they are.
///
/// The range may be wider than the rows: what did not become a row is accounted for elsewhere.
#[derive(Debug, Clone)]
pub struct TableBatch {
    topic_partition: TopicPartition,
    range: OffsetRange,
    partition_values: PartitionValues,
    rows: RecordBatch,
}

impl TableBatch {
    /// Joins rows with the range that they come from. `rows` has the table's columns without its partition columns.
    pub fn new(
        topic_partition: TopicPartition,
        range: OffsetRange,
        partition_values: PartitionValues,
        rows: RecordBatch,
    ) -> Self {
        Self { topic_partition, range, partition_values, rows }
    }

    /// Where the rows come from.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The offsets among which the rows' records are.
    pub fn range(&self) -> OffsetRange {
        self.range
    }

    /// The folder of the table that the rows belong to.
    pub fn partition_values(&self) -> &PartitionValues {
        &self.partition_values
    }

    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }
}
