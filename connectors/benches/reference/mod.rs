//! The reference record of all benchmarks, 152 bytes on average.

/// Knuth's multiplicative generator: the same records in every run, without a crate.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(crate) fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len() as u64) as usize]
    }
}

/// `{"id":1000077,"ts":"2026-11-22T00:00:00.845576Z","user":{"id":"u-159108","country":"US"},
/// "event":"page_view","amount":221.50,"tags":["a","b"],"ok":false}`
pub(crate) fn record(id: usize, random: &mut Random) -> String {
    let micros = id as u64 * 10_988 + random.below(10_988);
    let (second, fraction) = (micros / 1_000_000 % 86_400, micros % 1_000_000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let user = 100_000 + random.below(100_000);
    let country = random.one_of(&["US", "DE", "IN", "BR", "JP"]);
    let event = random.one_of(&["page_view", "click", "purchase", "add_to_cart", "search"]);
    let (whole, cents) = (random.below(1000), random.below(100));
    let tags = random.one_of(&[r#""a","b""#, r#""a""#, r#""new","mobile""#, r#""a","b","c""#]);
    let ok = random.below(2) == 0;
    format!(
        "{{\"id\":{id},\"ts\":\"2026-11-22T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z\",\
         \"user\":{{\"id\":\"u-{user}\",\"country\":\"{country}\"}},\"event\":\"{event}\",\
         \"amount\":{whole}.{cents:02},\"tags\":[{tags}],\"ok\":{ok}}}",
        id = 1_000_000 + id,
    )
}
