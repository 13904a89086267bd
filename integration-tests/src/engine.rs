//! Whole tables as the engines that people have read them, each value in one form: see `read_rows.py`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::paths;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// DuckDB; Delta by the Delta kernel.
    DuckDb,
    /// ClickHouse as a library (chDB); Delta by the Delta kernel.
    ClickHouse,
    /// Spark with Delta's own library, which shares nothing with us.
    Spark,
    /// delta-rs, which knows Delta only.
    DeltaRs,
    /// Polars; Delta by the log that delta-rs reads.
    Polars,
    /// Daft; Delta by the log that delta-rs reads.
    Daft,
    /// Our own `alluvium query`.
    Alluvium,
}

impl Engine {
    /// All of them.
    pub const ALL: [Engine; 7] = [
        Engine::DuckDb,
        Engine::ClickHouse,
        Engine::Spark,
        Engine::DeltaRs,
        Engine::Polars,
        Engine::Daft,
        Engine::Alluvium,
    ];

    /// Its heading in `docs/engines.md`.
    pub fn heading(self) -> &'static str {
        match self {
            Engine::DuckDb => "DuckDB",
            Engine::ClickHouse => "ClickHouse",
            Engine::Spark => "Spark",
            Engine::DeltaRs => "delta-rs",
            Engine::Polars => "Polars",
            Engine::Daft => "Daft",
            Engine::Alluvium => "alluvium query",
        }
    }

    /// Starts to run code, in this order.
    pub fn start(self, steps: &[Step]) -> Reading {
        let spark = paths::cached("spark");
        // Whatever ends the test program ends the reader.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(paths::python())
            .arg(paths::package().join("python/read_rows.py"))
            .arg(self.heading())
            .env("SPARK_HOME", spark.join("deps"))
            .env("SPARK_JARS", jars(&[spark.join("delta"), paths::cached("hadoop_aws")]))
            .env("PYTHONPATH", &spark)
            .env("ALLUVIUM", paths::alluvium())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let request: Vec<_> = steps.iter().map(|step| json!([step.reads, step.code])).collect();
        let mut stdin = child.stdin.take().expect("standard input is piped");
        stdin.write_all(json!(request).to_string().as_bytes()).unwrap();
        Reading { engine: self, child, steps: steps.len() }
    }
}

/// The jars in some folders, with blanks between them.
fn jars(folders: &[PathBuf]) -> String {
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|file| file.unwrap().path().display().to_string());
    files.filter(|file| file.ends_with(".jar")).collect::<Vec<_>>().join(" ")
}

/// Some code for an engine.
#[derive(Debug)]
pub struct Step {
    /// Whether its result is rows.
    pub reads: bool,
    /// The code.
    pub code: String,
}

/// An engine at work.
#[derive(Debug)]
pub struct Reading {
    engine: Engine,
    child: Child,
    steps: usize,
}

impl Reading {
    /// Waits for the rows of each step.
    #[track_caller]
    pub fn rows(self) -> Vec<Vec<Value>> {
        let output = self.child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{:?} could not read the tables:\n{}",
            self.engine,
            String::from_utf8_lossy(&output.stderr)
        );
        let mut steps = vec![Vec::new(); self.steps];
        for line in String::from_utf8(output.stdout).expect("JSON is UTF-8").lines() {
            let (step, row): (usize, Value) =
                serde_json::from_str(line).expect("a step's index and a row");
            steps[step].push(row);
        }
        steps
    }
}
