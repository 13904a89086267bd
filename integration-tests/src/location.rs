//! Where a test's table lies.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::object_store::{ACCESS_KEY, REGION, SECRET_KEY};

/// Where a test's table lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder, which need not exist yet.
    Local(PathBuf),
    /// A prefix in a bucket of the emulator.
    S3 {
        /// `s3://bucket/prefix`.
        uri: String,
        /// `host:port` of the emulator.
        endpoint: String,
    },
}

impl Location {
    /// As configurations and readers spell it.
    pub fn uri(&self) -> String {
        match self {
            Location::Local(folder) => folder.to_string_lossy().into_owned(),
            Location::S3 { uri, .. } => uri.clone(),
        }
    }

    /// The location with this after its last part.
    pub fn beside(&self, suffix: &str) -> Location {
        match self {
            Location::Local(folder) => {
                let mut name = folder.clone().into_os_string();
                name.push(suffix);
                Location::Local(name.into())
            }
            Location::S3 { uri, endpoint } => {
                Location::S3 { uri: format!("{uri}{suffix}"), endpoint: endpoint.clone() }
            }
        }
    }

    /// The location of this name inside it.
    pub fn inside(&self, name: &str) -> Location {
        self.beside(&format!("/{name}"))
    }

    /// The folder on the local disk.
    pub fn folder(&self) -> &PathBuf {
        match self {
            Location::Local(folder) => folder,
            Location::S3 { uri, .. } => panic!("{uri} is no folder"),
        }
    }

    /// The lines of `table.storage` that the worker needs to get there.
    pub(crate) fn storage_yaml(&self) -> String {
        match self {
            Location::Local(_) => String::new(),
            Location::S3 { endpoint, .. } => format!(
                "  storage:\n    aws_endpoint: http://{endpoint}\n    aws_allow_http: \"true\"\n    \
                 aws_region: {REGION}\n    aws_access_key_id: {ACCESS_KEY}\n    aws_secret_access_key: {SECRET_KEY}\n"
            ),
        }
    }

    /// What the reader needs to get there.
    pub(crate) fn reader_secret(&self) -> Value {
        match self {
            Location::Local(_) => Value::Null,
            Location::S3 { endpoint, .. } => {
                json!({"endpoint": endpoint, "key": ACCESS_KEY, "secret": SECRET_KEY, "region": REGION})
            }
        }
    }
}
