//! Durations and sizes as people write them.

use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Examples for messages.
pub(super) const DURATIONS: &str = "`500ms`, `30s`, `5m`, `1h30m`";
pub(crate) const SIZES: &str = "`64MiB`, `128 MB`, `1GiB`";

/// Reads numbers with units, such as `1h30m`; `None` for anything else.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total_ms: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let after = after.trim_start();
        let (unit, after) =
            after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(*unit_ms)?)?;
        rest = after.trim_start();
    }
    Some(Duration::from_millis(total_ms))
}

/// Writes a duration the way that [`duration`] reads it.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut shown = String::new();
    for (unit, unit_ms) in UNITS.iter().rev() {
        if rest >= *unit_ms {
            shown += &format!("{}{unit}", rest / unit_ms);
            rest %= unit_ms;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// Reads a number of bytes with a unit, such as `128MiB`; `None` for anything else.
pub(crate) fn size(text: &str) -> Option<u64> {
    ByteSize::from_str(text.trim()).ok().map(|size| size.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        let check = |text: &str, ms: Option<u64>| {
            assert_eq!(duration(text), ms.map(Duration::from_millis), "{text:?}")
        };
        check("500ms", Some(500));
        check("30s", Some(30_000));
        check("5m", Some(300_000));
        check("1h30m", Some(5_400_000));
        check(" 1h 30 m ", Some(5_400_000));
        check("2d", Some(172_800_000));
        for wrong in [
            "",
            "30",
            "s",
            "-5s",
            "5 parsecs",
            "1.5h",
            "5S",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_duration_that_is_shown_is_read_back() {
        for text in ["0s", "500ms", "30s", "5m", "1h30m", "1d1h1m1s1ms"] {
            assert_eq!(duration(text).map(show_duration).as_deref(), Some(text));
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(size(text), bytes, "{text:?}");
        check("128MiB", Some(128 << 20));
        check("64 MB", Some(64_000_000));
        check("1 GiB", Some(1 << 30));
        check("1.5GiB", Some(3 << 29));
        check("1000", Some(1000));
        for wrong in ["", "MiB", "-1MiB", "12 parsecs", "1,5GB"] {
            check(wrong, None);
        }
    }
}
