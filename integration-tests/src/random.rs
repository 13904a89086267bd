//! Numbers that look random, and are the same for the same seed.

/// A generator of such numbers (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins anew. Zero is as good as one.
    pub fn new(seed: u64) -> Random {
        Random(seed.max(1))
    }

    /// A number from `low` to below `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// A text of letters, digits, `-` and `_` that hardly gets shorter by compression.
    pub fn text(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::with_capacity(length);
        while text.len() < length {
            // The upper bits are the better ones: ten letters of six bits each.
            let bits = self.next() >> 4;
            let letters = (0..10).map(|i| ALPHABET[(bits >> (6 * i)) as usize & 63] as char);
            text.extend(letters.take(length - text.len()));
        }
        text
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
