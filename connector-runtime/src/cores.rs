//! The cores of a worker, which its connectors take in turns to decode and encode. More at once would be no
//! faster, and each of them needs memory that no budget counts.

use std::num::NonZero;
use std::sync::Arc;

use connector_api::Result;
use tokio::sync::Semaphore;

use crate::blocking::blocking;

/// As many turns as there are cores. Clones are the same.
#[derive(Debug, Clone)]
pub struct Cores(Arc<Semaphore>);

impl Cores {
    /// As many as the process may use.
    pub fn all() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    fn new(cores: usize) -> Self {
        Self(Arc::new(Semaphore::new(cores)))
    }

    /// Runs work on a core, as soon as one is free, and waits for it. Who asked first comes first.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        // An error would say that it was closed, which nobody does.
        let _core = self.0.acquire().await;
        blocking(work).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    /// Runs work of six connectors, and returns how many of them were at it at once at most.
    async fn most_at_once(cores: usize) -> usize {
        let cores = Cores::new(cores);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = (0..6).map(|_| {
            let (now, most) = (now.clone(), most.clone());
            cores.clone().run(move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
            })
        });
        join_all(work).await.into_iter().for_each(|done| done.unwrap());
        most.load(Ordering::SeqCst)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_is_computed_at_once_than_there_are_cores() {
        for _ in 0..100 {
            assert_eq!(most_at_once(1).await, 1);
            assert!(most_at_once(2).await <= 2);
        }
    }
}
