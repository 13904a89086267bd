//! A worker's process: all of its tasks as one future, that can be dropped or left unpolled.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use connector_runtime::worker::Ended;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

/// Where a process starts its threads.
#[derive(Clone, Default)]
pub(crate) struct Inside(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    started: Vec<BoxFuture<'static, ()>>,
    frozen: bool,
    waker: Option<Waker>,
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inside")
    }
}

impl Inside {
    /// Starts a thread, which ends with the process.
    pub(crate) fn start(&self, thread: impl Future<Output = ()> + Send + 'static) {
        let mut shared = self.0.lock().unwrap();
        shared.started.push(Box::pin(thread));
        shared.waker.take().into_iter().for_each(Waker::wake);
    }

    /// SIGSTOP and SIGCONT: time goes on, the process does not.
    pub(crate) fn freeze(&self, frozen: bool) {
        let mut shared = self.0.lock().unwrap();
        shared.frozen = frozen;
        shared.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// The process. Ends when the worker does and its threads have.
pub(crate) struct Process {
    inside: Inside,
    worker: BoxFuture<'static, Ended>,
    threads: FuturesUnordered<BoxFuture<'static, ()>>,
    ended: Option<Ended>,
}

impl Process {
    pub(crate) fn new(
        inside: Inside,
        worker: impl Future<Output = Ended> + Send + 'static,
    ) -> Self {
        let threads = FuturesUnordered::new();
        Self { inside, worker: Box::pin(worker), threads, ended: None }
    }
}

impl Future for Process {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let process = &mut *self;
        if process.inside.0.lock().unwrap().frozen {
            process.inside.0.lock().unwrap().waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        if process.ended.is_none()
            && let Poll::Ready(ended) = process.worker.as_mut().poll(context)
        {
            process.ended = Some(ended);
        }
        let started = std::mem::take(&mut process.inside.0.lock().unwrap().started);
        process.threads.extend(started);
        while let Poll::Ready(Some(())) = process.threads.poll_next_unpin(context) {}
        process.inside.0.lock().unwrap().waker = Some(context.waker().clone());
        match process.threads.is_empty() {
            true => process.ended.take().map_or(Poll::Pending, Poll::Ready),
            false => Poll::Pending,
        }
    }
}
