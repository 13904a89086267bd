//! The ground that the other tests stand on: what we rely on in things that are not ours.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Column;
use integration_tests::foreign_table::{ForeignTable, field, our_fields};
use integration_tests::location::Location;
use integration_tests::object_store::object_store;
use integration_tests::producer::{
    Feed, Produced, Record, Route, produce, produce_in_transactions, round_robin,
};
use integration_tests::reader;
use integration_tests::verifier::{compare, differing_rows, records_sql};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// All values of a topic by partition and offset, as another consumer reads them.
fn read_back(topic: &str, partitions: i32) -> BTreeMap<(i32, i64), String> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &broker().bootstrap)
        .set("group.id", topic)
        .set("enable.partition.eof", "true");
    config.set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assigned = TopicPartitionList::new();
    (0..partitions)
        .for_each(|p| assigned.add_partition_offset(topic, p, Offset::Beginning).unwrap());
    consumer.assign(&assigned).unwrap();
    let (mut values, mut ended) = (BTreeMap::new(), 0);
    while ended < partitions {
        match consumer.poll(Duration::from_secs(30)).expect("a record, or the end of a partition") {
            Ok(message) => {
                let value = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
                values.insert((message.partition(), message.offset()), value);
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    values
}

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> + Send {
    range.map(|n| format!(r#"{{"n":{n}}}"#))
}

#[test]
fn the_producer_knows_where_each_record_went() {
    let case = case!();
    let topic = case.topic(3);
    let mut produced = produce(&topic, round_robin(3, numbers(0..10_000)));
    let by_key = |n: String| Record { route: Route::Key(n.clone()), value: n };
    produced.extend(produce(&topic, numbers(10_000..11_000).map(by_key)));
    let feed = Feed::start(&topic, 2_000, round_robin(3, numbers(11_000..1_000_000)));
    feed.wait_for(1_000);
    produced.extend(feed.stop());

    assert!(produced.records.len() >= 12_000);
    let values: BTreeMap<_, _> =
        produced.records.into_iter().map(|(place, record)| (place, record.value)).collect();
    assert!(values == read_back(&topic, 3), "what was produced and what a consumer reads differ");
}

#[test]
fn aborted_records_take_offsets_and_are_not_among_the_produced() {
    let case = case!();
    let topic = case.topic(1);
    let batches = (0..6)
        .map(|batch| round_robin(1, numbers(batch * 10..batch * 10 + 10)).collect())
        .collect();
    let produced = produce_in_transactions(&topic, batches, |index| index % 3 == 1);

    assert_eq!(produced.records.len(), 40);
    // Six transactions of ten records, each with a marker.
    assert_eq!(broker().end_offset(&topic, 0), 66);
    let values: BTreeMap<_, _> =
        produced.records.into_iter().map(|(place, record)| (place, record.value)).collect();
    assert_eq!(values, read_back(&topic, 1));
}

#[test]
fn the_store_lets_one_of_many_writers_create_a_key() {
    let bucket = case!().unique("race");
    object_store().create_bucket(&bucket);
    for round in 0..20 {
        let key = format!("key-{round}");
        let winners: usize = thread::scope(|scope| {
            let writers: Vec<_> = (0..32)
                .map(|writer| {
                    let (bucket, key) = (&bucket, &key);
                    scope.spawn(move || {
                        object_store().create_object(bucket, key, &format!("writer {writer}"))
                    })
                })
                .collect();
            writers
                .into_iter()
                .filter(|_| true)
                .map(|writer| usize::from(writer.join().unwrap()))
                .sum()
        });
        assert_eq!(winners, 1, "writers who created {key}");
    }
}

#[test]
fn the_reader_says_that_there_is_no_table() {
    let case = case!();
    for location in [case.local_table(), case.s3_table()] {
        assert_eq!(reader::versions(&location), 0, "{location:?}");
        assert!(
            reader::try_query(&location, "select count(*) from {table}").is_err(),
            "{location:?}"
        );
    }
    assert!(matches!(case.local_table(), Location::Local(_)));
}

const NUMBER: &[Column] = &[Column { name: "n", ours: "long", duckdb: "BIGINT", nullable: true }];

/// A table of what was produced that DuckDB writes, with something wrong in it.
fn table_by_duckdb(case: &Case, produced: &Produced, number: &str, wrong: &str) -> Location {
    let location = case.local_table();
    let mut fields = vec![field("n", "long")];
    fields.extend(our_fields());
    ForeignTable { reader_version: 1, writer_version: 2, fields }.create(&location);
    let kafka = ["topic", "partition", "offset", "timestamp"]
        .map(|name| format!("'{name}': \"{name}\""))
        .join(", ");
    let sql = format!(
        "copy (select {number} as n, {{{kafka}}} as _kafka, null::varchar as _rescued
           from (select value.n as n, * from ({})) {wrong}) to '{}/rows.parquet'",
        records_sql(case, produced, NUMBER),
        location.uri(),
    );
    reader::query(&location, &sql);
    ForeignTable::add_file(&location, 1, "rows.parquet");
    location
}

/// What the verifier says of such a table: on its offsets, and which offsets have differing values.
#[track_caller]
fn check_verifier(
    case: &Case,
    number: &str,
    wrong: &str,
    offsets: Result<(), &str>,
    differing: &[i64],
) {
    let topic = case.topic(1);
    let produced = produce(&topic, round_robin(1, numbers(0..1_000)));
    let location = table_by_duckdb(case, &produced, number, wrong);
    let expected = offsets.map_err(|message| format!("{}\n", message.replace("TOPIC", &topic)));
    assert_eq!(compare(&[&produced], &reader::seen(&location)), expected);
    let rows = differing_rows(case, &produced, &location, NUMBER);
    assert_eq!(rows.iter().map(|row| row[2].as_i64().unwrap()).collect::<Vec<_>>(), differing);
}

#[test]
fn the_verifier_accepts_a_table_of_what_was_produced() {
    check_verifier(&case!(), "n", "", Ok(()), &[]);
}

#[test]
fn the_verifier_sees_a_record_that_is_missing() {
    check_verifier(&case!(), "n", "where n <> 7", Err("1 missing: TOPIC-0@7"), &[7]);
}

#[test]
fn the_verifier_sees_a_record_that_is_there_twice() {
    let twice = "cross join generate_series(case when n = 7 then 0 else 1 end, 1)";
    check_verifier(&case!(), "n", twice, Err("1 more than once: TOPIC-0@7"), &[]);
}

#[test]
fn the_verifier_sees_a_value_that_is_not_the_record_s() {
    check_verifier(
        &case!(),
        "case when n = 7 then null when n = 9 then 8 else n end",
        "",
        Ok(()),
        &[7, 9],
    );
}

#[test]
fn the_verifier_sees_a_record_that_has_the_row_of_another() {
    let swapped = "case when n = 7 then 8 when n = 8 then 7 else n end";
    check_verifier(&case!(), swapped, "", Ok(()), &[7, 8]);
}
