//! The tables that a query may name, and how SQL may spell their names.

use std::fmt::Write;
use std::sync::Arc;

use connector_api::sink::{Sink, TableReader};
use connector_api::{Error, Result};
use datafusion::catalog::TableProvider;

use super::provider::ReaderTable;
use crate::config::{ConnectorPlan, OnBadRecord};

/// What DataFusion reads.
pub(super) type Provider = Arc<dyn TableProvider>;

/// A table that a query may name.
#[derive(Debug)]
pub(crate) struct Table {
    pub(super) name: String,
    /// The file or location that it comes from, for messages.
    pub(super) origin: String,
    pub(super) source: Source,
}

/// Where its rows are.
#[derive(Debug)]
pub(super) enum Source {
    /// A connector's table, which may not be there yet.
    Connector(Arc<dyn Sink>),
    /// The table of a connector's dead letters, made with the first one.
    DeadLetters(Arc<dyn Sink>),
    /// Opened already, to find out what it is.
    Opened(Provider),
}

/// The tables that a query may name, no two by the same name.
#[derive(Debug, Default)]
pub(crate) struct Tables(Vec<Table>);

impl Tables {
    /// The tables of connectors.
    pub(crate) fn of_connectors(plans: &[ConnectorPlan]) -> Result<Self> {
        let mut tables = Self::default();
        tables.add_connectors(plans)?;
        Ok(tables)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Table> {
        self.0.iter()
    }

    /// The table that a query means, or what to say if there is none.
    ///
    /// | spelling in the SQL | found |
    /// |---|---|
    /// | `my-orders` | that name |
    /// | `my_orders` | the one table whose name has other characters where this has `_` |
    /// | `Clicks` | the one table whose name differs in case only |
    pub(super) fn named(&self, spelled: &str) -> Result<&Table, String> {
        let only = |matching: &dyn Fn(&Table) -> bool| {
            let mut found = self.0.iter().filter(|table| matching(table));
            found.next().filter(|_| found.next().is_none())
        };
        only(&|table| table.name == spelled)
            .or_else(|| only(&|table| table.plain_name() == spelled))
            .or_else(|| only(&|table| table.name.eq_ignore_ascii_case(spelled)))
            .or_else(|| only(&|table| table.plain_name().eq_ignore_ascii_case(spelled)))
            .ok_or_else(|| self.unknown(spelled))
    }

    fn unknown(&self, spelled: &str) -> String {
        let mut said = format!("there is no table `{spelled}`");
        let alike = |table: &&Table| strsim::jaro_winkler(&table.name, spelled);
        let nearest = self.0.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
        if let Some(nearest) = nearest.filter(|nearest| alike(nearest) > 0.8) {
            _ = write!(said, " (did you mean {}?)", nearest.spellings());
        }
        let mut names: Vec<_> = self.0.iter().map(Table::spellings).collect();
        names.sort();
        match names.is_empty() {
            true => said.push_str(", and no other either"),
            false => _ = write!(said, "; the tables are {}", names.join(", ")),
        }
        said
    }

    pub(super) fn add_connectors(&mut self, plans: &[ConnectorPlan]) -> Result<()> {
        plans.iter().try_for_each(|plan| {
            let origin = plan.file.display().to_string();
            if let OnBadRecord::DeadLetter(sink) = &plan.on_bad_record {
                self.add(Table {
                    name: format!("{}_dead_letters", plan.name),
                    origin: origin.clone(),
                    source: Source::DeadLetters(sink.clone()),
                })?;
            }
            let source = Source::Connector(plan.table.sink.clone());
            self.add(Table { name: plan.name.to_string(), origin, source })
        })
    }

    pub(super) fn add(&mut self, table: Table) -> Result<()> {
        if let Some(other) = self.0.iter().find(|other| other.name == table.name) {
            return Err(Error::user(format!(
                "two tables have the name `{}`: `{}` and `{}`; give a location another name with NAME=LOCATION",
                table.name, other.origin, table.origin
            )));
        }
        self.0.push(table);
        Ok(())
    }
}

impl Table {
    pub(super) async fn open(&self) -> Result<Provider> {
        match &self.source {
            Source::Opened(provider) => Ok(provider.clone()),
            Source::DeadLetters(sink) => match sink.read().await? {
                Some(reader) => Ok(provider(reader)),
                None => Err(Error::user(format!(
                    "there are no dead letters: no record was rejected yet, so there is no table at `{}`",
                    sink.location()
                ))),
            },
            Source::Connector(sink) => match sink.read().await? {
                Some(reader) => Ok(provider(reader)),
                None => Err(Error::user(format!(
                    "connector `{}` has no table yet: there is none at `{}`; `alluvium run {}` creates it with the first commit",
                    self.name,
                    sink.location(),
                    self.origin
                ))),
            },
        }
    }

    /// True if SQL needs no quotes around the name.
    pub(super) fn is_plain(&self) -> bool {
        self.name == self.plain_name()
    }

    /// The name with `_` for what SQL would not take without quotes.
    fn plain_name(&self) -> String {
        let plain = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '_' };
        let name: String = self.name.chars().map(plain).collect();
        match name.starts_with(|c: char| c.is_ascii_digit()) {
            true => format!("_{name}"),
            false => name,
        }
    }

    pub(super) fn quoted(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }

    /// How SQL may spell the name.
    pub(super) fn spellings(&self) -> String {
        match self.is_plain() {
            true => self.name.clone(),
            false => format!("{} (or {})", self.quoted(), self.plain_name()),
        }
    }
}

/// A reader as DataFusion's table.
pub(super) fn provider(reader: Arc<dyn TableReader>) -> Provider {
    Arc::new(ReaderTable(reader))
}
