//! 8 · Commit: files and offsets in one atomic step.
//!
//! No leader and no control topic: each worker commits the topic partitions that it owns, and the
//! table's own compare-and-swap decides (CM-2). Kafka's group only says who reads what; a worker
//! that lost its partitions without noticing loses at the table.
//!
//! ```text
//!  records ──► Collecting ──► Sealing ──► Committing ──► Settled ──► group offsets (advice)
//!                 W1            W2, W3       W4  │          W5
//!                                                └► Doubtful ─ find(token) ─┘
//! ```
//!
//! Crash windows, each a fail point with a test in `integration-tests/tests/it/crash_points.rs`:
//!
//! | window | what is lost | why nothing is lost or doubled |
//! |---|---|---|
//! | W1 rows in memory | rows | the table's checkpoint lies before them: they are read again |
//! | W2 files half written | an upload | a file is put whole or not at all, and nobody names it (WR-1) |
//! | W3 files complete, unreferenced | nothing | the same: orphans |
//! | W4 request sent, no answer | our knowledge | the next start reads the checkpoint: it has moved, or not |
//! | W5 committed, not settled | the group's offsets | they are advice and never read back as truth |

pub mod recover;
pub mod refusals;
pub mod round;
pub mod settle;
pub mod tables;
