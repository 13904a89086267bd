//! Whether a store keeps its conditions, tried where the table is.
//!
//! Commits rest on one of many writers creating an object, or replacing the version that it has read.
//! Some stores take such a request, ignore its condition and answer as if they had kept it; nothing but a try
//! tells.
//!
//! | the store answers a write whose condition does not hold | we say |
//! |---|---|
//! | that it does not hold, and the object is what it was | good |
//! | anything else, and the object is another | refused: user error |
//! | that it was written | refused: user error |
//! | that it knows no such condition | refused: user error |
//! | with an outage or a lack of permission | as for any other request |

use connector_api::{Error, Result, Retry};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, UpdateVersion};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{Store, store_error};

/// The folder for objects of ours that are not the table's. Readers ignore names that begin so.
const FOLDER: &str = "_alluvium";

/// The conditions that a table's commits rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// An object is created only if there is none.
    Create,
    /// That, and an object is replaced only if it is the version that was read.
    CreateAndUpdate,
}

/// A check of a store that is made until it has succeeded once.
#[derive(Debug)]
pub(crate) struct CheckOnce {
    conditions: Conditions,
    done: OnceCell<()>,
}

impl CheckOnce {
    pub(crate) fn new(conditions: Conditions) -> Self {
        Self { conditions, done: OnceCell::new() }
    }

    pub(crate) async fn check(&self, store: &Store) -> Result<()> {
        let check = || check_conditional_writes(store, self.conditions);
        self.done.get_or_try_init(check).await.copied()
    }
}

/// Tries conditional writes in the table's location, by an object that is deleted afterwards.
///
/// # Errors
///
/// A user error without retry if the store does not keep a condition; what a store says to any other
/// request otherwise.
pub async fn check_conditional_writes(store: &Store, conditions: Conditions) -> Result<()> {
    let name = format!("{FOLDER}/probe-{}", Uuid::new_v4().simple());
    let probe = Probe { store, path: store.object(&name) };
    let checked = probe.check(conditions).await;
    if let Err(error) = clean(store, &probe.path).await {
        // A swapped ledger's files are moved, which takes the right to delete.
        if checked.is_ok() && conditions == Conditions::CreateAndUpdate {
            return Err(store_error(format!("`{name}` cannot be deleted again"), error));
        }
        tracing::warn!(location = %store.url, object = name, %error, "an object of ours was left behind");
    }
    checked
}

async fn clean(store: &Store, path: &Path) -> object_store::Result<()> {
    match store.answer(store.objects.delete(path)).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    // On local disk there is a folder too, and others may have files in it.
    if let Ok(root) = store.url.to_file_path() {
        _ = std::fs::remove_dir(root.join(FOLDER));
    }
    Ok(())
}

/// True for the path, below the table's root, of an object that a check may have left behind.
pub(crate) fn is_probe(path: &str) -> bool {
    let name = path.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix("/probe-"));
    name.is_some_and(|name| name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

struct Probe<'a> {
    store: &'a Store,
    path: Path,
}

/// A store's answer to a conditional write.
enum Answer {
    Written(UpdateVersion),
    /// The condition does not hold.
    Refused,
}

impl Probe<'_> {
    async fn check(&self, conditions: Conditions) -> Result<()> {
        let first = self.create_first().await?;
        self.expect_refusal("second create", PutMode::Create, "first").await?;
        if conditions == Conditions::Create {
            return Ok(());
        }
        match self.put("second", PutMode::Update(first.clone())).await? {
            Answer::Written(_) => {}
            // Our own retry after a lost answer finds the update done.
            Answer::Refused if self.content().await? == "second" => {}
            Answer::Refused => {
                return Err(self.lies("an update of the version at hand was refused"));
            }
        }
        self.expect_refusal(
            "update of a version that was replaced",
            PutMode::Update(first),
            "second",
        )
        .await
    }

    async fn create_first(&self) -> Result<UpdateVersion> {
        if let Answer::Written(version) = self.put("first", PutMode::Create).await? {
            return Ok(version);
        }
        // Our own retry after a lost answer finds the object there.
        let head = self.store.answer(self.store.objects.head(&self.path)).await;
        let head = head.map_err(|e| match e {
            object_store::Error::NotFound { .. } => Error::external(format!(
                "{}: a create was refused for a name that is free",
                self.doing()
            )),
            e => store_error(self.doing(), e),
        })?;
        Ok(UpdateVersion { e_tag: head.e_tag, version: head.version })
    }

    /// Makes a write whose condition does not hold, and looks whether it was done.
    async fn expect_refusal(&self, what: &str, mode: PutMode, content: &str) -> Result<()> {
        let answer = self.put("refused", mode).await?;
        let unchanged = self.content().await? == content;
        match answer {
            Answer::Refused if unchanged => Ok(()),
            Answer::Refused => {
                Err(self.lies(&format!("a {what} was refused and done all the same")))
            }
            Answer::Written(_) => Err(self.lies(&format!("a {what} was accepted"))),
        }
    }

    async fn put(&self, content: &'static str, mode: PutMode) -> Result<Answer> {
        use object_store::Error::{AlreadyExists, NotFound, NotImplemented, Precondition};
        let (put, is_update) = (content.into(), matches!(mode, PutMode::Update(_)));
        match self.store.answer(self.store.objects.put_opts(&self.path, put, mode.into())).await {
            Ok(put) => Ok(Answer::Written(put.into())),
            Err(AlreadyExists { .. } | Precondition { .. }) => Ok(Answer::Refused),
            // So S3 answers an update of what is not there.
            Err(NotFound { .. }) if is_update => Ok(Answer::Refused),
            Err(error @ NotImplemented { .. }) => {
                Err(self.lies("it knows no such condition").with_source(error))
            }
            Err(error) if error.to_string().contains("<Code>NotImplemented</Code>") => {
                Err(self.lies("it knows no such condition").with_source(error))
            }
            Err(error) => Err(store_error(self.doing(), error)),
        }
    }

    async fn content(&self) -> Result<String> {
        let got = async { self.store.objects.get(&self.path).await?.bytes().await };
        let content = self.store.answer(got).await.map_err(|e| store_error(self.doing(), e))?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    fn doing(&self) -> String {
        format!("failed to try conditional writes at `{}`", self.store.url)
    }

    fn lies(&self, what: &str) -> Error {
        Error::user(format!(
            "the store of `{}` does not keep the conditions of writes: {what} (`{}`); two workers could both win the \
             same commit, and records would be lost or doubled; use a store that keeps them (`If-None-Match` and \
             `If-Match` in S3), and no gateway that drops them",
            self.store.url, self.path,
        ))
        .with_retry(Retry::Never)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use connector_api::Fault;
    use futures::StreamExt;
    use futures::stream::BoxStream;
    use object_store::memory::InMemory;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
        PutMultipartOptions, PutOptions, PutPayload, PutResult,
    };

    use super::*;

    /// What is wrong with a store.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Wrong {
        Nothing,
        /// Conditions of creates are ignored.
        Create,
        /// Conditions of updates are ignored.
        Update,
        /// A create of what is there is refused, and done.
        DoneAndRefused,
        /// The first write is done, and its answer says that somebody was first.
        DoneAndExists,
        /// No name is free.
        AlwaysExists,
        /// It knows no conditional creates.
        NotImplemented,
        /// As an S3-compatible store says that.
        Status501,
        Outage,
        Denied,
    }

    #[derive(Debug)]
    struct Lying(InMemory, Wrong);

    impl fmt::Display for Lying {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Lying({:?})", self.1)
        }
    }

    fn generic(said: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: said.into() }
    }

    #[async_trait]
    impl ObjectStore for Lying {
        async fn put_opts(
            &self,
            path: &Path,
            payload: PutPayload,
            mut options: PutOptions,
        ) -> object_store::Result<PutResult> {
            let exists = || object_store::Error::AlreadyExists {
                path: path.to_string(),
                source: "injected".into(),
            };
            let create = options.mode == PutMode::Create;
            match self.1 {
                Wrong::Nothing => {}
                Wrong::Create if create => options.mode = PutMode::Overwrite,
                Wrong::Update if !create => options.mode = PutMode::Overwrite,
                Wrong::Create | Wrong::Update => {}
                Wrong::DoneAndRefused if create => {
                    let there = self.0.head(path).await.is_ok();
                    let put = self.0.put(path, payload).await?;
                    return if there { Err(exists()) } else { Ok(put) };
                }
                Wrong::DoneAndExists => {
                    self.0.put_opts(path, payload, options).await?;
                    return Err(exists());
                }
                Wrong::DoneAndRefused => {}
                Wrong::AlwaysExists => return Err(exists()),
                Wrong::NotImplemented => {
                    let (operation, implementer) = ("put_opts".into(), self.to_string());
                    return Err(object_store::Error::NotImplemented { operation, implementer });
                }
                Wrong::Status501 => return Err(generic("status 501: <Code>NotImplemented</Code>")),
                Wrong::Outage => return Err(generic("status 503: <Code>SlowDown</Code>")),
                Wrong::Denied => return Err(generic("status 403: <Code>AccessDenied</Code>")),
            }
            self.0.put_opts(path, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            path: &Path,
            options: PutMultipartOptions,
        ) -> object_store::Result<Box<dyn MultipartUpload>> {
            self.0.put_multipart_opts(path, options).await
        }

        async fn get_opts(
            &self,
            path: &Path,
            options: GetOptions,
        ) -> object_store::Result<GetResult> {
            self.0.get_opts(path, options).await
        }

        fn delete_stream(
            &self,
            paths: BoxStream<'static, object_store::Result<Path>>,
        ) -> BoxStream<'static, object_store::Result<Path>> {
            self.0.delete_stream(paths)
        }

        fn list(
            &self,
            prefix: Option<&Path>,
        ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
            self.0.list(prefix)
        }

        async fn list_with_delimiter(
            &self,
            prefix: Option<&Path>,
        ) -> object_store::Result<ListResult> {
            self.0.list_with_delimiter(prefix).await
        }

        async fn copy_opts(
            &self,
            from: &Path,
            to: &Path,
            options: CopyOptions,
        ) -> object_store::Result<()> {
            self.0.copy_opts(from, to, options).await
        }
    }

    async fn check(
        wrong: Wrong,
        conditions: Conditions,
        expected: Result<(), (Fault, Retry, &str)>,
    ) {
        let objects = Arc::new(Lying(InMemory::new(), wrong));
        let url = "s3://lake/bronze/orders/".parse().unwrap();
        let store = Store { objects: objects.clone(), url, deadline: Duration::from_secs(5) };
        let found = check_conditional_writes(&store, conditions).await;
        match (found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err((fault, retry, part))) => {
                assert_eq!((error.fault(), error.retry()), (fault, retry), "{wrong:?}: {error}");
                let told = error.to_string();
                assert!(told.contains(part), "{wrong:?}: {told}");
                assert!(told.contains("s3://lake/bronze/orders/"), "{wrong:?}: {told}");
            }
            (found, _) => panic!("{wrong:?} {conditions:?}: {found:?}"),
        }
        let left: Vec<_> = objects.list(None).collect().await;
        assert!(left.is_empty(), "{wrong:?}: {left:?}");
    }

    #[tokio::test]
    async fn a_store_that_keeps_its_conditions_is_taken() {
        use Conditions::{Create, CreateAndUpdate};
        check(Wrong::Nothing, Create, Ok(())).await;
        check(Wrong::Nothing, CreateAndUpdate, Ok(())).await;
        check(Wrong::DoneAndExists, Create, Ok(())).await;
        check(Wrong::Update, Create, Ok(())).await;
    }

    #[tokio::test]
    async fn a_store_that_lies_is_refused_and_an_outage_may_pass() {
        use Conditions::{Create, CreateAndUpdate};
        let refused = |part| Err((Fault::User, Retry::Never, part));
        check(Wrong::Create, Create, refused("a second create was accepted")).await;
        check(Wrong::DoneAndRefused, Create, refused("was refused and done all the same")).await;
        check(Wrong::Update, CreateAndUpdate, refused("that was replaced was accepted")).await;
        check(Wrong::NotImplemented, Create, refused("knows no such condition")).await;
        check(Wrong::Status501, Create, refused("two workers could both win")).await;
        let external = |part| Err((Fault::External, Retry::AfterBackoff, part));
        check(Wrong::AlwaysExists, Create, external("for a name that is free")).await;
        check(Wrong::Outage, Create, external("failed to try conditional writes")).await;
        let denied = Err((Fault::User, Retry::AfterBackoff, "failed to try conditional writes"));
        check(Wrong::Denied, Create, denied).await;
    }

    #[tokio::test]
    async fn local_disk_keeps_both_conditions_and_nothing_of_the_try() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("table");
        let store = super::super::store_at("delta", place.to_str().unwrap(), &[].into()).unwrap();
        check_conditional_writes(&store, Conditions::Create).await.unwrap();
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        check_conditional_writes(&store, Conditions::CreateAndUpdate).await.unwrap();
        let left: Vec<_> = store.objects.list(Some(&store.object(""))).collect().await;
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_probe_that_was_left_behind_is_known() {
        assert!(is_probe("_alluvium/probe-0123456789abcdef0123456789abcdef"));
        assert!(!is_probe("_alluvium/probe-0123456789abcdef.ledger.json"));
        assert!(!is_probe("_alluvium/table.json"));
        assert!(!is_probe("x/_alluvium/probe-0123456789abcdef0123456789abcdef"));
    }
}
