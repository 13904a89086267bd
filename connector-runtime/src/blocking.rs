//! Work that waits or computes, kept off the threads that must do neither.

use connector_api::{Error, Result};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs work on a thread for such work, and waits for it.
///
/// On a runtime of one thread, as a simulation has it, it runs at once: there the same seed must
/// always take the same steps.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        // As if it had been here: whoever supervises the connector sees to it.
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Error::internal("work on a thread of its own did not end").with_source(e)),
    }
}
