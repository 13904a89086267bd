//! What a record must become, told by `serde_json`: whether it is JSON, and the values of its row.
//!
//! Differences that are meant: we stop at 64 levels and serde_json at 128; serde_json rejects numbers
//! that are infinite as a double, which for us is a matter of the column.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

use super::tests::{decoder, group, optional, records};
use super::*;

/// What becomes of a record.
enum Expected {
    /// It cannot be read, and is rejected with this code.
    Unreadable(&'static str),
    /// It can be read, and is rejected since a value does not fit.
    Misfit,
    /// Its row, and what is rescued by path.
    Row(Value, Map<String, Value>),
}

/// Compares what becomes of a record in nullable and required columns that a [`Value`] can stand for.
pub(super) fn check_record(
    columns: &[Field],
    on_unknown_field: OnUnknownField,
    input: &[u8],
) -> Result<(), TestCaseError> {
    let Some(expected) = expected(columns, on_unknown_field, input) else { return Ok(()) };
    let decoded = decoder(columns.to_vec(), on_unknown_field).decode(&records(&[Some(input)]));
    let code = decoded.rejected().first().map(|rejected| rejected.cause.code);
    let (expected_row, expected_rescued) = match (expected, code) {
        (Expected::Unreadable(expected), found) => {
            prop_assert_eq!(found, Some(expected));
            return Ok(());
        }
        // serde_json cannot tell whether the number fits; that the record is readable is enough.
        (_, Some(code)) if has_hard_numbers(input) => {
            prop_assert!(is_misfit(code), "{}", code);
            return Ok(());
        }
        (_, None) if has_hard_numbers(input) => return Ok(()),
        (_, Some("rescued_too_large")) => return Ok(()),
        (Expected::Misfit, found) => {
            prop_assert!(found.is_some_and(is_misfit), "{:?}", decoded.rows());
            return Ok(());
        }
        (Expected::Row(row, rescued), found) => {
            prop_assert_eq!(found, None, "{:?}", decoded.rejected());
            (row, rescued)
        }
    };
    let rows = decoded.rows();
    for (field, column) in columns.iter().zip(rows.columns()) {
        let found = found_value(column, field, 0);
        prop_assert!(
            same(&found, &expected_row[field.name()], field),
            "{} is {found}, not {}",
            field.name(),
            expected_row[field.name()]
        );
    }
    if on_unknown_field != OnUnknownField::Rescue {
        return Ok(());
    }
    let found =
        match found_value(rows.column(columns.len()), &optional("_rescued", DataType::Utf8), 0) {
            Value::Null => Map::new(),
            Value::String(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other}"),
        };
    prop_assert_eq!(found, expected_rescued);
    Ok(())
}

/// True if the record is a JSON object within our limits. False if serde_json cannot tell.
pub(super) fn is_readable(input: &[u8]) -> bool {
    matches!(expected(&[], OnUnknownField::Ignore, input), Some(Expected::Row(..)))
}

fn is_misfit(code: &str) -> bool {
    let codes = [
        "unknown_field",
        "wrong_type",
        "not_exact",
        "out_of_range",
        "invalid_time",
        "invalid_base64",
        "null_in_required",
        "rescued_too_large",
    ];
    codes.contains(&code)
}

/// `None` if serde_json cannot tell.
fn expected(columns: &[Field], on_unknown_field: OnUnknownField, input: &[u8]) -> Option<Expected> {
    if input.is_empty() {
        return Some(Expected::Unreadable("empty_value"));
    }
    if std::str::from_utf8(input).is_err() {
        return Some(Expected::Unreadable("invalid_utf8"));
    }
    let value: Value = match serde_json::from_slice(input) {
        Ok(value) => value,
        Err(error) if error.to_string().contains("out of range") => return None,
        Err(error) if error.to_string().contains("recursion limit") => {
            return Some(Expected::Unreadable("too_deep"));
        }
        Err(_) => return Some(Expected::Unreadable("json_syntax")),
    };
    if depth(&value) > 64 {
        return Some(Expected::Unreadable("too_deep"));
    }
    if !value.is_object() {
        return Some(Expected::Unreadable("not_an_object"));
    }
    let mut rescued = Map::new();
    let root = group(columns.to_vec());
    Some(match (Model { on_unknown_field }).value(&value, &root, "", &mut rescued) {
        Ok(row) => Expected::Row(row, rescued),
        Err(Misfit) => Expected::Misfit,
    })
}

pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A value that does not fit, and that no column has rescued yet.
struct Misfit;

struct Model {
    on_unknown_field: OnUnknownField,
}

impl Model {
    /// The value that a column holds.
    fn column(
        &self,
        value: &Value,
        field: &Field,
        path: &str,
        rescued: &mut Map<String, Value>,
    ) -> Result<Value, Misfit> {
        if value.is_null() {
            return if field.is_nullable() { Ok(Value::Null) } else { Err(Misfit) };
        }
        if field.metadata().contains_key(JSON_TEXT_KEY) {
            return Ok(value.clone());
        }
        let mut inside = Map::new();
        match self.value(value, field.data_type(), path, &mut inside) {
            Ok(value) => {
                rescued.extend(inside);
                Ok(value)
            }
            Err(Misfit)
                if field.is_nullable() && self.on_unknown_field == OnUnknownField::Rescue =>
            {
                rescued.insert(path.to_owned(), value.clone());
                Ok(Value::Null)
            }
            Err(Misfit) => Err(Misfit),
        }
    }

    /// What a value is as this type; what is left over goes to `rescued` under its path.
    fn value(
        &self,
        value: &Value,
        data_type: &DataType,
        path: &str,
        rescued: &mut Map<String, Value>,
    ) -> Result<Value, Misfit> {
        let taken = |fits: bool| if fits { Ok(value.clone()) } else { Err(Misfit) };
        match (value, data_type) {
            (Value::Bool(_), DataType::Boolean) | (Value::String(_), DataType::Utf8) => taken(true),
            (Value::Number(n), DataType::Int8) => taken(integer::<i8>(n)),
            (Value::Number(n), DataType::Int16) => taken(integer::<i16>(n)),
            (Value::Number(n), DataType::Int32) => taken(integer::<i32>(n)),
            (Value::Number(n), DataType::Int64) => taken(integer::<i64>(n)),
            (Value::Number(number), DataType::Float64) if comes_back(number) => {
                Ok(Value::from(number.as_f64().unwrap()))
            }
            (Value::Array(items), DataType::List(item)) => {
                let items = items.iter().enumerate().map(|(index, value)| {
                    self.column(value, item, &format!("{path}[{index}]"), rescued)
                });
                items.collect()
            }
            (Value::Object(members), DataType::Map(entries, _)) => {
                let DataType::Struct(fields) = entries.data_type() else { panic!("{entries}") };
                let members = members.iter().map(|(name, value)| {
                    let value = self.column(value, &fields[1], &below(path, name), rescued)?;
                    Ok((name.clone(), value))
                });
                members.collect()
            }
            (Value::Object(members), DataType::Struct(fields)) => {
                let unknown = members.iter().filter(|(name, _)| fields.find(name).is_none());
                for (name, value) in unknown {
                    match self.on_unknown_field {
                        OnUnknownField::Rescue if value.is_null() => {}
                        OnUnknownField::Rescue => {
                            rescued.insert(below(path, name), value.clone());
                        }
                        OnUnknownField::Ignore => {}
                        OnUnknownField::Reject => return Err(Misfit),
                    }
                }
                let fields = fields.iter().map(|field| {
                    let value = members.get(field.name()).unwrap_or(&Value::Null);
                    let value = self.column(value, field, &below(path, field.name()), rescued)?;
                    Ok((field.name().clone(), value))
                });
                fields.collect()
            }
            _ => Err(Misfit),
        }
    }
}

fn below(path: &str, name: &str) -> String {
    match (path, name) {
        (path, name) if name.is_empty() || name.contains(['.', '[', ']', '`']) => {
            format!("{path}{}`{}`", if path.is_empty() { "" } else { "." }, name.replace('`', "``"))
        }
        ("", name) => name.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

fn integer<T: TryFrom<i64>>(number: &Number) -> bool {
    number.as_i64().is_some_and(|integer| T::try_from(integer).is_ok())
}

/// An integer is taken as a double only if it can be told from its neighbours.
fn comes_back(number: &Number) -> bool {
    let Some(integer) = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
    else {
        return true;
    };
    let double = integer as f64;
    double as i128 == integer || double.to_string() == integer.to_string()
}

/// What a column holds in a row.
fn found_value(array: &ArrayRef, field: &Field, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    let all = |values: ArrayRef, field: &Field| -> Vec<Value> {
        (0..values.len()).map(|row| found_value(&values, field, row)).collect()
    };
    match field.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::List(item) => all(array.as_list::<i32>().value(row), item).into(),
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            let value = |index| found_value(values, &entries.fields()[1], index);
            let entries =
                keys.iter().enumerate().map(|(index, key)| (key.unwrap().to_owned(), value(index)));
            entries.collect()
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let values =
                fields.iter().zip(columns).map(|(f, c)| (f.name().clone(), found_value(c, f, row)));
            values.collect()
        }
        other => panic!("{other}"),
    }
}

/// Compares a column's value with the expected one: a column of JSON texts holds a string's own
/// text, and the JSON of all else.
fn same(found: &Value, expected: &Value, field: &Field) -> bool {
    let json_text = field.metadata().contains_key(JSON_TEXT_KEY);
    match (found, expected, field.data_type()) {
        (Value::String(text), expected, _) if json_text && !expected.is_string() => {
            serde_json::from_str::<Value>(text).is_ok_and(|found| found == *expected)
        }
        (Value::Object(found), Value::Object(expected), DataType::Struct(fields)) => {
            found.len() == expected.len()
                && fields.iter().all(|f| same(&found[f.name()], &expected[f.name()], f))
        }
        (Value::Array(found), Value::Array(expected), DataType::List(item)) => {
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(found, expected)| same(found, expected, item))
        }
        (Value::Object(found), Value::Object(expected), DataType::Map(entries, _)) => {
            let DataType::Struct(fields) = entries.data_type() else { panic!("{entries}") };
            found.len() == expected.len()
                && found.iter().all(|(name, found)| {
                    expected.get(name).is_some_and(|expected| same(found, expected, &fields[1]))
                })
        }
        (found, expected, _) => found == expected,
    }
}

/// Numbers about which serde_json keeps too little: long integers, `-0`, doubles that are almost zero.
pub(super) fn has_hard_numbers(input: &[u8]) -> bool {
    let text = outside_of_strings(input).to_lowercase();
    let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    digits > Some(18)
        || text.contains("-0")
        || text
            .split("e-")
            .skip(1)
            .any(|rest| rest.bytes().take_while(u8::is_ascii_digit).count() > 2)
}

fn outside_of_strings(input: &[u8]) -> String {
    let (mut text, mut inside, mut escaped) = (String::new(), false, false);
    for &byte in input {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => {
                inside = !inside;
                text.push('"');
            }
            _ if !inside => text.push(char::from(byte)),
            _ => {}
        }
    }
    text
}
