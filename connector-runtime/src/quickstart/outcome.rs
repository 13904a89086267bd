//! What was produced, and whether the table holds exactly that.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use connector_api::{Error, Result};
use futures::TryStreamExt;

use super::demo::{DemoRecord, Kind, PARTITIONS};
use crate::observe::terminal::grouped;
use crate::query::{Session, Tables};

/// What the user sees of the table: a heading and the SQL below it.
pub(super) const SHOWN: &[(&str, &str)] = &[
    (
        "Events and revenue by country",
        "select user.country as country, \
           count(*) as events, \
           count(*) filter (where event = 'page_view') as page_views, \
           count(*) filter (where event = 'add_to_cart') as carts, \
           count(*) filter (where event = 'purchase') as purchases, \
           sum(amount) filter (where event = 'purchase') as revenue \
         from clicks group by user.country order by events desc",
    ),
    (
        "Where rows come from (_kafka), and what fitted no column (_rescued)",
        "select id, event, _kafka, _rescued from clicks where _rescued is not null order by id limit 3",
    ),
];

/// The same for the records that became no rows, if there are any.
pub(super) const DEAD_LETTERS: (&str, &str) = (
    "Bad records are kept, with their bytes and the cause (clicks_dead_letters)",
    "select cause, count(*) as records, min(message) as for_example \
     from clicks_dead_letters group by cause order by cause",
);

/// Counts what each partition was given: rows are compared as `(partition, offset)`, the identity
/// of a record.
const COUNTED: &str = "select cast(_kafka.partition as bigint) as partition, count(*) as n, \
       count(distinct _kafka.offset) as offsets \
     from clicks group by 1 order by 1";

/// The records that were produced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Produced {
    records: u64,
    bad: u64,
    late: u64,
    rescued: u64,
    /// Records that must become rows, by partition.
    rows: BTreeMap<i32, u64>,
}

impl Produced {
    pub(super) fn count(&mut self, record: &DemoRecord) {
        self.records += 1;
        match record.kind {
            Kind::Bad => self.bad += 1,
            Kind::Late => self.late += 1,
            Kind::UnknownField | Kind::WrongType => self.rescued += 1,
            Kind::Ordinary => {}
        }
        if record.kind != Kind::Bad {
            *self.rows.entry(record.partition).or_default() += 1;
        }
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{} records of JSON: {} late, {} with what no column takes, {} bad",
            grouped(self.records),
            grouped(self.late),
            grouped(self.rescued),
            grouped(self.bad)
        )
    }

    pub(super) fn result(&self) -> String {
        let rows: u64 = self.rows.values().sum();
        format!(
            "{} rows, each good record once by partition and offset; {} bad records kept as dead letters",
            grouped(rows),
            grouped(self.bad)
        )
    }

    pub(super) fn has_bad(&self) -> bool {
        self.bad > 0
    }

    /// Compares with the table, partition by partition.
    pub(super) async fn compare(&self, session: &Session, tables: &Tables) -> Result<()> {
        let counted = session.query(COUNTED, tables).await?;
        let counted: Vec<RecordBatch> = counted.try_collect().await.map_err(|e| {
            Error::internal("the rows of the table cannot be counted").with_source(e)
        })?;
        let mut found = BTreeMap::new();
        for batch in &counted {
            let column = |index: usize| batch.column(index).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                found.insert(column(0).value(row), (column(1).value(row), column(2).value(row)));
            }
        }
        match difference(&self.rows, &found) {
            None => Ok(()),
            Some(difference) => Err(Error::internal(difference)),
        }
    }
}

/// The first partition whose rows are not the records that were produced: `(rows, offsets)` by
/// partition against the count of records.
fn difference(produced: &BTreeMap<i32, u64>, found: &BTreeMap<i64, (i64, i64)>) -> Option<String> {
    let partitions = 0..i64::from(PARTITIONS);
    if let Some(other) = found.keys().find(|partition| !partitions.contains(partition)) {
        return Some(format!(
            "the table holds rows of partition {other}, which the topic does not have"
        ));
    }
    (0..PARTITIONS).find_map(|partition| {
        let expected = produced.get(&partition).copied().unwrap_or_default();
        let (rows, offsets) = found.get(&i64::from(partition)).copied().unwrap_or_default();
        let exact = [rows, offsets].iter().all(|&count| u64::try_from(count) == Ok(expected));
        (!exact).then(|| {
            format!(
                "the table holds {rows} rows with {offsets} offsets of partition {partition}, but {expected} good \
                 records were produced; a connector that is stopped early has not read them all"
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(produced: &[(i32, u64)], found: &[(i64, (i64, i64))], expected: Option<&str>) {
        let found =
            difference(&produced.iter().copied().collect(), &found.iter().copied().collect());
        match (&found, expected) {
            (None, None) => {}
            (Some(found), Some(part)) => assert!(found.contains(part), "{found}"),
            _ => panic!("{found:?}"),
        }
    }

    #[test]
    fn only_the_same_rows_once_each_are_the_same() {
        check(&[(0, 5), (3, 2)], &[(0, (5, 5)), (3, (2, 2))], None);
        check(&[(0, 5)], &[(0, (4, 4))], Some("4 rows with 4 offsets of partition 0"));
        check(&[(0, 5)], &[(0, (6, 5))], Some("6 rows with 5 offsets"));
        check(&[(0, 5)], &[(0, (5, 4))], Some("5 rows with 4 offsets"));
        check(&[(0, 5), (1, 1)], &[(0, (5, 5))], Some("0 rows with 0 offsets of partition 1"));
        check(&[(0, 5)], &[(0, (5, 5)), (4, (1, 1))], Some("partition 4"));
    }
}
