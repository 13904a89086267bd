//! The Parquet sink, in memory and on local disk, through a store that misbehaves on demand.

mod ambiguous;
mod files;
mod ledger;
mod place;
mod publishing;

use connector_api::contract::{Round, commit, created};
use connector_api::sink::OpenTable;
use connector_api::staged::StagedCommit;
use place::Place;

use crate::faults::each_request::each_request_fails_once;

mod in_memory {
    use super::Place;

    connector_api::sink_contract!(Place::in_memory());
}

mod on_disk {
    use super::Place;

    connector_api::sink_contract!(Place::on_disk());
}

/// A table with offsets `[0, 10)`, and a staged commit of `[10, 20)`.
async fn staged(place: &Place) -> (OpenTable, StagedCommit) {
    let mut table = created(place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let next = Round::new("t-2").range(0, 10, 20).staged(&table).await;
    (table, next)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_to_a_bucket_may_fail_once() {
    each_request_fails_once(Place::in_memory, |place| place.faults.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_to_a_disk_may_fail_once() {
    each_request_fails_once(Place::on_disk, |place| place.faults.clone()).await;
}
