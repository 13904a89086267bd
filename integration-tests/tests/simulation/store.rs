//! An object store in memory whose requests take time, get lost, or are carried out without an answer.
//!
//! | what may happen | rate |
//! |---|---|
//! | it takes 1 to 40 ms each way | always |
//! | it never arrives, and fails | 1 % |
//! | it is carried out, and the answer is an error | 1.5 % |
//! | it is carried out after the client has given up | 0.5 % |
//! | a condition holds, and the answer says that it did not (a client's own repetition meets its first request) | 0.5 % |
//! | nothing is answered for a while | by the scenario |
//!
//! A request that was sent is carried out whether or not its sender still lives.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{BoxStream, once};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::World;
use crate::judge::Judge;

/// How long clients wait for an answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Clones are the same store.
#[derive(Clone)]
pub(crate) struct SimulatedStore {
    inner: Arc<InMemory>,
    world: World,
    judge: Judge,
    away_until: Arc<Mutex<Option<Instant>>>,
    /// Conditional writes that came too late.
    refused: Arc<AtomicUsize>,
    /// The simulation's own.
    runtime: Handle,
    thread: ThreadId,
}

impl SimulatedStore {
    pub(crate) fn new(world: &World, judge: &Judge) -> Self {
        let (world, judge) = (world.clone(), judge.clone());
        Self {
            inner: Arc::default(),
            world,
            judge,
            away_until: Arc::default(),
            refused: Arc::default(),
            runtime: Handle::current(),
            thread: std::thread::current().id(),
        }
    }

    /// Conditional writes that came too late, so far.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn go_away(&self, span: Duration) {
        *self.away_until.lock().unwrap() = Some(Instant::now() + span);
    }

    fn is_away(&self) -> bool {
        // The time is the simulation's, also on a thread beside it.
        let _within = self.runtime.enter();
        self.away_until.lock().unwrap().is_some_and(|until| Instant::now() < until)
    }

    /// Sends a request and waits for its answer. `changed` is what the judge looks at afterwards.
    async fn request<T: Send + 'static>(
        &self,
        changed: Option<Path>,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        if std::thread::current().id() != self.thread {
            return self.request_beside(changed, request).await;
        }
        let travel = || Duration::from_millis(self.world.between(1, 40));
        let (mut there, back) = (travel(), travel());
        if self.is_away() {
            // Refused at once, or silence.
            sleep(if self.world.chance(500) { there } else { DEADLINE }).await;
            return Err(broken("the store is away"));
        }
        if self.world.fault(10) {
            sleep(there).await;
            return Err(broken("the request was lost"));
        }
        let lost = self.world.fault(15);
        if self.world.fault(5) {
            there = DEADLINE + Duration::from_secs(self.world.between(0, 30));
        }
        let (sender, answer) = oneshot::channel();
        let (inner, judge, runtime) =
            (self.inner.clone(), self.judge.clone(), self.runtime.clone());
        tokio::spawn(async move {
            sleep(there).await;
            let answer = request.await;
            look(&runtime, &inner, &judge, changed.as_ref().filter(|_| answer.is_ok())).await;
            sleep(back).await;
            // The sender may be dead.
            drop(sender.send(answer));
        });
        match answer.await {
            Ok(Ok(_)) if lost => Err(broken("the answer was lost")),
            Ok(answer) => answer,
            Err(_) => Err(broken("the request has ended")),
        }
    }
}

impl SimulatedStore {
    /// A request of the Delta kernel, on a thread beside the simulation, which stands still meanwhile: it takes no time,
    /// and fails like any other.
    async fn request_beside<T: Send + 'static>(
        &self,
        changed: Option<Path>,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        if self.is_away() || self.world.fault(10) {
            return Err(broken("the request was lost"));
        }
        let lost = self.world.fault(15);
        let (inner, judge, runtime) =
            (self.inner.clone(), self.judge.clone(), self.runtime.clone());
        if self.world.fault(5) {
            let there = Duration::from_secs(self.world.between(0, 50));
            self.runtime.spawn(async move {
                sleep(there).await;
                let arrived = request.await.is_ok();
                look(&runtime, &inner, &judge, changed.as_ref().filter(|_| arrived)).await;
            });
            return Err(broken("no answer in time"));
        }
        let answer = request.await?;
        look(&runtime, &inner, &judge, changed.as_ref()).await;
        match lost {
            true => Err(broken("the answer was lost")),
            false => Ok(answer),
        }
    }

    /// What somebody else writes, without any trouble. False if the object is there.
    pub(crate) async fn create(&self, path: &Path, content: Bytes) -> bool {
        let created = self.inner.put_opts(path, content.into(), PutMode::Create.into()).await;
        look(&self.runtime, &self.inner, &self.judge, Some(path).filter(|_| created.is_ok())).await;
        created.is_ok()
    }
}

/// Shows the judge an object.
async fn look(runtime: &Handle, store: &InMemory, judge: &Judge, path: Option<&Path>) {
    let Some(path) = path else { return };
    let content = match store.get(path).await {
        Ok(found) => found.bytes().await.ok(),
        Err(_) => None,
    };
    let _within = runtime.enter();
    judge.changed(path, content);
}

fn broken(what: &str) -> Error {
    Error::Generic { store: "simulation", source: what.into() }
}

#[async_trait]
impl ObjectStore for SimulatedStore {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let conditional = options.mode != PutMode::Overwrite;
        self.judge.sent(path, &Bytes::from(payload.clone()));
        let (inner, to) = (self.inner.clone(), path.clone());
        let put = async move { inner.put_opts(&to, payload, options).await };
        let done = self.request(Some(path.clone()), put).await;
        if let Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) = done {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        let done = done?;
        match conditional && self.world.fault(5) {
            true => Err(Error::Precondition {
                path: path.to_string(),
                source: "a repetition met its own first request".into(),
            }),
            false => Ok(done),
        }
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(broken("no file of a simulation is that large"))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let (inner, path) = (self.inner.clone(), path.clone());
        self.request(None, async move { inner.get_opts(&path, options).await }).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Result<Path>| {
            let store = store.clone();
            async move {
                let path = path?;
                let (inner, gone) = (store.inner.clone(), path.clone());
                let delete = async move { inner.delete(&gone).await };
                store.request(Some(path.clone()), delete).await?;
                Ok(path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let list = async move {
            let inner = store.inner.clone();
            let listed = async move { Ok(inner.list(prefix.as_ref()).collect::<Vec<_>>().await) };
            match store.request(None, listed).await {
                Ok(listed) => listed,
                Err(error) => vec![Err(error)],
            }
        };
        once(list).flat_map(futures::stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (inner, prefix) = (self.inner.clone(), prefix.cloned());
        self.request(None, async move { inner.list_with_delimiter(prefix.as_ref()).await }).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (inner, from, target) = (self.inner.clone(), from.clone(), to.clone());
        let copy = async move { inner.copy_opts(&from, &target, options).await };
        self.request(Some(to.clone()), copy).await
    }
}

impl fmt::Display for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedStore")
    }
}

impl fmt::Debug for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedStore")
    }
}
