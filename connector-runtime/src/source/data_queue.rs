//! The records of all topic partitions, taken many at a time.
//!
//! librdkafka hands over a record by `poll` at twice the price of its callback on a queue, which
//! rust-rdkafka has no call for: see docs/decisions/011. On the consumer's own queue that would
//! answer rebalances behind our back, so the topic partitions' queues are forwarded to one that holds records only.
#![allow(unsafe_code, reason = "docs/decisions/011-records-by-callback.md")]

use std::any::Any;
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use connector_api::record::Header;
use connector_api::{Error, Result};
use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::headers::headers;

/// A queue that takes the records of topic partitions.
///
/// It must be gone before its client is closed, which waits for the records that lie in it.
#[derive(Debug)]
pub struct DataQueue {
    queue: *mut ffi::rd_kafka_queue_t,
    client: *mut ffi::rd_kafka_t,
}

// SAFETY: librdkafka's queues and clients may be used from any thread.
unsafe impl Send for DataQueue {}
// SAFETY: the same, and from several at once.
unsafe impl Sync for DataQueue {}

/// One record, or an error in its place, for as long as it is looked at.
#[derive(Debug)]
pub struct Taken<'a> {
    message: *mut ffi::rd_kafka_message_t,
    lives: PhantomData<&'a ()>,
}

impl DataQueue {
    /// An empty queue, to which nothing is forwarded yet.
    pub fn new<C: ClientContext>(client: &Client<C>) -> Self {
        let client = client.native_ptr();
        // SAFETY: the client is live; it outlives the queue by our caller's order.
        Self { queue: unsafe { ffi::rd_kafka_queue_new(client) }, client }
    }

    /// Takes the records of a topic partition from now on. Must be done before it is assigned, or
    /// its first records go to the consumer's own queue.
    pub fn forward(&self, topic: &str, partition: i32) -> Result<()> {
        let name = CString::new(topic)
            .map_err(|e| Error::internal(format!("`{topic}` is no topic name")).with_source(e))?;
        // SAFETY: client and queue are live, the name is copied, and the topic partition's queue is given back once.
        unsafe {
            let records = ffi::rd_kafka_queue_get_partition(self.client, name.as_ptr(), partition);
            if records.is_null() {
                return Err(Error::internal(format!("{topic}-{partition} has no queue")));
            }
            ffi::rd_kafka_queue_forward(records, self.queue);
            ffi::rd_kafka_queue_destroy(records);
        }
        Ok(())
    }

    /// Shows what has come to `each`, in order and at most what is there now, until that breaks off; the
    /// rest stays in the queue. Waits for the first record if there is none. Returns how many were shown.
    ///
    /// What was sought away from, or is not ours any more, is never shown: librdkafka drops it here.
    pub fn take<F>(&self, timeout: Duration, each: F) -> usize
    where
        F: FnMut(&Taken<'_>) -> ControlFlow<()>,
    {
        let mut show = Show { each, client: self.client, panic: None };
        let timeout_ms = timeout.as_millis().min(i32::MAX as u128) as i32;
        // SAFETY: the queue is live. `show` is lent to the callback, which runs on this thread within the call only.
        let shown = unsafe {
            let state = (&raw mut show).cast::<c_void>();
            ffi::rd_kafka_consume_callback_queue(self.queue, timeout_ms, Some(shown::<F>), state)
        };
        if let Some(panic) = show.panic {
            resume_unwind(panic);
        }
        usize::try_from(shown).unwrap_or(0)
    }
}

impl Drop for DataQueue {
    fn drop(&mut self) {
        // SAFETY: it is ours, and given back once. Records that lie in it, or still come, are dropped.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue) }
    }
}

/// What the callback works on.
struct Show<F> {
    each: F,
    client: *mut ffi::rd_kafka_t,
    panic: Option<Box<dyn Any + Send>>,
}

/// Shows one record. A panic must not run through librdkafka: it waits until that has returned.
///
/// # Safety
///
/// `message` is live for the call, and `state` is the [`Show`] of the [`DataQueue::take`] that is running.
unsafe extern "C" fn shown<F>(message: *mut ffi::rd_kafka_message_t, state: *mut c_void)
where
    F: FnMut(&Taken<'_>) -> ControlFlow<()>,
{
    // SAFETY: by our caller's promise; nobody else holds it meanwhile.
    let show = unsafe { &mut *state.cast::<Show<F>>() };
    let taken = Taken { message, lives: PhantomData };
    let went = catch_unwind(AssertUnwindSafe(|| (show.each)(&taken)));
    let goes_on = matches!(went, Ok(ControlFlow::Continue(())));
    show.panic = went.err();
    if !goes_on {
        // SAFETY: within a callback, as it must be. The rest stays in the queue.
        unsafe { ffi::rd_kafka_yield(show.client) }
    }
}

impl Taken<'_> {
    fn message(&self) -> &ffi::rd_kafka_message_t {
        // SAFETY: live for as long as we are.
        unsafe { &*self.message }
    }

    /// What is wrong, if this is no record.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        let code = self.message().err;
        (code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
    }

    /// True if it is of this topic partition.
    #[inline]
    pub fn is_of(&self, topic: &str, partition: i32) -> bool {
        let message = self.message();
        if message.partition != partition || message.rkt.is_null() {
            return false;
        }
        // SAFETY: a live topic has a name that ends in NUL and lives as long.
        let name = unsafe { CStr::from_ptr(ffi::rd_kafka_topic_name(message.rkt)) };
        name.to_bytes() == topic.as_bytes()
    }

    /// The number of its partition.
    #[inline]
    pub fn partition(&self) -> i32 {
        self.message().partition
    }

    /// Its offset.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.message().offset
    }

    /// Milliseconds since 1970 UTC, or -1 where the producer set none.
    #[inline]
    pub fn timestamp_ms(&self) -> i64 {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live.
        unsafe { ffi::rd_kafka_message_timestamp(self.message, &mut kind) }
    }

    /// Its value; `None` is a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        let message = self.message();
        // SAFETY: a record's value lives as long as the record.
        unsafe { bytes(message.payload, message.len) }
    }

    /// Its key, if it has one.
    pub fn key(&self) -> Option<&[u8]> {
        let message = self.message();
        // SAFETY: a record's key lives as long as the record.
        unsafe { bytes(message.key, message.key_len) }
    }

    /// Its headers, copied.
    pub fn headers(&self) -> Vec<Header> {
        // SAFETY: the message is live.
        unsafe { headers(self.message) }
    }
}

/// # Safety
///
/// `start` is null or begins `length` bytes that live for `'a`.
#[inline]
unsafe fn bytes<'a>(start: *mut c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: not null, and as long as our caller says.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), length) })
}
