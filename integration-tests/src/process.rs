//! What Linux knows of a process (`man 5 proc`). `None` once it is gone.

use std::fs;
use std::time::Duration;

/// Its memory, in bytes.
pub fn resident_bytes(id: u32) -> Option<u64> {
    memory(id, "VmRSS:")
}

/// The most memory that it has had so far, in bytes.
pub fn peak_resident_bytes(id: u32) -> Option<u64> {
    memory(id, "VmHWM:")
}

/// The CPU time that it has used, of all its threads.
pub fn cpu_time(id: u32) -> Option<Duration> {
    // `utime` and `stime`, in ticks of which Linux shows 100 a second on every machine.
    let fields = stat(id)?;
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Some(Duration::from_millis(ticks * 10))
}

/// True if it is gone, or waits only to be asked how it ended.
pub fn has_ended(id: u32) -> bool {
    stat(id).is_none_or(|fields| fields[0] == "Z")
}

/// The fields behind the name, which is in brackets and may hold blanks: the first is the state.
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = read(id, "stat")?;
    let (_, fields) = stat.rsplit_once(')').unwrap();
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn memory(id: u32, key: &str) -> Option<u64> {
    let status = read(id, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
}

fn read(id: u32, file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{id}/{file}")).ok()
}
