//! Starting one connector: the table, the brokers, the group, the pipeline.

use std::sync::atomic::Ordering;

use connector_api::sink::OpenTable;
use connector_api::{Context, Error, Result};

use super::Running;
use crate::pipeline::table::decode_request;
use crate::pipeline::{Pipeline, PipelineSettings};
use crate::source::{Connected, Topics};

/// Runs a connector until it is drained, done or failed.
pub(super) async fn run(running: Running) -> Result<()> {
    let mut drain = running.drain.clone();
    let prepared = tokio::select! {
        biased;
        prepared = prepare(&running) => prepared,
        _ = drain.wait_for(|drain| *drain) => return Ok(()),
    };
    let Running {
        plan,
        outside,
        progress,
        drain,
        until_end,
        known_at_start,
        in_place,
        memory,
        cores,
        ..
    } = running;
    let doing = || format!("connector `{}`", plan.name);
    let (mut table, connected) = prepared.context(doing)?;
    let Connected { topics, witness, join } = connected;
    if until_end {
        if topics.is_empty() {
            return Err(Error::user(
                "no topic matches `topics_pattern`, so there is nothing to read",
            )
            .context(doing()));
        }
        let left = offsets_left(&mut table, &topics).await.context(doing)?;
        progress.to_cover.store(left, Ordering::Relaxed);
        if left == 0 {
            tracing::info!(connector = %plan.name, "the table holds everything already");
            return Ok(());
        }
    }
    if let Some(table) = &table {
        // Before the group is joined: who fails now leaves no member behind.
        decode_request(&plan, &table.schema.columns).context(doing)?;
    }
    let source = join().context(doing)?;
    let now_there = || topics.iter().map(|topic| topic.topic_partition.clone()).collect();
    let known_at_start = known_at_start.get_or_init(now_there).clone();
    let plan_of = plan.clone();
    let settings = PipelineSettings {
        plan: plan_of,
        run: (outside.new_run)(),
        clock: outside.clock,
        progress,
        drain,
        until_end,
        known_at_start,
        in_place,
        memory,
        cores,
    };
    Pipeline::new(settings, source, witness, table, &topics)
        .context(doing)?
        .run()
        .await
        .context(doing)
}

/// Opens the table and asks the brokers. Nothing has been promised to anybody yet, so it may be dropped.
async fn prepare(running: &Running) -> Result<(Option<OpenTable>, Connected)> {
    let Running { plan, outside, memory, .. } = running;
    let table = plan.table.sink.open(&plan.name).await?;
    Ok((table, outside.cluster.connect(plan, outside.clock.clone(), memory).await?))
}

/// How many offsets lie between the table and the ends of the logs.
async fn offsets_left(table: &mut Option<OpenTable>, topics: &Topics) -> Result<u64> {
    let stored = match table {
        Some(table) => table.committer.checkpoint().await?,
        None => Default::default(),
    };
    let left = topics.iter().map(|topic| {
        let from = stored.next(&topic.topic_partition).unwrap_or(topic.log_start);
        // A table that is ahead of the log is looked into when the group assigns.
        topic.log_end.get().abs_diff(from.get())
    });
    Ok(left.sum())
}
