//! What is at a location, and how it is named.

use connector_api::{Error, Result};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use super::{Store, store_error};

impl Store {
    /// The object whose name below the table's root is spelled like this, escapes included.
    pub(crate) fn exact(&self, relative: &str) -> Result<Path> {
        Path::parse(format!("{}/{relative}", self.object("")))
            .map_err(|e| Error::internal(format!("no path for `{relative}`")).with_source(e))
    }

    /// The name of an object below the table's root.
    pub(crate) fn relative(&self, path: &Path) -> String {
        let root = self.object("");
        let parts: Vec<_> = path.prefix_match(&root).into_iter().flatten().collect();
        parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("/")
    }

    /// The first file below a folder of the location that is wanted, relative to the location.
    pub(crate) async fn first_file(
        &self,
        folder: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<String>> {
        let folder = self.object(folder);
        let listing = self.objects.list(Some(&folder));
        // Some tools put an empty object in the folder's own place.
        let files = listing.try_filter(|object| {
            let found = object.location != folder && wanted(&self.relative(&object.location));
            std::future::ready(found)
        });
        let first = self.answer(std::pin::pin!(files).try_next()).await;
        let first = first.map_err(|e| store_error("the location cannot be listed", e))?;
        Ok(first.map(|object| self.relative(&object.location)))
    }

    /// True for local disk.
    pub(crate) fn is_local(&self) -> bool {
        self.url.scheme() == "file"
    }

    /// The location for messages: a relative path means another place in another folder.
    pub(crate) fn shown(&self, location: &str) -> String {
        match self.url.to_file_path() {
            Ok(path) if location.split_once("://").is_none() => {
                path.display().to_string().trim_end_matches('/').to_owned()
            }
            _ => location.to_owned(),
        }
    }
}
