//! `alluvium offsets`: where a connector stands, and how to move it.

pub mod reset;
pub mod show;
mod target;

pub use reset::{Reset, ResetArgs};
pub use show::ShowArgs;

/// What to do with offsets.
#[derive(Debug, clap::Args)]
#[command(
    about = "Shows where connectors stand, and moves them",
    long_about = "Shows where connectors stand, and moves them.\n\n\
        A connector's offsets are in its table, in the same commits as the rows. The offsets of its consumer group \
        are a copy: lag tools show it, and a run compares its table with it."
)]
pub(crate) struct OffsetsArgs {
    #[command(subcommand)]
    pub(crate) what: What,
}

/// What to do with offsets. What each means is written at its arguments.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum What {
    Show(ShowArgs),
    Reset(ResetArgs),
}
