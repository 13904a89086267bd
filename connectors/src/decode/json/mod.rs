//! JSON objects to rows: one pass over the bytes, straight into columns, led by the schema.
//!
//! Every record ends as a row, a [`Rejected`] or a tombstone (CM-4), whatever its bytes are, and the
//! result is a function of the record and the request alone: what a decoder learns from one record,
//! such as the order of the fields, only makes the next one faster. A bad record is cut off again
//! (`columns`) and leaves its neighbours as they are.
//!
//! # What fits a column
//!
//! A value fits if nothing is lost. Names match exactly, escapes resolved.
//!
//! | column | fits |
//! |---|---|
//! | `boolean` | `true`, `false` |
//! | `byte` `short` `integer` `long` `float` `double` `decimal` | numbers, see `number`; never a string with a number in it |
//! | `string` | strings |
//! | `string` with the metadata [`JSON_TEXT_KEY`] | anything but null: a string as its plain text, all else as the JSON text that it stood in the record as. `12` and `"12"` become the same text; columns of this kind come from inference (`infer`) |
//! | `binary` | strings in base64, see [`base64`] |
//! | `date` `timestamp` `timestamp_ntz` | strings in ISO 8601, see `time` |
//! | `timestamp` `timestamp_ntz` with an [`EpochUnit`](connector_api::decoder::EpochUnit) | the same, and numbers that count this unit, see `number` |
//! | `array` | arrays whose items fit |
//! | `struct` | objects whose known fields fit and whose required fields are there |
//! | `map` with keys of type string | objects whose values fit |
//!
//! Null and a missing field are the same: null in a nullable column, else `null_in_required`. A
//! missing zone of a `timestamp` means UTC. If a name occurs twice in an object, the last one counts,
//! as if the earlier ones were not there (see `duplicates`).
//!
//! # What does not fit
//!
//! | `on_unknown_field` | unknown field | value that does not fit |
//! |---|---|---|
//! | `rescue` | its text goes to `_rescued`, unless it is null | the nearest nullable column around it becomes null, and that one's text goes to `_rescued`; if there is none, the record is rejected |
//! | `ignore` | dropped | the record is rejected |
//! | `reject` | the record is rejected | the record is rejected |
//!
//! `_rescued` is a JSON object of paths (`path`) and values: `{"user.extra":1,"tags[3]":{"a":null}}`.
//! The values stand as in the record, byte for byte. Only where a name that occurs twice mattered
//! to a column, what later members replaced is missing in all of them. An unknown object is one
//! entry.
//!
//! # Why a record is rejected
//!
//! The first row that applies. Codes are stable: people and alarms filter by them.
//!
//! | code | when |
//! |---|---|
//! | `empty_value` | the value has no bytes (without a value at all it is a tombstone) |
//! | `invalid_utf8` | the value is not UTF-8 |
//! | `json_syntax` | anything that RFC 8259 does not allow, anywhere in the value and behind it; a byte order mark; an escaped surrogate without its other half |
//! | `too_deep` | more than 64 objects and arrays in one another, the record itself included |
//! | `not_an_object` | the value is JSON and no object |
//! | `unknown_field` | a field without a column, with `on_unknown_field: reject` |
//! | `wrong_type` | a string for a number, a number for a timestamp without a unit, an object for a string, … |
//! | `not_exact` | `1.5` for a `long`, 2^53 + 1 for a `double`, more digits than the scale of a `decimal` |
//! | `out_of_range` | a number beyond the type of its column, or for a timestamp beyond the years 0001 to 9999 |
//! | `invalid_time` | a text that is no date or time, or a day that does not exist |
//! | `invalid_base64` | a text that is no base64 |
//! | `null_in_required` | null or no value in a column that is not nullable |
//! | `rescued_too_large` | what would have to be rescued is more than 32 times as long as the record |
//! | `batch_too_large` | more than 2 GiB of text in one batch; sources hand over long before |
//!
//! Rows from `json_syntax` to `too_deep` are told by what comes first in the text, and so are those
//! from `unknown_field` to `null_in_required`.

mod base64;
mod columns;
mod duplicates;
mod fill;
mod flaw;
mod infer;
mod number;
mod path;
mod rescue;
mod scan;
mod time;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod search;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use connector_api::batch::KAFKA_COLUMN;
use connector_api::decoded::{Cause, DecodedParts, DecodedRows, Rejected};
use connector_api::decoder::{
    DecodeRequest, Decoder, DecoderFactory, OnUnknownField, RESCUED_COLUMN,
};
use connector_api::offsets::Offset;
use connector_api::record::{Origin, RawRecords};
use connector_api::{Error, check_invariant};

use self::columns::StructValues;
use self::fill::Filler;
use self::flaw::{Flaw, Why};
use self::path::{Labels, Segment};
use self::rescue::Rescued;
use self::scan::Cursor;

pub use self::columns::{JSON_TEXT_KEY, JSON_TEXT_VALUE};

/// Makes decoders of JSON objects: `decode.value: json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonFactory;

impl DecoderFactory for JsonFactory {
    fn format(&self) -> &'static str {
        "json"
    }

    fn infer(&self, sample: &[&[u8]]) -> Option<Schema> {
        infer::infer(sample)
    }

    fn decoder(&self, request: &DecodeRequest) -> Result<Box<dyn Decoder>, Error> {
        Ok(Box::new(JsonDecoder::new(request)?))
    }
}

/// True if a payload column cannot have this name, since we fill a column of this name ourselves.
/// Tables do not tell names apart by case.
fn is_reserved(name: &str) -> bool {
    name.eq_ignore_ascii_case(KAFKA_COLUMN) || name.eq_ignore_ascii_case(RESCUED_COLUMN)
}

struct JsonDecoder {
    /// The requested columns, and `_rescued` if there is one.
    schema: SchemaRef,
    on_unknown_field: OnUnknownField,
    labels: Labels,
    root: StructValues,
    rescued: Rescued,
    rows: usize,
    path: Vec<Segment>,
    unescaped: Vec<u8>,
}

impl fmt::Debug for JsonDecoder {
    /// Names the columns and not what is in them: payload does not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "JsonDecoder({} columns, {:?})",
            self.schema.fields().len(),
            self.on_unknown_field
        )
    }
}

impl JsonDecoder {
    fn new(request: &DecodeRequest) -> Result<Self, Error> {
        if let Some(field) = request.columns.fields().iter().find(|field| is_reserved(field.name()))
        {
            let name = field.name();
            return Err(Error::user(format!(
                "column `{name}` has a name that is reserved; rename it"
            )));
        }
        let mut labels = Labels::new();
        let root = StructValues::new(request.columns.fields(), "", None, &mut labels)?;
        let mut fields = request.columns.fields().to_vec();
        if request.on_unknown_field == OnUnknownField::Rescue {
            fields.push(Arc::new(Field::new(RESCUED_COLUMN, DataType::Utf8, true)));
        }
        let metadata = request.columns.metadata().clone();
        Ok(Self {
            schema: Arc::new(Schema::new_with_metadata(fields, metadata)),
            on_unknown_field: request.on_unknown_field,
            labels,
            root,
            rescued: Rescued::new(),
            rows: 0,
            path: Vec::new(),
            unescaped: Vec::new(),
        })
    }

    /// Adds a row, or leaves the columns as they were and says why.
    fn record(&mut self, value: &[u8]) -> Result<(), Cause> {
        if value.is_empty() {
            return Err(self.cause(Flaw::new(Why::EmptyValue, 0), value));
        }
        // Most JSON is ASCII, which is seen faster than UTF-8.
        if !is_ascii(value) && simdutf8::basic::from_utf8(value).is_err() {
            let valid =
                std::str::from_utf8(value).map_or_else(|error| error.valid_up_to(), str::len);
            return Err(self.cause(Flaw::new(Why::InvalidUtf8, valid), value));
        }
        let Err(flaw) = self.fill(value) else { return Ok(()) };
        self.retry(value, flaw)
    }

    /// One walk over a text. The columns are as before if it fails; `path` tells where that was.
    fn fill(&mut self, value: &[u8]) -> Result<(), Flaw> {
        self.path.clear();
        let mut filler = Filler {
            cursor: Cursor::with_buffer(value, std::mem::take(&mut self.unescaped)),
            path: &mut self.path,
            labels: &self.labels,
            on_unknown_field: self.on_unknown_field,
            rescued: &mut self.rescued,
        };
        let filled = filler.record(&mut self.root, self.rows);
        self.unescaped = filler.cursor.into_buffer();
        let filled = filled.and_then(|()| match self.rescued.text_bytes() > i32::MAX as usize {
            true => Err(Flaw::new(Why::BatchTooLarge, 0)),
            false => Ok(()),
        });
        match filled {
            Ok(()) => self.rows += 1,
            Err(_) => {
                self.root.truncate(self.rows);
                self.rescued.truncate(self.rows);
            }
        }
        filled
    }

    /// After a flaw: looks for what outranks it, which is bad syntax behind it, and for a name that
    /// occurs twice, so that the flaw may be in a value that does not count.
    #[cold]
    fn retry(&mut self, value: &[u8], flaw: Flaw) -> Result<(), Cause> {
        if flaw.why.is_unreadable() {
            return Err(self.cause(flaw, value));
        }
        if let Err(flaw) = scan::check_grammar(value) {
            return Err(self.cause(flaw, value));
        }
        match duplicates::without_duplicates(value) {
            Some(value) => self.fill(&value).map_err(|flaw| self.cause(flaw, &value)),
            None => Err(self.cause(flaw, value)),
        }
    }

    fn cause(&self, flaw: Flaw, value: &[u8]) -> Cause {
        flaw::cause(flaw, value, &self.path, &self.labels)
    }

    /// Hands the rows over and starts anew.
    fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let mut columns = self.root.finish()?;
        if self.on_unknown_field == OnUnknownField::Rescue {
            columns.push(self.rescued.finish()?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, records: &RawRecords) -> DecodedRows {
        let (mut row_records, mut rejected, mut tombstones) =
            (Vec::with_capacity(records.len()), vec![], 0);
        let mut bytes_seen = 0;
        for record in 0..records.len() {
            let Some(value) = records.value(record) else {
                tombstones += 1;
                continue;
            };
            bytes_seen += value.len();
            let decoded = match bytes_seen > i32::MAX as usize {
                // What is in a column is never longer than in the record.
                true => Err(self.cause(Flaw::new(Why::BatchTooLarge, 0), value)),
                false => self.record(value),
            };
            match decoded {
                Ok(()) => row_records.push(record as u32),
                Err(cause) => rejected.push(reject(records, record, cause)),
            }
        }
        let rows = self.finish().unwrap_or_else(|error| {
            check_invariant!(Cm4, false, "decoded columns of {records:?} make no batch: {error}");
            RecordBatch::new_empty(Arc::clone(&self.schema))
        });
        DecodedRows::new(records, DecodedParts { rows, row_records, rejected, tombstones })
    }
}

/// As the standard library tells it, without its loop over the last bytes one by one.
fn is_ascii(text: &[u8]) -> bool {
    const HIGH_BITS: u128 = u128::from_le_bytes([0x80; 16]);
    let Some(last) = text.last_chunk() else { return text.is_ascii() };
    let (chunks, _) = text.as_chunks();
    let seen = chunks.iter().fold(*last, |seen, chunk| {
        (u128::from_le_bytes(seen) | u128::from_le_bytes(*chunk)).to_le_bytes()
    });
    u128::from_le_bytes(seen) & HIGH_BITS == 0
}

fn reject(records: &RawRecords, record: usize, cause: Cause) -> Rejected {
    // A record's offset is not negative; the builder of `RawRecords` takes no other.
    let offset = Offset::new(records.offsets()[record]).unwrap_or_else(|| records.range().start());
    let origin = Origin { topic_partition: records.topic_partition().clone(), offset };
    // A copy, since the rest of the batch should not stay in memory for one rejected record.
    Rejected {
        origin,
        cause,
        payload: Bytes::copy_from_slice(records.value(record).unwrap_or_default()),
    }
}
