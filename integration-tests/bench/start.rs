//! How long a start takes, and what a worker takes that has nothing to do.

use std::fs;
use std::time::Duration;

use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::paths;
use integration_tests::wait::{eventually, let_pass, now};
use integration_tests::worker::{Signal, run};

use crate::load::{self, Load};
use crate::workloads::WORKLOADS;
use crate::{LINGER_MS, MIB, large};

const PATIENCE: Duration = Duration::from_secs(300);
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files in the table.
    #[arg(long, default_value_t = 0)]
    files: usize,
    /// How often it is started.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long it runs before it is looked at: what is done at a start is over by then.
    #[arg(long, default_value_t = 15)]
    settle: u64,
    /// How long it is looked at. From five minutes on it commits meanwhile, though it is idle.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Starts a worker whose table is up to date, looks at it while nothing comes, and prints what it took.
pub(crate) fn measure(case: &Case, args: &Args) {
    let workload = &WORKLOADS[0];
    let topic = case.topic(load::PARTITIONS);
    let table = case.local_table();
    let connector = Connector {
        columns: workload.columns,
        properties: Vec::new(),
        ..Connector::new(&case.unique("start"), &topic, &table)
    };
    let file = connector.write(case);
    let mut load = Load::begin(&topic, load::PARTITIONS, "none", LINGER_MS);
    (workload.records)().take(1_000).for_each(|record| load.send(&record));
    load.end();
    large::make(case, &file, &table, args.files);

    let start = |took: &mut Vec<Duration>| {
        let begun = now();
        let worker = run(case, &file).start();
        eventually(PATIENCE, "topic partitions are assigned", || {
            (worker.owned() == load::PARTITIONS as u64).then_some(())
        });
        took.push(begun.elapsed());
        worker
    };
    let mut took = Vec::new();
    for _ in 1..args.rounds {
        let worker = start(&mut took);
        worker.signal(Signal::Term);
        worker.wait(PATIENCE).assert_code(0);
    }
    let worker = start(&mut took);
    took.sort();
    let_pass(Duration::from_secs(args.settle));
    let (cpu, begun) = (worker.cpu_time(), now());
    let_pass(Duration::from_secs(args.seconds));
    let busy = (worker.cpu_time() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    println!(
        "binary {:.0} MiB; {} files: topic partitions are there after {:.2} s ({:.2} s to {:.2} s); idle: CPU {busy:.2} % of a core, {:.0} MiB, peak {:.0} MiB",
        fs::metadata(paths::alluvium()).unwrap().len() as f64 / MIB,
        args.files,
        took[took.len() / 2].as_secs_f64(),
        took[0].as_secs_f64(),
        took[took.len() - 1].as_secs_f64(),
        worker.resident_bytes() as f64 / MIB,
        worker.peak_resident_bytes().unwrap_or_default() as f64 / MIB,
    );
}
