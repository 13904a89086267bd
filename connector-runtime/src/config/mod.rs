//! Configuration: YAML files in, [`ConnectorPlan`]s out, or all mistakes at once.
//!
//! `text -> node (YAML with positions) -> interpolate (placeholders) -> connector (keys and values,
//! section by section) -> plan`. Each step reports what is wrong and goes on, so that a user sees
//! every mistake of every file in one run. Nothing here touches the network.
//!
//! What may be a secret is kept out of messages in three ways: a line is quoted with `***` for
//! values that hold placeholders or stand under `properties`, `storage` or a key that sounds like a
//! secret; [`Field::found`](field::Field::found) masks the same values; and what a sink's factory
//! says is searched for whatever placeholders brought in.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use connector_api::config::SinkFactory;
use connector_api::decoder::DecoderFactory;

mod columns;
mod connector;
mod errors;
mod field;
mod files;
mod fingerprint;
mod interpolate;
mod kafka;
mod librdkafka;
mod node;
mod plan;
mod report;
mod section;
mod start_at;
mod table;
#[cfg(test)]
mod tests;
mod topics;
mod units;
mod words;
mod write;

use field::Field;
use files::{PATHS, files, of_file};
use interpolate::{Process, Surroundings, io_reason};
use node::{Entry, Node, Value};
use report::Report;
use section::Key;

pub use errors::{ConfigError, ConfigErrors, Position};
pub use plan::{
    ConnectorPlan, KafkaPlan, OnBadRecord, OnLoss, Owner, SchemaPlan, StartAt, TablePlan,
    TopicSelection, WritePlan,
};
pub(crate) use units::{SIZES, size};

/// The connectors that this program was linked with.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// One for each table format.
    pub sinks: Vec<Arc<dyn SinkFactory>>,
    /// One for each format of values.
    pub decoders: Vec<Arc<dyn DecoderFactory>>,
}

/// Every section and its keys, for suggestions and for the test of the reference.
const SECTIONS: &[(&str, &[Key])] = &[
    ("", connector::KEYS),
    ("owner", connector::OWNER_KEYS),
    ("source", connector::SOURCE_KEYS),
    ("source.kafka", kafka::KEYS),
    ("decode", connector::DECODE_KEYS),
    ("schema", columns::KEYS),
    ("schema.columns[]", columns::COLUMN_KEYS),
    ("table", table::KEYS),
    ("table.delta", table::FORMAT_KEYS),
    ("dead_letters", table::DEAD_LETTERS_KEYS),
    ("write", write::KEYS),
];

/// Reads the connectors of files and of folders (their `*.yaml` and `*.yml`, sorted by name).
pub fn load(paths: &[PathBuf], registry: &Registry) -> Result<Vec<ConnectorPlan>, ConfigErrors> {
    load_in(&Process, paths, registry)
}

fn load_in(
    surroundings: &dyn Surroundings,
    paths: &[PathBuf],
    registry: &Registry,
) -> Result<Vec<ConnectorPlan>, ConfigErrors> {
    let mut errors = Vec::new();
    let mut loaded: Vec<Loaded> = Vec::new();
    for file in files(paths, &mut errors) {
        match read_file(&file, surroundings, registry) {
            Ok(one) => loaded.push(one),
            Err(mistakes) => errors.extend(mistakes),
        }
    }
    errors.extend(
        loaded.iter().enumerate().filter_map(|(index, one)| one.same_name_as(&loaded[..index])),
    );
    match errors.is_empty() {
        true => Ok(loaded.into_iter().map(|one| one.plan).collect()),
        false => Err(ConfigErrors { errors }),
    }
}

/// A plan, and where its name stands.
struct Loaded {
    plan: ConnectorPlan,
    name: Position,
}

impl Loaded {
    fn same_name_as(&self, before: &[Self]) -> Option<ConfigError> {
        let first = before.iter().find(|first| first.plan.name == self.plan.name)?;
        Some(ConfigError {
            file: self.plan.file.clone(),
            position: Some(self.name.clone()),
            key: "name".to_owned(),
            message: format!(
                "`{}` is already the name of the connector in {}:{}",
                self.plan.name,
                first.plan.file.display(),
                first.name.line
            ),
            help: "offsets are kept under a connector's name: give each its own".to_owned(),
        })
    }
}

fn read_file(
    file: &Path,
    surroundings: &dyn Surroundings,
    registry: &Registry,
) -> Result<Loaded, Vec<ConfigError>> {
    match fs::read_to_string(file) {
        Ok(text) => read_text(file, &text, surroundings, registry),
        Err(error) => {
            Err(vec![of_file(file, format!("cannot read the file: {}", io_reason(&error)), PATHS)])
        }
    }
}

fn read_text(
    file: &Path,
    text: &str,
    surroundings: &dyn Surroundings,
    registry: &Registry,
) -> Result<Loaded, Vec<ConfigError>> {
    const START: &str = "see configs/minimal.yaml for a start";
    let mut root = node::parse(text).map_err(|mistake| {
        let offset = mistake.offset.unwrap_or(0);
        let report = Report::of_unparsed(file, text, offset);
        report.add(&(offset..offset), "", mistake.message, mistake.help);
        report.into_errors()
    })?;
    if root.value == Value::Null {
        return Err(vec![of_file(file, "the file is empty", START)]);
    }
    let report = Report::new(file, text, &root);
    interpolate::resolve(&mut root, "", surroundings, &report);
    let plan = connector::read(Field::root(&root, &report), registry);
    match plan.filter(|_| report.is_empty()) {
        Some(plan) => Ok(Loaded { plan, name: report.position(&span_of_name(&root)) }),
        None => Err(report.into_errors()),
    }
}

fn span_of_name(root: &Node) -> std::ops::Range<usize> {
    let of_name = |entry: &&Entry| entry.key == "name";
    match &root.value {
        Value::Map(entries) => {
            entries.iter().find(of_name).map_or(0..0, |entry| entry.value.span.clone())
        }
        _ => 0..0,
    }
}
