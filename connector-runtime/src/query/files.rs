//! Plain files on local disk: what a folder holds, and Parquet as a table.

use std::path::Path;
use std::sync::Arc;

use connector_api::{Error, Result};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use url::Url;

use super::session::Session;
use super::tables::Provider;

/// How deep `key=value` folders may lie.
const DEPTH_MAX: usize = 8;

/// What a file is, by its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connector,
    Parquet,
}

pub(super) fn kind(path: &Path) -> Option<Kind> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    match ending.as_str() {
        "yaml" | "yml" => Some(Kind::Connector),
        "parquet" => Some(Kind::Parquet),
        _ => None,
    }
}

/// What a folder is for: connector files count before Parquet files; Parquet files also below it.
pub(super) fn first_kind(folder: &Path) -> Result<Option<Kind>> {
    let unreadable =
        |e| Error::external(format!("`{}` cannot be listed", folder.display())).with_source(e);
    let mut parquet = false;
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        match kind(&entry.map_err(unreadable)?.path()) {
            Some(Kind::Connector) => return Ok(Some(Kind::Connector)),
            Some(Kind::Parquet) => parquet = true,
            None => {}
        }
    }
    let parquet = parquet || holds_parquet(folder, DEPTH_MAX).map_err(unreadable)?;
    Ok(parquet.then_some(Kind::Parquet))
}

fn holds_parquet(folder: &Path, depth: usize) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let (path, is_folder) =
            entry.and_then(|entry| Ok((entry.path(), entry.file_type()?.is_dir())))?;
        if kind(&path) == Some(Kind::Parquet) && !is_folder {
            return Ok(true);
        }
        if is_folder && depth > 0 && holds_parquet(&path, depth - 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A Parquet file, or all of a folder as one table; `key=value` folders become columns.
pub(super) async fn parquet(path: &Path, session: &Session) -> Result<Provider> {
    let shown = path.display();
    let unreadable = |e| Error::user(format!("`{shown}` cannot be read as Parquet")).with_source(e);
    let absolute = std::path::absolute(path)
        .map_err(|e| Error::user(format!("`{shown}` is no path")).with_source(e))?;
    let url = match path.is_dir() {
        true => Url::from_directory_path(&absolute),
        false => Url::from_file_path(&absolute),
    };
    let url = url.map_err(|()| Error::user(format!("`{shown}` is no path")))?;
    let files = ListingTableUrl::parse(url).map_err(unreadable)?;
    let options =
        ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    let state = session.context().state();
    let config = ListingTableConfig::new(files).with_listing_options(options);
    let config = config.infer_partitions_from_path(&state).await.map_err(unreadable)?;
    let config = config.infer_schema(&state).await.map_err(unreadable)?;
    Ok(Arc::new(ListingTable::try_new(config).map_err(unreadable)?))
}
