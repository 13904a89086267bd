//! Alluvium's own client of a store, for tests of what it and a store do together.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use connector_api::config::Secret;
use connectors::store::{Store, store_at};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use crate::location::Location;

/// A new client, with connections of its own, as a further worker has them.
pub fn client(location: &Location) -> Store {
    let options: BTreeMap<_, _> = location
        .storage()
        .into_iter()
        .map(|(option, value)| (option.to_owned(), Secret::new(value)))
        .collect();
    store_at("delta", &location.uri(), &options).unwrap()
}

/// Copies all objects of a location into a folder, byte for byte, for a reader that cannot get there.
pub async fn download(location: &Location, folder: &Path) -> Location {
    let store = client(location);
    let root = store.object("");
    let objects: Vec<_> = store.objects.list(Some(&root)).try_collect().await.unwrap();
    for object in objects {
        let parts = object.location.prefix_match(&root).expect("below the root");
        let file = parts.fold(folder.to_owned(), |path, part| path.join(part.as_ref()));
        let content = store.objects.get(&object.location).await.unwrap().bytes().await.unwrap();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    Location::Local(folder.to_owned())
}
