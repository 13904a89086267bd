//! What can be wrong with a record: small values on the way up, words only when the record is rejected.

use connector_api::decoded::Cause;

use super::path::{Labels, Segment, path_text};
use super::scan::Cursor;

/// Longest piece of payload in a message, in characters: enough to recognise, too little to leak.
const EXCERPT_CHARS: usize = 24;

/// Longest path in a cause, in characters: names of unknown fields and keys of maps are payload too.
const PATH_CHARS: usize = 200;

/// A reason why a record, or a value of it, cannot be taken. Small and [`Copy`], since with
/// `on_unknown_field: rescue` it is an everyday answer and must not cost an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) why: Why,
    /// The byte of the record where it shows.
    pub(super) at: u32,
    /// The column that the value was meant for, as [`Labels`] number it; 0 is the record.
    pub(super) column: u32,
}

impl Flaw {
    #[cold]
    pub(super) fn new(why: Why, at: usize) -> Self {
        Self { why, at: at as u32, column: 0 }
    }

    #[cold]
    pub(super) fn misfit(why: Why, at: usize, column: u32) -> Self {
        Self { why, at: at as u32, column }
    }
}

/// The kinds of flaws, from those that end everything to those of one value. [`Why::code`] is the
/// table of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    EmptyValue,
    InvalidUtf8,
    ExpectedValue,
    ExpectedName,
    ExpectedColon,
    ExpectedCommaOrBrace,
    ExpectedCommaOrBracket,
    MalformedNumber,
    MalformedEscape,
    LoneSurrogate,
    ControlCharacter,
    UnclosedString,
    TrailingBytes,
    TooDeep,
    NotAnObject,
    UnknownField,
    RescuedTooLarge,
    BatchTooLarge,
    WrongType,
    /// A number for a timestamp of which nobody said what it counts.
    NumberWithoutUnit,
    NotExact,
    OutOfRange,
    InvalidTime,
    InvalidBase64,
    NullInRequired,
    /// A name occurs twice: the record is read again without the earlier one, so this is never a cause.
    DuplicateName,
}

impl Why {
    /// The stable code of a [`Cause`]: the table is in the documentation of the [module](super).
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::EmptyValue => "empty_value",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::ExpectedValue
            | Self::ExpectedName
            | Self::ExpectedColon
            | Self::ExpectedCommaOrBrace
            | Self::ExpectedCommaOrBracket
            | Self::MalformedNumber
            | Self::MalformedEscape
            | Self::LoneSurrogate
            | Self::ControlCharacter
            | Self::UnclosedString
            | Self::TrailingBytes => "json_syntax",
            Self::TooDeep => "too_deep",
            Self::NotAnObject => "not_an_object",
            Self::UnknownField => "unknown_field",
            Self::RescuedTooLarge => "rescued_too_large",
            Self::BatchTooLarge => "batch_too_large",
            Self::WrongType | Self::NumberWithoutUnit => "wrong_type",
            Self::NotExact => "not_exact",
            Self::OutOfRange => "out_of_range",
            Self::InvalidTime => "invalid_time",
            Self::InvalidBase64 => "invalid_base64",
            Self::NullInRequired => "null_in_required",
            Self::DuplicateName => "duplicate_name",
        }
    }

    /// True if the record is sound JSON and only a value does not fit its column: what can be rescued.
    pub(super) fn is_misfit(self) -> bool {
        matches!(
            self,
            Self::WrongType
                | Self::NumberWithoutUnit
                | Self::NotExact
                | Self::OutOfRange
                | Self::InvalidTime
                | Self::InvalidBase64
                | Self::NullInRequired
        )
    }

    /// True if the record cannot be read at all, whatever the columns are.
    pub(super) fn is_unreadable(self) -> bool {
        matches!(self.code(), "empty_value" | "invalid_utf8" | "json_syntax" | "too_deep")
    }

    fn message(self) -> &'static str {
        match self {
            Self::EmptyValue => "the value has no bytes; expected a JSON object",
            Self::InvalidUtf8 => "the value is not UTF-8",
            Self::ExpectedValue => "expected a JSON value",
            Self::ExpectedName => "expected a field name in double quotes",
            Self::ExpectedColon => "expected `:` after a field name",
            Self::ExpectedCommaOrBrace => "expected `,` or `}`",
            Self::ExpectedCommaOrBracket => "expected `,` or `]`",
            Self::MalformedNumber => "malformed number",
            Self::MalformedEscape => "malformed escape in a string",
            Self::LoneSurrogate => "escaped surrogate without its other half",
            Self::ControlCharacter => "control character in a string, which must be escaped",
            Self::UnclosedString => "a string that does not end",
            Self::TrailingBytes => "bytes after the end of the value",
            Self::TooDeep => "nested deeper than 64 levels",
            Self::NotAnObject => "expected a JSON object",
            Self::UnknownField => "no column has this name, and `on_unknown_field` is `reject`",
            Self::RescuedTooLarge => {
                "what would have to be rescued is more than 32 times as long as the record"
            }
            Self::BatchTooLarge => "the batch holds more than 2 GiB of text",
            Self::WrongType => "wrong type",
            Self::NumberWithoutUnit => "a number needs a `unit` in the column's declaration",
            Self::NotExact => "the number would lose digits",
            Self::OutOfRange => "the number is out of range",
            Self::InvalidTime => "not a valid date or time in ISO 8601",
            Self::InvalidBase64 => "not valid base64",
            Self::NullInRequired => "null or missing, and the column is not nullable",
            Self::DuplicateName => "a field occurs twice",
        }
    }
}

/// Puts a flaw into words. `path` is where the walk stood when it found the flaw.
#[cold]
pub(super) fn cause(flaw: Flaw, input: &[u8], path: &[Segment], labels: &Labels) -> Cause {
    let at = flaw.at as usize;
    let message = flaw.why.message();
    let expected = labels.type_of(flaw.column);
    let message = match flaw.why {
        Why::NullInRequired => format!("{message}; expected {expected}"),
        why if why.is_misfit() => {
            format!("{message}; expected {expected}, found {}", excerpt(value_text(input, at)))
        }
        Why::NotAnObject => format!("{message}, found {}", excerpt(value_text(input, at))),
        Why::InvalidUtf8 => format!("{message} at byte {at}"),
        why if why.is_unreadable() && why != Why::EmptyValue => {
            format!(
                "{message} at byte {at}, found {}",
                excerpt(input.get(at..).unwrap_or_default())
            )
        }
        _ => message.to_owned(),
    };
    let path = if flaw.why.is_misfit() || flaw.why == Why::UnknownField {
        shortened(&path_text(path, labels, input), PATH_CHARS)
    } else {
        String::new()
    };
    Cause { code: flaw.why.code(), path, message }
}

/// The value that starts at `at`, or the rest of the input if it has no end.
fn value_text(input: &[u8], at: usize) -> &[u8] {
    let mut cursor = Cursor::starting_at(input, at);
    let end = cursor.skip(0).map_or(input.len(), |()| cursor.at());
    input.get(at..end).unwrap_or_default()
}

fn excerpt(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(EXCERPT_CHARS * 4 + 4)];
    match String::from_utf8_lossy(bytes).as_ref() {
        "" => "the end".to_owned(),
        text => format!("`{}`", shortened(text, EXCERPT_CHARS)),
    }
}

/// The first `chars` characters, with `…` if there were more; control characters do not reach a log.
fn shortened(text: &str, chars: usize) -> String {
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut short: String = text.chars().take(chars).map(visible).collect();
    if text.chars().nth(chars).is_some() {
        short.push('…');
    }
    short
}
