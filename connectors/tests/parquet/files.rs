//! Names and content of data files, as readers find them.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use connector_api::batch::{PartitionValues, TableBatch, TableSchema};
use connector_api::contract::Subject;
use connector_api::contract::{
    Round, commit, committed, connector, created, range, topic_partition,
};

use super::place::Place;

#[tokio::test(flavor = "multi_thread")]
async fn files_are_named_so_that_a_person_can_read_them_and_say_where_rows_come_from() {
    let place = Place::in_memory();
    let mut table = created(&place).await;
    commit(&mut table, Round::new("t-1").new_range(3, 5, 9)).await;
    let names = place.names().await;
    assert_eq!(
        names,
        ["_alluvium/contract.ledger.json", "_alluvium/table.json", "part-t-1-0.zstd.parquet"]
    );
    let files = place.data_files().await;
    let notes: Vec<_> = files[0].notes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let tp = topic_partition(3);
    let offsets = format!("{{\"{}@{}/3\":[5,9]}}", tp.topic, tp.topic_id);
    assert_eq!(
        notes,
        [
            ("alluvium.connector", "contract"),
            ("alluvium.fingerprint", "sha256:0"),
            ("alluvium.offsets", offsets.as_str())
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_partitioned_table_are_in_folders_that_hive_knows_and_are_read_back() {
    let place = Place::in_memory();
    let columns = Schema::new(vec![
        Field::new("country", DataType::Utf8, true),
        Field::new("id", DataType::Int64, true),
    ]);
    let partition_columns = vec!["country".to_owned()];
    let schema = TableSchema { columns: Arc::new(columns), partition_columns };
    let mut table = place.sink().create(&connector(), &schema).await.unwrap();
    let in_file = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let values = [Some("DE"), None, Some("a/b =ü%")];
    let mut files = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let folder = PartitionValues(vec![("country".into(), value.map(str::to_owned))]);
        let mut file = table.writers.open_file(&format!("f-{index}"), &folder, "sha256:0").unwrap();
        let start = index as i64;
        let ids = Arc::new(Int64Array::from(vec![start]));
        let rows = RecordBatch::try_new(in_file.clone(), vec![ids]).unwrap();
        let tp = topic_partition(0);
        file.write(&TableBatch::new(tp, range(start, start + 1), folder, rows)).unwrap();
        file.finish().unwrap();
        files.push(file.stage().await.unwrap());
    }
    let round = Round::new("t-1").new_range(0, 0, 3).with_files(files);
    committed(table.committer.commit(&round).await);

    let names: Vec<String> = place.data_files().await.into_iter().map(|file| file.name).collect();
    assert_eq!(
        names,
        [
            "country=DE/part-f-0.zstd.parquet",
            "country=__HIVE_DEFAULT_PARTITION__/part-f-1.zstd.parquet",
            "country=a%2Fb %3Dü%25/part-f-2.zstd.parquet",
        ]
    );
    let reader = place.sink().read().await.unwrap().unwrap();
    let scanned = tokio::task::spawn_blocking(move || {
        let batches = reader.scan(&[1, 0]).unwrap().map(Result::unwrap);
        let text = |batch: RecordBatch| {
            arrow::util::pretty::pretty_format_batches(&[batch]).unwrap().to_string()
        };
        batches.map(text).collect::<Vec<_>>().join("\n")
    });
    let text = scanned.await.unwrap();
    for row in ["| 0  | DE      |", "| 1  |         |", "| 2  | a/b =ü% |"] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
}
