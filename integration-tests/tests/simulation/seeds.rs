//! The seeds that are run, and what has to come of them.

use std::process::Command;
use std::time::Instant;

use crate::{Format, run};

/// Seeds that CI runs. The Delta kernel makes a seed ten times as long.
const SEEDS: u64 = 500;
const DELTA_SEEDS: u64 = 50;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

/// `ALLUVIUM_SIM_SEEDS` seeds from `ALLUVIUM_SIM_FIRST` on.
#[allow(clippy::disallowed_methods, reason = "how long a simulation takes is real time")]
fn check(format: Format, seeds: u64) {
    let (first, seeds) = (number("ALLUVIUM_SIM_FIRST", 0), number("ALLUVIUM_SIM_SEEDS", seeds));
    let started = Instant::now();
    let mut records = 0;
    for seed in first..first + seeds {
        let outcome = run(seed, format);
        assert!(outcome.violation.is_none(), "{outcome}");
        records += outcome.records;
    }
    let took = started.elapsed().as_secs_f64();
    println!(
        "{format:?}: {seeds} seeds, {records} records, {:.1} seeds a second",
        seeds as f64 / took
    );
    // One seed may be a short one.
    assert!(seeds < 20 || records as u64 > seeds * 100, "hardly anything was produced: {records}");
}

#[test]
fn no_seed_loses_doubles_or_hangs() {
    check(Format::Parquet, SEEDS);
}

#[test]
fn no_seed_loses_doubles_or_hangs_with_delta() {
    check(Format::Delta, DELTA_SEEDS);
}

#[test]
fn a_seed_takes_the_same_steps_again() {
    for seed in 0..20 {
        let format = if seed < 15 { Format::Parquet } else { Format::Delta };
        let (once, again) = (run(seed, format), run(seed, format));
        assert_eq!(once.trace, again.trace);
        assert_eq!(once.trace[0], format!("seed {seed}"));
    }
}

const BOTH: &[Format] = &[Format::Parquet, Format::Delta];
const PARQUET: &[Format] = &[Format::Parquet];

/// Mistakes that sinks of this kind are known for, planted by fail points of these names, and the formats that they
/// are planted in.
const MISTAKES: &[(&str, &str, &[Format])] = &[
    (
        "mistake_offsets_before_files",
        "the offsets are committed, and the files come after",
        PARQUET,
    ),
    ("mistake_offset_unchecked", "a commit is not compared with the stored offsets", BOTH),
    (
        "mistake_token_not_looked_for",
        "a commit without an answer counts as failed and is made again, over the table's refusal",
        PARQUET,
    ),
    (
        "mistake_fence_answered_early",
        "topic partitions are handed back before their round is over",
        BOTH,
    ),
    ("mistake_anchor_first", "the table is committed before its dead letters", BOTH),
];

/// Within this many seeds each of them must be found.
const FOUND_WITHIN: u64 = 1000;

/// Names the mistake, and the format, to the process that looks for it.
const PLANTED: &str = "ALLUVIUM_SIM_PLANTED";

/// Each in a process of its own: fail points are the whole process's, and so are violated invariants.
#[test]
fn each_planted_mistake_is_found() {
    if let Ok(planted) = std::env::var(PLANTED) {
        let (mistake, format) = planted.split_once(' ').unwrap();
        let format = if format == "Delta" { Format::Delta } else { Format::Parquet };
        return find(mistake, format);
    }
    let each = MISTAKES.iter().flat_map(|(name, mistake, formats)| {
        formats.iter().map(move |format| (name, mistake, format))
    });
    for (name, mistake, format) in each {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["seeds::each_planted_mistake_is_found", "--exact", "--nocapture"])
            .env(PLANTED, format!("{name} {format:?}"))
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = output.lines().find_map(|line| line.strip_prefix("found by "));
        let found = found.unwrap_or_else(|| panic!("not found: {format:?}: {mistake}:\n{output}"));
        println!("{format:?}: {mistake}: found by {found}");
    }
}

fn find(mistake: &str, format: Format) {
    fail::cfg(mistake, "return").unwrap();
    for seed in 0..FOUND_WITHIN {
        if let Some(violation) = run(seed, format).violation {
            println!("\nfound by seed {seed}: {violation}");
            return;
        }
    }
}
