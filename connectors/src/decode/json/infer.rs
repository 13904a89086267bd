//! Columns from a sample of records.
//!
//! | in the sample | column |
//! |---|---|
//! | `true`, `false` | `boolean` |
//! | integers (neither fraction nor exponent) | `long`; `decimal(38,0)` if some need more than 64 bits, since a double would lose digits |
//! | other numbers, also together with integers | `double` |
//! | strings, also in ISO 8601 | `string` |
//! | objects | `struct` of all fields of all objects |
//! | arrays | `array` of what all items have in common |
//! | kinds that do not go together, among them numbers beyond a `double` or beyond 38 digits | JSON text: `string` with the metadata [`JSON_TEXT_KEY`] |
//! | arrays with such items | JSON text as a whole, since Delta keeps no metadata on the items of an array |
//! | objects with more than 1000 names over the sample | JSON text: the names are data |
//! | only null, `[]` or `{}` | none: it is not known yet. What comes later is an unknown field |
//!
//! All columns are nullable, and so are items. The order is that of first appearance, so that the
//! same sample always gives the same columns. Records that would be rejected as unreadable or as no
//! objects are passed over, and of a name that occurs twice in an object the last one counts.
//!
//! No column is made from a name that tables cannot hold; such fields are unknown fields:
//!
//! * empty names, and names of more than 255 bytes;
//! * names with a control character or one of `` ,;{}()=`` or a space, which Delta refuses;
//! * of names that differ only in case all but the first, since tables do not tell them apart;
//! * `_kafka` and `_rescued` at the top, which are our own;
//! * names at the top beyond 1000.

use std::collections::{HashMap, HashSet};

use arrow::datatypes::{DataType, Field, Schema};

use super::columns::{JSON_TEXT_KEY, JSON_TEXT_VALUE};
use super::flaw::{Flaw, Why};
use super::scan::{Cursor, check_grammar};
use super::{duplicates, is_reserved};

/// More names than this under one object are data, not a schema.
const NAMES_MAX: usize = 1000;

const NAME_BYTES_MAX: usize = 255;

/// What the Delta reader that is the least tolerant refuses in a name.
const REFUSED_IN_NAMES: &str = " ,;{}()=";

/// Derives columns: see the [module](self).
pub(super) fn infer(sample: &[&[u8]]) -> Option<Schema> {
    let mut root = Names::default();
    let unreadable =
        sample.iter().filter(|record| observe_record(&mut root, record).is_err()).count();
    if unreadable > 0 {
        tracing::debug!(unreadable, sample = sample.len(), "records passed over for the schema");
    }
    root.shapes.retain(|(name, _)| !is_reserved(name));
    root.shapes.truncate(NAMES_MAX);
    let fields = root.into_fields();
    (!fields.is_empty()).then(|| Schema::new(fields))
}

fn observe_record(root: &mut Names, record: &[u8]) -> Result<(), Flaw> {
    if std::str::from_utf8(record).is_err() {
        return Err(Flaw::new(Why::InvalidUtf8, 0));
    }
    check_grammar(record)?;
    let unique = duplicates::without_duplicates(record);
    let mut cursor = Cursor::starting_at(unique.as_deref().unwrap_or(record), 0);
    cursor.skip_whitespace();
    match cursor.peek() {
        b'{' => root.observe(&mut cursor),
        _ => Err(Flaw::new(Why::NotAnObject, cursor.at())),
    }
}

/// What is known of the values in one place.
#[derive(Debug, Default)]
enum Shape {
    /// Nothing but nulls so far.
    #[default]
    Unknown,
    Boolean,
    Long,
    BigInteger,
    Double,
    String,
    Array(Box<Shape>),
    Object(Names),
    Mixed,
}

/// The fields of objects, in the order of their first appearance.
#[derive(Debug, Default)]
struct Names {
    shapes: Vec<(String, Shape)>,
    index: HashMap<String, usize>,
}

impl Shape {
    /// Reads a value and takes it into account.
    fn observe(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Flaw> {
        match cursor.peek() {
            b'n' => cursor.literal(b"null"),
            b'{' => {
                self.become_object();
                match self {
                    Self::Object(names) => names.observe(cursor)?,
                    _ => cursor.skip(0)?,
                }
                if matches!(self, Self::Object(names) if names.shapes.len() > NAMES_MAX) {
                    *self = Self::Mixed;
                }
                Ok(())
            }
            b'[' => {
                self.become_array();
                match self {
                    Self::Array(items) => observe_items(items, cursor),
                    _ => cursor.skip(0),
                }
            }
            b'"' => {
                self.unite(Self::String);
                cursor.skip(0)
            }
            b't' | b'f' => {
                self.unite(Self::Boolean);
                cursor.skip(0)
            }
            _ => {
                let number = cursor.number()?;
                let input = cursor.input();
                self.unite(match number.whole {
                    true if number.to_long(input).is_ok() => Self::Long,
                    true if number.to_decimal(input, 38, 0).is_ok() => Self::BigInteger,
                    false if number.to_double(input).is_ok() => Self::Double,
                    _ => Self::Mixed,
                });
                Ok(())
            }
        }
    }

    /// Takes a value without parts into account.
    fn unite(&mut self, other: Self) {
        use Shape::*;
        let united = match (std::mem::take(self), other) {
            (Unknown, other) => other,
            (Boolean, Boolean) => Boolean,
            (String, String) => String,
            (Long, Long) => Long,
            (Long | BigInteger, Long | BigInteger) => BigInteger,
            (Long | BigInteger | Double, Long | BigInteger | Double) => Double,
            _ => Mixed,
        };
        *self = united;
    }

    fn become_object(&mut self) {
        match self {
            Self::Unknown => *self = Self::Object(Names::default()),
            Self::Object(_) => {}
            _ => *self = Self::Mixed,
        }
    }

    fn become_array(&mut self) {
        match self {
            Self::Unknown => *self = Self::Array(Box::default()),
            Self::Array(_) => {}
            _ => *self = Self::Mixed,
        }
    }

    /// The column's field, or `None` if nothing is known of it.
    fn into_field(self, name: &str) -> Option<Field> {
        let data_type = match self {
            Self::Unknown => return None,
            Self::Boolean => DataType::Boolean,
            Self::Long => DataType::Int64,
            Self::BigInteger => DataType::Decimal128(38, 0),
            Self::Double => DataType::Float64,
            Self::String => DataType::Utf8,
            Self::Mixed => return Some(json_text(name)),
            Self::Object(names) => match names.into_fields() {
                fields if fields.is_empty() => return None,
                fields => DataType::Struct(fields.into()),
            },
            // `element` is the name that Delta's own conversion to Arrow gives.
            Self::Array(items) => match items.into_field("element")? {
                item if item.metadata().contains_key(JSON_TEXT_KEY) => {
                    return Some(json_text(name));
                }
                item => DataType::List(item.into()),
            },
        };
        Some(Field::new(name, data_type, true))
    }
}

impl Names {
    /// Reads an object, at its opening brace, and takes its fields into account.
    fn observe(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Flaw> {
        let mut more = cursor.enter(b'}');
        while more {
            let name = cursor.name()?;
            let name = String::from_utf8_lossy(cursor.text(name)).into_owned();
            self.shape_of(name).observe(cursor)?;
            more = cursor.more(b'}')?;
        }
        Ok(())
    }

    fn shape_of(&mut self, name: String) -> &mut Shape {
        let index = *self.index.entry(name).or_insert_with_key(|name| {
            self.shapes.push((name.clone(), Shape::Unknown));
            self.shapes.len() - 1
        });
        &mut self.shapes[index].1
    }

    fn into_fields(self) -> Vec<Field> {
        let mut taken = HashSet::new();
        let fields = self.shapes.into_iter().filter_map(|(name, shape)| {
            let field = if is_column_name(&name) { shape.into_field(&name)? } else { return None };
            taken.insert(name.to_lowercase()).then_some(field)
        });
        fields.collect()
    }
}

fn observe_items(items: &mut Shape, cursor: &mut Cursor<'_>) -> Result<(), Flaw> {
    let mut more = cursor.enter(b']');
    while more {
        items.observe(cursor)?;
        more = cursor.more(b']')?;
    }
    Ok(())
}

fn is_column_name(name: &str) -> bool {
    let refused = |c: char| c.is_control() || REFUSED_IN_NAMES.contains(c);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(refused)
}

fn json_text(name: &str) -> Field {
    let metadata = HashMap::from([(JSON_TEXT_KEY.to_owned(), JSON_TEXT_VALUE.to_owned())]);
    Field::new(name, DataType::Utf8, true).with_metadata(metadata)
}
