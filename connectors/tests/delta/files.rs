//! Data files: partitions, sizes, compression, statistics.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use connector_api::batch::{PartitionValues, TableBatch, TableSchema};
use connector_api::config::Compression;
use connector_api::contract::{
    Round, Subject, batch, commit, committed, connector, created, range, rows, topic_partition,
    visible_rows,
};
use connector_api::sink::OpenTable;
use connector_api::staged::StagedFile;
use serde_json::{Value, json};

use super::place::Place;

/// A table with a column `id`, partitioned by a column of this type.
async fn partitioned(place: &Place, data_type: DataType) -> OpenTable {
    let columns = Schema::new(vec![
        Field::new("by", data_type, true),
        Field::new("id", DataType::Int64, true),
    ]);
    let schema = TableSchema { columns: Arc::new(columns), partition_columns: vec!["by".into()] };
    let table = place.sink().create(&connector(), &schema).await.unwrap();
    assert_eq!(table.schema, schema);
    table
}

fn ids(first: i64, values: &PartitionValues) -> TableBatch {
    let columns = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
    let ids = Int64Array::from_iter_values(first..first + 10);
    let rows = RecordBatch::try_new(Arc::new(columns), vec![Arc::new(ids)]).unwrap();
    TableBatch::new(topic_partition(0), range(first, first + 10), values.clone(), rows)
}

async fn staged(table: &OpenTable, name: &str, first: i64, value: Option<&str>) -> StagedFile {
    let values = PartitionValues(vec![("by".into(), value.map(str::to_owned))]);
    let mut writer = table.writers.open_file(name, &values, "sha256:0").unwrap();
    writer.write(&ids(first, &values)).unwrap();
    writer.finish().unwrap();
    let file = writer.stage().await.unwrap();
    assert_eq!(file.partition_values, values);
    file
}

/// Writes a file for each value, and compares what a reader finds: the value in the log, and the file's rows.
async fn check(data_type: DataType, values: &[Option<&str>]) {
    let place = Place::new();
    let mut table = partitioned(&place, data_type).await;
    let mut files = Vec::new();
    for (i, value) in values.iter().enumerate() {
        files.push(staged(&table, &format!("f-{i}"), i as i64 * 10, *value).await);
    }
    let end = values.len() as i64 * 10;
    let round = Round::new("t-1").new_range(0, 0, end);
    committed(table.committer.commit(&round.with_files(files)).await);

    let log = place.log();
    assert_eq!(log.actions("metaData").next().unwrap()["partitionColumns"], json!(["by"]));
    let mut found = BTreeMap::new();
    for file in log.files(&place.root()) {
        let ids = file.batches[0].column_by_name("id").unwrap().as_primitive::<Int64Type>();
        assert!(file.batches[0].column_by_name("by").is_none(), "the value is in the log alone");
        assert_eq!(ids.len(), 10);
        found.insert(ids.value(0), file.add["partitionValues"]["by"].clone());
    }
    let value = |value: &Option<&str>| value.map_or(Value::Null, |text| json!(text));
    let expected = values.iter().enumerate().map(|(i, v)| (i as i64 * 10, value(v))).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_values_of_every_kind_reach_the_log_as_they_are() {
    check(
        DataType::Utf8,
        &[Some("DE"), None, Some("a b/c%:=ü"), Some("a%20b"), Some("#?&+\\\"'"), Some("..")],
    )
    .await;
    check(DataType::Date32, &[Some("2026-01-31"), Some("1969-12-31"), None]).await;
    check(DataType::Int32, &[Some("7"), Some("-7"), None]).await;
    check(DataType::Int64, &[Some("9007199254740993")]).await;
    check(DataType::Boolean, &[Some("true"), Some("false"), None]).await;
    check(DataType::Decimal128(10, 2), &[Some("12.30"), Some("-0.05")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_values_that_do_not_fit_the_column_are_refused() {
    let place = Place::new();
    let table = partitioned(&place, DataType::Date32).await;
    let open = |values: &[(&str, Option<&str>)]| {
        let own =
            |(column, value): &(&str, Option<&str>)| (column.to_string(), value.map(str::to_owned));
        table.writers.open_file(
            "f-1",
            &PartitionValues(values.iter().map(own).collect()),
            "sha256:0",
        )
    };
    assert!(open(&[("by", Some("2026-13-01"))]).is_err());
    assert!(open(&[("other", Some("2026-01-01"))]).is_err());
    assert!(open(&[]).is_err());
    assert!(open(&[("by", Some("2026-01-01"))]).is_ok());
}

/// Texts that cannot be compressed, so that a file gets its size.
fn noise(rows: usize, bytes_per_row: usize) -> StringArray {
    let mut state = 1u64;
    let mut text = || {
        let mut text = String::with_capacity(bytes_per_row);
        while text.len() < bytes_per_row {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(&format!("{:012x}", state >> 16));
        }
        text
    };
    StringArray::from_iter_values((0..rows).map(|_| text()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_up_in_parts_and_is_whole() {
    let mut place = Place::new();
    place.settings.compression = Compression::Uncompressed;
    let mut table = created(&place).await;
    let small = batch(&topic_partition(0), 0, 2000);
    let mut columns = small.rows().columns().to_vec();
    columns[2] = Arc::new(noise(2000, 20_000));
    let large = RecordBatch::try_new(small.rows().schema(), columns).unwrap();
    let large =
        TableBatch::new(topic_partition(0), range(0, 2000), PartitionValues::default(), large);
    let mut writer =
        table.writers.open_file("large", &PartitionValues::default(), "sha256:0").unwrap();
    writer.write(&large).unwrap();
    writer.finish().unwrap();
    place.faults.take_writes();
    let file = writer.stage().await.unwrap();
    assert!(file.bytes > 33 << 20, "{} bytes are three parts", file.bytes);
    let writes = place.faults.take_writes();
    assert!(writes.len() == 1 && writes[0].starts_with("multipart "), "{writes:?}");
    let round = Round::new("t-1").new_range(0, 0, 2000);
    committed(table.committer.commit(&round.with_files(vec![file])).await);
    assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 2000)]));
    let files = place.log().files(&place.root());
    let texts: Vec<_> =
        files[0].batches.iter().flat_map(|b| b.column(2).as_string::<i32>().iter()).collect();
    assert!(
        texts.into_iter().eq(large.rows().column(2).as_string::<i32>().iter()),
        "the parts are in order"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_part_leaves_no_upload_behind() {
    let mut place = Place::new();
    place.settings.compression = Compression::Uncompressed;
    let table = created(&place).await;
    let small = batch(&topic_partition(0), 0, 1000);
    let mut columns = small.rows().columns().to_vec();
    columns[2] = Arc::new(noise(1000, 20_000));
    let large = RecordBatch::try_new(small.rows().schema(), columns).unwrap();
    let large =
        TableBatch::new(topic_partition(0), range(0, 1000), PartitionValues::default(), large);
    let mut writer =
        table.writers.open_file("large", &PartitionValues::default(), "sha256:0").unwrap();
    writer.write(&large).unwrap();
    writer.finish().unwrap();
    place.faults.fail_parts(1);
    assert!(writer.stage().await.is_err());
    assert_eq!(place.faults.take_writes().last().unwrap(), "abort");
    let file = writer.stage().await.unwrap();
    assert_eq!(file.rows, 1000, "staged again, it is whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_file_says_how_it_is_compressed() {
    let compressions = [
        (Compression::Zstd(3), ".zstd.parquet"),
        (Compression::Snappy, ".snappy.parquet"),
        (Compression::Lz4, ".lz4raw.parquet"),
        (Compression::Uncompressed, "f-1.parquet"),
    ];
    for (compression, ending) in compressions {
        let mut place = Place::new();
        place.settings.compression = compression;
        let mut table = created(&place).await;
        let file = connector_api::contract::staged_file(
            &table,
            "f-1",
            &[batch(&topic_partition(0), 0, 10)],
        )
        .await;
        assert!(file.path.contains("part-f-1") && file.path.ends_with(ending), "{}", file.path);
        let round = Round::new("t-1").new_range(0, 0, 10);
        committed(table.committer.commit(&round.with_files(vec![file])).await);
        assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 10)]));
    }
}

/// Readers skip files by these.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_a_file_stand_in_the_log() {
    let place = Place::new();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(3, 100, 120)).await;
    let log = place.log();
    let add = log.actions("add").next().unwrap();
    let statistics: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
    assert_eq!(statistics["numRecords"], 20);
    assert_eq!(
        statistics["minValues"],
        json!({"kafka_partition": 3, "kafka_offset": 100, "text": "row 100"})
    );
    assert_eq!(
        statistics["maxValues"],
        json!({"kafka_partition": 3, "kafka_offset": 119, "text": "row 119"})
    );
    assert_eq!(
        statistics["nullCount"],
        json!({"kafka_partition": 0, "kafka_offset": 0, "text": 0})
    );
    assert_eq!(add["dataChange"], true);
}

/// An empty file would be a file that no range accounts for.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_rows_is_not_finished() {
    let place = Place::new();
    let table = created(&place).await;
    let mut writer =
        table.writers.open_file("f-1", &PartitionValues::default(), "sha256:0").unwrap();
    assert!(writer.finish().is_err());
}
