//! Objects that come in parts.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use object_store::{Error, MultipartUpload, PutMode, PutPayload, PutResult, Result, UploadPart};

use super::{Temporary, blocking, failed};

/// One object on its way, each part at its place in a temporary file.
#[derive(Debug)]
pub(super) struct Upload {
    target: PathBuf,
    /// Gone when the upload is completed or given up.
    temporary: Option<Arc<Temporary>>,
    /// Where the next part goes.
    end: u64,
    written: Arc<AtomicU64>,
}

impl Upload {
    pub(super) fn begin(target: PathBuf) -> Result<Self> {
        let temporary = Some(Arc::new(Temporary::beside(&target)?));
        Ok(Self { target, temporary, end: 0, written: Arc::default() })
    }

    fn incomplete(&self, why: &str) -> Error {
        let source = format!("cannot complete `{}`: {why}", self.target.display());
        Error::Generic { store: "LocalDisk", source: source.into() }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let Some(temporary) = self.temporary.clone() else {
            return std::future::ready(Err(self.incomplete("it has ended"))).boxed();
        };
        let (mut at, written) = (self.end, self.written.clone());
        self.end += data.content_length() as u64;
        let write = move || {
            for bytes in &data {
                let done = temporary.file.write_all_at(bytes, at);
                done.map_err(|e| failed("write", &temporary.path, e))?;
                at += bytes.len() as u64;
            }
            written.fetch_add(data.content_length() as u64, Ordering::AcqRel);
            Ok(())
        };
        blocking(write).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let temporary = self.temporary.take().ok_or_else(|| self.incomplete("it has ended"))?;
        if self.written.load(Ordering::Acquire) != self.end {
            return Err(self.incomplete("not all parts were written"));
        }
        let temporary = Arc::into_inner(temporary);
        let temporary = temporary.ok_or_else(|| self.incomplete("a part is being written"))?;
        let target = self.target.clone();
        blocking(move || temporary.place(&target, &PutMode::Overwrite)).await
    }

    async fn abort(&mut self) -> Result<()> {
        let temporary = self.temporary.take().ok_or_else(|| self.incomplete("it has ended"))?;
        blocking(move || {
            drop(temporary);
            Ok(())
        })
        .await
    }
}
