//! `alluvium config`: what a connector's file may hold.

use std::io::Write;

use connector_api::Result;

use crate::query::written;

/// Every key with its default: a test checks that it is complete.
const REFERENCE: &str = include_str!("../../../configs/reference.yaml");

/// What to say of configurations.
#[derive(Debug, clap::Args)]
#[command(about = "Says what a connector's file may hold")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum What {
    #[command(
        about = "Prints every key of a connector's file, with its default and what it may hold",
        after_long_help = "Examples:\n  \
            alluvium config reference | less\n  \
            alluvium config reference > clicks.yaml"
    )]
    Reference,
}

/// Prints the reference.
pub(crate) fn print_reference() -> Result<()> {
    let mut out = std::io::stdout();
    written(out.write_all(REFERENCE.as_bytes()).and_then(|()| out.flush()))
}
