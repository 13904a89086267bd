//! A table's life from its creation on, where each request fails once, before it arrives or after it was
//! carried out, and where listings lag behind.
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
/// The most listings that pass before one shows an object.
const LAG_MAX: usize = 8;

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

/// Lives with listings that show what was there some listings ago. A worker starts anew for each commit,
/// so that it finds the table by such a listing each time. Returns how often it found an older version.
pub(crate) async fn listings_lag<P: Faulty>(place: impl Fn() -> P) -> usize {
    let mut behind = 0;
    for lag in 1..=LAG_MAX {
        let subject = place();
        subject.faults().lag_listings(lag);
        let mut next = None;
        for start in 0.. {
            assert!(start < STARTS_MAX * LAG_MAX, "stuck at {next:?}, listings lag by {lag}");
            let Some(mut worker) = Worker::start(&subject, start).await else { continue };
            behind += usize::from(worker.next < next);
            if worker.next == Some(END) {
                break;
            }
            if worker.step().await.is_some() {
                next = worker.next;
            }
        }
        subject.faults().lag_listings(0);
        assert_eq!(visible_rows(&subject).await, rows(&[(0, 0, END)]), "listings lag by {lag}");
    }
    behind
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
    let mut worker = Worker::start(subject, start).await?;
    while worker.next != Some(END) {
        worker.step().await?;
    }
    // A worker that ends well has brought to its end what it decided.
    worker.table.committer.checkpoint().await.ok().map(drop)
}

struct Worker {
    table: OpenTable,
    /// The stored offset.
    next: Option<i64>,
    start: usize,
}

impl Worker {
    async fn start(subject: &dyn Subject, start: usize) -> Option<Self> {
        let sink = subject.sink();
        let mut table = match sink.open(&connector()).await.ok()? {
            Some(table) => table,
            None => sink.create(&connector(), &schema()).await.ok()?,
        };
        let stored = table.committer.checkpoint().await.ok()?;
        let next = stored.next(&topic_partition(0)).map(|next| next.get());
        Some(Self { table, next, start })
    }

    /// Commits the next records. `None` if the worker has to start anew.
    async fn step(&mut self) -> Option<()> {
        let from = self.next.unwrap_or(0);
        let name = format!("{}-{from}", self.start);
        let file = stage(&self.table, &format!("f-{name}"), from).await;
        let mut round = Round::new(&format!("t-{name}")).range(0, from, from + STEP);
        if self.next.is_none() {
            round = round.with_new(&topic_partition(0));
        }
        commit(&mut self.table, &round.with_files(vec![file])).await?;
        self.next = Some(from + STEP);
        Some(())
    }
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
