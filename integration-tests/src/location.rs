//! Where a test's table lies.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::azurite::{ACCOUNT, ACCOUNT_KEY};
use crate::object_store::{ACCESS_KEY, REGION, SECRET_KEY};

/// A service account that needs no token.
const NOBODY: &str =
    r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}"#;

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
    /// A prefix in a container of the Azure emulator.
    Azure {
        /// `az://container/prefix`.
        uri: String,
        /// `host:port` of the emulator.
        endpoint: String,
    },
    /// A prefix in a bucket of Google Cloud Storage's stub.
    Gcs {
        /// `gs://bucket/prefix`.
        uri: String,
        /// `host:port` of the stub.
        endpoint: String,
    },
}

impl Location {
    /// As configurations and readers spell it.
    pub fn uri(&self) -> String {
        match self {
            Location::Local(folder) => folder.to_string_lossy().into_owned(),
            Location::S3 { uri, .. } | Location::Azure { uri, .. } | Location::Gcs { uri, .. } => {
                uri.clone()
            }
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
            Location::Azure { uri, endpoint } => {
                Location::Azure { uri: format!("{uri}{suffix}"), endpoint: endpoint.clone() }
            }
            Location::Gcs { uri, endpoint } => {
                Location::Gcs { uri: format!("{uri}{suffix}"), endpoint: endpoint.clone() }
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
            _ => panic!("{} is no folder", self.uri()),
        }
    }

    /// The options of the store that lead there.
    pub(crate) fn storage(&self) -> Vec<(&'static str, String)> {
        match self {
            Location::Local(_) => Vec::new(),
            Location::S3 { endpoint, .. } => vec![
                ("aws_endpoint", format!("http://{endpoint}")),
                ("aws_allow_http", "true".into()),
                ("aws_region", REGION.into()),
                ("aws_access_key_id", ACCESS_KEY.into()),
                ("aws_secret_access_key", SECRET_KEY.into()),
            ],
            Location::Azure { endpoint, .. } => vec![
                ("azure_storage_endpoint", format!("http://{endpoint}/{ACCOUNT}")),
                ("azure_allow_http", "true".into()),
                ("azure_storage_account_name", ACCOUNT.into()),
                ("azure_storage_account_key", ACCOUNT_KEY.into()),
            ],
            Location::Gcs { endpoint, .. } => vec![
                ("google_base_url", format!("http://{endpoint}")),
                ("google_allow_http", "true".into()),
                ("google_service_account_key", NOBODY.into()),
            ],
        }
    }

    /// The same as lines below `table`.
    pub(crate) fn storage_yaml(&self) -> String {
        let options = self.storage();
        let lines = options.iter().map(|(option, value)| format!("    {option}: '{value}'\n"));
        match options.is_empty() {
            true => String::new(),
            false => format!("  storage:\n{}", lines.collect::<String>()),
        }
    }

    /// What the reader needs to get there.
    pub(crate) fn reader_secret(&self) -> Value {
        match self {
            Location::Local(_) => Value::Null,
            Location::S3 { endpoint, .. } => {
                json!({"endpoint": endpoint, "key": ACCESS_KEY, "secret": SECRET_KEY, "region": REGION})
            }
            Location::Azure { .. } | Location::Gcs { .. } => self.out_of_reach(),
        }
    }

    pub(crate) fn out_of_reach(&self) -> ! {
        panic!("the reader cannot get to {}: see `client::download`", self.uri())
    }
}
