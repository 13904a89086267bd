//! A search for records that become something else than [`reference`](super::reference) says: in
//! columns of all kinds, from records that were made for them and then damaged, from real ones, and
//! from bytes that are no JSON at all.
//!
//! It lasts a second among the other tests. For as long as one likes:
//!
//! ```text
//! ALLUVIUM_FUZZ_SECONDS=600 cargo test --release -p connectors decode::json::search -- --nocapture
//! ```
//!
//! What it finds is made smaller and shown. The real records are GitHub's published examples of
//! webhook payloads, where the integration tests have fetched them.

use std::time::Duration;

use arrow::datatypes::Fields;
use connector_api::clock::{Clock, SystemClock};
use connector_api::decoder::EpochUnit;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value};

use super::fuzz::{Mutation, json, mutate, mutations, name};
use super::reference::check_record;
use super::tests::{decoder, json_text, records, utc};
use super::*;

/// Types that a JSON value can be compared with.
fn comparable() -> BoxedStrategy<DataType> {
    use DataType::{Boolean, Float64, Int8, Int16, Int32, Int64, Utf8};
    nested(select(vec![Boolean, Int8, Int16, Int32, Int64, Float64, Utf8, Utf8]).boxed())
}

/// Types of columns from which only a row or a reject is wanted.
fn any_type() -> BoxedStrategy<DataType> {
    use DataType::{Binary, Boolean, Date32, Decimal128, Float32, Float64, Int64, Utf8};
    let ntz = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    let scalars =
        vec![Boolean, Int64, Float32, Float64, Utf8, Binary, Date32, Decimal128(9, 2), utc(), ntz];
    nested(select(scalars).boxed())
}

fn nested(scalar: BoxedStrategy<DataType>) -> BoxedStrategy<DataType> {
    let nested = scalar.prop_recursive(3, 12, 4, |inner| {
        let field = |name: &str, inner: DataType, nullable| Field::new(name, inner, nullable);
        prop_oneof![
            (inner.clone(), any::<bool>()).prop_map(move |(inner, nullable)| DataType::List(
                Arc::new(field("element", inner, nullable))
            )),
            (inner.clone(), any::<bool>()).prop_map(move |(inner, nullable)| {
                let entries =
                    vec![field("key", DataType::Utf8, false), field("value", inner, nullable)];
                let entries = DataType::Struct(entries.into());
                DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
            }),
            fields(inner).prop_map(|fields| DataType::Struct(fields.into())),
        ]
    });
    nested.boxed()
}

/// Fields of different names, most of them nullable, some of them JSON texts, some with a unit.
fn fields(data_type: impl Strategy<Value = DataType>) -> impl Strategy<Value = Vec<Field>> {
    let unit = select(vec![None, Some(EpochUnit::Seconds), Some(EpochUnit::Millis)]);
    let field = (data_type, prop::bool::weighted(0.8), prop::bool::weighted(0.1), unit);
    prop::collection::btree_map(name(), field, 1..6).prop_map(|fields| {
        let field = |(name, (data_type, nullable, text, unit)): (String, _)| match text {
            true => json_text(&name),
            false => EpochUnit::put(unit, Field::new(name, data_type, nullable)),
        };
        fields.into_iter().map(field).collect()
    })
}

/// A value that most probably fits the column.
fn fitting(field: &Field) -> BoxedStrategy<Value> {
    let integers = |bound: i64| (-bound..bound).prop_map(Value::from).boxed();
    let fitting = match field.data_type() {
        DataType::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        DataType::Int8 => integers(128),
        DataType::Int16 => integers(1 << 15),
        DataType::Int32 => integers(1 << 31),
        DataType::Int64 => any::<i64>().prop_map(Value::from).boxed(),
        DataType::Utf8 => any::<String>().prop_map(Value::from).boxed(),
        DataType::Date32 => "20[0-9]{2}-[01][0-9]-[0-3][0-9]".prop_map(Value::from).boxed(),
        DataType::Timestamp(..) => prop_oneof![
            integers(2_000_000_000_000),
            "20[0-9]{2}-[01][0-9]-[0-3][0-9][T ][012][0-9]:[0-5][0-9](:[0-5][0-9]([.][0-9]{0,12})?)?(Z|[+]02:?00)?"
                .prop_map(Value::from),
        ]
        .boxed(),
        DataType::Binary => "[A-Za-z0-9+/_-]{0,12}={0,2}".prop_map(Value::from).boxed(),
        DataType::List(item) => {
            prop::collection::vec(fitting(item), 0..4).prop_map(Value::from).boxed()
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { panic!("{entries}") };
            let members = prop::collection::vec((name(), fitting(&fields[1])), 0..4);
            members.prop_map(|members| Value::Object(members.into_iter().collect())).boxed()
        }
        DataType::Struct(fields) => object(fields),
        _ => any::<f64>().prop_map(Value::from).boxed(),
    };
    prop_oneof![14 => fitting, 1 => json(), 1 => Just(Value::Null)].boxed()
}

/// An object with most of the fields, and now and then another one.
fn object(fields: &Fields) -> BoxedStrategy<Value> {
    let member = |field: &Arc<Field>| {
        let value = prop::option::weighted(0.95, fitting(field));
        (Just(field.name().clone()), value).boxed()
    };
    let known: Vec<_> = fields.iter().map(member).collect();
    let unknown = prop::option::weighted(0.2, (name(), json()));
    let object = (known, unknown).prop_map(|(known, unknown)| {
        let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Value::Object(unknown.into_iter().chain(known).collect::<Map<_, _>>())
    });
    object.boxed()
}

/// Writes a value with its members in any order, with and without space, and with needless escapes.
fn write(value: &Value, seed: &mut u64, text: &mut Vec<u8>) {
    let mut one_in = |chance: u64| {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33).is_multiple_of(chance)
    };
    if one_in(9) {
        text.extend_from_slice(b" \n\t\r ");
    }
    let escaped = one_in(16);
    let backwards = one_in(2);
    match value {
        Value::String(string) if escaped => write_escaped(string, text),
        Value::Array(items) => {
            text.push(b'[');
            for (index, item) in items.iter().enumerate() {
                text.extend_from_slice(if index == 0 { b"" } else { b"," });
                write(item, seed, text);
            }
            text.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            if backwards {
                members.reverse();
            }
            let turn = *seed as usize % members.len().max(1);
            members.rotate_left(turn);
            text.push(b'{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                text.extend_from_slice(if index == 0 { b"" } else { b"," });
                write(&Value::from(name.as_str()), seed, text);
                text.push(b':');
                write(value, seed, text);
            }
            text.push(b'}');
        }
        scalar => text.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

fn write_escaped(string: &str, text: &mut Vec<u8>) {
    text.push(b'"');
    for unit in string.encode_utf16() {
        text.extend_from_slice(format!("\\u{unit:04X}").as_bytes());
    }
    text.push(b'"');
}

/// Columns, and a batch of records most of which fit them.
fn made_records(
    data_type: BoxedStrategy<DataType>,
) -> impl Strategy<Value = (Vec<Field>, Vec<Vec<u8>>)> {
    fields(data_type).prop_flat_map(|fields| {
        let record = (object(&fields.clone().into()), any::<u64>(), mutations());
        let record = record.prop_map(|(value, mut seed, mutations)| {
            let mut text = Vec::new();
            write(&value, &mut seed, &mut text);
            mutate(text, mutations)
        });
        (Just(fields), prop::collection::vec(record, 1..5))
    })
}

fn policy() -> impl Strategy<Value = OnUnknownField> {
    select(vec![OnUnknownField::Rescue, OnUnknownField::Ignore, OnUnknownField::Reject])
}

/// Real records, if they are there.
fn webhooks() -> Vec<String> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/integration-tests/cache/webhooks/webhooks.ndjson"
    );
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The columns that inference finds in a record, and the record damaged.
fn check_webhook(
    webhook: &str,
    policy: OnUnknownField,
    mutations: Vec<Mutation>,
) -> Result<(), TestCaseError> {
    let Some(schema) = JsonFactory.infer(&[webhook.as_bytes()]) else { return Ok(()) };
    let columns: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    check_record(&columns, policy, &mutate(webhook.as_bytes().to_vec(), mutations))
}

/// Each record is accounted for, and a bad one changes nothing for the others.
fn check_batch(
    columns: &[Field],
    policy: OnUnknownField,
    batch: &[Vec<u8>],
) -> Result<(), TestCaseError> {
    let batch: Vec<_> = batch.iter().map(Some).collect();
    let mut decoder = decoder(columns.to_vec(), policy);
    let whole = decoder.decode(&records(&batch));
    prop_assert_eq!(whole.accounting().consumed, batch.len() as u64);
    let good: Vec<_> = whole.row_records().iter().map(|row| batch[*row as usize]).collect();
    let alone = decoder.decode(&records(&good));
    prop_assert_eq!(alone.rejected().len(), 0);
    prop_assert_eq!(whole.rows(), alone.rows());
    Ok(())
}

/// Looks at some cases; what is found is made smaller and ends the test. Returns how many there were.
fn look<S: Strategy>(
    cases: u32,
    strategy: S,
    check: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> u64 {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(&strategy, check).unwrap_or_else(|found| panic!("{found}"));
    u64::from(cases)
}

#[test]
fn no_record_becomes_what_it_should_not_however_long_one_searches() {
    let seconds = std::env::var("ALLUVIUM_FUZZ_SECONDS").map_or(1, |text| text.parse().unwrap());
    let (clock, webhooks) = (SystemClock::start(), webhooks());
    let (mut cases, mut minutes) = (0, 0);
    while cases == 0 || clock.now().0 < Duration::from_secs(seconds) {
        cases += look(64, (made_records(comparable()), policy()), |((columns, batch), policy)| {
            batch.iter().try_for_each(|record| check_record(&columns, policy, record))?;
            check_batch(&columns, policy, &batch)
        });
        cases += look(64, (made_records(any_type()), policy()), |((columns, batch), policy)| {
            check_batch(&columns, policy, &batch)
        });
        let bytes = prop::collection::vec(any::<u8>(), 0..64);
        cases += look(64, (fields(comparable()), bytes, policy()), |(columns, bytes, policy)| {
            check_record(&columns, policy, &bytes)
        });
        if !webhooks.is_empty() {
            cases += look(8, (any::<Index>(), policy(), mutations()), |(index, policy, damage)| {
                check_webhook(&webhooks[index.index(webhooks.len())], policy, damage)
            });
        }
        if clock.now().0.as_secs() / 60 > minutes {
            minutes = clock.now().0.as_secs() / 60;
            eprintln!("{minutes} minutes, {cases} cases: nothing found");
        }
    }
    eprintln!("{} seconds, {cases} cases: nothing found", clock.now().0.as_secs());
}
