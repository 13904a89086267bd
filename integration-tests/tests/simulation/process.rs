//! A worker's process: all of its tasks as one future, that can be dropped or left unpolled.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use connector_runtime::worker::Ended;
use futures::FutureExt;
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
    /// The worker and its threads. Who was not woken is not polled: most of what happens concerns one of them.
    tasks: FuturesUnordered<BoxFuture<'static, Option<Ended>>>,
    ended: Option<Ended>,
}

impl Process {
    pub(crate) fn new(
        inside: Inside,
        worker: impl Future<Output = Ended> + Send + 'static,
    ) -> Self {
        let tasks = FuturesUnordered::new();
        tasks.push(worker.map(Some).boxed());
        Self { inside, tasks, ended: None }
    }

    /// Takes over the threads that were started. False while the process is frozen.
    fn goes_on(&mut self, context: &Context<'_>) -> bool {
        let mut shared = self.inside.0.lock().unwrap();
        // Threads that are started from here on wake it.
        shared.waker = Some(context.waker().clone());
        if !shared.frozen {
            let started = shared.started.drain(..);
            self.tasks.extend(started.map(|thread| thread.map(|()| None).boxed()));
        }
        !shared.frozen
    }
}

impl Future for Process {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let process = &mut *self;
        if !process.goes_on(context) {
            return Poll::Pending;
        }
        while let Poll::Ready(Some(ended)) = process.tasks.poll_next_unpin(context) {
            process.ended = process.ended.take().or(ended);
        }
        let is_over =
            process.tasks.is_empty() && process.inside.0.lock().unwrap().started.is_empty();
        let ended = if is_over { process.ended.take() } else { None };
        ended.map_or(Poll::Pending, Poll::Ready)
    }
}
