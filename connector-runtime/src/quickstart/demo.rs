//! The demo stream: clicks of a web shop as nested JSON, the same bytes each time.
//!
//! A real topic is never clean, so some records are special, by their number (from 0):
//!
//! | number | what is special | what becomes of it |
//! |---|---|---|
//! | ends on 999 | half of it is missing, or it has no `id` | rejected: a dead letter |
//! | ends on 25 or 75 | it happened an hour to a day earlier | a row like others |
//! | ends on 50 | a field `campaign` that no column names | a row with the field in `_rescued` |
//! | ends on 120 or 620 | `amount` is a text | a row with `amount` null and the text in `_rescued` |

use jiff::Timestamp;

/// Where the random numbers begin.
const SEED: u64 = 20_260_105;
/// When the first record was produced: 2026-01-05T09:00:00Z, a Monday.
const START_MS: i64 = 1_767_603_600_000;
/// Time from one record to the next.
const STEP_MS: i64 = 250;

pub(super) const PARTITIONS: i32 = 4;

const USERS: u64 = 2_000;
const COUNTRIES: &[(&str, u64)] =
    &[("IN", 34), ("US", 22), ("BR", 16), ("DE", 12), ("JP", 9), ("NG", 7)];
const EVENTS: &[(&str, u64)] =
    &[("page_view", 62), ("click", 24), ("add_to_cart", 9), ("purchase", 5)];
const TAGS: &[&str] = &["web", "app", "sale", "new"];
const CAMPAIGNS: &[&str] = &["spring", "newsletter", "influencer"];

/// One record as it is produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DemoRecord {
    pub(super) kind: Kind,
    pub(super) partition: i32,
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) timestamp_ms: i64,
}

/// What is special about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    Late,
    UnknownField,
    WrongType,
    Bad,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number {
            n if n % 1000 == 999 => Self::Bad,
            n if n % 50 == 25 => Self::Late,
            n if n % 100 == 50 => Self::UnknownField,
            n if n % 500 == 120 => Self::WrongType,
            _ => Self::Ordinary,
        }
    }
}

/// The first records of the stream.
pub(super) fn records(count: u64) -> impl Iterator<Item = DemoRecord> + Send {
    let mut random = Random(SEED);
    (0..count).map(move |number| record(number, &mut random))
}

fn record(number: u64, random: &mut Random) -> DemoRecord {
    let kind = Kind::of(number);
    let user = random.below(USERS);
    let produced = START_MS + STEP_MS * i64::try_from(number).unwrap_or_default();
    let delay = match kind {
        Kind::Late => 3_600_000 + random.below(82_800_000),
        _ => random.below(2_000),
    };
    let happened = produced - i64::try_from(delay).unwrap_or_default();
    let event = random.weighted(EVENTS);
    let amount = amount(kind, event, random);
    let mut json = format!(
        r#"{{"id":{number},"ts":"{}","user":{{"id":"u-{user}","country":"{}"}},"event":"{event}"{amount},"tags":[{}]"#,
        iso(happened),
        country(user),
        tags(random)
    );
    match kind {
        Kind::UnknownField => {
            let campaign = random.one_of(CAMPAIGNS);
            json.push_str(&format!(r#","campaign":{{"name":"{campaign}","paid":true}}}}"#));
        }
        Kind::Bad if number % 2000 == 999 => json.truncate(json.len() / 2),
        Kind::Bad => json = format!(r#"{{"ts":"{}","event":"{event}"}}"#, iso(happened)),
        _ => json.push('}'),
    }
    DemoRecord {
        kind,
        partition: i32::try_from(user).unwrap_or_default() % PARTITIONS,
        key: format!("u-{user}"),
        value: json.into_bytes(),
        timestamp_ms: produced,
    }
}

/// A user stays in a country, so that the key decides it too.
fn country(user: u64) -> &'static str {
    Random(SEED ^ user).weighted(COUNTRIES)
}

/// The field `amount`, where there is one: what lies in the cart or was paid.
fn amount(kind: Kind, event: &str, random: &mut Random) -> String {
    match (kind, event) {
        (Kind::WrongType, _) => r#","amount":"on request""#.to_owned(),
        (_, "add_to_cart" | "purchase") => {
            let cents = 199 + random.below(24_800);
            format!(r#","amount":{}.{:02}"#, cents / 100, cents % 100)
        }
        _ => String::new(),
    }
}

fn tags(random: &mut Random) -> String {
    let chosen = random.below(1 << TAGS.len());
    let chosen = TAGS.iter().enumerate().filter(|(bit, _)| (chosen >> bit) & 1 == 1);
    chosen.map(|(_, tag)| format!(r#""{tag}""#)).collect::<Vec<_>>().join(",")
}

fn iso(ms: i64) -> String {
    format!("{:.3}", Timestamp::from_millisecond(ms).unwrap_or_default())
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of(&mut self, values: &[&'static str]) -> &'static str {
        let count = values.len() as u64;
        values.get(self.below(count) as usize).copied().unwrap_or_default()
    }

    fn weighted(&mut self, values: &[(&'static str, u64)]) -> &'static str {
        let mut at = self.below(values.iter().map(|(_, weight)| weight).sum());
        for &(value, weight) in values {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return value,
            }
        }
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(of: u64, kind: Kind) -> usize {
        records(of).filter(|record| record.kind == kind).count()
    }

    #[test]
    fn the_stream_is_the_same_each_time_and_a_longer_one_begins_like_a_shorter_one() {
        let once: Vec<_> = records(3_000).collect();
        assert!(once.iter().eq(records(9_000).take(3_000).collect::<Vec<_>>().iter()));
        let first = String::from_utf8(once[0].value.clone()).unwrap();
        assert_eq!(
            first,
            r#"{"id":0,"ts":"2026-01-05T08:59:59.450Z","user":{"id":"u-1069","country":"DE"},"event":"click","tags":["web","new"]}"#
        );
    }

    #[test]
    fn there_are_as_many_special_records_as_the_table_above_says() {
        assert_eq!(count(20_000, Kind::Bad), 20);
        assert_eq!(count(20_000, Kind::Late), 400);
        assert_eq!(count(20_000, Kind::UnknownField), 200);
        assert_eq!(count(20_000, Kind::WrongType), 40);
    }

    #[test]
    fn only_bad_records_are_no_json_or_have_no_id() {
        for record in records(4_000) {
            let json: Option<serde_json::Value> = serde_json::from_slice(&record.value).ok();
            let id = json.as_ref().and_then(|json| json["id"].as_u64());
            assert_eq!(id.is_none(), record.kind == Kind::Bad, "{record:?}");
            let campaign = json.is_some_and(|json| !json["campaign"].is_null());
            assert_eq!(campaign, record.kind == Kind::UnknownField, "{record:?}");
        }
    }

    #[test]
    fn a_user_stays_in_one_partition_and_all_partitions_have_records() {
        let mut seen = std::collections::BTreeMap::new();
        for record in records(4_000) {
            let partition = *seen.entry(record.key).or_insert(record.partition);
            assert_eq!(partition, record.partition);
        }
        let partitions: std::collections::BTreeSet<_> = seen.values().copied().collect();
        assert!(partitions.into_iter().eq(0..PARTITIONS));
    }
}
