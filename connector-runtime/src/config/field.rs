//! Values: each step reports what is wrong and goes on, so that all mistakes come at once.
//!
//! A reader gets `None` for whatever was reported, and uses `?` only after it has looked at everything.

use std::ops::Range;

use super::node::{Entry, Node, Scalar, ScalarKind, Value};
use super::report::{MASK, Report, item_path, key_path};
use super::words::{or_list, suggestion};

/// A value, with the path to it.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
    /// What to point at for a value that has no first line of its own.
    key_span: Range<usize>,
    report: &'a Report<'a>,
}

/// A word that a value may be.
pub(super) struct Choice<T> {
    pub(super) word: &'static str,
    /// What the word means, or, for a later version, what there is instead today.
    pub(super) means: Result<T, &'static str>,
}

impl<'a> Field<'a> {
    /// The whole file as a value.
    pub(super) fn root(node: &'a Node, report: &'a Report<'a>) -> Self {
        Self { node, path: String::new(), key_span: node.span.clone(), report }
    }

    /// The value of one of the entries.
    pub(super) fn below(&self, entry: &'a Entry) -> Self {
        let path = key_path(&self.path, &entry.key);
        Self { node: &entry.value, path, key_span: entry.key_span.clone(), report: self.report }
    }

    /// What to point at: the value if it stands on one line, else its key.
    pub(super) fn span(&self) -> Range<usize> {
        match &self.node.value {
            Value::Scalar(_) | Value::Unresolved if !self.node.span.is_empty() => {
                self.node.span.clone()
            }
            _ => self.key_span.clone(),
        }
    }

    /// Reports a mistake in the value.
    pub(super) fn reject<T>(
        &self,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.report.add(&self.span(), &self.path, message, help);
        None
    }

    /// Reports a mistake in the key, or in its being there.
    pub(super) fn reject_key<T>(
        &self,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.report.add(&self.key_span, &self.path, message, help);
        None
    }

    /// The value of a key, if this is a mapping that has it.
    pub(super) fn child(&self, key: &str) -> Option<Self> {
        match &self.node.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| self.below(entry))
            }
            _ => None,
        }
    }

    /// The file that the value stands in.
    pub(super) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// The value for a message, masked if it may be a secret.
    pub(super) fn found(&self) -> String {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.secret || self.report.is_secret(&self.node.span) => {
                format!("`{MASK}`")
            }
            Value::Scalar(scalar) => format!("`{}`", scalar.text),
            _ => self.node.kind().to_owned(),
        }
    }

    /// The entries of a mapping, whatever their keys. Nothing at all is an empty mapping.
    pub(super) fn entries(&self, wanted: &str) -> Option<&'a [Entry]> {
        match &self.node.value {
            Value::Map(entries) => Some(entries),
            Value::Null => Some(&[]),
            Value::Unresolved => None,
            Value::Scalar(_) | Value::List(_) => self.reject(
                format!("expected a mapping, found {}", self.found()),
                format!("expected {wanted}"),
            ),
        }
    }

    /// The values of a mapping whose keys are the user's, each once, with their keys.
    pub(super) fn values(&self, wanted: &str) -> Option<Vec<(&'a str, Self)>> {
        let entries = self.entries(wanted)?;
        let mut complete = true;
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|first| first.key == entry.key) {
                self.below(entry).report.add(
                    &entry.key_span,
                    &key_path(&self.path, &entry.key),
                    "this key is there twice",
                    "keep one of them",
                );
                complete = false;
            }
        }
        complete
            .then(|| entries.iter().map(|entry| (entry.key.as_str(), self.below(entry))).collect())
    }

    /// The items of a list.
    pub(super) fn items(&self, example: &str) -> Option<Vec<Self>> {
        match &self.node.value {
            Value::List(items) => {
                Some(items.iter().enumerate().map(|(i, item)| self.item(i, item)).collect())
            }
            Value::Unresolved => None,
            Value::Null | Value::Scalar(_) | Value::Map(_) => self.reject(
                format!("expected a list, found {}", self.found()),
                format!("write a list, as in `{example}`"),
            ),
        }
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        let path = item_path(&self.path, index);
        Self { node, path, key_span: node.span.clone(), report: self.report }
    }

    /// The text of a string, number or boolean; not empty.
    pub(super) fn text(&self, example: &str) -> Option<&'a str> {
        let help = || format!("write a value, as in `{example}`");
        match &self.node.value {
            Value::Scalar(scalar) if scalar.text.trim().is_empty() => {
                self.reject("the value is empty", help())
            }
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Unresolved => None,
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.reject(format!("expected one value, found {}", self.node.kind()), help())
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.text("true")?.to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.reject(
                format!("expected true or false, found {}", self.found()),
                "write `true` or `false`",
            ),
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&self, choices: &[Choice<T>]) -> Option<T> {
        let supported: Vec<&str> =
            choices.iter().filter(|c| c.means.is_ok()).map(|c| c.word).collect();
        let text = self.text(supported[0])?;
        match choices.iter().find(|choice| choice.word == text) {
            Some(Choice { means: Ok(meaning), .. }) => Some(*meaning),
            Some(Choice { means: Err(instead), .. }) => {
                self.reject(format!("{} is not supported yet", self.found()), *instead)
            }
            None => {
                let message = format!("expected {}, found {}", or_list(&supported), self.found());
                self.reject(message, suggestion(text, &supported))
            }
        }
    }

    /// The value as a number, if it is one; reports nothing.
    pub(super) fn number(&self) -> Option<u64> {
        match &self.node.value {
            Value::Scalar(scalar) => scalar.text.trim().parse().ok(),
            _ => None,
        }
    }

    /// True if the value is a plain number.
    pub(super) fn is_number(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(Scalar { kind: ScalarKind::Number, .. }))
    }
}
