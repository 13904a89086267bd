//! A whole file: the keys at its top, and the sections below them.

use connector_api::config::SinkFactory;
use connector_api::decoder::DecoderFactory;
use connector_api::ids::ConnectorName;

use std::sync::Arc;

use super::field::{Choice, Field};
use super::node::Value;
use super::plan::{ConnectorPlan, KafkaPlan, OnBadRecord, Owner, TablePlan};
use super::section::{Key, Section, key, later};
use super::words::{or_list, suggestion};
use super::{Registry, columns, kafka, table, write};

pub(super) const KEYS: &[Key] = &[
    key("version"),
    key("name"),
    key("owner"),
    key("description"),
    key("source"),
    key("decode"),
    key("schema"),
    key("transform"),
    key("table"),
    key("write"),
    key("on_bad_record"),
    key("dead_letters"),
    later("freshness", "remove the key"),
];
pub(super) const OWNER_KEYS: &[Key] = &[key("team"), key("contact")];
pub(super) const SOURCE_KEYS: &[Key] = &[key("kafka")];
pub(super) const DECODE_KEYS: &[Key] = &[key("value"), key("key")];

/// Formats of values that are known to come.
const DECODERS_LATER: &[&str] = &["string", "bytes", "avro", "protobuf", "json_schema", "debezium"];

/// Reads a file. `None` if a mistake was reported, here or before.
pub(super) fn read(root: Field<'_>, registry: &Registry) -> Option<ConnectorPlan> {
    let file = root.report().file().to_owned();
    let section = Section::open(root, KEYS)?;
    let version = version(&section);
    let name = name(&section);
    let owner = owner(&section);
    let description = description(&section);
    let write = write::read(section.get("write"));
    let revoke_timeout = write.map(|(write, _)| write.revoke_timeout);
    let source = source(&section, name.as_ref(), revoke_timeout);
    let decoder = decode(&section, &registry.decoders);
    let schema = columns::read(section.get("schema"));
    let transform = transform(&section);
    let context = table::Context {
        sinks: &registry.sinks,
        compression: write.map(|(_, compression)| compression),
        columns: schema.as_ref().and_then(|schema| schema.columns.as_deref()),
    };
    let table = section
        .required("table", "say where rows go: `table: {delta: {location: ./data/clicks}}`")
        .and_then(|field| table::read(field, &context));
    let on_bad_record = on_bad_record(&section, &registry.sinks, table.as_ref());
    version?;
    transform?;
    Some(ConnectorPlan {
        name: name?,
        file,
        owner: owner?,
        description: description?,
        source: source?,
        decoder: decoder?,
        schema: schema?,
        table: table?,
        write: write?.0,
        on_bad_record: on_bad_record?,
    })
}

/// `version`: of this format of files: `1`.
fn version(section: &Section<'_>) -> Option<()> {
    let field = section.required("version", "begin the file with `version: 1`")?;
    match field.text("1")? {
        "1" => Some(()),
        _ => field.reject(format!("expected 1, found {}", field.found()), "write `version: 1`"),
    }
}

/// `name`: the connector's identity: its offsets are kept in the table under this name. A new name
/// starts from the beginning.
fn name(section: &Section<'_>) -> Option<ConnectorName> {
    let field = section.required("name", "give the connector a name, as in `name: clicks`")?;
    let text = field.text("clicks")?;
    match ConnectorName::parse(text) {
        Some(name) => Some(name),
        None => field.reject(
            format!("{} is not a connector's name", field.found()),
            format!("a name has {}", ConnectorName::ALLOWED),
        ),
    }
}

/// `owner`: the team that owns the data and how to reach it, shown wherever something goes wrong.
fn owner(section: &Section<'_>) -> Option<Option<Owner>> {
    let Some(field) = section.get("owner") else { return Some(None) };
    let owner = Section::open(field, OWNER_KEYS)?;
    let read = |key: &str, example: &str| match owner.get(key) {
        Some(field) => field.text(example).map(|text| Some(text.to_owned())),
        None => Some(None),
    };
    let (team, contact) = (read("team", "growth-data"), read("contact", "growth@example.com"));
    let owner = Owner { team: team?, contact: contact? };
    Some((owner.team.is_some() || owner.contact.is_some()).then_some(owner))
}

/// `description`: what the connector is for, in your words.
fn description(section: &Section<'_>) -> Option<Option<String>> {
    match section.get("description") {
        Some(field) => {
            field.text("Clicks for the funnel reports").map(|text| Some(text.to_owned()))
        }
        None => Some(None),
    }
}

/// `source`: where records come from: `kafka`.
fn source(
    section: &Section<'_>,
    name: Option<&ConnectorName>,
    revoke_timeout: Option<std::time::Duration>,
) -> Option<KafkaPlan> {
    const EXAMPLE: &str =
        "say where records come from: `source: {kafka: {bootstrap_servers: ..., topics: [...]}}`";
    let source = Section::open(section.required("source", EXAMPLE)?, SOURCE_KEYS)?;
    kafka::read(source.required("kafka", EXAMPLE)?, name, revoke_timeout)
}

/// `decode`: how records are read. `value` is the format of their values, `json` by default; `key`
/// is that of their keys, of which `none` (default) is kept.
fn decode(
    section: &Section<'_>,
    decoders: &[Arc<dyn DecoderFactory>],
) -> Option<Arc<dyn DecoderFactory>> {
    const DEFAULT: &str = "json";
    let find = |format: &str| decoders.iter().find(|decoder| decoder.format() == format).cloned();
    let decode = section.get("decode").map(|field| Section::open(field, DECODE_KEYS));
    let (value, key) = match &decode {
        Some(None) => return None,
        Some(Some(decode)) => (decode.get("value"), decode.get("key")),
        None => (None, None),
    };
    let key = key.map_or(Some(()), |field| decode_key(&field));
    let decoder = match value {
        Some(field) => {
            let format = field.text(DEFAULT)?;
            find(format).or_else(|| reject_format(&field, format, decoders))
        }
        None => find(DEFAULT).or_else(|| {
            section
                .required(
                    "decode",
                    "this build has no decoder for `json`: say which format the values have",
                )
                .and(None)
        }),
    };
    key.and(decoder)
}

fn reject_format(
    field: &Field<'_>,
    format: &str,
    decoders: &[Arc<dyn DecoderFactory>],
) -> Option<Arc<dyn DecoderFactory>> {
    let known: Vec<&'static str> = decoders.iter().map(|decoder| decoder.format()).collect();
    if DECODERS_LATER.contains(&format) {
        return field.reject(
            format!("{} is not supported yet", field.found()),
            format!("use {}", or_list(&known)),
        );
    }
    field.reject(
        format!("expected {}, found {}", or_list(&known), field.found()),
        suggestion(format, &known),
    )
}

fn decode_key(field: &Field<'_>) -> Option<()> {
    const LATER: &str = "remove it, or write `key: none`: keys are not kept";
    const CHOICES: &[Choice<()>] = &[
        Choice { word: "none", means: Ok(()) },
        Choice { word: "string", means: Err(LATER) },
        Choice { word: "bytes", means: Err(LATER) },
        Choice { word: "json", means: Err(LATER) },
    ];
    field.choice(CHOICES)
}

/// `transform`: what is done to rows between decoding and writing; nothing yet, so the list is empty.
fn transform(section: &Section<'_>) -> Option<()> {
    let Some(field) = section.get("transform") else { return Some(()) };
    match &field.node.value {
        Value::Null => Some(()),
        Value::List(items) if items.is_empty() => Some(()),
        _ => field.reject_key(
            "transforms are not supported yet",
            "remove the key, or write `transform: []`",
        ),
    }
}

/// `on_bad_record`: what happens to a record that cannot become a row: `dead_letter` (default) keeps
/// it in a table of its own, `stop` stops the connector before anything that was read with it is committed,
/// `drop` counts it and leaves it out.
fn on_bad_record(
    section: &Section<'_>,
    sinks: &[Arc<dyn SinkFactory>],
    table: Option<&TablePlan>,
) -> Option<OnBadRecord> {
    const CHOICES: &[Choice<Word>] = &[
        Choice { word: "dead_letter", means: Ok(Word::DeadLetter) },
        Choice { word: "stop", means: Ok(Word::Stop) },
        Choice { word: "drop", means: Ok(Word::Drop) },
    ];
    #[derive(Clone, Copy)]
    enum Word {
        DeadLetter,
        Stop,
        Drop,
    }
    let word = section
        .get("on_bad_record")
        .map_or(Some(Word::DeadLetter), |field| field.choice(CHOICES))?;
    let other = match word {
        Word::DeadLetter => {
            let sink =
                table::dead_letters(section.field(), section.get("dead_letters"), sinks, table?)?;
            return Some(OnBadRecord::DeadLetter(sink));
        }
        Word::Stop => OnBadRecord::Stop,
        Word::Drop => OnBadRecord::Drop,
    };
    match section.get("dead_letters") {
        None => Some(other),
        Some(field) => field.reject_key(
            format!("there are no dead letters with `on_bad_record: {}`", other.as_str()),
            "remove the key, or write `on_bad_record: dead_letter`",
        ),
    }
}
