//! DuckDB: the tables as an analyst sees them, by a reader that shares no code with us above the Delta kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::location::Location;
use crate::paths;

/// What tells a folder of Parquet files from a Delta table.
const PARQUET_TABLE: &str = "_alluvium/table.json";

/// How often each topic partition and offset is in a table.
pub type Seen = BTreeMap<(String, i32, i64), u64>;

/// Asks DuckDB. In the query, `{table}` stands for the table. Brings the rows.
#[track_caller]
pub fn query(location: &Location, sql: &str) -> Vec<Vec<Value>> {
    try_query(location, sql)
        .unwrap_or_else(|error| panic!("DuckDB could not answer {sql}\n{error}"))
}

/// The same, where the reader's refusal is an answer.
pub fn try_query(location: &Location, sql: &str) -> Result<Vec<Vec<Value>>, String> {
    let sql = match sql.contains("{table}") {
        true => sql.replace("{table}", &source(location)),
        false => sql.to_owned(),
    };
    let request = json!({"sql": sql, "s3": location.reader_secret()});
    let mut child = Command::new(paths::python())
        .arg(paths::package().join("python/read_table.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(request.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    Ok(text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is a JSON array"))
        .collect())
}

/// The table in DuckDB's words: by its log, or by listing the folder.
fn source(location: &Location) -> String {
    let uri = location.uri();
    match is_parquet(location) {
        true => format!("read_parquet('{uri}/**/*.parquet', hive_partitioning = true)"),
        false => format!("delta_scan('{uri}')"),
    }
}

fn is_parquet(location: &Location) -> bool {
    match location {
        Location::Local(folder) => folder.join(PARQUET_TABLE).try_exists().unwrap(),
        // A pattern: DuckDB takes a name without one for a file that is there, and does not look.
        Location::S3 { uri, .. } => {
            files(location, &format!("{uri}/{}", PARQUET_TABLE.replace(".json", "*.json"))) > 0
        }
        Location::Azure { .. } | Location::Gcs { .. } => location.out_of_reach(),
    }
}

/// The number of files that this pattern finds.
pub fn files(location: &Location, pattern: &str) -> u64 {
    let sql = format!("select count(*) from glob('{pattern}')");
    query(location, &sql)[0][0].as_u64().unwrap()
}

/// One value.
#[track_caller]
pub fn value(location: &Location, sql: &str) -> Value {
    query(location, sql).swap_remove(0).swap_remove(0)
}

/// How often each topic partition and offset is in the table.
#[track_caller]
pub fn seen(location: &Location) -> Seen {
    let sql = "select _kafka.topic, _kafka.partition, _kafka.\"offset\", count(*) from {table} group by all";
    query(location, sql)
        .into_iter()
        .map(|row| {
            let (topic, partition, offset) = (row[0].as_str(), row[1].as_i64(), row[2].as_i64());
            let place = (
                topic.unwrap().to_owned(),
                partition.unwrap().try_into().unwrap(),
                offset.unwrap(),
            );
            (place, row[3].as_u64().unwrap())
        })
        .collect()
}

/// The number of rows; none if there is no table.
pub fn rows(location: &Location) -> u64 {
    let empty = match is_parquet(location) {
        true => files(location, &format!("{}/**/*.parquet", location.uri())) == 0,
        false => versions(location) == 0,
    };
    if empty {
        return 0;
    }
    value(location, "select count(*) from {table}").as_u64().unwrap()
}

/// The table's columns: names and DuckDB's types.
#[track_caller]
pub fn columns(location: &Location) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = query(location, "select column_name, column_type from (describe from {table})");
    rows.into_iter().map(|row| (text(&row[0]), text(&row[1]))).collect()
}

/// The number of versions in the table's log; none if there is no table.
pub fn versions(location: &Location) -> usize {
    match location {
        Location::Local(folder) => match fs::read_dir(folder.join("_delta_log")) {
            Ok(entries) => entries
                .filter(|entry| is_version(&entry.as_ref().unwrap().file_name().to_string_lossy()))
                .count(),
            Err(_) => 0,
        },
        Location::S3 { uri, .. } => {
            let files =
                query(location, &format!("select file from glob('{uri}/_delta_log/*.json')"));
            files
                .iter()
                .filter(|row| is_version(row[0].as_str().unwrap().rsplit('/').next().unwrap()))
                .count()
        }
        Location::Azure { .. } | Location::Gcs { .. } => location.out_of_reach(),
    }
}

/// Versions are named by 20 digits; other files may lie beside them.
fn is_version(file: &str) -> bool {
    file.strip_suffix(".json")
        .is_some_and(|name| name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit()))
}
