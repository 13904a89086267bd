//! `alluvium offsets`: where a connector stands, and how to move it.

pub mod show;

pub use show::ShowArgs;

/// What to do with offsets.
#[derive(Debug, clap::Args)]
#[command(
    about = "Shows where connectors stand",
    long_about = "Shows where connectors stand.\n\n\
        A connector's offsets are in its table, in the same commits as the rows. The offsets of its consumer group \
        are a copy for lag tools, which nothing reads back."
)]
pub struct OffsetsArgs {
    /// What to do
    #[command(subcommand)]
    pub what: What,
}

/// What to do with offsets.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// See [`show`].
    Show(ShowArgs),
}
