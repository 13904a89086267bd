//! What must always be true, by id. `docs` and tests speak of the same ids: see ARCHITECTURE.md.
//!
//! [`check_invariant!`](crate::check_invariant) checks them in production too: it panics in debug
//! builds, and in release builds counts the violation, which stops the connector at the next border
//! of a round (the runtime asks [`violations`]).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! invariants {
    ($($variant:ident $id:literal $text:literal,)*) => {
        /// The id of an invariant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum InvariantId {
            $(#[doc = $text] $variant,)*
        }

        impl InvariantId {
            /// All invariants.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The id as documents and metrics spell it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }
        }
    };
}

invariants! {
    Of1 "OF-1" "An offset delta grows only by contiguous half-open ranges.",
    Of2 "OF-2" "A table's offset checkpoint never moves back, unless a person resets it.",
    Cm1 "CM-1" "Files and offsets become visible in one atomic step, or not at all.",
    Cm2 "CM-2" "A commit is admitted only if the stored offsets equal the ranges' starts.",
    Cm3 "CM-3" "An unknown outcome is resolved by looking for its token before anything else.",
    Cm4 "CM-4" "consumed = written + rejected + filtered + tombstones.",
    Fn1 "FN-1" "After a revoke has been acknowledged, no commit that names that topic partition begins.",
    Wr1 "WR-1" "A data file is visible to readers only through a commit.",
    Wr2 "WR-2" "Rows and bytes at file close equal rows and bytes in the commit.",
    Dl1 "DL-1" "A dead letter carries topic, partition, offset and cause, and is committed before or together with the range that contains it.",
    Cf1 "CF-1" "The fingerprint in a commit is that of the validated configuration that produced it.",
}

impl fmt::Display for InvariantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

static VIOLATIONS: [AtomicU64; InvariantId::ALL.len()] =
    [const { AtomicU64::new(0) }; InvariantId::ALL.len()];

/// How often each invariant was violated in this process; empty as long as all hold.
pub fn violations() -> Vec<(InvariantId, u64)> {
    let count = |id: &InvariantId| (*id, VIOLATIONS[*id as usize].load(Ordering::Relaxed));
    InvariantId::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

/// Records a violation. Called by [`check_invariant!`](crate::check_invariant).
#[doc(hidden)]
pub fn record_violation(id: InvariantId, details: &str) {
    VIOLATIONS[id as usize].fetch_add(1, Ordering::Relaxed);
    tracing::error!(invariant = id.as_str(), details, "invariant violated");
    #[cfg(debug_assertions)]
    #[allow(clippy::panic, reason = "a violated invariant must not go unnoticed in a test")]
    {
        panic!("invariant {id} violated: {details}");
    }
}

/// `check_invariant!(Cm4, condition, "details {}", …)`: see the [module](crate::invariants).
#[macro_export]
macro_rules! check_invariant {
    ($id:ident, $condition:expr, $($details:tt)+) => {
        if !$condition {
            $crate::invariants::record_violation($crate::invariants::InvariantId::$id, &format!($($details)+));
        }
    };
}
