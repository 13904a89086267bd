//! The Parquet sink, in memory and on local disk, through a store that misbehaves on demand.

mod ambiguous;
mod files;
mod ledger;
mod place;
mod publishing;

use place::Place;

use crate::faults::life::{each_request_fails_once, listings_lag};

mod in_memory {
    use super::Place;

    connector_api::sink_contract!(Place::in_memory());
}

mod on_disk {
    use super::Place;

    connector_api::sink_contract!(Place::on_disk());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_to_a_bucket_may_fail_once() {
    each_request_fails_once(Place::in_memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_to_a_disk_may_fail_once() {
    each_request_fails_once(Place::on_disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_may_lag() {
    // The ledger is read by its name: no listing says where a table stands.
    assert_eq!(listings_lag(Place::in_memory).await, 0);
}
