//! The Delta sink, on local disk and through a store that misbehaves on demand.

mod ambiguous;
mod files;
mod foreign;
mod log;
mod place;
mod refused;
mod reset;
mod upkeep;

use connector_api::contract::{Round, commit, created, fingerprint, topic_partition};
use place::Place;

use crate::faults::life::{each_request_fails_once, listings_lag};

connector_api::sink_contract!(Place::new());

/// What one commit writes into the log, as people and other programs read it there.
#[tokio::test(flavor = "multi_thread")]
async fn cf_1_a_commit_carries_its_token_fingerprint_and_offsets() {
    let place = Place::new();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(3, 5, 9)).await;
    let log = place.log();
    let entry = &log.versions[1];
    let info = &entry.iter().find_map(|action| action.get("commitInfo")).unwrap();
    let parameters = &info["operationParameters"];
    assert_eq!(parameters["alluvium.token"], "t-1");
    assert_eq!(parameters["alluvium.fingerprint"], fingerprint("t-1"));
    assert_eq!(parameters["alluvium.connector"], "contract");
    assert_eq!(parameters["alluvium.consumed"], "4");
    assert_eq!(info["operation"], "STREAMING UPDATE");
    assert_eq!(info["isBlindAppend"], true);
    let engine = info["engineInfo"].as_str().unwrap();
    assert!(engine.contains("Alluvium/"), "{engine}");
    let identity = topic_partition(3).identity(&connector_api::contract::connector());
    assert_eq!(identity, "contract/orders@AAAAAAAAAAAAAAAAAAAAAQ/3");
    assert_eq!(log.txn(&identity), Some(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_to_a_disk_may_fail_once() {
    each_request_fails_once(Place::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_may_lag() {
    assert_ne!(listings_lag(Place::new).await, 0);
}
