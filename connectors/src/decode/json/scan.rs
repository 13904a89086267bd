//! A cursor over one JSON text: strings, numbers, literals, and walking over whole values.
//!
//! It accepts exactly RFC 8259, in UTF-8 and without a byte order mark; the caller has checked the
//! UTF-8. Nothing here allocates, but for strings with escapes, whose text is put together in a
//! buffer that is used again.

use super::flaw::{Flaw, Why};
use super::number::Number;

/// Deepest nesting of objects and arrays, the record's own object included. What producers send on
/// purpose is far from it; without a limit a record of brackets would overflow the stack.
pub(super) const DEPTH_MAX: usize = 64;

pub(super) struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
    /// The text of the last string that had escapes.
    unescaped: Vec<u8>,
}

/// The text of a string: see [`Cursor::text`].
#[derive(Debug, Clone, Copy)]
pub(super) enum StringText {
    /// It stands in the input as it is.
    Plain { start: usize, end: usize },
    /// It had escapes; its text is valid until the next string is read.
    Unescaped,
}

impl<'a> Cursor<'a> {
    pub(super) fn starting_at(input: &'a [u8], at: usize) -> Self {
        Self { input, at, unescaped: Vec::new() }
    }

    /// Starts at the beginning, with a buffer from an earlier [`Self::into_buffer`].
    pub(super) fn with_buffer(input: &'a [u8], unescaped: Vec<u8>) -> Self {
        Self { input, at: 0, unescaped }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.unescaped
    }

    pub(super) fn input(&self) -> &'a [u8] {
        self.input
    }

    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes back to a place where it has been.
    pub(super) fn rewind(&mut self, at: usize) {
        self.at = at;
    }

    /// The next byte, or 0 at the end: no JSON token starts with 0.
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        self.input.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn skip_whitespace(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    #[inline]
    fn flaw<T>(&self, why: Why) -> Result<T, Flaw> {
        Err(Flaw::new(why, self.at))
    }

    /// Enters an object or array, at its opening bracket. Returns false if it is empty, and then stands behind it.
    #[inline]
    pub(super) fn enter(&mut self, close: u8) -> bool {
        self.at += 1;
        self.skip_whitespace();
        let empty = self.peek() == close;
        self.at += usize::from(empty);
        !empty
    }

    /// Behind a member or item: returns true if another one follows, false behind the closing bracket.
    #[inline]
    pub(super) fn more(&mut self, close: u8) -> Result<bool, Flaw> {
        self.skip_whitespace();
        let byte = self.peek();
        if byte == b',' {
            self.at += 1;
            self.skip_whitespace();
            return Ok(true);
        }
        if byte == close {
            self.at += 1;
            return Ok(false);
        }
        self.flaw(if close == b'}' {
            Why::ExpectedCommaOrBrace
        } else {
            Why::ExpectedCommaOrBracket
        })
    }

    /// Reads `key` if just its bytes come next.
    #[inline]
    pub(super) fn take_key(&mut self, key: &Key) -> bool {
        let found = key.stands_at(self.input, self.at);
        if found {
            self.at += key.text.len();
            self.skip_whitespace();
        }
        found
    }

    /// Reads a name and its colon, and stands at the value.
    pub(super) fn name(&mut self) -> Result<StringText, Flaw> {
        if self.peek() != b'"' {
            return self.flaw(Why::ExpectedName);
        }
        let name = self.string()?;
        self.skip_whitespace();
        if self.peek() != b':' {
            return self.flaw(Why::ExpectedColon);
        }
        self.at += 1;
        self.skip_whitespace();
        Ok(name)
    }

    /// Reads a string, at its opening quote.
    #[inline]
    pub(super) fn string(&mut self) -> Result<StringText, Flaw> {
        let start = self.at + 1;
        let end = end_of_plain(self.input, start);
        if self.input.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(StringText::Plain { start, end });
        }
        self.string_with_escapes(start, end)
    }

    /// Reads a string, at its opening quote, if it is shorter than a [`Chunk`] and has no escapes.
    /// Returns it together with the bytes behind it.
    #[inline]
    pub(super) fn short_string(&mut self) -> Option<(&'a Chunk, usize)> {
        let start = self.at + 1;
        let chunk = self.input.get(start..)?.first_chunk()?;
        let end = plain_start(chunk);
        if chunk.get(end) != Some(&b'"') {
            return None;
        }
        self.at = start + end + 1;
        Some((chunk, end))
    }

    #[inline]
    pub(super) fn text(&self, text: StringText) -> &[u8] {
        match text {
            StringText::Plain { start, end } => &self.input[start..end],
            StringText::Unescaped => &self.unescaped,
        }
    }

    fn string_with_escapes(&mut self, start: usize, mut at: usize) -> Result<StringText, Flaw> {
        self.unescaped.clear();
        self.unescaped.extend_from_slice(&self.input[start..at]);
        loop {
            match self.input.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(StringText::Unescaped);
                }
                Some(b'\\') => {}
                Some(_) => return Err(Flaw::new(Why::ControlCharacter, at)),
                None => return Err(Flaw::new(Why::UnclosedString, start - 1)),
            }
            at = self.escape(at)?;
            let end = end_of_plain(self.input, at);
            self.unescaped.extend_from_slice(&self.input[at..end]);
            at = end;
        }
    }

    /// Adds the character of the escape at `at`, and returns where the escape ends.
    fn escape(&mut self, at: usize) -> Result<usize, Flaw> {
        let byte = match self.input.get(at + 1) {
            Some(b'u') => return self.unicode_escape(at),
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            _ => return Err(Flaw::new(Why::MalformedEscape, at)),
        };
        self.unescaped.push(byte);
        Ok(at + 2)
    }

    /// `\uXXXX`, or two of them that stand for one character beyond the basic plane.
    fn unicode_escape(&mut self, at: usize) -> Result<usize, Flaw> {
        let unit = self.hex_unit(at)?;
        let (code, end) = if (0xD800..0xDC00).contains(&unit) {
            if self.input.get(at + 6..at + 8) != Some(b"\\u") {
                return Err(Flaw::new(Why::LoneSurrogate, at));
            }
            let low = self.hex_unit(at + 6)?;
            if !(0xDC00..0xE000).contains(&low) {
                return Err(Flaw::new(Why::LoneSurrogate, at));
            }
            (0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00), at + 12)
        } else {
            (unit, at + 6)
        };
        // What is left without a character is a low surrogate that comes first.
        let character = char::from_u32(code).ok_or_else(|| Flaw::new(Why::LoneSurrogate, at))?;
        self.unescaped.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(end)
    }

    fn hex_unit(&self, at: usize) -> Result<u32, Flaw> {
        let digits = self.input.get(at + 2..at + 6).unwrap_or_default();
        let mut unit = 0;
        for &digit in digits {
            let digit = char::from(digit).to_digit(16);
            unit = unit * 16 + digit.ok_or_else(|| Flaw::new(Why::MalformedEscape, at))?;
        }
        if digits.len() == 4 { Ok(unit) } else { Err(Flaw::new(Why::MalformedEscape, at)) }
    }

    /// Reads a number, at its first byte. Always inlined: to hand a [`Number`] over through memory
    /// takes longer than to read it.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Result<Number, Flaw> {
        let start = self.at;
        let negative = self.peek() == b'-';
        self.at += usize::from(negative);
        let first = self.peek();
        let (mut mantissa, mut digits) = self.digits(0);
        if digits == 0 || (digits > 1 && first == b'0') {
            return Err(Flaw::new(Why::MalformedNumber, start));
        }
        let (mut exponent, mut whole) = (0, true);
        if self.peek() == b'.' {
            self.at += 1;
            let fraction_digits;
            (mantissa, fraction_digits) = self.digits(mantissa);
            if fraction_digits == 0 {
                return Err(Flaw::new(Why::MalformedNumber, start));
            }
            digits += fraction_digits;
            exponent = -(fraction_digits as i64);
            whole = false;
        }
        if matches!(self.peek(), b'e' | b'E') {
            exponent += self.exponent(start)?;
            whole = false;
        }
        let exact = digits <= Number::EXACT_DIGITS;
        Ok(Number { negative, mantissa, exponent, exact, whole, start, end: self.at })
    }

    /// Reads digits behind those in `mantissa`. Wraps around if they are too many, which the count tells.
    #[inline(always)]
    fn digits(&mut self, mut mantissa: u64) -> (u64, usize) {
        let mut count = 0;
        for byte in self.input.get(self.at..).unwrap_or_default() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            count += 1;
        }
        self.at += count;
        (mantissa, count)
    }

    #[cold]
    fn exponent(&mut self, number_start: usize) -> Result<i64, Flaw> {
        self.at += 1;
        let negative = self.peek() == b'-';
        self.at += usize::from(matches!(self.peek(), b'-' | b'+'));
        let (start, mut exponent) = (self.at, 0_i64);
        while self.peek().is_ascii_digit() {
            // Beyond the length of any record the exact value makes no difference.
            exponent = (exponent * 10 + i64::from(self.peek() - b'0')).min(1 << 40);
            self.at += 1;
        }
        if self.at == start {
            return Err(Flaw::new(Why::MalformedNumber, number_start));
        }
        Ok(if negative { -exponent } else { exponent })
    }

    /// Reads `true`, `false` or `null`.
    #[inline]
    pub(super) fn literal<const N: usize>(&mut self, literal: &[u8; N]) -> Result<(), Flaw> {
        if self.input.get(self.at..).and_then(|rest| rest.first_chunk()) != Some(literal) {
            return self.flaw(Why::ExpectedValue);
        }
        self.at += N;
        Ok(())
    }

    /// Walks over one value inside of `depth` objects and arrays, checking its grammar.
    pub(super) fn skip(&mut self, depth: usize) -> Result<(), Flaw> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.skip_number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            b'{' | b'[' if depth >= DEPTH_MAX => self.flaw(Why::TooDeep),
            b'{' => self.skip_members(b'}', depth + 1),
            b'[' => self.skip_members(b']', depth + 1),
            _ => self.flaw(Why::ExpectedValue),
        }
    }

    #[inline(never)]
    fn skip_number(&mut self) -> Result<(), Flaw> {
        self.number().map(drop)
    }

    fn skip_members(&mut self, close: u8, depth: usize) -> Result<(), Flaw> {
        let mut more = self.enter(close);
        while more {
            if close == b'}' {
                self.name()?;
            }
            self.skip(depth)?;
            more = self.more(close)?;
        }
        Ok(())
    }

    /// Checks that nothing but whitespace follows.
    #[inline]
    pub(super) fn end(&mut self) -> Result<(), Flaw> {
        self.skip_whitespace();
        if self.at < self.input.len() { self.flaw(Why::TrailingBytes) } else { Ok(()) }
    }
}

/// A name in quotes with its colon, in the spelling with the fewest escapes. Others are found by name.
pub(super) struct Key {
    text: Box<[u8]>,
    /// The first bytes of `text`, and a mask for as many of them as there are: one comparison of an
    /// integer does for most names.
    head: u128,
    head_mask: u128,
}

impl Key {
    const HEAD: usize = size_of::<u128>();

    pub(super) fn new(name: &[u8]) -> Self {
        let mut text = vec![b'"'];
        push_escaped(&mut text, name);
        text.extend_from_slice(b"\":");
        let (mut head, mut mask) = ([0; Self::HEAD], [0; Self::HEAD]);
        for (index, byte) in text.iter().enumerate().take(Self::HEAD) {
            (head[index], mask[index]) = (*byte, u8::MAX);
        }
        Self {
            text: text.into(),
            head: u128::from_le_bytes(head),
            head_mask: u128::from_le_bytes(mask),
        }
    }

    #[inline]
    fn stands_at(&self, input: &[u8], at: usize) -> bool {
        let rest = input.get(at..).unwrap_or_default();
        let head = match (rest.first_chunk(), input.last_chunk()) {
            (Some(head), _) => u128::from_le_bytes(*head),
            // Near the end: its last bytes, with zeros behind them, which no key has.
            (None, Some(tail)) => {
                let bits_before = 8 * (Self::HEAD - rest.len()) as u32;
                u128::from_le_bytes(*tail).checked_shr(bits_before).unwrap_or(0)
            }
            (None, None) => return rest.starts_with(&self.text),
        };
        head & self.head_mask == self.head
            && (self.text.len() <= Self::HEAD || rest.starts_with(&self.text))
    }
}

/// Checks the grammar of a whole text.
pub(super) fn check_grammar(input: &[u8]) -> Result<(), Flaw> {
    let mut cursor = Cursor::starting_at(input, 0);
    cursor.skip_whitespace();
    cursor.skip(0)?;
    cursor.end()
}

/// As many bytes of a string as are looked at in one step.
pub(super) type Chunk = [u8; 16];

/// Index of the first quote, backslash or control character at or behind `at`, or the length.
#[inline]
fn end_of_plain(input: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = input.get(at..).and_then(|rest| rest.first_chunk()) {
        let end = plain_start(chunk);
        at += end;
        if end < chunk.len() {
            return at;
        }
    }
    let special = |&byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let rest = input.get(at..).unwrap_or_default();
    rest.iter().position(special).map_or(input.len(), |index| at + index)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// How many bytes there are in front of the first quote, backslash or control character.
#[inline]
fn plain_start(chunk: &Chunk) -> usize {
    let bytes = u128::from_le_bytes(*chunk);
    let low = special_bytes(bytes as u64);
    if low != 0 {
        return low.trailing_zeros() as usize / 8;
    }
    let high = special_bytes((bytes >> 64) as u64);
    8 + high.trailing_zeros() as usize / 8
}

/// Marks the high bits of quotes, backslashes and control characters.
///
/// Subtracting 1 from a byte that is 0 borrows into its high bit. A borrow may also mark a byte above
/// a true hit, never one below, so the lowest mark is right.
#[inline]
fn special_bytes(bytes: u64) -> u64 {
    let quotes = bytes ^ (ONES * b'"' as u64);
    let backslashes = bytes ^ (ONES * b'\\' as u64);
    let marks = (quotes.wrapping_sub(ONES) & !quotes)
        | (backslashes.wrapping_sub(ONES) & !backslashes)
        | (bytes.wrapping_sub(ONES * 0x20) & !bytes);
    marks & HIGH_BITS
}

/// Writes text as a JSON string has it inside of its quotes.
pub(super) fn push_escaped(json: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
            0..0x20 => json.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => json.push(byte),
        }
    }
}
