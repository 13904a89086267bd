//! Queries over tables of all kinds, in all formats.

mod fixture;

use std::fs;
use std::path::Path;

use connector_api::{Fault, Result};
use datafusion::parquet::arrow::ArrowWriter;
use fixture::{ROWS, batch, registry, write_table};

use super::*;

/// What `alluvium query FROM... SQL --format FORMAT` writes to a pipe.
async fn answer_as(format: Format, from: &[&str], sql: &str) -> Result<String> {
    answer(format, from, sql, 100, Look::default()).await
}

async fn answer(
    format: Format,
    from: &[&str],
    sql: &str,
    rows_max: usize,
    look: Look,
) -> Result<String> {
    let session = Session::new();
    let from: Vec<_> = from.iter().map(|from| (*from).to_owned()).collect();
    let tables = places::find(&from, &registry(), &session).await?;
    let rows = session.query(sql, &tables).await?;
    let mut out = Vec::new();
    print(rows, format, rows_max, look, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[track_caller]
fn check(found: Result<String>, expected: &str) {
    match found {
        Ok(found) => assert_eq!(found.trim_end(), expected.trim(), "\n{found}"),
        Err(error) => panic!("{error}"),
    }
}

/// The user is told, and it is the user's to mend.
#[track_caller]
fn check_refused(found: Result<String>, parts: &[&str]) {
    let error = found.expect_err("this must be refused");
    assert_eq!(error.fault(), Fault::User, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
    }
}

/// A folder with one table of [`ROWS`] named `clicks`, and its path as text.
async fn clicks() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("clicks");
    write_table(&table, ROWS, None).await;
    let table = table.display().to_string();
    (folder, table)
}

fn connector_file(folder: &Path, name: &str, table: &str) -> String {
    let file = folder.join(format!("{name}.yaml"));
    let yaml = format!(
        "version: 1\nname: {name}\nsource: {{kafka: {{bootstrap_servers: \"localhost:9092\", topics: [t]}}}}\n\
         decode: {{value: json}}\ntable: {{delta: {{location: {table:?}}}}}\n"
    );
    fs::write(&file, yaml).unwrap();
    file.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_aligned_and_nulls_are_visible() {
    let (_folder, table) = clicks().await;
    let sql = "select * from clicks order by id";
    let expected = r#"
 id | userId |                user                |  tags  | amount |            ts
----+--------+------------------------------------+--------+--------+--------------------------
  1 | u-1    | {id: u-1, country: IN}             | [a, b] |  12.50 | 2026-01-05T08:00:00.250Z
  2 | NULL   | NULL                               | NULL   |   NULL | NULL
  3 |        | {id: say "hi", u-3, country: NULL} | []     |  -0.05 | 2026-01-05T08:00:01Z
(3 rows)"#;
    let found = answer_as(Format::Table, &[&table], sql).await.unwrap();
    assert_eq!(found.trim_end(), expected.trim_start_matches('\n'), "\n{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_one_object_per_line_with_all_columns() {
    let (_folder, table) = clicks().await;
    let sql = "select * from clicks order by id";
    check(
        answer_as(Format::Json, &[&table], sql).await,
        r#"
{"id":1,"userId":"u-1","user":{"id":"u-1","country":"IN"},"tags":["a","b"],"amount":12.50,"ts":"2026-01-05T08:00:00.250Z"}
{"id":2,"userId":null,"user":null,"tags":null,"amount":null,"ts":null}
{"id":3,"userId":"","user":{"id":"say \"hi\", u-3","country":null},"tags":[],"amount":-0.05,"ts":"2026-01-05T08:00:01Z"}"#,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_tells_null_from_empty_and_writes_structs_as_json() {
    let (_folder, table) = clicks().await;
    let sql = "select * from clicks order by id";
    check(
        answer_as(Format::Csv, &[&table], sql).await,
        r#"
id,userId,user,tags,amount,ts
1,u-1,"{""id"":""u-1"",""country"":""IN""}","[""a"",""b""]",12.50,2026-01-05T08:00:00.250Z
2,,,,,
3,"","{""id"":""say \""hi\"", u-3"",""country"":null}",[],-0.05,2026-01-05T08:00:01Z"#,
    );
    check(
        answer_as(Format::Csv, &[&table], "select id, ts from clicks where id > 9").await,
        "id,ts",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_without_reading_a_column() {
    let (_folder, table) = clicks().await;
    check(answer_as(Format::Csv, &[&table], "select count(*) as n from clicks").await, "n\n3");
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_columns_come_back_where_the_schema_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("clicks");
    write_table(&table, ROWS, Some("2026 01")).await;
    let table = table.display().to_string();
    check(
        answer_as(Format::Csv, &[&table], "select part, id from clicks where id = 2").await,
        "part,id\n2026 01,2",
    );
    check(
        answer_as(Format::Csv, &[&table], "select part, count(*) as n from clicks group by part")
            .await,
        "part,n\n2026 01,3",
    );
    check(answer_as(Format::Csv, &[&table], "select count(*) as n from clicks").await, "n\n3");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_structs_are_read_with_a_dot_and_names_keep_their_spelling() {
    let (_folder, table) = clicks().await;
    let sql = "select user.country, userId, tags[1] as tag from clicks where user.id = 'u-1'";
    check(
        answer_as(Format::Json, &[&table], sql).await,
        r#"{"country":"IN","userId":"u-1","tag":"a"}"#,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_cut_at_the_most_rows_and_says_so_and_csv_is_not_cut() {
    let (_folder, table) = clicks().await;
    let sql = "select id from clicks order by id";
    let cut = answer(Format::Table, &[&table], sql, 2, Look::default()).await.unwrap();
    assert!(cut.contains("(the first 2 rows; there are more"), "{cut}");
    assert!(!cut.contains(" 3"), "{cut}");
    let exact = answer(Format::Table, &[&table], sql, 3, Look::default()).await.unwrap();
    assert!(exact.ends_with("(3 rows)\n"), "{exact}");
    check(answer(Format::Csv, &[&table], sql, 2, Look::default()).await, "id\n1\n2\n3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_becomes_a_block_where_the_terminal_is_too_narrow() {
    let (_folder, table) = clicks().await;
    let sql = "select id, userId, ts from clicks where id < 3 order by id";
    let look = Look { styled: false, width: Some(30) };
    check(
        answer(Format::Table, &[&table], sql, 100, look).await,
        "
-[ row 1 ]--------------------
id     | 1
userId | u-1
ts     | 2026-01-05T08:00:00.250Z
-[ row 2 ]--------------------
id     | 2
userId | NULL
ts     | NULL
(2 rows)",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_terminal_would_act_on_is_escaped() {
    let (_folder, table) = clicks().await;
    let found =
        answer_as(Format::Table, &[&table], "select 'a\u{1b}[2Jb' as x from clicks limit 1").await;
    assert!(found.unwrap().contains(r"a\u{1b}[2Jb"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_table_is_answered_with_those_that_are_there() {
    let (_folder, table) = clicks().await;
    let from = [table.as_str(), &format!("my-orders={table}")];
    check_refused(
        answer_as(Format::Csv, &from, "select * from click").await,
        &[
            "no table `click`",
            "did you mean clicks?",
            r#"the tables are "my-orders" (or my_orders), clicks"#,
        ],
    );
    check_refused(
        answer_as(Format::Csv, &from, "select * from lake.bronze.zzz").await,
        &["no table `lake.bronze.zzz`", "the tables are"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_hyphen_goes_quoted_or_with_an_underscore() {
    let (_folder, table) = clicks().await;
    let from = [format!("my-orders.v2={table}")];
    let from = [from[0].as_str()];
    for name in [r#""my-orders.v2""#, "my_orders_v2", "MY_ORDERS_V2"] {
        let sql = format!("select count(*) as n from {name}");
        check(answer_as(Format::Csv, &from, &sql).await, "n\n3");
    }
    check_refused(
        answer_as(Format::Csv, &from, "select count(*) from my-orders.v2").await,
        &["cannot be read", r#"`my-orders.v2` is written "my-orders.v2" (or my_orders_v2)"#],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tables_of_one_name_are_refused() {
    let (_folder, table) = clicks().await;
    let other = clicks().await;
    check_refused(
        answer_as(Format::Csv, &[&table, &other.1], "select * from clicks").await,
        &["two tables have the name `clicks`", "NAME=LOCATION"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_are_tables_by_their_names_and_one_without_a_table_harms_no_other() {
    let (folder, table) = clicks().await;
    connector_file(folder.path(), "web-clicks", &table);
    connector_file(folder.path(), "orders", &folder.path().join("orders").display().to_string());
    let connectors = folder.path().display().to_string();
    let sql = r#"select count(*) as n from "web-clicks""#;
    check(answer_as(Format::Csv, &[&connectors], sql).await, "n\n3");
    check_refused(
        answer_as(Format::Csv, &[&connectors], "select * from orders").await,
        &["connector `orders` has no table yet", "alluvium run"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_can_be_shown_and_described() {
    let (_folder, table) = clicks().await;
    let shown = answer_as(Format::Csv, &[&table], "show tables").await.unwrap();
    assert!(shown.contains("clicks"), "{shown}");
    let described = answer_as(Format::Csv, &[&table], "describe clicks").await.unwrap();
    assert!(described.contains("userId,Utf8,YES"), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_that_does_not_fit_is_refused() {
    let (_folder, table) = clicks().await;
    let from = [table.as_str()];
    check_refused(answer_as(Format::Csv, &from, "selec id from clicks").await, &["cannot be read"]);
    check_refused(
        answer_as(Format::Csv, &from, "select nothing from clicks").await,
        &["nothing", "userId"],
    );
    check_refused(answer_as(Format::Csv, &from, "drop table clicks").await, &["only reads"]);
    check_refused(
        answer_as(Format::Csv, &from, "copy clicks to '/tmp/never.csv'").await,
        &["only reads"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_that_holds_nothing_to_query_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("notes.txt"), "").unwrap();
    let refused = async |place: &str, parts: &[&str]| {
        check_refused(answer_as(Format::Csv, &[place], "select 1").await, parts);
    };
    refused(&path("empty"), &["holds no table", "empty"]).await;
    refused(&path("missing"), &["missing", "cannot be read"]).await;
    refused(&path("notes.txt"), &["neither a connector file"]).await;
    refused("ftp://lake/x", &["no known location"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_files_are_a_table_and_their_folders_are_columns() {
    let folder = tempfile::tempdir().unwrap();
    for (day, rows) in [("day=1", r#"{"id":1}"#), ("day=2", r#"{"id":2,"userId":"u"}"#)] {
        let file = folder.path().join("events").join(day).join("a.parquet");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let rows = batch(rows);
        let mut writer =
            ArrowWriter::try_new(fs::File::create(file).unwrap(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
    }
    let events = folder.path().join("events").display().to_string();
    let sql = "select id, userId, day from events order by id";
    check(answer_as(Format::Csv, &[&events], sql).await, "id,userId,day\n1,,1\n2,u,2");
    let file = format!("{events}/day=2/a.parquet");
    check(answer_as(Format::Csv, &[&file], "select id from a").await, "id\n2");
}

/// A pipe whose reader has gone.
struct ClosedPipe;

impl std::io::Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_closes_the_pipe_is_no_error() {
    let (_folder, table) = clicks().await;
    let session = Session::new();
    let tables = places::find(&[table], &registry(), &session).await.unwrap();
    for format in [Format::Table, Format::Json, Format::Csv] {
        let rows = session.query("select * from clicks", &tables).await.unwrap();
        print(rows, format, 0, Look::default(), &mut ClosedPipe).await.unwrap();
    }
}

#[derive(Debug, clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: QueryArgs,
}

#[test]
fn the_last_argument_is_the_sql_wherever_the_options_stand() {
    use clap::Parser;
    let of = |arguments: &[&str]| Cli::parse_from(arguments).args;
    let args = of(&["query", "a.yaml", "--format", "csv", "b", "select 1"]);
    let (from, sql) = args.split().unwrap();
    assert_eq!((from, sql), (&["a.yaml".to_owned(), "b".to_owned()][..], "select 1"));
    assert_eq!(args.format, Format::Csv);
    for missing in [&["query", "select 1"][..], &["query", "a.yaml", "b.yaml"]] {
        let error = of(missing).split().unwrap_err();
        assert!(error.to_string().contains("the SQL is missing"), "{error}");
    }
}
