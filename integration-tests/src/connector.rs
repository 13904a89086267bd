//! The YAML of a connector, as a user would write it.

use std::fmt::Write;
use std::path::PathBuf;

use crate::broker::broker;
use crate::case::Case;
use crate::location::Location;

/// A declared column, and what DuckDB makes of it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type in the configuration.
    pub ours: &'static str,
    /// The same type by DuckDB's name.
    pub duckdb: &'static str,
    /// Whether it may be null.
    pub nullable: bool,
}

/// A connector's configuration.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Its identity; its group is `alluvium-NAME`.
    pub name: String,
    /// The broker; the test program's own by default.
    pub bootstrap: String,
    /// The line that says which topics: `topics: [..]` or `topics_pattern: ..`.
    pub topics: String,
    /// librdkafka properties.
    pub properties: Vec<(&'static str, String)>,
    /// Absent: the table's own, or inferred.
    pub columns: Option<&'static [Column]>,
    /// The table's format: `delta` or `parquet`.
    pub format: &'static str,
    /// Where the table lies.
    pub location: Location,
    /// The table's partition columns.
    pub partition_by: Vec<&'static str>,
    /// The longest time until a record is visible.
    pub commit_interval: &'static str,
    /// Further lines below `source.kafka`, such as `on_gap: continue`.
    pub kafka: Vec<&'static str>,
    /// Further lines below `write`.
    pub write: Vec<&'static str>,
    /// Further lines at the top.
    pub top: Vec<String>,
}

impl Connector {
    /// A connector for one topic, with short intervals so that tests need not wait.
    pub fn new(name: &str, topic: &str, location: &Location) -> Connector {
        Connector {
            name: name.to_owned(),
            bootstrap: broker().bootstrap.clone(),
            topics: format!("topics: [{topic}]"),
            // A killed worker is missed after this, not after 45 s.
            properties: vec![
                ("session.timeout.ms", "2000".into()),
                ("heartbeat.interval.ms", "500".into()),
            ],
            columns: None,
            format: "delta",
            location: location.clone(),
            partition_by: Vec::new(),
            commit_interval: "1s",
            kafka: Vec::new(),
            write: Vec::new(),
            top: Vec::new(),
        }
    }

    /// Where its dead letters are by default.
    pub fn dead_letters(&self) -> Location {
        self.location.beside("_dead_letters")
    }

    /// The consumer group.
    pub fn group(&self) -> String {
        format!("alluvium-{}", self.name)
    }

    /// The configuration's text.
    pub fn yaml(&self) -> String {
        let mut yaml = format!(
            "version: 1\nname: {}\nsource:\n  kafka:\n    bootstrap_servers: {}\n    {}\n    properties:\n",
            self.name, self.bootstrap, self.topics
        );
        for line in &self.kafka {
            yaml = yaml.replace("    properties:\n", &format!("    {line}\n    properties:\n"));
        }
        for (key, value) in &self.properties {
            writeln!(yaml, "      {key}: \"{value}\"").unwrap();
        }
        yaml += "decode:\n  value: json\n";
        if let Some(columns) = self.columns {
            yaml += "schema:\n  columns:\n";
            for Column { name, ours, nullable, .. } in columns {
                writeln!(yaml, "    - {{name: {name}, type: \"{ours}\", nullable: {nullable}}}")
                    .unwrap();
            }
        }
        let uri = self.location.uri();
        writeln!(yaml, "table:\n  {}:\n    location: {uri}", self.format).unwrap();
        if !self.partition_by.is_empty() {
            writeln!(yaml, "    partition_by: [{}]", self.partition_by.join(", ")).unwrap();
        }
        yaml += &self.location.storage_yaml();
        writeln!(yaml, "write:\n  commit_interval: {}", self.commit_interval).unwrap();
        self.write.iter().for_each(|line| writeln!(yaml, "  {line}").unwrap());
        self.top.iter().for_each(|line| writeln!(yaml, "{line}").unwrap());
        yaml
    }

    /// Writes `NAME.yaml` into the case's folder.
    pub fn write(&self, case: &Case) -> PathBuf {
        case.write(&format!("{}.yaml", self.name), &self.yaml())
    }
}
