//! 10 · What people see while connectors run.

pub mod progress;
pub mod terminal;
