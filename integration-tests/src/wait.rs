//! Time, as the outside of a process knows it: conditions with a deadline, never a pause in the hope
//! that something has happened meanwhile.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a condition is looked at. Other processes send no event when they get somewhere, so we
/// must look again; this often costs nothing, and a test waits at most this much too long.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The wall clock.
#[allow(
    clippy::disallowed_methods,
    reason = "the binary is measured from outside, where only the wall clock is"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, as Kafka's timestamps are.
#[allow(clippy::disallowed_methods, reason = "records are produced at the time of the day")]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    i64::try_from(since.as_millis()).expect("the clock is before the year 292278994")
}

/// Waits until `attempt` brings something. Fails the test, naming `what`, when `limit` is over.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    match within(limit, attempt) {
        Some(value) => value,
        None => panic!("waited {limit:?} in vain: {what}"),
    }
}

/// What `attempt` brings before `limit` is over, if anything.
pub fn within<T>(limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = now() + limit;
    loop {
        if let Some(value) = attempt() {
            return Some(value);
        }
        if now() >= deadline {
            return None;
        }
        let_pass(POLL_INTERVAL);
    }
}

/// Lets time pass, where time itself is the subject: a window for a measurement, or a random moment.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that sleeps; conditions are awaited by `eventually`"
)]
pub fn let_pass(duration: Duration) {
    std::thread::sleep(duration);
}
