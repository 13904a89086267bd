//! One file, its mistakes, and which of its characters must not be shown.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use super::errors::{ConfigError, Position};
use super::node::{Node, Value};

/// What is shown for a secret.
pub(super) const MASK: &str = "***";

/// Collects the mistakes of one file.
pub(super) struct Report<'a> {
    file: &'a Path,
    text: &'a str,
    /// Spans that may hold secrets, ascending.
    secrets: Vec<Range<usize>>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'a> Report<'a> {
    /// For a file that could be parsed. To be made before placeholders are resolved, which are secrets too.
    pub(super) fn new(file: &'a Path, text: &'a str, root: &Node) -> Self {
        Self { file, text, secrets: secret_spans(root), errors: RefCell::default() }
    }

    /// For a file that could not be parsed: secrets are guessed from the line and the lines that it is indented under.
    pub(super) fn of_unparsed(file: &'a Path, text: &'a str, offset: usize) -> Self {
        Self {
            file,
            text,
            secrets: suspicious_span(text, offset).into_iter().collect(),
            errors: RefCell::default(),
        }
    }

    pub(super) fn add(
        &self,
        span: &Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.errors.borrow_mut().push(ConfigError {
            file: self.file.to_owned(),
            position: Some(self.position(span)),
            key: key.to_owned(),
            message: message.into(),
            help: help.into(),
        });
    }

    /// Reports a mistake that stands nowhere in the file.
    pub(super) fn add_to_file(
        &self,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.errors.borrow_mut().push(ConfigError {
            file: self.file.to_owned(),
            position: None,
            key: key.to_owned(),
            message: message.into(),
            help: help.into(),
        });
    }

    pub(super) fn file(&self) -> &'a Path {
        self.file
    }

    /// The folder of the file.
    pub(super) fn folder(&self) -> &'a Path {
        self.file.parent().unwrap_or_else(|| Path::new(""))
    }

    pub(super) fn is_secret(&self, span: &Range<usize>) -> bool {
        self.secrets.iter().any(|secret| secret.start <= span.start && span.start < secret.end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// The mistakes, from the file's first line to its last.
    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|error| error.position.as_ref().map(|at| (at.line, at.column)));
        errors
    }

    /// The line and column of a span, with its line as it may be shown.
    pub(super) fn position(&self, span: &Range<usize>) -> Position {
        let at = span.start.min(self.text.len());
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        let (excerpt, marked) = self.excerpt(start..end, at..span.end.clamp(at, end.max(at)));
        Position {
            line: self.text[..start].matches('\n').count() + 1,
            column: self.text[start..at].chars().count() + 1,
            excerpt,
            marked,
        }
    }

    /// A line with its secrets masked, and the characters of it that show the span.
    fn excerpt(&self, line: Range<usize>, span: Range<usize>) -> (String, (usize, usize)) {
        let mut shown = String::new();
        let mut marked: Option<(usize, usize)> = None;
        let mut end_of_secret = line.start;
        for (at, c) in self.text[line.clone()].char_indices().map(|(at, c)| (line.start + at, c)) {
            if at < end_of_secret {
                continue;
            }
            let position = shown.chars().count();
            match self.secrets.iter().find(|secret| secret.contains(&at)) {
                Some(secret) => {
                    shown += MASK;
                    end_of_secret = secret.end;
                }
                // A comment, which may tell a secret too: `password: #hunter2`.
                None if c == '#' && (shown.is_empty() || shown.ends_with(' ')) => break,
                None => shown.push(if c == '\t' { ' ' } else { c }),
            }
            let past = at.max(end_of_secret.saturating_sub(1)) + 1;
            if span.start < past && marked.is_none() {
                marked = Some((position, position + 1));
            }
            if let Some((_, end)) = marked.as_mut().filter(|_| at < span.end) {
                *end = shown.chars().count();
            }
        }
        let shown = shown.trim_end().to_owned();
        let length = shown.chars().count();
        let (start, end) = marked.unwrap_or((length, length + 1));
        (shown, (start, end - start))
    }
}

/// The path of a key below another.
pub(super) fn key_path(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// The path of a list's item.
pub(super) fn item_path(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// Values with a placeholder, values below `properties` and `storage`, and those whose key sounds like a secret.
fn secret_spans(root: &Node) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut all_below = |node: &Node| {
        node.walk(&mut |node| match &node.value {
            Value::Scalar(_) => spans.extend([node.span.clone(), node.defined.clone()]),
            Value::Null | Value::List(_) | Value::Map(_) | Value::Unresolved => {}
        });
    };
    root.walk(&mut |node| match &node.value {
        Value::Scalar(scalar) if scalar.text.contains("${") || holds_credentials(&scalar.text) => {
            all_below(node)
        }
        Value::Map(entries) => {
            entries
                .iter()
                .filter(|entry| sounds_secret(&entry.key))
                .for_each(|entry| all_below(&entry.value));
        }
        Value::Null | Value::Scalar(_) | Value::List(_) | Value::Unresolved => {}
    });
    spans.sort_by_key(|span| span.start);
    spans
}

/// True for a URL with somebody's name, and maybe password, before its host, or a query, which may hold
/// a signature. Azure's `abfss://container@account` has neither.
pub(super) fn holds_credentials(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let has_user_info = match (scheme, authority.rsplit_once('@')) {
        (_, None) => false,
        ("az" | "abfs" | "abfss", Some((container, _))) => container.contains([':', '@']),
        (_, Some(_)) => true,
    };
    has_user_info || rest.contains('?')
}

/// True for the keys that hold credentials, also if they are misspelt.
fn sounds_secret(key: &str) -> bool {
    const HOLDERS: [&str; 2] = ["properties", "storage"];
    const WORDS: [&str; 10] = [
        "passw",
        "passphrase",
        "secret",
        "token",
        "credential",
        "access_key",
        "account_key",
        "sas",
        "jaas",
        "private",
    ];
    let key = key.to_lowercase();
    HOLDERS.iter().any(|holder| strsim::jaro_winkler(holder, &key) > 0.85)
        || WORDS.iter().any(|word| key.contains(word))
}

/// What of a line must not be shown if all that is known is text.
fn suspicious_span(text: &str, offset: usize) -> Option<Range<usize>> {
    const NEIGHBOURS: usize = 3;
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let suspicious =
        |line: &str| line.contains("${") || line.split([' ', '{', ',', ':']).any(sounds_secret);
    let mut indentation = indentation_of(line);
    let mut found = suspicious(line);
    let above = text[..start].lines().rev().filter(|line| !line.trim().is_empty());
    for (distance, above) in above.enumerate() {
        let parent = indentation_of(above) < indentation;
        if parent {
            indentation = indentation_of(above);
        }
        // A line that lost its place may have belonged to its neighbours.
        found |= (parent || distance < NEIGHBOURS) && suspicious(above);
    }
    let value = line.find(": ").map_or_else(|| indentation_of(line), |colon| colon + 2);
    found.then(|| start + value..start + line.len())
}

fn indentation_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}
