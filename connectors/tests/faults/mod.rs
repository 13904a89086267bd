//! An object store that does to the objects that commits depend on what stores and networks do now
//! and then: to the entries of a Delta table's log, and to a ledger.

pub(crate) mod answers;
pub(crate) mod life;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart,
};
use tokio::sync::Notify;

/// What becomes of a request to create an entry of the log, or to swap a ledger.
pub(crate) enum Fault {
    /// The entry is written, and the answer is lost.
    AppliedThenError,
    /// The entry is written, the answer is lost, and the client's own retry meets the entry (S3: 412).
    AppliedThenExists,
    /// The request is refused although nobody has written the entry (S3: 409).
    RefusedAsExisting,
    /// The request is lost.
    Lost,
    /// The request is given up and still under way; [`Faults::deliver`] lets it arrive.
    Late,
    /// No answer ever comes.
    Silent,
    /// Somebody else does this first.
    After(Box<dyn FnOnce() + Send>),
}

/// What becomes of a request to rename an object.
#[derive(Clone, Copy)]
pub(crate) enum RenameFault {
    /// It is lost.
    Lost,
    /// It is carried out, and the answer is lost.
    AppliedThenError,
    /// The object is there under both names, as between the two steps of a store that copies.
    Half,
}

/// How a request fails that is counted off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failing {
    /// It never arrives.
    Before,
    /// It is carried out, and its answer is lost.
    After,
}

/// A store with a list of faults for the requests to come, first things first.
pub(crate) struct Faults {
    inner: Arc<dyn ObjectStore>,
    next: Mutex<VecDeque<Fault>>,
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
    reads: Mutex<Reads>,
    failing_parts: Arc<Mutex<usize>>,
    /// What becomes of the next renames.
    renames: Mutex<VecDeque<RenameFault>>,
    ignores_conditions: AtomicBool,
    /// Requests until one fails, of whatever kind.
    countdown: Mutex<Option<(usize, Failing)>>,
    /// Listings that pass before one shows an object.
    lag: AtomicUsize,
    unshown: Arc<Mutex<Unshown>>,
    /// Told when the client of a silent request has stopped waiting.
    given_up: Arc<Notify>,
    /// Writes so far: `put path`, `multipart path`, `abort`.
    writes: Arc<Mutex<Vec<String>>>,
}

/// The listings that are not shown yet, oldest first, by prefix.
type Unshown = HashMap<Option<Path>, VecDeque<HashSet<Path>>>;

/// Reads of the log's entries.
#[derive(Default)]
struct Reads {
    done: usize,
    /// Reads that succeed before others fail.
    good: usize,
    /// Reads that fail after that.
    failing: usize,
    /// They fail as if the entry were not there.
    as_missing: bool,
}

impl Faults {
    pub(crate) fn on(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            next: Mutex::default(),
            late: Mutex::default(),
            reads: Mutex::default(),
            failing_parts: Arc::default(),
            renames: Mutex::default(),
            countdown: Mutex::default(),
            lag: AtomicUsize::default(),
            unshown: Arc::default(),
            ignores_conditions: AtomicBool::default(),
            given_up: Arc::default(),
            writes: Arc::default(),
        })
    }

    pub(crate) fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.next.lock().unwrap().extend(faults);
    }

    /// Lets some reads of the log's entries succeed and the next ones fail.
    pub(crate) fn fail_reads_after(&self, good: usize, failing: usize) {
        let mut reads = self.reads.lock().unwrap();
        (reads.good, reads.failing) = (good, failing);
    }

    /// Lets the next reads of the log's entries fail as if they had just been cleaned up.
    pub(crate) fn miss_reads(&self, count: usize) {
        let mut reads = self.reads.lock().unwrap();
        (reads.failing, reads.as_missing) = (count, true);
    }

    /// From now on the store writes whatever it is told to, whether its condition holds or not.
    pub(crate) fn ignore_conditions(&self) {
        self.ignores_conditions.store(true, Ordering::Relaxed);
    }

    /// Lets one of the requests to come fail: the next one for 0.
    pub(crate) fn fail_request(&self, number: usize, failing: Failing) {
        *self.countdown.lock().unwrap() = Some((number, failing));
    }

    /// True if the request that was to fail has failed. From now on none does.
    pub(crate) fn has_failed(&self) -> bool {
        self.countdown.lock().unwrap().take().is_none()
    }

    /// From now on a listing shows only what was there so many listings ago.
    pub(crate) fn lag_listings(&self, lag: usize) {
        self.lag.store(lag, Ordering::Relaxed);
    }

    fn lagging(
        &self,
        prefix: Option<&Path>,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let lag = self.lag.load(Ordering::Relaxed);
        if lag == 0 {
            return listing;
        }
        let (prefix, unshown) = (prefix.cloned(), self.unshown.clone());
        let present = self.inner.list(prefix.as_ref()).map_ok(|object| object.location);
        let shown = async move {
            let present: HashSet<Path> = present.try_collect().await?;
            let mut unshown = unshown.lock().unwrap();
            let unshown = unshown.entry(prefix).or_default();
            unshown.push_back(present);
            let shown = if unshown.len() > lag { unshown.pop_front() } else { None };
            let shown = shown.unwrap_or_default();
            Ok::<_, Error>(
                listing
                    .try_filter(move |object| std::future::ready(shown.contains(&object.location))),
            )
        };
        futures::stream::once(shown).try_flatten().boxed()
    }

    /// Counts a request off. Fails if it is never to arrive; says if its answer is to be lost.
    fn counted(&self) -> Result<bool> {
        let mut countdown = self.countdown.lock().unwrap();
        match *countdown {
            None => Ok(false),
            Some((0, failing)) => {
                *countdown = None;
                match failing {
                    Failing::Before => Err(broken("the request was lost")),
                    Failing::After => Ok(true),
                }
            }
            Some((left, failing)) => {
                *countdown = Some((left - 1, failing));
                Ok(false)
            }
        }
    }

    /// Waits until the client of a silent request has stopped waiting.
    pub(crate) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Lets the next renames fail.
    pub(crate) fn fail_renames(&self, faults: impl IntoIterator<Item = RenameFault>) {
        self.renames.lock().unwrap().extend(faults);
    }

    /// Lets the next parts of large files fail.
    pub(crate) fn fail_parts(&self, count: usize) {
        *self.failing_parts.lock().unwrap() = count;
    }

    /// Lets the late requests arrive. Says for each if it created its entry.
    pub(crate) async fn deliver(&self) -> Vec<bool> {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let mut landed = Vec::new();
        for (path, payload, options) in late {
            landed.push(self.inner.put_opts(&path, payload, options).await.is_ok());
        }
        landed
    }

    /// Forgets the writes so far and returns them.
    pub(crate) fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut *self.writes.lock().unwrap())
    }

    /// Forgets the reads of the log's entries so far and returns how many there were.
    pub(crate) fn take_reads(&self) -> usize {
        std::mem::take(&mut self.reads.lock().unwrap().done)
    }

    /// True if all faults have happened.
    pub(crate) fn spent(&self) -> bool {
        self.next.lock().unwrap().is_empty()
    }

    fn fault_of_read(&self, path: &Path) -> Result<()> {
        if !is_entry(path) {
            return Ok(());
        }
        let mut reads = self.reads.lock().unwrap();
        reads.done += 1;
        if reads.good > 0 {
            reads.good -= 1;
            return Ok(());
        }
        if reads.failing == 0 {
            return Ok(());
        }
        reads.failing -= 1;
        match reads.as_missing {
            true => Err(Error::NotFound { path: path.to_string(), source: "injected".into() }),
            false => Err(broken("the read was lost")),
        }
    }
}

/// True for `_delta_log/00000000000000000000.json`, and for a ledger.
fn is_entry(path: &Path) -> bool {
    let name = path.filename().unwrap_or_default();
    let of_log = path.as_ref().contains("_delta_log/") && name.len() == 25;
    (of_log && name.ends_with(".json")) || name.ends_with(".ledger.json")
}

fn broken(what: &str) -> Error {
    Error::Generic { store: "Faults", source: what.into() }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "injected".into() }
}

#[async_trait]
impl ObjectStore for Faults {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        if self.ignores_conditions.load(Ordering::Relaxed) {
            options.mode = PutMode::Overwrite;
        }
        self.writes.lock().unwrap().push(format!("put {path}"));
        if self.counted()? {
            self.inner.put_opts(path, payload, options).await?;
            return Err(broken("the answer was lost"));
        }
        let fault = match is_entry(path) && options.mode != PutMode::Overwrite {
            true => self.next.lock().unwrap().pop_front(),
            false => None,
        };
        match fault {
            Some(Fault::AppliedThenError) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(broken("the answer was lost"))
            }
            Some(Fault::AppliedThenExists) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(exists(path))
            }
            Some(Fault::RefusedAsExisting) => Err(exists(path)),
            Some(Fault::Lost) => Err(broken("the request was lost")),
            Some(Fault::Late) => {
                self.late.lock().unwrap().push((path.clone(), payload, options));
                Err(broken("no answer in time"))
            }
            Some(Fault::Silent) => {
                let _told_when_dropped = TellOnDrop(self.given_up.clone());
                std::future::pending().await
            }
            Some(Fault::After(others)) => {
                others();
                self.inner.put_opts(path, payload, options).await
            }
            None => self.inner.put_opts(path, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.writes.lock().unwrap().push(format!("multipart {path}"));
        if self.counted()? {
            drop(self.inner.put_multipart_opts(path, options).await?);
            return Err(broken("the answer was lost"));
        }
        let inner = self.inner.put_multipart_opts(path, options).await?;
        let (failing, writes) = (self.failing_parts.clone(), self.writes.clone());
        Ok(Box::new(FaultyUpload { inner, failing, writes }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.fault_of_read(path)?;
        if self.counted()? {
            return Err(broken("the answer was lost"));
        }
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.counted() {
            Ok(false) => self.inner.delete_stream(paths),
            Ok(true) => {
                let lost = |_| Err(broken("the answer was lost"));
                self.inner.delete_stream(paths).map(lost).boxed()
            }
            Err(error) => futures::stream::once(std::future::ready(Err(error))).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.counted() {
            Ok(false) => self.lagging(prefix, self.inner.list(prefix)),
            _ => futures::stream::once(std::future::ready(Err(broken("no listing")))).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.counted() {
            Ok(false) => self.lagging(prefix, self.inner.list_with_offset(prefix, offset)),
            _ => futures::stream::once(std::future::ready(Err(broken("no listing")))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if self.counted()? {
            self.inner.copy_opts(from, to, options).await?;
            return Err(broken("the answer was lost"));
        }
        let fault = self.renames.lock().unwrap().pop_front();
        if let Some(RenameFault::Lost) = fault {
            return Err(broken("the copy was lost"));
        }
        self.inner.copy_opts(from, to, options).await?;
        fault.map_or(Ok(()), |_| Err(broken("the answer was lost")))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        if self.counted()? {
            self.inner.rename_opts(from, to, options).await?;
            return Err(broken("the answer was lost"));
        }
        let fault = self.renames.lock().unwrap().pop_front();
        match fault {
            Some(RenameFault::Lost) => return Err(broken("the rename was lost")),
            Some(RenameFault::Half) => {
                self.inner.copy_opts(from, to, CopyOptions::new()).await?;
                return Err(broken("the rename was cut"));
            }
            Some(RenameFault::AppliedThenError) | None => {}
        }
        self.inner.rename_opts(from, to, options).await?;
        fault.map_or(Ok(()), |_| Err(broken("the answer was lost")))
    }
}

struct TellOnDrop(Arc<Notify>);

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// An upload whose parts may fail.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    failing: Arc<Mutex<usize>>,
    writes: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut failing = self.failing.lock().unwrap();
        if *failing == 0 {
            return self.inner.put_part(data);
        }
        *failing -= 1;
        Box::pin(std::future::ready(Err(broken("a part was lost"))))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.writes.lock().unwrap().push("abort".to_owned());
        self.inner.abort().await
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({})", self.inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
