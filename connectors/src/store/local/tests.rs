use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use tempfile::TempDir;

use super::*;

/// A folder, reached by stores of their own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> Path {
        Path::from_absolute_path(self.0.path().join(name)).unwrap()
    }

    /// All names in a folder, those that listings skip too.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

async fn text(store: &LocalDisk, path: &Path) -> String {
    String::from_utf8(store.get(path).await.unwrap().bytes().await.unwrap().to_vec()).unwrap()
}

async fn version(store: &LocalDisk, path: &Path) -> UpdateVersion {
    let meta = store.head(path).await.unwrap();
    UpdateVersion { e_tag: meta.e_tag, version: meta.version }
}

async fn put(store: &LocalDisk, path: &Path, text: &str, mode: PutMode) -> Result<UpdateVersion> {
    let put = store.put_opts(path, text.to_owned().into(), mode.into()).await;
    put.map(UpdateVersion::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_writers_creates_a_key() {
    const KEYS: usize = 100;
    let place = Place::new();
    let folder = place.path("race");
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let folder = folder.clone();
            tokio::spawn(async move {
                let store = LocalDisk::default();
                let mut won = BTreeSet::new();
                for key in 0..KEYS {
                    let path = folder.clone().join(format!("key-{key}"));
                    match put(&store, &path, &format!("writer {writer}"), PutMode::Create).await {
                        Ok(_) => won.insert(key),
                        Err(Error::AlreadyExists { .. }) => false,
                        Err(error) => panic!("{error}"),
                    };
                }
                won
            })
        })
        .collect();
    let store = LocalDisk::default();
    let mut winners = vec![Vec::new(); KEYS];
    for (writer, won) in writers.into_iter().enumerate() {
        won.await.unwrap().into_iter().for_each(|key| winners[key].push(writer));
    }
    for (key, winners) in winners.iter().enumerate() {
        let [winner] = winners[..] else { panic!("key {key} was created by {winners:?}") };
        let found = text(&store, &folder.clone().join(format!("key-{key}"))).await;
        assert_eq!(found, format!("writer {winner}"));
    }
    assert_eq!(place.names("race").len(), KEYS, "temporary files were left");
}

/// Adds one, by a store of its own, until nobody else was first.
async fn increment(path: &Path) {
    let store = LocalDisk::default();
    loop {
        let got = store.get(path).await.unwrap();
        let version =
            UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let count: u32 = str::from_utf8(&got.bytes().await.unwrap()).unwrap().parse().unwrap();
        match put(&store, path, &format!("{:08}", count + 1), PutMode::Update(version)).await {
            Ok(_) => return,
            Err(Error::Precondition { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_among_many_writers() {
    let place = Place::new();
    let path = place.path("counter");
    put(&LocalDisk::default(), &path, "00000000", PutMode::Create).await.unwrap();
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    increment(&path).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(text(&LocalDisk::default(), &path).await, "00000800");
    assert_eq!(place.names(""), [LOCK, "counter"]);
}

#[tokio::test]
async fn an_update_with_an_outdated_tag_is_refused() {
    let place = Place::new();
    let (store, path) = (LocalDisk::default(), place.path("object"));
    let first = put(&store, &path, "1", PutMode::Create).await.unwrap();
    let second = put(&store, &path, "2", PutMode::Update(first.clone())).await.unwrap();
    let absent = UpdateVersion { e_tag: None, version: None };
    for outdated in [first, absent] {
        let refused = put(&store, &path, "3", PutMode::Update(outdated)).await;
        assert!(matches!(refused, Err(Error::Precondition { .. })), "{refused:?}");
        assert_eq!(text(&store, &path).await, "2");
    }
    let missing = put(&store, &place.path("missing"), "3", PutMode::Update(second)).await;
    assert!(matches!(missing, Err(Error::Precondition { .. })), "{missing:?}");
    assert_eq!(place.names(""), [LOCK, "object"]);
}

/// The system's clock may turn seldom or go back, and inodes are used again: only the time tells these
/// versions apart.
#[tokio::test]
async fn each_version_of_an_object_is_newer_than_the_one_before() {
    let place = Place::new();
    let (store, path) = (LocalDisk::default(), place.path("object"));
    put(&store, &path, "0", PutMode::Create).await.unwrap();
    let file = File::options().write(true).open(place.0.path().join("object")).unwrap();
    let ahead = file.metadata().unwrap().modified().unwrap() + Duration::from_secs(3600);
    file.set_modified(ahead).unwrap();
    let mut last = store.head(&path).await.unwrap();
    for round in 0..100 {
        let version = UpdateVersion { e_tag: last.e_tag.clone(), version: None };
        let mode = if round % 2 == 0 { PutMode::Update(version) } else { PutMode::Overwrite };
        let put = put(&store, &path, &(round % 10).to_string(), mode).await.unwrap();
        let next = store.head(&path).await.unwrap();
        assert_eq!(put.e_tag, next.e_tag);
        assert!(next.last_modified > last.last_modified, "round {round}");
        last = next;
    }
}

#[tokio::test]
async fn each_way_of_writing_tells_the_tag_that_a_look_finds() {
    let place = Place::new();
    let (store, path) = (LocalDisk::default(), place.path("deep/er/object"));
    let created = put(&store, &path, "1", PutMode::Create).await.unwrap();
    assert_eq!(created, version(&store, &path).await);
    let updated = put(&store, &path, "22", PutMode::Update(created)).await.unwrap();
    assert_eq!(updated, version(&store, &path).await);
    let overwritten = put(&store, &path, "333", PutMode::Overwrite).await.unwrap();
    assert_eq!(overwritten, version(&store, &path).await);
    let mut upload = store.put_multipart(&path).await.unwrap();
    upload.put_part("4".into()).await.unwrap();
    let uploaded = upload.complete().await.unwrap().into();
    assert_eq!(version(&store, &path).await, uploaded);
}

#[tokio::test]
async fn an_upload_is_its_parts_in_order_or_nothing() {
    let place = Place::new();
    let (store, path) = (LocalDisk::default(), place.path("folder/object"));
    let mut upload = store.put_multipart(&path).await.unwrap();
    let (first, second) = (upload.put_part("one ".into()), upload.put_part("two".into()));
    second.await.unwrap();
    first.await.unwrap();
    assert!(store.head(&path).await.is_err(), "nothing is there before the end");
    upload.complete().await.unwrap();
    assert_eq!(text(&store, &path).await, "one two");

    for end in ["abort", "drop", "complete without a part"] {
        let mut upload = store.put_multipart(&path).await.unwrap();
        drop(upload.put_part("lost".into()));
        match end {
            "abort" => upload.abort().await.unwrap(),
            "drop" => drop(upload),
            _ => assert!(upload.complete().await.is_err(), "a part is missing"),
        }
        assert_eq!(text(&store, &path).await, "one two", "{end}");
    }
    assert_eq!(place.names("folder"), ["object"]);
}

#[tokio::test]
async fn copies_and_renames_overwrite_or_do_not_as_they_are_told() {
    let place = Place::new();
    let store = LocalDisk::default();
    let (a, b, c) = (place.path("a"), place.path("x/b"), place.path("y/c"));
    put(&store, &a, "a", PutMode::Create).await.unwrap();
    store.copy(&a, &b).await.unwrap();
    store.copy(&a, &b).await.unwrap();
    let refused = store.copy_if_not_exists(&a, &b).await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    assert_ne!(version(&store, &a).await, version(&store, &b).await);
    store.rename(&b, &c).await.unwrap();
    put(&store, &b, "b", PutMode::Create).await.unwrap();
    let refused = store.rename_if_not_exists(&b, &c).await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    assert_eq!(text(&store, &c).await, "a");
    store.rename(&b, &c).await.unwrap();
    assert_eq!(text(&store, &c).await, "b");
    let missing = store.copy(&b, &c).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    assert_eq!(
        (place.names("x"), place.names("y")),
        (vec![LOCK.to_owned()], vec![LOCK.to_owned(), "c".to_owned()])
    );
}

#[tokio::test]
async fn a_failed_write_leaves_no_file_and_says_why() {
    let place = Place::new();
    let store = LocalDisk::default();
    fs::create_dir(place.0.path().join("taken")).unwrap();
    let error = put(&store, &place.path("taken"), "x", PutMode::Overwrite).await.unwrap_err();
    assert!(error.to_string().contains("cannot rename"), "{error}");
    fs::write(place.0.path().join("file"), "x").unwrap();
    let error = put(&store, &place.path("file/x"), "x", PutMode::Create).await.unwrap_err();
    assert!(super::super::is_refusal(&error), "{error}");
    assert_eq!(place.names(""), [LOCK, "file", "taken"]);
}

#[tokio::test]
async fn listings_skip_temporary_files_and_the_lock() {
    let place = Place::new();
    let (store, path) = (LocalDisk::default(), place.path("object"));
    put(&store, &path, "1", PutMode::Create).await.unwrap();
    put(&store, &path, "2", PutMode::Overwrite).await.unwrap();
    let upload = store.put_multipart(&place.path("other")).await.unwrap();
    assert_eq!(place.names("").len(), 3);
    let prefix = Path::from_absolute_path(place.0.path()).unwrap();
    let listed: Vec<_> = store.list(Some(&prefix)).try_collect().await.unwrap();
    let shallow = store.list_with_delimiter(Some(&prefix)).await.unwrap().objects;
    for found in [listed, shallow] {
        let [found] = &found[..] else { panic!("{found:?}") };
        assert_eq!(found.location, path);
    }
    drop(upload);
}

/// As a writer in another process would: it has its own open file.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_waits_for_whoever_holds_the_lock() {
    let place = Place::new();
    let path = place.path("object");
    let store = Arc::new(LocalDisk::default());
    let first = put(&store, &path, "1", PutMode::Create).await.unwrap();
    let held = Lock::of(place.0.path()).unwrap();
    let (theirs, at) = (store.clone(), path.clone());
    let update = tokio::spawn(async move { put(&theirs, &at, "2", PutMode::Update(first)).await });
    let free = File::open(place.0.path().join(LOCK)).unwrap();
    assert!(matches!(free.try_lock(), Err(fs::TryLockError::WouldBlock)));
    fs::write(place.0.path().join("object"), "changed").unwrap();
    drop(held);
    let refused = update.await.unwrap();
    assert!(matches!(refused, Err(Error::Precondition { .. })), "{refused:?}");
    assert_eq!(text(&store, &path).await, "changed");
}
