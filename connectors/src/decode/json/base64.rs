//! Base64 as the JSON form of Protobuf reads it: the standard and the URL-safe alphabet, with or
//! without padding. Bits that no byte takes must be zero, else two texts would mean the same bytes.

use super::columns::Bytes;

/// Appends the decoded bytes to `column` as one value, or returns false and leaves a part of it to be cut off.
pub(super) fn decode(text: &[u8], column: &mut Bytes) -> bool {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let digits = &text[..text.len() - padding];
    let padded = padding == 0 || (padding <= 2 && text.len().is_multiple_of(4));
    if !padded || digits.len() % 4 == 1 {
        return false;
    }
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            let Some(value) = value_of(digit) else { return false };
            bits = bits << 6 | value;
        }
        bits <<= 6 * (4 - group.len());
        let bytes = bits.to_be_bytes();
        let (bytes, unused) = bytes[1..].split_at(group.len() - 1);
        if unused.iter().any(|&byte| byte != 0) {
            return false;
        }
        column.extend(bytes);
    }
    column.end_value();
    true
}

fn value_of(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}
