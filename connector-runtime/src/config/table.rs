//! The section `table`: where rows go.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use connector_api::config::{Compression, Secret, SettingError, SinkFactory, TableSettings};
use connector_api::partitioning::{PartitionField, TimeUnit};
use connector_api::schema::type_name;
use connector_api::sink::Sink;

use super::columns;
use super::field::Field;
use super::node::{Node, Value};
use super::plan::TablePlan;
use super::report::{MASK, holds_credentials};
use super::section::{Key, Section, key, later};
use super::words::{nearest, or_list};

/// Formats of later versions; what the registry has is added.
pub(super) const KEYS: &[Key] = &[key("storage"), later("iceberg", "use `delta`")];
pub(super) const FORMAT_KEYS: &[Key] = &[key("location"), key("partition_by"), key("properties")];

pub(super) const DEAD_LETTERS_KEYS: &[Key] = &[key("location")];

/// What a table is made of besides its own section.
pub(super) struct Context<'a> {
    pub(super) sinks: &'a [Arc<dyn SinkFactory>],
    /// Absent where it could not be read.
    pub(super) compression: Option<Compression>,
    /// The declared columns, where there are some.
    pub(super) columns: Option<&'a Schema>,
}

/// Reads the section and lets the format's factory check it.
pub(super) fn read(field: Field<'_>, context: &Context<'_>) -> Option<TablePlan> {
    let mut keys: Vec<Key> = context.sinks.iter().map(|sink| key(sink.format())).collect();
    keys.extend(
        KEYS.iter().filter(|key| !context.sinks.iter().any(|sink| sink.format() == key.name)),
    );
    let section = Section::open(field.clone(), &keys)?;
    let storage = storage(&section);
    let (factory, format) = format(&section, context.sinks)?;
    let format = Section::open(format, FORMAT_KEYS)?;
    let location = location(&format);
    let partition_by = partition_by(&format, context.columns);
    let properties = properties(&format);
    let settings = TableSettings {
        location: location?,
        partition_by: partition_by?,
        properties: properties?,
        storage: storage?,
        compression: context.compression?,
    };
    match factory.sink(&settings) {
        Ok(sink) => Some(TablePlan { format: factory.format(), settings, sink }),
        Err(errors) => {
            errors.iter().for_each(|error| report(&field, error));
            None
        }
    }
}

/// `dead_letters`: the table of records that cannot become rows. It has the format of the
/// connector's table, the storage options too if it is in the same kind of store, and lies beside it: `location` is by default the table's, with
/// `_dead_letters` after it.
pub(super) fn dead_letters(
    root: &Field<'_>,
    field: Option<Field<'_>>,
    sinks: &[Arc<dyn SinkFactory>],
    table: &TablePlan,
) -> Option<Arc<dyn Sink>> {
    let beside = format!("{}_dead_letters", table.settings.location.trim_end_matches('/'));
    let section = match &field {
        Some(field) => Some(Section::open(field.clone(), DEAD_LETTERS_KEYS)?),
        None => None,
    };
    let location = match section.as_ref().and_then(|section| section.get("location")) {
        Some(given) => location_at(&given)?,
        None => beside,
    };
    let own = table.settings.location.trim_end_matches('/');
    let within = |inner: &str, outer: &str| inner.strip_prefix(outer)?.strip_prefix('/').map(drop);
    let letters = location.trim_end_matches('/');
    if letters == own || within(letters, own).is_some() || within(own, letters).is_some() {
        return section?.get("location")?.reject(
            "dead letters cannot be in the connector's own table, nor in a folder of it or around it",
            "choose another `location`",
        );
    }
    // The store's options are those of the table's store.
    let scheme = |location: &str| location.split_once("://").map(|(scheme, _)| scheme.to_owned());
    let same_store = scheme(&location) == scheme(&table.settings.location);
    let storage = if same_store { table.settings.storage.clone() } else { BTreeMap::new() };
    let settings = TableSettings {
        location,
        storage,
        partition_by: Vec::new(),
        properties: BTreeMap::new(),
        ..table.settings.clone()
    };
    let factory = sinks.iter().find(|sink| sink.format() == table.format)?;
    match factory.sink(&settings) {
        Ok(sink) => Some(sink),
        Err(errors) => {
            let at = field.as_ref().unwrap_or(root);
            errors.iter().for_each(|error| {
                at.report().add(
                    &at.span(),
                    "dead_letters.location",
                    mask(&error.message, &root.child("table").unwrap_or_else(|| root.clone())),
                    "`alluvium config reference` shows what a location may be",
                );
            });
            None
        }
    }
}

/// `delta`: the table's format, one of those that this build has.
fn format<'a, 's>(
    section: &Section<'a>,
    sinks: &'s [Arc<dyn SinkFactory>],
) -> Option<(&'s Arc<dyn SinkFactory>, Field<'a>)> {
    let mut found = sinks.iter().filter_map(|sink| Some((sink, section.get(sink.format())?)));
    let Some(first) = found.next() else {
        // Any other key was already refused, and its help names the formats.
        if section.names().all(|name| name == "storage") {
            let names: Vec<&str> = sinks.iter().map(|sink| sink.format()).collect();
            return section.field().reject(
                format!("the table's format is missing: it is {}", or_list(&names)),
                "write it below `table`, with the location: `delta: {location: ./data/clicks}`",
            );
        }
        return None;
    };
    match found.next() {
        Some((_, second)) => second.reject_key("a table has one format", "keep one of them"),
        None => Some(first),
    }
}

/// `location`: where the table is or is to be made: a path, `file:///path`, `s3://bucket/prefix`,
/// `gs://bucket/prefix`, `az://container/prefix`, or `abfss://container@account.dfs.core.windows.net/prefix`.
fn location(section: &Section<'_>) -> Option<String> {
    const HELP: &str = "say where the table is to be: `./data/clicks` or `s3://lake/bronze/clicks`";
    location_at(&section.required("location", HELP)?)
}

fn location_at(field: &Field<'_>) -> Option<String> {
    let text = field.text("./data/clicks")?;
    if text.contains(['{', '}']) {
        return field.reject(
            format!("placeholders in a location are not supported yet, found {}", field.found()),
            "one connector writes one table: use a connector for each topic",
        );
    }
    if holds_credentials(text) {
        return field
            .reject("a location must not hold credentials", "put them under `table.storage`");
    }
    Some(text.to_owned())
}

/// `partition_by`: the columns whose values choose the folder of a row, for a table that is to be
/// created; none by default. Their values should be few: a day, a country.
fn partition_by(section: &Section<'_>, columns: Option<&Schema>) -> Option<Vec<String>> {
    let Some(field) = section.get("partition_by") else { return Some(Vec::new()) };
    let mut names: Vec<String> = Vec::new();
    let mut complete = true;
    for item in field.items("partition_by: [event_date]")? {
        match partition_column(&item, columns) {
            Some(name) if names.contains(&name) => {
                item.reject::<()>(format!("{} is there twice", item.found()), "keep one of them");
                complete = false;
            }
            Some(name) => names.push(name),
            None => complete = false,
        }
    }
    let whole = names.iter().filter(|name| !name.ends_with(')')).count();
    if complete && columns.is_some_and(|columns| whole == columns.fields().len()) {
        return field.reject(
            "all columns are partition columns, and none is left for the files",
            "partition by few columns with few values, such as a date",
        );
    }
    complete.then_some(names)
}

fn partition_column(item: &Field<'_>, columns: Option<&Schema>) -> Option<String> {
    let text = item.text("event_date")?;
    let Some(PartitionField { column: name, unit }) = PartitionField::parse(text) else {
        return item.reject(
            format!("expected a column or a unit of time of one, found {}", item.found()),
            format!(
                "write `event_date`, or `day(ts)`; units are {}: the same record must be in the same folder \
                 whenever it is written",
                TimeUnit::ALLOWED
            ),
        );
    };
    let text = text.to_owned();
    let Some(columns) = columns else { return Some(text) };
    let Ok(column) = columns.field_with_name(&name) else {
        let help =
            match nearest(&name, columns.fields().iter().map(|column| column.name().as_str())) {
                Some(similar) => format!("did you mean `{similar}`?"),
                None => format!("declared are {}", columns::describe(columns)),
            };
        return item.reject(format!("{} is not among `schema.columns`", item.found()), help);
    };
    let folder = PartitionField { column: name, unit }.folder();
    if unit.is_some() && columns.field_with_name(&folder).is_ok() {
        return item.reject(
            format!("the folders of {} would have the name of the column `{folder}`", item.found()),
            "rename that column",
        );
    }
    if let Some(unit) = unit
        && !columns::has_unit(column.data_type(), unit)
    {
        return item.reject(
            format!("{} is of a column of type {}", item.found(), type_name(column.data_type())),
            "units are of columns of type timestamp, timestamp_ntz and, except for hours, date",
        );
    }
    if unit.is_none() && !columns::may_partition(column.data_type()) {
        return item.reject(
            format!(
                "a table cannot be partitioned by {}, which is {}",
                item.found(),
                type_name(column.data_type())
            ),
            "partition by a column of type string, boolean, byte, short, int, long or date",
        );
    }
    Some(text)
}

/// `properties`: properties of the table format, such as Delta's `delta.logRetentionDuration`, for
/// a table that is to be created.
fn properties(section: &Section<'_>) -> Option<BTreeMap<String, String>> {
    let Some(field) = section.get("properties") else { return Some(BTreeMap::new()) };
    texts(&field, "table properties, as in `delta.logRetentionDuration: interval 30 days`")
}

/// `storage`: the store's options under `object_store`'s names, such as `aws_region`. What is not
/// said here is taken from the environment, as the store's own tools do.
fn storage(section: &Section<'_>) -> Option<BTreeMap<String, Secret<String>>> {
    let Some(field) = section.get("storage") else { return Some(BTreeMap::new()) };
    let options = texts(&field, "the store's options, as in `aws_region: eu-west-1`")?;
    Some(options.into_iter().map(|(option, value)| (option, Secret::new(value))).collect())
}

fn texts(field: &Field<'_>, wanted: &str) -> Option<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    let mut complete = true;
    for (name, value) in field.values(wanted)? {
        match value.text(&format!("{name}: ...")) {
            Some(text) => {
                texts.insert(name.to_owned(), text.to_owned());
            }
            None => complete = false,
        }
    }
    complete.then_some(texts)
}

/// Reports what a factory refuses, at the key that it names or the nearest above it.
fn report(table: &Field<'_>, error: &SettingError) {
    let mut at = table.clone();
    let mut keys = error.key.as_slice();
    while let Some((first, rest)) = keys.split_first() {
        let whole = keys.join(".");
        let Some(below) = at.child(first).or_else(|| at.child(&whole)) else { break };
        keys = if at.child(first).is_some() { rest } else { &[] };
        at = below;
    }
    let message = mask(&error.message, table);
    let path = format!("table.{}", error.key.join("."));
    at.report().add(
        &at.span(),
        &path,
        message,
        "`alluvium config reference` shows what the table's keys may hold",
    );
}

fn mask(message: &str, around: &Field<'_>) -> String {
    secrets_of(around).iter().fold(message.to_owned(), |text, secret| text.replace(secret, MASK))
}

/// What placeholders brought in, and the store's options: a factory does not know that it must not
/// repeat them.
fn secrets_of(table: &Field<'_>) -> Vec<String> {
    const NO_SECRETS: [&str; 2] = ["true", "false"];
    let mut secrets = Vec::new();
    let mut add = |node: &Node, all: bool| {
        node.walk(&mut |node| {
            if let Value::Scalar(scalar) = &node.value
                && (all || scalar.secret)
            {
                secrets.push(scalar.text.clone());
            }
        });
    };
    add(table.node, false);
    if let Some(storage) = table.child("storage") {
        add(storage.node, true);
    }
    secrets.retain(|secret| secret.len() > 2 && !NO_SECRETS.contains(&secret.as_str()));
    secrets
}
