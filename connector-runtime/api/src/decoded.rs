//! What a decoder makes of records: rows, and rejected records. Bad data is a value, never an error.

use std::fmt;

use arrow::array::RecordBatch;
use bytes::Bytes;

use crate::check_invariant;
use crate::ids::TopicPartition;
use crate::offsets::OffsetRange;
use crate::record::{Origin, RawRecords};
use crate::staged::Accounting;

/// The rows of one [`RawRecords`], with everything that did not become a row.
#[derive(Debug)]
pub struct DecodedRows {
    topic_partition: TopicPartition,
    range: OffsetRange,
    rows: RecordBatch,
    row_records: Vec<u32>,
    rejected: Vec<Rejected>,
    tombstones: u64,
}

/// The parts of a [`DecodedRows`], by name.
#[derive(Debug)]
pub struct DecodedParts {
    /// The payload columns, one row for each decoded record, in the order of the records.
    pub rows: RecordBatch,
    /// For each row the index of its record in the [`RawRecords`], ascending.
    pub row_records: Vec<u32>,
    /// Records that could not become a row.
    pub rejected: Vec<Rejected>,
    /// Records without a value.
    pub tombstones: u64,
}

impl DecodedRows {
    /// Joins a decoder's result with the range that it accounts for.
    ///
    /// Checks CM-4: each record is a row, a rejected record or a tombstone, and only one of them; rows are in
    /// the order of their records.
    pub fn new(records: &RawRecords, parts: DecodedParts) -> Self {
        let DecodedParts { rows, row_records, rejected, tombstones } = parts;
        let accounted = rows.num_rows() as u64 + rejected.len() as u64 + tombstones;
        check_invariant!(
            Cm4,
            accounted == records.len() as u64
                && row_records.len() == rows.num_rows()
                && row_records.is_sorted_by(|before, after| before < after),
            "{records:?} became {} rows, {} rejected and {tombstones} tombstones",
            rows.num_rows(),
            rejected.len()
        );
        Self {
            topic_partition: records.topic_partition().clone(),
            range: records.range(),
            rows,
            row_records,
            rejected,
            tombstones,
        }
    }

    /// Where the rows come from.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The offsets that the rows account for.
    pub fn range(&self) -> OffsetRange {
        self.range
    }

    /// The payload columns.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// For each row the index of its record in the [`RawRecords`].
    pub fn row_records(&self) -> &[u32] {
        &self.row_records
    }

    /// Records that could not become a row.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// What became of the records.
    pub fn accounting(&self) -> Accounting {
        let (written, rejected) = (self.rows.num_rows() as u64, self.rejected.len() as u64);
        Accounting {
            consumed: written + rejected + self.tombstones,
            written,
            rejected,
            filtered: 0,
            tombstones: self.tombstones,
        }
    }
}

/// A record that could not become a row.
#[derive(Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it stands in Kafka.
    pub origin: Origin,
    /// Why it was rejected.
    pub cause: Cause,
    /// Its value, untouched.
    pub payload: Bytes,
}

impl fmt::Debug for Rejected {
    /// Names origin and cause and not the payload: payload does not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rejected({}, {}, {} bytes)", self.origin, self.cause, self.payload.len())
    }
}

/// Why a record was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// A stable code that people and alarms can filter by, for example `json_syntax`.
    pub code: &'static str,
    /// Where in the record: a path such as `user.tags[3]`; empty for the record as a whole.
    pub path: String,
    /// What was found and what would have been allowed. Never holds more than a short excerpt of the payload.
    pub message: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.code, self.message),
            path => write!(f, "{} at `{path}`: {}", self.code, self.message),
        }
    }
}
