//! Whether a connector that failed is started again: a table over whose fault it was and whether
//! it helps to try again.
//!
//! | error | before its first commit | after it |
//! |---|---|---|
//! | a person must decide | stop | stop |
//! | retry never | stop | stop |
//! | retry after refresh | start again at once, up to 10 times in a row | the same |
//! | retry after release | start again after 1 to 2 s, up to 60 times in a row | the same |
//! | retry after back-off | stop: the configuration was probably never right, and who started the worker hears of it | start again after a pause |
//! | the same, in a worker of several connectors, which goes on | start again after a pause | the same |
//!
//! With `--until-end` nothing but a refresh or a release is tried again: whoever waits for the end wants to know.
//!
//! A panic is a bug of ours, and an error that is tried again after a pause, up to 5 times in a row: what is
//! committed is in the table, and a start reads on from there. The other connectors of the worker do not
//! notice.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use connector_api::clock::Moment;
use connector_api::{Error, Fault, Retry};
use futures::FutureExt;

use super::{Ended, Running, connector};
use crate::config::OnBadRecord;
use crate::jitter::jittered;
use crate::observe::terminal::grouped;

const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A connector that ran for this long without an error begins with the first pause again.
const STEADY: Duration = Duration::from_secs(300);
/// Until the next look whether a dead worker was given up: that may take 45 s, and then rows shall come soon.
const PAUSE_RELEASE: Duration = Duration::from_secs(2);
/// Looks in a row before the error counts as final: that worker lives, or who waits for it is very patient.
const RELEASES_MAX: u32 = 60;
/// Refreshes in a row before the error counts as final.
const REFRESHES_MAX: u32 = 10;

/// Bugs of ours in a row before the error counts as final.
const BUGS_MAX: u32 = 5;

/// What to do with a connector that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Stop,
    Restart(Duration),
}

/// How often it failed in a row, by what helps. One kind does not use up the tries of another.
#[derive(Debug, Default)]
struct Failures {
    refreshes: u32,
    releases: u32,
    bugs: u32,
    outages: u32,
}

impl Failures {
    fn like(&mut self, error: &Error) -> &mut u32 {
        match (error.retry(), error.fault()) {
            (Retry::AfterRefresh, _) => &mut self.refreshes,
            (Retry::AfterRelease, _) => &mut self.releases,
            (_, Fault::Internal) => &mut self.bugs,
            _ => &mut self.outages,
        }
    }
}

fn judge(error: &Error, tries_on: bool, until_end: bool, failures: u32) -> Verdict {
    if error.needs_decision() {
        return Verdict::Stop;
    }
    match error.retry() {
        Retry::Never => Verdict::Stop,
        Retry::AfterRefresh if failures < REFRESHES_MAX => Verdict::Restart(Duration::ZERO),
        Retry::AfterRelease if failures < RELEASES_MAX => Verdict::Restart(PAUSE_RELEASE),
        Retry::AfterRefresh | Retry::AfterRelease => Verdict::Stop,
        Retry::AfterBackoff if until_end || !tries_on => Verdict::Stop,
        Retry::AfterBackoff if error.fault() == Fault::Internal && failures >= BUGS_MAX => {
            Verdict::Stop
        }
        Retry::AfterBackoff => {
            Verdict::Restart((PAUSE_FIRST * 2u32.pow(failures.min(6))).min(PAUSE_MAX))
        }
    }
}

/// Runs a connector, and starts it again where that may help.
pub async fn supervise(running: Running) -> Ended {
    let mut failures = Failures::default();
    let connector = running.plan.name.clone();
    loop {
        let started: Moment = running.outside.clock.now();
        let run = AssertUnwindSafe(connector::run(running.clone())).catch_unwind();
        let error = match run.await {
            Ok(Ok(())) => return ended(&running, None),
            Ok(Err(error)) => error,
            Err(panic) => panicked(&running, panic.as_ref()),
        };
        if running.outside.clock.now().since(started) >= STEADY {
            failures = Failures::default();
        }
        let tries_on = !running.alone || running.progress.counts().commits > 0;
        // Who drains wants to know that the last commit failed, and no new start.
        let verdict = match *running.drain.borrow() {
            true => Verdict::Stop,
            false => judge(&error, tries_on, running.until_end, *failures.like(&error)),
        };
        match verdict {
            Verdict::Stop => {
                tracing::debug!(%connector, %error, "connector stopped");
                return ended(&running, Some(error));
            }
            Verdict::Restart(pause) => {
                *failures.like(&error) += 1;
                // Its brokers or its store failed for all workers at once.
                let pause = jittered(pause, (running.outside.new_run)());
                tracing::warn!(%connector, %error, pause_s = pause.as_secs(), "connector failed, starting it again");
                let mut drain = running.drain.clone();
                tokio::select! {
                    biased;
                    _ = drain.wait_for(|drain| *drain) => {
                        return ended(&running, None);
                    }
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

fn panicked(running: &Running, panic: &(dyn Any + Send)) -> Error {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let said = said.unwrap_or("no message");
    let connector = &running.plan.name;
    tracing::error!(%connector, said, "the connector panicked, which is a bug: please report it");
    Error::internal(format!("connector `{connector}` panicked, which is a bug: {said}"))
        .with_retry(Retry::AfterBackoff)
}

fn ended(running: &Running, error: Option<Error>) -> Ended {
    let rejected = running.progress.rejected_by_cause();
    let causes: Vec<String> =
        rejected.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    let kept = match &running.plan.on_bad_record {
        OnBadRecord::DeadLetter(sink) => format!("dead letters in {}", sink.location()),
        OnBadRecord::Stop | OnBadRecord::Drop => "bad records were dropped".to_owned(),
    };
    let total = grouped(rejected.values().sum());
    Ended {
        connector: running.plan.name.clone(),
        counts: running.progress.counts(),
        rejected: (!causes.is_empty()).then(|| format!("{total} {kept} ({})", causes.join(", "))),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: Error, tries_on: bool, until_end: bool, expected: Verdict) {
        assert_eq!(judge(&error, tries_on, until_end, 0), expected);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let outage = || Error::external("the store does not answer");
        check(outage(), true, false, Verdict::Restart(PAUSE_FIRST));
        check(outage(), false, false, Verdict::Stop);
        check(outage(), true, true, Verdict::Stop);
        check(Error::user("no such topic"), true, false, Verdict::Stop);
        let panic = || Error::internal("panicked").with_retry(Retry::AfterBackoff);
        check(panic(), true, false, Verdict::Restart(PAUSE_FIRST));
        assert_eq!(judge(&panic(), true, false, BUGS_MAX), Verdict::Stop);
        check(Error::internal("a bug"), true, false, Verdict::Stop);
        check(Error::decision("a gap"), true, false, Verdict::Stop);
        let altered = Error::external("altered").with_retry(Retry::AfterRefresh);
        check(altered, false, true, Verdict::Restart(Duration::ZERO));
        let held = Error::external("a dead worker has it").with_retry(Retry::AfterRelease);
        assert_eq!(judge(&held, false, false, RELEASES_MAX), Verdict::Stop);
        check(held, false, true, Verdict::Restart(PAUSE_RELEASE));
    }

    #[test]
    fn outages_do_not_use_up_the_tries_of_a_bug() {
        let mut failures = Failures::default();
        let panic = Error::internal("panicked").with_retry(Retry::AfterBackoff);
        *failures.like(&Error::external("the store is away")) += 9;
        *failures.like(&Error::external("altered").with_retry(Retry::AfterRefresh)) += 9;
        assert_eq!(*failures.like(&panic), 0);
    }

    #[test]
    fn pauses_grow_up_to_a_minute() {
        let pauses: Vec<u64> = (0..9)
            .map(|failures| match judge(&Error::external("x"), true, false, failures) {
                Verdict::Restart(pause) => pause.as_secs(),
                Verdict::Stop => 0,
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
