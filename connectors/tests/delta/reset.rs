//! What a reset leaves in a Delta table, and what may come between.

use connector_api::contract::{
    Round, commit, committed, connector, created, opened, topic_partition,
};
use connector_api::ids::CommitToken;
use connector_api::offsets::Offset;
use connector_api::outcome::{CommitOutcome, TokenLookup};
use connector_api::reset::{OffsetMove, OffsetReset};
use serde_json::{Value, json};

use super::place::Place;
use crate::faults::Fault;

/// Moves partition 0.
fn reset(token: &str, from: i64, to: i64) -> OffsetReset {
    let at = |offset| Offset::new(offset).unwrap();
    OffsetReset {
        token: CommitToken(token.into()),
        by: "ann@laptop".into(),
        moves: [(topic_partition(0), OffsetMove { from: Some(at(from)), to: at(to) })].into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_tells_who_moved_what() {
    let place = Place::new();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    let receipt = committed(table.committer.reset(&reset("r-1", 10, 4)).await);
    let log = place.log();
    let entry = &log.versions[usize::try_from(receipt.version).unwrap()];
    let info = entry.iter().find_map(|action| action.get("commitInfo")).unwrap();
    let parameters = &info["operationParameters"];
    assert_eq!(parameters["alluvium.token"], "r-1");
    assert_eq!(parameters["alluvium.reset.by"], "ann@laptop");
    let identity = topic_partition(0).identity(&connector());
    let offsets =
        |key: &str| -> Value { serde_json::from_str(parameters[key].as_str().unwrap()).unwrap() };
    assert_eq!(offsets("alluvium.reset.from"), json!({ &identity: 10 }));
    assert_eq!(offsets("alluvium.reset.to"), json!({ &identity: 4 }));
    assert_eq!(log.txn(&identity), Some(4));
    assert_eq!(log.txn("contract#reset"), Some(2), "the version of the reset");
    assert!(entry.iter().all(|action| action.get("add").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_somebody_else_does_not_keep_a_reset_from_landing() {
    let place = Place::new();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(0, 0, 10)).await;
    place.alter(2);
    place.faults.inject([Fault::RefusedAsExisting]);
    let receipt = committed(table.committer.reset(&reset("r-1", 10, 4)).await);
    assert_eq!(receipt.version, 3);
    // The alteration is told to who has files for the columns before it.
    let late = Round::new("t-2").range(0, 4, 5).staged(&table).await;
    let outcome = table.committer.commit(&late).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Conflicted { .. }), "{outcome:?}");
}

/// A look-up that cannot see far enough back knows nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_from_before_a_reset_is_not_called_absent_where_the_log_was_cleaned_up() {
    let place = Place::new();
    let mut table = created(&place).await;
    let staged = Round::new("t-1").new_range(0, 0, 10).staged(&table).await;
    committed(table.committer.commit(&staged).await);
    committed(table.committer.reset(&reset("r-1", 10, 4)).await);
    let mut other = opened(&place).await;
    let found = other.committer.find(&staged).await.unwrap();
    assert!(matches!(found, TokenLookup::Found(_)), "{found:?}");
    std::fs::remove_file(place.entry(1)).unwrap();
    let found = table.committer.find(&staged).await;
    assert!(!matches!(found, Ok(TokenLookup::NotFound | TokenLookup::Found(_))), "{found:?}");
}
