//! How throughput grows: connectors in one worker, topic partitions, cores.

use std::process::Command;

use integration_tests::case::Case;
use integration_tests::connector::Connector;
use integration_tests::location::Location;
use integration_tests::paths;

use crate::load::Load;
use crate::measure::{Usage, measured};
use crate::workloads::WORKLOADS;
use crate::{LINGER_MS, MIB, ceiling, parquet_files};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Records in the topic, of 152 bytes. Each connector reads all of them.
    #[arg(long, default_value_t = 2_000_000)]
    records: usize,
    /// How often each of them runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Connectors, topic partitions, cores.
const STEPS: &[(usize, i32, usize)] = &[
    (1, 1, 1),
    (1, 2, 1),
    (1, 4, 1),
    (1, 1, 2),
    (1, 2, 2),
    (1, 4, 2),
    (2, 4, 1),
    (4, 4, 1),
    (2, 4, 2),
    (4, 4, 2),
];

/// Reads the same records in each of these ways, into Delta tables on disk, and prints what it took.
pub(crate) fn measure(case: &Case, args: &Args) {
    let workload = &WORKLOADS[0];
    let topics: Vec<(i32, String)> = [1, 2, 4]
        .map(|partitions| {
            let topic = case.topic(partitions);
            let mut load = Load::begin(&topic, partitions, "none", LINGER_MS);
            (workload.records)().take(args.records).for_each(|record| load.send(&record));
            load.end();
            (partitions, topic)
        })
        .into();
    let mut taken: Vec<Vec<Usage>> = vec![Vec::new(); STEPS.len()];
    for round in 0..args.rounds {
        for (step, &(connectors, partitions, cores)) in STEPS.iter().enumerate() {
            let (_, topic) = topics.iter().find(|(count, _)| *count == partitions).unwrap();
            let name = format!("scale-{round}-{step}");
            let mut command = Command::new("taskset");
            command.arg("--cpu-list").arg(format!("0-{}", cores - 1));
            command.arg(paths::alluvium()).arg("run");
            let mut tables = Vec::new();
            for number in 0..connectors {
                let folder = case.folder.join(format!("{name}-{number}"));
                let connector = Connector {
                    columns: workload.columns,
                    properties: Vec::new(),
                    commit_interval: "30s",
                    ..Connector::new(&case.unique("scale"), topic, &Location::Local(folder.clone()))
                };
                command.arg(connector.write(case));
                tables.push(folder);
            }
            command.arg("--until-end");
            taken[step].push(measured(command, case, &name));
            for table in tables {
                let rows: i64 = parquet_files(&table).iter().map(|file| ceiling::rows(file)).sum();
                assert_eq!(rows, args.records as i64, "rows in {}", table.display());
                std::fs::remove_dir_all(table).unwrap();
            }
        }
    }
    println!(
        "| connectors | topic partitions | cores | records per CPU s | records per s | peak MiB |"
    );
    println!("|---|---|---|---|---|---|");
    for (&(connectors, partitions, cores), usages) in STEPS.iter().zip(taken) {
        let records = (args.records * connectors) as f64;
        let cpu = Usage::median(&usages, |usage| usage.cpu).as_secs_f64();
        let wall = Usage::median(&usages, |usage| usage.wall).as_secs_f64();
        let peak = usages.iter().map(|usage| usage.peak_resident_bytes).max().unwrap_or(0);
        println!(
            "| {connectors} | {partitions} | {cores} | {:.0} | {:.0} | {:.0} |",
            records / cpu,
            records / wall,
            peak as f64 / MIB
        );
    }
}
