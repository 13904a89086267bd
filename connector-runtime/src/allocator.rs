//! How the C library's allocator is to behave (docs/decisions/012).
//!
//! By default it keeps a heap for each few threads, and gives large buffers from those once some have been
//! freed. A record's buffers are made by one thread and freed by another, so these heaps grow far beyond
//! what is in use.
#![allow(unsafe_code, reason = "docs/decisions/012-one-budget-of-memory.md")]

/// Heaps for all threads together.
const ARENAS: i32 = 2;
/// Buffers from this size on, which is beyond that of a batch, are the system's own pages, and go back to it.
const PAGES_FROM: i32 = 3 * 512 * 1024;
/// Free memory at the end of a heap that goes back to the system.
const TRIM_FROM: i32 = 8 * 1024 * 1024;

/// Bounds what is kept of freed memory. Who sets glibc's `MALLOC_…` variables decides for themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn bound() {
    let said = |key: &std::ffi::OsString| key.to_string_lossy().starts_with("MALLOC_");
    if std::env::vars_os().any(|(key, _)| said(&key)) {
        return;
    }
    let settings = [
        (libc::M_ARENA_MAX, ARENAS),
        (libc::M_MMAP_THRESHOLD, PAGES_FROM),
        (libc::M_TRIM_THRESHOLD, TRIM_FROM),
    ];
    for (setting, value) in settings {
        // SAFETY: it sets a number in the allocator, before other threads are started. 0 is a refusal,
        // after which all is as before.
        if unsafe { libc::mallopt(setting, value) } == 0 {
            eprintln!(
                "warning: the allocator takes no bounds, so more memory may be kept than is used"
            );
        }
    }
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn bound() {}
