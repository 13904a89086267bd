//! Files and plans through the whole of `config`, with connectors that do nothing.

mod examples;
mod files;
mod fingerprints;
mod keys;
mod plans;
mod secrets;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use async_trait::async_trait;
use connector_api::batch::TableSchema;
use connector_api::config::{SettingError, SinkFactory, TableSettings};
use connector_api::decoder::{DecodeRequest, Decoder, DecoderFactory};
use connector_api::ids::ConnectorName;
use connector_api::sink::{OpenTable, Sink, TableReader};
use connector_api::{Error, Result};

use super::interpolate::Surroundings;
use super::{ConfigErrors, ConnectorPlan, Registry};

/// Takes any location; refuses what the tests want refused. Makes sinks of the format of this name.
#[derive(Debug)]
struct FakeSinks(&'static str);

#[derive(Debug)]
struct FakeSink(String);

impl SinkFactory for FakeSinks {
    fn format(&self) -> &'static str {
        self.0
    }

    fn sink(&self, settings: &TableSettings) -> Result<Arc<dyn Sink>, Vec<SettingError>> {
        let mut errors = Vec::new();
        if settings.properties.contains_key("delta.enableRowTracking") {
            errors.push(SettingError {
                key: vec!["delta".into(), "properties".into(), "delta.enableRowTracking".into()],
                message: "row tracking is not written by this sink".into(),
            });
        }
        for (option, value) in
            settings.storage.iter().filter(|(option, _)| !option.starts_with("aws_"))
        {
            errors.push(SettingError {
                key: vec!["storage".into(), option.clone()],
                message: format!(
                    "unknown option of an S3 store, its value is `{}`",
                    value.expose()
                ),
            });
        }
        if errors.is_empty() {
            Ok(Arc::new(FakeSink(settings.location.clone())))
        } else {
            Err(errors)
        }
    }
}

#[async_trait]
impl Sink for FakeSink {
    fn location(&self) -> &str {
        &self.0
    }

    async fn open(&self, _: &ConnectorName) -> Result<Option<OpenTable>> {
        Ok(None)
    }

    async fn create(&self, _: &ConnectorName, _: &TableSchema) -> Result<OpenTable> {
        Err(Error::internal("a fake has no tables"))
    }

    async fn read(&self) -> Result<Option<Arc<dyn TableReader>>> {
        Ok(None)
    }
}

#[derive(Debug)]
struct FakeDecoders;

impl DecoderFactory for FakeDecoders {
    fn format(&self) -> &'static str {
        "json"
    }

    fn infer(&self, _: &[&[u8]]) -> Option<Schema> {
        None
    }

    fn decoder(&self, _: &DecodeRequest) -> Result<Box<dyn Decoder>> {
        Err(Error::internal("a fake decodes nothing"))
    }
}

fn registry() -> Registry {
    let sinks: Vec<Arc<dyn SinkFactory>> =
        vec![Arc::new(FakeSinks("delta")), Arc::new(FakeSinks("parquet"))];
    Registry { sinks, decoders: vec![Arc::new(FakeDecoders)] }
}

/// An environment with a secret in it.
#[derive(Debug)]
struct FakeSurroundings;

impl Surroundings for FakeSurroundings {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "SECRET").then(|| "hunter2".to_owned())
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/run/secrets/kafka-password") => Ok("hunter2\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn read(text: &str) -> Result<ConnectorPlan, ConfigErrors> {
    read_as("clicks.yaml", text)
}

fn read_as(file: &str, text: &str) -> Result<ConnectorPlan, ConfigErrors> {
    super::read_text(Path::new(file), text, &FakeSurroundings, &registry())
        .map(|loaded| loaded.plan)
        .map_err(|errors| ConfigErrors { errors })
}

/// The shortest file, with lines put into its sections.
#[derive(Debug, Default, Clone, Copy)]
struct File<'a> {
    top: &'a str,
    kafka: &'a str,
    delta: &'a str,
    table: &'a str,
    location: Option<&'a str>,
}

impl File<'_> {
    fn text(self) -> String {
        let location = self.location.unwrap_or("./data/clicks");
        let topics = if self.kafka.contains("topics") { "" } else { "    topics: [clicks]\n" };
        format!(
            "version: 1\nname: clicks\nsource:\n  kafka:\n    bootstrap_servers: localhost:9092\n{topics}{}\
             table:\n  delta:\n    location: {location}\n{}{}{}",
            indented(self.kafka, 4),
            indented(self.delta, 4),
            indented(self.table, 2),
            indented(self.top, 0),
        )
    }

    fn plan(self) -> ConnectorPlan {
        read(&self.text()).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Checks the mistakes, each as `key: message; help`.
    #[track_caller]
    fn check(self, expected: &[&str]) {
        check_text(&self.text(), expected);
    }
}

#[track_caller]
fn check_text(text: &str, expected: &[&str]) {
    let found: Vec<String> = match read(text) {
        Ok(_) => Vec::new(),
        Err(errors) => {
            errors.errors.iter().map(|e| format!("{}: {}; {}", e.key, e.message, e.help)).collect()
        }
    };
    assert_eq!(found, expected, "{text}");
}

fn indented(lines: &str, by: usize) -> String {
    lines.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

fn top(top: &str) -> File<'_> {
    File { top, ..File::default() }
}

fn kafka(kafka: &str) -> File<'_> {
    File { kafka, ..File::default() }
}

fn delta(delta: &str) -> File<'_> {
    File { delta, ..File::default() }
}

fn table(table: &str) -> File<'_> {
    File { table, ..File::default() }
}

/// The folder of examples.
fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}
