//! What a process took.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::case::Case;
use integration_tests::process;
use integration_tests::wait::{let_pass, now};

/// Short against what is measured, long enough to cost nothing.
const LOOK: Duration = Duration::from_millis(5);

/// What a run took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    /// User and system, of all threads.
    pub(crate) cpu: Duration,
    /// The part of it that a start takes, with next to nothing to read.
    pub(crate) start: Duration,
    pub(crate) peak_resident_bytes: u64,
    /// What it left.
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

impl Usage {
    /// The one in the middle.
    pub(crate) fn median(usages: &[Usage], of: impl Fn(&Usage) -> Duration) -> Duration {
        let mut values: Vec<Duration> = usages.iter().map(of).collect();
        values.sort();
        values[values.len() / 2]
    }
}

/// Runs a command to its end, which must be a good one.
pub(crate) fn measured(mut command: Command, case: &Case, name: &str) -> Usage {
    let log = case.folder.join(format!("{name}.log"));
    let output = File::create(&log).unwrap();
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let start = now();
    let mut child = command.current_dir(&case.folder).spawn().expect("the program is there");
    let mut usage = Usage::default();
    // What has ended keeps its CPU time until somebody asks how it ended.
    while !process::has_ended(child.id()) {
        let peak = process::peak_resident_bytes(child.id()).unwrap_or_default();
        usage.peak_resident_bytes = usage.peak_resident_bytes.max(peak);
        let_pass(LOOK);
    }
    usage.wall = now() - start;
    usage.cpu = process::cpu_time(child.id()).expect("nobody has asked how it ended");
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}:\n{}", fs::read_to_string(&log).unwrap());
    usage
}
