//! Commands about a stack that runs: this machine's, or a host's.

use clap::{Args, Subcommand, ValueEnum};

use super::{At, DryRun, EnvDiff, EnvPush, EnvRotate};

/// Services that stay up, as docker-compose.yml names them.
const SERVICES: [&str; 4] = [
    "airflow-webserver",
    "airflow-scheduler",
    "postgres",
    "mysql",
];

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A host of deploy.toml, instead of this machine; also before anything was
    /// deployed there
    #[arg(long, value_name = "NAME", conflicts_with = "fix")]
    pub(crate) host: Option<String>,
    /// Print JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Mend what can be mended: on Debian and Ubuntu, install and start the
    /// distribution's engine and Compose (as root, or through sudo)
    #[arg(long)]
    pub(crate) fix: bool,
    /// With --fix: print what would be done, change nothing
    #[arg(long, requires = "fix")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Env {
    #[command(subcommand)]
    pub(crate) command: Option<EnvCommand>,
    #[command(flatten)]
    pub(crate) dry: DryRun,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Name everything in .env that is missing or malformed
    Check,
    /// Name what differs between a host's settings here and those that it serves
    /// with; never a value
    Diff(EnvDiff),
    /// Let a host serve what it serves with the settings that are here
    ///
    /// As a deploy would that changes nothing else, from any checkout: its code and
    /// image stay, Airflow restarts.
    Push(EnvPush),
    /// Make a host's passwords and keys anew, in its env_file here and there
    ///
    /// The databases of its stack take the new passwords, what the old Fernet key
    /// wrote is written by the new one, and Airflow restarts. A failure goes back to
    /// the old ones. Passwords of other servers stay.
    Rotate(EnvRotate),
}

/// A command that looks at this machine's stack, or at a host's.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) at: At,
    /// Print JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Open the web page when the stack is up
    #[arg(long)]
    pub(crate) open: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Remove the data as well: metadata, demo source, analytics
    #[arg(long)]
    pub(crate) volumes: bool,
    /// With --volumes: do not ask
    #[arg(long, requires = "volumes")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Services {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Which ones
    #[arg(value_parser = SERVICES)]
    pub(crate) services: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) at: At,
    /// Go on showing what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the last lines of each service, or of the task
    #[arg(long, default_value_t = 200)]
    pub(crate) tail: u32,
    /// What a task of the last nightly run said, not the services; without a name the one
    /// that failed first
    #[arg(long, num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["follow", "services"])]
    pub(crate) task: Option<String>,
    /// Which ones (default: all)
    #[arg(value_parser = SERVICES)]
    pub(crate) services: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Nightly {
    #[command(flatten)]
    pub(crate) at: At,
    /// Follow the run that is queued or running, instead of starting one
    #[arg(
        long,
        conflicts_with_all = ["ignore_business_hours", "full", "no_wait", "dry_run"]
    )]
    pub(crate) follow: bool,
    /// Ask the guard to let the run start in business hours
    #[arg(long)]
    pub(crate) ignore_business_hours: bool,
    /// Load every table as a whole, not what changed
    #[arg(long)]
    pub(crate) full: bool,
    /// Start it and return at once
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print the run and its tasks as JSON on standard output when it ends
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) dry: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct PassOn {
    #[command(flatten)]
    pub(crate) at: At,
    /// The tool's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
}

/// A database of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Database {
    /// Where raw data and marts live
    Analytics,
    /// Airflow's own
    Metadata,
    /// OpenDental's MySQL, by the account that can only read
    Source,
}

impl Database {
    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Analytics => "analytics",
            Self::Metadata => "metadata",
            Self::Source => "source",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Sql {
    #[command(flatten)]
    pub(crate) at: At,
    /// Which database
    #[arg(value_enum, default_value_t = Database::Analytics)]
    pub(crate) database: Database,
    /// Run this statement and return, instead of opening a prompt
    #[arg(short, long)]
    pub(crate) command: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Shell {
    #[command(flatten)]
    pub(crate) at: At,
    /// The service
    #[arg(default_value = "airflow-scheduler", value_parser = SERVICES)]
    pub(crate) service: String,
    /// Run this and return, instead of opening a prompt
    #[arg(short, long)]
    pub(crate) command: Option<String>,
}
