//! The contract for decoders: bytes of records in, Arrow rows out.

use std::fmt;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::decoded::DecodedRows;
use crate::error::Error;
use crate::record::RawRecords;

/// What a decoder is asked for.
#[derive(Debug, Clone)]
pub struct DecodeRequest {
    /// The payload columns to fill, in the order of the table. A column may carry an [`EpochUnit`].
    pub columns: SchemaRef,
    /// What to do with fields that no column names.
    pub on_unknown_field: OnUnknownField,
}

/// What happens to a field that no column names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknownField {
    /// It is kept in the column [`RESCUED_COLUMN`], and so is a value that does not fit a nullable column.
    Rescue,
    /// It is dropped. A value that does not fit its column rejects the record.
    Ignore,
    /// The record is rejected.
    Reject,
}

/// What a number counts that stands for a timestamp, from 1970-01-01T00:00:00 on.
///
/// It says how records are written and is no property of the table: it travels in the metadata of a
/// requested column, for all timestamps in that column at any depth, and is never stored. Without
/// it a number is no timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    /// Seconds, with a fraction or without.
    Seconds,
    /// Whole milliseconds.
    Millis,
    /// Whole microseconds.
    Micros,
}

impl EpochUnit {
    /// All of them, the longest first.
    pub const ALL: [Self; 3] = [Self::Seconds, Self::Millis, Self::Micros];

    const KEY: &str = "alluvium.epoch_unit";

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Millis => "millis",
            Self::Micros => "micros",
        }
    }

    /// The unit that a column carries.
    pub fn of(column: &Field) -> Option<Self> {
        let name = column.metadata().get(Self::KEY)?;
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// The column with this unit, or with none.
    pub fn put(unit: Option<Self>, column: Field) -> Field {
        let mut metadata = column.metadata().clone();
        metadata.remove(Self::KEY);
        metadata.extend(unit.map(|unit| (Self::KEY.to_owned(), unit.name().to_owned())));
        column.with_metadata(metadata)
    }
}

/// The name of the column that holds what the other columns could not take: `STRING`, a JSON object by path, null for a clean row.
pub const RESCUED_COLUMN: &str = "_rescued";

/// Makes decoders of one format.
pub trait DecoderFactory: Send + Sync + fmt::Debug {
    /// The name of the format in the configuration (`decode.value`).
    fn format(&self) -> &'static str;

    /// Derives payload columns from a sample of records.
    ///
    /// Must be a pure function of the sample: two workers that see the same records must get the
    /// same columns. Records that cannot be read are passed over. Returns `None` if no record of
    /// the sample has columns.
    fn infer(&self, sample: &[&[u8]]) -> Option<Schema>;

    /// Makes a decoder. Fails, with the user at fault, if the format cannot fill one of the columns.
    fn decoder(&self, request: &DecodeRequest) -> Result<Box<dyn Decoder>, Error>;
}

/// Decodes records, one batch after the other.
///
/// A decoder must be total: each record of the batch ends as a row, a
/// [`Rejected`](crate::decoded::Rejected) or a tombstone, whatever its bytes are (CM-4). It must be
/// a pure function of record and request, since after a crash the same records are decoded again.
/// It may keep buffers and learned shortcuts between batches.
pub trait Decoder: Send {
    /// Decodes a batch. The rows have the requested columns, then [`RESCUED_COLUMN`] if unknown
    /// fields are rescued.
    fn decode(&mut self, records: &RawRecords) -> DecodedRows;
}
