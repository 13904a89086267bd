//! From the arguments of a query to tables by name.
//!
//! | argument | what it gives |
//! |---|---|
//! | `*.yaml`, `*.yml` | the connectors' tables, by connector name; their dead letters as `NAME_dead_letters` |
//! | `*.parquet` | that file, by its name |
//! | a folder that holds a table | that table, by the folder's name |
//! | a folder with `*.yaml` or `*.yml` | the connectors' tables, by connector name |
//! | a folder with `*.parquet` | those files as one table, by the folder's name |
//! | a URL | the table there, by the last part of its path |
//! | `NAME=` before any but the connectors | the same under that name |
//!
//! A format of tables is known here only as a [`SinkFactory`](connector_api::config::SinkFactory):
//! the first whose sink finds a table at a location reads it.

use std::path::{Path, PathBuf};

use connector_api::config::{Compression, TableSettings};
use connector_api::{Context, Error, Result};

use super::files;
use super::session::Session;
use super::tables::{Provider, Source, Table, Tables, provider};
use crate::config::{self, Registry};

/// Finds the tables of all arguments.
pub(super) async fn find(
    from: &[String],
    registry: &Registry,
    session: &Session,
) -> Result<Tables> {
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
        false => {
            config::load(&configured, registry).map_err(|errors| Error::user(errors.to_string()))?
        }
    };
    tables.add_connectors(&plans)?;
    Ok(tables)
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
            None if scheme == "file" => Err(Error::user(format!(
                "there is no table at `{url}`; for Parquet files give a path"
            ))),
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
