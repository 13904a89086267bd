//! Whole tables as the engines that people have read them, each value in one form: see `read_rows.py`.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::location::Location;
use crate::paths;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// DuckDB, by the Delta kernel.
    DuckDb,
    /// ClickHouse as a library (chDB), by the Delta kernel.
    ClickHouse,
    /// Spark with Delta's own library, which shares nothing with us.
    Spark,
}

impl Engine {
    /// All of them.
    pub const ALL: [Engine; 3] = [Engine::DuckDb, Engine::ClickHouse, Engine::Spark];

    /// Starts to read local tables.
    pub fn start(self, tables: &[&Location]) -> Reading {
        let name = match self {
            Engine::DuckDb => "duckdb",
            Engine::ClickHouse => "clickhouse",
            Engine::Spark => "spark",
        };
        let spark = paths::cached("spark");
        // Whatever ends the test program ends the reader.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(paths::python())
            .arg(paths::package().join("python/read_rows.py"))
            .arg(name)
            .args(tables.iter().map(|table| table.folder()))
            .env("SPARK_HOME", spark.join("deps"))
            .env("PYTHONPATH", &spark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python starts");
        Reading { engine: self, child, tables: tables.len() }
    }
}

/// An engine at work.
#[derive(Debug)]
pub struct Reading {
    engine: Engine,
    child: Child,
    tables: usize,
}

impl Reading {
    /// Waits for the rows of each table, in the order of the tables.
    #[track_caller]
    pub fn rows(self) -> Vec<Vec<Value>> {
        let output = self.child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{:?} could not read the tables:\n{}",
            self.engine,
            String::from_utf8_lossy(&output.stderr)
        );
        let mut tables = vec![Vec::new(); self.tables];
        for line in String::from_utf8(output.stdout).expect("JSON is UTF-8").lines() {
            let (table, row): (usize, Value) =
                serde_json::from_str(line).expect("a table's index and a row");
            tables[table].push(row);
        }
        tables
    }
}
