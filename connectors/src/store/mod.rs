//! From a location to an object store: local disk, S3 and compatible stores, Google Cloud, Azure.

mod cloud;
mod listing;
pub(crate) mod local;
pub mod probe;
pub(crate) mod upload;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use connector_api::config::{Secret, SettingError};
use connector_api::{Error, Retry};
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

/// The locations that this build can reach, for messages.
const ALLOWED: &str = "a path, `file:///path`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` \
                       or `abfss://container@account.dfs.core.windows.net/prefix`";

/// A table's place in an object store.
#[derive(Clone)]
pub struct Store {
    /// The store, rooted at the bucket or at the file system's root.
    pub objects: Arc<dyn ObjectStore>,
    /// The table's root as a URL that ends in `/`.
    pub url: Url,
    /// How long to wait for any one answer; the store's own time-outs should be shorter.
    pub deadline: Duration,
}

impl Store {
    /// The object at a path below the table's root.
    pub fn object(&self, relative: &str) -> Path {
        let root = Path::from_url_path(self.url.path()).unwrap_or_default();
        relative.split('/').filter(|part| !part.is_empty()).fold(root, |path, part| path.join(part))
    }

    /// Waits for an answer, up to the deadline.
    pub(crate) async fn answer<T>(
        &self,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let late = |_| {
            let source = format!("no answer within {} s", self.deadline.as_secs()).into();
            Err(object_store::Error::Generic { store: "store", source })
        };
        tokio::time::timeout(self.deadline, request).await.unwrap_or_else(late)
    }
}

/// Without the stores' own fields, which hold credentials.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({} in {})", self.url, self.objects)
    }
}

/// What a store says as an error of ours. A refusal is for the user to mend, perhaps while we
/// run: trying again may help either way.
pub(crate) fn store_error(doing: impl Into<String>, error: object_store::Error) -> Error {
    let ours = match is_refusal(&error) {
        true => Error::user(doing).with_retry(Retry::AfterBackoff),
        false => Error::external(doing),
    };
    ours.with_source(error)
}

/// The stores' words for what only the user can mend. Listings do not tell them by the kind of their error.
const REFUSALS: &[&str] = &[
    "AccessDenied",
    "AccountIsDisabled",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "ContainerNotFound",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "NoAuthenticationInformation",
    "NoSuchBucket",
    "PermanentRedirect",
    "SignatureDoesNotMatch",
    "UserProjectMissing",
];

fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error::{PermissionDenied, Unauthenticated};
    if matches!(error, PermissionDenied { .. } | Unauthenticated { .. }) {
        return true;
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
            return matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | NotADirectory);
        }
        cause = error.source();
    }
    let said = error.to_string();
    REFUSALS.iter().any(|refusal| said.contains(&format!("<Code>{refusal}</Code>")))
}

/// Finds the store of a location. Checks the options and does no I/O.
///
/// `format` is the table's, the key under which `location` stands.
pub fn store_at(
    format: &str,
    location: &str,
    options: &BTreeMap<String, Secret<String>>,
) -> Result<Store, SettingError> {
    let refused =
        |message: String| SettingError { key: vec![format.into(), "location".into()], message };
    match location.split_once("://") {
        None => local(format, FilePath::new(location), options),
        Some(("file", path)) if path.starts_with('/') => {
            let url = Url::parse(location)
                .map_err(|e| refused(format!("`{location}` is no URL: {e}")))?;
            let path =
                url.to_file_path().map_err(|()| refused(format!("`{location}` names no path")))?;
            local(format, &path, options)
        }
        Some((scheme, _)) => cloud::store_at(format, location, options).unwrap_or_else(|| {
            Err(refused(format!("`{scheme}://` is no known location; allowed is {ALLOWED}")))
        }),
    }
}

fn local(
    format: &str,
    path: &FilePath,
    options: &BTreeMap<String, Secret<String>>,
) -> Result<Store, SettingError> {
    let refused =
        |message: String| SettingError { key: vec![format.into(), "location".into()], message };
    if let Some(option) = options.keys().next() {
        return Err(SettingError {
            key: vec!["storage".into(), option.clone()],
            message: "a table on local disk has no storage options".into(),
        });
    }
    if path.as_os_str().is_empty() {
        return Err(refused(format!("the location is empty; allowed is {ALLOWED}")));
    }
    let shown = path.display();
    let path =
        std::path::absolute(path).map_err(|e| refused(format!("`{shown}` is no path: {e}")))?;
    let url = Url::from_directory_path(without_parents(&path))
        .map_err(|()| refused(format!("`{shown}` is no path")))?;
    Path::from_url_path(url.path())
        .map_err(|e| refused(format!("`{shown}` cannot be used as a location: {e}")))?;
    Ok(Store { objects: Arc::new(local::LocalDisk::default()), url, deadline: cloud::DEADLINE })
}

/// The same path without `..`, which object stores do not have.
fn without_parents(path: &FilePath) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret<String>> {
        pairs.iter().map(|(k, v)| (k.to_string(), Secret::new(v.to_string()))).collect()
    }

    #[track_caller]
    fn check(location: &str, pairs: &[(&str, &str)], expected: Result<&str, &str>) {
        let found = store_at("delta", location, &options(pairs));
        match (found, expected) {
            (Ok(store), Ok(url)) => assert_eq!(store.url.as_str(), url),
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{}", error.message),
            (found, _) => panic!("{location}: {found:?}"),
        }
    }

    #[test]
    fn a_location_is_a_path_or_a_url_of_a_known_store() {
        check("/data/orders", &[], Ok("file:///data/orders/"));
        check("file:///data/my orders", &[], Ok("file:///data/my%20orders/"));
        check("ftp://lake", &[], Err("no known location; allowed is a path"));
        check("/data", &[("aws_region", "x")], Err("no storage options"));
    }

    #[test]
    fn a_refusal_is_the_users_to_mend_and_the_rest_may_pass() {
        use connector_api::Fault::{External, User};
        let generic = |source: Box<dyn StdError + Send + Sync>| object_store::Error::Generic {
            store: "S3",
            source,
        };
        let io = |kind: io::ErrorKind| generic(Box::new(io::Error::from(kind)));
        let cases = [
            (io(io::ErrorKind::PermissionDenied), User),
            (io(io::ErrorKind::StorageFull), External),
            (generic("status 404: <Error><Code>NoSuchBucket</Code></Error>".into()), User),
            (generic("status 503: <Error><Code>SlowDown</Code></Error>".into()), External),
            (
                object_store::Error::PermissionDenied { path: "x".into(), source: "403".into() },
                User,
            ),
        ];
        for (error, fault) in cases {
            let said = error.to_string();
            let ours = store_error("doing", error);
            assert_eq!((ours.fault(), ours.retry()), (fault, Retry::AfterBackoff), "{said}");
        }
    }

    #[test]
    fn a_path_through_a_parent_is_the_place_that_it_means() {
        let store = store_at("delta", "/lake/../data/./clicks", &BTreeMap::new()).unwrap();
        assert_eq!(store.url.path(), "/data/clicks/");
        assert_eq!(store.object("x").to_string(), "data/clicks/x");
    }
}
