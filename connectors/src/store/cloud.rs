//! Stores behind a network: S3 and what is compatible with it, Google Cloud Storage, Azure Blob Storage.
//!
//! Options have object_store's names. What they do not say comes from the environment, as far as it
//! has these names in upper case (`AWS_REGION`); they win over it.
//!
//! Errors: none shows an option's value, or credentials in a URL.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use connector_api::config::{Secret, SettingError};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::Store;

/// How long one request may take before it is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request is repeated after server errors.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
const RETRIES_MAX: usize = 4;
/// Longer than the last of the repeated requests can take.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

type Options = BTreeMap<String, Secret<String>>;

/// What the builders of object_store have in common.
trait Builder: Sized {
    type Key: FromStr + PartialEq + 'static;
    /// For messages.
    const KIND: &'static str;
    /// For messages.
    const USUAL: &'static str;
    /// What the environment's names begin with.
    const PREFIX: &'static str;
    /// What the location says.
    const PLACE: Self::Key;
    /// URLs that requests go to.
    const ENDPOINTS: &'static [Self::Key];

    fn from_environment() -> Self;
    fn with(self, key: Self::Key, value: &str) -> Self;
    fn value(&self, key: &Self::Key) -> Option<String>;
    fn client_key(key: &Self::Key) -> Option<ClientConfigKey>;
    fn store(
        self,
        location: &str,
        client: ClientOptions,
        retry: RetryConfig,
    ) -> object_store::Result<Arc<dyn ObjectStore>>;
}

macro_rules! builder {
    ($builder:ty, $keys:ident, {$($constants:item)*}) => {
        impl Builder for $builder {
            type Key = $keys;
            $($constants)*

            fn from_environment() -> Self {
                Self::from_env()
            }

            fn with(self, key: $keys, value: &str) -> Self {
                self.with_config(key, value)
            }

            fn value(&self, key: &$keys) -> Option<String> {
                self.get_config_value(key)
            }

            fn client_key(key: &$keys) -> Option<ClientConfigKey> {
                match key {
                    $keys::Client(key) => Some(*key),
                    _ => None,
                }
            }

            fn store(
                self,
                location: &str,
                client: ClientOptions,
                retry: RetryConfig,
            ) -> object_store::Result<Arc<dyn ObjectStore>> {
                let builder = self.with_url(location).with_client_options(client).with_retry(retry);
                Ok(Arc::new(builder.build()?))
            }
        }
    };
}

builder!(AmazonS3Builder, AmazonS3ConfigKey, {
    const KIND: &'static str = "an S3 store";
    const USUAL: &'static str = "aws_region, aws_endpoint, aws_access_key_id, aws_secret_access_key, \
                                 aws_session_token, aws_allow_http, aws_virtual_hosted_style_request";
    const PREFIX: &'static str = "AWS_";
    const PLACE: Self::Key = AmazonS3ConfigKey::Bucket;
    const ENDPOINTS: &'static [Self::Key] = &[
        AmazonS3ConfigKey::Endpoint,
        AmazonS3ConfigKey::S3Endpoint,
        AmazonS3ConfigKey::StsEndpoint,
        AmazonS3ConfigKey::MetadataEndpoint,
    ];
});

builder!(GoogleCloudStorageBuilder, GoogleConfigKey, {
    const KIND: &'static str = "a Google Cloud store";
    const USUAL: &'static str = "google_service_account (a file), google_service_account_key (its content), \
                                 google_application_credentials (a file), google_base_url, google_allow_http";
    const PREFIX: &'static str = "GOOGLE_";
    const PLACE: Self::Key = GoogleConfigKey::Bucket;
    const ENDPOINTS: &'static [Self::Key] = &[GoogleConfigKey::BaseUrl];
});

builder!(MicrosoftAzureBuilder, AzureConfigKey, {
    const KIND: &'static str = "an Azure store";
    const USUAL: &'static str = "azure_storage_account_name, azure_storage_account_key, azure_storage_sas_key, \
                                 azure_storage_client_id, azure_storage_client_secret, azure_storage_tenant_id, \
                                 azure_storage_endpoint, azure_allow_http";
    const PREFIX: &'static str = "AZURE_";
    const PLACE: Self::Key = AzureConfigKey::ContainerName;
    const ENDPOINTS: &'static [Self::Key] =
        &[AzureConfigKey::Endpoint, AzureConfigKey::AuthorityHost, AzureConfigKey::MsiEndpoint];
});

/// The store of a URL, or `None` if no store is named by its scheme.
pub(super) fn store_at(
    format: &str,
    location: &str,
    options: &Options,
) -> Option<Result<Store, SettingError>> {
    let build = match location.split_once("://")?.0 {
        "s3" | "s3a" => build::<AmazonS3Builder>,
        "gs" => build::<GoogleCloudStorageBuilder>,
        "az" | "azure" | "adl" | "abfs" | "abfss" => build::<MicrosoftAzureBuilder>,
        _ => return None,
    };
    let place = place(location);
    let place = place
        .map_err(|message| SettingError { key: vec![format.into(), "location".into()], message });
    Some(place.and_then(|url| {
        let objects = build(&url, options)?;
        Ok(Store { objects, url, deadline: DEADLINE })
    }))
}

/// The location as a URL that ends in `/`. Messages show nothing of it that may be a secret.
fn place(location: &str) -> Result<Url, String> {
    let mut url = Url::parse(location).map_err(|e| format!("the location is no URL: {e}"))?;
    // Azure's `abfss://container@account` has a user's place, and no password.
    let is_container = matches!(url.scheme(), "az" | "abfs" | "abfss");
    if url.password().is_some() || (!url.username().is_empty() && !is_container) {
        return Err("a location must not hold credentials; they are options of the store".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a location has no `?` and no `#`; what a store needs are its options".into());
    }
    if url.host_str().is_none_or(str::is_empty) {
        let scheme = url.scheme();
        return Err(format!(
            "`{location}` names no bucket or container: `{scheme}://name/prefix` is allowed"
        ));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn build<B: Builder>(
    location: &Url,
    options: &Options,
) -> Result<Arc<dyn ObjectStore>, SettingError> {
    let refused = |option: &str, message| SettingError {
        key: vec!["storage".into(), option.into()],
        message,
    };
    let (mut builder, mut client) = (B::from_environment(), client::<B>());
    for (option, value) in options {
        let key: B::Key = option.parse().map_err(|_| {
            refused(
                option,
                format!("unknown option of {}; the usual ones are {}", B::KIND, B::USUAL),
            )
        })?;
        if key == B::PLACE {
            return Err(refused(option, "the location names the bucket or container".into()));
        }
        if B::ENDPOINTS.contains(&key) && holds_credentials(value.expose()) {
            return Err(refused(
                option,
                "a URL must not hold credentials; they are options of their own".into(),
            ));
        }
        match B::client_key(&key) {
            Some(key) => client = client.with_config(key, value.expose()),
            None => builder = builder.with(key, value.expose()),
        }
    }
    let failed = |message| SettingError { key: vec!["storage".into()], message };
    let mut endpoints = B::ENDPOINTS.iter().filter_map(|key| builder.value(key));
    if endpoints.any(|endpoint| holds_credentials(&endpoint)) {
        let prefix = B::PREFIX;
        return Err(failed(format!(
            "a URL in the environment ({prefix}*) must not hold credentials"
        )));
    }
    drop(endpoints);
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
    };
    let built = builder.store(location.as_str(), client, retry);
    built.map_err(|error| failed(masked(&error.to_string(), options)))
}

/// How to talk to a store: our time-outs, and what the environment says.
fn client<B: Builder>() -> ClientOptions {
    let ours =
        ClientOptions::new().with_timeout(REQUEST_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
    let names = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    names.filter(|(name, _)| name.starts_with(B::PREFIX)).fold(ours, |client, (name, value)| {
        let key = name.to_ascii_lowercase().parse::<B::Key>().ok();
        match key.and_then(|key| B::client_key(&key)) {
            Some(key) => client.with_config(key, value),
            None => client,
        }
    })
}

/// True for a URL with a user's name or password, also for one that is not quite a URL.
fn holds_credentials(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

/// A message without the values of options.
fn masked(message: &str, options: &Options) -> String {
    let values = options.values().map(Secret::expose).filter(|value| !value.is_empty());
    values.fold(message.to_owned(), |message, value| message.replace(value.as_str(), "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| (k.to_string(), Secret::new(v.to_string()))).collect()
    }

    fn store(location: &str, pairs: &[(&str, &str)]) -> Result<Store, SettingError> {
        super::super::store_at("delta", location, &options(pairs))
    }

    /// Each store with the options that it cannot do without.
    const S3: &[(&str, &str)] = &[
        ("aws_region", "eu-west-1"),
        ("aws_access_key_id", "k"),
        ("aws_secret_access_key", "hunter2"),
    ];
    const GCS: &[(&str, &str)] = &[("google_service_account_key", SERVICE_ACCOUNT)];
    const SERVICE_ACCOUNT: &str = r#"{"private_key": "hunter2", "private_key_id": "hunter2", "client_email": "", "disable_oauth": true}"#;
    const AZURE: &[(&str, &str)] =
        &[("azure_storage_account_name", "lake"), ("azure_storage_account_key", "aHVudGVyMg==")];
    const AZURE_KEY: &[(&str, &str)] = &[("azure_storage_account_key", "aHVudGVyMg==")];

    #[track_caller]
    fn check(location: &str, pairs: &[(&str, &str)], url: &str, shown: &str) {
        let store = store(location, pairs).unwrap();
        assert_eq!((store.url.as_str(), store.objects.to_string().as_str()), (url, shown));
        let debug = format!("{store:?}");
        assert!(!debug.contains("hunter2") && !debug.contains("aHVudGVyMg"), "{debug}");
    }

    #[test]
    fn a_location_names_a_bucket_or_container_and_a_prefix() {
        check("s3://lake/bronze", S3, "s3://lake/bronze/", "AmazonS3(lake)");
        check("s3a://lake", S3, "s3a://lake/", "AmazonS3(lake)");
        check("gs://lake/bronze/", GCS, "gs://lake/bronze/", "GoogleCloudStorage(lake)");
        let azure = "MicrosoftAzure { account: lake, container: bronze }";
        for scheme in ["az", "azure", "adl", "abfs", "abfss"] {
            let location = format!("{scheme}://bronze/orders");
            check(&location, AZURE, &format!("{location}/"), azure);
        }
        let location = "abfss://bronze@lake.dfs.core.windows.net/orders";
        check(location, AZURE_KEY, &format!("{location}/"), azure);
    }

    #[track_caller]
    fn check_refused(location: &str, pairs: &[(&str, &str)], key: &[&str], part: &str) {
        let error = store(location, pairs).unwrap_err();
        assert_eq!(error.key, key, "{}", error.message);
        assert!(error.message.contains(part), "{}", error.message);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn a_location_holds_no_credentials_and_names_a_place() {
        let at: &[&str] = &["delta", "location"];
        check_refused("s3://key:hunter2@lake/x", S3, at, "must not hold credentials");
        check_refused("s3://hunter2@lake/x", S3, at, "must not hold credentials");
        check_refused("gs://hunter2@lake/x", GCS, at, "must not hold credentials");
        let location = "abfss://c:hunter2@lake.dfs.core.windows.net/x";
        check_refused(location, AZURE_KEY, at, "must not hold credentials");
        check_refused("az://c/x?sv=1&sig=hunter2", AZURE, at, "no `?`");
        check_refused("s3://lake/x#1", S3, at, "no `#`");
        check_refused("s3:///x", S3, at, "names no bucket");
        check_refused("az:///x", AZURE, at, "`az://name/prefix`");
        check_refused("s3://hunter2:x/y", S3, at, "no URL");
    }

    #[test]
    fn an_unknown_option_is_refused_and_the_usual_ones_are_named() {
        let with = |pairs: &[(&'static str, &'static str)], option| {
            pairs.iter().copied().chain([(option, "hunter2")]).collect::<Vec<_>>()
        };
        let check = |location, pairs, option: &'static str, part| {
            check_refused(location, &with(pairs, option), &["storage", option], part);
        };
        check("s3://lake/x", S3, "aws_regoin", "aws_region, aws_endpoint");
        check("gs://lake/x", GCS, "aws_region", "google_service_account");
        check("az://lake/x", AZURE, "azure_account", "azure_storage_account_name");
        check("s3://lake/x", S3, "bucket", "the location names");
        check("gs://lake/x", GCS, "google_bucket", "the location names");
        check("az://lake/x", AZURE, "container_name", "the location names");
    }

    #[test]
    fn no_value_of_an_option_is_shown() {
        let check = |location, option: &'static str, value, key: &[&str]| {
            let pairs = [(option, value), ("azure_storage_account_name", "lake")];
            let pairs = if location == "az://lake/x" { &pairs[..] } else { &pairs[..1] };
            check_refused(location, pairs, key, "");
        };
        let url = "http://key:hunter2@127.0.0.1:9000";
        check("s3://lake/x", "aws_endpoint", url, &["storage", "aws_endpoint"]);
        check("s3://lake/x", "aws_endpoint_url_s3", url, &["storage", "aws_endpoint_url_s3"]);
        check("s3://lake/x", "aws_endpoint", "hunter2@[", &["storage", "aws_endpoint"]);
        check("s3://lake/x", "aws_allow_http", "hunter2", &["storage"]);
        check("s3://lake/x", "proxy_url", "http://hunter2@[/", &["storage"]);
        check("gs://lake/x", "google_base_url", url, &["storage", "google_base_url"]);
        check("gs://lake/x", "google_service_account_key", "hunter2", &["storage"]);
        check("gs://lake/x", "google_service_account", "/hunter2", &["storage"]);
        check("az://lake/x", "azure_storage_endpoint", url, &["storage", "azure_storage_endpoint"]);
        check("az://lake/x", "azure_storage_account_key", "hunter2!", &["storage"]);
        check("az://lake/x", "azure_storage_sas_key", "hunter2", &["storage"]);
    }
}
