//! Exactly once, checked: each produced topic partition and offset is in the table once, with its value,
//! and nothing else is there.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::case::Case;
use crate::connector::Column;
use crate::location::Location;
use crate::producer::Produced;
use crate::reader::{self, Seen};

/// How many offsets a message names.
const NAMED: usize = 5;

/// Fails the test unless the table has each produced record once, and nothing else.
#[track_caller]
pub fn assert_exactly_once(produced: &[&Produced], location: &Location) {
    if let Err(difference) = compare(produced, &reader::seen(location)) {
        panic!("{} is not exact:\n{difference}", location.uri());
    }
}

/// Fails the test unless the table has each produced record once, and nothing else, and the row of each
/// has the record's time and, in every declared column, the record's value as DuckDB reads it from the JSON.
#[track_caller]
pub fn assert_equal(case: &Case, produced: &[&Produced], location: &Location, columns: &[Column]) {
    assert_exactly_once(produced, location);
    for produced in produced {
        let different = differing_rows(case, produced, location, columns);
        assert!(
            different.is_empty(),
            "rows of {} differ from their records; topic, partition, offset, record, row: {}",
            location.uri(),
            different.iter().fold(String::new(), |text, row| format!("{text}\n{}", json!(row)))
        );
    }
}

/// The first rows whose time or values differ from their record's: topic, partition, offset, record, row.
pub fn differing_rows(
    case: &Case,
    produced: &Produced,
    location: &Location,
    columns: &[Column],
) -> Vec<Vec<Value>> {
    let differs: String = columns
        .iter()
        .map(|Column { name, .. }| format!(" or p.value.\"{name}\" is distinct from t.\"{name}\""))
        .collect();
    let sql = format!(
        "select p.topic, p.\"partition\", p.\"offset\", p.value::varchar, t::varchar
         from ({records}) p left join {{table}} t
           on t._kafka.topic = p.topic and t._kafka.\"partition\" = p.\"partition\"
             and t._kafka.\"offset\" = p.\"offset\"
         where t._kafka.\"timestamp\" is distinct from p.\"timestamp\"{differs}
         order by all limit {NAMED}",
        records = records_sql(case, produced, columns),
    );
    reader::query(location, &sql)
}

/// A query for what was produced, as DuckDB reads it from JSON: topic, partition, offset, timestamp, value.
pub fn records_sql(case: &Case, produced: &Produced, columns: &[Column]) -> String {
    let file = case.folder.join(format!("produced-{}.ndjson", produced.topic));
    produced.write_to(&file);
    let types: Vec<String> =
        columns.iter().map(|c| format!("\"{}\" {}", c.name, c.duckdb)).collect();
    format!(
        "select place[1]->>'$' as topic, place[2]::int as \"partition\", place[3]::bigint as \"offset\",
           make_timestamptz(place[4]::bigint * 1000) as \"timestamp\", value
         from read_json('{}', format = 'newline_delimited',
           columns = {{place: 'json[]', value: 'struct({})'}})",
        file.display(),
        types.join(", "),
    )
}

/// Compares by topic partition and offset. The message names the first of each kind of difference.
pub fn compare(produced: &[&Produced], seen: &Seen) -> Result<(), String> {
    let missing = produced
        .iter()
        .flat_map(|p| {
            p.records.keys().map(|(partition, offset)| (p.topic.clone(), *partition, *offset))
        })
        .filter(|place| !seen.contains_key(place));
    let twice = seen.iter().filter(|(_, times)| **times > 1).map(|(place, _)| place.clone());
    let foreign = seen.keys().filter(|(topic, partition, offset)| {
        !produced
            .iter()
            .any(|p| p.topic == *topic && p.records.contains_key(&(*partition, *offset)))
    });
    let mut message = String::new();
    describe(&mut message, "missing", missing);
    describe(&mut message, "more than once", twice);
    describe(&mut message, "never produced", foreign.cloned());
    if message.is_empty() { Ok(()) } else { Err(message) }
}

fn describe(message: &mut String, what: &str, places: impl Iterator<Item = (String, i32, i64)>) {
    let places: Vec<_> = places.collect();
    if places.is_empty() {
        return;
    }
    let first: Vec<String> = places
        .iter()
        .take(NAMED)
        .map(|(topic, p, offset)| format!("{topic}-{p}@{offset}"))
        .collect();
    let more = if places.len() > NAMED { ", …" } else { "" };
    writeln!(message, "{} {what}: {}{more}", places.len(), first.join(", ")).unwrap();
}

#[cfg(test)]
mod tests {
    use super::compare;
    use crate::producer::{Confirmed, Produced};

    fn check(produced: &[i64], seen: &[(i64, u64)], expected: Result<(), &str>) {
        let record = Confirmed { value: "{}".into(), timestamp_ms: 0 };
        let records = produced.iter().map(|offset| ((0, *offset), record.clone())).collect();
        let produced = Produced { topic: "t".into(), records };
        let seen =
            seen.iter().map(|(offset, times)| (("t".to_owned(), 0, *offset), *times)).collect();
        assert_eq!(compare(&[&produced], &seen), expected.map_err(str::to_owned));
    }

    #[test]
    fn each_difference_is_named_by_its_first_offsets() {
        check(&[0, 1, 2], &[(0, 1), (1, 1), (2, 1)], Ok(()));
        check(&[0, 1, 2], &[(0, 1), (2, 1)], Err("1 missing: t-0@1\n"));
        check(&[0, 1], &[(0, 1), (1, 3)], Err("1 more than once: t-0@1\n"));
        check(&[0], &[(0, 1), (7, 1)], Err("1 never produced: t-0@7\n"));
        check(&[0, 1], &[(1, 2)], Err("1 missing: t-0@0\n1 more than once: t-0@1\n"));
        let all: Vec<i64> = (0..9).collect();
        check(&all, &[], Err("9 missing: t-0@0, t-0@1, t-0@2, t-0@3, t-0@4, …\n"));
    }
}
