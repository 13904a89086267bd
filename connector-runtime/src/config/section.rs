//! Mappings: which keys there may be, and what is said about the others.

use super::field::Field;
use super::node::Entry;
use super::report::key_path;
use super::words::nearest;

/// A key that a mapping may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// For a key of a later version: what there is instead today.
    pub(super) later: Option<&'static str>,
}

/// A key that is read.
pub(super) const fn key(name: &'static str) -> Key {
    Key { name, later: None }
}

/// A key that is refused as not supported yet.
pub(super) const fn later(name: &'static str, instead: &'static str) -> Key {
    Key { name, later: Some(instead) }
}

/// What people call our keys elsewhere.
const SYNONYMS: &[(&str, &str)] = &[
    ("brokers", "write `bootstrap_servers` below `source.kafka`"),
    ("bootstrap.servers", "write `bootstrap_servers` below `source.kafka`"),
    ("group_id", "write `group.id` below `source.kafka.properties`"),
    ("group.id", "write `group.id` below `source.kafka.properties`"),
    ("path", "write `location` below the table's format"),
    ("schema_registry", "schema registries are not supported yet"),
];

/// Help where a type was torn apart by its commas.
pub(super) const QUOTES: &str =
    "a type with commas in it goes into quotes: {name: amount, type: \"decimal(12,2)\"}";

/// A mapping, its keys checked.
pub(super) struct Section<'a> {
    field: Field<'a>,
    entries: &'a [Entry],
    keys: &'a [Key],
}

impl<'a> Section<'a> {
    /// Opens a mapping and reports keys that are unknown, of a later version, or there twice. Nothing at all is an empty mapping.
    pub(super) fn open(field: Field<'a>, keys: &'a [Key]) -> Option<Self> {
        let entries = field.entries(&format!("the keys {}", allowed(keys)))?;
        let section = Self { field, entries, keys };
        for (index, entry) in entries.iter().enumerate() {
            section.check_key(entry, &entries[..index]);
        }
        Some(section)
    }

    /// The value of a key, if the key is there.
    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(self.field.below(entry))
    }

    /// The value of a key that must be there. One that is misspelt is not reported as missing too.
    pub(super) fn required(&self, key: &str, help: &str) -> Option<Field<'a>> {
        let found = self.get(key);
        if found.is_none() && !self.is_misspelt(key) {
            let path = key_path(&self.field.path, key);
            match self.field.path.as_str() {
                "" => self.field.report().add_to_file(&path, "this key is missing", help),
                _ => {
                    self.field.report().add(&self.field.span(), &path, "this key is missing", help)
                }
            }
        }
        found
    }

    /// The keys that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// The mapping as a value.
    pub(super) fn field(&self) -> &Field<'a> {
        &self.field
    }

    fn check_key(&self, entry: &Entry, before: &[Entry]) {
        let add = |message: &str, help: &str| {
            self.field.report().add(
                &entry.key_span,
                &key_path(&self.field.path, &entry.key),
                message,
                help,
            );
        };
        if let Some(first) = before.iter().find(|first| first.key == entry.key) {
            let line = self.field.report().position(&first.key_span).line;
            return add(
                "this key is there twice",
                &format!("it already stands in line {line}; keep one of them"),
            );
        }
        match self.keys.iter().find(|key| key.name == entry.key) {
            Some(Key { later: None, .. }) => {}
            Some(Key { later: Some(instead), .. }) => add("this is not supported yet", instead),
            None => add("unknown key", &self.unknown_key_help(&entry.key)),
        }
    }

    fn unknown_key_help(&self, found: &str) -> String {
        if let Some((_, help)) = SYNONYMS.iter().find(|(word, _)| *word == found) {
            return (*help).to_owned();
        }
        if found.ends_with([')', '>']) {
            return QUOTES.to_owned();
        }
        if let Some(similar) = self.meant_by(found) {
            return format!("did you mean `{similar}`?");
        }
        let elsewhere = super::SECTIONS
            .iter()
            .find(|(_, keys)| keys.iter().any(|key| key.name == found && key.later.is_none()));
        match elsewhere {
            Some(("", _)) => {
                format!("`{found}` stands at the top of the file, without indentation")
            }
            Some((section, _)) => format!("`{found}` stands below `{section}`"),
            None => format!("allowed here: {}", allowed(self.keys)),
        }
    }

    /// The key that was probably meant.
    fn meant_by(&self, found: &str) -> Option<&str> {
        nearest(found, self.keys.iter().map(|key| key.name))
    }

    /// True if a key that is none was probably to be this one, which was reported already.
    fn is_misspelt(&self, key: &str) -> bool {
        let is_key = |entry: &&Entry| self.keys.iter().any(|key| key.name == entry.key);
        let mut unknown = self.entries.iter().filter(|entry| !is_key(entry));
        unknown.any(|entry| self.meant_by(&entry.key) == Some(key))
    }
}

fn allowed(keys: &[Key]) -> String {
    let names: Vec<String> = keys
        .iter()
        .filter(|key| key.later.is_none())
        .map(|key| format!("`{}`", key.name))
        .collect();
    names.join(", ")
}
