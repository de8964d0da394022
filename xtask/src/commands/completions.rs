//! `completions`: what a shell completes after the name of this program.

use anyhow::Result;
use clap::CommandFactory;

use crate::cli;

/// As `cargo install` names it; what cargo runs by `cargo xtask`, cargo completes.
const NAME: &str = "xtask";

pub(crate) fn run(args: &cli::Completions) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut cli::Cli::command(), NAME, &mut text);
    super::print(String::from_utf8_lossy(&text).trim_end())
}
