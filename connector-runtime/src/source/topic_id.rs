//! Topic ids, which rust-rdkafka has no call for.
//!
//! The one place with `unsafe`: librdkafka's DescribeTopics (KIP-848's `Metadata` with topic ids),
//! see docs/decisions/003-unsafe-for-topic-ids.md. Every pointer that librdkafka hands out here is
//! either owned by a guard of this file or borrowed from one that outlives it.
#![allow(unsafe_code, reason = "docs/decisions/003-unsafe-for-topic-ids.md")]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use connector_api::ids::TopicId;
use connector_api::{Error, Result};
use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};

/// What all brokers without topic ids say, if they say anything.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Asks the brokers for a topic's id. See [`ask`].
pub(super) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<TopicId> {
    // SAFETY: the client owns the handle and outlives the call.
    unsafe { ask(client.native_ptr(), topic, timeout) }
}

/// Asks the brokers for a topic's id, through the client behind `client`.
///
/// A broker that does not know the request, or answers zeros, gives no ids. Any other failure is
/// an error: an identity must not depend on whether a request came through.
///
/// # Safety
///
/// `client` must be a live librdkafka handle for the time of the call.
unsafe fn ask(client: *mut ffi::rd_kafka_t, topic: &str, timeout: Duration) -> Result<TopicId> {
    let name = CString::new(topic)
        .map_err(|e| Error::user(format!("`{topic}` is no topic name")).with_source(e))?;
    // SAFETY: `client` is live (our caller's promise); all other arguments are owned below.
    unsafe {
        let queue = Queue(ffi::rd_kafka_queue_new(client));
        let options = Options(ffi::rd_kafka_AdminOptions_new(
            client,
            ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        ));
        let timeout_ms = timeout.as_millis().min(i32::MAX as u128) as i32;
        let set = ffi::rd_kafka_AdminOptions_set_request_timeout(
            options.0,
            timeout_ms,
            ptr::null_mut(),
            0,
        );
        if set != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(Error::internal("librdkafka refuses a request time-out"));
        }
        let mut names: [*const c_char; 1] = [name.as_ptr()];
        let topics = Topics(ffi::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1));
        ffi::rd_kafka_DescribeTopics(client, topics.0, options.0, queue.0);
        let event = Event(ffi::rd_kafka_queue_poll(queue.0, timeout_ms));
        read(&event, topic)
    }
}

/// Reads the answer.
///
/// # Safety
///
/// `event` holds null or a live event, as `rd_kafka_queue_poll` returned it.
unsafe fn read(event: &Event, topic: &str) -> Result<TopicId> {
    use ffi::rd_kafka_resp_err_t as Code;
    let failed =
        |why: String| Error::external(format!("the id of topic `{topic}` cannot be read: {why}"));
    if event.0.is_null() {
        return Err(failed("the brokers did not answer in time".into()));
    }
    // SAFETY: the event is live; what is read from it is borrowed and copied before it is dropped.
    unsafe {
        match ffi::rd_kafka_event_error(event.0) {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            Code::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE
            | Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION => return Ok(TopicId::Unavailable),
            _ => return Err(failed(text(ffi::rd_kafka_event_error_string(event.0)))),
        }
        let result = ffi::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(failed("the answer is of another kind".into()));
        }
        let mut count = 0;
        let found = ffi::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if found.is_null() || count == 0 {
            return Err(failed("the answer names no topic".into()));
        }
        let description = *found;
        let error = ffi::rd_kafka_TopicDescription_error(description);
        if !error.is_null() && ffi::rd_kafka_error_code(error) != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(text(ffi::rd_kafka_error_string(error))));
        }
        let id = ffi::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return Ok(TopicId::Unavailable);
        }
        match text(ffi::rd_kafka_Uuid_base64str(id)).as_str() {
            "" | NO_ID => Ok(TopicId::Unavailable),
            known => Ok(TopicId::Known(known.into())),
        }
    }
}

/// Copies a C string; null is empty.
///
/// # Safety
///
/// `text` is null or a NUL-terminated string that lives for the time of the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and NUL-terminated by our caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Owns what librdkafka allocated, and gives it back.
macro_rules! owned {
    ($name:ident, $raw:ty, $destroy:path) => {
        struct $name(*mut $raw);

        impl Drop for $name {
            fn drop(&mut self) {
                if !self.0.is_null() {
                    // SAFETY: allocated by librdkafka for us, given back once.
                    unsafe { $destroy(self.0) }
                }
            }
        }
    };
}

owned!(Queue, ffi::rd_kafka_queue_t, ffi::rd_kafka_queue_destroy);
owned!(Options, ffi::rd_kafka_AdminOptions_t, ffi::rd_kafka_AdminOptions_destroy);
owned!(Topics, ffi::rd_kafka_TopicCollection_t, ffi::rd_kafka_TopicCollection_destroy);
owned!(Event, ffi::rd_kafka_event_t, ffi::rd_kafka_event_destroy);
