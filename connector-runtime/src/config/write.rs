//! The section `write`: when files and commits are made.

use std::time::Duration;

use connector_api::config::Compression;

use super::field::Field;
use super::plan::WritePlan;
use super::section::{Key, Section, key};
use super::units::{self, DURATIONS, SIZES};
use super::words::suggestion;

pub(super) const KEYS: &[Key] = &[
    key("commit_interval"),
    key("idle_commit_interval"),
    key("revoke_timeout"),
    key("file_size"),
    key("compression"),
];

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MIB: u64 = 1 << 20;

const DEFAULT: WritePlan = WritePlan {
    commit_interval: Duration::from_secs(30),
    idle_commit_interval: Duration::from_secs(5 * 60),
    revoke_timeout: Duration::from_secs(30),
    file_size_bytes: 128 * MIB,
};

const ZSTD_LEVEL: i32 = 1;

/// Reads the section; absent, everything is as by default.
pub(super) fn read(field: Option<Field<'_>>) -> Option<(WritePlan, Compression)> {
    let Some(field) = field else { return Some((DEFAULT, Compression::Zstd(ZSTD_LEVEL))) };
    let section = Section::open(field, KEYS)?;
    let commit_interval = commit_interval(&section);
    let idle_commit_interval = idle_commit_interval(&section, commit_interval.unwrap_or_default());
    let revoke_timeout = revoke_timeout(&section);
    let file_size_bytes = file_size(&section);
    let compression = compression(&section);
    let plan = WritePlan {
        commit_interval: commit_interval?,
        idle_commit_interval: idle_commit_interval?,
        revoke_timeout: revoke_timeout?,
        file_size_bytes: file_size_bytes?,
    };
    Some((plan, compression?))
}

/// `commit_interval`: the longest time until a record is queryable, 30 s by default. A shorter one
/// makes more and smaller files, unless the traffic fills them.
fn commit_interval(section: &Section<'_>) -> Option<Duration> {
    match section.get("commit_interval") {
        Some(field) => duration(&field, Duration::from_millis(100), DAY),
        None => Some(DEFAULT.commit_interval),
    }
}

/// `idle_commit_interval`: the longest time until offsets are committed behind which there are no
/// rows (transaction markers, rejected records, tombstones), 5 minutes by default. Each such commit is a table version.
fn idle_commit_interval(section: &Section<'_>, commit_interval: Duration) -> Option<Duration> {
    let Some(field) = section.get("idle_commit_interval") else {
        return Some(DEFAULT.idle_commit_interval.max(commit_interval));
    };
    let interval = duration(&field, SECOND, DAY)?;
    if interval < commit_interval {
        let message = format!(
            "{} is shorter than `commit_interval`, which is {}",
            field.found(),
            units::show_duration(commit_interval)
        );
        return field.reject(message, "make it as long as `commit_interval`, or longer");
    }
    Some(interval)
}

/// `revoke_timeout`: how long a worker may take to commit what it holds of topic partitions that
/// another worker is to get, 30 s by default. What is not committed by then is read again by the other.
fn revoke_timeout(section: &Section<'_>) -> Option<Duration> {
    match section.get("revoke_timeout") {
        Some(field) => duration(&field, SECOND, 10 * MINUTE),
        None => Some(DEFAULT.revoke_timeout),
    }
}

/// `file_size`: the size at which a data file is closed, encoded, 128 MiB by default. With little
/// traffic `commit_interval` closes files earlier.
fn file_size(section: &Section<'_>) -> Option<u64> {
    let Some(field) = section.get("file_size") else { return Some(DEFAULT.file_size_bytes) };
    let text = field.text("128MiB")?;
    match units::size(text) {
        Some(bytes) if (MIB..=2048 * MIB).contains(&bytes) => Some(bytes),
        Some(_) => field.reject(
            format!("expected 1MiB to 2GiB, found {}", field.found()),
            "readers do best with files of 64MiB to 1GiB",
        ),
        None => field.reject(
            format!("expected a size, found {}", field.found()),
            format!("examples: {SIZES}"),
        ),
    }
}

/// `compression`: of data files: `zstd` (default; with a level from 1 to 22 as in `zstd(3)`),
/// `snappy`, `lz4` or `none`.
fn compression(section: &Section<'_>) -> Option<Compression> {
    let Some(field) = section.get("compression") else {
        return Some(Compression::Zstd(ZSTD_LEVEL));
    };
    let text = field.text("zstd")?;
    if let Some(level) = text.strip_prefix("zstd(").and_then(|rest| rest.strip_suffix(')')) {
        return match level.trim().parse() {
            Ok(level @ 1..=22) => Some(Compression::Zstd(level)),
            _ => field.reject(
                format!("expected a level from 1 to 22, found {}", field.found()),
                "write `zstd(3)`",
            ),
        };
    }
    match text {
        "zstd" => Some(Compression::Zstd(ZSTD_LEVEL)),
        "snappy" => Some(Compression::Snappy),
        "lz4" => Some(Compression::Lz4),
        "none" => Some(Compression::Uncompressed),
        _ => field.reject(
            format!(
                "expected `zstd`, `zstd(1)` to `zstd(22)`, `snappy`, `lz4` or `none`, found {}",
                field.found()
            ),
            suggestion(text, &["zstd", "snappy", "lz4", "none"]),
        ),
    }
}

fn duration(field: &Field<'_>, min: Duration, max: Duration) -> Option<Duration> {
    let text = field.text("30s")?;
    let range = format!("{} to {}", units::show_duration(min), units::show_duration(max));
    match units::duration(text) {
        Some(duration) if (min..=max).contains(&duration) => Some(duration),
        Some(_) => field.reject(
            format!("expected {range}, found {}", field.found()),
            format!("examples: {DURATIONS}"),
        ),
        None if field.is_number() => field.reject(
            format!("expected a duration, found {} without a unit", field.found()),
            format!("write the unit, as in {DURATIONS}"),
        ),
        None => field.reject(
            format!("expected a duration, found {}", field.found()),
            format!("examples: {DURATIONS}"),
        ),
    }
}
