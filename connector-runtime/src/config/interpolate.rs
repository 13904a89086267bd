//! Placeholders in values: what the environment and files bring in is a secret.
//!
//! | written | stands for |
//! |---|---|
//! | `${env:NAME}` | the environment variable; it must be set |
//! | `${env:NAME:-default}` | the same, or `default` where it is unset or empty |
//! | `${file:PATH}` | the content of a file without its last line break; relative to the folder of the configuration file |
//! | `$${` | `${` as such |
//!
//! They may stand anywhere in a value, never in a key. What they bring in is not looked at again.

use std::io;
use std::path::{Path, PathBuf};

use super::node::{Node, Value};
use super::report::{Report, item_path, key_path};

/// Where placeholders are resolved.
pub(super) trait Surroundings {
    fn variable(&self, name: &str) -> Option<String>;
    fn read_file(&self, path: &Path) -> io::Result<String>;
}

/// The environment and the files of this process.
#[derive(Debug)]
pub(super) struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// Resolves all placeholders below a node. What cannot be resolved is reported and left [`Value::Unresolved`].
pub(super) fn resolve(
    node: &mut Node,
    path: &str,
    surroundings: &dyn Surroundings,
    report: &Report<'_>,
) {
    match &mut node.value {
        Value::Scalar(scalar) if scalar.text.contains("${") => {
            match resolve_text(&scalar.text, report.folder(), surroundings) {
                Ok(resolved) => {
                    scalar.text = resolved.text;
                    scalar.secret = resolved.secret;
                }
                Err((message, help)) => {
                    report.add(&node.span, path, message, help);
                    node.value = Value::Unresolved;
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                resolve(item, &item_path(path, index), surroundings, report);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                resolve(&mut entry.value, &key_path(path, &entry.key), surroundings, report);
            }
        }
        Value::Null | Value::Scalar(_) | Value::Unresolved => {}
    }
}

#[derive(Debug, Default, PartialEq)]
struct Resolved {
    text: String,
    secret: bool,
}

/// A message and what to do.
type Refusal = (String, String);

const HELP: &str =
    "write ${env:NAME}, ${env:NAME:-default} or ${file:PATH}; $${ stands for `${` itself";

fn resolve_text(
    text: &str,
    folder: &Path,
    surroundings: &dyn Surroundings,
) -> Result<Resolved, Refusal> {
    let mut resolved = Resolved::default();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        let after = &rest[at + 2..];
        if let Some(before) = before.strip_suffix('$') {
            resolved.text += before;
            resolved.text += "${";
            rest = after;
            continue;
        }
        let Some((placeholder, after)) = after.split_once('}') else {
            return Err(("`${` is not closed by `}`".to_owned(), HELP.to_owned()));
        };
        resolved.text += before;
        let (value, secret) = resolve_one(placeholder, folder, surroundings)?;
        resolved.text += &value;
        resolved.secret |= secret;
        rest = after;
    }
    resolved.text += rest;
    Ok(resolved)
}

/// The value, and whether it came from outside.
fn resolve_one(
    placeholder: &str,
    folder: &Path,
    surroundings: &dyn Surroundings,
) -> Result<(String, bool), Refusal> {
    if let Some(variable) = placeholder.strip_prefix("env:") {
        let (name, default) = match variable.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (variable, None),
        };
        if !is_variable_name(name) {
            let message = format!("`{name}` is not the name of an environment variable");
            return Err((message, HELP.to_owned()));
        }
        return match (surroundings.variable(name), default) {
            (Some(value), None) => Ok((value, true)),
            (Some(value), Some(_)) if !value.is_empty() => Ok((value, true)),
            (_, Some(default)) => Ok((default.to_owned(), false)),
            (None, None) => Err((
                format!("the environment variable `{name}` is not set"),
                format!("set it, or give a default: ${{env:{name}:-default}}"),
            )),
        };
    }
    if let Some(path) = placeholder.strip_prefix("file:") {
        let path: PathBuf = folder.join(path);
        return match surroundings.read_file(&path) {
            Ok(content) => Ok((without_line_break(content), true)),
            Err(error) => Err((
                format!("cannot read `{}`: {}", path.display(), io_reason(&error)),
                "the file must exist on the machine that runs this command; relative paths start at the configuration file's folder"
                    .to_owned(),
            )),
        };
    }
    Err((format!("`${{{placeholder}}}` is not a placeholder"), HELP.to_owned()))
}

fn is_variable_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn without_line_break(mut content: String) -> String {
    if content.ends_with('\n') {
        content.pop();
        if content.ends_with('\r') {
            content.pop();
        }
    }
    content
}

/// Why a file could not be read, in words.
pub(super) fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fake;

    impl Surroundings for Fake {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "HOST" => Some("kafka".to_owned()),
                "NESTED" => Some("${env:HOST}".to_owned()),
                "EMPTY" => Some(String::new()),
                _ => None,
            }
        }

        fn read_file(&self, path: &Path) -> io::Result<String> {
            match path.to_str() {
                Some("/etc/alluvium/password") => Ok("hunter2\n".to_owned()),
                Some("/run/two-lines") => Ok("a\nb\r\n".to_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn check(text: &str, expected: &str) {
        let found = match resolve_text(text, Path::new("/etc/alluvium"), &Fake) {
            Ok(Resolved { text, secret: true }) => format!("secret {text}"),
            Ok(Resolved { text, secret: false }) => text,
            Err((message, _)) => format!("error: {message}"),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn variables_and_files_are_brought_in_as_secrets() {
        check("${env:HOST}:9092", "secret kafka:9092");
        check("${env:HOST},${env:HOST}", "secret kafka,kafka");
        check("${file:password}", "secret hunter2");
        check("${file:/run/two-lines}", "secret a\nb");
        check("${env:EMPTY}", "secret ");
    }

    #[test]
    fn a_default_is_used_where_the_variable_is_unset_or_empty() {
        check("${env:PORT:-9092}", "9092");
        check("${env:EMPTY:-x}", "x");
        check("${env:HOST:-x}", "secret kafka");
        check("${env:PORT:-}", "");
    }

    #[test]
    fn what_is_brought_in_is_not_looked_at_again() {
        check("${env:NESTED}", "secret ${env:HOST}");
    }

    #[test]
    fn a_doubled_dollar_stands_for_itself_before_a_brace_only() {
        check("$${env:HOST}", "${env:HOST}");
        check("$$5 and $x", "$$5 and $x");
        check("a$${b}${env:HOST}", "secret a${b}kafka");
    }

    #[test]
    fn what_is_missing_or_misspelt_is_named() {
        check("${env:NOPE}", "error: the environment variable `NOPE` is not set");
        check("${file:nope}", "error: cannot read `/etc/alluvium/nope`: there is no such file");
        check("${HOST}", "error: `${HOST}` is not a placeholder");
        check("${env:}", "error: `` is not the name of an environment variable");
        check("${env:HOST-x}", "error: `HOST-x` is not the name of an environment variable");
        check("${env:HOST", "error: `${` is not closed by `}`");
    }
}
