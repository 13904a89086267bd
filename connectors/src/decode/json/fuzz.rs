//! Properties: what must hold for every sequence of bytes. `reference` says what a record must
//! become; `search` looks for as long as one likes, with columns of all kinds.

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::Float64Type;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value};

use super::reference::{check_record, depth, has_hard_numbers, is_readable};
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

pub(super) fn name() -> impl Strategy<Value = String> {
    let known = ["a", "b", "c", "d", "e", "f", "g", "h", "x.y"].map(str::to_owned);
    prop_oneof![9 => select(known.to_vec()), 1 => select(vec!["".to_owned(), "u".into(), "é\"[]`\\".into()])]
}

pub(super) fn json() -> impl Strategy<Value = Value> {
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
pub(super) enum Mutation {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    /// Copies a piece of the text elsewhere: this is what makes names occur twice.
    Copy(Index, Index, Index),
    Append(u8),
}

pub(super) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
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

pub(super) fn mutate(mut text: Vec<u8>, mutations: Vec<Mutation>) -> Vec<u8> {
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

/// `PROPTEST_CASES` can raise the number of cases.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(2000), ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_record_becomes_what_serde_json_reads_in_it(record in record()) {
        check_record(&columns(), OnUnknownField::Rescue, &record)?;
    }

    #[test]
    fn any_bytes_at_all_are_a_row_or_a_reject(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_record(&columns(), OnUnknownField::Rescue, &bytes)?;
    }

    #[test]
    fn any_sequence_of_tokens_is_accepted_or_not_as_by_serde_json(
        tokens in prop::collection::vec(select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", "\"u\":[", "1", "-", "0", ".5", "e", "null", "true",
            "\\", "\\u", "d83d", "de00", " ", "\n", "\t", "é", "\u{feff}", "{\"a\":{\"a\":", "}}", "[[[[[[[[[[[[[[[[", "]]]]",
        ]), 0..60)
    ) {
        check_record(&columns(), OnUnknownField::Rescue, tokens.concat().as_bytes())?;
        check_record(&columns(), OnUnknownField::Rescue, format!("{{\"u\":{}}}", tokens.concat()).as_bytes())?;
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
            let unreadable = !is_readable(&record);
            if let [rejected] = decoded.rejected() {
                prop_assert!(unreadable, "{}", rejected.cause);
                continue;
            }
            // serde_json could not read `1e999` in what is rescued either.
            if unreadable {
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
