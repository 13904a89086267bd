//! YAML text as a tree in which every key and value knows where it stands.
//!
//! Scalars keep the text of the file: `1.10` stays `1.10` and `007` stays `007`, whatever YAML
//! makes of them, so that each key's reader alone decides what its value means. Repeated keys stay
//! in the tree for the reader to report; anchors, aliases and merge keys are resolved.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// A value and where it stands, in bytes of the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    /// Where an alias was defined; else the same as `span`.
    pub(super) defined: Range<usize>,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `null`, `~`, or nothing at all.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A scalar with a placeholder that could not be resolved; the mistake is already reported.
    Unresolved,
}

/// A string, number or boolean, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) kind: ScalarKind,
    /// True if some of the text came out of the environment or a file.
    pub(super) secret: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Text,
    Number,
    Boolean,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    /// What the value is, for messages; never the value itself.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar(Scalar { kind: ScalarKind::Text, .. }) => "a string",
            Value::Scalar(Scalar { kind: ScalarKind::Number, .. }) => "a number",
            Value::Scalar(Scalar { kind: ScalarKind::Boolean, .. }) => "a boolean",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Unresolved => "a placeholder",
        }
    }

    /// The node and all below it.
    pub(super) fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        match &self.value {
            Value::List(items) => items.iter().for_each(|item| item.walk(visit)),
            Value::Map(entries) => entries.iter().for_each(|entry| entry.value.walk(visit)),
            Value::Null | Value::Scalar(_) | Value::Unresolved => {}
        }
    }
}

/// Text that is not one YAML document.
#[derive(Debug, PartialEq)]
pub(super) struct SyntaxError {
    /// In bytes of the text, where it is known.
    pub(super) offset: Option<usize>,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// Parses one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|e| syntax_error(text, &e))?;
    Ok(node(text, raw))
}

/// The tree as serde sees it; `node` brings in the text of scalars.
enum Raw {
    Null,
    Scalar(ScalarKind, Option<String>),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Boolean, None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, None))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, None))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Number, None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(ScalarKind::Text, Some(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

fn node(text: &str, raw: Spanned<Raw>) -> Node {
    let (span, defined) = (span(&raw.referenced), span(&raw.defined));
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Scalar(kind, parsed) => {
            let text = parsed.unwrap_or_else(|| written(text, defined.clone()));
            Value::Scalar(Scalar { text, kind, secret: false })
        }
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(text, item)).collect()),
        Raw::Map(entries) => {
            let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| Entry {
                key_span: self::span(&key.referenced),
                key: key.value,
                value: node(text, value),
            };
            Value::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { span, defined, value }
}

/// The text of a number or boolean: these stand on one line without escapes.
fn written(text: &str, span: Range<usize>) -> String {
    text.get(span).unwrap_or_default().trim().to_owned()
}

fn span(location: &Location) -> Range<usize> {
    let as_usize = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let start = as_usize(location.span().byte_offset());
    start..start + as_usize(location.span().byte_len())
}

/// Our words for the mistakes that people make; the parser's own for the rest.
fn syntax_error(text: &str, error: &serde_saphyr::Error) -> SyntaxError {
    let offset = error.location().and_then(|at| offset_of(text, at.line(), at.column()));
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or(&said);
    let line = offset.map_or("", |offset| line_at(text, offset));
    let (message, help) = if said.starts_with("multiple YAML documents") {
        (
            "the file holds more than one YAML document",
            "one file is one connector: move what follows `---` into a file of its own",
        )
    } else if line.contains("${") && said.contains("flow") {
        (said, "inside `[ ]` and `{ }` a placeholder goes into quotes: [\"${env:NAME}\"]")
    } else if line.contains('<') && line.contains('>') {
        (
            said,
            "a type that contains `: ` or `, ` goes into quotes: \"struct<id: string, country: string>\"",
        )
    } else if said.contains("mapping values are not allowed") {
        (said, "a text that contains `: ` goes into quotes")
    } else if said.contains("tab") {
        (said, "YAML is indented by spaces, never by tabs")
    } else if said.contains("expected string scalar") || said.contains("null into string") {
        ("the key is not a plain word", "keys are words, such as `topics:`")
    } else {
        (said, "check quotes, brackets and indentation here and in the line above")
    };
    let message =
        if message == said { format!("this is not YAML: {said}") } else { message.to_owned() };
    SyntaxError { offset, message, help }
}

/// The byte at a line and column, both from 1, columns in characters.
fn offset_of(text: &str, line: u64, column: u64) -> Option<usize> {
    let skip = |n: u64| usize::try_from(n.checked_sub(1)?).ok();
    let start = match skip(line)? {
        0 => 0,
        lines => text.match_indices('\n').nth(lines - 1)?.0 + 1,
    };
    let column = skip(column)?;
    let length: usize = text[start..].chars().take(column).map(char::len_utf8).sum();
    Some(start + length)
}

fn line_at(text: &str, offset: usize) -> &str {
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    text[start..].lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a tree in one line, each value with the text that its span covers.
    fn show(text: &str, node: &Node) -> String {
        let at = |span: &Range<usize>| text[span.clone()].to_owned();
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Unresolved => "unresolved".to_owned(),
            Value::Scalar(scalar) => {
                format!("{:?} {:?} at {:?}", scalar.kind, scalar.text, at(&node.span))
            }
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| show(text, item)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(entries) => {
                let entry = |e: &Entry| {
                    format!("{} at {:?}: {}", e.key, at(&e.key_span), show(text, &e.value))
                };
                let entries: Vec<String> = entries.iter().map(entry).collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }

    fn check(text: &str, expected: &str) {
        let found = match parse(text) {
            Ok(node) => show(text, &node),
            Err(e) => format!("{} @ {:?}; {}", e.message, e.offset, e.help),
        };
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn scalars_keep_the_text_of_the_file() {
        check("a: 1.10", r#"{a at "a": Number "1.10" at "1.10"}"#);
        check("a: 007 # seven", r#"{a at "a": Number "007" at "007"}"#);
        check("a: True", r#"{a at "a": Boolean "True" at "True"}"#);
        check("a: 'x y'", r#"{a at "a": Text "x y" at "'x y'"}"#);
        check("é: ü", r#"{é at "é": Text "ü" at "ü"}"#);
        check("a: '5'", r#"{a at "a": Text "5" at "'5'"}"#);
        check("1: 2\r\n3: x\r\n", r#"{1 at "1": Number "2" at "2", 3 at "3": Text "x" at "x"}"#);
    }

    #[test]
    fn values_of_several_lines_know_where_they_end() {
        check(
            "a: |\n  l1\n  l2\nb: c\n",
            r#"{a at "a": Text "l1\nl2\n" at "l1\n  l2\n", b at "b": Text "c" at "c"}"#,
        );
        check("a: >-\n  l1\n  l2\n", r#"{a at "a": Text "l1 l2" at "l1\n  l2\n"}"#);
        check("a: \"x\n  y\"\n", r#"{a at "a": Text "x y" at "\"x\n  y\""}"#);
        check("a: x\n  y\n", r#"{a at "a": Text "x y" at "x\n  y"}"#);
    }

    #[test]
    fn nothing_is_null() {
        check("a:\nb: ~\nc: null", r#"{a at "a": null, b at "b": null, c at "c": null}"#);
        check("", "null");
        check("# only a comment\n", "null");
    }

    #[test]
    fn repeated_keys_stay_for_the_reader_to_report() {
        check("a: 1\na: 2", r#"{a at "a": Number "1" at "1", a at "a": Number "2" at "2"}"#);
    }

    #[test]
    fn anchors_aliases_and_merge_keys_are_resolved() {
        check(
            "a: &x {p: 1}\nb: *x\nc:\n  <<: *x\n",
            r#"{a at "a": {p at "p": Number "1" at "1"}, b at "b": {p at "*x": Number "1" at "*x"}, c at "c": {p at "*x": Number "1" at "*x"}}"#,
        );
    }

    #[test]
    fn a_mistake_in_the_syntax_is_named_where_it_is() {
        let brackets = "check quotes, brackets and indentation here and in the line above";
        check("a: 'x\n", &format!("this is not YAML: unclosed quote @ Some(3); {brackets}"));
        check(
            "a: b: c\n",
            "this is not YAML: mapping values are not allowed in this context @ Some(4); a text that contains `: ` goes into quotes",
        );
        check(
            "a: 1\n---\nb: 2\n",
            "the file holds more than one YAML document @ Some(9); one file is one connector: move what follows `---` into a file of its own",
        );
        check(
            "a: [${env:X}]\n",
            "this is not YAML: while parsing a flow sequence, expected ',' or ']' @ Some(5); inside `[ ]` and `{ }` a placeholder goes into quotes: [\"${env:NAME}\"]",
        );
        check(
            "a: {t: struct<x: y>}\n",
            "this is not YAML: while parsing a flow mapping, did not find expected ',' or '}' @ Some(15); a type that contains `: ` or `, ` goes into quotes: \"struct<id: string, country: string>\"",
        );
        check(
            "a:\n\tb: 1\n",
            "this is not YAML: tabs disallowed within this context (block indentation) @ Some(4); YAML is indented by spaces, never by tabs",
        );
        check(
            "? [a]\n: 1\n",
            "the key is not a plain word @ Some(2); keys are words, such as `topics:`",
        );
    }
}
