//! How the C library's allocator is to behave (docs/decisions/012).
//!
//! By default it keeps a heap for each few threads, and gives large buffers from those once some have been
//! freed. A record's buffers are made by one thread and freed by another, so these heaps grow far beyond
//! what is in use.
#![allow(unsafe_code, reason = "docs/decisions/012-one-budget-of-memory.md")]

const MIB: i32 = 1 << 20;

/// Heaps for all threads together.
const ARENAS: i32 = 2;
/// Buffers from this size on are the system's own pages, and go back to it. It is beyond what a broker answers at
/// once, since fresh pages for each answer cost a tenth of a worker's CPU time.
const PAGES_FROM: i32 = 8 * MIB;
/// Free memory at the end of a heap that goes back to the system.
const TRIM_FROM: i32 = 8 * MIB;

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
