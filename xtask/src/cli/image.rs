//! Commands about the image and the locks that it is made from.

use clap::{Args, ValueEnum};

use super::DryRun;

#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print image, tag and hash as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask the registry for the base images again, even where equivalents of
    /// them were made before
    #[arg(long)]
    pub(crate) pull: bool,
    /// Build nothing; show which inputs changed, appeared or vanished since the
    /// image that runs, or the last build where none runs
    #[arg(long, conflicts_with_all = ["dry_run", "pull"])]
    pub(crate) why: bool,
    /// Build twice with nothing from before and compare: the same inputs have to
    /// give the same image; what differs is named by layer and file
    #[arg(long, conflicts_with_all = ["dry_run", "pull", "why"])]
    pub(crate) verify: bool,
    /// Refuse to build unless it is for this platform: linux/amd64, linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// With --why: since `running`, `last`, an image's tag or a git revision
    #[arg(long, requires = "why", value_name = "WHAT")]
    pub(crate) since: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Where to: registry.example.com/team (default: registry in deploy.toml)
    #[arg(long)]
    pub(crate) registry: Option<String>,
    /// Where to: a host of deploy.toml, by the transport that it has there. Over ssh
    /// only the layers that it lacks travel; by a registry it pulls by digest; or it
    /// builds the same inputs by itself
    #[arg(long, value_name = "NAME", conflicts_with_all = ["registry", "channel"])]
    pub(crate) host: Option<String>,
    /// Another name for it, moved to this image: stable, say
    #[arg(long, value_name = "TAG")]
    pub(crate) channel: Vec<String>,
    /// Push although inputs of the image are not committed; the revision's name
    /// then ends in -dirty
    #[arg(long)]
    pub(crate) allow_dirty: bool,
    /// Print image, tag, digest and what was pushed as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Hash {
    /// Print the hash and all its parts as JSON, with what is not pinned
    #[arg(long)]
    pub(crate) json: bool,
    /// Show each part: settings, then every file with its own hash
    #[arg(long)]
    pub(crate) files: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct Lock {
    /// Change nothing; fail where a lock is not what it would be
    ///
    /// A tag that moved away from the digest that is written down is a warning:
    /// that digest is still good.
    #[arg(long, conflicts_with_all = ["upgrade", "dry_run"])]
    pub(crate) check: bool,
    /// Look for versions published up to today: of all packages, or of those
    /// that are named
    ///
    /// Airflow's release and its constraints stay. With names, base images are
    /// not looked at.
    #[arg(long, value_name = "PACKAGE", num_args = 0..)]
    pub(crate) upgrade: Option<Vec<String>>,
    /// The Debian packages of the local base images instead
    #[arg(long, conflicts_with = "upgrade")]
    pub(crate) bases: bool,
    #[command(flatten)]
    pub(crate) dry: DryRun,
}

/// Who is asked for advisories about Python packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// The package index's own JSON
    Pypi,
    /// OSV, which gathers those of all languages
    Osv,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Who is asked about the Python packages
    #[arg(long, value_enum, default_value_t = Service::Pypi, conflicts_with = "cargo")]
    pub(crate) service: Service,
    /// The Python packages only
    #[arg(long, conflicts_with = "cargo")]
    pub(crate) python: bool,
    /// The crates only
    #[arg(long)]
    pub(crate) cargo: bool,
    /// Print everything that was found, and why it may stay, as JSON on standard
    /// output
    #[arg(long)]
    pub(crate) json: bool,
}
