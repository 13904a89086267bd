//! Requests to commit whose answers are lost, wrong, late or missing, whatever the format. In none of
//! these cases is a row in the table twice, or gone.

use std::sync::Arc;
use std::time::Duration;

use connector_api::contract::{Round, Subject, commit, committed, created, rows, visible_rows};
use connector_api::outcome::{CommitError, CommitOutcome, TokenLookup};
use connector_api::sink::OpenTable;
use connector_api::staged::StagedCommit;

use super::{Fault, Faults};

/// A place that is reached through [`Faults`].
pub(crate) trait Faulty: Subject + Sized {
    fn faults(&self) -> &Arc<Faults>;

    /// The same, where no answer is waited for longer than this.
    fn with_deadline(self, deadline: Duration) -> Self;
}

/// Makes one test of each function below. The argument makes a new [`Faulty`].
macro_rules! answers {
    ($place:expr) => {
        $crate::faults::answers::answers!(@tests $place;
            a_412_to_our_own_put_is_already_committed,
            a_409_although_nobody_won_is_tried_again,
            a_409_without_end_is_given_up_as_unknown,
            a_lost_request_is_unknown_then_not_found_then_committed,
            no_answer_at_all_is_unknown_within_the_deadline,
            a_late_request_loses_against_the_commit_that_was_sent_again,
            a_late_request_that_lands_before_the_commit_is_sent_again_is_that_commit,
        );
    };
    (@tests $place:expr; $($name:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $crate::faults::answers::$name($place).await;
            }
        )*
    };
}
pub(crate) use answers;

/// A table with offsets `[0, 10)`, and a staged commit of `[10, 20)`.
pub(crate) async fn staged(place: &dyn Subject) -> (OpenTable, StagedCommit) {
    let mut table = created(place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let next = Round::new("t-2").range(0, 10, 20).staged(&table).await;
    (table, next)
}

pub(crate) fn is_unknown<T>(outcome: &Result<T, CommitError>) -> bool {
    matches!(outcome, Err(CommitError::Unknown(_)))
}

pub(crate) async fn a_412_to_our_own_put_is_already_committed(place: impl Faulty) {
    let (mut table, next) = staged(&place).await;
    place.faults().inject([Fault::AppliedThenExists]);
    let outcome = table.committer.commit(&next).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::AlreadyCommitted(receipt) if receipt.version == 2));
    commit(&mut table, Round::new("t-3").range(0, 20, 21)).await;
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 21)]));
}

pub(crate) async fn a_409_although_nobody_won_is_tried_again(place: impl Faulty) {
    let (mut table, next) = staged(&place).await;
    place.faults().inject([Fault::RefusedAsExisting, Fault::RefusedAsExisting]);
    assert_eq!(committed(table.committer.commit(&next).await).version, 2);
    assert!(place.faults().spent());
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

pub(crate) async fn a_409_without_end_is_given_up_as_unknown(place: impl Faulty) {
    let place = place.with_deadline(Duration::from_millis(500));
    let (mut table, next) = staged(&place).await;
    place.faults().inject((0..1_000_000).map(|_| Fault::RefusedAsExisting));
    assert!(is_unknown(&table.committer.commit(&next).await));
    assert!(!place.faults().spent());
    assert_eq!(table.committer.find(&next).await.unwrap(), TokenLookup::NotFound);
}

pub(crate) async fn a_lost_request_is_unknown_then_not_found_then_committed(place: impl Faulty) {
    let (mut table, next) = staged(&place).await;
    place.faults().inject([Fault::Lost]);
    assert!(is_unknown(&table.committer.commit(&next).await));
    assert_eq!(table.committer.find(&next).await.unwrap(), TokenLookup::NotFound);
    assert_eq!(committed(table.committer.commit(&next).await).version, 2);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

pub(crate) async fn no_answer_at_all_is_unknown_within_the_deadline(place: impl Faulty) {
    let place = place.with_deadline(Duration::from_millis(500));
    let (mut table, next) = staged(&place).await;
    place.faults().inject([Fault::Silent]);
    let bound = Duration::from_secs(20);
    let outcome = tokio::time::timeout(bound, table.committer.commit(&next)).await;
    assert!(is_unknown(&outcome.expect("a commit is bounded in time")));
    if tokio::time::timeout(bound, place.faults().given_up()).await.is_err() {
        eprintln!("the thread of the request waits for ever, and so would the end of this test");
        std::process::abort();
    }
    assert_eq!(table.committer.find(&next).await.unwrap(), TokenLookup::NotFound);
    committed(table.committer.commit(&next).await);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

pub(crate) async fn a_late_request_loses_against_the_commit_that_was_sent_again(
    place: impl Faulty,
) {
    let (mut table, next) = staged(&place).await;
    place.faults().inject([Fault::Late]);
    assert!(is_unknown(&table.committer.commit(&next).await));
    assert_eq!(table.committer.find(&next).await.unwrap(), TokenLookup::NotFound);
    committed(table.committer.commit(&next).await);
    assert_eq!(place.faults().deliver().await, [false]);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}

pub(crate) async fn a_late_request_that_lands_before_the_commit_is_sent_again_is_that_commit(
    place: impl Faulty,
) {
    let (mut table, next) = staged(&place).await;
    place.faults().inject([Fault::Late]);
    assert!(is_unknown(&table.committer.commit(&next).await));
    assert_eq!(table.committer.find(&next).await.unwrap(), TokenLookup::NotFound);
    assert_eq!(place.faults().deliver().await, [true]);
    let again = table.committer.commit(&next).await.unwrap();
    assert!(matches!(again, CommitOutcome::AlreadyCommitted(receipt) if receipt.version == 2));
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 20)]));
}
