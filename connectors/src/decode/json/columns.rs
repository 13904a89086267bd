//! Columns that are filled value by value and can be cut back to any length.
//!
//! A record that turns out bad in its middle has left values in some columns and none in others.
//! [`Column::truncate`] brings every column back to where the record began, whatever half-written
//! state it is in, at the cost of one `Vec::truncate`; Arrow's typed builders cannot do this. The
//! vectors become Arrow arrays without a copy.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray,
    MapArray, NullBufferBuilder, PrimitiveArray, StringArray, StructArray, types,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;
use connector_api::Error;
use connector_api::decoder::EpochUnit;

use super::path::Labels;
use super::scan::{Chunk, Key};
use super::time::Zone;

/// A field with this metadata holds any JSON value as text: see [`JSON_TEXT_VALUE`].
///
/// Delta tables keep a field's metadata in their schema, so that it is still known after a restart.
pub const JSON_TEXT_KEY: &str = "alluvium.json";

/// The value of [`JSON_TEXT_KEY`] that marks a column of type string as one for JSON of mixed types.
pub const JSON_TEXT_VALUE: &str = "true";

/// Objects with more fields than this look names up by hash; below, comparing is faster.
const COMPARED_FIELDS_MAX: usize = 16;

/// One column, at any depth.
pub(super) struct Column {
    pub(super) label: u32,
    pub(super) nullable: bool,
    pub(super) values: Values,
    len: usize,
    validity: NullBufferBuilder,
    field: FieldRef,
}

/// The values of a column, by its type.
pub(super) enum Values {
    Boolean(BooleanBufferBuilder),
    Byte(Vec<i8>),
    Short(Vec<i16>),
    Integer(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Date(Vec<i32>),
    Timestamp {
        micros: Vec<i64>,
        zone: Zone,
        /// What numbers count; without it only texts fit.
        unit: Option<EpochUnit>,
    },
    String(Bytes),
    /// A string column that takes any JSON value: see [`JSON_TEXT_KEY`].
    JsonText(Bytes),
    Binary(Bytes),
    List(Box<ListValues>),
    Struct(StructValues),
    Map(Box<MapValues>),
}

pub(super) struct ListValues {
    pub(super) ends: Ends,
    pub(super) items: Column,
}

pub(super) struct MapValues {
    pub(super) ends: Ends,
    pub(super) keys: Bytes,
    pub(super) values: Column,
}

/// The fields of an object.
pub(super) struct StructValues {
    pub(super) fields: Vec<StructField>,
    /// Which field came behind field `i - 1` in the last record, and at 0 which came first: producers
    /// write their fields in the same order most of the time.
    pub(super) following: Vec<u32>,
    by_name: Option<HashMap<Box<[u8]>, u32>>,
}

pub(super) struct StructField {
    pub(super) key: Key,
    name: Box<[u8]>,
    pub(super) column: Column,
}

impl Column {
    /// Makes an empty column for `field`, which stands at `path`. `unit` is that of the column around it.
    pub(super) fn new(
        field: &FieldRef,
        path: &str,
        unit: Option<EpochUnit>,
        labels: &mut Labels,
    ) -> Result<Self, Error> {
        let unit = EpochUnit::of(field).or(unit);
        let values = Values::new(field, path, unit, labels)?;
        let label = labels.add(field.name(), type_name(field.data_type(), unit));
        let validity = NullBufferBuilder::new(0);
        Ok(Self {
            label,
            nullable: field.is_nullable(),
            values,
            len: 0,
            validity,
            field: Arc::clone(field),
        })
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Ends a value that has been written to [`Self::values`].
    #[inline]
    pub(super) fn end_value(&mut self) {
        self.validity.append_non_null();
        self.len += 1;
    }

    /// Adds a null, or, where the column takes none, a value that a null further up hides.
    pub(super) fn append_absent(&mut self) {
        self.values.append_default();
        self.validity.append(!self.nullable);
        self.len += 1;
    }

    /// Cuts the column back to `len` values.
    pub(super) fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.validity.truncate(len);
        self.len = len;
    }

    /// Hands the values over as an array and starts anew.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let len = std::mem::take(&mut self.len);
        let nulls = self.validity.finish();
        self.values.finish(len, nulls, self.field.data_type())
    }
}

impl Values {
    fn new(
        field: &FieldRef,
        path: &str,
        unit: Option<EpochUnit>,
        labels: &mut Labels,
    ) -> Result<Self, Error> {
        let unsupported = || {
            Error::user(format!(
                "column `{path}` of type `{}` cannot be decoded from JSON; allowed are boolean, byte, \
                 short, integer, long, float, double, decimal, string, binary, date, timestamp, \
                 timestamp_ntz, array, struct, and map with keys of type string",
                field.data_type()
            ))
        };
        Ok(match field.data_type() {
            DataType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Self::Byte(Vec::new()),
            DataType::Int16 => Self::Short(Vec::new()),
            DataType::Int32 => Self::Integer(Vec::new()),
            DataType::Int64 => Self::Long(Vec::new()),
            DataType::Float32 => Self::Float(Vec::new()),
            DataType::Float64 => Self::Double(Vec::new()),
            &DataType::Decimal128(precision, scale) if precision <= 38 && scale >= 0 => {
                Self::Decimal { values: Vec::new(), precision, scale }
            }
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => {
                Self::Timestamp { micros: Vec::new(), zone: Zone::Utc, unit }
            }
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Self::Timestamp { micros: Vec::new(), zone: Zone::None, unit }
            }
            DataType::Utf8 if is_json_text(field) => Self::JsonText(Bytes::default()),
            DataType::Utf8 => Self::String(Bytes::default()),
            DataType::Binary => Self::Binary(Bytes::default()),
            DataType::List(item) => {
                let items = Column::new(item, &format!("{path}[]"), unit, labels)?;
                Self::List(Box::new(ListValues { ends: Ends::default(), items }))
            }
            DataType::Struct(fields) => {
                Self::Struct(StructValues::new(fields, path, unit, labels)?)
            }
            DataType::Map(entries, false) => {
                let (key, value) = map_fields(entries).ok_or_else(unsupported)?;
                if key.data_type() != &DataType::Utf8 {
                    return Err(unsupported());
                }
                let values = Column::new(value, &format!("{path}.*"), unit, labels)?;
                let (ends, keys) = (Ends::default(), Bytes::default());
                Self::Map(Box::new(MapValues { ends, keys, values }))
            }
            _ => return Err(unsupported()),
        })
    }

    fn append_default(&mut self) {
        match self {
            Self::Boolean(values) => values.append(false),
            Self::Byte(values) => values.push(0),
            Self::Short(values) => values.push(0),
            Self::Integer(values) | Self::Date(values) => values.push(0),
            Self::Long(values) | Self::Timestamp { micros: values, .. } => values.push(0),
            Self::Float(values) => values.push(0.0),
            Self::Double(values) => values.push(0.0),
            Self::Decimal { values, .. } => values.push(0),
            Self::String(values) | Self::JsonText(values) | Self::Binary(values) => {
                values.end_value()
            }
            Self::List(list) => list.ends.push(list.items.len()),
            Self::Struct(values) => values.fields.iter_mut().for_each(|f| f.column.append_absent()),
            Self::Map(map) => map.ends.push(map.values.len()),
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(values) => values.truncate(len),
            Self::Byte(values) => values.truncate(len),
            Self::Short(values) => values.truncate(len),
            Self::Integer(values) | Self::Date(values) => values.truncate(len),
            Self::Long(values) | Self::Timestamp { micros: values, .. } => values.truncate(len),
            Self::Float(values) => values.truncate(len),
            Self::Double(values) => values.truncate(len),
            Self::Decimal { values, .. } => values.truncate(len),
            Self::String(values) | Self::JsonText(values) | Self::Binary(values) => {
                values.truncate(len)
            }
            Self::List(list) => {
                list.ends.truncate(len);
                list.items.truncate(list.ends.last());
            }
            Self::Struct(values) => values.truncate(len),
            Self::Map(map) => {
                map.ends.truncate(len);
                map.keys.truncate(map.ends.last());
                map.values.truncate(map.ends.last());
            }
        }
    }

    fn finish(
        &mut self,
        len: usize,
        nulls: Option<NullBuffer>,
        data_type: &DataType,
    ) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Self::Byte(values) => primitive::<types::Int8Type>(values, nulls, data_type)?,
            Self::Short(values) => primitive::<types::Int16Type>(values, nulls, data_type)?,
            Self::Integer(values) => primitive::<types::Int32Type>(values, nulls, data_type)?,
            Self::Long(values) => primitive::<types::Int64Type>(values, nulls, data_type)?,
            Self::Float(values) => primitive::<types::Float32Type>(values, nulls, data_type)?,
            Self::Double(values) => primitive::<types::Float64Type>(values, nulls, data_type)?,
            Self::Decimal { values, .. } => {
                primitive::<types::Decimal128Type>(values, nulls, data_type)?
            }
            Self::Date(values) => primitive::<types::Date32Type>(values, nulls, data_type)?,
            Self::Timestamp { micros, .. } => {
                primitive::<types::TimestampMicrosecondType>(micros, nulls, data_type)?
            }
            Self::String(values) | Self::JsonText(values) => values.finish_string(nulls)?,
            Self::Binary(values) => {
                let (ends, data) = values.take();
                Arc::new(BinaryArray::try_new(ends, data, nulls)?)
            }
            Self::List(list) => {
                let items = list.items.finish()?;
                let field = Arc::clone(&list.items.field);
                Arc::new(ListArray::try_new(field, list.ends.take(), items, nulls)?)
            }
            Self::Struct(values) => {
                let DataType::Struct(fields) = data_type else {
                    return Err(ArrowError::SchemaError(format!(
                        "a struct column of type {data_type}"
                    )));
                };
                let arrays = values.finish()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, len)?)
            }
            Self::Map(map) => map.finish(nulls, data_type)?,
        })
    }
}

impl StructValues {
    pub(super) fn new(
        fields: &Fields,
        path: &str,
        unit: Option<EpochUnit>,
        labels: &mut Labels,
    ) -> Result<Self, Error> {
        let mut made = Vec::with_capacity(fields.len());
        let mut by_name = HashMap::with_capacity(fields.len());
        for (index, field) in fields.iter().enumerate() {
            let name: Box<[u8]> = field.name().as_bytes().into();
            let path = match path {
                "" => field.name().clone(),
                _ => format!("{path}.{}", field.name()),
            };
            if by_name.insert(name.clone(), index as u32).is_some() {
                return Err(Error::user(format!("column `{path}` is there twice")));
            }
            let key = Key::new(&name);
            let column = Column::new(field, &path, unit, labels)?;
            made.push(StructField { key, name, column });
        }
        let following = (0..=fields.len() as u32).collect();
        let by_name = (fields.len() > COMPARED_FIELDS_MAX).then_some(by_name);
        Ok(Self { fields: made, following, by_name })
    }

    /// The field with this name.
    pub(super) fn position(&self, name: &[u8]) -> Option<usize> {
        match &self.by_name {
            Some(by_name) => by_name.get(name).map(|index| *index as usize),
            None => self.fields.iter().position(|field| *field.name == *name),
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.fields.iter_mut().for_each(|field| field.column.truncate(len));
    }

    pub(super) fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.fields.iter_mut().map(|field| field.column.finish()).collect()
    }
}

impl MapValues {
    fn finish(
        &mut self,
        nulls: Option<NullBuffer>,
        data_type: &DataType,
    ) -> Result<ArrayRef, ArrowError> {
        let DataType::Map(entries, sorted) = data_type else {
            return Err(ArrowError::SchemaError(format!("a map column of type {data_type}")));
        };
        let DataType::Struct(fields) = entries.data_type() else {
            return Err(ArrowError::SchemaError(format!(
                "map entries of type {}",
                entries.data_type()
            )));
        };
        let arrays = vec![self.keys.finish_string(None)?, self.values.finish()?];
        let pairs = StructArray::try_new(fields.clone(), arrays, None)?;
        Ok(Arc::new(MapArray::try_new(
            Arc::clone(entries),
            self.ends.take(),
            pairs,
            nulls,
            *sorted,
        )?))
    }
}

/// Where each value of variable length ends in the data behind it; it starts where the previous one ends.
pub(super) struct Ends(Vec<i32>);

impl Default for Ends {
    fn default() -> Self {
        Self(vec![0])
    }
}

impl Ends {
    /// The caller keeps the data below 2 GiB: see `decode`.
    #[inline]
    pub(super) fn push(&mut self, end: usize) {
        self.0.push(end as i32);
    }

    #[inline]
    pub(super) fn last(&self) -> usize {
        self.0.last().map_or(0, |end| *end as usize)
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len + 1);
    }

    fn take(&mut self) -> OffsetBuffer<i32> {
        let mut next = next_buffer(&self.0);
        next.push(0);
        OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.0, next)))
    }
}

/// Values of bytes, one behind the other.
#[derive(Default)]
pub(super) struct Bytes {
    ends: Ends,
    data: Vec<u8>,
}

impl Bytes {
    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.end_value();
    }

    /// Adds the first `len` bytes as a value. Copying a fixed number of bytes and cutting off those that
    /// do not belong to it is several times as fast as a call of `memcpy` for a few bytes.
    #[inline]
    pub(super) fn push_short(&mut self, bytes: &Chunk, len: usize) {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        self.data.truncate(start + len);
        self.end_value();
    }

    /// Adds to a value that [`Self::end_value`] has yet to end.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
    }

    #[inline]
    pub(super) fn end_value(&mut self) {
        self.ends.push(self.data.len());
    }

    pub(super) fn data(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    pub(super) fn data_bytes(&self) -> usize {
        self.data.len()
    }

    /// The values from number `start` on.
    pub(super) fn values_behind(&self, start: usize) -> impl Iterator<Item = &[u8]> + Clone {
        let ends = self.ends.0.get(start..).unwrap_or_default();
        ends.windows(2).map(|ends| &self.data[ends[0] as usize..ends[1] as usize])
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.data.truncate(self.ends.last());
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let next = next_buffer(&self.data);
        (self.ends.take(), Buffer::from_vec(std::mem::replace(&mut self.data, next)))
    }

    pub(super) fn finish_string(
        &mut self,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        let (ends, data) = self.take();
        Ok(Arc::new(StringArray::try_new(ends, data, nulls)?))
    }
}

/// Room for as much as was there, and for a bit more: a batch with a few values more than the last
/// one would otherwise copy them all when it is almost done.
fn next_buffer<T>(values: &[T]) -> Vec<T> {
    Vec::with_capacity(values.len() + values.len() / 8)
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let next = next_buffer(values);
    let array = PrimitiveArray::<T>::try_new(std::mem::replace(values, next).into(), nulls)?;
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

fn is_json_text(field: &Field) -> bool {
    field.metadata().get(JSON_TEXT_KEY).is_some_and(|value| value == JSON_TEXT_VALUE)
}

fn map_fields(entries: &Field) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.as_ref() {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}

/// A type as the configuration spells it; of a nested type its outermost part.
fn type_name(data_type: &DataType, unit: Option<EpochUnit>) -> String {
    match data_type {
        DataType::Int8 => "byte".to_owned(),
        DataType::Int16 => "short".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "long".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Utf8 => "string".to_owned(),
        DataType::Binary => "binary in base64".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(_, zone) => {
            let name = if zone.is_some() { "timestamp" } else { "timestamp_ntz" };
            unit.map_or_else(|| name.to_owned(), |unit| format!("{name} in {}", unit.name()))
        }
        DataType::List(_) => "array".to_owned(),
        DataType::Struct(_) => "struct".to_owned(),
        DataType::Map(_, _) => "map".to_owned(),
        other => other.to_string(),
    }
}
