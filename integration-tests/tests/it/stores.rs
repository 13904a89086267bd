//! What commits rest on in each store, by Alluvium's own clients: of sixteen writers that create one name at
//! once, one wins, and an object that was read is replaced only if it is still that version. The conditions are
//! kept by the store, or by the emulator that stands for it; these tests prove the pair.

use connectors::store::probe::{Conditions, check_conditional_writes};
use integration_tests::case;
use integration_tests::client::client;
use integration_tests::location::Location;
use integration_tests::race::{assert_no_count_is_lost, assert_one_winner_for_each_key};

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
