//! The headers of a message, whatever their names are.
//!
//! rust-rdkafka panics at a name that is not UTF-8, and any producer may send one. So they are read
//! by librdkafka's own calls, see docs/decisions/003-unsafe-for-topic-ids.md.
#![allow(unsafe_code, reason = "docs/decisions/003-unsafe-for-topic-ids.md")]

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use bytes::Bytes;
use connector_api::record::Header;
use rdkafka::bindings as ffi;
use rdkafka::message::BorrowedMessage;

/// Copies a message's headers, in their order. What is not UTF-8 in a name becomes U+FFFD.
pub(super) fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    use ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR as OK;
    let mut found = Vec::new();
    let mut headers: *mut ffi::rd_kafka_headers_t = ptr::null_mut();
    // SAFETY: the message is live, and with it its headers and all that they point to, until it is
    // dropped; names end in NUL, values have the size that is given, and both are copied.
    unsafe {
        if ffi::rd_kafka_message_headers(message.ptr(), &mut headers) != OK {
            return found;
        }
        loop {
            let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
                (ptr::null(), ptr::null(), 0);
            let got = ffi::rd_kafka_header_get_all(
                headers,
                found.len(),
                &mut name,
                &mut value,
                &mut size,
            );
            if got != OK || name.is_null() {
                return found;
            }
            let value = (!value.is_null())
                .then(|| Bytes::copy_from_slice(std::slice::from_raw_parts(value.cast(), size)));
            let key = CStr::from_ptr(name).to_string_lossy().into_owned();
            found.push(Header { key, value });
        }
    }
}
