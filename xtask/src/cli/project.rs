//! Commands about the project itself: its tests and its figures.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Default, Args)]
pub(crate) struct Ci {
    /// Something that takes too long to be a part of every run
    #[arg(value_enum, conflicts_with_all = ["fast", "within", "only", "skip", "list"])]
    pub(crate) suite: Option<Suite>,
    /// Leave out everything that needs containers
    #[arg(long)]
    pub(crate) fast: bool,
    /// Only the parts with this in their name, and what they stand on; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// None of the parts with this in their name; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) skip: Vec<String>,
    /// Begin no part that, at this machine's pace, would end later than so many
    /// minutes after the start; what is left out is named at the end
    #[arg(long, value_name = "MINUTES")]
    pub(crate) within: Option<u64>,
    /// Name the parts and the time that each usually takes, and run none
    #[arg(long)]
    pub(crate) list: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Reference {
    /// Change nothing; fail where the page is not what it would be
    #[arg(long)]
    pub(crate) check: bool,
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
    /// How often what is quick is measured; by default 11 times, with `etl` 5
    #[arg(long, global = true)]
    pub(crate) runs: Option<usize>,
    /// Print every run as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BenchCommand {
    /// Hash, no-op build, cold build against pip, one changed requirement, push
    Image,
    /// A deploy with nothing to do, one changed line, an image by each transport, the
    /// way back; on a whole machine in a container, reached by a real ssh
    Deploy,
    /// The loader against the floor (mariadb piped into COPY), pgloader, sling and dlt, on
    /// servers of its own with the defaults of both; increments; a whole clinic
    Etl(BenchEtl),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BenchEtl {
    /// How large the clinic is: 1 has 20 million rows
    #[arg(long, default_value_t = 1.0)]
    pub(crate) scale: f64,
    /// Only what has this in its name, and the floor that it is compared with
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
}
