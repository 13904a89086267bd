//! Pauses of different lengths, so that workers which failed together do not come back together.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The pause, or up to half of it less, by who waits. The same for the same one, so that who decides about
/// pauses stays a pure function.
pub(crate) fn jittered(pause: Duration, whom: impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    whom.hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 512).unwrap_or(0);
    pause - pause * share / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_and_are_never_shorter_than_half() {
        let pause = Duration::from_secs(10);
        let pauses: Vec<Duration> = (0..100).map(|worker| jittered(pause, worker)).collect();
        assert!(pauses.iter().all(|one| *one > pause / 2 && *one <= pause), "{pauses:?}");
        let distinct: std::collections::BTreeSet<_> = pauses.iter().collect();
        assert!(distinct.len() > 50, "{distinct:?}");
        assert_eq!(jittered(pause, "a"), jittered(pause, "a"));
    }
}
