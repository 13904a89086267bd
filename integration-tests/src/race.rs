//! Many writers at one store: what commits rest on, put to the test.

use std::sync::Arc;

use connectors::store::Store;
use futures::future::try_join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, UpdateVersion};
use tokio::sync::Barrier;

use crate::client::client;
use crate::location::Location;

const WRITERS: usize = 16;

/// Lets all writers create each of many keys at once, each by a client of its own. Fails unless each key has one
/// winner, whose content it keeps, and all others were told that they are late.
pub async fn assert_one_winner_for_each_key(location: &Location, keys: usize) {
    let start = Arc::new(Barrier::new(WRITERS));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, start) = (client(location), start.clone());
            tokio::spawn(async move {
                let mut won = Vec::new();
                for key in 0..keys {
                    start.wait().await;
                    if create(&store, key, writer).await {
                        won.push(key);
                    }
                }
                won
            })
        })
        .collect();
    let mut winners = vec![Vec::new(); keys];
    // All at once: who fails leaves the others waiting.
    for (writer, won) in try_join_all(writers).await.unwrap().into_iter().enumerate() {
        won.into_iter().for_each(|key| winners[key].push(writer));
    }
    let store = client(location);
    for (key, winners) in winners.iter().enumerate() {
        let [winner] = winners[..] else { panic!("key {key} was created by {winners:?}") };
        let (found, _) = get(&store, &key_path(&store, key)).await;
        assert_eq!(found, content(writer_name(winner)), "key {key}");
    }
    let most = (0..WRITERS).map(|writer| winners.iter().filter(|won| won[0] == writer).count());
    // One writer that wins everything has not been raced.
    assert!(most.clone().max() < Some(keys), "wins: {:?}", most.collect::<Vec<_>>());
}

async fn create(store: &Store, key: usize, writer: usize) -> bool {
    let content = content(writer_name(writer)).into();
    let path = key_path(store, key);
    match store.objects.put_opts(&path, content, PutMode::Create.into()).await {
        Ok(_) => true,
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => false,
        Err(error) => panic!("creating key {key}: {error}"),
    }
}

fn key_path(store: &Store, key: usize) -> Path {
    store.object(&format!("race/key-{key}"))
}

fn writer_name(writer: usize) -> String {
    format!("writer {writer}")
}

/// More than a name, so that a mixture of two would show.
fn content(name: String) -> String {
    name.repeat(50)
}

/// Lets all writers count in one object, each by a client of its own, replacing the version that it has read. Fails
/// if a count is lost.
pub async fn assert_no_count_is_lost(location: &Location, times: usize) {
    let store = client(location);
    let path = store.object("race/counter");
    store.objects.put_opts(&path, "0".into(), PutMode::Create.into()).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (store, path) = (client(location), path.clone());
            tokio::spawn(async move {
                for _ in 0..times {
                    while !increment(&store, &path).await {}
                }
            })
        })
        .collect();
    try_join_all(writers).await.unwrap();
    let (count, _) = get(&store, &path).await;
    assert_eq!(count, (WRITERS * times).to_string());
}

/// False if another was first.
async fn increment(store: &Store, path: &Path) -> bool {
    let (count, version) = get(store, path).await;
    let next = (count.parse::<usize>().unwrap() + 1).to_string();
    let put = store.objects.put_opts(path, next.into(), PutMode::Update(version).into());
    match put.await {
        Ok(_) => true,
        Err(Error::Precondition { .. }) => false,
        Err(error) => panic!("counting: {error}"),
    }
}

async fn get(store: &Store, path: &Path) -> (String, UpdateVersion) {
    let got = store.objects.get(path).await.unwrap();
    let version =
        UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
    (String::from_utf8(got.bytes().await.unwrap().to_vec()).unwrap(), version)
}
