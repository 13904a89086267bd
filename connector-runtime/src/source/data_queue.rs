//! The records of all topic partitions, taken many at a time.
//!
//! librdkafka hands over a record by `poll` at twice the price of a batch from a queue, which rust-rdkafka
//! has no call for: see docs/decisions/011. On the consumer's own queue that would answer rebalances behind
//! our back, so the topic partitions' queues are forwarded to one that holds records only.
#![allow(unsafe_code, reason = "docs/decisions/011-records-in-batches.md")]

use std::ffi::{CStr, CString, c_void};
use std::time::Duration;

use connector_api::record::Header;
use connector_api::{Error, Result};
use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::headers::headers;

/// Records that are taken at once, at most.
const BATCH: usize = 4096;

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

/// Records that were taken, or errors in their place. They are given back when this goes, or takes others.
#[derive(Debug, Default)]
pub struct Batch {
    messages: Vec<*mut ffi::rd_kafka_message_t>,
}

/// One record, or an error in its place.
#[derive(Debug)]
pub struct Taken<'a>(&'a ffi::rd_kafka_message_t);

impl DataQueue {
    /// An empty queue, to which nothing is forwarded yet. The client must outlive it: who makes one sees to
    /// that, as `Poller` does by the order of its fields.
    pub fn new<C: ClientContext>(client: &Client<C>) -> Self {
        let client = client.native_ptr();
        // SAFETY: the client is live.
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

    /// Takes what is there, in order; waits for one record if there is none.
    ///
    /// What was sought away from, or is not ours any more, is never among it: librdkafka drops it here.
    pub fn take(&self, timeout: Duration, into: &mut Batch) {
        into.clear();
        self.fill(Duration::ZERO, BATCH, into);
        if into.messages.is_empty() {
            // It would wait for as many as it may take.
            self.fill(timeout, 1, into);
        }
    }

    fn fill(&self, timeout: Duration, most: usize, into: &mut Batch) {
        into.messages.reserve(most);
        let timeout_ms = timeout.as_millis().min(i32::MAX as u128) as i32;
        // SAFETY: the queue is live, and there is room for as many messages; those that are written are ours.
        unsafe {
            let room = into.messages.as_mut_ptr();
            let taken = ffi::rd_kafka_consume_batch_queue(self.queue, timeout_ms, room, most);
            into.messages.set_len(usize::try_from(taken).unwrap_or(0));
        }
    }
}

impl Drop for DataQueue {
    fn drop(&mut self) {
        // SAFETY: it is ours, and given back once. Records that lie in it, or still come, are dropped.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue) }
    }
}

impl Batch {
    /// What was taken, in order.
    pub fn iter(&self) -> impl Iterator<Item = Taken<'_>> {
        // SAFETY: each is live until it is given back, for which this must be borrowed anew.
        self.messages.iter().map(|message| Taken(unsafe { &**message }))
    }

    /// True if nothing was taken.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Gives back what was taken.
    pub fn clear(&mut self) {
        // SAFETY: each is ours, and given back once.
        self.messages
            .drain(..)
            .for_each(|message| unsafe { ffi::rd_kafka_message_destroy(message) });
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Taken<'_> {
    /// What is wrong, if this is no record.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        let code = self.0.err;
        (code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
    }

    /// True if it is of this topic partition.
    #[inline]
    pub fn is_of(&self, topic: &str, partition: i32) -> bool {
        if self.0.partition != partition || self.0.rkt.is_null() {
            return false;
        }
        // SAFETY: a live topic has a name that ends in NUL and lives as long.
        let name = unsafe { CStr::from_ptr(ffi::rd_kafka_topic_name(self.0.rkt)) };
        name.to_bytes() == topic.as_bytes()
    }

    /// True if it is of a topic partition at all, as all records are.
    pub fn is_of_some(&self) -> bool {
        !self.0.rkt.is_null()
    }

    /// The number of its partition.
    #[inline]
    pub fn partition(&self) -> i32 {
        self.0.partition
    }

    /// Its offset.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Milliseconds since 1970 UTC, or -1 where the producer set none.
    #[inline]
    pub fn timestamp_ms(&self) -> i64 {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live.
        unsafe { ffi::rd_kafka_message_timestamp(self.0, &mut kind) }
    }

    /// Its value; `None` is a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        // SAFETY: a record's value lives as long as the record.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Its key, if it has one.
    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: a record's key lives as long as the record.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// Its headers, copied.
    pub fn headers(&self) -> Vec<Header> {
        // SAFETY: the message is live.
        unsafe { headers(self.0) }
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
