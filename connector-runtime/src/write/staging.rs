//! Brings finished files into the store, a few at once, and tries again when the store has trouble.

use std::time::Duration;

use connector_api::sink::TableWriter;
use connector_api::staged::StagedFile;
use connector_api::{Result, Retry};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{StreamExt, TryStreamExt, iter};

/// Files on their way at once.
const IN_FLIGHT: usize = 4;
/// Tries per file; the store's client repeats single requests besides.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Stages all files. On an error none of them is visible, and what was put is an orphan.
pub async fn stage_all(files: Vec<Box<dyn TableWriter>>) -> Result<Vec<StagedFile>> {
    let staging: Vec<BoxFuture<'static, Result<StagedFile>>> =
        files.into_iter().map(|file| stage(file).boxed()).collect();
    iter(staging).buffer_unordered(IN_FLIGHT).try_collect().await
}

async fn stage(mut file: Box<dyn TableWriter>) -> Result<StagedFile> {
    let mut tried = 0;
    loop {
        tried += 1;
        match file.stage().await {
            Ok(staged) => return Ok(staged),
            Err(error) if tried == TRIES || error.retry() == Retry::Never => return Err(error),
            Err(error) => {
                tracing::warn!(%error, tried, "a data file did not reach the store, trying again");
                tokio::time::sleep(PAUSE * 2u32.pow(tried - 1)).await;
            }
        }
    }
}
