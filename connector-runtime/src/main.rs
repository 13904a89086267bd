//! The composition root: the only file of the engine that names concrete connectors.

use std::process::ExitCode;
use std::sync::Arc;

use connector_runtime::config::Registry;
use connectors::decode::JsonFactory;
use connectors::delta::DeltaFactory;
use connectors::parquet::ParquetFactory;

fn main() -> ExitCode {
    let registry = Registry {
        sinks: vec![Arc::new(DeltaFactory), Arc::new(ParquetFactory)],
        decoders: vec![Arc::new(JsonFactory)],
    };
    connector_runtime::cli::main(&registry)
}
