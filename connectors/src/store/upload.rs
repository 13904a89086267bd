//! Puts files into a store.

use bytes::Bytes;
use connector_api::Result;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};

use super::{Store, store_error};

/// Files above this size go up in parts of it.
const PART_BYTES: usize = 16 * 1024 * 1024;
/// Parts of one file that are under way at once.
const PARTS_IN_FLIGHT: usize = 2;

/// Puts an object, in equal parts if it is large. A failed multipart upload is given up and cleaned.
pub(crate) async fn put(store: &Store, path: &Path, content: Bytes) -> Result<()> {
    let failed = |e| store_error(format!("failed to put `{path}`"), e);
    if content.len() <= PART_BYTES {
        store.objects.put(path, PutPayload::from(content)).await.map_err(failed)?;
        return Ok(());
    }
    let mut upload = store.objects.put_multipart(path).await.map_err(failed)?;
    if let Err(error) = put_parts(upload.as_mut(), &content).await {
        if let Err(left) = upload.abort().await {
            tracing::warn!(%path, error = %left, "parts of a failed upload were left in the store");
        }
        return Err(failed(error));
    }
    Ok(())
}

async fn put_parts(upload: &mut dyn MultipartUpload, content: &Bytes) -> object_store::Result<()> {
    let starts = (0..content.len()).step_by(PART_BYTES);
    let part = |start: usize| content.slice(start..content.len().min(start + PART_BYTES));
    // The order of the calls is the order of the parts; their requests run when they are polled.
    let parts: Vec<_> = starts.map(|start| upload.put_part(part(start).into())).collect();
    let mut put = stream::iter(parts).buffer_unordered(PARTS_IN_FLIGHT);
    put.try_next().await?;
    fail::fail_point!("w2_file_half_written", |_| std::process::abort());
    put.try_collect::<()>().await?;
    upload.complete().await?;
    Ok(())
}
