//! SIGTERM and SIGINT: the first drains, the second aborts.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What a shell reports for a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Waits for signals for as long as the worker runs.
pub(super) async fn watch(drain: watch::Sender<bool>) {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be watched: only SIGKILL will end this worker");
        return std::future::pending().await;
    };
    let mut draining = false;
    loop {
        tokio::select! {
            Some(()) = term.recv() => {}
            Some(()) = int.recv() => {}
        }
        if draining {
            tracing::warn!(
                "second signal, aborting: nothing is lost, what is not committed is read again"
            );
            std::process::exit(INTERRUPTED);
        }
        draining = true;
        tracing::info!("signal received, draining: a second one aborts");
        drain.send_replace(true);
    }
}
