//! Each request of a table's life fails once: before it arrives, and after it was carried out.
//!
//! A worker goes on as the engine does: it stages again, looks after a commit whose outcome is
//! unknown, and starts anew where nothing else helps. In the end each row is there once.

use connector_api::batch::PartitionValues;
use connector_api::contract::{
    Round, Subject, batch, connector, rows, schema, topic_partition, visible_rows,
};
use connector_api::outcome::{CommitError, CommitOutcome, TokenLookup};
use connector_api::sink::OpenTable;
use connector_api::staged::{StagedCommit, StagedFile};

use super::Failing;
use super::answers::Faulty;

/// Where the life ends, and how far a commit goes.
const END: i64 = 30;
const STEP: i64 = 10;
/// How often a worker starts before it is called stuck.
const STARTS_MAX: usize = 6;

/// Lives once for each request that there is, by places that are made anew.
pub(crate) async fn each_request_fails_once<P: Faulty>(place: impl Fn() -> P) {
    for failing in [Failing::Before, Failing::After] {
        for number in 0.. {
            let subject = place();
            let case = format!("request {number} fails {failing:?}");
            subject.faults().fail_request(number, failing);
            live(&subject, &case).await;
            let failed = subject.faults().has_failed();
            assert_eq!(visible_rows(&subject).await, rows(&[(0, 0, END)]), "{case}");
            if !failed {
                assert!(number > 10, "only {number} requests");
                break;
            }
        }
    }
}

async fn live(subject: &dyn Subject, case: &str) {
    for start in 0..STARTS_MAX {
        if work(subject, start).await.is_some() {
            return;
        }
    }
    panic!("stuck: {case}");
}

/// Works until all is committed. `None` if the worker has to start anew.
async fn work(subject: &dyn Subject, start: usize) -> Option<()> {
    let sink = subject.sink();
    let mut table = match sink.open(&connector()).await.ok()? {
        Some(table) => table,
        None => sink.create(&connector(), &schema()).await.ok()?,
    };
    let stored = table.committer.checkpoint().await.ok()?;
    let mut next = stored.next(&topic_partition(0)).map(|next| next.get());
    while next != Some(END) {
        let from = next.unwrap_or(0);
        let file = stage(&table, &format!("f-{start}-{from}"), from).await;
        let mut round = Round::new(&format!("t-{start}-{from}")).range(0, from, from + STEP);
        if next.is_none() {
            round = round.with_new(&topic_partition(0));
        }
        commit(&mut table, &round.with_files(vec![file])).await?;
        next = Some(from + STEP);
    }
    // A worker that ends well has brought to its end what it decided.
    table.committer.checkpoint().await.ok().map(drop)
}

async fn stage(table: &OpenTable, name: &str, from: i64) -> StagedFile {
    let values = PartitionValues::default();
    let mut writer = table.writers.open_file(name, &values, "sha256:0").unwrap();
    writer.write(&batch(&topic_partition(0), from, from + STEP)).unwrap();
    writer.finish().unwrap();
    match writer.stage().await {
        Ok(file) => file,
        Err(_) => writer.stage().await.unwrap(),
    }
}

async fn commit(table: &mut OpenTable, commit: &StagedCommit) -> Option<()> {
    loop {
        match table.committer.commit(commit).await {
            Ok(CommitOutcome::Committed(_) | CommitOutcome::AlreadyCommitted(_)) => return Some(()),
            Ok(_) => return None,
            Err(CommitError::NotSent(_)) => {}
            Err(CommitError::Unknown(_)) => loop {
                match table.committer.find(commit).await {
                    Ok(TokenLookup::Found(_)) => return Some(()),
                    Ok(TokenLookup::NotFound) => break,
                    Ok(TokenLookup::Pruned { .. }) => return None,
                    Err(_) => {}
                }
            },
        }
    }
}
