//! What the whole way of a record costs: `alluvium run --until-end` against the hand-written ceiling, on
//! real Kafka; how late records are, how throughput grows, what a start and an idle worker take. `bench.sh`
//! beside this package builds everything and runs it; `docs/performance.md` says how to read the figures.
//!
//! Everything is measured from outside, by the same means: the CPU time (user and system) of the process
//! and its peak memory, as Linux counts them. Contenders take turns, so that whatever else the machine
//! does hits all of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark: what it cannot do is its failure"
)]

mod ceiling;
mod large;
mod latency;
mod load;
mod measure;
mod report;
mod scale;
mod start;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Parser, Subcommand};
use integration_tests::broker::broker;
use integration_tests::case;
use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::location::Location;
use integration_tests::paths;

use load::Load;
use measure::{Usage, measured};
use report::Report;
use workloads::{WORKLOADS, Workload};

const MIB: f64 = 1024.0 * 1024.0;
/// How long the producer gathers.
const LINGER_MS: u32 = 50;

/// Compares Alluvium with the ceiling, in turns.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// Records of 152 bytes; workloads with larger records get fewer.
    #[arg(long, default_value_t = 2_000_000)]
    records: usize,
    /// How often each contender runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these workloads: w1, w2, w3, w4.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Only these contenders, beside the ceiling: tables by delta, delta-s3, parquet; or ceiling-poll, which takes
    /// records one by one.
    #[arg(long, value_delimiter = ',', default_value = "delta,delta-s3,parquet")]
    contenders: Vec<String>,
    /// How the producer compresses: none, lz4, zstd.
    #[arg(long, default_value = "none")]
    compression: String,
    /// The cores on which they run, such as 0 or 0-3. Threads of one core that run at once slow each other down,
    /// which counts as CPU time: on one core the ratios are those of the work.
    #[arg(long, default_value = "0")]
    cores: String,
    /// Runs all of them under `perf record`, prints no figures and leaves `WORKLOAD-CONTENDER.perf.data` in this folder.
    #[arg(long)]
    profile: Option<PathBuf>,
    /// Where the result goes as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Mode {
    /// The hand-written loop, as a process of its own.
    Ceiling(ceiling::Args),
    /// How long it takes until a record can be queried, under a steady load.
    Latency(latency::Args),
    /// How throughput grows with connectors, topic partitions and cores.
    Scale(scale::Args),
    /// How long a start takes, and what a worker takes that has nothing to do.
    Start(start::Args),
}

fn main() {
    let args = Args::parse();
    match args.mode {
        Some(Mode::Ceiling(args)) => ceiling::run(&args),
        Some(Mode::Latency(args)) => latency::measure(&case!(alone), &args),
        Some(Mode::Scale(args)) => scale::measure(&case!(alone), &args),
        Some(Mode::Start(args)) => start::measure(&case!(alone), &args),
        None => compare(&case!(alone), &args),
    }
}

/// Measures all contenders with all workloads.
fn compare(case: &Case, args: &Args) {
    for name in &args.workloads {
        let known = WORKLOADS.iter().any(|workload| workload.name == name);
        assert!(known, "`{name}` is none of w1, w2, w3, w4");
    }
    let mut report = Report::new(&args.compression);
    let wanted = |workload: &&Workload| {
        args.workloads.is_empty() || args.workloads.iter().any(|name| name == workload.name)
    };
    for workload in WORKLOADS.iter().filter(wanted) {
        let fill = |count: usize| {
            let topic = case.topic(load::PARTITIONS);
            let mut load = Load::begin(&topic, load::PARTITIONS, &args.compression, LINGER_MS);
            (workload.records)().take(count).for_each(|record| load.send(&record));
            let bytes = load.end();
            Filled { topic, records: count, bytes }
        };
        let (all, few) = (
            fill((args.records as f64 * workload.share) as usize),
            fill(load::PARTITIONS as usize),
        );
        let profile = args.profile.as_deref();
        let mut bench = Bench { case, workload, profile, cores: &args.cores, run: 0 };
        report.begin(workload.name, all.records, all.bytes);
        // Not counted: it warms the caches, and its file has the columns that the ceiling is to write.
        let (_, like) = bench.alluvium("delta", &all);
        let contenders = [&["ceiling".to_owned()], args.contenders.as_slice()].concat();
        for _ in 0..args.rounds {
            for contender in &contenders {
                let mut run = |read: &Filled| match contender.as_str() {
                    "ceiling" => bench.ceiling(&like, read, false),
                    "ceiling-poll" => bench.ceiling(&like, read, true),
                    table => bench.alluvium(table, read).0,
                };
                let start = run(&few).cpu;
                report.add(contender, Usage { start, ..run(&all) });
            }
        }
        // The profiler's own time is in the figures.
        if args.profile.is_none() {
            println!("{}", report.last());
        }
    }
    if let Some(file) = &args.json {
        std::fs::write(file, report.json()).unwrap();
    }
}

/// A topic with the first records of a workload.
struct Filled {
    topic: String,
    records: usize,
    /// Of their values.
    bytes: u64,
}

/// One workload, and how its contenders are run.
struct Bench<'a> {
    case: &'a Case,
    workload: &'static Workload,
    profile: Option<&'a Path>,
    cores: &'a str,
    run: usize,
}

impl Bench<'_> {
    /// Reads everything into a new table. Returns what it took, and one of the table's files if it is on disk.
    fn alluvium(&mut self, table: &str, read: &Filled) -> (Usage, PathBuf) {
        self.run += 1;
        let name = format!("{}-{}-{table}", self.workload.name, self.run);
        let location = match table {
            "delta-s3" => self.case.s3_table(),
            "delta" | "parquet" => Location::Local(self.case.folder.join(&name)),
            _ => panic!("`{table}` is none of delta, delta-s3, parquet, ceiling-poll"),
        };
        let connector = Connector {
            format: if table == "parquet" { "parquet" } else { "delta" },
            columns: self.workload.columns,
            // The product's own defaults.
            properties: Vec::new(),
            commit_interval: "30s",
            ..Connector::new(&self.case.unique(&name), &read.topic, &location)
        };
        let mut command = self.command(table);
        command
            .arg(paths::alluvium())
            .arg("run")
            .arg(connector.write(self.case))
            .arg("--until-end");
        let mut usage = measured(command, self.case, &name);
        match &location {
            Location::Local(folder) => {
                let files = weigh(&mut usage, folder, read);
                (usage, files[0].clone())
            }
            _ => (usage, PathBuf::new()),
        }
    }

    /// What the command of a contender begins with.
    fn command(&self, contender: &str) -> Command {
        let Some(folder) = self.profile else {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", self.cores]);
            return command;
        };
        let file = format!("{}-{contender}.perf.data", self.workload.name);
        let mut command = Command::new("perf");
        command.args(["record", "--quiet", "--freq", "499", "--output"]);
        command.arg(std::path::absolute(folder).unwrap().join(file)).arg("--");
        command
    }

    /// Reads everything into files with the columns of `like`.
    fn ceiling(&mut self, like: &Path, read: &Filled, poll: bool) -> Usage {
        self.run += 1;
        let name = format!("{}-{}-ceiling", self.workload.name, self.run);
        let folder = self.case.folder.join(&name);
        std::fs::create_dir(&folder).unwrap();
        let mut command = self.command("ceiling");
        // As the product sets its allocator.
        command.envs([
            ("MALLOC_ARENA_MAX", "2"),
            ("MALLOC_MMAP_THRESHOLD_", "8388608"),
            ("MALLOC_TRIM_THRESHOLD_", "8388608"),
        ]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["ceiling", "--bootstrap", &broker().bootstrap, "--topic", &read.topic]);
        command.arg("--like").arg(like).arg("--folder").arg(&folder);
        command.args(poll.then_some("--poll"));
        let mut usage = measured(command, self.case, &name);
        weigh(&mut usage, &folder, read);
        usage
    }
}

/// Counts the files that were written, which must hold all records.
fn weigh(usage: &mut Usage, folder: &Path, read: &Filled) -> Vec<PathBuf> {
    let files = parquet_files(folder);
    usage.files = files.len();
    usage.bytes = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    let rows: i64 = files.iter().map(|file| ceiling::rows(file)).sum();
    assert_eq!(rows, read.records as i64, "rows in {}", folder.display());
    files
}

/// The data files in a folder.
fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "parquet")).collect()
}
