//! Dates and times from text: the spellings of ISO 8601 that producers use.
//!
//! | part | accepted | not accepted |
//! |---|---|---|
//! | date | `2026-01-31`, years 0001 to 9999 | `2026-1-31`, days that do not exist; weeks (`2026-W05-6`) and days of the year (`2026-031`) |
//! | between | `T`, `t`, one space | |
//! | time | `10:20:30`, `10:20` (what Java prints for a full minute) | `10`, `24:00:00`; `:60`, since a leap second has no place in Unix time |
//! | fraction | `.` or `,` and any number of digits behind the seconds | parts of a minute |
//! | zone | `Z`, `z`, `+02:00`, `+0200`, `+02`, also behind one space (Ruby, Git); none: it is taken as UTC | names such as `CET`, `UTC` or `[Europe/Paris]` |
//! | without separators | `20260131T102030Z`, `20260131T1020`, `20260131` | a date with and a time without them, or the reverse |
//!
//! Java, Go and Python write nanoseconds when they have them, and tables hold microseconds: digits
//! below a microsecond are cut off. This is the one place where a value fits although something is
//! lost; without it everyday records would be bad ones. What is cut off moves a moment back in time,
//! before 1970 too.
//!
//! A `timestamp_ntz` has no zone, and a text with one does not fit it: the zone would be lost. For
//! the same reason a `date` takes only a date. A date alone is no timestamp, since nothing says at
//! what time of the day it was; what numbers are, see `number`.

use std::ops::Range;

/// The moments from year 1 to the end of year 9999, in microseconds since 1970.
pub(super) const MICROS: Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Whether a time of day may or must not name its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// The column holds moments: the zone is applied, a missing one is UTC.
    Utc,
    /// The column holds what a clock on a wall shows.
    None,
}

/// Microseconds since 1970-01-01T00:00:00.
#[inline]
pub(super) fn micros(text: &[u8], zone: Zone) -> Option<i64> {
    let (date, rest) = match text.split_first_chunk::<10>() {
        Some((date, rest)) if date[4] == b'-' => (date, rest),
        _ => return micros(&with_separators(text)?, zone),
    };
    let days = i64::from(days_of(date)?);
    let (separator, rest) = rest.split_first()?;
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (&[h1, h2, b':', m1, m2], mut rest) = rest.split_first_chunk::<5>()? else { return None };
    let (hour, minute) = (two_digits(h1, h2)?, two_digits(m1, m2)?);
    let mut second = 0;
    let mut micros = 0;
    if let Some((&[b':', s1, s2], behind)) = rest.split_first_chunk::<3>() {
        second = two_digits(s1, s2)?;
        (micros, rest) = fraction(behind)?;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let offset_minutes = match (zone, rest) {
        (_, []) | (Zone::Utc, [b'Z' | b'z']) => 0,
        (Zone::Utc, [b' ', offset @ ..]) => offset_minutes(offset)?,
        (Zone::Utc, offset) => offset_minutes(offset)?,
        (Zone::None, _) => return None,
    };
    let minutes = (days * 24 + i64::from(hour)) * 60 + i64::from(minute) - offset_minutes;
    Some((minutes * 60 + i64::from(second)) * 1_000_000 + micros)
}

/// Days since 1970-01-01.
pub(super) fn days(text: &[u8]) -> Option<i32> {
    match text.first_chunk() {
        Some(date) if text.len() == 8 => days_of(&date_with_separators(date)),
        _ => days_of(text.try_into().ok()?),
    }
}

/// The spelling with separators of a date and time without them.
#[cold]
fn with_separators(text: &[u8]) -> Option<Vec<u8>> {
    let (date, rest) = text.split_first_chunk()?;
    let (separator, rest) = rest.split_first()?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (time, rest) = rest.split_at(digits);
    if !matches!(digits, 4 | 6) || rest.starts_with(b":") {
        return None;
    }
    let mut separated = date_with_separators(date).to_vec();
    for (index, pair) in time.chunks(2).enumerate() {
        separated.push(if index == 0 { *separator } else { b':' });
        separated.extend_from_slice(pair);
    }
    separated.extend_from_slice(rest);
    Some(separated)
}

fn date_with_separators(&[y1, y2, y3, y4, m1, m2, d1, d2]: &[u8; 8]) -> [u8; 10] {
    [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]
}

#[inline]
fn two_digits(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

#[inline]
fn days_of(date: &[u8; 10]) -> Option<i32> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
    let (month, day) = (two_digits(m1, m2)?, two_digits(d1, d2)?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || day == 0 || day > days_in_month {
        return None;
    }
    Some(days_from_civil(year as i32, month as i32, day as i32))
}

/// Howard Hinnant's `days_from_civil`, for years after 0: a year that starts in March has its leap day at its end.
#[inline]
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let (century, year_of_century) = (year / 100, year % 100);
    century * 146_097 / 4 + year_of_century * 1_461 / 4 + day_of_year - 719_468
}

/// What a digit of a fraction of a second is worth in microseconds, by its place.
const MICROS_BY_PLACE: [i64; 6] = [100_000, 10_000, 1_000, 100, 10, 1];

/// The microseconds of a fraction that may be there, and what follows it.
#[inline]
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.' | b',', digits)) = text.split_first() else { return Some((0, text)) };
    let (mut micros, mut count) = (0, 0);
    while let Some(digit @ b'0'..=b'9') = digits.get(count) {
        micros += i64::from(digit - b'0') * MICROS_BY_PLACE.get(count).unwrap_or(&0);
        count += 1;
    }
    (count > 0).then(|| (micros, &digits[count..]))
}

fn offset_minutes(text: &[u8]) -> Option<i64> {
    let (hours, minutes) = match *text {
        [_, h1, h2, b':', m1, m2] | [_, h1, h2, m1, m2] => {
            (two_digits(h1, h2)?, two_digits(m1, m2)?)
        }
        [_, h1, h2] => (two_digits(h1, h2)?, 0),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = i64::from(hours * 60 + minutes);
    match text[0] {
        b'+' => Some(offset),
        b'-' => Some(-offset),
        _ => None,
    }
}
