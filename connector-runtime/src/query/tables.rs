//! From the arguments of a query to tables by name.
//!
//! | argument | what it gives |
//! |---|---|
//! | `*.yaml`, `*.yml` | the connectors' tables, by connector name |
//! | `*.parquet` | that file, by its name |
//! | a folder that holds a table | that table, by the folder's name |
//! | a folder with `*.yaml` or `*.yml` | the connectors' tables, by connector name |
//! | a folder with `*.parquet` | those files as one table, by the folder's name |
//! | a URL | the table there, by the last part of its path |
//! | `NAME=` before any but the connectors | the same under that name |
//!
//! A format of tables is known here only as a [`SinkFactory`](connector_api::config::SinkFactory):
//! the first whose sink finds a table at a location reads it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use connector_api::config::{Compression, TableSettings};
use connector_api::sink::{Sink, TableReader};
use connector_api::{Context, Error, Result};
use datafusion::catalog::TableProvider;

use super::files;
use super::provider::ReaderTable;
use super::session::Session;
use crate::config::{self, ConnectorPlan, Registry};

/// What DataFusion reads.
pub(super) type Provider = Arc<dyn TableProvider>;

/// A table that a query may name.
#[derive(Debug)]
pub(crate) struct Table {
    pub(super) name: String,
    /// The file or location that it comes from, for messages.
    origin: String,
    source: Source,
}

/// Where its rows are.
#[derive(Debug)]
enum Source {
    /// A connector's table, which may not be there yet.
    Connector(Arc<dyn Sink>),
    /// Opened already, to find out what it is.
    Opened(Provider),
}

/// The tables that a query may name, no two by the same name.
#[derive(Debug, Default)]
pub(crate) struct Tables(Vec<Table>);

/// Finds the tables of all arguments.
pub(super) async fn find(from: &[String], registry: &Registry, session: &Session) -> Result<Tables> {
    let mut tables = Tables::default();
    let mut configured = Vec::new();
    for argument in from {
        let (name, place) = named(argument);
        match place_of(place, registry, session).await? {
            Place::Connectors if name.is_some() => {
                return Err(Error::user(format!(
                    "`{argument}`: connectors have names of their own; leave out `{}=`",
                    name.unwrap_or_default()
                )));
            }
            Place::Connectors => configured.push(PathBuf::from(place)),
            Place::Table(provider) => tables.add(Table {
                name: name.map_or_else(|| last_part(place), str::to_owned),
                origin: place.to_owned(),
                source: Source::Opened(provider),
            })?,
        }
    }
    let plans = match configured.is_empty() {
        true => Vec::new(),
        // The mistakes of all files at once, as `validate` says them.
        false => config::load(&configured, registry).map_err(|errors| Error::user(errors.to_string()))?,
    };
    tables.add_connectors(&plans)?;
    Ok(tables)
}

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
            _ = write!(said, "; did you mean {}?", nearest.spellings());
        }
        let mut names: Vec<_> = self.0.iter().map(Table::spellings).collect();
        names.sort();
        match names.is_empty() {
            true => said.push_str(", and no other either"),
            false => _ = write!(said, "; the tables are {}", names.join(", ")),
        }
        said
    }

    fn add_connectors(&mut self, plans: &[ConnectorPlan]) -> Result<()> {
        plans.iter().try_for_each(|plan| {
            self.add(Table {
                name: plan.name.to_string(),
                origin: plan.file.display().to_string(),
                source: Source::Connector(plan.table.sink.clone()),
            })
        })
    }

    fn add(&mut self, table: Table) -> Result<()> {
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

/// What an argument turned out to be.
enum Place {
    Connectors,
    Table(Provider),
}

/// Splits `NAME=LOCATION`. A path that holds a `=` itself is a path.
fn named(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once('=') {
        Some((name, place))
            if !name.is_empty()
                && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
                && !matches!(Path::new(argument).try_exists(), Ok(true)) =>
        {
            (Some(name), place)
        }
        _ => (None, argument),
    }
}

async fn place_of(place: &str, registry: &Registry, session: &Session) -> Result<Place> {
    if let Some((scheme, _)) = place.split_once("://") {
        let url = place;
        return match table_at(url, registry).await? {
            Some(provider) => Ok(Place::Table(provider)),
            None if scheme == "file" => {
                Err(Error::user(format!("there is no table at `{url}`; for Parquet files give a path")))
            }
            None => Err(Error::user(format!(
                "there is no table at `{url}`; plain Parquet files in `{scheme}://` are not supported yet, only on local disk"
            ))),
        };
    }
    let path = Path::new(place);
    let found = std::fs::metadata(path)
        .map_err(|e| Error::user(format!("`{place}` cannot be read")).with_source(e))?;
    if found.is_dir() {
        return folder(path, registry, session).await;
    }
    match files::kind(path) {
        Some(files::Kind::Connector) => Ok(Place::Connectors),
        Some(files::Kind::Parquet) => files::parquet(path, session).await.map(Place::Table),
        None => Err(Error::user(format!(
            "`{place}` is neither a connector file (.yaml, .yml) nor a Parquet file (.parquet)"
        ))),
    }
}

async fn folder(path: &Path, registry: &Registry, session: &Session) -> Result<Place> {
    let shown = path.display().to_string();
    if let Some(provider) = table_at(&shown, registry).await? {
        return Ok(Place::Table(provider));
    }
    match files::first_kind(path).context(|| format!("failed to look into `{shown}`"))? {
        Some(files::Kind::Connector) => Ok(Place::Connectors),
        Some(files::Kind::Parquet) => files::parquet(path, session).await.map(Place::Table),
        None => Err(Error::user(format!(
            "the folder `{shown}` holds no table, no connector files (.yaml, .yml) and no Parquet files (.parquet)"
        ))),
    }
}

/// The table at a location, whatever its format is.
async fn table_at(location: &str, registry: &Registry) -> Result<Option<Provider>> {
    let mut refused = Vec::new();
    for factory in &registry.sinks {
        match factory.sink(&bare_settings(location)) {
            Ok(sink) => {
                if let Some(reader) = sink.read().await? {
                    return Ok(Some(provider(reader)));
                }
            }
            Err(errors) => refused.extend(errors.into_iter().map(|error| error.message)),
        }
    }
    match refused.is_empty() {
        true => Ok(None),
        false => {
            refused.dedup();
            Err(Error::user(format!("`{location}` cannot be read: {}", refused.join("; "))))
        }
    }
}

/// A location and nothing else: what the store needs comes from the environment.
fn bare_settings(location: &str) -> TableSettings {
    TableSettings {
        location: location.to_owned(),
        partition_by: Vec::new(),
        properties: Default::default(),
        storage: Default::default(),
        compression: Compression::Uncompressed,
    }
}

fn provider(reader: Arc<dyn TableReader>) -> Provider {
    Arc::new(ReaderTable(reader))
}

/// `clicks` for `s3://lake/bronze/clicks/` and for `data/clicks.parquet`.
fn last_part(place: &str) -> String {
    let path = place.trim_end_matches('/');
    let absolute = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    let last = if path.contains("://") { Path::new(path) } else { absolute.as_path() };
    let name = match files::kind(last) {
        Some(_) => last.file_stem(),
        None => last.file_name(),
    };
    name.map_or_else(|| "table".to_owned(), |name| name.to_string_lossy().into_owned())
}
