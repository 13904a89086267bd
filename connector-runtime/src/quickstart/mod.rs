//! `alluvium quickstart`.
use connector_api::Result;
use crate::config::Registry;
/// Arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct QuickstartArgs {}
/// Runs it.
pub async fn run(_args: QuickstartArgs, _registry: &Registry, _show_progress: bool) -> Result<()> { Ok(()) }
