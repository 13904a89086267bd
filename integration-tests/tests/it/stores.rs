//! What commits rest on in each store, by Alluvium's own clients: of sixteen writers that create one name at
//! once, one wins, and an object that was read is replaced only if it is still that version. The conditions are
//! kept by the store, or by the emulator that stands for it; these tests prove the pair.

use connectors::store::probe::{Conditions, check_conditional_writes};
use integration_tests::case;
use integration_tests::ceph::Ceph;
use integration_tests::client::{client, download};
use integration_tests::connector::Connector;
use integration_tests::datasets::{FLIGHT_COLUMNS, flights};
use integration_tests::gcs_stub::GcsStub;
use integration_tests::location::Location;
use integration_tests::producer::{produce, round_robin};
use integration_tests::race::{assert_no_count_is_lost, assert_one_winner_for_each_key};
use integration_tests::reader;
use integration_tests::verifier::assert_equal;
use integration_tests::worker::run_until_end;

use crate::PATIENCE;

const KEYS: usize = 1_000;
const COUNTS: usize = 20;

async fn check(location: Location) {
    let store = client(&location);
    check_conditional_writes(&store, Conditions::CreateAndUpdate).await.unwrap();
    assert_one_winner_for_each_key(&location, KEYS).await;
    assert_no_count_is_lost(&location, COUNTS).await;
}

/// Links of our own on the file system of the machine that runs the tests, and the lock of a folder.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_writers_wins_on_local_disk() {
    check(case!().local_table()).await;
}

/// ministack, by `If-None-Match: *` and `If-Match`. What Amazon answers under a race is not proven by it.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_writers_wins_in_the_s3_emulator() {
    check(case!().s3_table()).await;
}

/// Azurite, by `If-None-Match: *` and `If-Match`, with signed requests.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_writers_wins_in_the_azure_emulator() {
    check(case!().azure_table()).await;
}

/// Ceph's gateway, where it is installed; nothing is tested elsewhere. Version 16 compares `If-Match` with an ETag
/// without its quotes, so no swap ever succeeds there: it carries Delta tables, and is refused for Parquet.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_writers_wins_in_ceph_where_it_is_installed() {
    let Some(ceph) = Ceph::start_if_installed() else {
        eprintln!(
            "skipped: Ceph is not installed here (Debian's ceph-mon, ceph-osd, radosgw, ceph-common)"
        );
        return;
    };
    let location = ceph.table("table");
    check_conditional_writes(&client(&location), Conditions::Create).await.unwrap();
    assert_one_winner_for_each_key(&location, KEYS).await;
    let swaps = check_conditional_writes(&client(&location), Conditions::CreateAndUpdate).await;
    println!("{}: swaps: {swaps:?}", ceph.version);
    match swaps {
        Ok(()) => assert_no_count_is_lost(&location, COUNTS).await,
        Err(refused) => {
            assert!(ceph.version.contains(" 16."), "{}: {refused}", ceph.version);
        }
    }
}

fn in_stub(stub: GcsStub) -> Location {
    Location::Gcs { uri: "gs://lake/bronze/table".into(), endpoint: stub.endpoint }
}

/// A stub of Google Cloud Storage. It proves that our client sends `x-goog-if-generation-match` and understands the
/// answers, and nothing about the service.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_writers_wins_in_the_google_stub() {
    check(in_stub(GcsStub::start())).await;
}

/// Over HTTP, as by a gateway that drops the header.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_behind_http_that_drops_conditions_is_refused() {
    let store = client(&in_stub(GcsStub::start_without_conditions()));
    let refused = check_conditional_writes(&store, Conditions::Create).await.unwrap_err();
    assert!(refused.to_string().contains("a second create was accepted"), "{refused}");
}

/// The readers of these tests cannot get into Azure: they read a copy of all objects. The store's client is ours on
/// both ways.
#[tokio::test(flavor = "multi_thread")]
async fn flights_arrive_in_azure_once() {
    let case = case!();
    let produced = produce(&case.topic(4), round_robin(4, flights().take(20_000)));
    let table = case.azure_table();
    let mut connector = Connector::new(&case.unique("flights"), &produced.topic, &table);
    connector.columns = Some(FLIGHT_COLUMNS);
    let config = connector.write(&case);

    run_until_end(&case, &config).start().wait(PATIENCE).assert_code(0);
    let copy = download(&table, &case.folder.join("copy")).await;
    assert_equal(&case, &[&produced], &copy, FLIGHT_COLUMNS);
    let versions = reader::versions(&copy);
    run_until_end(&case, &config).start().wait(PATIENCE).assert_code(0);
    let copy = download(&table, &case.folder.join("second-copy")).await;
    assert_eq!(reader::versions(&copy), versions, "versions after a run that had nothing to do");
}
