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
use rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR as OK;

/// Copies a message's headers, in their order. What is not UTF-8 in a name becomes U+FFFD.
///
/// # Safety
///
/// The message must be live.
pub(super) unsafe fn headers(message: *const ffi::rd_kafka_message_t) -> Vec<Header> {
    let mut headers: *mut ffi::rd_kafka_headers_t = ptr::null_mut();
    // SAFETY: the message is live by our caller's promise, and with it its headers.
    unsafe {
        match ffi::rd_kafka_message_headers(message, &mut headers) {
            OK => copied(headers),
            _ => Vec::new(),
        }
    }
}

/// # Safety
///
/// The headers must be live.
unsafe fn copied(headers: *const ffi::rd_kafka_headers_t) -> Vec<Header> {
    let mut found = Vec::new();
    loop {
        let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
            (ptr::null(), ptr::null(), 0);
        // SAFETY: all that is pointed to lives as long as the headers; names end in NUL, values
        // have the size that is given, and both are copied.
        unsafe {
            let (name_of, value_of, size_of) = (&mut name, &mut value, &mut size);
            let got =
                ffi::rd_kafka_header_get_all(headers, found.len(), name_of, value_of, size_of);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_utf_8_is_a_name_like_others() {
        let sent: [(&[u8], Option<&[u8]>); 5] = [
            (b"trace", Some(b"1")),
            (b"\xff\x00 behind its end", Some(b"2")),
            (b"a\xc3(b", None),
            (b"", Some(b"")),
            (b"trace", Some(b"\0\xff")),
        ];
        // SAFETY: what is added is copied, and the headers are destroyed once.
        let found = unsafe {
            let headers = ffi::rd_kafka_headers_new(sent.len());
            for (name, value) in sent {
                let (pointer, size) =
                    value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len() as isize));
                let added = ffi::rd_kafka_header_add(
                    headers,
                    name.as_ptr().cast(),
                    name.len() as isize,
                    pointer.cast(),
                    size,
                );
                assert_eq!(added, OK);
            }
            let found = copied(headers);
            ffi::rd_kafka_headers_destroy(headers);
            found
        };
        let found: Vec<(&str, Option<&[u8]>)> =
            found.iter().map(|header| (header.key.as_str(), header.value.as_deref())).collect();
        let expected: [(&str, Option<&[u8]>); 5] = [
            ("trace", Some(b"1")),
            ("\u{fffd}", Some(b"2")),
            ("a\u{fffd}(b", None),
            ("", Some(b"")),
            ("trace", Some(b"\0\xff")),
        ];
        assert_eq!(found, expected);
    }
}
