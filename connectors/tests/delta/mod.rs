//! The Delta sink, on local disk and through a store that misbehaves on demand.

mod faults;
mod log;
mod place;

use place::Place;

connector_api::sink_contract!(Place::new());
