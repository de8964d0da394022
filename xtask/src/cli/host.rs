//! Commands about a host of deploy.toml.

use clap::Args;

use super::{DryRun, OnHost};

#[derive(Debug, Args)]
pub(crate) struct EnvRotate {
    #[command(flatten)]
    pub(crate) on: OnHost,
    /// Only these: AIRFLOW_FERNET_KEY, say (default: all that are ours)
    #[arg(value_name = "SECRET")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print the names and how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EnvDiff {
    #[command(flatten)]
    pub(crate) on: OnHost,
    /// Print the names as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EnvPush {
    #[command(flatten)]
    pub(crate) on: OnHost,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print the names and how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Provision {
    #[command(flatten)]
    pub(crate) on: OnHost,
    #[command(flatten)]
    pub(crate) dry: DryRun,
}

/// What becomes of a run that is active.
#[derive(Debug, Args)]
pub(crate) struct ActiveRun {
    /// Wait until an active run has ended, so many minutes at most
    #[arg(
        long,
        value_name = "MINUTES",
        num_args = 0..=1,
        default_missing_value = "180",
        conflicts_with = "now"
    )]
    pub(crate) wait_for_run: Option<u64>,
    /// Do not ask whether a run is active; it may see two versions, or its task may
    /// be tried again. It is written into the host's audit log
    #[arg(long)]
    pub(crate) now: bool,
}

impl ActiveRun {
    /// How long to wait for one, in seconds; `None`: do not ask.
    pub(crate) fn seconds(&self) -> Option<u64> {
        (!self.now).then(|| self.wait_for_run.unwrap_or(0) * 60)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Releases {
    #[command(flatten)]
    pub(crate) on: OnHost,
    /// Print JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    pub(crate) on: OnHost,
    /// List the copies that are there, and make none
    #[arg(long, conflicts_with_all = ["to", "dry_run"])]
    pub(crate) list: bool,
    /// Bring the copy here as well: a folder, or a file's name
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print the copy and how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) on: OnHost,
    /// A copy by its name there, or a file here (default: the newest copy there)
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) from: Option<String>,
    /// Serve that release with it: one that is kept and was made for the copy's
    /// schema (default: the one that serves)
    #[arg(long, value_name = "ID")]
    pub(crate) release: Option<String>,
    /// Do it, although the runs that were printed are lost
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print what would be lost, change nothing; as without --yes, with exit status 0
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    /// Print what would be lost, and how it ended, as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Destroy {
    #[command(flatten)]
    pub(crate) on: OnHost,
    /// Do not ask: the host's name once more
    #[arg(long, value_name = "NAME")]
    pub(crate) confirm: Option<String>,
    /// Make no last copy of the metadata database
    #[arg(long)]
    pub(crate) no_backup: bool,
    /// Remove the copies and the audit log as well; no last copy is made then
    #[arg(long)]
    pub(crate) with_backups: bool,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print what goes and what stays as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Unlock {
    #[command(flatten)]
    pub(crate) on: OnHost,
    /// End the task that holds the lock: asked to, then killed after ten seconds
    #[arg(long)]
    pub(crate) end: bool,
    /// Print JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) on: OnHost,
    /// The release to go back to (default: the last good one before the one that
    /// serves)
    #[arg(long, value_name = "ID")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The host's name in deploy.toml; several are taken one after the other
    #[arg(long, value_name = "NAME", required = true)]
    pub(crate) host: Vec<String>,
    /// Look for real, print the plan, change nothing
    #[arg(long, visible_alias = "plan")]
    pub(crate) dry_run: bool,
    /// Print the plan and how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    /// Deploy although files are not committed; the release is marked as dirty
    #[arg(long)]
    pub(crate) allow_dirty: bool,
    /// For a host without Compose: bring image, code and settings, and print the
    /// `docker run` that starts each service, ready to paste there; start nothing
    #[arg(long, conflicts_with_all = ["json", "dry_run"])]
    pub(crate) print_docker_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tunnel {
    #[command(flatten)]
    pub(crate) on: OnHost,
    /// The port of this machine (default: the one it has there)
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Open the web page
    #[arg(long)]
    pub(crate) open: bool,
}
