//! Messages that users see, kept as files. `UPDATE_EXPECTED=1` writes what they see now.

use std::fs;

use crate::paths;

/// Compares a message with `tests/golden/NAME.txt`, in which `words` stand for what differs in each run.
///
/// Topic ids become `ID`, times become `TIME`.
#[track_caller]
pub fn assert_golden(name: &str, message: &str, words: &[(&str, &str)]) {
    let mut text =
        words.iter().fold(message.to_owned(), |text, (found, word)| text.replace(found, word));
    for (pattern, word) in [
        (r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z", "TIME"),
        (r"\bid (is now |was |of the topic with the id )?[A-Za-z0-9+/_-]{22}", "id ${1}ID"),
        (r"(was|now) [A-Za-z0-9+/_-]{22}", "$1 ID"),
        (r"127\.0\.0\.1:\d+", "BROKER"),
    ] {
        text = regex::Regex::new(pattern).unwrap().replace_all(&text, word).into_owned();
    }
    let file = paths::package().join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&file, format!("{text}\n")).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected.trim_end(), "differs from {}", file.display());
}
