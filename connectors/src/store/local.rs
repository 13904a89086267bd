//! Local disk as an object store that keeps what it has answered for, and can compare and swap.
//!
//! An object is written to a temporary file in its folder, made durable, and put in its place in one
//! step: by a hard link, which fails if the name is taken, or by a rename. Then its folder is made
//! durable too. Reads and listings are object_store's.
//!
//! Concurrency: what replaces an object holds the lock of its folder, an advisory one on the file
//! [`LOCK`], so that nothing comes between the comparison and the rename of an update. The lock holds
//! between processes, and goes with its process. Deletions do not take it: an object that is
//! compared must not be deleted meanwhile. A request that is given up goes on by itself.
//!
//! Crash consistency: a crash leaves the old object or the new one, and perhaps a temporary file. Its
//! name begins with a dot and ends in `#0`: neither our listings nor other readers take it up.
//!
//! Errors: those of the file system, with their [`io::ErrorKind`] and the path.

#[cfg(test)]
mod tests;
mod upload;

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, RenameTargetMode, Result, UpdateVersion,
};
use uuid::Uuid;

use upload::Upload;

/// The file of a folder whose lock whoever replaces an object there holds.
const LOCK: &str = ".lock#0";
/// The unit of time in which tags tell versions of an object apart.
const TICK: Duration = Duration::from_micros(1);

/// The local disk, from its root.
#[derive(Debug, Default)]
pub(super) struct LocalDisk {
    files: LocalFileSystem,
}

impl LocalDisk {
    fn refuse(&self, attributes: &Attributes) -> Result<()> {
        match attributes.is_empty() {
            true => Ok(()),
            false => Err(Error::NotImplemented {
                operation: "attributes of a file".into(),
                implementer: self.to_string(),
            }),
        }
    }
}

impl fmt::Display for LocalDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalDisk")
    }
}

#[async_trait]
impl ObjectStore for LocalDisk {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.refuse(&options.attributes)?;
        let target = self.files.path_to_filesystem(path)?;
        blocking(move || {
            let mut temporary = Temporary::beside(&target)?;
            temporary.write(&payload)?;
            temporary.place(&target, &options.mode)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.refuse(&options.attributes)?;
        let target = self.files.path_to_filesystem(path)?;
        blocking(move || Ok(Box::new(Upload::begin(target)?) as Box<dyn MultipartUpload>)).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    /// Copies the content: a link would give both objects one tag.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let from = self.files.path_to_filesystem(from)?;
        let to = self.files.path_to_filesystem(to)?;
        let mode = match options.mode {
            CopyMode::Create => PutMode::Create,
            CopyMode::Overwrite => PutMode::Overwrite,
        };
        blocking(move || copy(&from, &to, &mode)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let from = self.files.path_to_filesystem(from)?;
        let to = self.files.path_to_filesystem(to)?;
        blocking(move || rename(&from, &to, options.target_mode)).await
    }
}

fn copy(from: &FilePath, to: &FilePath, mode: &PutMode) -> Result<()> {
    let mut source = File::open(from).map_err(|e| failed("open", from, e))?;
    let mut temporary = Temporary::beside(to)?;
    io::copy(&mut source, &mut temporary.file).map_err(|e| failed("write", &temporary.path, e))?;
    temporary.place(to, mode).map(drop)
}

fn rename(from: &FilePath, to: &FilePath, mode: RenameTargetMode) -> Result<()> {
    let source = File::open(from).map_err(|e| failed("open", from, e))?;
    source.sync_all().map_err(|e| failed("sync", from, e))?;
    create_folder(folder_of(to))?;
    match mode {
        RenameTargetMode::Create => link(from, to)?,
        // Most names are new: only the others need the lock.
        RenameTargetMode::Overwrite => match link(from, to) {
            Err(Error::AlreadyExists { .. }) => {
                let _lock = Lock::of(folder_of(to))?;
                fs::rename(from, to).map_err(|e| failed("rename", from, e))?;
            }
            linked => linked?,
        },
    }
    // It is still there after a link, and after a rename of one link to another of the same file.
    match fs::remove_file(from) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed("remove", from, e)),
        _ => {}
    }
    sync_folder(folder_of(to))?;
    sync_folder(folder_of(from))
}

/// An object on its way to its place. Its file goes when this does.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// A new file in the folder of `target`, which is made if it is not there.
    fn beside(target: &FilePath) -> Result<Self> {
        let folder = folder_of(target);
        // Listings skip names that end so.
        let path = folder.join(format!(".{}#0", Uuid::new_v4().simple()));
        loop {
            match File::create_new(&path) {
                Ok(file) => return Ok(Self { path, file }),
                Err(e) if e.kind() == ErrorKind::NotFound => create_folder(folder)?,
                Err(e) => return Err(failed("create", &path, e)),
            }
        }
    }

    fn write(&mut self, payload: &PutPayload) -> Result<()> {
        let written = payload.iter().try_for_each(|part| self.file.write_all(part));
        written.map_err(|e| failed("write", &self.path, e))
    }

    /// Puts the file in its place, durably.
    ///
    /// An error after that, from the folder, says that it may be gone again after a crash: as with
    /// a lost answer, only a look tells what has become of it.
    fn place(self, target: &FilePath, mode: &PutMode) -> Result<PutResult> {
        self.sync()?;
        match mode {
            PutMode::Create => link(&self.path, target)?,
            // Most names are new: only the others need the lock.
            PutMode::Overwrite => match link(&self.path, target) {
                Err(Error::AlreadyExists { .. }) => {
                    let _lock = Lock::of(folder_of(target))?;
                    self.replace(target)?;
                }
                linked => linked?,
            },
            PutMode::Update(version) => {
                let _lock = Lock::of(folder_of(target))?;
                compare(target, version)?;
                self.replace(target)?;
            }
        }
        let e_tag = self.metadata().map(|metadata| e_tag(&metadata))?;
        drop(self);
        sync_folder(folder_of(target))?;
        Ok(PutResult { e_tag: Some(e_tag), version: None })
    }

    /// Takes the place of an object. Needs the lock.
    fn replace(&self, target: &FilePath) -> Result<()> {
        if let Some(present) = present(target)? {
            self.become_newer(&present)?;
        }
        fs::rename(&self.path, target).map_err(|e| failed("rename", &self.path, e))
    }

    /// Takes a later time than the object that is to be replaced has. Otherwise two versions within one turn of
    /// the system's clock could have one tag: the file after the next one may get this one's inode again.
    fn become_newer(&self, present: &Metadata) -> Result<()> {
        let cannot = |e| failed("set the time of", &self.path, e);
        let earliest = present.modified().map_err(cannot)? + TICK;
        if self.metadata()?.modified().map_err(cannot)? >= earliest {
            return Ok(());
        }
        // Some file systems keep time in steps of up to two seconds.
        for step in [TICK, Duration::from_secs(1), Duration::from_secs(2)] {
            let later = present.modified().map_err(cannot)? + step;
            self.file.set_modified(later).map_err(cannot)?;
            if self.metadata()?.modified().map_err(cannot)? >= earliest {
                return self.sync();
            }
        }
        Err(cannot(io::Error::other("the file system does not keep it")))
    }

    fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().map_err(|e| failed("look at", &self.path, e))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| failed("sync", &self.path, e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            // It was renamed.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "temporary file left behind");
            }
        }
    }
}

/// The lock of a folder, until it is dropped.
struct Lock(#[expect(dead_code, reason = "it unlocks when it is closed")] File);

impl Lock {
    fn of(folder: &FilePath) -> Result<Self> {
        let path = folder.join(LOCK);
        let cannot = |e| failed("lock", &path, e);
        loop {
            let file = File::options().create(true).append(true).open(&path).map_err(cannot)?;
            file.lock().map_err(cannot)?;
            // Somebody may have removed the file that we waited for.
            let locked = file.metadata().map_err(cannot)?;
            let is_locked =
                |present: Metadata| (present.dev(), present.ino()) == (locked.dev(), locked.ino());
            if present(&path)?.is_some_and(is_locked) {
                return Ok(Self(file));
            }
        }
    }
}

fn compare(target: &FilePath, expected: &UpdateVersion) -> Result<()> {
    // Opened, so that a network file system asks its server and not its cache.
    let found = match File::open(target).and_then(|file| file.metadata()) {
        Ok(metadata) => Some(e_tag(&metadata)),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(failed("look at", target, e)),
    };
    if found.is_some() && found == expected.e_tag {
        return Ok(());
    }
    let told = |tag: &Option<String>| tag.clone().unwrap_or_else(|| "none".to_owned());
    let source = format!("expected tag `{}`, found `{}`", told(&expected.e_tag), told(&found));
    Err(Error::Precondition { path: target.display().to_string(), source: source.into() })
}

fn present(path: &FilePath) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("look at", path, e)),
    }
}

/// The tag of an object as `LocalFileSystem` tells it.
fn e_tag(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let (inode, size) = (metadata.ino(), metadata.len());
    format!("{inode:x}-{:x}-{size:x}", modified.unwrap_or_default().as_micros())
}

fn link(from: &FilePath, to: &FilePath) -> Result<()> {
    fs::hard_link(from, to).map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => {
            Error::AlreadyExists { path: to.display().to_string(), source: e.into() }
        }
        _ => failed("link", to, e),
    })
}

/// Makes a folder and those above it durably. One that is there already is as good.
pub(crate) fn create_folder(folder: &FilePath) -> Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(folder_of(folder)),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound && folder.parent().is_some() => {
            create_folder(folder_of(folder))?;
            create_folder(folder)
        }
        Err(e) => Err(failed("create folder", folder, e)),
    }
}

fn sync_folder(folder: &FilePath) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    match synced {
        // Some network file systems have nothing to sync in a folder.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced.map_err(|e| failed("sync", folder, e)),
    }
}

/// Objects are never the root itself, which alone has no folder.
fn folder_of(path: &FilePath) -> &FilePath {
    path.parent().unwrap_or(path)
}

/// Runs work that waits for the disk on a thread that may wait. It is not stopped when nobody waits any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn failed(doing: &str, path: &FilePath, error: io::Error) -> Error {
    let source =
        io::Error::new(error.kind(), format!("cannot {doing} `{}`: {error}", path.display()));
    match error.kind() {
        ErrorKind::NotFound => {
            Error::NotFound { path: path.display().to_string(), source: source.into() }
        }
        _ => Error::Generic { store: "LocalDisk", source: source.into() },
    }
}
