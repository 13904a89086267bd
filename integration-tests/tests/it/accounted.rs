//! Every record accounted for: a million of them, good, bad and absent, through crashes and restarts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::connector::{Column, Connector};
use integration_tests::foreign_table::sum_of_commits;
use integration_tests::random::Random;
use integration_tests::raw::{Place, RawProducer, RawRecord};
use integration_tests::reader;
use integration_tests::wait::eventually;
use integration_tests::worker::{Signal, run, run_until_end};
use serde_json::json;

use crate::PATIENCE;

const SEED: u64 = 20_261_124;
const RECORDS: usize = 1_000_000;
/// Between them the worker is killed, drained, or left to run.
const CHUNKS: usize = 4;
const PARTITIONS: u64 = 4;

const fn column(name: &'static str, ours: &'static str) -> Column {
    Column { name, ours, duckdb: "", nullable: true }
}

const COLUMNS: &[Column] = &[
    Column { name: "id", ours: "long", duckdb: "", nullable: false },
    column("ts", "timestamp"),
    column("amount", "decimal(12,2)"),
    column("user", "struct<name: string, n: int>"),
    column("tags", "array<string>"),
    column("flag", "boolean"),
    column("text", "string"),
];

/// Values that are no rows, each with the code that says why.
fn malformed() -> Vec<(Vec<u8>, &'static str)> {
    let mut ways: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "empty_value"),
        (b"{\"id\":1,\"text\":\"\xff\"}".to_vec(), "invalid_utf8"),
        (b"{\"id\":1,\"\xc3\x28\":1}".to_vec(), "invalid_utf8"),
        (b"\x00\x01\x02\x03".to_vec(), "json_syntax"),
        (format!("{{\"id\":{}1{}}}", "[".repeat(100), "]".repeat(100)).into_bytes(), "too_deep"),
        (format!("{{\"id\":1,\"text\":\"{}", "x".repeat(100_000)).into_bytes(), "json_syntax"),
    ];
    let texts = [
        (" ", "json_syntax"),
        ("{", "json_syntax"),
        (r#"{"id":}"#, "json_syntax"),
        (r#"{"id":1,}"#, "json_syntax"),
        (r#"{"id":01}"#, "json_syntax"),
        (r#"{"id":+1}"#, "json_syntax"),
        (r#"{"id":1.}"#, "json_syntax"),
        (r#"{"id":1e}"#, "json_syntax"),
        (r#"{"id":NaN}"#, "json_syntax"),
        (r#"{"id":Infinity}"#, "json_syntax"),
        (r#"{'id':1}"#, "json_syntax"),
        (r#"{id:1}"#, "json_syntax"),
        (r#"{"id":1}}"#, "json_syntax"),
        (r#"{"id":1} x"#, "json_syntax"),
        (r#"{"id":1 "flag":true}"#, "json_syntax"),
        ("\u{feff}{\"id\":1}", "json_syntax"),
        (r#"{"id":1,"text":"\ud800"}"#, "json_syntax"),
        (r#"{"id":1,"text":"\x"}"#, "json_syntax"),
        ("{\"id\":1,\"text\":\"a\nb\"}", "json_syntax"),
        ("[]", "not_an_object"),
        ("null", "not_an_object"),
        ("1", "not_an_object"),
        (r#""text""#, "not_an_object"),
        ("{}", "null_in_required"),
        (r#"{"id":null}"#, "null_in_required"),
        (r#"{"flag":true}"#, "null_in_required"),
        (r#"{"id":1.5}"#, "not_exact"),
        (r#"{"id":1,"amount":1.234}"#, "not_exact"),
        (r#"{"id":1e400}"#, "not_exact"),
        (r#"{"id":9223372036854775808}"#, "out_of_range"),
        (r#"{"id":1,"amount":99999999999.99}"#, "out_of_range"),
        (r#"{"id":1,"user":{"n":3000000000}}"#, "out_of_range"),
        (r#"{"id":"12"}"#, "wrong_type"),
        (r#"{"id":1,"user":5}"#, "wrong_type"),
        (r#"{"id":1,"tags":"a"}"#, "wrong_type"),
        (r#"{"id":1,"tags":[1]}"#, "wrong_type"),
        (r#"{"id":1,"flag":"true"}"#, "wrong_type"),
        (r#"{"id":1,"ts":"yesterday"}"#, "invalid_time"),
        (r#"{"id":1,"ts":"2026-02-30T00:00:00Z"}"#, "invalid_time"),
        (r#"{"id":1,"nobody":"knows me"}"#, "unknown_field"),
    ];
    ways.extend(texts.map(|(text, cause)| (text.as_bytes().to_vec(), cause)));
    assert!(ways.len() >= 40);
    ways
}

/// What a record must become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Row(usize),
    Dead(&'static str),
    Tombstone,
}

struct Generator {
    random: Random,
    malformed: Vec<(Vec<u8>, &'static str)>,
    made: usize,
}

impl Generator {
    fn next(&mut self) -> (RawRecord, Fate) {
        self.made += 1;
        let (id, partition) = (self.made, self.random.between(0, PARTITIONS) as i32);
        match self.random.between(0, 100) {
            0..5 => {
                let way = self.random.between(0, self.malformed.len() as u64) as usize;
                let (value, cause) = &self.malformed[way];
                (RawRecord::of(partition, value.clone()), Fate::Dead(cause))
            }
            5..7 => {
                let key = Some(id.to_string().into_bytes());
                (RawRecord { partition, key, ..RawRecord::default() }, Fate::Tombstone)
            }
            _ => (RawRecord::of(partition, self.good(id)), Fate::Row(id)),
        }
    }

    fn good(&mut self, id: usize) -> String {
        let mut value = format!(r#"{{"id":{id},"amount":{}.{:02}"#, id % 1_000_000, id % 100);
        let second = id % 60;
        write!(value, r#","ts":"2026-11-24T12:00:{second:02}.{:06}Z""#, id % 1_000_000).unwrap();
        if id.is_multiple_of(3) {
            write!(value, r#","user":{{"name":"u{id}","n":{}}},"tags":["a","b"]"#, id % 100)
                .unwrap();
        }
        if id.is_multiple_of(100_000) {
            write!(value, r#","text":"{}""#, self.random.text(2_000_000)).unwrap();
        }
        value + "}"
    }
}

#[test]
fn a_million_records_add_up_offset_by_offset() {
    let case = case!();
    println!("seed {SEED}");
    let topic = case.topic(PARTITIONS as i32);
    broker().set_message_bytes_max(&topic, 8_000_000);
    let compacted = case.unique("compacted");
    broker().create_compacted_topic(&compacted);
    let mut connector = Connector::new(&case.unique("accounted"), &topic, &case.local_table());
    connector.topics = format!("topics: [{topic}, {compacted}]");
    connector.columns = Some(COLUMNS);
    connector.properties.push(("fetch.message.max.bytes", "8000000".into()));
    let yaml = connector.yaml().replace("schema:\n", "schema:\n  on_unknown_field: reject\n");
    let file = case.write("accounted.yaml", &yaml);

    let mut generator = Generator { random: Random::new(SEED), malformed: malformed(), made: 0 };
    let mut fates: BTreeMap<Place, Fate> = BTreeMap::new();
    let mut kept: BTreeMap<usize, Place> = BTreeMap::new();
    let mut plain = RawProducer::new(&topic, &[]);
    let mut transactional = RawProducer::new(&topic, &[("transactional.id", &topic)]);
    transactional.init_transactions();
    let mut keyed = RawProducer::new(&compacted, &[]);
    for chunk in 0..CHUNKS {
        // Before its records: the worker may be done with them when the last one is sent.
        let before = reader::rows(&connector.location);
        let worker = run(&case, &file).start();
        let (records, of): (Vec<_>, Vec<_>) =
            (0..RECORDS / CHUNKS).map(|_| generator.next()).unzip();
        fates.extend(plain.produce(&records).into_iter().zip(of));
        for transaction in 0..6 {
            let (records, of): (Vec<_>, Vec<_>) = (0..500).map(|_| generator.next()).unzip();
            let commit = transaction % 3 == 0;
            let places = transactional.produce_in_transaction(&records, commit);
            if commit {
                fates.extend(places.into_iter().zip(of));
            }
        }
        for _ in 0..20 {
            let ids: Vec<usize> = (0..50).map(|i| RECORDS * 10 + generator.made + i).collect();
            generator.made += 50;
            let record = |id: &usize| RawRecord {
                key: Some((id % 10).to_string().into_bytes()),
                ..RawRecord::of(0, format!(r#"{{"id":{id}}}"#))
            };
            let places = keyed.produce(&ids.iter().map(record).collect::<Vec<_>>());
            kept.extend(ids.into_iter().zip(places));
        }
        match chunk {
            0 => worker.kill_nine(),
            1 => {
                eventually(PATIENCE, "rows come", || {
                    (reader::rows(&connector.location) > before).then_some(())
                });
                worker.kill_nine();
            }
            _ => {
                worker.signal(Signal::Term);
                worker.wait(PATIENCE).assert_code(0);
            }
        }
    }
    run_until_end(&case, &file).start().wait(PATIENCE).assert_code(0);

    let expected = case.folder.join("expected.ndjson");
    write_expected(&expected, &fates);
    for (location, kind, value) in
        [(&connector.location, "row", "id::varchar"), (&connector.dead_letters(), "dead", "cause")]
    {
        let sql = format!(
            "with expected as (select * from read_json('{}', columns = {{p: 'int', o: 'bigint', kind: 'varchar', what: 'varchar'}})
                 where kind = '{kind}'),
               found as (select _kafka.\"partition\" p, _kafka.\"offset\" o, {value} as what from {{table}} where _kafka.topic = '{topic}')
             select 'missing', count(*) from (from expected except all from (select p, o, '{kind}', what from found))
             union all select 'too many', count(*) from (from (select p, o, '{kind}', what from found) except all from expected)
             union all select 'found', count(*) from found",
            expected.display()
        );
        let of_kind = fates.values().filter(|fate| kind_of(fate).0 == kind).count();
        let found = reader::query(location, &sql);
        assert_eq!(
            found,
            [
                [json!("missing"), json!(0)],
                [json!("too many"), json!(0)],
                [json!("found"), json!(of_kind)]
            ],
            "{kind}s in {}",
            location.uri()
        );
    }

    // What compaction has left, when it was read, is in the table with its own value.
    let of_compacted = format!(
        "select _kafka.\"offset\", id from {{table}} where _kafka.topic = '{compacted}' order by 1"
    );
    let rows = reader::query(&connector.location, &of_compacted);
    let of_offset: BTreeMap<i64, usize> = kept.iter().map(|(id, (_, o))| (*o, *id)).collect();
    let mut last_of_key: BTreeMap<usize, i64> = BTreeMap::new();
    kept.iter().for_each(|(id, (_, offset))| {
        last_of_key.insert(id % 10, *offset);
    });
    let found: Vec<(i64, usize)> = rows
        .iter()
        .map(|row| (row[0].as_i64().unwrap(), row[1].as_u64().unwrap() as usize))
        .collect();
    assert!(found.iter().all(|(offset, id)| of_offset.get(offset) == Some(id)), "other values");
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "twice");
    assert!(
        last_of_key.values().all(|offset| found.iter().any(|(o, _)| o == offset)),
        "the last record of a key is missing"
    );

    // CM-4, over all commits.
    let sum = |key: &str| sum_of_commits(&connector.location, key);
    let rows = reader::rows(&connector.location);
    let of = |wanted: &str| fates.values().filter(|fate| kind_of(fate).0 == wanted).count() as u64;
    assert_eq!(sum("alluvium.rejected"), of("dead"));
    assert_eq!(sum("alluvium.tombstones"), of("tombstone"));
    assert_eq!(sum("alluvium.consumed"), rows + of("dead") + of("tombstone"));
    broker().delete_topic(&compacted);
}

fn kind_of(fate: &Fate) -> (&'static str, String) {
    match fate {
        Fate::Row(id) => ("row", id.to_string()),
        Fate::Dead(cause) => ("dead", (*cause).to_owned()),
        Fate::Tombstone => ("tombstone", String::new()),
    }
}

fn write_expected(path: &Path, fates: &BTreeMap<Place, Fate>) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    for ((p, o), fate) in fates {
        let (kind, what) = kind_of(fate);
        writeln!(file, r#"{{"p":{p},"o":{o},"kind":"{kind}","what":"{what}"}}"#).unwrap();
    }
    file.flush().unwrap();
}
