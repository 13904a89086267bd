//! What becomes of records, case by case. `fuzz.rs` has the properties.

use arrow::array::{Array, AsArray};
use arrow::json::LineDelimitedWriter;
use connector_api::decoder::EpochUnit;
use connector_api::ids::{TopicId, TopicPartition};
use connector_api::record::RawRecordsBuilder;

use super::*;
use DataType::{Binary, Boolean, Date32, Float32, Float64, Int8, Int16, Int32, Int64, Utf8};
use OnUnknownField::{Ignore, Reject, Rescue};

pub(super) fn utc() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()))
}

fn ntz() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None)
}

pub(super) fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, true)))
}

fn required_list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, false)))
}

pub(super) fn map(value: DataType) -> DataType {
    let entries = vec![Field::new("key", Utf8, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries.into()), false)), false)
}

pub(super) fn group(fields: Vec<Field>) -> DataType {
    DataType::Struct(fields.into())
}

pub(super) fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

pub(super) fn json_text(name: &str) -> Field {
    let metadata = [(JSON_TEXT_KEY.to_owned(), JSON_TEXT_VALUE.to_owned())];
    optional(name, Utf8).with_metadata(metadata.into())
}

pub(super) fn decoder(columns: Vec<Field>, on_unknown_field: OnUnknownField) -> JsonDecoder {
    let columns = Arc::new(Schema::new(columns));
    JsonDecoder::new(&DecodeRequest { columns, on_unknown_field }).unwrap()
}

pub(super) fn records<V: AsRef<[u8]>>(values: &[Option<V>]) -> RawRecords {
    let topic_partition =
        TopicPartition { topic: "orders".into(), topic_id: TopicId::Unavailable, partition: 0 };
    let mut builder = RawRecordsBuilder::new(topic_partition, Offset::new(100).unwrap());
    for value in values {
        assert!(builder.push(builder.next(), 0, value.as_ref().map(AsRef::as_ref)));
    }
    builder.take()
}

/// One line for each row, nulls left out.
pub(super) fn lines(rows: &RecordBatch) -> Vec<String> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(rows).unwrap();
    String::from_utf8(writer.into_inner()).unwrap().lines().map(str::to_owned).collect()
}

/// The row, or the code and path of the cause.
#[track_caller]
fn outcome(columns: Vec<Field>, on_unknown_field: OnUnknownField, input: &[u8]) -> String {
    let decoded = decoder(columns, on_unknown_field).decode(&records(&[Some(input)]));
    match decoded.rejected() {
        [] => lines(decoded.rows()).remove(0),
        [Rejected { cause: Cause { code, path, .. }, .. }] => {
            format!("{code} {path}").trim().to_owned()
        }
        more => panic!("{more:?}"),
    }
}

/// A value in a column `c` of this type, without rescue: its text as Arrow writes it, or the cause's code.
#[track_caller]
fn check_value(data_type: DataType, value: &str, expected: &str) {
    let input = format!(r#"{{"c":{value}}}"#);
    let outcome = outcome(vec![optional("c", data_type.clone())], Ignore, input.as_bytes());
    let found = outcome.strip_prefix(r#"{"c":"#).and_then(|rest| rest.strip_suffix('}'));
    assert_eq!(found.unwrap_or(&outcome), expected, "{value} as {data_type}");
}

#[track_caller]
fn check(columns: Vec<Field>, on_unknown_field: OnUnknownField, input: &str, expected: &str) {
    let outcome = outcome(columns, on_unknown_field, input.as_bytes());
    assert_eq!(outcome, expected, "{input}");
}

/// A record under `rescue`: all columns, `_rescued` among them.
#[track_caller]
fn check_rescue(columns: Vec<Field>, input: &str, expected: &str, rescued: Option<&str>) {
    let decoded = decoder(columns, Rescue).decode(&records(&[Some(input)]));
    assert_eq!(decoded.rejected(), [], "{input}");
    let last = decoded.rows().num_columns() - 1;
    let column = decoded.rows().column(last).as_string::<i32>();
    assert_eq!(column.is_valid(0).then(|| column.value(0)), rescued, "{input}");
    if let Some(rescued) = rescued {
        serde_json::from_str::<serde_json::Value>(rescued).unwrap();
    }
    let payload = decoded.rows().project(&(0..last).collect::<Vec<_>>()).unwrap();
    assert_eq!(lines(&payload), [expected], "{input}");
}

/// The code of a whole value, read into a nullable `a: long`.
#[track_caller]
fn check_record(input: impl AsRef<[u8]>, expected: &str) {
    for on_unknown_field in [Rescue, Ignore] {
        let outcome = outcome(vec![optional("a", Int64)], on_unknown_field, input.as_ref());
        let start = &input.as_ref()[..input.as_ref().len().min(100)];
        assert_eq!(outcome, expected, "{}", String::from_utf8_lossy(start));
    }
}

#[test]
fn integers_are_taken_within_their_range_and_in_no_other_spelling() {
    check_value(Int64, "0", "0");
    check_value(Int64, "-0", "0");
    check_value(Int64, "9007199254740993", "9007199254740993");
    check_value(Int64, "9223372036854775807", "9223372036854775807");
    check_value(Int64, "-9223372036854775808", "-9223372036854775808");
    check_value(Int64, "9223372036854775808", "out_of_range c");
    check_value(Int64, "-9223372036854775809", "out_of_range c");
    check_value(Int64, "18446744073709551616", "out_of_range c");
    for value in ["1.5", "1.0", "1e3", "1E0", "-0.0"] {
        check_value(Int64, value, "not_exact c");
    }
    for value in [r#""12""#, "true", "[1]", "{}", r#""""#] {
        check_value(Int64, value, "wrong_type c");
    }
    check_value(Int8, "-128", "-128");
    check_value(Int8, "128", "out_of_range c");
    check_value(Int16, "32767", "32767");
    check_value(Int16, "-32769", "out_of_range c");
    check_value(Int32, "-2147483648", "-2147483648");
    check_value(Int32, "2147483648", "out_of_range c");
}

#[test]
fn a_double_takes_the_nearest_value_and_refuses_what_would_be_lost() {
    check_value(Float64, "1", "1.0");
    check_value(Float64, "221.50", "221.5");
    check_value(Float64, "-1.5e-3", "-0.0015");
    check_value(Float64, "0.1", "0.1");
    check_value(Float64, "0.10000000000000000555", "0.1");
    check_value(Float64, "1e22", "1.0e22");
    check_value(Float64, "1.7976931348623157e308", "1.7976931348623157e308");
    check_value(Float64, "5e-324", "5.0e-324");
    check_value(Float64, "0e999", "0.0");
    check_value(Float64, "9007199254740992", "9.007199254740992e15");
    check_value(Float64, "9007199254740993", "not_exact c");
    check_value(Float64, "1180591620717411303424", "1.1805916207174113e21");
    check_value(Float64, "1180591620717411300000", "1.1805916207174113e21");
    check_value(Float64, "1180591620717411300001", "not_exact c");
    check_value(Float64, "1e999", "out_of_range c");
    check_value(Float64, "-1e309", "out_of_range c");
    check_value(Float64, "1e-999", "out_of_range c");
    check_value(Float64, r#""NaN""#, "wrong_type c");
    check_value(Float64, "1e400", "out_of_range c");
    check_value(Float64, "-0", "-0.0");
    check_value(Float64, "-0.0", "-0.0");
    check_value(Float64, "-0e5", "-0.0");
}

#[test]
fn what_python_writes_for_no_number_is_no_json() {
    for data_type in [Int64, Float32, Float64, DataType::Decimal128(38, 9), Utf8, utc()] {
        for value in ["NaN", "Infinity", "-Infinity", "nan", "inf", "-"] {
            check_value(data_type.clone(), value, "json_syntax");
        }
    }
    check(vec![], Ignore, r#"{"u":NaN}"#, "json_syntax");
    check(vec![], Ignore, r#"{"u":[-Infinity]}"#, "json_syntax");
}

#[test]
fn a_huge_number_is_one_flaw_and_not_a_crash() {
    let digits = "9".repeat(1 << 20);
    for (data_type, value, expected) in [
        (Int64, digits.clone(), "out_of_range c"),
        (Float64, digits.clone(), "out_of_range c"),
        (Float32, digits.clone(), "out_of_range c"),
        (DataType::Decimal128(38, 0), digits.clone(), "out_of_range c"),
        (DataType::Decimal128(38, 0), format!("0.{digits}"), "not_exact c"),
        (Float64, format!("0.{digits}"), "1.0"),
        (Int64, format!("1e{digits}"), "not_exact c"),
        (Float64, format!("1e{digits}"), "out_of_range c"),
        (Float64, format!("0e-{digits}"), "0.0"),
        (DataType::Decimal128(38, 0), format!("1e{digits}"), "out_of_range c"),
        (DataType::Decimal128(38, 0), format!("1e-{digits}"), "not_exact c"),
    ] {
        check_value(data_type, &value, expected);
    }
    check(vec![], Ignore, &format!(r#"{{"u":{digits},"v":1e{digits}}}"#), "{}");
}

#[test]
fn payloads_of_several_megabytes_are_rows_like_others() {
    let letters = "0123456789abcdef".repeat((5 << 20) / 16);
    check_value(Utf8, &format!("\"{letters}\""), &format!("\"{letters}\""));
    check_value(Utf8, &format!("\"\\u0041{letters}\""), &format!("\"A{letters}\""));
    check_value(Utf8, &format!("\"{letters}\u{1}\""), "json_syntax");
    check_value(Utf8, &format!("\"{letters}"), "json_syntax");
    let items = vec!["1"; 5 << 20].join(",");
    let columns = || vec![optional("l", list(Int64)), optional("s", Utf8)];
    let huge = format!(r#"{{"l":[{items}],"s":"{letters}","u":["{letters}"]}}"#);
    let values = [
        Some(r#"{"s":"before"}"#),
        Some(&huge),
        Some(&huge[..huge.len() - 1]),
        Some(r#"{"s":"after"}"#),
    ];
    let decoded = decoder(columns(), Rescue).decode(&records(&values));
    assert_eq!(decoded.row_records(), [0, 1, 3]);
    let (lists, texts) = (decoded.rows().column(0).as_list::<i32>(), decoded.rows().column(1));
    assert_eq!((lists.value_length(1), lists.null_count()), (5 << 20, 2));
    let texts: Vec<_> = texts.as_string::<i32>().iter().map(Option::unwrap).collect();
    assert_eq!(texts, ["before", letters.as_str(), "after"]);
    let rescued = decoded.rows().column(2).as_string::<i32>();
    assert_eq!(rescued.value(1), format!(r#"{{"u":["{letters}"]}}"#));
}

#[test]
fn a_float_is_rounded_once() {
    check_value(Float32, "0.1", "0.1");
    check_value(Float32, "16777216", "16777216.0");
    check_value(Float32, "16777217", "not_exact c");
    check_value(Float32, "3.4028236e38", "out_of_range c");
    // Rounded to a double first, it would become 1.0000001.
    check_value(Float32, "1.00000005960464477539", "1.0");
}

#[test]
fn a_decimal_is_exact_up_to_all_of_its_digits() {
    let decimal = |precision, scale| DataType::Decimal128(precision, scale);
    check_value(decimal(12, 2), "221.50", "221.50");
    check_value(decimal(12, 2), "-0.05", "-0.05");
    check_value(decimal(12, 2), "1", "1.00");
    check_value(decimal(12, 2), "1e3", "1000.00");
    check_value(decimal(12, 2), "12e-1", "1.20");
    check_value(decimal(12, 2), "1.5000", "1.50");
    check_value(decimal(12, 2), "1.500000000000000000000000000000000000000000000", "1.50");
    check_value(decimal(12, 2), "0.000000000000000000000000000000000000000000000", "0.00");
    check_value(decimal(12, 2), "0e999999999999999999999", "0.00");
    check_value(decimal(12, 2), "1.555", "not_exact c");
    check_value(decimal(12, 2), "0.000000000000000000000000000000000000000000001", "not_exact c");
    check_value(decimal(12, 2), "9999999999.99", "9999999999.99");
    check_value(decimal(12, 2), "10000000000", "out_of_range c");
    check_value(decimal(12, 2), "1e999999999999999999999", "out_of_range c");
    check_value(decimal(38, 0), &"9".repeat(38), &"9".repeat(38));
    check_value(decimal(38, 0), &"9".repeat(39), "out_of_range c");
    check_value(decimal(38, 0), "9007199254740993", "9007199254740993");
    let digits = "12345678901234567890.123456789012345678";
    check_value(decimal(38, 18), digits, digits);
    check_value(decimal(38, 38), "0.1", &format!("0.1{}", "0".repeat(37)));
    check_value(decimal(12, 2), r#""12.50""#, "wrong_type c");
}

#[test]
fn strings_are_taken_with_their_escapes_resolved() {
    check_value(Utf8, r#""""#, r#""""#);
    check_value(Utf8, r#""a\"\\\/\b\f\n\r\tz""#, r#""a\"\\/\b\f\n\r\tz""#);
    check_value(Utf8, r#""\u0041\u00e9\u20AC\ud83d\ude00!""#, r#""Aé€😀!""#);
    check_value(
        Utf8,
        r#""é€😀 a longer text, to go beyond one step""#,
        r#""é€😀 a longer text, to go beyond one step""#,
    );
    for value in ["1", "true", "[]", "{}"] {
        check_value(Utf8, value, "wrong_type c");
    }
    for value in
        [r#""\x""#, r#""\u12""#, r#""\u12G4""#, "\"a\nb\"", "\"12345678\u{1}\"", r#""a"#, r#""a\"#]
    {
        check_value(Utf8, value, "json_syntax");
    }
}

#[test]
fn a_control_character_is_seen_wherever_it_stands() {
    for at in 0..24 {
        for control in ['\0', '\n', '\u{1f}'] {
            let mut text = "a".repeat(24);
            text.insert(at, control);
            check_value(Utf8, &format!("\"{text}\""), "json_syntax");
        }
        // The characters next to those that end a plain piece, and those with the high bit.
        for plain in [' ', '!', '#', '[', ']', '\u{7f}', '\u{80}', '\u{a2}', '\u{dc}', '\u{ffff}'] {
            let mut text = "a".repeat(24);
            text.insert(at, plain);
            check_value(Utf8, &format!("\"{text}\""), &format!("\"{text}\""));
        }
    }
}

#[test]
fn half_a_surrogate_pair_is_a_syntax_error() {
    for value in [r"\ud83d", r"\ude00", r"\ud83dx", r"\ud83d\u0041", r"\ud83d\ud83d", r"\ud83d\n"] {
        check_value(Utf8, &format!("\"{value}\""), "json_syntax");
        check_record(format!(r#"{{"u":["{value}"]}}"#), "json_syntax");
        check_record(format!(r#"{{"{value}":1}}"#), "json_syntax");
        check_record(format!(r#"{{"u":{{"a{value}":1}}}}"#), "json_syntax");
    }
}

#[test]
fn booleans_are_literals() {
    check_value(Boolean, "true", "true");
    check_value(Boolean, "false", "false");
    check_value(Boolean, "1", "wrong_type c");
    check_value(Boolean, r#""true""#, "wrong_type c");
    check_value(Boolean, "tru", "json_syntax");
    check_value(Boolean, "truey", "json_syntax");
}

#[test]
fn binary_is_base64_in_all_spellings_of_protobuf() {
    check_value(Binary, r#""""#, r#""""#);
    check_value(Binary, r#""AP+/""#, r#""00ffbf""#);
    check_value(Binary, r#""AP-_""#, r#""00ffbf""#);
    check_value(Binary, r#""\u0041A==""#, r#""00""#);
    check_value(Binary, r#""AA""#, r#""00""#);
    check_value(Binary, r#""AAE=""#, r#""0001""#);
    check_value(Binary, r#""AAE""#, r#""0001""#);
    for value in ["A", "AB==", "AAF", "AA=", "AA===", "A A=", "AAE=AAE=", "=", "é"] {
        check_value(Binary, &format!("\"{value}\""), "invalid_base64 c");
    }
}

#[test]
fn a_timestamp_is_taken_in_the_spellings_of_real_producers() {
    for (text, expected) in [
        ("2026-11-22T00:00:00.845576Z", "2026-11-22T00:00:00.845576Z"),
        ("2026-11-22t01:02:03z", "2026-11-22T01:02:03Z"),
        ("2026-11-22 01:02:03", "2026-11-22T01:02:03Z"),
        ("2026-11-22 01:02:03,5", "2026-11-22T01:02:03.500Z"),
        ("2026-11-22T01:02Z", "2026-11-22T01:02:00Z"),
        ("2026-11-22T01:02", "2026-11-22T01:02:00Z"),
        ("2026-11-22T01:02+01:00", "2026-11-22T00:02:00Z"),
        ("2026-11-22T01:02:03.1Z", "2026-11-22T01:02:03.100Z"),
        ("2026-11-22T01:02:03.1234567Z", "2026-11-22T01:02:03.123456Z"),
        ("2026-11-22T01:02:03.123456789Z", "2026-11-22T01:02:03.123456Z"),
        ("2026-11-22T01:02:03.999999999999999999999999Z", "2026-11-22T01:02:03.999999Z"),
        ("2026-11-22T01:02:03+02:00", "2026-11-21T23:02:03Z"),
        ("2026-11-22T01:02:03-0530", "2026-11-22T06:32:03Z"),
        ("2026-11-22T01:02:03+02", "2026-11-21T23:02:03Z"),
        ("2026-11-22T01:02:03-00:00", "2026-11-22T01:02:03Z"),
        ("2026-11-22T01:02:03.5-12", "2026-11-22T13:02:03.500Z"),
        ("2026-11-22 01:02:03+00", "2026-11-22T01:02:03Z"),
        ("2026-11-22 01:02:03 +0200", "2026-11-21T23:02:03Z"),
        ("2026-11-22 01:02:03.25 -02:30", "2026-11-22T03:32:03.250Z"),
        ("20261122T010203Z", "2026-11-22T01:02:03Z"),
        ("20261122T010203,25Z", "2026-11-22T01:02:03.250Z"),
        ("20261122t010203+0200", "2026-11-21T23:02:03Z"),
        ("20261122 0102", "2026-11-22T01:02:00Z"),
        ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
        ("1600-02-29T00:00:00Z", "1600-02-29T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        (r"2026-11-22T01:02:03\u005a", "2026-11-22T01:02:03Z"),
    ] {
        check_value(utc(), &format!("\"{text}\""), &format!("\"{expected}\""));
    }
}

#[test]
fn what_is_no_moment_is_no_timestamp() {
    for text in [
        "",
        "2026",
        "2026-11-22",
        "2026-11-22T",
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T00:60:00Z",
        "2016-12-31T23:59:60Z",
        "2026-11-22T00:00:00.Z",
        "2026-11-22T00:00:00,",
        "2026-11-22T00:00.5Z",
        "2026-11-22T00Z",
        "2026-11-22T00:00:00+24:00",
        "2026-11-22T00:00:00+01:60",
        "2026-11-22T00:00:00+1",
        "2026-11-22T00:00:00+",
        "2026-11-22T00:00:00 Z",
        "2026-11-22T00:00:00ZZ",
        "2026-11-22T00:00:00Z ",
        " 2026-11-22T00:00:00Z",
        "2026-11-22  00:00:00Z",
        "2026-11-22T00:00:00UTC",
        "2026-11-22T1:00:00Z",
        "2026/11/22T00:00:00Z",
        "+2026-11-22T00:00:00Z",
        "2026-11-22T00:00:00  +02:00",
        "2026-11-22T00:00:00 UTC",
        "2026-11-22T00:00:00+02:00:00",
        "2026-11-22T00:00:00+02:00[Europe/Paris]",
        "2026-11-22T00:00:00\u{2212}02:00",
        "20261122",
        "20261122T",
        "20261122T00",
        "20261122T00000",
        "20261122T00:00:00Z",
        "20261122T0000:00Z",
        "2026-11-22T000000Z",
        "20261322T000000Z",
        "20261122T240000Z",
        "20261122000000",
        "2026-W47-7T00:00:00Z",
        "2026W477T000000Z",
        "2026-326T00:00:00Z",
        "2026326T000000Z",
        "Sun, 22 Nov 2026 00:00:00 GMT",
        "1763769600",
        "now",
        "2026-11-22T00:00:0éZ",
    ] {
        check_value(utc(), &format!("\"{text}\""), "invalid_time c");
    }
    check_value(utc(), "1763769600", "wrong_type c");
}

/// A value in a timestamp column with this unit.
#[track_caller]
fn check_epoch(unit: EpochUnit, value: &str, expected: &str) {
    for (data_type, zone) in [(utc(), "Z"), (ntz(), "")] {
        let column = EpochUnit::put(Some(unit), optional("c", data_type));
        let outcome = outcome(vec![column], Ignore, format!(r#"{{"c":{value}}}"#).as_bytes());
        let found = outcome.strip_prefix(r#"{"c":""#).and_then(|rest| rest.strip_suffix("\"}"));
        let expected = match expected.starts_with(|c: char| c.is_ascii_digit()) {
            true => format!("{expected}{zone}"),
            false => expected.to_owned(),
        };
        assert_eq!(found.unwrap_or(&outcome), expected, "{value} in {unit:?}");
    }
}

#[test]
fn a_number_is_a_timestamp_in_the_unit_that_is_declared() {
    use EpochUnit::{Micros, Millis, Seconds};
    for (unit, value, expected) in [
        (Seconds, "0", "1970-01-01T00:00:00"),
        (Seconds, "-0", "1970-01-01T00:00:00"),
        (Seconds, "1700000000", "2023-11-14T22:13:20"),
        (Seconds, "1700000000.0", "2023-11-14T22:13:20"),
        (Seconds, "1700000000.123456", "2023-11-14T22:13:20.123456"),
        (Seconds, "1.700000000123456E9", "2023-11-14T22:13:20.123456"),
        (Seconds, "17e8", "2023-11-14T22:13:20"),
        (Seconds, "-1.5", "1969-12-31T23:59:58.500"),
        // What Java and Python write goes below the microsecond.
        (Seconds, "1700000000.123456789", "2023-11-14T22:13:20.123456"),
        (Seconds, "1700000000.1234567", "2023-11-14T22:13:20.123456"),
        (Seconds, "1700000000.999999999999999999999999", "2023-11-14T22:13:20.999999"),
        (Seconds, "-0.0000001", "1969-12-31T23:59:59.999999"),
        (Seconds, "-1e-99", "1969-12-31T23:59:59.999999"),
        (Seconds, "1e-99", "1970-01-01T00:00:00"),
        (Seconds, "0e99", "1970-01-01T00:00:00"),
        (Seconds, "-62135596800", "0001-01-01T00:00:00"),
        (Seconds, "253402300799.9999999", "9999-12-31T23:59:59.999999"),
        (Millis, "1700000000123", "2023-11-14T22:13:20.123"),
        (Millis, "-1", "1969-12-31T23:59:59.999"),
        (Micros, "1700000000123456", "2023-11-14T22:13:20.123456"),
        (Micros, "-62135596800000000", "0001-01-01T00:00:00"),
        (Micros, "253402300799999999", "9999-12-31T23:59:59.999999"),
    ] {
        check_epoch(unit, value, expected);
    }
    for unit in EpochUnit::ALL {
        check_epoch(unit, r#""2023-11-14T22:13:20.5""#, "2023-11-14T22:13:20.500");
        check_epoch(unit, "null", "{}");
    }
}

#[test]
fn a_number_that_is_no_moment_in_its_unit_does_not_fit() {
    use EpochUnit::{Micros, Millis, Seconds};
    for (unit, value) in [
        // Milliseconds and microseconds of today in a column of the next longer unit.
        (Seconds, "1700000000123"),
        (Millis, "1700000000123456"),
        (Seconds, "-62135596800.000001"),
        (Seconds, "253402300800"),
        (Millis, "253402300800000"),
        (Micros, "253402300800000000"),
        (Micros, "-62135596800000001"),
        (Millis, "9223372036854775807"),
        (Micros, "9223372036854775808"),
        (Seconds, "1e99"),
        (Seconds, "-1e999999999999"),
    ] {
        check_epoch(unit, value, "out_of_range c");
    }
    for value in ["1700000000123.0", "1700000000123.5", "1.7e12"] {
        check_epoch(Millis, value, "not_exact c");
        check_epoch(Micros, value, "not_exact c");
    }
    check_epoch(Seconds, &format!("0.{}", "1".repeat(40)), "not_exact c");
    for value in [r#""1700000000""#, r#""1700000000123""#, r#""""#] {
        check_epoch(Millis, value, "invalid_time c");
    }
    check_epoch(Millis, "true", "wrong_type c");
    check_epoch(Millis, "17e", "json_syntax");
}

#[test]
fn a_unit_is_for_all_timestamps_in_its_column() {
    let inner = group(vec![
        optional("at", utc()),
        optional("local", list(ntz())),
        optional("seen", map(utc())),
        optional("n", Int64),
    ]);
    let columns = || {
        let a = EpochUnit::put(Some(EpochUnit::Millis), optional("a", inner.clone()));
        vec![a, optional("b", inner.clone())]
    };
    check(
        columns(),
        Ignore,
        r#"{"a":{"at":1,"local":[2,"1970-01-01T00:00:01"],"seen":{"x":3},"n":4}}"#,
        r#"{"a":{"at":"1970-01-01T00:00:00.001Z","local":["1970-01-01T00:00:00.002","1970-01-01T00:00:01"],"seen":{"x":"1970-01-01T00:00:00.003Z"},"n":4}}"#,
    );
    check(columns(), Ignore, r#"{"b":{"at":1}}"#, "wrong_type b.at");
    check_rescue(
        columns(),
        r#"{"a":{"local":[1.5]}}"#,
        r#"{"a":{"local":[null]}}"#,
        Some(r#"{"a.local[0]":1.5}"#),
    );
}

#[test]
fn each_byte_of_a_timestamp_is_looked_at() {
    let text = b"2026-11-22T01:02:03.123456Z";
    for at in 0..text.len() {
        for byte in 0..=u8::MAX {
            let mut other = text.to_vec();
            other[at] = byte;
            let may = match text[at] {
                b'0'..=b'9' => byte.is_ascii_digit(),
                b'T' => b"Tt ".contains(&byte),
                b'.' => b".,".contains(&byte),
                b'Z' => b"Zz".contains(&byte) || byte.is_ascii_digit(),
                separator => byte == separator,
            };
            // Another digit may make a day that does not exist.
            if !byte.is_ascii_digit() || at > 18 {
                let found = time::micros(&other, time::Zone::Utc);
                assert_eq!(found.is_some(), may, "{}", String::from_utf8_lossy(&other));
            }
        }
    }
}

#[test]
fn a_zone_does_not_fit_a_timestamp_without_zone() {
    check_value(ntz(), r#""2026-11-22T01:02:03.5""#, r#""2026-11-22T01:02:03.500""#);
    check_value(ntz(), r#""2026-11-22T01:02:03Z""#, "invalid_time c");
    check_value(ntz(), r#""2026-11-22T01:02:03+01:00""#, "invalid_time c");
    check_value(ntz(), r#""2026-11-22 01:02:03 +0100""#, "invalid_time c");
    check_value(ntz(), r#""20261122T010203""#, r#""2026-11-22T01:02:03""#);
    check_value(ntz(), r#""20261122T010203Z""#, "invalid_time c");
}

#[test]
fn a_date_is_a_date_alone() {
    check_value(Date32, r#""2024-02-29""#, r#""2024-02-29""#);
    check_value(Date32, r#""0001-01-01""#, r#""0001-01-01""#);
    check_value(Date32, r#""20240229""#, r#""2024-02-29""#);
    for text in [
        "2026-02-30",
        "20260230",
        "2026-1-1",
        "2026-11-22T00:00:00Z",
        "2026-11-22 ",
        "",
        "12026-11-22",
        "2026-W47-7",
        "2026W477",
        "2026-326",
        "31012026",
    ] {
        check_value(Date32, &format!("\"{text}\""), "invalid_time c");
    }
    check_value(Date32, "20000", "wrong_type c");
}

#[test]
fn lists_structs_and_maps_nest() {
    let deep = list(group(vec![optional("k", map(list(Int64))), optional("s", Utf8)]));
    check_value(deep.clone(), "[]", "[]");
    check_value(
        deep.clone(),
        r#" [ { "s" : "x" , "k" : { "a" : [ 1 , null ] , "b" : [ ] , "c" : null } } , { } , null ] "#,
        r#"[{"k":{"a":[1,null],"b":[]},"s":"x"},{},null]"#,
    );
    check_value(deep.clone(), r#"[{"k":{"a":[1,"x"]}}]"#, "wrong_type c[0].k.a[1]");
    check_value(deep, r#"[{"k":{"a.b":3}}]"#, "wrong_type c[0].k.`a.b`");
    check_value(map(Utf8), r#"{"a":"1","\u0061":"2","b":"3"}"#, r#"{"a":"2","b":"3"}"#);
    check_value(list(Int64), "{}", "wrong_type c");
    check_value(group(vec![optional("x", Int64)]), "[]", "wrong_type c");
    check_value(map(Int64), "[]", "wrong_type c");
}

#[test]
fn null_and_missing_are_the_same() {
    let columns = || vec![required("a", Int64), optional("b", group(vec![required("x", Int64)]))];
    check(columns(), Ignore, r#"{"a":1}"#, r#"{"a":1}"#);
    check(columns(), Ignore, r#"{"a":1,"b":null}"#, r#"{"a":1}"#);
    check(columns(), Ignore, r#"{"a":null}"#, "null_in_required a");
    check(columns(), Ignore, r#"{}"#, "null_in_required a");
    check(columns(), Ignore, r#"{"a":1,"b":{}}"#, "null_in_required b.x");
    check(columns(), Ignore, r#"{"a":1,"b":{"x":null}}"#, "null_in_required b.x");
    check_value(required_list(Int64), "[1,null]", "null_in_required c[1]");
}

#[test]
fn names_match_exactly_with_escapes_resolved() {
    let columns = || vec![optional("a", Int64), optional("b\"c", Int64), optional("", Int64)];
    check(columns(), Reject, r#"{"\u0061":1,"b\"c":2,"":3}"#, r#"{"a":1,"b\"c":2,"":3}"#);
    check(columns(), Reject, r#"{ "b\u0022c" : 2 , "a" : 1 }"#, r#"{"a":1,"b\"c":2}"#);
    check(columns(), Reject, r#"{"A":1}"#, "unknown_field A");
    check(columns(), Reject, r#"{"b"c":1}"#, "json_syntax");
    let columns = || vec![optional(r"\u0061", Int64), optional("a name of many letters", Int64)];
    check(columns(), Reject, r#"{"\u0061":1}"#, "unknown_field a");
    check(columns(), Reject, r#"{"\\u0061":1}"#, r#"{"\\u0061":1}"#);
    check(columns(), Reject, r#"{"a name of many letters":1}"#, r#"{"a name of many letters":1}"#);
    check(
        columns(),
        Reject,
        r#"{"a name of many lettres":1}"#,
        "unknown_field a name of many lettres",
    );
    check(columns(), Reject, r#"{"a name of many letters" :1}"#, r#"{"a name of many letters":1}"#);
}

#[test]
fn of_a_name_that_occurs_twice_the_last_one_counts_and_the_first_leaves_nothing() {
    let columns = || vec![required("a", Int64), optional("s", group(vec![optional("x", Int64)]))];
    check_rescue(columns(), r#"{"a":1,"a":2}"#, r#"{"a":2}"#, None);
    check_rescue(columns(), r#"{"a":"no","a":2}"#, r#"{"a":2}"#, None);
    check_rescue(columns(), r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#, None);
    check_rescue(columns(), r#"{"s":{"x":1,"u":1},"a":1,"s":{}}"#, r#"{"a":1,"s":{}}"#, None);
    check_rescue(
        columns(),
        r#"{"s":{"x":"no"},"a":1,"s":{"x":2}}"#,
        r#"{"a":1,"s":{"x":2}}"#,
        None,
    );
    check_rescue(columns(), r#"{"s":{"x":1},"a":1,"s":null}"#, r#"{"a":1}"#, None);
    check_rescue(
        columns(),
        r#"{"a":1,"u":1,"v":2,"\u0075":{"w":3}}"#,
        r#"{"a":1}"#,
        Some(r#"{"v":2,"\u0075":{"w":3}}"#.replace(r"\u0075", "u").as_str()),
    );
    // Null replaces what came before it, although null itself is not rescued.
    check_rescue(columns(), r#"{"u":1,"a":1,"u":null}"#, r#"{"a":1}"#, None);
    check_rescue(
        columns(),
        r#"{"a":1,"t":1,"u":null,"s":{"v":null},"w":2,"x":null}"#,
        r#"{"a":1,"s":{}}"#,
        Some(r#"{"t":1,"w":2}"#),
    );
    check(columns(), Ignore, r#"{"a":1,"a":"no"}"#, "wrong_type a");
    // On several levels at once, and what is under one that does not count does not count either.
    check_rescue(
        columns(),
        r#"{"s":{"x":1,"x":2},"s":{"x":3,"x":"no","x":4},"a":1,"a":2,"a":3}"#,
        r#"{"a":3,"s":{"x":4}}"#,
        None,
    );
    // Many members, of which the first one and one in the middle are replaced.
    let many: Vec<String> = (0..40).map(|i| format!(r#""u{i}":{i}"#)).collect();
    let input = format!(r#"{{"a":1,{},"u7":70,"a":2}}"#, many.join(","));
    let rescued = format!(r#"{{{},"u7":70}}"#, many.join(",").replace(r#""u7":7,"#, ""));
    check_rescue(columns(), &input, r#"{"a":2}"#, Some(&rescued));
    // What is rescued stands as in the record, unless that has to be read again.
    let unknown = r#"{"v":1,"v":{"w":[{"x":1,"x":2}],"w":[{"x":3,"x":4}]}}"#;
    let rescued = format!(r#"{{"u":{unknown}}}"#);
    check_rescue(columns(), &format!(r#"{{"a":1,"u":{unknown}}}"#), r#"{"a":1}"#, Some(&rescued));
    check_rescue(
        columns(),
        &format!(r#"{{"a":0,"u":{unknown},"a":1}}"#),
        r#"{"a":1}"#,
        Some(r#"{"u":{"v":{"w":[{"x":4}]}}}"#),
    );
    let deep = vec![optional("l", list(group(vec![optional("m", map(list(Int64)))])))];
    check(
        deep,
        Reject,
        r#"{"l":[1],"l":[{"m":{"k":[1],"k":[2]},"m":{"k":[3],"j":[],"k":[4]}},{"m":{}}]}"#,
        r#"{"l":[{"m":{"j":[],"k":[4]}},{"m":{}}]}"#,
    );
    check(columns(), Reject, r#"{"s":{"u":1},"a":1,"s":{"x":1}}"#, r#"{"a":1,"s":{"x":1}}"#);
}

#[test]
fn a_value_that_does_not_count_does_not_send_what_is_around_it_to_the_rescued() {
    let entries = vec![required("key", Utf8), required("value", Utf8)];
    let entries = required("key_value", DataType::Struct(entries.into()));
    let texts = vec![optional("l", list(DataType::Map(Arc::new(entries), false)))];
    check_rescue(texts, r#"{"l":[{"k":[1],"k":"x"}]}"#, r#"{"l":[{"k":"x"}]}"#, None);
    let columns = || vec![optional("s", group(vec![required("x", Int64)]))];
    check_rescue(columns(), r#"{"s":{"x":"no","x":1}}"#, r#"{"s":{"x":1}}"#, None);
    // The last one counts where it is the one that does not fit, too.
    let rescued = Some(r#"{"s":{"x":"no"}}"#);
    check_rescue(columns(), r#"{"s":{"x":1,"x":"no"}}"#, "{}", rescued);
}

#[test]
fn unknown_fields_are_rescued_by_path_as_they_stand() {
    let columns = || {
        vec![
            optional("user", group(vec![optional("id", Int64)])),
            optional("tags", list(group(vec![optional("t", Utf8)]))),
            optional("attrs", map(group(vec![optional("k", Int64)]))),
        ]
    };
    check_rescue(columns(), r#"{"user":{"id":1}}"#, r#"{"user":{"id":1}}"#, None);
    check_rescue(columns(), r#"{"x":1}"#, "{}", Some(r#"{"x":1}"#));
    check_rescue(columns(), r#"{"x":null,"user":{"y":null}}"#, r#"{"user":{}}"#, None);
    check_rescue(
        columns(),
        r#"{"x": {"deep" : [1.50, null]} ,"user":{"id":1,"extra":"\u00e9"},"tags":[{},{"t":"a","x":true}]}"#,
        r#"{"user":{"id":1},"tags":[{},{"t":"a"}]}"#,
        Some(r#"{"x":{"deep" : [1.50, null]},"user.extra":"\u00e9","tags[1].x":true}"#),
    );
    check_rescue(
        columns(),
        r#"{"a.b":1,"":2,"q\"\\\u0001":3,"`":4,"attrs":{"k.1":{"x":5}},"b[0]":6,"é":7}"#,
        r#"{"attrs":{"k.1":{}}}"#,
        Some(r#"{"`a.b`":1,"``":2,"q\"\\\u0001":3,"````":4,"attrs.`k.1`.x":5,"`b[0]`":6,"é":7}"#),
    );
    check_rescue(
        vec![],
        r#"{"_kafka":1,"_rescued":2}"#,
        "{}",
        Some(r#"{"_kafka":1,"_rescued":2}"#),
    );
}

#[test]
fn a_misfit_is_rescued_at_the_nearest_nullable_column() {
    let columns = || {
        vec![
            optional("n", Int64),
            optional("user", group(vec![optional("id", Int64), optional("at", utc())])),
            optional("strict", group(vec![required("id", Int64), optional("l", list(Int64))])),
            optional("tags", list(Utf8)),
            optional("ids", required_list(Int64)),
        ]
    };
    check_rescue(columns(), r#"{"n":"12"}"#, "{}", Some(r#"{"n":"12"}"#));
    check_rescue(
        columns(),
        r#"{"n":1.5,"tags":["a",7,"b"]}"#,
        r#"{"tags":["a",null,"b"]}"#,
        Some(r#"{"n":1.5,"tags[1]":7}"#),
    );
    check_rescue(
        columns(),
        r#"{"user":{"id":true,"at":"2026-02-30T00:00:00Z"}}"#,
        r#"{"user":{}}"#,
        Some(r#"{"user.id":true,"user.at":"2026-02-30T00:00:00Z"}"#),
    );
    check_rescue(columns(), r#"{"user":[1, 2]}"#, "{}", Some(r#"{"user":[1, 2]}"#));
    // Entries from inside are part of the whole that is rescued.
    check_rescue(
        columns(),
        r#"{"strict":{"u":1,"l":["x"],"id":null},"n":1}"#,
        r#"{"n":1}"#,
        Some(r#"{"strict":{"u":1,"l":["x"],"id":null}}"#),
    );
    check_rescue(columns(), r#"{"strict":{"l":[]}}"#, "{}", Some(r#"{"strict":{"l":[]}}"#));
    check_rescue(columns(), r#"{"ids":[1,2,"x"]}"#, "{}", Some(r#"{"ids":[1,2,"x"]}"#));
}

#[test]
fn a_misfit_that_no_nullable_column_surrounds_rejects_the_record() {
    let columns = || vec![required("a", Int64), required("s", group(vec![required("x", Int64)]))];
    check(columns(), Rescue, r#"{"a":"1"}"#, "wrong_type a");
    check(columns(), Rescue, r#"{"a":1,"s":{"x":1.5}}"#, "not_exact s.x");
    check(columns(), Rescue, r#"{"a":1}"#, "null_in_required s");
}

#[test]
fn without_rescue_a_misfit_rejects_the_record() {
    for on_unknown_field in [Ignore, Reject] {
        check(vec![optional("a", Int64)], on_unknown_field, r#"{"a":"1"}"#, "wrong_type a");
    }
}

#[test]
fn unknown_fields_are_dropped_or_reject_the_record_as_configured() {
    let columns = || vec![optional("a", group(vec![optional("x", Int64)]))];
    check(columns(), Ignore, r#"{"u":[1],"a":{"x":1,"y":{}}}"#, r#"{"a":{"x":1}}"#);
    check(columns(), Reject, r#"{"a":{"x":1,"y.z":{}}}"#, "unknown_field a.`y.z`");
    check(columns(), Reject, r#"{"u":null}"#, "unknown_field u");
    check(columns(), Reject, r#"{"u":1,}"#, "json_syntax");
}

#[test]
fn a_json_text_column_takes_any_value() {
    for (value, expected) in [
        (r#""a\"b""#, r#""a\"b""#),
        ("12.50", r#""12.50""#),
        ("true", r#""true""#),
        (r#"{"k": [1]}"#, r#""{\"k\": [1]}""#),
    ] {
        let input = format!(r#"{{"c":{value}}}"#);
        check(vec![json_text("c")], Reject, &input, &format!(r#"{{"c":{expected}}}"#));
    }
    check(vec![json_text("c")], Reject, r#"{"c":null}"#, "{}");
    check(vec![json_text("c")], Reject, r#"{"c":[1,}"#, "json_syntax");
}

#[test]
fn a_value_that_is_no_json_object_is_rejected_with_a_stable_code() {
    check_record("", "empty_value");
    for input in ["null", "1", r#""x""#, "[]", " [{}] "] {
        check_record(input, "not_an_object");
    }
    for input in [
        " ",
        "\r\n\t ",
        "\0",
        "\u{feff}",
        " \u{feff}{}",
        "{}\u{feff}",
        "{",
        "}",
        "{]",
        "{}{}",
        "{} x",
        "\u{feff}{}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1"#,
        r#"{"a":1,}"#,
        r#"{,}"#,
        r#"{"a" 1}"#,
        r#"{a:1}"#,
        r#"{'a':1}"#,
        r#"{"a":01}"#,
        r#"{"a":+1}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":1e}"#,
        r#"{"a":1e+}"#,
        r#"{"a":-}"#,
        r#"{"a":0x1}"#,
        r#"{"a":nul}"#,
        r#"{"a":1 2}"#,
        r#"{"u":[1 2]}"#,
        r#"{"u":[1,]}"#,
        r#"{"u":[,1]}"#,
        r#"{"u":{"v":1,}}"#,
        r#"{"u":{1:2}}"#,
        "{\"a\":1}\0",
        r#"{"a":1,"u":tru}"#,
        "{\"u\":\"\u{1f}\"}",
        r#"{"u":"\ud800"}"#,
        "[",
        "[1,",
        r#""x"#,
        "nul",
        "{\u{a0}}",
        "/* */{}",
        r#"{"a":1}//"#,
    ] {
        check_record(input, "json_syntax");
    }
}

#[test]
fn bytes_that_are_not_utf_8_reject_the_record_wherever_they_stand() {
    // No character, half of one, too long a spelling, half a surrogate pair, beyond Unicode.
    for bytes in [&b"\xff"[..], b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"] {
        for (before, after) in [
            (r#"{"a":1,"b":""#, r#""}"#),
            (r#"{"u":""#, r#""}"#),
            (r#"{"u":[{"v":""#, r#""}]}"#),
            (r#"{"a"#, r#"":1}"#),
            (r#"{"u":{""#, r#"":1}}"#),
            ("{", "}"),
            ("{}", ""),
            ("", "{}"),
            (r#"{"a":"#, "1}"),
            // What is no UTF-8 outranks what is no JSON.
            ("{]", ""),
        ] {
            check_record([before.as_bytes(), bytes, after.as_bytes()].concat(), "invalid_utf8");
        }
    }
}

#[test]
fn a_byte_that_is_not_utf_8_is_seen_wherever_it_stands() {
    for len in 1..70 {
        for at in 0..len {
            let mut text = vec![b'a'; len];
            text[at] = 0x80;
            let input = [b"{\"u\":\"", &text[..], b"\"}"].concat();
            assert_eq!(outcome(vec![], Ignore, &input), "invalid_utf8");
            check_record(text, "invalid_utf8");
        }
    }
}

#[test]
fn a_name_at_the_end_of_a_record_is_compared_to_its_last_byte() {
    let columns = || vec![optional("ab", Int64), optional("a name of some length", Int64)];
    for (input, expected) in [
        (r#"{"ab":1}"#, r#"{"ab":1}"#),
        (r#"{"ab":12345678901}"#, r#"{"ab":12345678901}"#),
        (r#"{"ax":1}"#, "unknown_field ax"),
        (r#"{"ab":"#, "json_syntax"),
        (r#"{"ab""#, "json_syntax"),
        (r#"{"x":1,"ab":1234567890,"#, "json_syntax"),
        (r#"{"ab"#, "json_syntax"),
        (r#"{"ab":1,"a name of some length":2}"#, r#"{"ab":1,"a name of some length":2}"#),
        (r#"{"ab":1,"a name of some lengtH":2}"#, "unknown_field a name of some lengtH"),
        (r#"{"ab":1,"a name of some length"#, "json_syntax"),
        (r#"{"ab":1,"a name of some length":"#, "json_syntax"),
    ] {
        check(columns(), Reject, input, expected);
    }
}

#[test]
fn a_syntax_error_outranks_a_misfit_before_it() {
    let columns = || vec![required("a", Int64), optional("b", list(Int64))];
    for input in [
        r#"{"a":"x","b":[1}"#,
        r#"{"a":"x"} x"#,
        r#"{"a":"x","a":1"#,
        r#"{"a":["x"#,
        r#"{"a":1,"b":["x",1}"#,
    ] {
        for on_unknown_field in [Rescue, Ignore, Reject] {
            check(columns(), on_unknown_field, input, "json_syntax");
        }
    }
}

#[test]
fn nesting_is_taken_up_to_its_limit_and_never_overflows_the_stack() {
    let nested = |levels: usize| format!(r#"{{"u":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    check_record(nested(64), "too_deep");
    check(vec![], Ignore, &nested(63), "{}");
    check_record("[".repeat(10 << 20), "too_deep");
    check_record(r#"{"a":"#.repeat(2 << 20), "too_deep");
    check_record(r#"{"u":{"x":["#.repeat(1 << 20), "too_deep");

    let deep_list = (0..70).fold(Int64, |item, _| list(item));
    let levels = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    check_value(deep_list.clone(), &levels(64), "too_deep");
    check_value(deep_list, &levels(63), &levels(63));
}

#[test]
fn what_is_rescued_stays_in_proportion_to_the_record() {
    let name = "n".repeat(10_000);
    let items = vec![r#"{"x":1}"#; 10_000].join(",");
    let input = format!(r#"{{"{name}":[{items}]}}"#);
    let columns = vec![optional(&name, list(group(vec![optional("y", Int64)])))];
    check(columns.clone(), Rescue, &input, "rescued_too_large");
    let small = format!(r#"{{"{name}":[{}]}}"#, r#"{"x":1}"#);
    assert!(outcome(columns, Rescue, small.as_bytes()).contains("_rescued"));
}

#[test]
fn each_record_is_a_row_a_reject_or_a_tombstone_and_a_bad_one_leaves_its_neighbours_alone() {
    let values = [
        Some(r#"{"s":{"x":"a"},"l":[1,2],"m":{"k":1}}"#),
        None,
        Some(r#"{"s":{"x":"b"},"l":[3,4],"m":{"k":2,"l":3},"z":true"#),
        Some(""),
        Some(r#"{"l":[5],"u":1}"#),
        Some(r#"{"s":{"x":"c"},"l":[6,true]}"#),
    ];
    let columns = vec![
        optional("s", group(vec![optional("x", Utf8)])),
        optional("l", required_list(Int64)),
        optional("m", map(Int64)),
        optional("z", Boolean),
    ];
    let mut decoder = decoder(columns, Rescue);
    for _ in 0..3 {
        let decoded = decoder.decode(&records(&values));
        assert_eq!(decoded.row_records(), [0, 4, 5]);
        assert_eq!(
            lines(decoded.rows()),
            [
                r#"{"s":{"x":"a"},"l":[1,2],"m":{"k":1}}"#,
                r#"{"l":[5],"_rescued":"{\"u\":1}"}"#,
                r#"{"s":{"x":"c"},"_rescued":"{\"l\":[6,true]}"}"#,
            ]
        );
        let rejected: Vec<_> =
            decoded.rejected().iter().map(|r| (r.origin.offset.get(), r.cause.code)).collect();
        assert_eq!(rejected, [(102, "json_syntax"), (103, "empty_value")]);
        assert_eq!(decoded.rejected()[0].payload, values[2].unwrap());
        assert_eq!(decoded.accounting().tombstones, 1);
    }
}

#[test]
fn a_message_says_what_was_expected_and_shows_little_of_the_payload() {
    let mut decoder = decoder(
        vec![
            optional("user", group(vec![optional("age", Int64)])),
            optional("d", DataType::Decimal128(9, 2)),
            optional("t", utc()),
            EpochUnit::put(Some(EpochUnit::Millis), optional("u", utc())),
        ],
        Ignore,
    );
    let mut message = |input: &str| match decoder.record(input.as_bytes()) {
        Err(cause) => cause.to_string(),
        Ok(()) => panic!("{input} was taken"),
    };
    assert_eq!(
        message(r#"{"user":{"age":"12"}}"#),
        "wrong_type at `user.age`: wrong type; expected long, found `\"12\"`"
    );
    assert_eq!(
        message(r#"{"d":1.555}"#),
        "not_exact at `d`: the number would lose digits; expected decimal(9,2), found `1.555`"
    );
    assert_eq!(
        message(r#"{"d":1 "x":2}"#),
        "json_syntax: expected `,` or `}` at byte 7, found `\"x\":2}`"
    );
    assert_eq!(message(r#"{"d":1"#), "json_syntax: expected `,` or `}` at byte 6, found the end");
    assert_eq!(
        message(r#"{"t":1700000000}"#),
        "wrong_type at `t`: a number needs a `unit` in the column's declaration; expected timestamp, found `1700000000`"
    );
    assert_eq!(
        message(r#"{"u":1.5}"#),
        "not_exact at `u`: the number would lose digits; expected timestamp in millis, found `1.5`"
    );
    assert_eq!(message("[1]"), "not_an_object: expected a JSON object, found `[1]`");
    let secret = format!(r#"{{"user":"{}"}}"#, "s3cret\u{1f600}".repeat(1000));
    assert!(message(&secret).len() < 200, "{}", message(&secret));
    let name = format!(r#"{{"user":{{"age":{{"{}":1}}}}}}"#, "n".repeat(100_000));
    assert!(message(&name).len() < 500, "{}", message(&name));
}

#[test]
fn a_type_that_json_cannot_fill_is_refused_by_column_and_type() {
    let refused = |field: Field| {
        let columns = Arc::new(Schema::new(vec![optional("a", group(vec![field]))]));
        let request = DecodeRequest { columns, on_unknown_field: Ignore };
        JsonFactory.decoder(&request).map(|_| ()).unwrap_err().to_string()
    };
    for data_type in [
        DataType::LargeUtf8,
        DataType::UInt64,
        DataType::Decimal256(50, 2),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("Europe/Paris".into())),
    ] {
        let message = refused(optional("b", list(data_type.clone())));
        assert!(
            message.starts_with(&format!("column `a.b[]` of type `{data_type}` cannot")),
            "{message}"
        );
    }
}

#[test]
fn names_that_are_ours_or_there_twice_are_refused() {
    let refused = |fields: Vec<Field>| {
        let request =
            DecodeRequest { columns: Arc::new(Schema::new(fields)), on_unknown_field: Ignore };
        JsonFactory.decoder(&request).map(|_| ()).unwrap_err().to_string()
    };
    assert!(
        refused(vec![optional("_Kafka", Int64)]).contains("`_Kafka` has a name that is reserved")
    );
    assert!(refused(vec![optional("_rescued", Utf8)]).contains("reserved"));
    let twice = group(vec![optional("x", Utf8), optional("x", Utf8)]);
    assert_eq!(refused(vec![optional("a", twice)]), "column `a.x` is there twice");
}

#[test]
fn a_wide_object_finds_its_fields_in_any_order() {
    let columns: Vec<Field> = (0..300).map(|i| optional(&format!("f{i}"), Int64)).collect();
    let object = |order: &mut dyn Iterator<Item = usize>| {
        let members: Vec<String> = order.map(|i| format!(r#""f{i}":{i}"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    let (up, down) = (object(&mut (0..300)), object(&mut (0..300).rev()));
    let decoded = decoder(columns, Reject).decode(&records(&[Some(&up), Some(&down), Some(&up)]));
    assert_eq!(lines(decoded.rows()), [up.clone(), up.clone(), up]);
}

#[test]
fn rows_without_columns_are_counted() {
    let decoded = decoder(vec![], Ignore).decode(&records(&[Some("{}"), Some(r#"{"u":1}"#)]));
    assert_eq!((decoded.rows().num_rows(), decoded.rows().num_columns()), (2, 0));
    let decoded = decoder(vec![], Rescue).decode(&records::<&str>(&[]));
    assert_eq!((decoded.rows().num_rows(), decoded.rows().num_columns()), (0, 1));
}

#[test]
fn a_null_hides_required_fields_below_it() {
    let inner = group(vec![
        required("x", Int64),
        required("l", required_list(Utf8)),
        required("m", map(Utf8)),
    ]);
    let columns = || vec![optional("a", group(vec![required("b", inner.clone())]))];
    let decoded = decoder(columns(), Ignore).decode(&records(&[Some("{}")]));
    let required = decoded.rows().column(0).as_struct().column(0);
    assert_eq!(
        required.null_count(),
        0,
        "readers may refuse a null in a required field, even a hidden one"
    );
    check(columns(), Ignore, r#"{"a":null}"#, "{}");
    check(columns(), Ignore, "{}", "{}");
    check_rescue(
        columns(),
        r#"{"a":{"b":{"x":1,"l":["s",2],"m":{}}}}"#,
        "{}",
        Some(r#"{"a":{"b":{"x":1,"l":["s",2],"m":{}}}}"#),
    );
}

#[track_caller]
fn check_inferred(sample: &[&str], expected: &[&str]) {
    let sample: Vec<&[u8]> = sample.iter().map(|record| record.as_bytes()).collect();
    let schema = JsonFactory.infer(&sample);
    let columns: Vec<String> =
        schema.iter().flat_map(|schema| schema.fields()).map(|f| described(f)).collect();
    assert_eq!(columns, expected);
}

/// A field in short. Panics where it is not nullable.
fn described(field: &Field) -> String {
    assert!(field.is_nullable(), "{field}");
    let json = if field.metadata().contains_key(JSON_TEXT_KEY) { " json" } else { "" };
    let data_type = match field.data_type() {
        DataType::List(item) => format!("[{}]", described(item)),
        DataType::Struct(fields) => {
            format!("{{{}}}", fields.iter().map(|f| described(f)).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    };
    format!("{} {data_type}{json}", field.name())
}

#[test]
fn columns_are_inferred_in_the_order_of_their_first_appearance() {
    check_inferred(
        &[
            r#"{"id":1,"user":{"id":"u"},"tags":["a"],"ok":true}"#,
            r#"{"new":1.5,"id":2,"user":{"country":"US","id":null},"at":"2026-01-01T00:00:00Z"}"#,
        ],
        &[
            "id Int64",
            "user {id Utf8, country Utf8}",
            "tags [element Utf8]",
            "ok Boolean",
            "new Float64",
            "at Utf8",
        ],
    );
}

#[test]
fn numbers_are_inferred_so_that_none_is_lost() {
    check_inferred(&[r#"{"a":1}"#, r#"{"a":-9223372036854775808}"#], &["a Int64"]);
    check_inferred(&[r#"{"a":1}"#, r#"{"a":1.5}"#], &["a Float64"]);
    check_inferred(&[r#"{"a":1e3}"#], &["a Float64"]);
    check_inferred(&[r#"{"a":18446744073709551615}"#, r#"{"a":1}"#], &["a Decimal128(38, 0)"]);
    check_inferred(&[r#"{"a":18446744073709551615}"#, r#"{"a":1.5}"#], &["a Float64"]);
    check_inferred(&[&format!(r#"{{"a":{}}}"#, "9".repeat(39))], &["a Utf8 json"]);
    check_inferred(&[r#"{"a":1e999}"#], &["a Utf8 json"]);
}

#[test]
fn mixed_kinds_are_inferred_as_json_text() {
    for (one, other) in
        [("1", r#""a""#), ("true", "1"), ("{}", "[]"), (r#""a""#, "[1]"), (r#"{"x":1}"#, "1")]
    {
        for (one, other) in [(one, other), (other, one)] {
            check_inferred(
                &[&format!(r#"{{"a":{one}}}"#), &format!(r#"{{"a":{other}}}"#)],
                &["a Utf8 json"],
            );
        }
    }
    check_inferred(&[r#"{"a":[1,"b"],"c":[[1],["b"]]}"#], &["a Utf8 json", "c Utf8 json"]);
    check_inferred(&[r#"{"a":[{"x":1},{"x":"b"}]}"#], &["a [element {x Utf8 json}]"]);
}

#[test]
fn what_is_never_more_than_null_or_empty_is_no_column() {
    check_inferred(&[r#"{"a":null,"b":[],"c":{},"d":[[],null],"e":{"f":null},"g":[{}]}"#], &[]);
    check_inferred(
        &[r#"{"a":null,"b":[]}"#, r#"{"a":1,"b":[2]}"#],
        &["a Int64", "b [element Int64]"],
    );
    check_inferred(&[], &[]);
    check_inferred(&["{}", "1", ""], &[]);
}

#[test]
fn unreadable_records_are_passed_over_as_a_whole() {
    check_inferred(&[r#"{"a":1,"b":2"#, "", "[1]", r#"{"c":1}"#, &"[".repeat(1000)], &["c Int64"]);
    check_inferred(&[r#"{"a":"x","a":1}"#], &["a Int64"]);
}

#[test]
fn names_that_a_table_cannot_hold_are_no_columns() {
    let long = "n".repeat(256);
    check_inferred(
        &[&format!(
            r#"{{"":1,"a b":1,"x;":1,"é":1,"a.b":1,"ID":1,"id":1,"Id":1,"_kafka":1,"_Rescued":1,"t\tb":1,"{long}":1,
                "s":{{"_kafka":1,"":2,"Y":null,"y":1}}}}"#
        )],
        &["é Int64", "a.b Int64", "ID Int64", "s {_kafka Int64, y Int64}"],
    );
}

#[test]
fn names_that_are_data_do_not_become_columns_without_end() {
    let many = |names: usize| {
        let members: Vec<String> = (0..names).map(|i| format!(r#""k{i}":1"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    check_inferred(&[&format!(r#"{{"a":{}}}"#, many(1001))], &["a Utf8 json"]);
    let schema = JsonFactory.infer(&[many(1500).as_bytes()]).unwrap();
    assert_eq!((schema.fields().len(), schema.field(999).name().as_str()), (1000, "k999"));
}
