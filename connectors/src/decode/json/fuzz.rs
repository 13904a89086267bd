//! Properties: what must hold for every sequence of bytes. The reference for what JSON is, and for
//! its values, is `serde_json`.
//!
//! Differences that are meant: we stop at 64 levels and serde_json at 128; serde_json rejects numbers
//! that are infinite as a double, which for us is a matter of the column.
//!
//! `PROPTEST_CASES=1000000 cargo test -p connectors --release fuzz` searches longer.

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{Float64Type, Int64Type};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value};

use super::tests::{decoder, group, json_text, lines, list, map, optional, records, utc};
use super::*;

/// One of each kind of column that a [`Value`] can be compared with, all nullable.
fn columns() -> Vec<Field> {
    use DataType::{Boolean, Float64, Int64, Utf8};
    let inner = vec![
        optional("a", Int64),
        optional("b", list(Utf8)),
        optional("d", group(vec![optional("x.y", Boolean)])),
    ];
    vec![
        optional("a", Int64),
        optional("b", Float64),
        optional("c", Utf8),
        optional("d", group(inner.clone())),
        optional("e", list(group(inner))),
        optional("f", map(Int64)),
        json_text("g"),
        optional("h", list(list(Boolean))),
    ]
}

fn name() -> impl Strategy<Value = String> {
    let known = ["a", "b", "c", "d", "e", "f", "g", "h", "x.y"].map(str::to_owned);
    prop_oneof![9 => select(known.to_vec()), 1 => select(vec!["".to_owned(), "u".into(), "é\"[]`\\".into()])]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-100..100_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1000..1000_i32).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        any::<String>().prop_map(Value::from),
        "[a-z\\u{e9}\"\\\\\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::vec((name(), json()), 0..8)
        .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>()))
}

/// A text that serializes the value in one of several styles.
fn text() -> impl Strategy<Value = Vec<u8>> {
    (object(), any::<bool>()).prop_map(|(value, pretty)| match pretty {
        true => serde_json::to_vec_pretty(&value).unwrap(),
        false => serde_json::to_vec(&value).unwrap(),
    })
}

#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    /// Copies a piece of the text elsewhere: this is what makes names occur twice.
    Copy(Index, Index, Index),
    Append(u8),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let byte = || prop_oneof![4 => select(br#"{}[]",:0123456789.-+eE\ntruefalsu "#.to_vec()), 1 => any::<u8>()];
    let mutation = prop_oneof![
        3 => (any::<Index>(), byte()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        3 => (any::<Index>(), byte()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        2 => any::<Index>().prop_map(Mutation::Remove),
        1 => any::<Index>().prop_map(Mutation::Cut),
        3 => any::<(Index, Index, Index)>().prop_map(|(start, end, at)| Mutation::Copy(start, end, at)),
        1 => byte().prop_map(Mutation::Append),
    ];
    prop::collection::vec(mutation, 0..4)
}

fn mutate(mut text: Vec<u8>, mutations: Vec<Mutation>) -> Vec<u8> {
    for mutation in mutations {
        if text.is_empty() {
            break;
        }
        match mutation {
            Mutation::Replace(at, byte) => *at.get_mut(&mut text) = byte,
            Mutation::Insert(at, byte) => text.insert(at.index(text.len()), byte),
            Mutation::Remove(at) => drop(text.remove(at.index(text.len()))),
            Mutation::Cut(at) => text.truncate(at.index(text.len())),
            Mutation::Append(byte) => text.push(byte),
            Mutation::Copy(start, end, at) => {
                // From comma to comma, so that whole members and items are copied.
                let commas: Vec<usize> =
                    (0..text.len()).filter(|&at| b",{}[]".contains(&text[at])).collect();
                let Some(last) = commas.len().checked_sub(1) else { continue };
                let (start, end) = (start.index(commas.len()), end.index(commas.len()));
                let piece =
                    text[commas[start.min(end)]..commas[(start.max(end)).min(last)]].to_vec();
                let at = commas[at.index(commas.len())];
                text.splice(at..at, piece);
            }
        }
    }
    text
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    (text(), mutations()).prop_map(|(text, mutations)| mutate(text, mutations))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A row, and what is rescued by path.
type Expected = (Value, Map<String, Value>);

/// What the record must become: `Err` with the code, or the row and what is rescued.
/// `None` if serde_json cannot tell.
fn expected(input: &[u8]) -> Option<Result<Expected, &'static str>> {
    if input.is_empty() {
        return Some(Err("empty_value"));
    }
    if std::str::from_utf8(input).is_err() {
        return Some(Err("invalid_utf8"));
    }
    let value: Value = match serde_json::from_slice(input) {
        Ok(value) => value,
        Err(error) if error.to_string().contains("out of range") => return None,
        Err(error) if error.to_string().contains("recursion limit") => {
            return Some(Err("too_deep"));
        }
        Err(_) => return Some(Err("json_syntax")),
    };
    if depth(&value) > 64 {
        return Some(Err("too_deep"));
    }
    if !value.is_object() {
        return Some(Err("not_an_object"));
    }
    let mut rescued = Map::new();
    let row = expected_value(&value, &group(columns()), false, "", &mut rescued);
    Some(Ok((row, rescued)))
}

/// The value that a column holds; what does not fit goes to `rescued` under its path.
fn expected_value(
    value: &Value,
    data_type: &DataType,
    any_json: bool,
    path: &str,
    rescued: &mut Map<String, Value>,
) -> Value {
    let below = |name: &str| match (path, name) {
        (path, name) if name.is_empty() || name.contains(['.', '[', ']', '`']) => {
            format!("{path}{}`{}`", if path.is_empty() { "" } else { "." }, name.replace('`', "``"))
        }
        ("", name) => name.to_owned(),
        (path, name) => format!("{path}.{name}"),
    };
    match (value, data_type) {
        (Value::Null, _) => Value::Null,
        (value, DataType::Utf8) if any_json => value.clone(),
        (Value::Bool(_), DataType::Boolean) | (Value::String(_), DataType::Utf8) => value.clone(),
        (Value::Number(number), DataType::Int64) if number.is_i64() => value.clone(),
        (Value::Number(number), DataType::Float64) if comes_back(number) => {
            Value::from(number.as_f64().unwrap())
        }
        (Value::Array(items), DataType::List(item)) => {
            let items = items.iter().enumerate().map(|(index, value)| {
                expected_value(value, item.data_type(), false, &format!("{path}[{index}]"), rescued)
            });
            items.collect()
        }
        (Value::Object(members), DataType::Map(entries, _)) => {
            let DataType::Struct(fields) = entries.data_type() else { panic!("{entries}") };
            let members = members.iter().map(|(name, value)| {
                (
                    name.clone(),
                    expected_value(value, fields[1].data_type(), false, &below(name), rescued),
                )
            });
            members.collect()
        }
        (Value::Object(members), DataType::Struct(fields)) => {
            for (name, value) in members {
                if !value.is_null() && fields.find(name).is_none() {
                    rescued.insert(below(name), value.clone());
                }
            }
            let fields = fields.iter().map(|field| {
                let any_json = !field.metadata().is_empty();
                let value = members.get(field.name()).unwrap_or(&Value::Null);
                let value = expected_value(
                    value,
                    field.data_type(),
                    any_json,
                    &below(field.name()),
                    rescued,
                );
                (field.name().clone(), value)
            });
            fields.collect()
        }
        (value, _) => {
            rescued.insert(path.to_owned(), value.clone());
            Value::Null
        }
    }
}

/// An integer is taken as a double only if it can be told from its neighbours.
fn comes_back(number: &serde_json::Number) -> bool {
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

/// Numbers about which serde_json keeps too little: long integers, `-0`, doubles that are almost zero.
fn has_hard_numbers(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input).to_lowercase();
    let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    digits > Some(18)
        || text.contains("-0")
        || text
            .split("e-")
            .skip(1)
            .any(|rest| rest.bytes().take_while(u8::is_ascii_digit).count() > 2)
}

fn check_record(input: &[u8]) -> Result<(), TestCaseError> {
    let Some(expected) = expected(input) else { return Ok(()) };
    let decoded = decoder(columns(), OnUnknownField::Rescue).decode(&records(&[Some(input)]));
    let (expected_row, expected_rescued) = match (expected, decoded.rejected()) {
        (Err(code), [rejected]) => {
            prop_assert_eq!(rejected.cause.code, code, "{}", &rejected.cause);
            return Ok(());
        }
        (Ok(expected), []) => expected,
        (expected, rejected) => {
            return Err(TestCaseError::fail(format!("expected {expected:?}, found {rejected:?}")));
        }
    };
    if has_hard_numbers(input) {
        return Ok(());
    }
    let rows = decoded.rows();
    for (field, column) in columns().iter().zip(rows.columns()) {
        let (mut found, expected) = (found_value(column, field, 0), &expected_row[field.name()]);
        if let (Value::String(text), false) =
            (&found, field.metadata().is_empty() || expected.is_string())
        {
            found = serde_json::from_str(text).unwrap();
        }
        prop_assert_eq!(&found, expected, "{}", field.name());
    }
    let found =
        match found_value(rows.column(columns().len()), &optional("_rescued", DataType::Utf8), 0) {
            Value::Null => Map::new(),
            Value::String(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other}"),
        };
    prop_assert_eq!(found, expected_rescued);
    Ok(())
}

/// `PROPTEST_CASES` can raise the number of cases.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(2000), ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_record_becomes_what_serde_json_reads_in_it(record in record()) {
        check_record(&record)?;
    }

    #[test]
    fn any_bytes_at_all_are_a_row_or_a_reject(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_record(&bytes)?;
    }

    #[test]
    fn any_sequence_of_tokens_is_accepted_or_not_as_by_serde_json(
        tokens in prop::collection::vec(select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", "\"u\":[", "1", "-", "0", ".5", "e", "null", "true",
            "\\", "\\u", "d83d", "de00", " ", "\n", "\t", "é", "\u{feff}", "{\"a\":{\"a\":", "}}", "[[[[[[[[[[[[[[[[", "]]]]",
        ]), 0..60)
    ) {
        check_record(tokens.concat().as_bytes())?;
        check_record(format!("{{\"u\":{}}}", tokens.concat()).as_bytes())?;
    }

    #[test]
    fn a_bad_record_never_changes_its_neighbours(batch in prop::collection::vec(prop::option::weighted(0.9, record()), 0..12)) {
        for on_unknown_field in [OnUnknownField::Rescue, OnUnknownField::Ignore, OnUnknownField::Reject] {
            let mut decoder = decoder(columns(), on_unknown_field);
            let whole = decoder.decode(&records(&batch));
            let accounting = whole.accounting();
            prop_assert_eq!(accounting.consumed, batch.len() as u64);
            prop_assert_eq!(accounting.tombstones, batch.iter().filter(|value| value.is_none()).count() as u64);

            let good: Vec<_> = whole.row_records().iter().map(|&record| batch[record as usize].clone()).collect();
            let alone = decoder.decode(&records(&good));
            prop_assert_eq!(alone.rejected().len(), 0);
            prop_assert_eq!(whole.rows(), alone.rows());
            for rejected in whole.rejected() {
                let index = (rejected.origin.offset.get() - 100) as usize;
                prop_assert_eq!(Some(rejected.payload.as_ref()), batch[index].as_deref());
                let again = decoder.decode(&records(&[Some(&rejected.payload)]));
                prop_assert_eq!(&again.rejected()[0].cause, &rejected.cause);
            }
        }
    }

    #[test]
    fn required_columns_hold_a_value_in_every_row(batch in prop::collection::vec(record(), 0..12)) {
        let mut required = columns();
        for field in &mut required {
            field.set_nullable(["b", "e", "g", "h"].contains(&field.name().as_str()));
        }
        let batch: Vec<_> = batch.into_iter().map(Some).collect();
        for on_unknown_field in [OnUnknownField::Rescue, OnUnknownField::Ignore] {
            let decoded = decoder(required.clone(), on_unknown_field).decode(&records(&batch));
            for (field, column) in required.iter().zip(decoded.rows().columns()) {
                prop_assert!(field.is_nullable() || column.null_count() == 0);
            }
        }
    }

    #[test]
    fn a_double_is_what_the_standard_library_reads(
        digits in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})", exponent in prop::option::of(-320..310_i32)
    ) {
        let text = exponent.map_or_else(|| digits.clone(), |exponent| format!("{digits}e{exponent}"));
        let expected: f64 = text.parse().unwrap();
        let lost = expected.is_infinite() || (expected == 0.0 && digits.contains(|c| ('1'..='9').contains(&c)));
        let decoded = decoder(vec![optional("c", DataType::Float64)], OnUnknownField::Ignore)
            .decode(&records(&[Some(format!("{{\"c\":{text}}}"))]));
        prop_assert_eq!(decoded.rejected().len(), usize::from(lost), "{}", text);
        if !lost {
            let found = decoded.rows().column(0).as_primitive::<Float64Type>().value(0);
            prop_assert_eq!(found.to_bits(), expected.to_bits(), "{}", text);
        }
    }

    #[test]
    fn decimals_and_timestamps_come_back_from_their_text(
        values in prop::collection::vec((
            -99_999_999_999_999_999_999_999_999_999_999_999_999_i128..=99_999_999_999_999_999_999_999_999_999_999_999_999,
            -62_135_596_800_000_000..253_402_300_800_000_000_i64,
        ), 1..20),
        scale in 0..=38_i8,
    ) {
        let decimals: Decimal128Array = values.iter().map(|(decimal, _)| Some(*decimal)).collect();
        let decimals: ArrayRef = Arc::new(decimals.with_precision_and_scale(38, scale).unwrap());
        let times: TimestampMicrosecondArray = values.iter().map(|(_, micros)| Some(*micros)).collect();
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let (decimal_texts, time_texts) = (cast(&decimals, &DataType::Utf8).unwrap(), cast(&times, &DataType::Utf8).unwrap());
        let texts = decimal_texts.as_string::<i32>().iter().zip(time_texts.as_string::<i32>());
        let input: Vec<_> = texts.map(|(d, t)| Some(format!(r#"{{"d":{},"t":"{}"}}"#, d.unwrap(), t.unwrap()))).collect();
        let columns = vec![optional("d", DataType::Decimal128(38, scale)), optional("t", utc())];
        let decoded = decoder(columns, OnUnknownField::Ignore).decode(&records(&input));
        prop_assert!(decoded.rejected().is_empty(), "{:?}", decoded.rejected());
        prop_assert_eq!(decoded.rows().column(0), &decimals);
        prop_assert_eq!(decoded.rows().column(1), &times);
    }

    #[test]
    fn a_sample_fits_the_columns_that_were_inferred_from_it(sample in prop::collection::vec(record(), 1..12)) {
        let views: Vec<&[u8]> = sample.iter().map(Vec::as_slice).collect();
        let schema = JsonFactory.infer(&views);
        prop_assert_eq!(&schema, &JsonFactory.infer(&views));
        let Some(schema) = schema else { return Ok(()) };
        let columns: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        let hard = sample.iter().any(|record| has_hard_numbers(record));
        for record in sample {
            let decoded = decoder(columns.clone(), OnUnknownField::Rescue).decode(&records(&[Some(&record)]));
            let unreadable = !matches!(expected(&record), Some(Ok(_)));
            if let [rejected] = decoded.rejected() {
                prop_assert!(unreadable, "{}", rejected.cause);
                continue;
            }
            // What is rescued is unknown by its name, or was the case of nothing but empty values.
            if let (false, Some(rescued)) = (hard, lines(decoded.rows())[0].split_once("\"_rescued\":")) {
                let text: String = serde_json::from_str(rescued.1.trim_end_matches('}')).unwrap();
                let rescued: Map<String, Value> = serde_json::from_str(&text).unwrap();
                let empty = |value: &Value| value == &Value::Array(vec![]) || depth(value) > 0 || value.is_null();
                let known = |path: &String| schema.field_with_name(path).is_ok();
                prop_assert!(rescued.iter().all(|(path, value)| !known(path) || empty(value)), "{text}");
            }
        }
    }
}
