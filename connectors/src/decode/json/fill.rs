//! The walk of one record into the columns, led by the schema.
//!
//! It reads the text once. There is no tree in between, no copy of a name, and where the fields come
//! in the order of the last record not even a look-up: the next expected name is compared as bytes.
//! An error unwinds to the nearest place that can live with it: a nullable column under `rescue`,
//! else the record.

use std::ops::Range;

use connector_api::decoder::OnUnknownField;

use super::base64;
use super::columns::{Bytes, Column, ListValues, MapValues, StructValues, Values};
use super::duplicates::has_duplicates;
use super::flaw::{Flaw, Why};
use super::path::{Labels, Segment};
use super::rescue::{Mark, Rescued};
use super::scan::{Cursor, DEPTH_MAX};
use super::time;

/// What a walk needs besides the columns.
pub(super) struct Filler<'a> {
    pub(super) cursor: Cursor<'a>,
    /// The current step of each open object and list: its length is the depth.
    pub(super) path: &'a mut Vec<Segment>,
    pub(super) labels: &'a Labels,
    pub(super) on_unknown_field: OnUnknownField,
    pub(super) rescued: &'a mut Rescued,
}

impl Filler<'_> {
    /// Reads the whole record into row `row` of the columns. What an error leaves behind is the caller's to cut off.
    pub(super) fn record(&mut self, root: &mut StructValues, row: usize) -> Result<(), Flaw> {
        self.cursor.skip_whitespace();
        if self.cursor.peek() != b'{' {
            return Err(Flaw::new(Why::NotAnObject, self.cursor.at()));
        }
        self.object(root, row)?;
        self.cursor.end()?;
        if self.on_unknown_field == OnUnknownField::Rescue {
            self.rescued.end_record()?;
        }
        Ok(())
    }

    /// Reads an object, at its opening brace.
    fn object(&mut self, object: &mut StructValues, row: usize) -> Result<(), Flaw> {
        self.open()?;
        let (mut previous, mut filled) = (0, 0);
        let mut more = self.cursor.enter(b'}');
        while more {
            if let Some(index) = self.member(object, previous)? {
                let column = &mut object.fields[index].column;
                if column.len() > row {
                    return Err(Flaw::new(Why::DuplicateName, self.cursor.at()));
                }
                *self.step() = Segment::Field(column.label);
                self.value(column)?;
                previous = index + 1;
                filled += 1;
            }
            more = self.cursor.more(b'}')?;
        }
        if filled < object.fields.len() {
            self.fill_missing(object, row)?;
        }
        self.path.pop();
        Ok(())
    }

    /// Reads a name, and returns the index of its field; the value of an unknown field is read, too.
    #[inline]
    fn member(
        &mut self,
        object: &mut StructValues,
        previous: usize,
    ) -> Result<Option<usize>, Flaw> {
        let expected = object.following[previous] as usize;
        if object.fields.get(expected).is_some_and(|field| self.cursor.take_key(&field.key)) {
            return Ok(Some(expected));
        }
        let at = self.cursor.at();
        let name = self.cursor.name()?;
        match object.position(self.cursor.text(name)) {
            Some(index) => {
                object.following[previous] = index as u32;
                Ok(Some(index))
            }
            None => self.unknown_field(at).map(|()| None),
        }
    }

    /// Deals with the value of the field whose name stands at `name_at`.
    ///
    /// An unknown field that is null says the same as one that is missing: there is nothing to rescue.
    fn unknown_field(&mut self, name_at: usize) -> Result<(), Flaw> {
        *self.step() = Segment::Name(name_at as u32);
        let start = self.cursor.at();
        if self.on_unknown_field == OnUnknownField::Reject {
            return Err(Flaw::new(Why::UnknownField, name_at));
        }
        self.cursor.skip(self.path.len())?;
        if self.on_unknown_field == OnUnknownField::Rescue {
            let (input, value) = (self.cursor.input(), start..self.cursor.at());
            self.rescued.add_unknown(self.path, self.labels, input, value)?;
        }
        Ok(())
    }

    /// Fills the fields that the object did not name.
    fn fill_missing(&mut self, object: &mut StructValues, row: usize) -> Result<(), Flaw> {
        for column in object.fields.iter_mut().map(|field| &mut field.column) {
            if column.len() > row {
                continue;
            }
            if !column.nullable {
                *self.step() = Segment::Field(column.label);
                return Err(Flaw::misfit(Why::NullInRequired, self.cursor.at(), column.label));
            }
            column.append_absent();
        }
        Ok(())
    }

    /// Reads a value into a column, or rescues it.
    #[inline]
    fn value(&mut self, column: &mut Column) -> Result<(), Flaw> {
        let (start, depth, mark) = (self.cursor.at(), self.path.len(), self.rescued.mark());
        match self.fill(column) {
            Ok(()) => Ok(()),
            Err(flaw) => self.recover(column, flaw, start, depth, mark),
        }
    }

    /// After a flaw in the value that begins at `start`: makes it a null and rescues the text, if that is allowed.
    #[cold]
    fn recover(
        &mut self,
        column: &mut Column,
        flaw: Flaw,
        start: usize,
        depth: usize,
        mark: Mark,
    ) -> Result<(), Flaw> {
        let rescue = self.on_unknown_field == OnUnknownField::Rescue;
        if !rescue || !column.nullable || !flaw.why.is_misfit() {
            return Err(flaw);
        }
        column.truncate(column.len());
        self.rescued.undo_to(mark);
        self.path.truncate(depth);
        self.cursor.rewind(start);
        self.cursor.skip(depth)?;
        let value = start..self.cursor.at();
        // What is wrong further inside may be in a value that a later one of its name replaces.
        let inside = flaw.column != column.label;
        if inside && has_duplicates(&self.cursor.input()[value.clone()]) {
            return Err(Flaw::new(Why::DuplicateName, start));
        }
        self.rescue(value)?;
        column.append_absent();
        Ok(())
    }

    fn rescue(&mut self, value: Range<usize>) -> Result<(), Flaw> {
        self.rescued.add(self.path, self.labels, self.cursor.input(), value)
    }

    fn fill(&mut self, column: &mut Column) -> Result<(), Flaw> {
        let (at, first) = (self.cursor.at(), self.cursor.peek());
        if first == b'n' {
            return self.null(column, at);
        }
        let (row, label) = (column.len(), column.label);
        let misfit = |why| Flaw::misfit(why, at, label);
        match (&mut column.values, first) {
            (Values::String(values), b'"') => self.string(values)?,
            (Values::Struct(values), b'{') => self.object(values, row)?,
            (Values::List(list), b'[') => self.list(list)?,
            (Values::Map(map), b'{') => self.map(map)?,
            (Values::Boolean(values), b't') => {
                self.cursor.literal(b"true")?;
                values.append(true);
            }
            (Values::Boolean(values), b'f') => {
                self.cursor.literal(b"false")?;
                values.append(false);
            }
            (Values::Timestamp { micros, zone, .. }, b'"') => {
                let text = self.cursor.string()?;
                let value = time::micros(self.cursor.text(text), *zone);
                micros.push(value.ok_or_else(|| misfit(Why::InvalidTime))?);
            }
            (Values::Date(days), b'"') => {
                let text = self.cursor.string()?;
                let value = time::days(self.cursor.text(text));
                days.push(value.ok_or_else(|| misfit(Why::InvalidTime))?);
            }
            (Values::Binary(values), b'"') => {
                let text = self.cursor.string()?;
                if !base64::decode(self.cursor.text(text), values) {
                    return Err(misfit(Why::InvalidBase64));
                }
            }
            (Values::JsonText(values), b'"') => self.string(values)?,
            (Values::JsonText(values), _) => {
                self.cursor.skip(self.path.len())?;
                values.push(&self.cursor.input()[at..self.cursor.at()]);
            }
            (values, b'-' | b'0'..=b'9') => self.number(values)?.map_err(misfit)?,
            _ => return Err(misfit(Why::WrongType)),
        }
        column.end_value();
        Ok(())
    }

    fn null(&mut self, column: &mut Column, at: usize) -> Result<(), Flaw> {
        self.cursor.literal(b"null")?;
        if !column.nullable {
            return Err(Flaw::misfit(Why::NullInRequired, at, column.label));
        }
        column.append_absent();
        Ok(())
    }

    #[inline]
    fn string(&mut self, values: &mut Bytes) -> Result<(), Flaw> {
        if let Some((chunk, len)) = self.cursor.short_string() {
            values.push_short(chunk, len);
            return Ok(());
        }
        let text = self.cursor.string()?;
        values.push(self.cursor.text(text));
        Ok(())
    }

    /// Reads a number; the inner result says whether it fits.
    #[inline]
    fn number(&mut self, values: &mut Values) -> Result<Result<(), Why>, Flaw> {
        let number = self.cursor.number()?;
        let input = self.cursor.input();
        Ok(match values {
            Values::Long(values) => number.to_long(input).map(|value| values.push(value)),
            Values::Double(values) => number.to_double(input).map(|value| values.push(value)),
            Values::Byte(values) => narrow(number.to_long(input), values),
            Values::Short(values) => narrow(number.to_long(input), values),
            Values::Integer(values) => narrow(number.to_long(input), values),
            Values::Float(values) => number.to_float(input).map(|value| values.push(value)),
            Values::Decimal { values, precision, scale } => {
                number.to_decimal(input, *precision, *scale).map(|value| values.push(value))
            }
            Values::Timestamp { micros, unit: Some(unit), .. } => {
                number.to_micros(input, *unit).map(|value| micros.push(value))
            }
            Values::Timestamp { unit: None, .. } => Err(Why::NumberWithoutUnit),
            _ => Err(Why::WrongType),
        })
    }

    /// Reads an array, at its opening bracket.
    fn list(&mut self, list: &mut ListValues) -> Result<(), Flaw> {
        self.open()?;
        let mut index = 0;
        let mut more = self.cursor.enter(b']');
        while more {
            *self.step() = Segment::Item(index);
            self.value(&mut list.items)?;
            index += 1;
            more = self.cursor.more(b']')?;
        }
        self.path.pop();
        list.ends.push(list.items.len());
        Ok(())
    }

    /// Reads an object whose names are keys of a map, at its opening brace.
    fn map(&mut self, map: &mut MapValues) -> Result<(), Flaw> {
        self.open()?;
        let at = self.cursor.at();
        let mut more = self.cursor.enter(b'}');
        while more {
            *self.step() = Segment::Name(self.cursor.at() as u32);
            let name = self.cursor.name()?;
            map.keys.push(self.cursor.text(name));
            self.value(&mut map.values)?;
            more = self.cursor.more(b'}')?;
        }
        if has_twins(map.keys.values_behind(map.ends.last())) {
            return Err(Flaw::new(Why::DuplicateName, at));
        }
        self.path.pop();
        map.ends.push(map.values.len());
        Ok(())
    }

    /// Goes one level down.
    #[inline]
    fn open(&mut self) -> Result<(), Flaw> {
        if self.path.len() >= DEPTH_MAX {
            return Err(Flaw::new(Why::TooDeep, self.cursor.at()));
        }
        self.path.push(Segment::Opened);
        Ok(())
    }

    /// The current step on the current level.
    #[inline]
    fn step(&mut self) -> &mut Segment {
        let last = self.path.len() - 1;
        &mut self.path[last]
    }
}

fn narrow<T: TryFrom<i64>>(value: Result<i64, Why>, values: &mut Vec<T>) -> Result<(), Why> {
    values.push(T::try_from(value?).map_err(|_| Why::OutOfRange)?);
    Ok(())
}

/// True if two keys are equal. Most maps are small: comparing all pairs of those needs no memory.
fn has_twins<'k>(keys: impl Iterator<Item = &'k [u8]> + Clone) -> bool {
    const COMPARED_KEYS_MAX: usize = 16;
    if keys.clone().nth(COMPARED_KEYS_MAX).is_none() {
        return keys
            .clone()
            .enumerate()
            .any(|(index, key)| keys.clone().take(index).any(|k| k == key));
    }
    let mut sorted: Vec<&[u8]> = keys.collect();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}
