//! Errors answer two questions: whose fault is it, and does it help to try again?

use std::error::Error as StdError;
use std::fmt;

/// Who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The user: a configuration, a permission, data that does not fit.
    User,
    /// Something outside: broker, store, network.
    External,
    /// Us: a bug.
    Internal,
}

/// Whether the same thing may work later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It will not, until somebody changes something.
    Never,
    /// It may, after a pause.
    AfterBackoff,
    /// It may, once the state that we hold has been read again.
    AfterRefresh,
    /// It may, once somebody who holds what we need, and may be dead, is given up.
    AfterRelease,
}

/// An error with its fault, its retry, and what we were doing when it came.
#[derive(Debug)]
pub struct Error {
    fault: Fault,
    retry: Retry,
    needs_decision: bool,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result with our error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The user must change something; no retry helps.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Fault::User, Retry::Never, message)
    }

    /// Something outside failed and may come back.
    pub fn external(message: impl Into<String>) -> Self {
        Self::new(Fault::External, Retry::AfterBackoff, message)
    }

    /// We are at fault; no retry helps.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Fault::Internal, Retry::Never, message)
    }

    /// A person must decide before the connector may go on, since going on could lose or double records.
    pub fn decision(message: impl Into<String>) -> Self {
        Self { needs_decision: true, ..Self::user(message) }
    }

    fn new(fault: Fault, retry: Retry, message: impl Into<String>) -> Self {
        Self { fault, retry, needs_decision: false, message: message.into(), source: None }
    }

    /// Sets whether trying again may help.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says what we were doing: `failed to open table `x`` before what went wrong.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Who can mend it.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Whether trying again may help.
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// True if a person must decide before the connector may go on.
    pub fn needs_decision(&self) -> bool {
        self.needs_decision
    }
}

impl fmt::Display for Error {
    /// The message and all its causes in one line; a cause that is already named is not repeated.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut said = self.message.clone();
        let mut cause: Option<&dyn StdError> =
            self.source.as_ref().map(|source| source.as_ref() as _);
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// Adds what we were doing to an error of ours, at the border of a module.
pub trait Context<T> {
    /// Puts `doing()` before the error's message.
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.context(doing()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_from_what_we_did_to_what_went_wrong() {
        let disk = std::io::Error::other("no space left on device");
        let error = Error::external("put of `part-1.parquet` failed")
            .with_source(disk)
            .context("failed to stage round 41");
        assert_eq!(
            error.to_string(),
            "failed to stage round 41: put of `part-1.parquet` failed: no space left on device"
        );
    }
}
