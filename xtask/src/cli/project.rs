//! Commands about the project itself: its tests and its figures.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Something that takes too long to be a part of every run
    #[arg(value_enum, conflicts_with_all = ["fast", "within", "only"])]
    pub(crate) suite: Option<Suite>,
    /// Leave out everything that needs containers
    #[arg(long)]
    pub(crate) fast: bool,
    /// Begin no part that, at this machine's pace, would end later than so many
    /// minutes after the start; what is left out is named at the end
    #[arg(long, value_name = "MINUTES")]
    pub(crate) within: Option<u64>,
    /// Only the parts with this in their name, and what they stand on
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
}

/// A suite of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Every fault in the middle of a deploy, at every phase; about an hour
    Faults,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
    /// How often what takes less than a second is measured
    #[arg(long, default_value_t = 11, global = true)]
    pub(crate) runs: usize,
    /// Print every run as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum BenchCommand {
    /// Hash, no-op build, cold build against pip, one changed requirement, push
    Image,
    /// A deploy with nothing to do, one changed line, an image by each transport, the
    /// way back; on a whole machine in a container, reached by a real ssh
    Deploy,
}
