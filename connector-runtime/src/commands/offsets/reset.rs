//! `alluvium offsets reset`: moves a stopped connector by a person's word.
//!
//! In this order, so that a failure in between leaves nothing that a second call would not set right:
//! see that nobody runs, say what follows, move the dead letters' positions, move the table's in one commit,
//! copy them into the group. The commit is admitted only if the table still stands where the person has seen it, so a worker
//! that was started meanwhile cannot be overtaken unnoticed, nor overtake.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use connector_api::clock::Clock;
use connector_api::ids::{CommitToken, TopicPartition};
use connector_api::offsets::{Offset, OffsetCheckpoint};
use connector_api::outcome::{CommitError, CommitOutcome};
use connector_api::reset::{OffsetMove, OffsetReset};
use connector_api::sink::TableCommitter;
use connector_api::{Context, Error, Result};

use super::target::{self, Consequence, consequence, moves, parse};
use crate::commands::sheet::{Heading, Sheet};
use crate::commands::situation::{Situation, blocking};
use crate::config::{ConnectorPlan, OnBadRecord, StartAt};
use crate::observe::terminal::grouped;
use crate::query::{Look, written};
use crate::source::Prepared;

/// How often a reset is sent whose answer is lost.
const ATTEMPTS_MAX: u32 = 5;
/// How long to wait in between.
const PAUSE: Duration = Duration::from_secs(1);

/// What a user may ask.
#[derive(Debug, clap::Args)]
#[command(
    about = "Moves a stopped connector's position, as a commit in its table",
    long_about = "Moves a stopped connector's position, as a commit in its table.\n\n\
        Says first what follows: offsets that are read again, whose rows will be in the table a second time, or \
        that are skipped, whose records will never be in the table. Without --yes that is all, and nothing changes.\n\n\
        Refuses while the connector's group has members. Rows are not touched: to read again without doubling, \
        delete the rows first. The consumer group's offsets are set to the same positions: lag tools show them, \
        and a run compares its table with them to notice one that lost commits.",
    after_long_help = "Examples:\n  \
        alluvium offsets reset clicks.yaml --to earliest\n  \
        alluvium offsets reset clicks.yaml --to 2026-01-31T00:00:00Z --yes\n  \
        alluvium offsets reset clicks.yaml --to clicks:0=1200,clicks:1=1310 --yes\n\n\
        Exit codes: 0 moved, or there already; 1 failed, or the connector runs; 2 not confirmed by --yes, or usage."
)]
pub struct ResetArgs {
    /// The connector's file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// `earliest`, `latest`, a timestamp, or offsets as in `topic:partition=offset,...`
    #[arg(long, value_name = "WHERE", value_parser = parse)]
    pub to: StartAt,

    /// Do it
    #[arg(long)]
    pub yes: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The positions are where they were wanted.
    Done,
    /// Nothing was changed: it was not confirmed.
    NotConfirmed,
}

/// Moves a connector.
pub async fn run(
    args: &ResetArgs,
    mut plan: ConnectorPlan,
    clock: Arc<dyn Clock>,
) -> Result<Reset> {
    let doing = format!("connector `{}`", plan.name);
    // The brokers are asked for the offsets at a time with the ends of the logs.
    let begins = std::mem::replace(&mut plan.source.start_at, args.to.clone());
    let situation = Situation::find(&plan, clock).await?;
    refuse_if_it_runs(&situation.kafka).await.context(|| &doing)?;
    let ended = match situation.table {
        Some(_) => move_positions(args, &plan, &begins, &situation).await,
        None => forget_group(args, &plan, &begins, &situation).await,
    };
    ended.context(|| doing)
}

async fn refuse_if_it_runs(kafka: &Arc<Prepared>) -> Result<()> {
    let kafka = kafka.clone();
    match blocking(move || kafka.group_members()).await? {
        None => Ok(()),
        Some(found) => Err(Error::external(format!(
            "it runs: {found}. Stop its workers first; one that was killed is missed after `session.timeout.ms`"
        ))),
    }
}

async fn move_positions(
    args: &ResetArgs,
    plan: &ConnectorPlan,
    begins: &StartAt,
    situation: &Situation,
) -> Result<Reset> {
    let moves = moves(&args.to, &situation.topics, &situation.stored)?;
    let begins = |of: &TopicPartition| {
        let assigned = situation.topics.iter().find(|assigned| assigned.topic_partition == *of);
        assigned.map_or(Offset::ZERO, |assigned| target::begins(begins, assigned))
    };
    let mut out = BufWriter::new(std::io::stdout());
    written(
        announce(plan, &moves, begins, Look::of_stdout(), &mut out).and_then(|()| out.flush()),
    )?;
    if !args.yes {
        return said("Nothing was changed. Add --yes to move the positions.", Reset::NotConfirmed);
    }
    let token = CommitToken(format!("reset-{}", uuid::Uuid::new_v4().simple()));
    let reset = OffsetReset { token, by: who(), moves };
    let positions = reset.positions();
    probe_group(situation, &positions).await?;
    let table = plan.table.sink.open(&plan.name).await?;
    let mut table = table.ok_or_else(|| Error::external("the table is no longer there"))?;
    move_dead_letters(plan, &reset).await.context(|| "the dead-letter table")?;
    let version = commit(table.committer.as_mut(), &reset).await?;
    let kafka = situation.kafka.clone();
    let noted = blocking(move || kafka.note_group_offsets(&positions, false)).await;
    noted.context(|| {
        format!(
            "the positions are moved in version {version}, and the group's copy of them is not, which a run would take \
             for a table that went back; run the same command again"
        )
    })?;
    said(&format!("Moved, in version {version} of the table."), Reset::Done)
}

/// Members of a group of the newer protocol (KIP-848) are not listed, and show here: a group with
/// members takes no offsets from outside. What it is given says nothing to a run.
async fn probe_group(situation: &Situation, positions: &OffsetCheckpoint) -> Result<()> {
    let (kafka, positions) = (situation.kafka.clone(), positions.clone());
    blocking(move || kafka.note_group_offsets(&positions, true)).await
}

/// Moves the dead letters' table along, so that what is read again and rejected is kept again.
/// Before the anchor: dead letters that stand before it are right, those behind it would be left out.
async fn move_dead_letters(plan: &ConnectorPlan, anchor: &OffsetReset) -> Result<()> {
    let OnBadRecord::DeadLetter(sink) = &plan.on_bad_record else { return Ok(()) };
    let Some(mut table) = sink.open(&plan.name).await? else { return Ok(()) };
    let Some(reader) = sink.read().await? else { return Ok(()) };
    let name = plan.name.clone();
    let stored = blocking(move || reader.checkpoint(&name)).await?;
    let moved = |(tp, moved): (&TopicPartition, &OffsetMove)| {
        let from = stored.next(tp)?;
        Some((tp.clone(), OffsetMove { from: Some(from), to: moved.to }))
    };
    let moves: BTreeMap<_, _> = anchor.moves.iter().filter_map(moved).collect();
    if moves.is_empty() {
        return Ok(());
    }
    let token = CommitToken(format!("{}-dead-letters", anchor.token));
    let reset = OffsetReset { token, by: anchor.by.clone(), moves };
    commit(table.committer.as_mut(), &reset).await.map(drop)
}

/// Commits the reset, and finds out what became of it if an answer is lost.
async fn commit(committer: &mut dyn TableCommitter, reset: &OffsetReset) -> Result<u64> {
    let mut attempt = 1;
    loop {
        match committer.reset(reset).await {
            Ok(CommitOutcome::Committed(receipt) | CommitOutcome::AlreadyCommitted(receipt)) => {
                return Ok(receipt.version);
            }
            Ok(CommitOutcome::Fenced { stored } | CommitOutcome::RolledBack { stored }) => {
                return Err(moved_meanwhile(reset, &stored));
            }
            Ok(CommitOutcome::Conflicted { cause }) => {
                return Err(Error::decision(format!("{cause}; nothing was moved")));
            }
            Err(CommitError::NotSent(error)) => {
                return Err(error.context("nothing was moved"));
            }
            Err(CommitError::Unknown(error)) if attempt >= ATTEMPTS_MAX => {
                let doing =
                    "whether the positions were moved is not known, `alluvium offsets show` tells";
                return Err(error.context(doing));
            }
            // Sent again, it tells whether it was there.
            Err(CommitError::Unknown(error)) => {
                tracing::warn!(%error, attempt, "reset without an answer, asking again");
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn moved_meanwhile(reset: &OffsetReset, stored: &OffsetCheckpoint) -> Error {
    let elsewhere = reset.moves.iter().filter(|(tp, moved)| stored.next(tp) != moved.from);
    let elsewhere = elsewhere.map(|(tp, moved)| {
        let spelled = |offset: Option<_>| {
            offset.map_or_else(
                || "nowhere".to_owned(),
                |at: connector_api::offsets::Offset| at.to_string(),
            )
        };
        format!("{tp} stood at {} and stands at {}", spelled(moved.from), spelled(stored.next(tp)))
    });
    Error::external(format!(
        "the table has moved meanwhile ({}); nothing was moved. Is a worker running?",
        elsewhere.collect::<Vec<_>>().join(", ")
    ))
}

/// Without a table there is no position but the group's copy, which keeps a run from beginning anew unasked.
async fn forget_group(
    args: &ResetArgs,
    plan: &ConnectorPlan,
    begins: &StartAt,
    situation: &Situation,
) -> Result<Reset> {
    let (location, group) = (plan.table.sink.location(), &plan.source.group_id);
    let begins = match begins {
        StartAt::Earliest => "earliest".to_owned(),
        StartAt::Latest => "latest".to_owned(),
        StartAt::Timestamp { ms } => jiff::Timestamp::from_millisecond(*ms)
            .map_or_else(|_| ms.to_string(), |at| at.to_string()),
        StartAt::Offsets(_) => "its offsets".to_owned(),
    };
    println!(
        "There is no table at `{location}`, so there is no position to move, whatever `--to` says: a new table is filled \
         from `start_at` ({begins})."
    );
    if !args.yes {
        let hint = format!(
            "Nothing was changed. Add --yes to begin there: it deletes what group `{group}` has noted down, which tells \
             a run that there was a table."
        );
        return said(&hint, Reset::NotConfirmed);
    }
    let kafka = situation.kafka.clone();
    let text = match blocking(move || kafka.delete_group()).await? {
        true => format!("What group `{group}` had noted down is deleted."),
        false => format!("Group `{group}` has nothing noted down."),
    };
    said(&text, Reset::Done)
}

/// Says what is moved, and what follows.
fn announce(
    plan: &ConnectorPlan,
    moves: &BTreeMap<TopicPartition, OffsetMove>,
    begins: impl Fn(&TopicPartition) -> Offset,
    look: Look,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    writeln!(out, "{}: table `{}`", plan.name, plan.table.sink.location())?;
    let mut sheet = Sheet::new(&[
        Heading::Text("TOPIC"),
        Heading::Number("PARTITION"),
        Heading::Number("FROM"),
        Heading::Number("TO"),
        Heading::Text("WHAT FOLLOWS"),
    ]);
    let mut total = Consequence::default();
    for (topic_partition, moved) in moves {
        let one = consequence(moved, begins(topic_partition));
        total.again += one.again;
        total.skipped += one.skipped;
        sheet.line([
            topic_partition.topic.to_string(),
            topic_partition.partition.to_string(),
            moved.from.map_or_else(|| "-".to_owned(), |from| from.to_string()),
            moved.to.to_string(),
            said_of(moved, one),
        ]);
    }
    sheet.write(look, out)?;
    if total.again > 0 {
        writeln!(
            out,
            "{} offsets will be read again: their rows will be in the table a second time.",
            grouped(total.again)
        )?;
    }
    if total.skipped > 0 {
        writeln!(
            out,
            "{} offsets will be skipped: their records will not be in the table.",
            grouped(total.skipped)
        )?;
    }
    Ok(())
}

fn said_of(moved: &OffsetMove, consequence: Consequence) -> String {
    match consequence {
        Consequence { again: 0, skipped: 0 } if moved.from.is_none() => "begins there".to_owned(),
        Consequence { again: 0, skipped: 0 } => "stays".to_owned(),
        Consequence { again: 0, skipped } => format!("{skipped} skipped"),
        Consequence { again, .. } => format!("{again} read again"),
    }
}

fn said(text: &str, ended: Reset) -> Result<Reset> {
    match ended {
        Reset::Done => println!("{text}"),
        Reset::NotConfirmed => eprintln!("{text}"),
    }
    Ok(ended)
}

/// Whose word it is, for the table's history: `ann@laptop`.
fn who() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME"));
    let host = variable("HOSTNAME")
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|host| host.trim().to_owned());
    match (user, host) {
        (Some(user), Some(host)) => format!("{user}@{host}"),
        (user, host) => user.or(host).unwrap_or_else(|| "unknown".to_owned()),
    }
}
