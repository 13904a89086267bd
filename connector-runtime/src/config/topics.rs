//! The keys `topics` and `topics_pattern` of `source.kafka`.

use regex::Regex;

use super::field::Field;
use super::plan::TopicSelection;
use super::section::Section;

/// Kafka's limit.
const NAME_LENGTH_MAX: usize = 249;

const ONE_OF_TWO: &str = "name the topics, as in `topics: [clicks]`, or give a pattern, as in `topics_pattern: '^clicks\\..+'`";

/// Reads the one of both keys that is there.
pub(super) fn read(section: &Section<'_>) -> Option<TopicSelection> {
    match (section.get("topics"), section.get("topics_pattern")) {
        (Some(topics), None) => list(&topics),
        (None, Some(pattern)) => self::pattern(&pattern),
        (None, None) => section.required("topics", ONE_OF_TWO).and(None),
        (Some(topics), Some(pattern)) => {
            list(&topics);
            self::pattern(&pattern);
            pattern.reject_key("`topics` and `topics_pattern` are both there", "keep one of them")
        }
    }
}

/// `topics`: the topics to read, by name. They must exist when the connector starts.
fn list(field: &Field<'_>) -> Option<TopicSelection> {
    let items = field.items("topics: [clicks, orders]")?;
    if items.is_empty() {
        return field.reject("the list is empty", ONE_OF_TWO);
    }
    let mut names: Vec<String> = Vec::new();
    let mut complete = true;
    for item in &items {
        match name(item) {
            Some(name) if names.contains(&name) => {
                item.reject::<()>(
                    format!("topic {} is there twice", item.found()),
                    "keep one of them",
                );
                complete = false;
            }
            Some(name) => names.push(name),
            None => complete = false,
        }
    }
    complete.then_some(TopicSelection::List(names))
}

fn name(item: &Field<'_>) -> Option<String> {
    let text = item.text("clicks")?;
    if is_topic_name(text) {
        return Some(text.to_owned());
    }
    let help = match text.starts_with('^') || text.contains('*') {
        true => "for a pattern use `topics_pattern: '^clicks\\..+'` in place of `topics`",
        false => "a topic's name has 1 to 249 characters out of a-z, A-Z, 0-9, `.`, `_` and `-`",
    };
    item.reject(format!("{} is not the name of a topic", item.found()), help)
}

/// True for a name that Kafka allows.
pub(super) fn is_topic_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=NAME_LENGTH_MAX).contains(&name.len())
        && name.chars().all(allowed)
        && name != "."
        && name != ".."
}

/// `topics_pattern`: all topics whose name matches, those of later too: a POSIX extended regular
/// expression that starts with `^`. Without a `$` at its end a name may go on after the match.
fn pattern(field: &Field<'_>) -> Option<TopicSelection> {
    let text = field.text("^clicks\\..+")?;
    if !text.starts_with('^') {
        return field.reject(
            format!("a pattern starts with `^`, found {}", field.found()),
            "write '^' and what the names begin with, as in '^clicks\\..+'",
        );
    }
    if let Some((perl, posix)) = foreign_to_posix(text) {
        return field.reject(
            format!(
                "POSIX extended regular expressions, which librdkafka understands, have no `{perl}`"
            ),
            posix,
        );
    }
    match Regex::new(text) {
        Ok(_) => Some(TopicSelection::Pattern(text.to_owned())),
        Err(_) => field.reject(
            format!("{} is not a regular expression", field.found()),
            "check brackets and back-slashes, as in '^clicks\\..+'",
        ),
    }
}

/// The first of Perl's inventions in a pattern, and how to do without it.
fn foreign_to_posix(pattern: &str) -> Option<(&'static str, &'static str)> {
    const FOREIGN: &[(&str, &str)] = &[
        ("\\d", "write `[0-9]`"),
        ("\\D", "write `[^0-9]`"),
        ("(?", "write plain groups: `( )`"),
        ("*?", "leave the `?` away"),
        ("+?", "leave the `?` away"),
    ];
    FOREIGN.iter().find(|(perl, _)| pattern.contains(perl)).copied()
}
