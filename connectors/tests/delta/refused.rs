//! Tables and places that are refused by name, before the first byte is written.

use connector_api::config::SinkFactory;
use connector_api::contract::{
    Round, Subject, commit, connector, created, opened, rows, schema, visible_rows,
};
use connectors::delta::DeltaFactory;
use serde_json::{Value, json};

use super::place::Place;

/// The fields of [`schema`], as the log spells them.
fn fields() -> Vec<Value> {
    let field = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    vec![
        field("kafka_partition", "integer"),
        field("kafka_offset", "long"),
        field("text", "string"),
    ]
}

fn metadata(fields: &[Value], configuration: &Value) -> Value {
    let columns = json!({"type": "struct", "fields": fields}).to_string();
    json!({"metaData": {
        "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9", "format": {"provider": "parquet", "options": {}},
        "schemaString": columns, "partitionColumns": [], "configuration": configuration, "createdTime": 1
    }})
}

fn protocol(writer: u8, features: &[&str]) -> Value {
    match writer {
        7 => {
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": features}})
        }
        _ => json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": writer}}),
    }
}

/// Opens a table with this first version. `Ok` names nothing.
async fn open(entry: &[Value]) -> Result<Place, String> {
    let place = Place::new();
    place.write_entry(0, entry);
    match place.sink().open(&connector()).await {
        Ok(table) => {
            assert!(table.is_some());
            Ok(place)
        }
        Err(error) => {
            let written = place.faults.take_writes();
            assert_eq!(written, Vec::<String>::new(), "refused before the first byte");
            Err(error.to_string())
        }
    }
}

async fn check(protocol: Value, metadata: Value, expected: Result<(), &str>) {
    match (open(&[protocol, metadata]).await, expected) {
        (Ok(place), Ok(())) => {
            let mut table = opened(&place).await;
            commit(&mut table, Round::new("t-1").new_range(0, 0, 3)).await;
            assert_eq!(visible_rows(&place).await, rows(&[(0, 0, 3)]));
        }
        (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
        (found, expected) => panic!("expected {expected:?}, found {:?}", found.err()),
    }
}

fn plain() -> Value {
    metadata(&fields(), &json!({}))
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_writer_versions_that_imply_more_than_appends_are_refused() {
    check(protocol(1, &[]), plain(), Ok(())).await;
    check(protocol(2, &[]), plain(), Ok(())).await;
    for version in 3..=6 {
        let message = format!("writer version {version} ");
        check(protocol(version, &[]), plain(), Err(&message)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn features_that_an_append_cannot_honour_are_refused_by_name() {
    check(protocol(7, &[]), plain(), Ok(())).await;
    check(protocol(7, &["appendOnly", "changeDataFeed", "invariants"]), plain(), Ok(())).await;
    for feature in [
        "checkConstraints",
        "generatedColumns",
        "identityColumns",
        "allowColumnDefaults",
        "icebergCompatV1",
    ] {
        let message = format!("the feature `{feature}`");
        check(protocol(7, &["appendOnly", feature]), plain(), Err(&message)).await;
    }
    check(protocol(7, &["notInventedYet"]), plain(), Err("notInventedYet")).await;
    let mapped = json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["columnMapping"], "writerFeatures": ["columnMapping"]
    }});
    check(mapped, plain(), Err("the feature `columnMapping`")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn column_rules_are_found_where_no_feature_announces_them() {
    let rule = |key: &str, rule: Value| {
        let mut fields = fields();
        fields[2]["metadata"][key] = rule;
        metadata(&fields, &json!({}))
    };
    let generated = rule("delta.generationExpression", json!("upper(text)"));
    check(protocol(7, &[]), generated, Err("a generated column, `text`")).await;
    let invariant =
        rule("delta.invariants", json!("{\"expression\":{\"expression\":\"text <> ''\"}}"));
    check(protocol(2, &[]), invariant, Err("a column invariant, `text`")).await;
    check(
        protocol(7, &[]),
        rule("delta.identity.start", json!(1)),
        Err("an identity column, `text`"),
    )
    .await;
    check(protocol(7, &[]), rule("CURRENT_DEFAULT", json!("'x'")), Err("a column default, `text`"))
        .await;
    check(protocol(7, &[]), rule("comment", json!("harmless")), Ok(())).await;

    let mut nested = fields();
    nested.push(json!({"name": "outer", "nullable": true, "metadata": {}, "type": {"type": "struct", "fields": [
        {"name": "inner", "type": "string", "nullable": true, "metadata": {"delta.generationExpression": "text"}}
    ]}}));
    let message = "a generated column, `outer.inner`";
    check(protocol(7, &[]), metadata(&nested, &json!({})), Err(message)).await;
}

/// An expired offset would be read again from the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_forgets_offsets_is_refused() {
    let retention = |interval: &str| {
        metadata(&fields(), &json!({"delta.setTransactionRetentionDuration": interval}))
    };
    let message = "`delta.setTransactionRetentionDuration` of 604800 s";
    check(protocol(2, &[]), retention("interval 7 days"), Err(message)).await;
    check(protocol(2, &[]), retention("interval 60 days"), Ok(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_stands_in_the_way_is_named_at_once() {
    let mut fields = fields();
    fields[0]["metadata"]["delta.generationExpression"] = json!("1");
    let metadata = metadata(&fields, &json!({}));
    let message = open(&[protocol(7, &["checkConstraints", "identityColumns"]), metadata])
        .await
        .err()
        .unwrap();
    for part in
        ["`checkConstraints`", "`identityColumns`", "`kafka_partition`", "write into another table"]
    {
        assert!(message.contains(part), "{message}");
    }
}

/// Properties for a new table that the sink could not honour afterwards.
#[test]
fn properties_of_a_new_table_are_refused_by_name() {
    let place = Place::new();
    let mut settings = place.settings.clone();
    let refused = [
        "delta.setTransactionRetentionDuration",
        "delta.constraints.positive",
        "delta.columnMapping.mode",
        "delta.feature.checkConstraints",
    ];
    for key in
        refused.into_iter().chain(["delta.appendOnly", "delta.feature.deletionVectors", "mine"])
    {
        settings.properties.insert(key.to_owned(), "x".to_owned());
    }
    let errors = DeltaFactory.sink(&settings).unwrap_err();
    let mut keys: Vec<&str> = errors.iter().map(|error| error.key[2].as_str()).collect();
    keys.sort_unstable();
    let mut expected = refused.to_vec();
    expected.sort_unstable();
    assert_eq!(keys, expected);
}

async fn refusal(place: &Place) -> String {
    place.sink().open(&connector()).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_foreign_files_is_refused() {
    let place = Place::new();
    std::fs::create_dir_all(place.root().join("photos")).unwrap();
    assert!(place.sink().open(&connector()).await.unwrap().is_none(), "empty folders do no harm");
    std::fs::write(place.root().join("photos/cat.jpg"), "meow").unwrap();
    let message = refusal(&place).await;
    assert!(
        message.contains("photos/cat.jpg") && message.contains("choose an empty location"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_is_not_taken_for_an_empty_place() {
    let place = Place::new();
    drop(created(&place).await);
    std::fs::write(place.root().join("_delta_log/_last_checkpoint"), r#"{"version":5,"size":1}"#)
        .unwrap();
    std::fs::rename(place.entry(0), place.entry(6)).unwrap();
    let message = refusal(&place).await;
    assert!(message.contains("log cannot be read"), "{message}");
    assert!(place.sink().create(&connector(), &schema()).await.is_err());
    assert!(!place.entry(0).try_exists().unwrap(), "no table was created over it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_a_file_is_refused() {
    let place = Place::new();
    std::fs::write(place.root(), "a file").unwrap();
    let message = refusal(&place).await;
    assert!(message.contains("is no folder"), "{message}");
}

#[test]
fn units_of_time_are_no_partition_columns() {
    let mut settings = Place::new().settings;
    settings.partition_by = vec!["country".to_owned(), "day(ts)".to_owned()];
    let errors = DeltaFactory.sink(&settings).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].key, ["delta", "partition_by"]);
    assert!(errors[0].message.contains("`day(ts)` is a unit of time"), "{}", errors[0].message);
}

/// Two workers could both win the same version there.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused_with_and_without_a_table() {
    let place = Place::new();
    place.faults.ignore_conditions();
    let message = place.sink().create(&connector(), &schema()).await.unwrap_err().to_string();
    assert!(message.contains("does not keep the conditions of writes"), "{message}");
    assert!(!place.root().join("_delta_log").try_exists().unwrap(), "no table was made");

    let place = Place::new();
    drop(created(&place).await);
    place.faults.ignore_conditions();
    let message = refusal(&place).await;
    assert!(message.contains("does not keep the conditions of writes"), "{message}");
    assert!(!place.entry(1).try_exists().unwrap(), "nothing was committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_tried_once_and_what_that_leaves_behind_is_no_foreign_file() {
    let place = Place::new();
    let folder = place.root().join("_alluvium");
    std::fs::create_dir_all(&folder).unwrap();
    let left = "probe-0123456789abcdef0123456789abcdef";
    std::fs::write(folder.join(left), "of a worker that was killed").unwrap();
    let sink = place.sink();
    assert!(sink.open(&connector()).await.unwrap().is_none());
    assert_eq!(place.faults.take_writes(), Vec::<String>::new(), "there is no table to write to");
    drop(sink.create(&connector(), &schema()).await.unwrap());
    drop(sink.open(&connector()).await.unwrap());
    let writes = place.faults.take_writes();
    let tries: Vec<_> = writes.iter().filter(|write| write.contains("/_alluvium/probe-")).collect();
    assert!(tries.len() == 2 && tries[0] == tries[1], "{tries:?}");
}
