//! `alluvium maintain`: the upkeep of tables, once, beside running workers or without any.

use std::path::PathBuf;
use std::sync::Arc;

use connector_api::ids::ConnectorName;
use connector_api::sink::Sink;
use connector_api::{Context, Error, Result};

use crate::config::{ConnectorPlan, OnBadRecord};

/// What a user may ask.
#[derive(Debug, clap::Args)]
#[command(
    about = "Does what is due for the health of the tables, once",
    long_about = "Does what is due for the health of the tables and their dead letters, once, and says what was done.\n\n\
        Running workers do the same now and then. Delta: a log checkpoint, if the last one is many versions back. \
        Both formats: files of dropped rounds are removed once they are three days old, after the table was told that no \
        commit may name them any more. In a Delta table those that nobody removed within six days are left to the VACUUM of \
        the engine that you query it with: they may have been part of a version that the log no longer tells of.",
    after_long_help = "Examples:\n  \
        alluvium maintain clicks.yaml\n  \
        alluvium maintain connectors/"
)]
pub struct MaintainArgs {
    /// Connector files, or folders of them (*.yaml, *.yml)
    #[arg(value_name = "FILE_OR_DIR", required = true)]
    pub paths: Vec<PathBuf>,
}

/// Looks after the tables of connectors. One that fails does not stand in the way of the others:
/// its error comes back.
pub async fn run(plans: Vec<ConnectorPlan>) -> Vec<Error> {
    let mut errors = Vec::new();
    for plan in plans {
        let mut tables = vec![plan.table.sink.clone()];
        if let OnBadRecord::DeadLetter(dead_letters) = &plan.on_bad_record {
            tables.push(dead_letters.clone());
        }
        for table in tables {
            let doing = || format!("connector `{}`: `{}`", plan.name, table.location());
            match maintain(&plan.name, &table).await.context(doing) {
                Ok(done) => println!("{}: {}: {done}", plan.name, table.location()),
                Err(error) => errors.push(error),
            }
        }
    }
    errors
}

async fn maintain(connector: &ConnectorName, table: &Arc<dyn Sink>) -> Result<String> {
    let Some(open) = table.open(connector).await? else { return Ok("no table yet".to_owned()) };
    let done = match open.maintenance {
        // Whatever version is the newest.
        Some(maintenance) => maintenance.reconcile(u64::MAX).await?,
        None => None,
    };
    Ok(done.unwrap_or_else(|| "nothing was due".to_owned()))
}
