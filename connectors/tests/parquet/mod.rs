//! The Parquet sink, in memory and on local disk, through a store that misbehaves on demand.

mod place;

use connector_api::contract::{Round, commit, created, fingerprint, topic_partition};
use place::Place;

mod in_memory {
    use super::Place;

    connector_api::sink_contract!(Place::in_memory());
}
