//! Numbers: from their text to exact values.
//!
//! | column | fits | does not fit |
//! |---|---|---|
//! | `byte` `short` `integer` `long` | digits with an optional minus, within the range | `1.0`, `1e3`: a fraction or an exponent says that it is no integer |
//! | `decimal(p,s)` | what is exact with `s` digits after the point: `1.50` in `decimal(9,1)`, `1e3` | `1.55` in `decimal(9,1)`, more digits than `p - s` before the point |
//! | `float` `double` | any number, as the nearest value | `1e999` and `1e-999` (infinite or zero), and an integer that does not come back, such as 2^53 + 1 |
//! | `timestamp` `timestamp_ntz` in millis or micros | as for `long`, within the years 0001 to 9999 | |
//! | the same in seconds | any number within these years: `1700000000.123456`, `1.7e9`; digits below a microsecond are cut off, as in texts (`time`) | more than 38 digits |
//!
//! The years are those that a text can name. Their limit also finds most mistakes in the unit:
//! today's milliseconds, taken for seconds, lie behind the year 9999.
//!
//! An integer comes back from a `double` if its digits are those of the value or of the value's
//! shortest spelling: JavaScript writes 2^70 as `1180591620717411300000`.

use connector_api::decoder::EpochUnit;

use super::flaw::Why;
use super::time::MICROS;

/// A number as it stands in the text. `value = mantissa * 10^exponent`, if `exact`.
#[derive(Debug)]
pub(super) struct Number {
    pub(super) negative: bool,
    pub(super) mantissa: u64,
    pub(super) exponent: i64,
    /// The mantissa holds all digits.
    pub(super) exact: bool,
    /// It has neither a fraction nor an exponent.
    pub(super) whole: bool,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Number {
    /// As many digits as an `i64` always holds.
    pub(super) const EXACT_DIGITS: usize = 18;

    fn text<'a>(&self, input: &'a [u8]) -> &'a str {
        // The digits of a number are ASCII.
        std::str::from_utf8(&input[self.start..self.end]).unwrap_or_default()
    }

    #[inline]
    pub(super) fn to_long(&self, input: &[u8]) -> Result<i64, Why> {
        if !self.whole {
            return Err(Why::NotExact);
        }
        if self.exact {
            let magnitude = self.mantissa as i64;
            return Ok(if self.negative { -magnitude } else { magnitude });
        }
        self.to_long_by_text(input)
    }

    #[cold]
    fn to_long_by_text(&self, input: &[u8]) -> Result<i64, Why> {
        self.text(input).parse().map_err(|_| Why::OutOfRange)
    }

    #[inline]
    pub(super) fn to_double(&self, input: &[u8]) -> Result<f64, Why> {
        // A constant would be copied to the stack for each number.
        static POWERS: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
            1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
        ];
        // Both operands are exact doubles, so that one operation rounds correctly.
        if self.exact && self.mantissa <= 1 << 53 && self.exponent.unsigned_abs() <= 22 {
            let power = POWERS[self.exponent.unsigned_abs() as usize];
            let mantissa = self.mantissa as f64;
            let value = if self.exponent < 0 { mantissa / power } else { mantissa * power };
            return Ok(if self.negative { -value } else { value });
        }
        self.to_double_by_text(input)
    }

    #[cold]
    fn to_double_by_text(&self, input: &[u8]) -> Result<f64, Why> {
        let text = self.text(input);
        let value: f64 = text.parse().map_err(|_| Why::OutOfRange)?;
        check_float(text, !value.is_finite(), value == 0.0)?;
        let comes_back = || format!("{value:.0}") == text || format!("{value}") == text;
        if self.whole && !comes_back() { Err(Why::NotExact) } else { Ok(value) }
    }

    pub(super) fn to_float(&self, input: &[u8]) -> Result<f32, Why> {
        let text = self.text(input);
        let value: f32 = text.parse().map_err(|_| Why::OutOfRange)?;
        check_float(text, !value.is_finite(), value == 0.0)?;
        let exact = self.exact && self.mantissa <= 1 << 24;
        let comes_back = || exact || format!("{value:.0}") == text || format!("{value}") == text;
        if self.whole && !comes_back() { Err(Why::NotExact) } else { Ok(value) }
    }

    /// The value times 10^scale.
    pub(super) fn to_decimal(&self, input: &[u8], precision: u8, scale: i8) -> Result<i128, Why> {
        let (mut mantissa, exponent) = match self.exact {
            true => (i128::from(self.mantissa), self.exponent),
            false => self.significant_digits(input)?,
        };
        if mantissa == 0 {
            return Ok(0);
        }
        let mut shift = exponent + i64::from(scale);
        while shift < 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            shift += 1;
        }
        if shift < 0 {
            return Err(Why::NotExact);
        }
        let power = u32::try_from(shift).ok().and_then(|shift| 10_i128.checked_pow(shift));
        let value = power.and_then(|power| mantissa.checked_mul(power));
        let value = value.filter(|value| *value < 10_i128.pow(u32::from(precision)));
        value.map(|value| if self.negative { -value } else { value }).ok_or(Why::OutOfRange)
    }

    /// Microseconds since 1970, if the number counts `unit` since then.
    pub(super) fn to_micros(&self, input: &[u8], unit: EpochUnit) -> Result<i64, Why> {
        let micros = match unit {
            EpochUnit::Seconds => self.seconds_to_micros(input)?,
            EpochUnit::Millis => self.to_long(input)?.checked_mul(1000),
            EpochUnit::Micros => Some(self.to_long(input)?),
        };
        micros.filter(|micros| MICROS.contains(micros)).ok_or(Why::OutOfRange)
    }

    /// Rounds down, as texts do: a moment before 1970 keeps the digits that a moment after it keeps.
    fn seconds_to_micros(&self, input: &[u8]) -> Result<Option<i64>, Why> {
        let (mantissa, exponent) = match self.exact {
            true => (i128::from(self.mantissa), self.exponent),
            false => self.significant_digits(input)?,
        };
        let mantissa = if self.negative { -mantissa } else { mantissa };
        let shift = exponent + 6;
        let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|n| 10_i128.checked_pow(n));
        let micros = match (power, shift < 0) {
            (Some(power), true) => Some(mantissa.div_euclid(power)),
            (Some(power), false) => mantissa.checked_mul(power),
            // Less than a microsecond from 1970 on either side, or beyond all times.
            (None, true) => Some(mantissa.signum().min(0)),
            (None, false) => (mantissa == 0).then_some(0),
        };
        Ok(micros.and_then(|micros| i64::try_from(micros).ok()))
    }

    /// All digits without the zeros around them, and the power of ten that belongs to the last one.
    fn significant_digits(&self, input: &[u8]) -> Result<(i128, i64), Why> {
        let too_many = if self.whole { Why::OutOfRange } else { Why::NotExact };
        let digits = self.text(input).bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
        let (mut mantissa, mut zeros) = (0_i128, 0_u32);
        for digit in digits.filter(u8::is_ascii_digit).map(|byte| i128::from(byte - b'0')) {
            if digit == 0 {
                // A zero counts only if there are other digits on both sides of it.
                zeros += 1;
                continue;
            }
            let power = if mantissa == 0 { Some(1) } else { 10_i128.checked_pow(zeros + 1) };
            let shifted = power.and_then(|power| mantissa.checked_mul(power));
            mantissa = shifted.and_then(|shifted| shifted.checked_add(digit)).ok_or(too_many)?;
            zeros = 0;
        }
        Ok((mantissa, self.exponent + i64::from(zeros)))
    }
}

/// Refuses a number whose nearest float is infinite, or zero although it has a digit that is not.
fn check_float(text: &str, infinite: bool, zero: bool) -> Result<(), Why> {
    let mut digits = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let vanished = zero && digits.any(|digit| matches!(digit, b'1'..=b'9'));
    if infinite || vanished { Err(Why::OutOfRange) } else { Ok(()) }
}
