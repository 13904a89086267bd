//! Column types in the configuration's spelling, and the columns of a table.
//!
//! | spelling | Arrow |
//! |---|---|
//! | `boolean` | `Boolean` |
//! | `byte`, `short`, `int`, `long` | `Int8`, `Int16`, `Int32`, `Int64` |
//! | `float`, `double` | `Float32`, `Float64` |
//! | `decimal(p,s)` | `Decimal128(p, s)` |
//! | `string`, `binary` | `Utf8`, `Binary` |
//! | `date` | `Date32` |
//! | `timestamp`, `timestamp_ntz` | `Timestamp(Microsecond)` in UTC, without a zone |
//! | `array<T>` | `List` |
//! | `map<string, T>` | `Map` |
//! | `struct<a: T, b: T not null>` | `Struct` |
//!
//! Words may be in any case, and SQL's `tinyint`, `smallint`, `integer`, `bigint`, `real` are understood.
//! Whatever stands inside another type may be `not null`. A field name with other characters than
//! letters, digits and `_` goes into back-ticks.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::batch::KAFKA_COLUMN;
use crate::decoder::RESCUED_COLUMN;

/// The spellings of all types, for messages and suggestions.
pub const TYPE_NAMES: &[&str] = &[
    "boolean",
    "byte",
    "short",
    "int",
    "long",
    "float",
    "double",
    "decimal",
    "string",
    "binary",
    "date",
    "timestamp",
    "timestamp_ntz",
    "array",
    "map",
    "struct",
];

/// What a type looks like, for messages.
pub const TYPES_ALLOWED: &str = "boolean, byte, short, int, long, float, double, decimal(p,s), string, binary, \
     date, timestamp, timestamp_ntz, array<T>, map<string, T>, struct<name: T, ...>";

/// What other systems call our types.
const FOREIGN_NAMES: &[(&str, &str)] = &[
    ("bool", "boolean"),
    ("bytes", "binary"),
    ("blob", "binary"),
    ("varbinary", "binary"),
    ("int8", "byte"),
    ("int16", "short"),
    ("int32", "int"),
    ("int64", "long"),
    ("float32", "float"),
    ("float64", "double"),
    ("number", "double"),
    ("numeric", "decimal"),
    ("str", "string"),
    ("text", "string"),
    ("char", "string"),
    ("varchar", "string"),
    ("uuid", "string"),
    ("json", "string"),
    ("datetime", "timestamp"),
    ("timestamptz", "timestamp"),
    ("timestamp_tz", "timestamp"),
    ("timestamp_ltz", "timestamp"),
    ("list", "array"),
    ("dict", "map"),
    ("object", "struct"),
    ("record", "struct"),
    ("row", "struct"),
];

/// No table needs more levels, and the parser's stack must be bounded.
const DEPTH_MAX: usize = 32;

/// Delta's and Spark's largest decimal.
const PRECISION_MAX: u8 = 38;

/// Why a type could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeError {
    /// Where in the text, in characters from 0.
    pub position: usize,
    /// What was found and what is allowed there.
    pub message: String,
    /// The word that names no type, where that is the mistake.
    pub unknown: Option<String>,
    /// The right spelling, where another system's word was used.
    pub suggestion: Option<&'static str>,
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            0 => f.write_str(&self.message),
            position => write!(f, "{} (at character {})", self.message, position + 1),
        }
    }
}

impl std::error::Error for TypeError {}

/// Reads a type in the configuration's spelling.
pub fn parse_type(text: &str) -> Result<DataType, TypeError> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0, depth: 0 };
    let parsed = parser.data_type()?;
    parser.skip_space();
    match parser.chars.get(parser.at) {
        None => Ok(parsed),
        Some(c) => Err(parser.error(format!("expected the type to end here, found `{c}`"))),
    }
}

/// Writes a type in the configuration's spelling, so that [`parse_type`] reads it back.
///
/// A type that the configuration cannot spell is written as Arrow calls it.
pub fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 => "byte",
        DataType::Int16 => "short",
        DataType::Int32 => "int",
        DataType::Int64 => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary",
        DataType::Date32 => "date",
        DataType::Timestamp(_, Some(_)) => "timestamp",
        DataType::Timestamp(_, None) => "timestamp_ntz",
        DataType::Decimal128(precision, scale) => return format!("decimal({precision},{scale})"),
        DataType::List(element) | DataType::LargeList(element) => {
            return format!("array<{}>", inner_name(element));
        }
        DataType::Map(entries, _) => return map_name(entries),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", quoted_name(field.name()), inner_name(field)))
                .collect();
            return format!("struct<{}>", fields.join(", "));
        }
        other => return other.to_string(),
    };
    name.to_owned()
}

/// The type of timestamps: microseconds in UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A list, with the names that Delta and Parquet give its parts.
pub fn array_of(element: DataType, nullable: bool) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, nullable)))
}

/// A map from strings, with the names that Delta and Parquet give its parts.
pub fn map_of(value: DataType, nullable: bool) -> DataType {
    let entry =
        vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, nullable)];
    DataType::Map(Arc::new(Field::new_struct("key_value", entry, false)), false)
}

/// A field of the [`KAFKA_COLUMN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KafkaField {
    /// The topic's name.
    Topic,
    /// The number of the topic partition.
    Partition,
    /// The record's offset.
    Offset,
    /// The record's timestamp; null for a record without one.
    Timestamp,
}

impl KafkaField {
    /// All of them, in the order that tables get when nothing else is said.
    pub const ALL: [Self; 4] = [Self::Topic, Self::Partition, Self::Offset, Self::Timestamp];

    /// The field's name in the table and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::Timestamp => "timestamp",
        }
    }

    /// The field's type.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Topic => DataType::Utf8,
            Self::Partition => DataType::Int32,
            Self::Offset => DataType::Int64,
            Self::Timestamp => timestamp_type(),
        }
    }
}

/// The [`KAFKA_COLUMN`] with these fields.
///
/// It and its fields may be null in the table, although we never write a null there but for a
/// missing timestamp: a table with a required column refuses the rows of every other writer.
pub fn kafka_field(fields: &[KafkaField]) -> Field {
    let fields: Fields =
        fields.iter().map(|field| Field::new(field.name(), field.data_type(), true)).collect();
    Field::new(KAFKA_COLUMN, DataType::Struct(fields), true)
}

/// The columns of a table: the payload's, then [`KAFKA_COLUMN`] unless it has no field, then
/// [`RESCUED_COLUMN`] if unknown fields are rescued.
pub fn table_schema(payload: &Schema, kafka_fields: &[KafkaField], rescue: bool) -> SchemaRef {
    let mut columns = payload.fields().to_vec();
    if !kafka_fields.is_empty() {
        columns.push(Arc::new(kafka_field(kafka_fields)));
    }
    if rescue {
        columns.push(Arc::new(Field::new(RESCUED_COLUMN, DataType::Utf8, true)));
    }
    Arc::new(Schema::new(columns))
}

/// The payload's columns among those of a table: the inverse of [`table_schema`].
pub fn payload_columns(table: &Schema) -> SchemaRef {
    let of_payload = |name: &str| name != KAFKA_COLUMN && name != RESCUED_COLUMN;
    let columns: Vec<_> =
        table.fields().iter().filter(|field| of_payload(field.name())).cloned().collect();
    Arc::new(Schema::new(columns))
}

fn inner_name(field: &Field) -> String {
    let not_null = if field.is_nullable() { "" } else { " not null" };
    format!("{}{not_null}", type_name(field.data_type()))
}

fn map_name(entries: &Field) -> String {
    match entries.data_type() {
        DataType::Struct(parts) if parts.len() == 2 => {
            format!("map<{}, {}>", type_name(parts[0].data_type()), inner_name(&parts[1]))
        }
        other => format!("map<{other}>"),
    }
}

fn quoted_name(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(is_word);
    if plain { name.to_owned() } else { format!("`{}`", name.replace('`', "``")) }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Recursive descent over the characters of one type.
struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn data_type(&mut self) -> Result<DataType, TypeError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(format!("the type has more than {DEPTH_MAX} levels")));
        }
        let start = self.skip_space();
        let word = self.word("a type")?;
        let parsed = match word.to_lowercase().as_str() {
            "boolean" => DataType::Boolean,
            "byte" | "tinyint" => DataType::Int8,
            "short" | "smallint" => DataType::Int16,
            "int" | "integer" => DataType::Int32,
            "long" | "bigint" => DataType::Int64,
            "float" | "real" => DataType::Float32,
            "double" => DataType::Float64,
            "string" => DataType::Utf8,
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "timestamp" => timestamp_type(),
            "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "decimal" => self.decimal()?,
            "array" => self.array()?,
            "map" => self.map()?,
            "struct" => self.structure()?,
            foreign => return Err(unknown_type(start, &word, foreign)),
        };
        self.depth -= 1;
        Ok(parsed)
    }

    /// `(p)` or `(p,s)`.
    fn decimal(&mut self) -> Result<DataType, TypeError> {
        self.expect('(', "after `decimal`, as in `decimal(12,2)`")?;
        let start = self.skip_space();
        let precision = self.number("the number of digits")?;
        if !(1..=PRECISION_MAX).contains(&precision) {
            let message = format!("a decimal has 1 to {PRECISION_MAX} digits, found {precision}");
            return Err(self.error_at(start, message));
        }
        let mut scale = 0;
        if self.next_if(',') {
            let start = self.skip_space();
            scale = self.number("the number of digits behind the point")?;
            if scale > precision {
                let message = format!(
                    "{scale} digits behind the point are more than the {precision} digits in all"
                );
                return Err(self.error_at(start, message));
            }
        }
        self.expect(')', "to close `decimal(`")?;
        // Both are at most 38.
        Ok(DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX)))
    }

    /// `<T>`.
    fn array(&mut self) -> Result<DataType, TypeError> {
        self.expect('<', "after `array`, as in `array<string>`")?;
        let element = self.data_type()?;
        let nullable = self.nullable()?;
        self.expect('>', "to close `array<`")?;
        Ok(array_of(element, nullable))
    }

    /// `<string, T>`.
    fn map(&mut self) -> Result<DataType, TypeError> {
        self.expect('<', "after `map`, as in `map<string, long>`")?;
        let start = self.skip_space();
        let key = self.data_type()?;
        if key != DataType::Utf8 {
            let message = format!("the key of a map is `string`, found `{}`", type_name(&key));
            return Err(self.error_at(start, message));
        }
        self.expect(',', "between the key's and the value's type, as in `map<string, long>`")?;
        let value = self.data_type()?;
        let nullable = self.nullable()?;
        self.expect('>', "to close `map<`")?;
        Ok(map_of(value, nullable))
    }

    /// `<name: T, name: T not null>`.
    fn structure(&mut self) -> Result<DataType, TypeError> {
        self.expect('<', "after `struct`, as in `struct<id: string, country: string>`")?;
        let mut fields = Vec::new();
        let mut names = BTreeSet::new();
        loop {
            let start = self.skip_space();
            let name = self.field_name()?;
            if !names.insert(name.to_lowercase()) {
                let message = format!(
                    "the struct has two fields `{name}` (upper and lower case count as the same)"
                );
                return Err(self.error_at(start, message));
            }
            self.expect(':', &format!("between the field `{name}` and its type"))?;
            let data_type = self.data_type()?;
            let nullable = self.nullable()?;
            fields.push(Field::new(name, data_type, nullable));
            if !self.next_if(',') {
                break;
            }
        }
        self.expect('>', "or `,` in `struct<`")?;
        Ok(DataType::Struct(fields.into()))
    }

    /// Nothing, `null`, or `not null`.
    fn nullable(&mut self) -> Result<bool, TypeError> {
        self.skip_space();
        if !self.chars.get(self.at).is_some_and(|c| is_word(*c)) {
            return Ok(true);
        }
        let start = self.at;
        let mut words = vec![self.word("`not null`")?.to_lowercase()];
        if words[0] == "not" {
            self.skip_space();
            words.push(self.word("`null` after `not`")?.to_lowercase());
        }
        match words.join(" ").as_str() {
            "null" => Ok(true),
            "not null" => Ok(false),
            found => Err(self.error_at(
                start,
                format!("expected `not null` or the end of the type, found `{found}`"),
            )),
        }
    }

    fn field_name(&mut self) -> Result<String, TypeError> {
        self.skip_space();
        if !self.next_if('`') {
            return self.word("a field's name");
        }
        let start = self.at - 1;
        let mut name = String::new();
        while let Some(c) = self.chars.get(self.at).copied() {
            self.at += 1;
            let doubled = self.chars.get(self.at) == Some(&'`');
            match c {
                '`' if doubled => self.at += 1,
                '`' if name.is_empty() => {
                    return Err(self.error_at(start, "a field's name is empty".to_owned()));
                }
                '`' => return Ok(name),
                _ => {}
            }
            name.push(c);
        }
        Err(self.error_at(start, "the back-tick is not closed".to_owned()))
    }

    fn word(&mut self, wanted: &str) -> Result<String, TypeError> {
        self.skip_space();
        let word: String = self.chars[self.at..].iter().take_while(|c| is_word(**c)).collect();
        if word.is_empty() {
            return Err(self.wanted(wanted));
        }
        self.at += word.chars().count();
        Ok(word)
    }

    fn number(&mut self, wanted: &str) -> Result<u8, TypeError> {
        let start = self.skip_space();
        let word = self.word(wanted)?;
        let message = format!("expected {wanted}, found `{word}`");
        word.parse().map_err(|_| self.error_at(start, message))
    }

    fn expect(&mut self, c: char, why: &str) -> Result<(), TypeError> {
        if self.next_if(c) { Ok(()) } else { Err(self.wanted(&format!("`{c}` {why}"))) }
    }

    fn next_if(&mut self, c: char) -> bool {
        self.skip_space();
        let found = self.chars.get(self.at) == Some(&c);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) -> usize {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.at
    }

    fn wanted(&self, wanted: &str) -> TypeError {
        match self.chars.get(self.at) {
            Some(c) => self.error(format!("expected {wanted}, found `{c}`")),
            None => self.error(format!("expected {wanted}, found the end")),
        }
    }

    fn error(&self, message: String) -> TypeError {
        self.error_at(self.at, message)
    }

    fn error_at(&self, position: usize, message: String) -> TypeError {
        TypeError { position, message, unknown: None, suggestion: None }
    }
}

fn unknown_type(position: usize, word: &str, lower_case: &str) -> TypeError {
    let suggestion =
        FOREIGN_NAMES.iter().find(|(foreign, _)| *foreign == lower_case).map(|(_, ours)| *ours);
    let message = format!("`{word}` is not a type");
    TypeError { position, message, unknown: Some(word.to_owned()), suggestion }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match parse_type(text) {
            Ok(data_type) => type_name(&data_type),
            Err(error) => match error.suggestion {
                Some(ours) => format!("{error}; write `{ours}`"),
                None => error.to_string(),
            },
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn every_scalar_type_has_its_own_spelling() {
        for name in TYPE_NAMES
            .iter()
            .filter(|name| !matches!(**name, "decimal" | "array" | "map" | "struct"))
        {
            check(name, name);
        }
        check("decimal(12,2)", "decimal(12,2)");
        check("decimal( 38 , 38 )", "decimal(38,38)");
        check("decimal(5)", "decimal(5,0)");
    }

    #[test]
    fn words_of_sql_and_any_case_are_understood() {
        check("BIGINT", "long");
        check("Integer", "int");
        check("smallint", "short");
        check("tinyint", "byte");
        check("real", "float");
        check("Struct<ID: String NOT NULL>", "struct<ID: string not null>");
    }

    #[test]
    fn types_nest_and_spaces_do_not_matter() {
        check(
            " struct< id :string,tags:array < string >\n, m: map<string,array<decimal(4,1)>> not  null > ",
            "struct<id: string, tags: array<string>, m: map<string, array<decimal(4,1)>> not null>",
        );
        check("array<long not null>", "array<long not null>");
        check("struct<`user id`: string, `a``b`: int>", "struct<`user id`: string, `a``b`: int>");
    }

    #[test]
    fn timestamps_are_microseconds_and_only_ntz_has_no_zone() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(parse_type("timestamp"), Ok(utc));
        assert_eq!(
            parse_type("timestamp_ntz"),
            Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_position() {
        check("", "expected a type, found the end");
        check("lnog", "`lnog` is not a type");
        check("array<int64>", "`int64` is not a type (at character 7); write `long`");
        check("varchar(10)", "`varchar` is not a type; write `string`");
        check("string(10)", "expected the type to end here, found `(` (at character 7)");
        check(
            "array",
            "expected `<` after `array`, as in `array<string>`, found the end (at character 6)",
        );
        check("array<string", "expected `>` to close `array<`, found the end (at character 13)");
        check(
            "decimal",
            "expected `(` after `decimal`, as in `decimal(12,2)`, found the end (at character 8)",
        );
        check("decimal(39,2)", "a decimal has 1 to 38 digits, found 39 (at character 9)");
        check("decimal(0)", "a decimal has 1 to 38 digits, found 0 (at character 9)");
        check(
            "decimal(4, 5)",
            "5 digits behind the point are more than the 4 digits in all (at character 12)",
        );
        check("decimal(x)", "expected the number of digits, found `x` (at character 9)");
        check("map<long, string>", "the key of a map is `string`, found `long` (at character 5)");
        check("struct<>", "expected a field's name, found `>` (at character 8)");
        check(
            "struct<a string>",
            "expected `:` between the field `a` and its type, found `s` (at character 10)",
        );
        check(
            "struct<a: int, A: int>",
            "the struct has two fields `A` (upper and lower case count as the same) (at character 16)",
        );
        check(
            "struct<a: int nul>",
            "expected `not null` or the end of the type, found `nul` (at character 15)",
        );
        check("struct<`a: int>", "the back-tick is not closed (at character 8)");
        check("struct<``: int>", "a field's name is empty (at character 8)");
    }

    #[test]
    fn a_type_with_absurdly_many_levels_is_refused() {
        check(
            &format!("{}int{}", "array<".repeat(31), ">".repeat(31)),
            &format!("{}int{}", "array<".repeat(31), ">".repeat(31)),
        );
        check(&"array<".repeat(100_000), "the type has more than 32 levels (at character 193)");
    }

    fn any_type() -> impl Strategy<Value = DataType> {
        let decimal = (1..=PRECISION_MAX)
            .prop_flat_map(|p| (Just(p), 0..=p as i8))
            .prop_map(|(p, s)| DataType::Decimal128(p, s));
        let scalar = prop::sample::select(vec![
            DataType::Boolean,
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::Float32,
            DataType::Float64,
            DataType::Utf8,
            DataType::Binary,
            DataType::Date32,
            timestamp_type(),
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ]);
        prop_oneof![4 => scalar, 1 => decimal].prop_recursive(4, 24, 4, |inner| {
            let fields = prop::collection::btree_map(
                "[a-z_][a-z0-9 `é:<>]{0,6}",
                (inner.clone(), any::<bool>()),
                1..4,
            );
            prop_oneof![
                (inner.clone(), any::<bool>())
                    .prop_map(|(element, nullable)| array_of(element, nullable)),
                (inner, any::<bool>()).prop_map(|(value, nullable)| map_of(value, nullable)),
                fields.prop_map(|fields| {
                    let field =
                        |(name, (data_type, nullable))| Field::new(name, data_type, nullable);
                    DataType::Struct(fields.into_iter().map(field).collect::<Vec<_>>().into())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(data_type in any_type()) {
            prop_assert_eq!(parse_type(&type_name(&data_type)), Ok(data_type));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "[a-z<>(),: `0-9]{0,40}") {
            if let Ok(data_type) = parse_type(&text) {
                prop_assert_eq!(parse_type(&type_name(&data_type)), Ok(data_type));
            }
        }
    }

    #[test]
    fn a_table_has_the_payload_first_then_kafka_then_rescued() {
        let payload = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
        let table = table_schema(&payload, &KafkaField::ALL, true);
        let columns: Vec<String> = table
            .fields()
            .iter()
            .map(|f| format!("{} {}", f.name(), type_name(f.data_type())))
            .collect();
        assert_eq!(
            columns,
            [
                "id long",
                "_kafka struct<topic: string, partition: int, offset: long, timestamp: timestamp>",
                "_rescued string"
            ]
        );
        assert_eq!(*payload_columns(&table), payload);
    }

    #[test]
    fn a_table_without_kafka_fields_or_rescue_has_the_payload_alone() {
        let payload = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        assert_eq!(*table_schema(&payload, &[], false), payload);
        assert_eq!(*payload_columns(&payload), payload);
    }
}
