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
    micros_of_full(text, zone).or_else(|| micros_of_full(&in_full(text)?, zone))
}

/// The same for the spelling with all separators and seconds.
#[inline]
fn micros_of_full(text: &[u8], zone: Zone) -> Option<i64> {
    let (date, rest) = text.split_first_chunk()?;
    let (&[b'T' | b't' | b' ', ref time @ ..], rest) = rest.split_first_chunk::<9>()? else {
        return None;
    };
    let days = i64::from(days_of(date)?);
    let [hour, minute, second] = three_pairs(time, b':')?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, rest) = fraction(rest)?;
    let offset_minutes = match (zone, rest) {
        (_, []) | (Zone::Utc, [b'Z' | b'z']) => 0,
        (Zone::Utc, [b' ', offset @ ..]) => offset_minutes(offset)?,
        (Zone::Utc, offset) => offset_minutes(offset)?,
        (Zone::None, _) => return None,
    };
    let seconds = ((days * 24 + i64::from(hour)) * 60 + i64::from(minute)) * 60 + i64::from(second);
    Some((seconds - offset_minutes * 60) * 1_000_000 + micros)
}

/// Days since 1970-01-01.
pub(super) fn days(text: &[u8]) -> Option<i32> {
    match text.first_chunk() {
        Some(date) if text.len() == 8 => days_of(&date_with_separators(date)),
        _ => days_of(text.try_into().ok()?),
    }
}

/// A spelling without separators, or without seconds, in full. Whether there are digits is not looked at.
#[cold]
fn in_full(text: &[u8]) -> Option<Vec<u8>> {
    let separated = text.get(4) == Some(&b'-');
    let (date, time) = match separated {
        true => text.split_first_chunk().map(|(date, time)| (*date, time))?,
        false => text.split_first_chunk().map(|(date, time)| (date_with_separators(date), time))?,
    };
    let (time, rest) = match (separated, time) {
        (false, &[t, h1, h2, m1, m2, s1 @ b'0'..=b'9', s2, ref rest @ ..]) => {
            ([t, h1, h2, b':', m1, m2, b':', s1, s2], rest)
        }
        // Behind a minute there are neither seconds, which would be in the wrong form, nor its parts.
        (true, [_, _, _, b':', _, _, b':' | b'.' | b',', ..])
        | (false, [_, _, _, _, _, b':' | b'.' | b',', ..]) => return None,
        (true, &[t, h1, h2, b':', m1, m2, ref rest @ ..])
        | (false, &[t, h1, h2, m1, m2, ref rest @ ..]) => {
            ([t, h1, h2, b':', m1, m2, b':', b'0', b'0'], rest)
        }
        _ => return None,
    };
    Some([&date[..], &time, rest].concat())
}

fn date_with_separators(&[y1, y2, y3, y4, m1, m2, d1, d2]: &[u8; 8]) -> [u8; 10] {
    [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]
}

/// The numbers in `12:34:56`, all in one step.
#[inline]
fn three_pairs(text: &[u8; 8], separator: u8) -> Option<[u32; 3]> {
    let pattern = u64::from_le_bytes([b'0', b'0', separator, b'0', b'0', separator, b'0', b'0']);
    // Digits become their values, and separators 0; all else is above these.
    let values = u64::from_le_bytes(*text) ^ pattern;
    // What must be added to the highest value that is allowed to get to 0x7f.
    const ROOM: u64 = u64::from_le_bytes([0x76, 0x76, 0x7f, 0x76, 0x76, 0x7f, 0x76, 0x76]);
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    if (values | values.wrapping_add(ROOM)) & HIGH_BITS != 0 {
        return None;
    }
    // Each tens digit is one byte below its ones digit.
    let [first, _, _, second, _, _, third, _] = (values * 10 + (values >> 8)).to_le_bytes();
    Some([first, second, third].map(u32::from))
}

#[inline]
fn two_digits(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

#[inline]
fn days_of(&[y1, y2, ref rest @ ..]: &[u8; 10]) -> Option<i32> {
    let [year_of_century, month, day] = three_pairs(rest, b'-')?;
    let year = two_digits(y1, y2)? * 100 + year_of_century;
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

/// The microseconds of a fraction that may be there, and what follows it.
#[inline]
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.' | b',', digits)) = text.split_first() else { return Some((0, text)) };
    if let Some((&[a, b, c, d, e, f], rest)) = digits.split_first_chunk()
        && let Some([first, second, third]) = three_pairs(&[a, b, b':', c, d, b':', e, f], b':')
    {
        let below = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        return Some((i64::from((first * 100 + second) * 100 + third), &rest[below..]));
    }
    // Fewer than six digits.
    let (mut micros, mut unit, mut count) = (0, 1_000_000, 0);
    while let Some(digit @ b'0'..=b'9') = digits.get(count) {
        unit /= 10;
        micros += i64::from(digit - b'0') * unit;
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
